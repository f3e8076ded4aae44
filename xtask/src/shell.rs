//! Running commands and saying what runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies below the root")
        .to_owned()
}

/// Runs `cargo` with these arguments in the root; the output goes through.
pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    cargo_with(args, &[])
}

/// Runs `cargo` with these arguments and these environment variables.
pub(crate) fn cargo_with(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    println!("$ cargo {}", args.join(" "));
    let begun = Instant::now();
    let status = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root())
        .status()
        .context("start cargo")?;
    println!("  ({:.1} s)", begun.elapsed().as_secs_f64());
    if !status.success() {
        bail!("`cargo {}` failed: {status}", args.join(" "));
    }
    Ok(())
}

/// Builds everything as the tests have it; where that is done already it costs a look.
pub(crate) fn build() -> Result<()> {
    cargo(&["build", "--workspace", "--all-targets"])
}

/// A program of the workspace, as [`build`] built it. It lies beside this one; `cargo run` would build what is
/// below it once more, with the features that it alone needs.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("find out where this program lies")?;
    Ok(this.with_file_name(name))
}

/// Builds, and runs a program of the workspace in the root; the output goes through.
pub(crate) fn run_built(name: &str, args: &[&str]) -> Result<()> {
    build()?;
    println!("$ {name} {}", args.join(" "));
    let begun = Instant::now();
    let status = Command::new(built(name)?)
        .args(args)
        .current_dir(root())
        .status()
        .with_context(|| format!("start {name}"))?;
    println!("  ({:.1} s)", begun.elapsed().as_secs_f64());
    if !status.success() {
        bail!("`{name} {}` failed: {status}", args.join(" "));
    }
    Ok(())
}

/// Runs `cargo` and returns what it printed.
pub(crate) fn cargo_output(args: &[&str]) -> Result<Vec<u8>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!(
            "`cargo {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}
