//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "otto",
    version,
    about = "A runtime for AI agents: bounded money, bounded power, nothing lost",
    disable_help_subcommand = true,
    after_help = AFTER_HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Start here:
  otto demo            watch an agent work, without a key and without a network
  otto init            write a first agent into .otto/agents/
  otto run AGENT TASK  let an agent work on a task

Exit codes:
  0 completed   2 usage or configuration   3 budget exhausted   4 deadline
  5 refused or not enabled   6 provider failed   7 cancelled   1 anything else";

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The project directory, which holds `.otto/` [default: $OTTO_PROJECT, else the current directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Print one JSON object per line, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch an agent write a report on a directory; needs no key and no network
    Demo(commands::demo::Demo),
    /// Write a first agent file, with comments
    Init(commands::init::Init),
    /// Let an agent work on a task
    Run(commands::run::Run),
    /// Take a session up again that was interrupted
    Resume(commands::resume::Resume),
    /// List the agents
    Agents(commands::agents::Agents),
    /// Check every configuration file
    Check(commands::check::Check),
    /// List the tools that agents can use
    Tools(commands::tools::Tools),
    /// List the sessions, newest first
    Sessions(commands::sessions::Sessions),
    /// Show a session: what was asked, done, answered and spent
    Show(commands::show::Show),
    /// Show what was spent
    Usage(commands::usage::Usage),
    /// Show what a task could cost, before anything is spent
    Plan(commands::plan::Plan),
    /// Show the models and what they cost
    Prices(commands::prices::Prices),
    /// Test the masking of secrets, or clean a past session
    Redact(commands::redact::Redact),
    /// Serve a scripted model on this machine, for tests and trials
    Sim(commands::sim::Sim),
    /// Serve agents over HTTP
    Serve(commands::serve::Serve),
    /// Ask a running session or invocation to end, in whichever process it runs
    Cancel(commands::cancel::Cancel),
    /// Stop everything, now and until it is lifted
    Kill(commands::kill::Kill),
    /// Show the audit log, or what audit mode let pass
    Audit(commands::audit::Audit),
    /// Check everything that is stored, and repair what can be repaired safely
    Verify(commands::verify::Verify),
    /// Copy the database to a file while it is in use, and verify the copy
    Backup(commands::backup::Backup),
    /// Examine this machine and this project
    Doctor(commands::doctor::Doctor),
    /// Explain the configuration, or print the schema of the agent file
    Config(commands::config::Config),
}

impl Command {
    /// What is logged where `OTTO_LOG` is not set: a command that talks to a person has said it all, a server
    /// says what it does.
    pub(crate) const fn default_log(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            _ => "off",
        }
    }
}
