//! `otto-sim`: runs seeds of the simulator and says what came of them.
//!
//! `cargo xtask sim --seeds 2000 --start 0`. Exits with 1 when a seed broke a rule.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on its outputs"
)]

use std::process::ExitCode;

use otto_sim::{Options, Summary, run};

/// Seeds between two lines of progress.
const BATCH: u64 = 250;
/// BOUND: how many violations are shown whole.
const SHOWN: usize = 3;

const USAGE: &str = "usage: otto-sim [--seeds N] [--start S]

  --seeds N   how many seeds to run (default 2000)
  --start S   the first seed (default 0); with `--seeds 1`, looks into one seed";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok((start, seeds)) => simulate(start, seeds),
        Err(problem) => {
            eprintln!("error: {problem}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<(u64, u64), String> {
    let (mut start, mut seeds) = (0, 2_000);
    while let Some(arg) = args.next() {
        let target = match arg.as_str() {
            "--seeds" => &mut seeds,
            "--start" => &mut start,
            other => return Err(format!("unknown argument `{other}`")),
        };
        let value = args
            .next()
            .ok_or_else(|| format!("`{arg}` needs a number"))?;
        *target = value
            .parse()
            .map_err(|_| format!("`{arg} {value}`: expected a whole number"))?;
    }
    Ok((start, seeds))
}

fn simulate(start: u64, seeds: u64) -> ExitCode {
    let mut total = Summary::default();
    let mut next = start;
    let end = start.saturating_add(seeds);
    while next < end {
        let until = end.min(next.saturating_add(BATCH));
        let summary = run(next..until, &Options::default());
        for violation in summary
            .violations
            .iter()
            .take(SHOWN.saturating_sub(total.violations.len()))
        {
            println!("{violation}\n");
        }
        total.merge(summary);
        next = until;
        println!(
            "{} of {seeds} seeds, {} invocations, {} failed",
            next - start,
            total.invocations,
            total.violations.len()
        );
    }
    print!("{total}");
    for violation in &total.violations {
        // The panic message of a seed, if any, has been printed where it happened.
        println!(
            "seed {} breaks {}: {}",
            violation.seed,
            violation.rule,
            first_line(&violation.detail)
        );
    }
    println!("{} passed, {} failed", total.passed, total.violations.len());
    if total.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
