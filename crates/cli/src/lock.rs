//! The lock of this process: taken by every command that runs agents, before its first thread.
//!
//! A command that runs agents asks for its runtime with [`locked_runtime`] instead of [`Context::runtime`];
//! there is nothing else to remember. The lock forbids to start and to end programs for good. A command that
//! has to do that (to show what a crash does, say) does not run agents in its own process: it starts `otto` once
//! more and lets the child lock itself.

use otto::config::OperatorConfig;
use otto::{LockConfig, LockError, lock_main};
use tokio::runtime::Runtime;

use crate::context::Context;
use crate::error::Failure;
use crate::output::{Style, To};

/// Locks this process into the operator's state and configuration and starts a runtime.
pub(crate) fn locked_runtime(
    context: &mut Context,
    operator: &OperatorConfig,
) -> Result<Runtime, Failure> {
    let config = otto::lock_config(operator, &context.project, &context.environment)?;
    lock(context, &config)?;
    context.runtime()
}

/// Locks this process. A kernel that cannot do it confines no tool either, so none will run; the command goes
/// on, for agents without tools, and says so.
fn lock(context: &mut Context, config: &LockConfig) -> Result<(), Failure> {
    match lock_main(config) {
        Ok(_) => Ok(()),
        Err(error @ (LockError::Kernel(_) | LockError::Boot(_))) => {
            let painter = context.out.painter(To::Progress);
            let line = format!(
                "{} {error}; no tool can run on this host, see `otto doctor`",
                painter.paint(Style::Warn, "warning:")
            );
            context.out.line(To::Progress, &line);
            Ok(())
        }
        Err(error) => Err(Failure::doing("start", &error)),
    }
}
