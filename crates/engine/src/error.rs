//! Why an invocation could not begin, or why nobody may rely on how it ended.

use std::sync::Arc;
use std::time::Duration;

use otto_core::port::store::StoreError;
use otto_core::{AgentName, InvocationId, ModelId, SessionId, ToolName};

use crate::Report;

/// Why an invocation could not begin. Once it has begun, everything is an outcome, but what Otto itself could not
/// do: stay to the end ([`InvokeError::ShuttingDown`]), or keep an answer ([`InvokeError::NotStored`]).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// Otto is switched off, its default.
    #[error(
        "Otto is not enabled: set OTTO_ENABLED=true, or `enabled: true` in the operator's config.yml"
    )]
    NotEnabled,
    /// The kill switch is thrown.
    #[error("the kill switch is thrown ({reason}): lift it with `otto kill --lift`")]
    Killed {
        /// Why and by whom.
        reason: Arc<str>,
    },
    /// Otto is shutting down.
    #[error("Otto is shutting down")]
    ShuttingDown,
    /// Too many invocations run and wait.
    #[error("busy: {running} invocations run and {waiting} wait; try again in {retry_after:?}")]
    Busy {
        /// Running now.
        running: usize,
        /// Waiting now.
        waiting: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The task says nothing.
    #[error("the task for agent `{agent}` is empty: say what is to be done")]
    EmptyTask {
        /// The agent.
        agent: AgentName,
    },
    /// No price is known for the model.
    #[error(
        "agent `{agent}` uses model `{model}`, which has no known price: only priced models can be held to a budget"
    )]
    UnknownModel {
        /// The agent.
        agent: AgentName,
        /// The model.
        model: ModelId,
    },
    /// The agent lists a tool that is not there.
    #[error("agent `{agent}` lists tool `{tool}`, which is not available here")]
    UnknownTool {
        /// The agent.
        agent: AgentName,
        /// The tool.
        tool: ToolName,
    },
    /// The agent lists a tool that the operator does not allow.
    #[error(
        "agent `{agent}` lists tool `{tool}`, which is not on the operator's allowlist: add it to `tools` in the operator's config.yml, or take it out of the agent file"
    )]
    ToolNotAllowed {
        /// The agent.
        agent: AgentName,
        /// The tool.
        tool: ToolName,
    },
    /// Another live Otto process drives the session.
    #[error("session {session} is driven by another Otto process ({node})")]
    SessionBusy {
        /// The session.
        session: SessionId,
        /// The process.
        node: Arc<str>,
    },
    /// This idempotency key was used before.
    #[error("this idempotency key was used before, for invocation {0}")]
    Duplicate(InvocationId),
    /// This idempotency key was used before, and something else was asked then.
    #[error(
        "this idempotency key was used before, for invocation {0}, which was asked something else; a new request needs a new key"
    )]
    KeyReused(InvocationId),
    /// There is nothing to resume.
    #[error("{what} cannot be resumed: {why}")]
    NotResumable {
        /// The session or invocation.
        what: String,
        /// Why.
        why: String,
    },
    /// It completed, and the store could not keep that: the answer is paid for, and it is in this report and
    /// nowhere else. For the store the invocation has not ended, and whoever takes it up pays for a new answer.
    #[error(
        "invocation {} completed, but its end is not stored ({}): its answer comes with this error and is nowhere else",
        .0.ids.invocation,
        .0.store_error.as_deref().unwrap_or("the store failed")
    )]
    NotStored(Box<Report>),
    /// The store failed.
    #[error("{attempted}")]
    Store {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        source: StoreError,
    },
}
