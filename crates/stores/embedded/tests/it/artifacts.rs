//! Artifacts on disk: every step of the durable write can fail, and retention can stop anywhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use otto_core::invocation::OutcomeKind;
use otto_core::port::store::*;
use otto_core::store_rules::ManualClock;
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, FindingKind, RetentionPolicy};

use crate::fixture::*;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

/// Too long to wait in the database for its file.
static LONG: [u8; 40_000] = [7; 40_000];

fn with_faults(state: &Path) -> (EmbeddedStore, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let mut config = config(state, "a");
    config.faults = faults.clone();
    (EmbeddedStore::open(config).unwrap(), faults)
}

fn files(state: &Path, n: u8) -> Vec<String> {
    let dir = state.join("sessions").join(session(n).to_string());
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn a_step_that_fails_leaves_nothing_and_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, faults) = with_faults(&state);
    let steps = [
        "create temporary file",
        "write",
        "sync file",
        "rename",
        "sync directory",
    ];
    for (number, step) in steps.into_iter().enumerate() {
        for os_error in [ENOSPC, EIO, EROFS] {
            faults.fail_after(number, os_error);
            let answer = block_on(store.put(draft(1, "r.md", &LONG)));
            assert_eq!(
                faults.reached()[number],
                step,
                "the steps are those of the recipe, in order"
            );
            let fits = match os_error {
                ENOSPC => matches!(answer, Err(StoreError::Full { .. })),
                EROFS => matches!(answer, Err(StoreError::ReadOnly { .. })),
                _ => matches!(answer, Err(StoreError::Unavailable { .. })),
            };
            assert!(fits, "{step}: {answer:?}");
            assert_eq!(
                files(&state, 1),
                [""; 0],
                "{step}: neither the file nor a temporary one stays"
            );
            assert_eq!(block_on(store.list(session(1))).unwrap(), [], "{step}");
        }
    }
    let artifact = block_on(store.put(draft(1, "r.md", &LONG))).unwrap();
    assert_eq!(block_on(store.get(artifact)).unwrap(), LONG);
}

#[test]
fn a_file_whose_row_was_lost_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let artifacts: Vec<ArtifactRef> = (0..3)
        .map(|n| block_on(store.put(draft(1, &format!("{n}"), &[n; 100]))).unwrap())
        .collect();
    drop(store);
    // A power loss may take the rows back: they are not synced on their own.
    rusqlite::Connection::open(state.join("otto.db"))
        .unwrap()
        .execute_batch(
            "DELETE FROM artifacts; UPDATE meta SET value = 0 WHERE name = 'artifact_bytes'",
        )
        .unwrap();
    let store = open(&state, "b");
    assert_eq!(
        block_on(store.put(draft(1, "0", &[0; 100]))).unwrap(),
        artifacts[0],
        "a repeated call finds it"
    );
    assert_eq!(block_on(store.list(session(1))).unwrap(), artifacts);
    assert_eq!(
        block_on(store.verify(None)).unwrap().findings,
        [],
        "the total is right again"
    );
}

#[test]
fn damage_is_found_when_read_and_by_the_scrub() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let artifacts: Vec<ArtifactRef> = (0..5)
        .map(|n| block_on(store.put(draft(1, &format!("{n}"), &[n; 100]))).unwrap())
        .collect();
    block_on(store.checkpointer().flush()).unwrap();
    let path = |n: usize| {
        state
            .join("sessions")
            .join(session(1).to_string())
            .join(&*artifacts[n].path)
    };
    assert!(block_on(store.checkpointer().scrub()).unwrap().is_clean());
    let mut flipped = vec![1; 100];
    flipped[50] ^= 1;
    fs::write(path(1), &flipped).unwrap();
    fs::write(path(2), [2; 99]).unwrap();
    fs::remove_file(path(3)).unwrap();
    fs::remove_file(path(4)).unwrap();
    symlink("/etc/hostname", path(4)).unwrap();
    for artifact in &artifacts[1..] {
        let answer = block_on(store.get(artifact.clone()));
        assert!(
            matches!(
                answer,
                Err(StoreError::Damaged { .. } | StoreError::NotFound { .. })
            ),
            "{answer:?}"
        );
    }
    let sessions = state.join("sessions");
    fs::write(sessions.join("stray"), b"").unwrap();
    fs::write(sessions.join(session(1).to_string()).join("notes.txt"), b"").unwrap();
    let report = block_on(store.checkpointer().scrub()).unwrap();
    let damaged: Vec<&ArtifactRef> = report
        .damaged
        .iter()
        .map(|damaged| &damaged.artifact)
        .collect();
    assert_eq!(damaged, artifacts[1..].iter().collect::<Vec<_>>());
    assert_eq!((report.checked, report.foreign.len()), (5, 2), "{report:?}");
}

#[test]
fn temporary_files_of_dead_processes_go_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let alive = open(&state, "alive");
    block_on(store.put(draft(1, "r", b"abc"))).unwrap();
    block_on(store.checkpointer().flush()).unwrap();
    let session_dir = state.join("sessions").join(session(1).to_string());
    let alive_tag = fs::read_dir(state.join("nodes"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| fs::read(entry.path()).unwrap() == b"alive")
        .unwrap()
        .file_name()
        .into_string()
        .unwrap();
    fs::write(
        session_dir.join(format!(".tmp-{}-0", "ab".repeat(12))),
        b"half",
    )
    .unwrap();
    fs::write(session_dir.join(format!(".tmp-{alive_tag}-7")), b"half").unwrap();
    let report = block_on(store.checkpointer().scrub()).unwrap();
    assert_eq!((report.leftovers_removed, report.checked), (1, 1));
    assert_eq!(
        files(&state, 1)
            .iter()
            .filter(|name| name.starts_with(".tmp-"))
            .count(),
        1
    );
    drop(alive);
    assert_eq!(
        block_on(store.checkpointer().scrub())
            .unwrap()
            .leftovers_removed,
        1,
        "its process has ended"
    );
}

#[test]
fn a_session_directory_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    block_on(store.put(draft(2, "r", b"abc"))).unwrap();
    block_on(store.checkpointer().flush()).unwrap();
    symlink(
        &outside,
        state.join("sessions").join(session(1).to_string()),
    )
    .unwrap();
    let answer = block_on(store.put(draft(1, "r", b"abc")));
    let Err(error @ StoreError::Damaged { .. }) = answer else {
        panic!("{answer:?}")
    };
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(block_on(store.list(session(1))).is_err());
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing was written through it"
    );
}

#[test]
fn the_total_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut config = config(&state, "a");
    config.artifact_bytes_max = 250;
    let store = EmbeddedStore::open(config).unwrap();
    block_on(store.put(draft(1, "a", &[1; 100]))).unwrap();
    block_on(store.put(draft(1, "b", &[2; 100]))).unwrap();
    let answer = block_on(store.put(draft(1, "c", &[3; 100])));
    let Err(error @ StoreError::Full { .. }) = answer else {
        panic!("{answer:?}")
    };
    assert!(
        error.to_string().contains("at most 250 are kept"),
        "{error}"
    );
    block_on(store.checkpointer().flush()).unwrap();
    assert_eq!(files(&state, 1).len(), 2, "nothing of it stays");
    block_on(store.put(draft(1, "d", &[4; 50]))).unwrap();
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn a_row_that_cannot_be_read_is_named_by_the_scrub_which_goes_on() {
    for (change, name) in [
        ("kind = 'nothing'", "first"),
        ("sha256 = CAST(x'FF' AS TEXT)", "first"),
        ("path = CAST(path || x'FF' AS TEXT)", "\\xff"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let store = open(&state, "a");
        block_on(store.put(draft(1, "first", b"abc"))).unwrap();
        let second = block_on(store.put(draft(1, "second", b"def"))).unwrap();
        block_on(store.checkpointer().flush()).unwrap();
        rusqlite::Connection::open(store.path())
            .unwrap()
            .execute_batch(&format!(
                "UPDATE artifacts SET {change} WHERE path LIKE '%first'"
            ))
            .unwrap();
        let folder = state.join("sessions").join(session(1).to_string());
        fs::write(folder.join(&*second.path), b"dxf").unwrap();

        let report = block_on(store.checkpointer().scrub()).unwrap();
        let [unread] = report.unreadable.as_slice() else {
            panic!("{change}: {report:?}")
        };
        assert!(
            unread.contains(name) && unread.contains(&session(1).to_string()),
            "{unread}"
        );
        assert!(!report.is_clean() && !report.more, "{report:?}");
        assert_eq!((report.checked, report.adopted), (1, 0), "{report:?}");
        assert_eq!(report.damaged[0].artifact, second, "{change}");
        let found = block_on(store.verify(None)).unwrap().findings;
        let named = found.iter().filter(|found| found.kind == FindingKind::Row);
        assert_eq!(named.count(), 1, "{found:?}");
    }
}

/// Three sessions: 1 and 3 ended, 2 unfinished, an artifact each and one of a session without invocations.
fn some_artifacts(store: &EmbeddedStore) -> Vec<ArtifactRef> {
    let artifacts: Vec<ArtifactRef> = (1..=3)
        .map(|n| {
            let lease = submit(store, n);
            let artifact = block_on(store.put(draft(n, "r", &[n; 100]))).unwrap();
            if n != 2 {
                let finish = Finish {
                    lease,
                    invocation: invocation(n),
                    outcome: OutcomeKind::Completed,
                    summary: Arc::from(""),
                    result: Arc::from(""),
                    after: 0,
                    entries: Vec::new(),
                    artifacts: Vec::new(),
                    resumable: false,
                    at: NOON,
                };
                block_on(store.finish(finish)).unwrap();
            }
            artifact
        })
        .collect();
    artifacts
        .into_iter()
        .chain([block_on(store.put(draft(4, "r", b"x"))).unwrap()])
        .collect()
}

#[test]
fn retention_keeps_what_is_pinned_or_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let clock = Arc::new(ManualClock::new(NOON));
    let mut config = config(&state, "a");
    config.clock = clock.clone();
    let store = EmbeddedStore::open(config).unwrap();
    let artifacts = some_artifacts(&store);
    let checkpointer = store.checkpointer();
    block_on(checkpointer.pin(session(3))).unwrap();
    assert!(matches!(
        block_on(checkpointer.pin(session(9))),
        Err(StoreError::NotFound { .. })
    ));
    let week = Duration::from_secs(7 * 86_400);
    clock.advance(week - Duration::from_secs(1));
    assert_eq!(
        block_on(checkpointer.sweep(&RetentionPolicy::default()))
            .unwrap()
            .removed,
        0,
        "not yet"
    );
    clock.advance(Duration::from_secs(1));
    let report = block_on(checkpointer.sweep(&RetentionPolicy::default())).unwrap();
    assert_eq!((report.removed, report.removed_bytes), (2, 101));
    assert!(matches!(
        block_on(store.get(artifacts[0].clone())),
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(block_on(store.list(session(1))).unwrap(), []);
    assert!(
        !state.join("sessions").join(session(1).to_string()).exists(),
        "an empty directory goes, too"
    );
    assert_eq!(block_on(store.get(artifacts[1].clone())).unwrap(), [2; 100]);
    assert_eq!(block_on(store.get(artifacts[2].clone())).unwrap(), [3; 100]);
    block_on(checkpointer.unpin(session(3))).unwrap();
    assert_eq!(
        block_on(checkpointer.sweep(&RetentionPolicy::default()))
            .unwrap()
            .removed,
        1
    );
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    assert!(block_on(checkpointer.scrub()).unwrap().is_clean());
}

#[test]
fn retention_by_count_and_size_removes_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOON));
    let mut config = config(&dir.path().join("state"), "a");
    config.clock = clock.clone();
    let store = EmbeddedStore::open(config).unwrap();
    let artifacts: Vec<ArtifactRef> = (0..10)
        .map(|n| {
            clock.advance(Duration::from_secs(1));
            block_on(store.put(draft(1, &format!("{n}"), &[n; 100]))).unwrap()
        })
        .collect();
    let policy = |max_count, max_bytes| RetentionPolicy {
        max_age: None,
        max_count,
        max_bytes,
    };
    let checkpointer = store.checkpointer();
    assert_eq!(
        block_on(checkpointer.sweep(&policy(None, None)))
            .unwrap()
            .removed,
        0
    );
    assert_eq!(
        block_on(checkpointer.sweep(&policy(Some(7), None)))
            .unwrap()
            .removed,
        3
    );
    assert_eq!(block_on(store.list(session(1))).unwrap(), artifacts[3..]);
    assert_eq!(
        block_on(checkpointer.sweep(&policy(None, Some(450))))
            .unwrap()
            .removed,
        3
    );
    assert_eq!(block_on(store.list(session(1))).unwrap(), artifacts[6..]);
}

#[test]
fn a_sweep_that_stops_anywhere_is_finished_by_the_next() {
    let policy = RetentionPolicy {
        max_age: Some(Duration::ZERO),
        max_count: None,
        max_bytes: None,
    };
    for (steps, os_error) in (0..4).flat_map(|steps| [(steps, EIO), (steps, EROFS)]) {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (store, faults) = with_faults(&state);
        for n in 0..3 {
            block_on(store.put(draft(1, &format!("{n}"), &[n; 10]))).unwrap();
        }
        block_on(store.checkpointer().flush()).unwrap();
        faults.fail_after(steps, os_error);
        let report = block_on(store.checkpointer().sweep(&policy)).unwrap();
        assert_eq!(
            (report.removed, report.failures.len()),
            (0, 1),
            "the failure is reported after {steps} steps"
        );
        assert_eq!(
            block_on(store.list(session(1))).unwrap(),
            [],
            "what is being removed is not listed"
        );
        drop(store);
        let store = open(&state, "b");
        let report = block_on(store.checkpointer().scrub()).unwrap();
        assert!(
            report.is_clean() && report.adopted == 0,
            "half removed is not damaged: {report:?}"
        );
        let report = block_on(store.checkpointer().sweep(&policy)).unwrap();
        assert_eq!((report.removed, report.failures.len()), (3, 0));
        assert_eq!(files(&state, 1), [""; 0]);
        assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    }
}
