//! Which scopes an invocation's model calls are held in, and under which limits.
//!
//! Invariant: the daily ceiling is always among them.

use std::sync::Arc;

use otto_core::agent::{Budgets, Limit};
use otto_core::ledger::{ScopeKey, ScopeLimits};
use otto_core::{AgentName, Money};

use crate::Ids;

/// Limits that the operator set for whole scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// Everything on one UTC day.
    pub daily_cost: Limit<Money>,
    /// Each session.
    pub session: Budgets,
    /// Each agent on one UTC day, by name.
    pub agents: Vec<(AgentName, Budgets)>,
    /// Each workflow.
    pub workflow: Budgets,
    /// Each invocation; agents and tasks can only be tighter.
    pub invocation: Budgets,
}

impl Ceilings {
    /// The default ceiling of the day and nothing else.
    #[must_use]
    pub fn daily(limit: Limit<Money>) -> Self {
        Self {
            daily_cost: limit,
            session: Budgets::default(),
            agents: Vec::new(),
            workflow: Budgets::default(),
            invocation: Budgets::default(),
        }
    }

    /// The scopes of one invocation, from the narrowest to the widest.
    pub(crate) fn scopes(&self, ids: &Ids, agent: &AgentName, own: &Budgets) -> Vec<ScopeLimits> {
        let agent_day = self
            .agents
            .iter()
            .find(|(name, _)| name == agent)
            .map(|(_, limits)| limits);
        let mut scopes = vec![
            of(ScopeKey::Invocation(ids.invocation), own),
            of(ScopeKey::Session(ids.session), &self.session),
            of(
                ScopeKey::Agent(agent.clone()),
                agent_day.unwrap_or(&Budgets::default()),
            ),
        ];
        if let Some(workflow) = ids.workflow {
            scopes.push(of(ScopeKey::Workflow(workflow), &self.workflow));
        }
        scopes.push(ScopeLimits {
            scope: ScopeKey::Day,
            cost: Some(self.daily_cost.clone()),
            tokens: None,
        });
        scopes
    }
}

fn of(scope: ScopeKey, limits: &Budgets) -> ScopeLimits {
    ScopeLimits {
        scope,
        cost: limits.cost.clone(),
        tokens: limits.tokens.clone(),
    }
}

/// The node name that leases carry: unique per process, so that a restart is a takeover.
pub(crate) type NodeName = Arc<str>;
