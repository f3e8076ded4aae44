//! The `otto` command.
//!
//! It reads arguments, calls the library and prints; it decides nothing. One file per command is in
//! `commands/`, everything printed goes through `output/`, and `error.rs` is the one place that knows exit codes.
//!
//! Invariant: nothing here prints around `output`, so a closed pipe, a missing terminal and hostile text are
//! handled once.

mod args;
mod commands;
mod context;
mod error;
mod lock;
mod log;
mod open;
mod output;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::error::Failure;

fn main() -> ExitCode {
    // The launcher of the sandbox is this binary started once more: it must come before any thread, any
    // configuration and any secret.
    let booted = otto::boot();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error),
    };
    let mut context = match Context::new(&cli.global, booted) {
        Ok(context) => context,
        Err(early) => return early.report(),
    };
    let performed = log::start(&context.environment, cli.command.default_log()).and_then(|log| {
        context.log = log;
        commands::perform(cli.command, &mut context)
    });
    let code = match performed {
        Ok(code) => code,
        Err(failure) => context.out.failure(&failure),
    };
    context.log.finish();
    context.out.finish(code).into()
}

/// What a command comes to: the exit code, or what went wrong.
type Performed = Result<error::Code, Failure>;
