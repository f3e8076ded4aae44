//! `cargo xtask bench`: benchmarks run the floor beside Otto, interleaved in one run, and print ratios.

use anyhow::Result;

use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<()> {
    // Some figures are those of the built command.
    shell::cargo(&["build", "--release", "--package", "otto-cli"])?;
    let mut command = vec!["run", "--release", "--package", "otto-bench", "--"];
    command.extend(args.iter().map(String::as_str));
    shell::cargo(&command)
}
