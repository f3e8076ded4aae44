//! The scenarios: what a process does before it dies, and what must hold after a restart.
//!
//! Each has three parts. `prepare` makes the directory that every run begins with, `drive` is what the traced
//! process does in it, `check` restarts on what is left and compares it with what was said. All three use the
//! store, the library or the command as they are; nothing in them knows where the process will die.

pub(crate) mod agents;
mod artifacts;
pub(crate) mod command;
mod files;
mod ledger;
mod switch;
mod upkeep;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use otto::core::port::store::{Entry, Journal, StoreError};
use otto::core::store_rules::ManualClock;
use otto::{InvocationId, Timestamp};
pub(super) use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, StoreConfig};

use crate::said::{Facts, Mouth, say};

/// One scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Makes the directory that every run begins with.
    pub(crate) prepare: fn(&Path) -> Result<()>,
    /// What the traced process does.
    pub(crate) drive: fn(&Path, &Mouth) -> Result<()>,
    /// What must hold afterwards, however the process ended. May say more facts while it goes on.
    pub(crate) check: fn(&Path, &Aftermath) -> Result<()>,
    /// What the traced process finds in its environment, made anew for each run.
    pub(crate) environment: fn() -> Vec<(&'static str, String)>,
    /// Which of its points an ordinary run takes: every n-th.
    pub(crate) stride: u64,
    /// Whether the states of a power loss are built from it: only what runs in one process.
    pub(crate) loses_power: bool,
    /// The exit codes with which the process may report that a call has failed, or that a child of it has died.
    /// A panic is never among them.
    pub(crate) reports: RangeInclusive<i32>,
}

/// Of a scenario that says what went wrong as a fact and ends well.
pub(super) const SAYS_IT: RangeInclusive<i32> = 0..=0;

/// What is known after the process has ended.
pub(crate) struct Aftermath {
    /// What was said, in order.
    pub(crate) facts: Facts,
    /// Where whatever goes on says more.
    pub(crate) said: PathBuf,
    /// In which life of the machine the restart happens: a power loss ends one.
    pub(crate) boot: &'static str,
}

/// The life of the machine in which the scenarios run.
pub(super) const BOOT: &str = "the boot of the run";

impl Aftermath {
    pub(crate) fn read(said: &Path) -> Result<Self> {
        Ok(Self {
            facts: Facts::read(said)?,
            said: said.to_owned(),
            boot: BOOT,
        })
    }
}

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    [
        ledger::scenarios(),
        artifacts::scenarios(),
        upkeep::scenarios(),
        switch::scenarios(),
        files::scenarios(),
        agents::scenarios(),
        command::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn find(name: &str) -> Result<Scenario> {
    all()
        .into_iter()
        .find(|scenario| scenario.name == name)
        .with_context(|| format!("there is no scenario `{name}`"))
}

/// 2026-11-23, noon UTC: the clock of the stores stands still, so no day rolls over in a run.
pub(super) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

pub(crate) fn state_dir(dir: &Path) -> PathBuf {
    dir.join("state")
}

/// Opens the store below `dir` as a process of this name.
pub(super) fn open(dir: &Path, node: &str) -> Result<EmbeddedStore, StoreError> {
    open_in(dir, node, BOOT)
}

fn open_in(dir: &Path, node: &str, boot: &str) -> Result<EmbeddedStore, StoreError> {
    let mut config = StoreConfig::new(state_dir(dir), node);
    config.clock = Arc::new(ManualClock::new(NOON));
    config.boot = Arc::from(boot);
    EmbeddedStore::open(config)
}

/// Opens the store after a crash: there must be no obstacle.
pub(super) fn reopen(dir: &Path, after: &Aftermath) -> Result<EmbeddedStore> {
    open_in(dir, "successor", after.boot).context("open the store after the crash")
}

/// Says the error of a store and ends; injected faults lead here. It must say what to do.
pub(super) fn told(mouth: &Mouth, result: Result<(), StoreError>) -> Result<()> {
    if let Err(error) = result {
        let text = error.to_string();
        ensure!(
            text.contains(';'),
            "the error does not say what to do: {text}"
        );
        say!(mouth, "error {}", text.replace('\n', " "));
    }
    Ok(())
}

/// The whole store is consistent: database, sums, audit log, artifacts.
pub(super) fn is_whole(store: &EmbeddedStore) -> Result<()> {
    let report = block_on(store.verify(None))?;
    ensure!(report.findings.is_empty(), "verify: {:?}", report.findings);
    let scrub = block_on(store.checkpointer().scrub())?;
    ensure!(scrub.is_clean(), "scrub: {scrub:?}");
    Ok(())
}

/// What is in a journal; nothing if its invocation was never recorded.
pub(super) fn journal(store: &EmbeddedStore, invocation: InvocationId) -> Result<Vec<Entry>> {
    match block_on(store.read(invocation)) {
        Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// A scenario that begins before there is anything.
pub(super) fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

/// A scenario that begins with an empty database.
pub(super) fn empty_store(dir: &Path) -> Result<()> {
    open(dir, "before")?;
    Ok(())
}

pub(super) fn no_environment() -> Vec<(&'static str, String)> {
    Vec::new()
}
