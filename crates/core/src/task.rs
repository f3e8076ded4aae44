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

    /// The same task as part of a workflow, whose budget it shares with the others.
    #[must_use]
    pub const fn in_workflow(mut self, workflow: WorkflowId) -> Self {
        self.workflow = Some(workflow);
        self
    }

    /// The same task in a session that exists already: it shares its artifacts and its budget.
    #[must_use]
    pub const fn in_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// The same task with limits of its own; each holds where it is tighter than the agent's.
    #[must_use]
    pub fn limited_to(mut self, budgets: Budgets) -> Self {
        self.budgets = budgets;
        self
    }

    /// The same task with a key: submitted twice with it, it is one invocation. At most 128 characters.
    #[must_use]
    pub fn once_as(mut self, key: &str) -> Self {
        self.idempotency_key = Some(Arc::from(key));
        self
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
