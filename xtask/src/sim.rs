//! `cargo xtask sim`: the seeded simulator.

use anyhow::Result;

use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    shell::run_built("otto-sim", &args)
}
