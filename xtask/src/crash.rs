//! `cargo xtask crash`: kill points, injected faults and power losses.
//!
//! `--all` takes every point with every injection; an ordinary run takes a fixed part of them.

use anyhow::Result;

use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<()> {
    // The command that is killed lies beside the program that kills it.
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    shell::run_built("otto-crash", &args)
}
