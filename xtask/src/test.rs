//! `cargo xtask test`: everything a change must pass, cheapest first.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{crash, examples, shell, sim, soak, tidy};

/// Cases of each property of `core`.
const PROPERTY_CASES: &str = "20000";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let is_fast = match args {
        [] => false,
        [one] if one == "--fast" => true,
        _ => bail!("usage: cargo xtask test [--fast]"),
    };
    check_tools()?;
    shell::cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    if !is_fast {
        shell::cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])?;
    }
    // The binary first: command-line tests and examples run it.
    shell::build()?;
    shell::cargo(&["test", "--workspace", "--no-fail-fast"])?;
    examples::run()?;
    if !is_fast {
        shell::cargo_with(
            &["doc", "--workspace", "--no-deps"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        )?;
    }
    // Ten times as many random cases of ledger, journal and redactor as above; unoptimized that would take minutes.
    shell::cargo_with(
        &[
            "test",
            "--release",
            "--package",
            "otto-core",
            "--test",
            "it",
        ],
        &[("PROPTEST_CASES", PROPERTY_CASES)],
    )?;
    sim::run(&[])?;
    soak::smoke()?;
    crash::run(&[])?;
    println!("all checks passed");
    Ok(())
}

/// What the build needs beyond Rust, named before the build fails for want of it.
fn check_tools() -> Result<()> {
    let has_compiler = ["cc", "gcc", "clang"].iter().any(|name| {
        Command::new(name)
            .arg("--version")
            .output()
            .is_ok_and(|out| out.status.success())
    });
    if !has_compiler {
        bail!(
            "no C compiler found: SQLite and the TLS library are built from C; on Debian `apt-get install gcc libc6-dev`"
        );
    }
    Ok(())
}
