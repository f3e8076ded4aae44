//! What the first model call of a task would ask the ledger for, without recording or spending anything.
//!
//! The machine itself says it: a fresh one is started with what an invocation would be started with, and its first
//! wish is taken for the answer. So a plan cannot differ from what happens.

use otto_core::agent::AgentConfig;
use otto_core::invocation::{Effect, Event, Invocation, InvocationSpec};
use otto_core::ledger::Quote;
use otto_core::task::TaskSpec;

use crate::engine::Engine;
use crate::{Ids, InvokeError, redaction};

/// An invocation that was not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What it would be started with.
    pub spec: InvocationSpec,
    /// What its first model call would ask for.
    pub quote: Quote,
}

impl Engine {
    /// What an invocation of `agent` on `task` would begin with.
    ///
    /// # Errors
    /// When it could not begin: an empty task, an unknown model or tool.
    pub fn preview(&self, agent: &AgentConfig, task: &TaskSpec) -> Result<Preview, InvokeError> {
        if task.input.trim().is_empty() {
            return Err(InvokeError::EmptyTask {
                agent: agent.name.clone(),
            });
        }
        let model = self.model_of(agent)?;
        let shared = self.shared();
        let now = shared.clock.now();
        let ids = Ids {
            workflow: task.workflow,
            session: task.session.unwrap_or_else(|| shared.ids.session(now)),
            task: shared.ids.task(now),
            invocation: shared.ids.invocation(now),
        };
        let budgets = self.effective_budgets(agent, &task.budgets);
        let input = redaction::text(&shared.redactor, &task.input);
        let spec = self.spec(agent, &budgets, &ids, model, input)?;
        let effects = Invocation::default().step(now, Event::Started(spec.clone().into()));
        let asked = effects.into_iter().find_map(|effect| match effect {
            Effect::Reserve { quote, .. } => Some(quote),
            _ => None,
        });
        match asked {
            Some(quote) => Ok(Preview { spec, quote }),
            // Its limits allow not even the asking.
            None => Err(InvokeError::EmptyTask {
                agent: agent.name.clone(),
            }),
        }
    }
}
