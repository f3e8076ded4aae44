//! Upkeep: a backup while calls go on, and the audit log.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use otto::core::port::store::*;

use super::ledger::{invocation, submit};
use super::{
    Aftermath, NOON, SAYS_IT, Scenario, block_on, empty_store, is_whole, journal, no_environment,
    open, reopen, state_dir, told,
};
use crate::said::{Mouth, say};

/// Where the backup goes, below the directory of the run.
const BACKUP: &str = "backup.db";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "backup",
            prepare: empty_store,
            drive: drive_backup,
            check: check_backup,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
        Scenario {
            name: "audit-log",
            prepare: empty_store,
            drive: drive_audit,
            check: check_audit,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
        Scenario {
            name: "audit-retention",
            prepare: prepare_trim,
            drive: drive_trim,
            check: check_trim,
            environment: no_environment,
            stride: 1,
            loses_power: true,
            reports: SAYS_IT,
        },
    ]
}

fn entry(sequence: u64) -> Entry {
    Entry {
        sequence,
        payload: Arc::from(format!("{{\"entry\":{sequence}}}")),
    }
}

fn drive_backup(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let lease = submit(&store, 1)?;
            let append = |sequence| {
                block_on(store.append(
                    lease.clone(),
                    invocation(1),
                    vec![entry(sequence)],
                    Durability::Synced,
                ))
                .map(|_| say!(mouth, "entry {sequence}"))
            };
            append(1)?;
            append(2)?;
            block_on(store.backup(dir.join(BACKUP)))?;
            say!(mouth, "backup");
            append(3)
        })
    })
}

/// A backup that was acknowledged is whole; one that is there under its name is whole in any case.
fn check_backup(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    is_whole(&store)?;
    let said = after.facts.numbers("entry").into_iter().max().unwrap_or(0);
    let there = journal(&store, invocation(1))?.len() as u64;
    ensure!(
        there >= said,
        "entry {said} was acknowledged, {there} are there"
    );
    drop(store);
    let backup = dir.join(BACKUP);
    if after.facts.has("backup") {
        ensure!(
            backup.exists(),
            "the backup was acknowledged and is not there"
        );
    }
    if backup.exists() {
        let restored = dir.join("restored");
        let state = state_dir(&restored);
        std::fs::create_dir_all(&state)?;
        std::fs::copy(&backup, state.join("otto.db"))?;
        let store = open(&restored, "restored").context("open the backup")?;
        is_whole(&store)?;
        let entries = block_on(store.read(invocation(1)))?;
        ensure!(
            entries == [entry(1), entry(2)],
            "the backup holds {entries:?}"
        );
    }
    Ok(())
}

fn drive_audit(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            for number in 1..=40 {
                let record = AuditRecord {
                    at: NOON,
                    text: Arc::from(format!("{{\"granted\":{number}}}")),
                };
                let head = block_on(store.append_audit(vec![record], Durability::Synced))?;
                say!(mouth, "audit {} {}", head.sequence, hexadecimal(&head.hash));
            }
            Ok(())
        })
    })
}

/// The last acknowledged end of the log is an anchor that the log still meets.
fn check_audit(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    is_whole(&store)?;
    let Some(last) = after.facts.after("audit").last() else {
        return Ok(());
    };
    let sequence: u64 = last.split(' ').next().unwrap_or_default().parse()?;
    let found = block_on(store.read_audit(sequence - 1, 1))?;
    let hash = found.first().map(|entry| hexadecimal(&entry.hash));
    ensure!(
        hash.as_deref() == last.split(' ').nth(1),
        "record {sequence} of the audit log is not the one that was acknowledged"
    );
    Ok(())
}

/// The records of the audit log that the retention scenario begins with.
const RECORDS: u64 = 200;
/// Of these, how many go, and in how many steps.
const GOING: u64 = 120;
const STEPS: u64 = 4;

fn prepare_trim(dir: &Path) -> Result<()> {
    let store = open(dir, "before")?;
    let record = |number| AuditRecord {
        at: NOON,
        text: Arc::from(format!(
            "{{\"granted\":{number},\"of\":\"{}\"}}",
            "x".repeat(200)
        )),
    };
    block_on(store.append_audit((1..=RECORDS).map(record).collect(), Durability::Synced))?;
    Ok(())
}

fn drive_trim(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            for step in 1..=STEPS {
                let sequence = step * GOING / STEPS;
                let found = block_on(store.read_audit(sequence - 1, 1))?;
                let hash = found.first().map(|entry| entry.hash).unwrap_or_default();
                let through = AuditHead { sequence, hash };
                if let AuditTrim::Done(_) = block_on(store.trim_audit(through, NOON))? {
                    say!(mouth, "trimmed {sequence}");
                }
            }
            Ok(())
        })
    })
}

/// The log is whole from where it begins; it begins where a step has ended, and not before one that was acknowledged.
fn check_trim(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    is_whole(&store)?;
    let AuditCheck::Whole(span) = block_on(store.check_audit(None))? else {
        bail!("the audit log is not whole");
    };
    let begins_after = span.begins_after.sequence;
    ensure!(
        begins_after <= GOING && begins_after.is_multiple_of(GOING / STEPS),
        "it begins after record {begins_after}, where no step has ended"
    );
    let steps = begins_after / (GOING / STEPS);
    ensure!(
        span.end.sequence == RECORDS + steps,
        "{steps} steps were made, and it ends at {}",
        span.end.sequence
    );
    let said = after.facts.numbers("trimmed").into_iter().max();
    ensure!(
        begins_after >= said.unwrap_or(0),
        "step {said:?} was acknowledged, it begins after {begins_after}"
    );
    let first = block_on(store.read_audit(0, 1))?;
    ensure!(
        first.first().map(|entry| entry.sequence) == Some(begins_after + 1),
        "the first record is {first:?}"
    );
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    otto::core::store_rules::artifact_name::hex(bytes)
}
