//! The contract of a capability.
//!
//! A tool states its name, schema, permissions, side effects and bounds; the loop reads these properties
//! and never special-cases a tool by name. A tool of Otto itself only plans here and runs in a confined
//! worker; a tool of an embedding application runs in process, as trusted code.
//!
//! Invariant: whatever a tool returns is bounded before it reaches the model.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::AgentConfig;
use crate::invocation::{Repeatability, SideEffects};
use crate::policy::{Permissions, RefusedBy, WouldDeny};
use crate::port::BoxFuture;
use crate::port::contexts::ContextData;
use crate::{InvocationId, Money, SessionId, TaskId, ToolCallId, ToolName, WorkflowId};

/// A named capability with a schema, permissions and one function.
pub trait Tool: Send + Sync {
    /// What the tool is. Constant for the life of the value.
    fn definition(&self) -> &ToolDefinition;

    /// Runs one call. `input` is a JSON object as text, not yet validated against the schema beyond that.
    ///
    /// Cancel safety: the future may be dropped at any await when the deadline has passed or the call was
    /// cancelled; a tool with side effects must leave the outside whole at every await.
    ///
    /// # Errors
    /// A [`ToolError`] whose kind says who can act on it: the model, or the operator.
    fn call<'a>(
        &'a self,
        ctx: &'a ToolContext,
        input: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>>;
}

/// What a tool is. There is no default: every tool states every property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolDefinition {
    /// Its name, unique on a ToolBus.
    pub name: ToolName,
    /// What the model reads about it.
    pub description: Arc<str>,
    /// JSON Schema (2020-12) of the input as text; its top is `"type": "object"`.
    pub input_schema: Arc<str>,
    /// The rights each call needs.
    pub permissions: Permissions,
    /// Whether a call changes anything outside.
    pub side_effects: SideEffects,
    /// What to do with a call that was running when Otto died.
    pub repeatability: Repeatability,
    /// A call that takes longer is ended.
    pub timeout: Duration,
    /// Longer output is cut, with a note to the model.
    pub max_output_bytes: usize,
}

/// What a call is told.
#[derive(Clone)]
pub struct ToolContext {
    /// The agent that calls, with its working directory and roots.
    pub agent: Arc<AgentConfig>,
    /// What the invocation was granted; already compared with the tool's needs.
    pub granted: Permissions,
    /// What is left of the invocation's limits, for tools that can choose a cheaper way.
    pub budget: Arc<dyn BudgetGuard>,
    /// Who calls, for logs and traces.
    pub ids: CorrelationIds,
    /// Time left for this call.
    pub time_left: Duration,
    /// Fires when the call is to end early.
    pub cancellation: Arc<dyn Cancellation>,
    /// What the tools of this invocation share; it ends with the invocation.
    pub data: Arc<dyn ContextData>,
    /// Set in the operator's audit mode alone: what `granted` lacks is let through, and told here.
    pub audit: Option<Arc<dyn AuditLog>>,
}

impl fmt::Debug for ToolContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolContext")
            .field("agent", &self.agent.name)
            .field("granted", &self.granted)
            .field("ids", &self.ids)
            .field("time_left", &self.time_left)
            .finish_non_exhaustive()
    }
}

/// The ids that a call is found by: workflow > task > agent > invocation > call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelationIds {
    /// The workflow, if any.
    pub workflow: Option<WorkflowId>,
    /// The session.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The invocation.
    pub invocation: InvocationId,
    /// The provider's id of the call.
    pub call: ToolCallId,
}

/// What an invocation may still spend.
pub trait BudgetGuard: Send + Sync {
    /// Money that the invocation may still spend, or `None` when it has no limit of its own.
    fn cost_left(&self) -> Option<Money>;

    /// Tokens that the invocation may still use, or `None` when it has no limit of its own.
    fn tokens_left(&self) -> Option<u64>;

    /// Time until the invocation's deadline when the call began.
    fn time_left(&self) -> Duration;
}

/// Takes note of what audit mode lets pass.
///
/// The missing permissions of a call are noted where policy is asked, before the call runs; what only comes
/// up while it runs (a host) is noted by whoever lets it pass, before it passes.
pub trait AuditLog: Send + Sync {
    /// Policy would have refused this.
    fn would_deny(&self, what: WouldDeny);
}

/// Tells a running call that it is to end.
pub trait Cancellation: Send + Sync {
    /// Whether the call is to end now.
    fn is_cancelled(&self) -> bool;

    /// Resolves when the call is to end.
    fn cancelled(&self) -> BoxFuture<'_, ()>;
}

/// What a call returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// What the model reads; may be empty.
    pub content: String,
}

/// Who can act on a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolErrorKind {
    /// The model: wrong input, missing file, no match for an edit. Goes back as a tool result.
    ForModel,
    /// Nobody: it was refused, and by whom. Goes back as a tool result, which names the fence.
    Denied(RefusedBy),
    /// It took longer than its limit. Goes back as a tool result.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// The operator: the tool cannot work here at all. Ends the invocation.
    ForOperator,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// Who can act on it.
    pub kind: ToolErrorKind,
    /// What was attempted, on what, and what would work instead. Contains no path outside the grant.
    pub message: String,
}

impl ToolError {
    /// An error that the model can act on.
    #[must_use]
    pub fn for_model(message: impl Into<String>) -> Self {
        Self {
            kind: ToolErrorKind::ForModel,
            message: message.into(),
        }
    }

    /// A refusal.
    #[must_use]
    pub fn denied(by: RefusedBy, message: impl Into<String>) -> Self {
        Self {
            kind: ToolErrorKind::Denied(by),
            message: message.into(),
        }
    }

    /// An error that only the operator can repair.
    #[must_use]
    pub fn for_operator(message: impl Into<String>) -> Self {
        Self {
            kind: ToolErrorKind::ForOperator,
            message: message.into(),
        }
    }
}
