//! `cargo xtask coverage`: how much of the core its tests reach, measured with `cargo tarpaulin`.
//!
//! The core is what decides: money, the machine, the journal, policy, the rules of the stores. The rules of the
//! stores are tested by the conformance suite, which the store in memory runs.
//!
//! Invariant: it fails below the share that the requirements name.

use anyhow::{Context, Result, bail};

use crate::shell;

/// Requirement "Leading indicators": above 80 % for core modules.
const LEAST_PERCENT: &str = "80";

pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("`coverage` takes no arguments, got `{arg}`");
    }
    shell::cargo(&[
        "tarpaulin",
        "--engine",
        "llvm",
        "--skip-clean",
        "--target-dir",
        "target/coverage",
        "--packages",
        "otto-core",
        "--packages",
        "otto-store-memory",
        "--include-files",
        "crates/core/src/*",
        "--timeout",
        "900",
        "--fail-under",
        LEAST_PERCENT,
    ])
    .context("measure the coverage; `cargo install cargo-tarpaulin` installs the tool")
}
