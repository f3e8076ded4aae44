//! Which scopes an invocation's model calls are held in, and under which limits.
//!
//! Invariant: the daily ceiling is always among them.

use std::sync::Arc;

use otto_core::agent::{Budgets, Limit};
use otto_core::invocation::InvocationLimits;
use otto_core::ledger::{Period, ScopeKey, ScopeLimits};
use otto_core::{AgentName, BudgetName, Money};

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
    /// Named budgets that several agents draw on.
    pub shared: Vec<SharedBudget>,
}

/// A named budget that several agents draw on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedBudget {
    /// Its name.
    pub name: BudgetName,
    /// When it begins anew.
    pub period: Period,
    /// Who draws on it; `None`: every agent.
    pub agents: Option<Vec<AgentName>>,
    /// Its limits on cost and tokens.
    pub limits: Budgets,
}

impl SharedBudget {
    /// Whether the invocations of an agent draw on it.
    #[must_use]
    pub fn is_for(&self, agent: &AgentName) -> bool {
        self.agents
            .as_ref()
            .is_none_or(|agents| agents.contains(agent))
    }
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
            shared: Vec::new(),
        }
    }

    /// The scopes of one invocation, from the narrowest to the widest.
    pub(crate) fn scopes(&self, ids: &Ids, agent: &AgentName, own: &Budgets) -> Vec<ScopeLimits> {
        let agent_day = self
            .agents
            .iter()
            .find(|(name, _)| name == agent)
            .map(|(_, limits)| limits);
        // As many as there nearly always are: they are kept as long as the invocation.
        let mut scopes = Vec::with_capacity(4);
        scopes.extend([
            of(ScopeKey::Invocation(ids.invocation), own),
            of(ScopeKey::Session(ids.session), &self.session),
            of(
                ScopeKey::Agent(agent.clone()),
                agent_day.unwrap_or(&Budgets::default()),
            ),
        ]);
        if let Some(workflow) = ids.workflow {
            scopes.push(of(ScopeKey::Workflow(workflow), &self.workflow));
        }
        let drawn_on = self.shared.iter().filter(|budget| budget.is_for(agent));
        scopes.extend(drawn_on.map(|budget| {
            let key = ScopeKey::Budget(budget.name.clone(), budget.period);
            of(key, &budget.limits)
        }));
        scopes.push(ScopeLimits {
            scope: ScopeKey::Day,
            cost: Some(self.daily_cost.clone()),
            tokens: None,
        });
        scopes
    }
}

/// The budgets of an invocation with these limits and scopes, as its journal has them.
pub(crate) fn in_force(limits: &InvocationLimits, scopes: &[ScopeLimits]) -> Budgets {
    let own = scopes
        .iter()
        .find(|limits| matches!(limits.scope, ScopeKey::Invocation(_)));
    Budgets {
        time: Some(limits.time.clone()),
        turns: Some(limits.turns.clone()),
        cost: own.and_then(|own| own.cost.clone()),
        tokens: own.and_then(|own| own.tokens.clone()),
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
