//! Benchmarks, called as `cargo xtask bench NAME`.
//!
//! Each benchmark runs the floor (the same work without Otto) and Otto in turn, in one process and one run, and
//! prints medians and ratios: machines are shared and noisy, a ratio survives that.
//!
//! Invariant: a benchmark judges nothing; no test depends on its figures.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod calls;
mod invocation;
mod measure;
mod runtime;
mod sandbox;
mod serve;
mod start;
mod store;
mod table;
mod together;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask bench invocation [--rounds N]
       cargo xtask bench store
       cargo xtask bench sandbox [--brief]
       cargo xtask bench runtime
       cargo xtask bench runtime serve [--rounds N]
";

fn main() -> ExitCode {
    // The launcher of the sandbox is this program started once more.
    let booted = otto::boot();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        // The scripted server in a process of its own, so that its CPU time is not Otto's.
        ["serve", script] => invocation::serve(script),
        ["runtime"] => runtime::run(),
        // Parts whose memory is measured, in a process of their own.
        ["runtime", runtime::IDLE] => runtime::part(runtime::idle),
        ["runtime", runtime::IN_FLIGHT] => runtime::part(runtime::in_flight),
        ["invocation"] => invocation::run(5),
        ["invocation", "--rounds", rounds] => match rounds.parse() {
            Ok(rounds) => invocation::run(rounds),
            Err(_) => Err(anyhow::anyhow!("--rounds needs a number")),
        },
        ["store"] => store::run(),
        ["runtime", "serve"] => serve::run(5),
        ["runtime", "serve", "--rounds", rounds] => match rounds.parse() {
            Ok(rounds) => serve::run(rounds),
            Err(_) => Err(anyhow::anyhow!("--rounds needs a number")),
        },
        ["sandbox"] => sandbox::run(&booted, sandbox::Effort::Full),
        ["sandbox", "--brief"] => sandbox::run(&booted, sandbox::Effort::Brief),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
