//! Limits that somebody asked for and does not get, because a tighter one is in force.
//!
//! A task narrows its agent's limits and never widens them, and nothing passes the operator's ceilings. That is
//! decided in the core; here it is only told, so that nobody counts on a limit that is not there.
//!
//! Invariant: a limit that is in force as it was asked for is not told.

use std::fmt;

use otto_core::agent::{Budgets, Limit, Origin};

use crate::limits::{show_count, show_duration};

/// A limit that was asked for and is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGranted {
    /// `cost`, `time`, `tokens` or `turns`.
    pub limit: &'static str,
    /// What was asked for.
    pub asked: String,
    /// Where it was asked for.
    pub asked_by: Origin,
    /// What is in force.
    pub in_force: String,
    /// Where that was set.
    pub set_by: Origin,
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            asked,
            asked_by,
            in_force,
            set_by,
        } = self;
        write!(
            f,
            "{limit}: {asked} was asked for ({asked_by}), {in_force} is in force, the limit of {set_by}"
        )
    }
}

/// What of `asked` is not in force.
#[must_use]
pub fn not_granted(asked: &Budgets, in_force: &Budgets) -> Vec<NotGranted> {
    [
        compare("cost", &asked.cost, &in_force.cost, ToString::to_string),
        compare("time", &asked.time, &in_force.time, |time| {
            show_duration(*time)
        }),
        compare("tokens", &asked.tokens, &in_force.tokens, |count| {
            show_count(*count)
        }),
        compare("turns", &asked.turns, &in_force.turns, ToString::to_string),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn compare<T: PartialOrd>(
    limit: &'static str,
    asked: &Option<Limit<T>>,
    in_force: &Option<Limit<T>>,
    show: impl Fn(&T) -> String,
) -> Option<NotGranted> {
    let (asked, in_force) = (asked.as_ref()?, in_force.as_ref()?);
    (in_force.value < asked.value).then(|| NotGranted {
        limit,
        asked: show(&asked.value),
        asked_by: asked.origin.clone(),
        in_force: show(&in_force.value),
        set_by: in_force.origin.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use otto_core::Money;

    use super::*;

    #[test]
    fn only_what_is_cut_is_told() {
        let agent = Budgets {
            cost: Some(Limit::new(Money::from_dollars(1), "a.yml:5")),
            time: Some(Limit::new(Duration::from_secs(60), "a.yml:5")),
            ..Budgets::default()
        };
        let task = Budgets {
            cost: Some(Limit::new(Money::from_dollars(5), "--cost")),
            time: Some(Limit::new(Duration::from_secs(60), "--time")),
            turns: Some(Limit::new(3, "--turns")),
            ..Budgets::default()
        };
        let told = not_granted(&task, &agent.narrowed_by(&task));
        let [one] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            one.to_string(),
            "cost: $5.00 was asked for (--cost), $1.00 is in force, the limit of a.yml:5"
        );
    }
}
