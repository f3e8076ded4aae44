//! `cargo xtask soak`: a minute under load and faults, with a verdict on memory and leftovers.

use anyhow::Result;

use crate::shell;

/// The soak as somebody asks for it: 60 s, optimized.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut command = vec![
        "run",
        "--release",
        "--package",
        "otto-bench",
        "--bin",
        "otto-soak",
        "--",
    ];
    command.extend(args.iter().map(String::as_str));
    shell::cargo(&command)
}

/// A few seconds of it with what was built for the tests.
pub(crate) fn smoke() -> Result<()> {
    shell::run_built("otto-soak", &["--seconds", "12", "--agents", "20"])
}
