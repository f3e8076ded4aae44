//! Journals that were changed from outside: found by `verify`, and never read as whole.

use std::path::Path;
use std::sync::Arc;

use otto_core::port::store::*;
use otto_core::redact::{OperatorPattern, RedactionConfig, Redactor};
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, FindingKind};
use rusqlite::Connection;

use crate::fixture::*;

/// Entries of the journals here.
const LAST: u64 = 5;

/// A store with invocation 1 unfinished and invocation 2 ended, five entries each.
fn two(state: &Path) -> EmbeddedStore {
    let store = open(state, "a");
    for n in [1, 2] {
        let lease = submit(&store, n);
        for sequence in 1..LAST {
            append(&store, &lease, n, sequence).unwrap();
        }
        if n == 1 {
            append(&store, &lease, n, LAST).unwrap();
        } else {
            let reply = end(&store, &lease, n, vec![entry(LAST)]);
            assert_eq!(reply.journal.unwrap().sequence, LAST);
        }
        block_on(store.release(lease)).unwrap();
    }
    store
}

fn change(store: &EmbeddedStore, sql: &str) {
    let connection = Connection::open(store.path()).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; {sql}"
        ))
        .unwrap();
}

fn findings(store: &EmbeddedStore) -> Vec<(FindingKind, String)> {
    let report = block_on(store.verify(None)).unwrap();
    report
        .findings
        .into_iter()
        .map(|finding| (finding.kind, finding.detail))
        .collect()
}

/// What reading a journal is refused with.
fn refusal(store: &EmbeddedStore, n: u8) -> Option<String> {
    match block_on(store.read(invocation(n))) {
        Ok(_) => None,
        Err(StoreError::Damaged { detail }) => Some(detail.to_string()),
        Err(other) => panic!("expected damage, got {other:?}"),
    }
}

/// Tells a fact, as an engine does.
fn tell(store: &EmbeddedStore, n: u8, head: JournalHead) {
    let id = invocation(n);
    let text = format!(
        "{{\"at_us\":{},\"what\":\"invocation_ended\",\"invocation\":\"{id}\",\"journal\":\"{head}\"}}\n",
        NOON.micros()
    );
    let record = AuditRecord {
        at: NOON,
        text: Arc::from(text),
    };
    block_on(store.append_audit(vec![record], Durability::Synced)).unwrap();
}

#[test]
fn a_changed_row_is_found_by_verify_and_refused_to_whoever_resumes() {
    let row = |n| {
        format!(
            "invocation = (SELECT invocation FROM invocations ORDER BY invocation LIMIT 1 OFFSET {})",
            n - 1
        )
    };
    let third = |n: u8| format!("{} AND sequence = 3", row(n));
    let swapped = |n: u8, column: &str| {
        let of = row(n);
        format!(
            "CREATE TEMP TABLE old AS SELECT sequence, {column} AS kept FROM journal WHERE {of};
            UPDATE journal SET {column} = (SELECT kept FROM old WHERE old.sequence = 5 - journal.sequence)
            WHERE {of} AND sequence IN (2, 3)"
        )
    };
    for n in [1, 2] {
        let at = third(n);
        let cases = [
            (
                "invocation",
                format!("UPDATE journal SET invocation = zeroblob(16) WHERE {at}"),
            ),
            (
                "sequence",
                format!("UPDATE journal SET sequence = sequence | 256 WHERE {at}"),
            ),
            (
                "payload",
                format!("UPDATE journal SET payload = replace(payload, '3', '7') WHERE {at}"),
            ),
            (
                "payload, no text",
                format!("UPDATE journal SET payload = CAST(x'FF' AS TEXT) WHERE {at}"),
            ),
            (
                "hash",
                format!("UPDATE journal SET hash = zeroblob(32) WHERE {at}"),
            ),
            (
                "hash, shorter",
                format!("UPDATE journal SET hash = zeroblob(31) WHERE {at}"),
            ),
            (
                "hash, none",
                format!("UPDATE journal SET hash = NULL WHERE {at}"),
            ),
            ("payloads swapped", swapped(n, "payload")),
            ("hashes swapped", swapped(n, "hash")),
            ("removed", format!("DELETE FROM journal WHERE {at}")),
            (
                "added",
                format!(
                    "INSERT INTO journal SELECT invocation, 6, payload, hash FROM journal WHERE {at}"
                ),
            ),
            (
                "from when on",
                format!("UPDATE invocations SET hashed_from = 2 WHERE {}", row(n)),
            ),
            (
                "from never on",
                format!("UPDATE invocations SET hashed_from = NULL WHERE {}", row(n)),
            ),
            (
                "end",
                format!(
                    "UPDATE invocations SET end_hash = zeroblob(32) WHERE {}",
                    row(n)
                ),
            ),
        ];
        for (what, sql) in cases {
            let dir = tempfile::tempdir().unwrap();
            let store = two(dir.path());
            assert_eq!(findings(&store), []);
            change(&store, &sql);
            let found = findings(&store);
            assert_eq!(found.len(), 1, "{n}, {what}: found once: {found:?}");
            let refused = refusal(&store, n).unwrap_or_else(|| panic!("{n}, {what}: was read"));
            assert!(
                refused.contains("otto verify") && refused.contains("backup"),
                "{what}: {refused}"
            );
            assert!(
                refused.contains(&invocation(n).to_string()),
                "{what}: {refused}"
            );
            assert_eq!(refusal(&store, 3 - n), None, "the other one is whole");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_journal_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = two(dir.path());
    let connection = Connection::open(store.path()).unwrap();
    let read = |n: u8, column: &str, sequence: i64| -> Vec<u8> {
        let sql = format!(
            "SELECT CAST({column} AS BLOB) FROM journal WHERE invocation = ?1 AND sequence = ?2"
        );
        connection
            .query_row(
                &sql,
                rusqlite::params![invocation(n).as_bytes(), sequence],
                |row| row.get(0),
            )
            .unwrap()
    };
    connection
        .pragma_update(None, "synchronous", "OFF")
        .unwrap();
    let mut flipped = 0;
    for (n, sequence) in [(1, 1), (1, 3), (1, 5), (2, 1), (2, 4), (2, 5)] {
        for (column, kind) in [("payload", "TEXT"), ("hash", "BLOB")] {
            let sql = format!(
                "UPDATE journal SET {column} = CAST(?3 AS {kind}) WHERE invocation = ?1 AND sequence = ?2"
            );
            let write = |bytes: &[u8]| {
                let id = invocation(n);
                let params = rusqlite::params![id.as_bytes(), sequence, bytes];
                connection.execute(&sql, params).unwrap();
            };
            let whole = read(n, column, sequence);
            for bit in 0..whole.len() * 8 {
                let mut changed = whole.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                write(&changed);
                assert!(
                    refusal(&store, n).is_some(),
                    "bit {bit} of {column} of entry {sequence}"
                );
                flipped += 1;
            }
            write(&whole);
        }
    }
    assert!(flipped > 2_000, "{flipped}");
    assert_eq!(findings(&store), []);
}

#[test]
fn a_journal_that_was_cut_after_its_end_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = two(dir.path());
    change(&store, "DELETE FROM journal WHERE sequence = 5");
    let found = findings(&store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.contains("has 4 entries"), "{found:?}");
    assert!(refusal(&store, 2).is_some());
    // Without an end nothing says how far it went.
    assert_eq!(refusal(&store, 1), None);
    change(&store, "DELETE FROM journal");
    assert!(refusal(&store, 2).is_some());
    assert_eq!(findings(&store).len(), 1);
}

#[test]
fn read_from_the_middle_follows_from_the_entry_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = two(dir.path());
    let after = |after| block_on(store.read_after(invocation(2), after));
    assert_eq!(after(3).unwrap(), [entry(4), entry(5)]);
    assert_eq!(after(5).unwrap(), []);
    assert_eq!(after(9).unwrap(), []);
    change(
        &store,
        "UPDATE journal SET hash = zeroblob(32) WHERE sequence = 3",
    );
    assert!(matches!(after(3), Err(StoreError::Damaged { .. })));
    assert!(matches!(after(2), Err(StoreError::Damaged { .. })));
    assert_eq!(after(4).unwrap(), [entry(5)], "from where it is whole");
}

#[test]
fn a_damaged_journal_is_not_gone_on_with_where_the_writer_looks() {
    let dir = tempfile::tempdir().unwrap();
    let store = two(dir.path());
    change(&store, "UPDATE journal SET hash = NULL WHERE sequence = 5");
    let claimed = block_on(store.claim(session(1), store.node().clone(), TTL)).unwrap();
    let ClaimOutcome::Claimed(lease) = claimed else {
        panic!("it was given back");
    };
    match append(&store, &lease, 1, 6) {
        Err(StoreError::Damaged { detail }) => assert!(detail.contains("entry 5"), "{detail}"),
        other => panic!("expected damage, got {other:?}"),
    }
    // Money is not held up by it.
    block_on(store.reserve(reserve_call(&lease, 1, 1))).unwrap();
    block_on(store.settle(settle_call(&lease, 1, 1))).unwrap();
}

#[test]
fn a_journal_that_was_rewritten_with_its_chain_does_not_match_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = two(&dir.path().join("state"));
    let claimed = block_on(store.claim(session(2), store.node().clone(), TTL)).unwrap();
    let ClaimOutcome::Claimed(lease) = claimed else {
        panic!("it was given back");
    };
    let head = end(&store, &lease, 2, Vec::new()).journal.unwrap();
    tell(&store, 2, head);
    assert_eq!(findings(&store), []);

    // Another store gives a whole chain over other words.
    let other = open(&dir.path().join("other"), "b");
    let lease = submit(&other, 2);
    let forged: Vec<Entry> = (1..=LAST)
        .map(|sequence| Entry {
            sequence,
            payload: Arc::from(format!("{{\"forged\":{sequence}}}")),
        })
        .collect();
    end(&other, &lease, 2, forged);
    let attach = format!("ATTACH '{}' AS other;", other.path().display());
    change(
        &store,
        &format!(
            "{attach}
            DELETE FROM journal WHERE invocation IN (SELECT invocation FROM other.journal);
            INSERT INTO journal SELECT * FROM other.journal;
            UPDATE invocations SET end_hash = o.end_hash FROM other.invocations o
            WHERE o.invocation = invocations.invocation"
        ),
    );
    assert_eq!(refusal(&store, 2), None, "whole in itself");
    let found = findings(&store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, FindingKind::Journal);
    assert!(
        found[0].1.contains("the journal was rewritten"),
        "{found:?}"
    );

    // Cut as a whole, with an end of its own, it is found as well; and so is an invocation that is gone.
    change(
        &store,
        "DELETE FROM journal WHERE invocation IN (SELECT invocation FROM invocations WHERE finished_at IS NOT NULL);
        UPDATE invocations SET end_hash = zeroblob(32) WHERE finished_at IS NOT NULL",
    );
    let found = findings(&store);
    assert!(
        found.len() == 1 && found[0].1.contains("it was cut"),
        "{found:?}"
    );
    change(
        &store,
        "DELETE FROM invocations WHERE finished_at IS NOT NULL",
    );
    let found = findings(&store);
    assert!(
        found.len() == 1 && found[0].1.contains("which is not there"),
        "{found:?}"
    );
}

#[test]
fn a_redacted_journal_has_a_chain_of_its_own_that_the_audit_log_knows() {
    let dir = tempfile::tempdir().unwrap();
    let store = two(dir.path());
    let claimed = block_on(store.claim(session(2), store.node().clone(), TTL)).unwrap();
    let ClaimOutcome::Claimed(lease) = claimed else {
        panic!("it was given back");
    };
    let head = end(&store, &lease, 2, Vec::new()).journal.unwrap();
    block_on(store.release(lease)).unwrap();
    tell(&store, 2, head);
    let redact = |pattern: &str| {
        let redactor = Redactor::new(&RedactionConfig {
            patterns: vec![OperatorPattern {
                name: "word".to_owned(),
                pattern: pattern.to_owned(),
            }],
            secrets: Vec::new(),
        })
        .unwrap();
        block_on(store.redact_session(session(2), Arc::new(redactor)))
    };
    assert_eq!(redact("CUST-[0-9]{6}").unwrap().entries, 0);
    assert_eq!(findings(&store), [], "nothing was rewritten");
    let cleaned = redact("entry").unwrap();
    assert_eq!(cleaned.entries, LAST);
    assert_eq!(findings(&store), []);
    // A page of the engine that comes late tells of the old end.
    tell(&store, 2, head);
    // Or of one before the last: it went on after that, in another process.
    let earlier = JournalHead {
        sequence: head.sequence - 1,
        hash: [7; 32],
    };
    tell(&store, 2, earlier);
    assert_eq!(findings(&store), []);
    let told: Vec<String> = block_on(store.read_audit(0, 100))
        .unwrap()
        .iter()
        .map(|entry| entry.record.text.to_string())
        .collect();
    let of_kind = |kind: &str| told.iter().filter(|text| text.contains(kind)).count();
    assert_eq!(of_kind("session_redacted"), 2, "{told:?}");
    assert_eq!(of_kind("journal_rewritten"), 1, "{told:?}");

    // What was damaged stays so.
    change(
        &store,
        "UPDATE journal SET payload = '{}' WHERE sequence = 2",
    );
    let error = redact("redacted").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(refusal(&store, 2).is_some());

    // The rest can still be backed up, and what is damaged is told.
    let copied = block_on(store.backup(dir.path().join("backup.db"))).unwrap();
    assert_eq!(copied.damaged_journals.len(), 2, "{copied:?}");
    assert!(copied.damaged_journals[0].contains("does not match its checksum"));
}

#[test]
fn what_goes_on_after_an_end_is_covered_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let lease = submit(&store, 1);
    block_on(store.reserve(reserve_call(&lease, 1, 1))).unwrap();
    let first = end(&store, &lease, 1, vec![entry(1), entry(2)])
        .journal
        .unwrap();
    tell(&store, 1, first);
    // Taken up again: it is open, and what the audit log knows of its first end still holds.
    append(&store, &lease, 1, 3).unwrap();
    assert_eq!(findings(&store), []);
    let second = end(&store, &lease, 1, vec![entry(4)]).journal.unwrap();
    tell(&store, 1, second);
    assert_eq!((first.sequence, second.sequence), (2, 4));
    assert_eq!(findings(&store), []);

    // An end for good, after which a settlement brings one entry more.
    let finish = Finish {
        resumable: false,
        entries: vec![entry(5)],
        ..ending(&lease, 1)
    };
    block_on(store.finish(finish)).unwrap();
    let mut late = settle_call(&lease, 1, 1);
    late.entries = vec![entry(6)];
    block_on(store.settle(late)).unwrap();
    assert_eq!(findings(&store), []);
    let entries = block_on(store.read(invocation(1))).unwrap();
    assert_eq!(entries.len(), 6);

    // The writer that has forgotten the invocation goes on from its rows.
    drop(store);
    let store = open(dir.path(), "b");
    assert_eq!(findings(&store), []);
    change(
        &store,
        "UPDATE journal SET payload = '{}' WHERE sequence = 2",
    );
    assert!(findings(&store)[0].1.contains("entry 2"));
}
