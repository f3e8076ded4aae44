//! Backup, audit log, and files of earlier versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use otto_core::port::store::*;
use otto_sim::conformance::block_on;
use otto_store_embedded::FindingKind;

use crate::fixture::*;

#[test]
fn a_backup_made_while_writing_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir.path().join("state"), "a"));
    let lease = submit(&store, 1);
    append(&store, &lease, 1, 1).unwrap();
    let to = dir.path().join("backup.db");
    let size = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (2..60).all(|sequence| append(&store, &lease, 1, sequence).unwrap() == Outcome::Done)
        });
        let copied = block_on(store.backup(&to)).unwrap();
        assert!(writer.join().unwrap());
        assert!(copied.damaged_journals.is_empty());
        copied.bytes
    });
    assert_eq!(fs::metadata(&to).unwrap().len(), size);
    assert_eq!(
        fs::metadata(&to).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let answer = block_on(store.backup(&to));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "an existing file is not replaced: {answer:?}"
    );
    let restored = dir.path().join("restored");
    fs::create_dir(&restored).unwrap();
    fs::copy(&to, restored.join("otto.db")).unwrap();
    let restored = open(&restored, "b");
    let entries = block_on(restored.read(invocation(1))).unwrap();
    assert_eq!(
        entries,
        (1..=entries.len() as u64).map(entry).collect::<Vec<_>>(),
        "a prefix of what was written"
    );
    assert!(!entries.is_empty());
    assert_eq!(block_on(restored.verify(None)).unwrap().findings, []);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        3,
        "no partial file stays"
    );
    let answer = block_on(store.backup(dir.path().join("missing/backup.db")));
    assert!(answer.is_err_and(|error| error.to_string().contains("missing/backup.db")));
}

fn record(text: &str) -> AuditRecord {
    AuditRecord {
        at: NOON,
        text: Arc::from(text),
    }
}

#[test]
fn the_audit_log_shows_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    assert_eq!(block_on(store.audit_head()).unwrap(), AuditHead::default());
    block_on(store.append_audit(
        vec![record("grant"), record("tool started")],
        Durability::Relaxed,
    ))
    .unwrap();
    let anchor =
        block_on(store.append_audit(vec![record("tool ended")], Durability::Synced)).unwrap();
    let head = block_on(store.append_audit(vec![record("settled")], Durability::Synced)).unwrap();
    let entries = block_on(store.read_audit(1, 2)).unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|entry| (entry.sequence, &*entry.record.text))
            .collect::<Vec<_>>(),
        [(2, "tool started"), (3, "tool ended")]
    );
    assert_eq!(entries[1].hash, anchor.hash);
    let memory = otto_store_memory::MemoryStore::new();
    let records = ["grant", "tool started", "tool ended", "settled"]
        .map(record)
        .to_vec();
    assert_eq!(
        block_on(memory.append_audit(records, Durability::Synced)).unwrap(),
        head,
        "the chain is the same in every store"
    );
    drop(store);
    let verify = |anchor| block_on(open(&state, "v").verify(anchor)).unwrap();
    assert_eq!(
        (
            verify(None).findings,
            verify(Some(anchor)).findings,
            verify(None).audit.end
        ),
        (vec![], vec![], head)
    );
    let change = |sql: &str| {
        rusqlite::Connection::open(state.join("otto.db"))
            .unwrap()
            .execute_batch(sql)
            .unwrap()
    };
    let kinds = |anchor| -> Vec<FindingKind> {
        verify(anchor)
            .findings
            .iter()
            .map(|finding| finding.kind)
            .collect()
    };
    change("DELETE FROM audit WHERE sequence >= 3");
    assert_eq!(
        kinds(None),
        [],
        "a log that was cut at the end is whole in itself"
    );
    assert_eq!(
        kinds(Some(anchor)),
        [FindingKind::Audit],
        "but the anchor shows it"
    );
    change("UPDATE audit SET record = 'denial' WHERE sequence = 1");
    assert_eq!(kinds(None), [FindingKind::Audit]);
    change("UPDATE audit SET record = 'grant', at = at + 1 WHERE sequence = 1");
    assert_eq!(kinds(None), [FindingKind::Audit]);
}

#[test]
fn a_trimmed_audit_log_shows_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let records = ["1", "2", "3", "4", "5"].map(record).to_vec();
    block_on(store.append_audit(records, Durability::Synced)).unwrap();
    let entries = block_on(store.read_audit(0, 9)).unwrap();
    let of = |index: usize| AuditHead {
        sequence: entries[index].sequence,
        hash: entries[index].hash,
    };
    let trimmed = block_on(store.trim_audit(of(2), NOON)).unwrap();
    assert!(matches!(trimmed, AuditTrim::Done(_)));
    drop(store);
    let verify = |anchor| {
        let report = block_on(open(&state, "v").verify(anchor)).unwrap();
        let kinds: Vec<FindingKind> = report.findings.iter().map(|found| found.kind).collect();
        (kinds, report)
    };
    for anchor in [None, Some(of(2)), Some(of(4))] {
        let (kinds, report) = verify(anchor);
        assert_eq!(kinds, []);
        let span = report.audit;
        assert_eq!((span.begins_after, span.end.sequence), (of(2), 6));
    }
    let (kinds, report) = verify(Some(of(1)));
    assert_eq!(kinds, [FindingKind::Anchor]);
    let detail = &report.findings[0].detail;
    assert!(
        detail.contains("anchor at 2") && detail.contains("up to 3 were removed"),
        "{detail}"
    );
    assert_eq!(report.audit.end.sequence, 6, "the chain itself is whole");
    let path = state.join("otto.db");
    let whole = fs::read(&path).unwrap();
    for change in [
        "UPDATE audit SET record = '4a' WHERE sequence = 4",
        "DELETE FROM audit WHERE sequence = 4",
        "DELETE FROM audit WHERE sequence = 4;
            UPDATE audit_start SET sequence = 4, hash = (SELECT hash FROM audit WHERE sequence = 5)",
        "DELETE FROM audit_start",
        "UPDATE audit_start SET sequence = 2",
        "UPDATE audit_start SET hash = zeroblob(32)",
        "INSERT INTO audit SELECT 3, at, record, hash FROM audit WHERE sequence = 4",
        "DELETE FROM audit",
        // As the store does it, but for the record that says so.
        "CREATE TEMP TABLE fifth AS SELECT hash FROM audit WHERE sequence = 5;
            DELETE FROM audit WHERE sequence <= 5;
            UPDATE audit_start SET sequence = 5, hash = (SELECT hash FROM fifth)",
    ] {
        let changing = rusqlite::Connection::open(&path).unwrap();
        changing.execute_batch(change).unwrap();
        drop(changing);
        assert_eq!(verify(None).0, [FindingKind::Audit], "{change}");
        for file in ["otto.db-wal", "otto.db-shm"] {
            let _ = fs::remove_file(state.join(file));
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(verify(None).0, []);
}

/// The files that each version of the schema made, as SQL text. Frozen: see `tests/golden/README.md`.
const GOLDEN: [&str; 6] = [
    include_str!("../golden/schema_v1.sql"),
    include_str!("../golden/schema_v2.sql"),
    include_str!("../golden/schema_v3.sql"),
    include_str!("../golden/schema_v4.sql"),
    include_str!("../golden/schema_v5.sql"),
    include_str!("../golden/schema_v6.sql"),
];

#[test]
fn files_of_every_version_are_opened_and_read() {
    GOLDEN.into_iter().for_each(open_and_read);
}

#[test]
fn an_artifact_that_had_no_file_yet_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    restore(GOLDEN[5], &state);
    let store = open(&state, "b");
    let [artifact] = &block_on(store.list(session(1))).unwrap()[..] else {
        panic!("one artifact")
    };
    assert_eq!(block_on(store.get(artifact.clone())).unwrap(), b"noted");
    block_on(store.checkpointer().flush()).unwrap();
    let folder = state.join("sessions").join(session(1).to_string());
    assert_eq!(fs::read(folder.join(&*artifact.path)).unwrap(), b"noted");
}

/// A state directory with the database of a golden file.
fn restore(golden: &str, state: &Path) {
    fs::create_dir(state).unwrap();
    rusqlite::Connection::open(state.join("otto.db"))
        .unwrap()
        .execute_batch(golden)
        .unwrap();
}

fn open_and_read(golden: &str) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    restore(golden, &state);
    let store = open(&state, "b");
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    assert_eq!(
        block_on(store.read(invocation(1))).unwrap(),
        [entry(1), entry(2)]
    );
    let sums = block_on(store.usage(UsageQuery::default())).unwrap();
    assert_eq!(
        (
            sums[0].calls,
            sums[0].unconfirmed_calls,
            sums[0].cost.picodollars()
        ),
        (2, 1, COST + HOLD)
    );
    let lease = Lease {
        session: session(1),
        node: Arc::from("a"),
        epoch: 1,
    };
    let reply = block_on(store.settle(settle_call(&lease, 1, 2))).unwrap();
    assert!(
        matches!(
            reply,
            SettleReply::Ledger(otto_core::ledger::SettleOutcome::Settled(_))
        ),
        "{reply:?}"
    );
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn a_journal_from_before_there_were_checksums_has_them_once_it_goes_on() {
    for golden in &GOLDEN[..4] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        restore(golden, &state);
        let store = open(&state, "b");
        let without = || {
            let report = block_on(store.verify(None)).unwrap();
            assert_eq!(report.findings, []);
            report.journals_without_checksums
        };
        assert_eq!(without(), 1);
        let lease = Lease {
            session: session(1),
            node: Arc::from("a"),
            epoch: 1,
        };
        append(&store, &lease, 1, 3).unwrap();
        append(&store, &lease, 1, 4).unwrap();
        assert_eq!(without(), 0);
        let entries: Vec<Entry> = (1..=4).map(entry).collect();
        for after in 0..=4 {
            let read = block_on(store.read_after(invocation(1), after)).unwrap();
            assert_eq!(read, entries[usize::try_from(after).unwrap()..]);
        }
        // The first entry with a checksum covers those without.
        rusqlite::Connection::open(store.path())
            .unwrap()
            .execute_batch(r#"UPDATE journal SET payload = '{"entry":7}' WHERE sequence = 1"#)
            .unwrap();
        let report = block_on(store.verify(None)).unwrap();
        assert_eq!(report.findings[0].kind, FindingKind::Journal);
        let refused = block_on(store.read(invocation(1)));
        assert!(
            matches!(refused, Err(StoreError::Damaged { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_new_file_has_the_schema_of_the_golden_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), "a");
    let golden = rusqlite::Connection::open_in_memory().unwrap();
    golden.execute_batch(GOLDEN[GOLDEN.len() - 1]).unwrap();
    let new = rusqlite::Connection::open(store.path()).unwrap();
    assert_eq!(
        schema(&new),
        schema(&golden),
        "a released schema is frozen: add a step, do not edit one"
    );
}

fn schema(connection: &rusqlite::Connection) -> Vec<(String, Option<String>)> {
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
        .unwrap();
    statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Writes the golden file of the current schema: `OTTO_WRITE_GOLDEN=1 cargo test -p otto-store-embedded`.
#[test]
fn write_golden_file() {
    if std::env::var_os("OTTO_WRITE_GOLDEN").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), "a");
    let lease = submit(&store, 1);
    append(&store, &lease, 1, 1).unwrap();
    append(&store, &lease, 1, 2).unwrap();
    block_on(store.reserve(reserve_call(&lease, 1, 1))).unwrap();
    block_on(store.settle(settle_call(&lease, 1, 1))).unwrap();
    block_on(store.reserve(reserve_call(&lease, 1, 2))).unwrap();
    let mut forfeit = settle_call(&lease, 1, 2);
    forfeit.settlement = otto_core::ledger::Settlement::Forfeited;
    block_on(store.settle(forfeit)).unwrap();
    block_on(store.reserve(reserve_call(&lease, 1, 3))).unwrap();
    let records = ["enabled", "granted"].map(record).to_vec();
    block_on(store.append_audit(records, Durability::Synced)).unwrap();
    let first = block_on(store.read_audit(0, 1)).unwrap().remove(0);
    let through = AuditHead {
        sequence: first.sequence,
        hash: first.hash,
    };
    block_on(store.trim_audit(through, NOON)).unwrap();
    let lease = submit(&store, 2);
    end(&store, &lease, 2, vec![entry(1), entry(2)]);
    // Its file is still to be written.
    block_on(store.put(draft(1, "note.md", b"noted"))).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/golden/schema_v{}.sql", GOLDEN.len()));
    fs::write(
        path,
        dump(&rusqlite::Connection::open(store.path()).unwrap()),
    )
    .unwrap();
}

/// A database as SQL text: schema, then rows in the order of their tables.
fn dump(connection: &rusqlite::Connection) -> String {
    let pragma = |name: &str| -> i64 {
        connection
            .query_row(&format!("PRAGMA {name}"), (), |row| row.get(0))
            .unwrap()
    };
    let mut text = format!(
        "PRAGMA application_id = {};\nPRAGMA user_version = {};\nPRAGMA foreign_keys = OFF;\n",
        pragma("application_id"),
        pragma("user_version")
    );
    let mut statement = connection
        .prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
        .unwrap();
    let objects: Vec<(String, String, String)> = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (_, _, sql) in &objects {
        text += &format!("{sql};\n");
    }
    for (_, table, _) in objects.iter().filter(|(kind, _, _)| kind == "table") {
        let mut statement = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns)
                .map(|column| match row.get_ref(column).unwrap() {
                    rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                    rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                    rusqlite::types::ValueRef::Real(value) => value.to_string(),
                    rusqlite::types::ValueRef::Text(value) => {
                        format!(
                            "'{}'",
                            std::str::from_utf8(value).unwrap().replace('\'', "''")
                        )
                    }
                    rusqlite::types::ValueRef::Blob(value) => {
                        format!(
                            "x'{}'",
                            value
                                .iter()
                                .map(|byte| format!("{byte:02x}"))
                                .collect::<String>()
                        )
                    }
                })
                .collect();
            text += &format!("INSERT INTO {table} VALUES ({});\n", values.join(", "));
        }
    }
    text
}
