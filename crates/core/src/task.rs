//! What is asked of an agent.
//!
//! Invariant: a task can only narrow the limits of its agent, never widen them.

use std::sync::Arc;

use crate::agent::Budgets;
use crate::{SessionId, WorkflowId};

/// What is asked of an agent: an input, narrower limits, and where the invocation belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskSpec {
    /// The task in words; the first user message. Not empty.
    pub input: Arc<str>,
    /// Limits for this task. Each is effective only where it is tighter than the agent's.
    pub budgets: Budgets,
    /// The session to join; a new one when absent.
    pub session: Option<SessionId>,
    /// The workflow whose budget is drawn on, if any.
    pub workflow: Option<WorkflowId>,
    /// Submitting twice with the same key is one invocation. At most 128 characters.
    pub idempotency_key: Option<Arc<str>>,
}

impl TaskSpec {
    /// A task with this input and no limits of its own.
    #[must_use]
    pub fn new(input: &str) -> Self {
        Self {
            input: Arc::from(input),
            ..Self::default()
        }
    }
}

impl From<&str> for TaskSpec {
    fn from(input: &str) -> Self {
        Self::new(input)
    }
}

impl From<String> for TaskSpec {
    fn from(input: String) -> Self {
        Self::new(&input)
    }
}
