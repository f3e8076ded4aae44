//! Short artifacts: durable in the database with one sync, readable at once, written as files later.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};

use otto_core::port::store::*;
use otto_core::redact::{OperatorPattern, RedactionConfig, Redactor};
use otto_sim::conformance::block_on;
use otto_store_embedded::{Cleaned, EmbeddedStore, FindingKind, RetentionPolicy};

use crate::fixture::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// What happens to the file of one artifact.
const STEPS: [&str; 4] = [
    "write derived file",
    "sync derived file",
    "rename derived file",
    "sync derived names",
];

fn pending(state: &Path) -> i64 {
    sql(state)
        .query_row("SELECT count(*) FROM contents", (), |row| row.get(0))
        .unwrap()
}

fn sql(state: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(state.join("otto.db")).unwrap()
}

fn on_disk(state: &Path, artifact: &ArtifactRef) -> Option<Vec<u8>> {
    let session = state.join("sessions").join(artifact.session.to_string());
    fs::read(session.join(&*artifact.path)).ok()
}

/// A store that cannot get further than before that step, and an artifact whose file it could not write.
fn failed_at(state: &Path, step: usize, content: &[u8]) -> (EmbeddedStore, ArtifactRef) {
    let faults = Arc::new(Faults::default());
    let mut config = config(state, "a");
    config.faults = faults.clone();
    let store = EmbeddedStore::open(config).unwrap();
    faults.set_broken(Some((STEPS[step], [EIO, ENOSPC][step % 2])));
    let artifact = block_on(store.put(draft(1, "note.md", content))).unwrap();
    block_on(store.checkpointer().flush()).unwrap();
    assert_eq!(faults.reached(), STEPS[..=step]);
    assert_eq!((on_disk(state, &artifact), pending(state)), (None, 1));
    (store, artifact)
}

#[test]
fn a_file_follows_and_the_database_lets_go_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let contents: Vec<Vec<u8>> = [0, 1, 100, 10_240, 32 * 1024].map(|n| vec![7; n]).into();
    let artifacts: Vec<ArtifactRef> = contents
        .iter()
        .enumerate()
        .map(|(n, content)| block_on(store.put(draft(1, &n.to_string(), content))).unwrap())
        .collect();
    let other = open(&state, "b");
    for (artifact, content) in artifacts.iter().zip(&contents) {
        for store in [&store, &other] {
            assert_eq!(block_on(store.get(artifact.clone())).unwrap(), *content);
        }
    }
    block_on(store.checkpointer().flush()).unwrap();
    for (artifact, content) in artifacts.iter().zip(&contents) {
        assert_eq!(on_disk(&state, artifact).unwrap(), *content);
        assert_eq!(block_on(other.get(artifact.clone())).unwrap(), *content);
    }
    drop((store, other));
    assert_eq!(pending(&state), 0);
    let store = open(&state, "c");
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    assert!(block_on(store.checkpointer().scrub()).unwrap().is_clean());
}

#[test]
fn what_cannot_be_written_stays_readable_and_the_next_process_writes_it() {
    for step in 0..STEPS.len() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (store, artifact) = failed_at(&state, step, b"noted");
        assert_eq!(block_on(store.get(artifact.clone())).unwrap(), b"noted");
        let listed = block_on(store.list(session(1))).unwrap();
        assert_eq!(listed, std::slice::from_ref(&artifact));
        assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
        drop(store);
        // A process that is killed cannot take back what it was writing.
        let folder = state.join("sessions").join(session(1).to_string());
        fs::write(folder.join(format!(".tmp-{}-7", "ab".repeat(12))), b"no").unwrap();
        let store = open(&state, "b");
        block_on(store.checkpointer().flush()).unwrap();
        assert_eq!(on_disk(&state, &artifact).unwrap(), b"noted", "step {step}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        drop(store);
        assert_eq!(pending(&state), 0);
    }
}

#[test]
fn while_files_cannot_be_written_none_waits_and_what_waited_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let faults = Arc::new(Faults::default());
    let mut config = config(&state, "a");
    config.faults = faults.clone();
    let store = EmbeddedStore::open(config).unwrap();
    // One that is synced by itself, and many that share their syncs.
    for (count, broken) in [
        (1, STEPS[0]),
        (1, STEPS[1]),
        (12, STEPS[0]),
        (12, "sync derived files"),
        (12, STEPS[3]),
    ] {
        faults.set_broken(Some((broken, EIO)));
        let waiting: Vec<ArtifactRef> = (0..count)
            .map(|n| {
                let name = format!("{broken} {count} {n}").replace(' ', "-");
                block_on(store.put(draft(1, &name, b"1"))).unwrap()
            })
            .collect();
        block_on(store.checkpointer().flush()).unwrap();
        let name = format!("{broken} {count} direct").replace(' ', "-");
        let direct = block_on(store.put(draft(1, &name, b"2"))).unwrap();
        assert_eq!(pending(&state), i64::from(count), "{broken}");
        assert!(
            waiting
                .iter()
                .all(|artifact| on_disk(&state, artifact).is_none())
        );
        assert_eq!(on_disk(&state, &direct).unwrap(), b"2", "{broken}");
        faults.set_broken(None);
        block_on(store.checkpointer().flush()).unwrap();
        for artifact in &waiting {
            assert_eq!(on_disk(&state, artifact).unwrap(), b"1", "{broken}");
        }
        assert_eq!(pending(&state), 0, "{broken}");
    }
    let later = block_on(store.put(draft(1, "later", b"3"))).unwrap();
    assert!(
        faults
            .reached()
            .iter()
            .all(|step| !step.contains("temporary")),
        "it waits again"
    );
    assert_eq!(block_on(store.get(later)).unwrap(), b"3");
}

#[test]
fn what_nobody_waits_for_is_stored_when_the_store_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    for n in 0..40_u8 {
        let store = open(&state, &format!("node {n}"));
        let content = vec![n; if n % 2 == 0 { 10 } else { 40_000 }];
        let mut put = store.put(draft(1, &n.to_string(), &content));
        let mut context = Context::from_waker(Waker::noop());
        assert!(put.as_mut().poll(&mut context).is_pending());
        drop(put);
        drop(store);
        // Its threads have ended, and none of them was the last to have it.
        let rows: i64 = sql(&state)
            .query_row("SELECT count(*) FROM artifacts", (), |row| row.get(0))
            .unwrap();
        assert_eq!(rows, i64::from(n) + 1);
    }
    let store = open(&state, "b");
    assert_eq!(block_on(store.list(session(1))).unwrap().len(), 40);
    assert!(block_on(store.checkpointer().scrub()).unwrap().is_clean());
}

#[test]
fn its_name_is_taken_before_its_file_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, first) = failed_at(&state, 0, b"noted");
    // Its file is written at once, and must not be the one that the first was promised.
    let long = block_on(store.put(draft(1, "note.md", &[3; 50_000]))).unwrap();
    assert_eq!(on_disk(&state, &first), None);
    let again = block_on(store.put(draft(1, "note.md", b"noted"))).unwrap();
    assert_eq!(again, first, "a repeated call finds it");
    let other = block_on(store.put(draft(1, "note.md", b"other"))).unwrap();
    assert_ne!((&other.path, &long.path), (&first.path, &first.path));
    let check = |store: &EmbeddedStore| {
        for (artifact, content) in [
            (&first, &b"noted"[..]),
            (&other, b"other"),
            (&long, &[3; 50_000]),
        ] {
            assert_eq!(block_on(store.get(artifact.clone())).unwrap(), content);
        }
    };
    check(&store);
    drop(store);
    let store = open(&state, "b");
    block_on(store.checkpointer().flush()).unwrap();
    check(&store);
    assert_eq!(on_disk(&state, &first).unwrap(), b"noted");
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    assert!(block_on(store.checkpointer().scrub()).unwrap().is_clean());
}

#[test]
fn retention_passes_over_it_and_the_scrub_writes_it() {
    let everything = RetentionPolicy {
        max_age: None,
        max_count: Some(0),
        max_bytes: None,
    };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, artifact) = failed_at(&state, 2, b"noted");
    let swept = block_on(store.checkpointer().sweep(&everything)).unwrap();
    assert_eq!((swept.removed, swept.failures.len()), (0, 0));
    let report = block_on(store.checkpointer().scrub()).unwrap();
    assert_eq!((report.is_clean(), report.remade), (true, 1));
    assert_eq!(on_disk(&state, &artifact).unwrap(), b"noted");
    drop(store);
    let store = open(&state, "b");
    let swept = block_on(store.checkpointer().sweep(&everything)).unwrap();
    assert_eq!((swept.removed, pending(&state)), (1, 0));
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, artifact) = failed_at(&state, 1, b"noted");
    block_on(store.checkpointer().give_up(&artifact)).unwrap();
    assert_eq!(pending(&state), 0);
    let read = block_on(store.get(artifact));
    assert!(matches!(read, Err(StoreError::NotFound { .. })), "{read:?}");
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn a_change_of_it_is_found_and_never_given_out() {
    for change in [
        "UPDATE contents SET content = x'00'",
        "UPDATE contents SET content = CAST(content || x'00' AS BLOB)",
        "UPDATE contents SET path = path || 'x'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (store, artifact) = failed_at(&state, 3, b"noted");
        sql(&state).execute_batch(change).unwrap();
        let read = block_on(store.get(artifact.clone()));
        assert!(
            matches!(
                read,
                Err(StoreError::Damaged { .. } | StoreError::NotFound { .. })
            ),
            "{change}: {read:?}"
        );
        let found = block_on(store.verify(None)).unwrap().findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, FindingKind::Artifacts);
        assert!(found[0].detail.contains("note.md"), "{found:?}");
        drop(store);
        let store = open(&state, "b");
        block_on(store.checkpointer().flush()).unwrap();
        assert_eq!(on_disk(&state, &artifact), None, "{change}");
    }
}

#[test]
fn the_bound_of_all_artifacts_holds_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut config = config(&state, "a");
    config.artifact_bytes_max = 250;
    let store = EmbeddedStore::open(config).unwrap();
    // Another process has its own idea of how much there is.
    let other = open(&state, "b");
    block_on(other.put(draft(1, "a", &[1; 200]))).unwrap();
    let refused = block_on(store.put(draft(2, "b", &[2; 100])));
    assert!(
        matches!(refused, Err(StoreError::Full { .. })),
        "{refused:?}"
    );
    assert_eq!(block_on(store.list(session(2))).unwrap(), []);
    assert_eq!(pending(&state), 1);
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

const SECRET: &[u8] = b"CUST-123456";

/// A store whose session 1 has ended and holds the secret, in its files and in its log.
fn with_secret(state: &Path) -> EmbeddedStore {
    let store = open(state, "a");
    let lease = submit(&store, 1);
    let mut content = SECRET.repeat(900);
    content.extend(b" paid");
    block_on(store.put(draft(1, "note.md", &content))).unwrap();
    end(&store, &lease, 1, vec![entry(1)]);
    block_on(store.release(lease)).unwrap();
    assert!(holds(state, SECRET));
    store
}

fn clean(store: &EmbeddedStore) -> Result<Cleaned, StoreError> {
    let redactor = Redactor::new(&RedactionConfig {
        patterns: vec![OperatorPattern {
            name: "customer".to_owned(),
            pattern: "CUST-[0-9]{6}".to_owned(),
        }],
        ..RedactionConfig::default()
    });
    block_on(store.redact_session(session(1), Arc::new(redactor.unwrap())))
}

#[test]
fn cleaning_a_session_leaves_no_byte_of_it_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = with_secret(&state);
    assert_eq!(clean(&store).unwrap().artifacts, 1);
    drop(store);
    assert!(!holds(&state, SECRET));
}

#[test]
fn a_log_that_cannot_be_cut_is_told_and_cut_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = with_secret(&state);
    let reader = sql(&state);
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM calls")
        .unwrap();
    let told = clean(&store).unwrap_err();
    assert!(told.to_string().contains("run it again"), "{told}");
    reader.execute_batch("COMMIT").unwrap();
    // The rest was done the first time.
    assert_eq!(clean(&store).unwrap().artifacts, 0);
    assert!(!holds(&state, SECRET));
}

/// Whether a file below a folder has these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        let content = fs::read(path).unwrap();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}
