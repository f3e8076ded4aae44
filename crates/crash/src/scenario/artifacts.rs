//! Artifacts: short and long ones are stored, retention removes what is old.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use otto::core::port::store::*;
use otto_store_embedded::{EmbeddedStore, RetentionPolicy};

use super::ledger::{invocation, session, submit};
use super::{
    Aftermath, SAYS_IT, Scenario, block_on, empty_store, is_whole, no_environment, open, reopen,
    told,
};
use crate::said::{Mouth, say};

/// Length of an artifact that is durable in the database before it has a file.
const SHORT: usize = 4 * 1024;
/// Length of one whose file is written at once.
const MIDDLE: usize = 40 * 1024;
/// Length of a long one.
const LONG: usize = 10 * 1024 * 1024;
/// How many the retention scenario begins with.
const OLD: u8 = 24;
/// How many of them stay.
const KEPT: u64 = 4;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "checkpoint-4k",
            prepare: empty_store,
            drive: |dir, mouth| drive_checkpoints(dir, mouth, 12, SHORT),
            check: check_checkpoints,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
        Scenario {
            name: "checkpoint-40k",
            prepare: empty_store,
            drive: |dir, mouth| drive_checkpoints(dir, mouth, 3, MIDDLE),
            check: check_checkpoints,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
        Scenario {
            name: "checkpoint-10m",
            prepare: empty_store,
            drive: |dir, mouth| drive_checkpoints(dir, mouth, 1, LONG),
            check: check_checkpoints,
            environment: no_environment,
            stride: 2,
            // Every torn state of 20,000 sectors says no more than those of a short file.
            loses_power: false,
            reports: SAYS_IT,
        },
        Scenario {
            name: "retention",
            prepare: prepare_retention,
            drive: drive_retention,
            check: check_retention,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
        Scenario {
            name: "pins",
            prepare: prepare_retention,
            drive: drive_pins,
            check: check_pins,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
    ]
}

fn draft(n: u8, number: u8, length: usize) -> ArtifactDraft {
    let content: Vec<u8> = (0..length)
        .map(|at| u8::try_from((at / 512 + usize::from(number)) % 251).unwrap_or(0))
        .collect();
    ArtifactDraft {
        session: session(n),
        invocation: invocation(n),
        kind: ArtifactKind::Result,
        name: Arc::from(format!("part-{number}.bin")),
        content: Arc::from(content),
    }
}

fn drive_checkpoints(dir: &Path, mouth: &Mouth, count: u8, length: usize) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            submit(&store, 1)?;
            for number in 1..=count {
                put(&store, mouth, 1, number, length)?;
            }
            Ok(())
        })
    })
}

fn put(
    store: &EmbeddedStore,
    mouth: &Mouth,
    n: u8,
    number: u8,
    length: usize,
) -> Result<(), StoreError> {
    let artifact = block_on(store.put(draft(n, number, length)))?;
    say!(
        mouth,
        "artifact {} {} {}",
        artifact.path,
        artifact.size_bytes,
        artifact.sha256
    );
    Ok(())
}

/// Every acknowledged artifact is there, byte for byte; whatever else is listed is whole, too.
fn check_checkpoints(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    let listed = block_on(store.list(session(1)))?;
    for fact in after.facts.after("artifact") {
        ensure!(
            listed.iter().any(|artifact| fact
                == format!(
                    "{} {} {}",
                    artifact.path, artifact.size_bytes, artifact.sha256
                )),
            "the artifact `{fact}` was acknowledged and is not there: {listed:?}"
        );
    }
    for artifact in listed {
        let content = block_on(store.get(artifact.clone()))?;
        let expected = draft(1, number_in(&artifact.path)?, content.len());
        ensure!(
            *content == *expected.content,
            "the content of {} is not what was stored",
            artifact.path
        );
    }
    is_whole(&store)?;
    // Storing them again finds those that are there, and the bytes are counted once.
    let count = after.facts.after("artifact").count();
    for number in 1..=u8::try_from(count)? {
        block_on(store.put(draft(1, number, SHORT.min(64))))?;
    }
    is_whole(&store)?;
    block_on(store.checkpointer().flush())?;
    let (temporary, all) = leftovers(dir)?;
    ensure!(temporary == 0, "{temporary} temporary files stay for ever");
    let listed = block_on(store.list(session(1)))?.len();
    ensure!(all == listed, "{all} files for {listed} artifacts");
    Ok(())
}

/// Temporary files below the sessions after a scrub, and all files there.
fn leftovers(dir: &Path) -> Result<(usize, usize)> {
    let sessions = super::state_dir(dir).join("sessions");
    let mut names = Vec::new();
    if sessions.is_dir() {
        for session in std::fs::read_dir(sessions)? {
            for file in std::fs::read_dir(session?.path())? {
                names.push(file?.file_name());
            }
        }
    }
    let temporary = names
        .iter()
        .filter(|name| name.to_string_lossy().starts_with(".tmp-"))
        .count();
    Ok((temporary, names.len()))
}

fn number_in(path: &str) -> Result<u8> {
    let digits: String = path
        .rsplit("part-")
        .next()
        .unwrap_or_default()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Ok(digits.parse()?)
}

/// Old artifacts of a session that is over, of one that is pinned, and of one that is unfinished.
fn prepare_retention(dir: &Path) -> Result<()> {
    let store = open(dir, "before")?;
    for n in 1..=3 {
        let lease = submit(&store, n)?;
        let count = if n == 1 { OLD } else { 1 };
        for number in 1..=count {
            block_on(store.put(draft(n, number, SHORT)))?;
        }
        if n != 3 {
            block_on(store.finish(Finish {
                lease,
                invocation: invocation(n),
                outcome: otto::OutcomeKind::Completed,
                summary: Arc::from(""),
                result: Arc::from(""),
                after: 0,
                entries: Vec::new(),
                artifacts: Vec::new(),
                resumable: false,
                at: super::NOON,
            }))?;
        }
    }
    block_on(store.checkpointer().pin(session(2)))?;
    Ok(())
}

fn policy() -> RetentionPolicy {
    RetentionPolicy {
        max_age: Some(Duration::from_secs(3_600)),
        max_count: Some(KEPT),
        max_bytes: None,
    }
}

fn drive_retention(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let report = block_on(store.checkpointer().sweep(&policy()))?;
            match report.failures.into_iter().next() {
                Some((_, error)) => Err(error),
                None => {
                    say!(mouth, "swept {}", report.removed);
                    Ok(())
                }
            }
        })
    })
}

/// Nothing half removed is listed or counted, what is protected stays, and the next sweep ends what was begun.
fn check_retention(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    for n in [2, 3] {
        let kept = block_on(store.list(session(n)))?;
        ensure!(kept.len() == 1, "session {n} lost an artifact: {kept:?}");
    }
    for artifact in block_on(store.list(session(1)))? {
        let content = block_on(store.get(artifact))?;
        ensure!(
            content.len() == SHORT,
            "an artifact has {} bytes",
            content.len()
        );
    }
    is_whole(&store)?;
    let before = block_on(store.list(session(1)))?.len();
    let report = block_on(store.checkpointer().sweep(&policy()))?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    let left = block_on(store.list(session(1)))?.len();
    ensure!(
        left as u64 + 2 == KEPT,
        "{left} of {before} artifacts stay after the second sweep"
    );
    if after.facts.after("swept").next().is_some() {
        ensure!(
            report.removed == 0,
            "the sweep was acknowledged, {} were left",
            report.removed
        );
    }
    is_whole(&store)?;
    let (temporary, all) = leftovers(dir)?;
    ensure!(
        (temporary, all) == (0, left + 2),
        "{all} files for {} artifacts",
        left + 2
    );
    Ok(())
}

/// Everything that is not protected.
fn of_all() -> RetentionPolicy {
    RetentionPolicy {
        max_count: Some(0),
        ..policy()
    }
}

/// Session 1 is pinned before a sweep of everything, and released after it; session 2 is pinned all the time.
fn drive_pins(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let checkpointer = store.checkpointer();
            block_on(checkpointer.pin(session(1)))?;
            say!(mouth, "pinned");
            let report = block_on(checkpointer.sweep(&of_all()))?;
            if let Some((_, error)) = report.failures.into_iter().next() {
                return Err(error);
            }
            say!(mouth, "releasing");
            block_on(checkpointer.unpin(session(1)))?;
            say!(mouth, "released");
            Ok(())
        })
    })
}

/// What was pinned survives the next sweep, what was released goes with it.
fn check_pins(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    is_whole(&store)?;
    let report = block_on(store.checkpointer().sweep(&of_all()))?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    let left = |n| Ok::<_, StoreError>(block_on(store.list(session(n)))?.len());
    let (first, second) = (left(1)?, left(2)?);
    ensure!(second == 1, "the pin of another session is lost");
    if after.facts.has("released") {
        ensure!(first == 0, "{first} artifacts of a released session stay");
    } else if after.facts.has("pinned") && !after.facts.has("releasing") {
        let all = usize::from(OLD);
        ensure!(
            first == all,
            "{first} of {all} artifacts of a pinned session are left"
        );
    }
    is_whole(&store)
}
