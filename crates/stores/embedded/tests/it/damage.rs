//! Files that are not what they should be: refused with a message that says what to do, and not touched.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use otto_core::port::store::*;
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, FindingKind};

use crate::fixture::*;

/// A state directory with one invocation, closed.
fn used(dir: &Path) -> PathBuf {
    let state = dir.join("state");
    let store = open(&state, "a");
    let lease = submit(&store, 1);
    block_on(store.reserve(reserve_call(&lease, 1, 1))).unwrap();
    append(&store, &lease, 1, 1).unwrap();
    drop(store);
    state
}

#[track_caller]
fn refused(state: &Path, words: &str) {
    let before = fs::read(state.join("otto.db")).unwrap();
    match EmbeddedStore::open(config(state, "b")) {
        Err(StoreError::Damaged { detail }) => {
            assert!(detail.contains(words), "{detail}");
            assert!(detail.contains("not touched"), "{detail}");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert_eq!(
        fs::read(state.join("otto.db")).unwrap(),
        before,
        "the file was touched"
    );
}

#[test]
fn foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    let file = state.join("otto.db");
    fs::write(&file, b"").unwrap();
    refused(&state, "truncated");
    fs::write(&file, b"not a database").unwrap();
    refused(&state, "not a SQLite database");
    fs::write(&file, vec![0; 65_536]).unwrap();
    refused(&state, "not a SQLite database");
    fs::remove_file(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute_batch("CREATE TABLE notes (text TEXT)")
        .unwrap();
    drop(other);
    refused(&state, "another program");
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    let connection = rusqlite::Connection::open(state.join("otto.db")).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA user_version = 7")
        .unwrap();
    drop(connection);
    refused(&state, "schema version 7");
}

#[test]
fn a_schema_that_becomes_newer_under_an_open_store_is_refused_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let lease = submit(&store, 1);
    append(&store, &lease, 1, 1).unwrap();
    let newer = rusqlite::Connection::open(state.join("otto.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    for attempt in 1..4 {
        let answer = append(&store, &lease, 1, 2);
        assert!(
            matches!(&answer, Err(StoreError::Damaged { detail }) if detail.contains("schema version 99")),
            "attempt {attempt}: {answer:?}"
        );
    }
    let entries: i64 = newer
        .query_row("SELECT count(*) FROM journal", (), |row| row.get(0))
        .unwrap();
    assert_eq!(entries, 1);
}

#[test]
fn a_truncated_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    let whole = fs::read(state.join("otto.db")).unwrap();
    for length in [1, 50, 100, 4_096, whole.len() / 2, whole.len() - 1] {
        fs::write(state.join("otto.db"), &whole[..length]).unwrap();
        refused(
            &state,
            if length < 100 {
                "not a SQLite database"
            } else {
                "truncated"
            },
        );
    }
    fs::write(state.join("otto.db"), &whole).unwrap();
    assert_eq!(
        block_on(open(&state, "c").read(invocation(1))).unwrap(),
        [entry(1)]
    );
}

#[test]
fn a_torn_log_ends_at_its_last_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let store = open(&live, "a");
    let lease = submit(&store, 1);
    let mut lengths = vec![(0, fs::metadata(live.join("otto.db-wal")).unwrap().len())];
    for sequence in 1..=5 {
        append(&store, &lease, 1, sequence).unwrap();
        lengths.push((
            sequence,
            fs::metadata(live.join("otto.db-wal")).unwrap().len(),
        ));
    }
    let (database, log) = (
        fs::read(live.join("otto.db")).unwrap(),
        fs::read(live.join("otto.db-wal")).unwrap(),
    );
    // What a crash may leave of the log: a shorter one, or one whose end was never written (zeros), or torn.
    for (round, cut) in (0..log.len()).step_by(997).chain([log.len()]).enumerate() {
        for tail in [0_u8, 1, 2] {
            let state = dir.path().join(format!("crashed-{round}-{tail}"));
            fs::create_dir(&state).unwrap();
            fs::write(state.join("otto.db"), &database).unwrap();
            let mut torn = log[..cut].to_vec();
            match tail {
                0 => {}
                1 => torn.resize(log.len(), 0),
                _ => torn.extend(log[cut..].iter().map(|byte| byte ^ 0x5A)),
            }
            fs::write(state.join("otto.db-wal"), &torn).unwrap();
            let expected = lengths
                .iter()
                .filter(|(_, length)| *length <= cut as u64)
                .map(|(sequence, _)| *sequence)
                .max();
            let Some(expected) = expected else { continue };
            let store = open(&state, "b");
            let entries = block_on(store.read(invocation(1))).unwrap();
            assert_eq!(
                entries,
                (1..=expected).map(entry).collect::<Vec<_>>(),
                "cut at {cut}, tail {tail}"
            );
            assert_eq!(
                block_on(store.verify(None)).unwrap().findings,
                [],
                "cut at {cut}, tail {tail}"
            );
        }
    }
}

#[test]
fn a_damaged_page_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    let whole = fs::read(state.join("otto.db")).unwrap();
    let mut reported = 0;
    for page in 1..whole.len() / 4_096 {
        let mut damaged = whole.clone();
        damaged[page * 4_096..page * 4_096 + 512].fill(0xFF);
        fs::write(state.join("otto.db"), &damaged).unwrap();
        match EmbeddedStore::open(config(&state, "b")) {
            Err(StoreError::Damaged { .. }) => reported += 1,
            Err(other) => panic!("page {page}: {other}"),
            Ok(store) => match block_on(store.verify(None)) {
                Ok(report) => {
                    reported += usize::from(
                        report
                            .findings
                            .iter()
                            .any(|finding| finding.kind == FindingKind::File),
                    )
                }
                Err(StoreError::Damaged { .. }) => reported += 1,
                Err(other) => panic!("page {page}: {other}"),
            },
        }
    }
    assert_eq!(
        reported,
        whole.len() / 4_096 - 1,
        "every damaged page is found"
    );
}

#[test]
fn totals_that_do_not_add_up_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    let change = |sql: &str| {
        rusqlite::Connection::open(state.join("otto.db"))
            .unwrap()
            .execute_batch(sql)
            .unwrap()
    };
    let kinds = || -> Vec<FindingKind> {
        let report = block_on(open(&state, "v").verify(None)).unwrap();
        report.findings.iter().map(|finding| finding.kind).collect()
    };
    assert_eq!(kinds(), []);
    change("UPDATE accounts SET held_cost = held_cost - 1 WHERE scope LIKE 'day %'");
    assert_eq!(kinds(), [FindingKind::Ledger]);
    change(
        "UPDATE accounts SET held_cost = held_cost + 1 WHERE scope LIKE 'day %'; UPDATE journal SET sequence = 2",
    );
    assert_eq!(kinds(), [FindingKind::Journal]);
    change(
        "UPDATE journal SET sequence = 1; UPDATE meta SET value = 9 WHERE name = 'artifact_bytes'",
    );
    assert_eq!(kinds(), [FindingKind::Artifacts]);
    change(
        "UPDATE meta SET value = 0 WHERE name = 'artifact_bytes'; UPDATE meta SET value = 40000 WHERE name = 'highest_day'",
    );
    assert_eq!(kinds(), [FindingKind::Clock]);
}

#[test]
fn every_row_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    let connection = rusqlite::Connection::open(state.join("otto.db")).unwrap();
    // As one flipped bit does.
    for (table, column) in [
        ("journal", "payload"),
        ("calls", "scopes"),
        ("accounts", "scope"),
        ("invocations", "title"),
    ] {
        let sql = format!(
            "UPDATE {table} SET {column} = CAST(x'FF' AS TEXT)
            WHERE {column} = (SELECT min({column}) FROM {table})"
        );
        connection.execute_batch(&sql).unwrap();
    }
    drop(connection);
    let store = open(&state, "v");
    let report = block_on(store.verify(None)).unwrap();
    for table in ["journal", "calls", "accounts", "invocations"] {
        let named: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.detail.contains(&format!("row of `{table}` with")))
            .collect();
        let [finding] = named.as_slice() else {
            panic!("{table}: {report:?}")
        };
        assert_eq!(finding.kind, FindingKind::Row);
        assert!(finding.detail.contains("utf-8"), "{finding:?}");
    }
    // It goes on, and what only follows from the rows that cannot be read is one finding.
    let sums: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Ledger)
        .collect();
    let [sums] = sums.as_slice() else {
        panic!("{report:?}")
    };
    assert!(
        sums.detail.contains("2 accounts") && sums.detail.contains("cannot be read"),
        "{sums:?}"
    );
    assert_eq!(report.findings.len(), 5, "{report:?}");
    match block_on(store.read(invocation(1))) {
        Err(StoreError::Damaged { detail }) => assert!(detail.contains("otto verify"), "{detail}"),
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn a_sum_that_is_wrong_beside_an_unreadable_row_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    for n in [1, 2] {
        let lease = submit(&store, n);
        block_on(store.reserve(reserve_call(&lease, n, 1))).unwrap();
    }
    let lost = |sql: &str| {
        rusqlite::Connection::open(store.path())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        let report = block_on(store.verify(None)).unwrap();
        let sums = report
            .findings
            .into_iter()
            .filter(|finding| finding.kind == FindingKind::Ledger);
        sums.map(|finding| finding.detail).collect::<Vec<_>>()
    };
    // Too little held: a call that is missing in the sum does not explain it.
    let found = lost(
        "UPDATE calls SET scopes = 'none' WHERE id = 1;
        UPDATE accounts SET held_cost = 0 WHERE scope LIKE 'day %'",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("the account of day"), "{found:?}");
    assert!(found[1].contains("2 accounts"), "{found:?}");
    let found = lost("UPDATE accounts SET scope = CAST(x'FF' AS TEXT) WHERE scope LIKE 'day %'");
    assert!(
        found.len() == 2 && found.iter().any(|sum| sum.contains("1 scopes")),
        "{found:?}"
    );
}

#[test]
fn a_journal_with_a_gap_is_not_read_as_whole() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let lease = submit(&store, 1);
    for sequence in 1..=3 {
        append(&store, &lease, 1, sequence).unwrap();
    }
    rusqlite::Connection::open(store.path())
        .unwrap()
        .execute_batch("DELETE FROM journal WHERE sequence = 2")
        .unwrap();
    assert!(matches!(
        block_on(store.read(invocation(1))),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn links_are_not_followed_below_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let state = used(dir.path());
    // The state directory itself may be reached through a link: it is resolved once.
    symlink(&state, dir.path().join("link")).unwrap();
    let store = open(&dir.path().join("link"), "b");
    assert_eq!(
        store.path(),
        fs::canonicalize(state.join("otto.db")).unwrap()
    );
    drop(store);
    fs::rename(state.join("otto.db"), dir.path().join("elsewhere.db")).unwrap();
    symlink(dir.path().join("elsewhere.db"), state.join("otto.db")).unwrap();
    let error = EmbeddedStore::open(config(&state, "c")).unwrap_err();
    assert!(
        matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("symbolic link"),
        "{error}"
    );
}

#[test]
fn only_the_owner_can_read_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("var/otto");
    let store = open(&state, "a");
    submit(&store, 1);
    block_on(store.put(draft(1, "r.md", b"abc"))).unwrap();
    block_on(store.checkpointer().flush()).unwrap();
    let mut files = Vec::new();
    let mut dirs = vec![state];
    while let Some(dir) = dirs.pop() {
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                files.push(path)
            }
        }
    }
    for file in &files {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            file.display()
        );
    }
    assert!(
        files.len() >= 6,
        "database, log, index, lock, node and artifact: {files:?}"
    );
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let error = EmbeddedStore::open(config(&dir.path().join("file/state"), "a")).unwrap_err();
    assert!(error.to_string().contains("file/state"), "{error}");
    let error = EmbeddedStore::open(config(&dir.path().join("file"), "a")).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    for node in [String::new(), "n".repeat(300)] {
        let error = EmbeddedStore::open(config(&dir.path().join("state"), &node)).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    }
    assert!(!dir.path().join("state").exists());
}
