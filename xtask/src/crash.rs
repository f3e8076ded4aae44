//! `cargo xtask crash`: kill points, injected faults and power losses.
//!
//! `--all` takes every point with every injection; an ordinary run takes a fixed part of them.

use anyhow::Result;

use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<()> {
    // The command that is killed lies beside the program that kills it.
    shell::cargo(&["build", "--package", "otto-cli", "--package", "otto-crash"])?;
    let mut command = vec!["run", "--package", "otto-crash", "--"];
    command.extend(args.iter().map(String::as_str));
    shell::cargo(&command)
}
