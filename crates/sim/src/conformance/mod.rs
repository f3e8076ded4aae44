//! Conformance suites: the meaning of a port, as tests that every implementation passes.
//!
//! A suite is a list of cases over a *world* that the implementation brings: how to open a fresh store, and
//! a clock to turn. It knows nothing of files, processes or databases; what is special to a backend is
//! tested beside it.

mod block_on;
pub mod draw;

pub mod audit;
pub mod blobs;
pub mod store;

pub use block_on::block_on;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// One case of a suite: a name and a test.
pub struct Case<W: ?Sized> {
    /// What it shows, in words.
    pub name: &'static str,
    /// Panics when the implementation does otherwise.
    pub test: fn(&W),
}

/// Runs all cases, each in a world of its own, and names every one that failed.
///
/// # Panics
/// If at least one case failed.
fn run_all<W: ?Sized>(cases: &[Case<W>], mut make: impl FnMut() -> Box<W>) {
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let world = make();
            let panic = catch_unwind(AssertUnwindSafe(|| (case.test)(&*world))).err()?;
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            Some(format!("- {}: {text}", case.name))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} cases failed:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}
