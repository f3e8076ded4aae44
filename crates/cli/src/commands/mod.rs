//! The commands: arguments, help text and behavior of one command are in one file.

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
mod earlier;
pub(crate) mod init;
pub(crate) mod kill;
mod named;
mod parked;
pub(crate) mod plan;
pub(crate) mod prices;
pub(crate) mod redact;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod sim;
pub(crate) mod tools;
pub(crate) mod usage;
pub(crate) mod verify;
mod watch;

use crate::Performed;
use crate::args::Command;
use crate::context::Context;

/// Performs a command.
pub(crate) fn perform(command: Command, context: &mut Context) -> Performed {
    match command {
        Command::Demo(command) => command.perform(context),
        Command::Init(command) => command.perform(context),
        Command::Run(command) => command.perform(context),
        Command::Resume(command) => command.perform(context),
        Command::Agents(command) => command.perform(context),
        Command::Check(command) => command.perform(context),
        Command::Tools(command) => command.perform(context),
        Command::Sessions(command) => command.perform(context),
        Command::Show(command) => command.perform(context),
        Command::Usage(command) => command.perform(context),
        Command::Prices(command) => command.perform(context),
        Command::Plan(command) => command.perform(context),
        Command::Redact(command) => command.perform(context),
        Command::Sim(command) => command.perform(context),
        Command::Serve(command) => command.perform(context),
        Command::Cancel(command) => command.perform(context),
        Command::Kill(command) => command.perform(context),
        Command::Audit(command) => command.perform(context),
        Command::Verify(command) => command.perform(context),
        Command::Backup(command) => command.perform(context),
        Command::Doctor(command) => command.perform(context),
        Command::Config(command) => command.perform(context),
    }
}
