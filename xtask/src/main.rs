//! Project automation, called as `cargo xtask COMMAND`.
//!
//! It runs the project's own checks with public tools only and changes no source file. One file per command.
//!
//! Invariant: `cargo xtask test` checks everything that a change must pass.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on its outputs"
)]

mod bench;
mod coverage;
mod crash;
mod docs;
mod examples;
mod fuzz_http;
mod shell;
mod sim;
mod soak;
mod soak_serve;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--fast]          format, lints, tidy, build, tests, docs, simulation; --fast leaves lints and docs out
  tidy                   layering, purity, headers, words
  docs                   writes the pages that are generated: the configuration reference
  examples               runs every example and compares what it prints
  sim [--seeds N] [--start S]
                         simulates N seeds (default 2000), beginning at S
  soak [--seconds N] [--agents N] [--seed N]
                         a worker under load and faults (default 60 s, 100 agents): memory, leftovers
  fuzz-http [--seconds N] [--seed N]
                         requests made from the OpenAPI document, with schemathesis, against the real binary
  soak-serve             a thousand followers through a kill of the server, ten thousand idle connections
  crash [--all] [--scenario NAME] [--inject KIND] [--point N] [--power]
                         kills at every system call, injects faults, cuts the power; checks what is left
  coverage               how much of the core its tests reach; needs cargo-tarpaulin
  bench [NAME] [ARGS]    runs a benchmark in release mode: invocation, sandbox, store, runtime
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match command.as_str() {
        "test" | "ci" => test::run(&rest),
        "tidy" => tidy::run(),
        "examples" => examples::run(),
        "docs" => docs::write(),
        "sim" => sim::run(&rest),
        "fuzz-http" => fuzz_http::run(&rest),
        "soak-serve" => soak_serve::run(&rest),
        "crash" => crash::run(&rest),
        "bench" => bench::run(&rest),
        "coverage" => coverage::run(&rest),
        "soak" => soak::run(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown command `{other}`\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
