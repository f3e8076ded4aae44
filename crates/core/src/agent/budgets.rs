//! Limits and the set of limits on one scope, each with the place where it was set.
//!
//! Invariant: combining two sets of limits never gives a wider one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Money;

/// Where a value was set, in words for people: `.otto/agents/reviewer.yml:7`, `default`, `--cost`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(pub Arc<str>);

impl Origin {
    /// An origin of that description.
    #[must_use]
    pub fn new(place: &str) -> Self {
        Self(Arc::from(place))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One maximum and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit<T> {
    /// The maximum.
    pub value: T,
    /// Where it was set.
    pub origin: Origin,
}

impl<T> Limit<T> {
    /// A limit set at `origin`.
    #[must_use]
    pub fn new(value: T, origin: &str) -> Self {
        Self {
            value,
            origin: Origin::new(origin),
        }
    }
}

/// The set of limits on one scope. `None` means that this source sets no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Budgets {
    /// Wall time of an invocation.
    pub time: Option<Limit<Duration>>,
    /// Prompt plus output tokens over all model calls.
    pub tokens: Option<Limit<u64>>,
    /// Money over all model calls.
    pub cost: Option<Limit<Money>>,
    /// Model calls of an invocation that became turns.
    pub turns: Option<Limit<u32>>,
}

impl Budgets {
    /// The tighter limit of both, one by one; on a tie the own one stays.
    #[must_use]
    pub fn narrowed_by(&self, other: &Self) -> Self {
        fn tighter<T: PartialOrd + Clone>(
            a: &Option<Limit<T>>,
            b: &Option<Limit<T>>,
        ) -> Option<Limit<T>> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b.value < a.value {
                    b.clone()
                } else {
                    a.clone()
                }),
                (one, None) | (None, one) => one.clone(),
            }
        }
        Self {
            time: tighter(&self.time, &other.time),
            tokens: tighter(&self.tokens, &other.tokens),
            cost: tighter(&self.cost, &other.cost),
            turns: tighter(&self.turns, &other.turns),
        }
    }

    /// These limits, with `other` filling the gaps.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            time: self.time.clone().or_else(|| other.time.clone()),
            tokens: self.tokens.clone().or_else(|| other.tokens.clone()),
            cost: self.cost.clone().or_else(|| other.cost.clone()),
            turns: self.turns.clone().or_else(|| other.turns.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_takes_the_tighter_limit_and_its_origin() {
        let agent = Budgets {
            cost: Some(Limit::new(Money::from_dollars(2), "agent")),
            turns: Some(Limit::new(5, "agent")),
            ..Budgets::default()
        };
        let task = Budgets {
            cost: Some(Limit::new(Money::from_dollars(1), "task")),
            turns: Some(Limit::new(50, "task")),
            tokens: Some(Limit::new(10, "task")),
            ..Budgets::default()
        };
        let both = agent.narrowed_by(&task);
        assert_eq!(both.cost.unwrap().origin, Origin::new("task"));
        assert_eq!(both.turns.unwrap().value, 5);
        assert_eq!(both.tokens.unwrap().value, 10);
        assert_eq!(both.time, None);
    }
}
