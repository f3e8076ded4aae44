//! Scopes: what usage is added up by, and where limits stand.
//!
//! Invariant: the text of a [`Scope`] names it uniquely; stores use it as a key.

use std::fmt;

use crate::agent::{Limit, Origin};
use crate::{AgentName, BudgetName, InvocationId, Money, SessionId, UtcDay, WorkflowId};

/// What a request asks to be added up by. The ledger resolves days with the store's clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeKey {
    /// One invocation.
    Invocation(InvocationId),
    /// All invocations of a session.
    Session(SessionId),
    /// All invocations of an agent on one UTC day.
    Agent(AgentName),
    /// All invocations of a workflow.
    Workflow(WorkflowId),
    /// Everything that draws on a named budget.
    Budget(BudgetName, Period),
    /// Everything on one UTC day.
    Day,
}

/// When a named budget begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// With each UTC day.
    Day,
    /// Never: once it is spent, it is spent.
    Ever,
}

impl ScopeKey {
    /// The account of this key on the day `today`.
    #[must_use]
    pub fn on(&self, today: UtcDay) -> Scope {
        match self {
            Self::Invocation(id) => Scope::Invocation(*id),
            Self::Session(id) => Scope::Session(*id),
            Self::Agent(name) => Scope::Agent(name.clone(), today),
            Self::Workflow(id) => Scope::Workflow(*id),
            Self::Budget(name, Period::Day) => Scope::Budget(name.clone(), Some(today)),
            Self::Budget(name, Period::Ever) => Scope::Budget(name.clone(), None),
            Self::Day => Scope::Day(today),
        }
    }
}

/// One account of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One invocation.
    Invocation(InvocationId),
    /// One session.
    Session(SessionId),
    /// One agent on one UTC day.
    Agent(AgentName, UtcDay),
    /// One workflow.
    Workflow(WorkflowId),
    /// One named budget, on one UTC day or for ever.
    Budget(BudgetName, Option<UtcDay>),
    /// Everything on one UTC day.
    Day(UtcDay),
}

impl fmt::Display for Scope {
    /// `invocation 0190...`, `agent reviewer on 2026-11-23`, `day 2026-11-23`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invocation(id) => write!(f, "invocation {id}"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Agent(name, day) => write!(f, "agent {name} on {day}"),
            Self::Workflow(id) => write!(f, "workflow {id}"),
            Self::Budget(name, Some(day)) => write!(f, "budget {name} on {day}"),
            Self::Budget(name, None) => write!(f, "budget {name}"),
            Self::Day(day) => write!(f, "day {day}"),
        }
    }
}

/// The limits a request is measured against in one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeLimits {
    /// The scope.
    pub scope: ScopeKey,
    /// Most money, if limited here.
    pub cost: Option<Limit<Money>>,
    /// Most tokens (prompt and output), if limited here.
    pub tokens: Option<Limit<u64>>,
}

/// A resource that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Money.
    Cost,
    /// Prompt and output tokens.
    Tokens,
    /// Turns of an invocation.
    Turns,
}

/// An amount of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Money.
    Cost(Money),
    /// Tokens.
    Tokens(u64),
    /// Turns.
    Turns(u64),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cost(money) => money.fmt(f),
            Self::Tokens(count) => write!(f, "{count} tokens"),
            Self::Turns(count) => write!(f, "{count} turns"),
        }
    }
}

/// Why something was not allowed: the limit that it would have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The scope whose limit is in the way.
    pub scope: Scope,
    /// What is limited.
    pub resource: Resource,
    /// The limit.
    pub limit: Amount,
    /// Already spent in the scope.
    pub spent: Amount,
    /// Held by calls in flight.
    pub held: Amount,
    /// What the refused call would have needed at least.
    pub needed: Amount,
    /// Where the limit was set.
    pub origin: Origin,
    /// The scope was latched shut because a provider billed more than was held.
    pub latched: bool,
}

impl Denial {
    /// Whether something is in flight without which the call would fit: worth waiting for.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        let in_flight = match self.held {
            Amount::Cost(held) => held > Money::ZERO,
            Amount::Tokens(held) | Amount::Turns(held) => held > 0,
        };
        let fits = |spent: u64, needed: u64, limit: u64| {
            spent.checked_add(needed).is_some_and(|sum| sum <= limit)
        };
        in_flight
            && !self.latched
            && match (self.spent, self.needed, self.limit) {
                (Amount::Cost(spent), Amount::Cost(needed), Amount::Cost(limit)) => fits(
                    spent.picodollars(),
                    needed.picodollars(),
                    limit.picodollars(),
                ),
                (Amount::Tokens(spent), Amount::Tokens(needed), Amount::Tokens(limit)) => {
                    fits(spent, needed, limit)
                }
                _ => false,
            }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.resource {
            Resource::Cost => "cost",
            Resource::Tokens => "token",
            Resource::Turns => "turn",
        };
        write!(
            f,
            "{what} limit of {} reached in {}: {} spent, {} held, {} needed for the next call; limit set by {}",
            self.limit, self.scope, self.spent, self.held, self.needed, self.origin
        )?;
        if self.latched {
            f.write_str(" (scope latched: the provider billed more than was held)")?;
        }
        Ok(())
    }
}
