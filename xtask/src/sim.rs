//! `cargo xtask sim`: the seeded simulator.

use anyhow::Result;

use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut command = vec!["run", "--package", "otto-sim", "--bin", "otto-sim", "--"];
    command.extend(args.iter().map(String::as_str));
    shell::cargo(&command)
}
