//! What a store means: the cases that every implementation of [`Store`] passes.
//!
//! Leases and epochs, idempotency, the order of journal, kill switch and ledger inside a reservation, late
//! and repeated settlements, two sweepers, clocks that jump, days that roll over, restarts at every
//! boundary between two calls, and 64 callers at the limit of one scope.
//!
//! Invariants checked throughout: spent plus held never passes a limit; the usage rows of a day add up to
//! its account; what was acknowledged is there after a restart; a fenced call changes nothing.

mod duplicates;
mod fixture;
mod journal;
mod kill;
mod leases;
mod money;
mod queries;
mod races;
mod random;
mod restarts;

pub use random::history;

use std::sync::Arc;

use otto_core::port::store::Store;
use otto_core::store_rules::ManualClock;

use crate::conformance::{Case, run_all};

/// Where the cases of a store happen.
pub trait World: Sync {
    /// Opens the store of this world as a node: the same rows each time, empty at first. What is open
    /// already stays open, like another process; dropping a handle is that process's end.
    fn open(&self, node: &str) -> Arc<dyn Store>;

    /// The clock of all stores of this world. It stands still until it is set.
    fn clock(&self) -> &ManualClock;
}

/// Runs the suite: `make` brings a new world per case.
///
/// # Panics
/// If the store does otherwise; the message names the cases.
pub fn run(make: impl FnMut() -> Box<dyn World>) {
    run_all(&cases(), make);
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case<dyn World>> {
    [
        leases::CASES,
        journal::CASES,
        money::CASES,
        kill::CASES,
        queries::CASES,
        duplicates::CASES,
        restarts::CASES,
        races::CASES,
        random::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|(name, test)| Case { name, test: *test })
    .collect()
}

/// A case as the parts of the suite list it.
type Entry = (&'static str, fn(&dyn World));
