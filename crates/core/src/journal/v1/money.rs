//! Records of version 1 about money: grants, denials, scopes, usage.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::value::{LimitRecord, Picodollars, Text, Word, arc};
use crate::agent::Origin;
use crate::journal::JournalError;
use crate::ledger::{Amount, Denial, Grant, Period, Resource, Scope, ScopeKey, ScopeLimits};
use crate::model::Usage;
use crate::{AgentName, BudgetName, InvocationId, SessionId, UtcDay, WorkflowId};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantRecord {
    max_output_tokens: u64,
    held_cost: Picodollars,
    held_tokens: u64,
}

impl GrantRecord {
    pub(super) const fn of(grant: &Grant) -> Self {
        Self {
            max_output_tokens: grant.max_output_tokens,
            held_cost: Picodollars(grant.held_cost),
            held_tokens: grant.held_tokens,
        }
    }

    pub(super) const fn restore(self) -> Grant {
        Grant {
            max_output_tokens: self.max_output_tokens,
            held_cost: self.held_cost.0,
            held_tokens: self.held_tokens,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DenialRecord<'a> {
    scope: ScopeRecord,
    resource: Word<Resource>,
    limit: AmountRecord,
    spent: AmountRecord,
    held: AmountRecord,
    needed: AmountRecord,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    latched: bool,
}

impl<'a> DenialRecord<'a> {
    pub(super) fn of(denial: &'a Denial) -> Self {
        Self {
            scope: ScopeRecord::of(&denial.scope),
            resource: Word(denial.resource),
            limit: AmountRecord::of(denial.limit),
            spent: AmountRecord::of(denial.spent),
            held: AmountRecord::of(denial.held),
            needed: AmountRecord::of(denial.needed),
            origin: Cow::Borrowed(&denial.origin.0),
            latched: denial.latched,
        }
    }

    pub(super) fn restore(self) -> Denial {
        Denial {
            scope: self.scope.restore(),
            resource: self.resource.0,
            limit: self.limit.restore(),
            spent: self.spent.restore(),
            held: self.held.restore(),
            needed: self.needed.restore(),
            origin: Origin(arc(&self.origin)),
            latched: self.latched,
        }
    }
}

/// An account. Days are counted from 1970-01-01.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ScopeRecord {
    Invocation {
        id: Text<InvocationId>,
    },
    Session {
        id: Text<SessionId>,
    },
    Agent {
        name: Text<AgentName>,
        day: u32,
    },
    Workflow {
        id: Text<WorkflowId>,
    },
    Budget {
        name: Text<BudgetName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        day: Option<u32>,
    },
    Day {
        day: u32,
    },
}

impl ScopeRecord {
    fn of(scope: &Scope) -> Self {
        match scope {
            Scope::Invocation(id) => Self::Invocation { id: Text(*id) },
            Scope::Session(id) => Self::Session { id: Text(*id) },
            Scope::Agent(name, day) => Self::Agent {
                name: Text(name.clone()),
                day: day.0,
            },
            Scope::Workflow(id) => Self::Workflow { id: Text(*id) },
            Scope::Budget(name, day) => Self::Budget {
                name: Text(name.clone()),
                day: day.map(|day| day.0),
            },
            Scope::Day(day) => Self::Day { day: day.0 },
        }
    }

    fn restore(self) -> Scope {
        match self {
            Self::Invocation { id } => Scope::Invocation(id.0),
            Self::Session { id } => Scope::Session(id.0),
            Self::Agent { name, day } => Scope::Agent(name.0, UtcDay(day)),
            Self::Workflow { id } => Scope::Workflow(id.0),
            Self::Budget { name, day } => Scope::Budget(name.0, day.map(UtcDay)),
            Self::Day { day } => Scope::Day(UtcDay(day)),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AmountRecord {
    Picodollars(Picodollars),
    Tokens(u64),
    Turns(u64),
}

impl AmountRecord {
    const fn of(amount: Amount) -> Self {
        match amount {
            Amount::Cost(money) => Self::Picodollars(Picodollars(money)),
            Amount::Tokens(count) => Self::Tokens(count),
            Amount::Turns(count) => Self::Turns(count),
        }
    }

    const fn restore(self) -> Amount {
        match self {
            Self::Picodollars(money) => Amount::Cost(money.0),
            Self::Tokens(count) => Amount::Tokens(count),
            Self::Turns(count) => Amount::Turns(count),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeLimitsRecord<'a> {
    scope: ScopeKeyRecord,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    cost: Option<LimitRecord<'a, Picodollars>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tokens: Option<LimitRecord<'a, u64>>,
}

impl<'a> ScopeLimitsRecord<'a> {
    pub(super) fn of(limits: &'a ScopeLimits) -> Self {
        Self {
            scope: ScopeKeyRecord::of(&limits.scope),
            cost: limits
                .cost
                .as_ref()
                .map(|limit| LimitRecord::of(limit, Picodollars)),
            tokens: limits
                .tokens
                .as_ref()
                .map(|limit| LimitRecord::of(limit, |tokens| tokens)),
        }
    }

    pub(super) fn restore(self) -> Result<ScopeLimits, JournalError> {
        Ok(ScopeLimits {
            scope: self.scope.restore(),
            cost: self
                .cost
                .map(|limit| limit.restore(|cost| Ok(cost.0)))
                .transpose()?,
            tokens: self.tokens.map(|limit| limit.restore(Ok)).transpose()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ScopeKeyRecord {
    Invocation {
        id: Text<InvocationId>,
    },
    Session {
        id: Text<SessionId>,
    },
    Agent {
        name: Text<AgentName>,
    },
    Workflow {
        id: Text<WorkflowId>,
    },
    Budget {
        name: Text<BudgetName>,
        per: Word<Period>,
    },
    Day {},
}

impl ScopeKeyRecord {
    fn of(key: &ScopeKey) -> Self {
        match key {
            ScopeKey::Invocation(id) => Self::Invocation { id: Text(*id) },
            ScopeKey::Session(id) => Self::Session { id: Text(*id) },
            ScopeKey::Agent(name) => Self::Agent {
                name: Text(name.clone()),
            },
            ScopeKey::Workflow(id) => Self::Workflow { id: Text(*id) },
            ScopeKey::Budget(name, period) => Self::Budget {
                name: Text(name.clone()),
                per: Word(*period),
            },
            ScopeKey::Day => Self::Day {},
        }
    }

    fn restore(self) -> ScopeKey {
        match self {
            Self::Invocation { id } => ScopeKey::Invocation(id.0),
            Self::Session { id } => ScopeKey::Session(id.0),
            Self::Agent { name } => ScopeKey::Agent(name.0),
            Self::Workflow { id } => ScopeKey::Workflow(id.0),
            Self::Budget { name, per } => ScopeKey::Budget(name.0, per.0),
            Self::Day {} => ScopeKey::Day,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageRecord {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cache_write_5m_tokens: u64,
    cache_write_1h_tokens: u64,
    thinking_tokens: u64,
}

impl UsageRecord {
    pub(super) const fn of(usage: &Usage) -> Self {
        let Usage {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_5m_tokens,
            cache_write_1h_tokens,
            thinking_tokens,
        } = *usage;
        Self {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_5m_tokens,
            cache_write_1h_tokens,
            thinking_tokens,
        }
    }

    pub(super) const fn restore(self) -> Usage {
        Usage {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_tokens,
            cache_write_5m_tokens: self.cache_write_5m_tokens,
            cache_write_1h_tokens: self.cache_write_1h_tokens,
            thinking_tokens: self.thinking_tokens,
        }
    }
}
