//! `cargo xtask soak-serve`: the server's crash test in a size that the test command has no time for.

use anyhow::{Result, bail};

use crate::shell;

/// A thousand followers through a `kill -9` of the server, and ten thousand idle connections beside an invocation.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask soak-serve");
    }
    let test = [
        "test",
        "--package",
        "otto-cli",
        "--test",
        "it",
        "serve::crash",
        "--",
        "--nocapture",
        "--test-threads=1",
    ];
    shell::cargo_with(
        &test,
        &[("OTTO_SERVE_CLIENTS", "1000"), ("OTTO_SERVE_IDLE", "10000")],
    )
}
