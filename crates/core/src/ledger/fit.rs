//! How much fits under every limit, and which limit to name when nothing does.
//!
//! Works on one resource of one account at a time, in plain units. A scope without a limit is measured
//! against what can be counted at all, so that no sum can leave its range.
//!
//! Invariant: the output granted is the largest that fits; `fit` gives a denial only if the floor does not.

use std::collections::BTreeMap;

use crate::Money;
use crate::agent::Origin;
use crate::ledger::account::{Account, Meter};
use crate::ledger::reservation::Grant;
use crate::ledger::{Amount, Denial, Quote, Resource, Scope, ScopeLimits};

/// The origin named when an amount would be larger than Otto can count.
const UNCOUNTABLE: &str = "the range of what can be counted";
/// The origin named when a scope without a limit of its own is latched.
const LATCH: &str = "the latch of a scope that was overdrawn";

/// The largest grant that fits every limit, or the denial of the tightest one. `scopes` is not empty.
pub(super) fn fit(
    accounts: &BTreeMap<Scope, Account>,
    scopes: &[(Scope, ScopeLimits)],
    quote: &Quote,
) -> Result<Grant, Box<Denial>> {
    let call = Call::new(quote);
    let untouched = Account::default();
    let mut output = Some(quote.output_wanted);
    for (scope, limits) in scopes {
        let account = accounts.get(scope).unwrap_or(&untouched);
        for gauge in gauges(account, limits, &call) {
            output = output
                .zip(gauge.most_output())
                .map(|(least, most)| least.min(most));
        }
    }
    output
        .filter(|output| *output >= call.floor)
        .and_then(|output| call.grant(output))
        .ok_or_else(|| Box::new(tightest(accounts, scopes, &call)))
}

/// The grant with the whole output that is wanted, if it can be counted.
pub(super) fn whole(quote: &Quote) -> Option<Grant> {
    Call::new(quote).grant(quote.output_wanted)
}

/// The denial to report when at least one limit is in the way.
///
/// A latch comes first, then limits that what is *spent* already blocks, then those that are blocked only
/// by calls in flight: so a denial is contended exactly when waiting can help. Among equals the one that
/// misses by most, and then the first.
fn tightest(
    accounts: &BTreeMap<Scope, Account>,
    scopes: &[(Scope, ScopeLimits)],
    call: &Call,
) -> Denial {
    let untouched = Account::default();
    let mut tightest: Option<(Rank, Denial)> = None;
    for (scope, limits) in scopes {
        let account = accounts.get(scope).unwrap_or(&untouched);
        for gauge in gauges(account, limits, call) {
            if gauge.most_output().is_some_and(|most| most >= call.floor) {
                continue;
            }
            let denial = gauge.denial(scope, call.floor);
            let rank = gauge.rank(&denial, call.floor);
            if tightest.as_ref().is_none_or(|(known, _)| rank > *known) {
                tightest = Some((rank, denial));
            }
        }
    }
    tightest
        .map(|(_, denial)| denial)
        .expect("a call that does not fit misses at least one of the limits measured")
}

/// A quote in plain units.
struct Call {
    floor: u64,
    cost: Need,
    tokens: Need,
}

impl Call {
    fn new(quote: &Quote) -> Self {
        Self {
            // A floor above what is wanted would make an empty range.
            floor: quote.output_floor.min(quote.output_wanted),
            cost: Need {
                prompt: quote.prompt_cost.picodollars(),
                per_output: quote.output_price.picodollars(),
            },
            tokens: Need {
                prompt: quote.prompt_tokens,
                per_output: 1,
            },
        }
    }

    fn grant(&self, output: u64) -> Option<Grant> {
        Some(Grant {
            max_output_tokens: output,
            held_cost: Money::from_picodollars(self.cost.with_output(output)?)?,
            held_tokens: self.tokens.with_output(output)?,
        })
    }
}

/// What a call needs of one resource: a fixed part and a part for each output token.
#[derive(Debug, Clone, Copy)]
struct Need {
    prompt: u64,
    per_output: u64,
}

impl Need {
    /// The need with that much output; `None` when it cannot be counted.
    fn with_output(self, output: u64) -> Option<u64> {
        self.per_output
            .checked_mul(output)?
            .checked_add(self.prompt)
    }
}

/// One resource of one account against the limit it has, with the need of one call.
struct Gauge<'a> {
    resource: Resource,
    meter: Meter,
    need: Need,
    /// Where the limit was set; `None` when there is no limit but what can be counted.
    origin: Option<&'a Origin>,
    latched: bool,
}

/// Which of several denials to report: the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    obstacle: Obstacle,
    is_set_limit: bool,
    missing_output: i128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    InFlight,
    Spent,
    Latch,
}

fn gauges<'a>(account: &Account, limits: &'a ScopeLimits, call: &Call) -> [Gauge<'a>; 2] {
    [
        Gauge {
            resource: Resource::Cost,
            meter: account.cost_meter(limits.cost.as_ref().map(|limit| limit.value)),
            need: call.cost,
            origin: limits.cost.as_ref().map(|limit| &limit.origin),
            latched: account.latched,
        },
        Gauge {
            resource: Resource::Tokens,
            meter: account.token_meter(limits.tokens.as_ref().map(|limit| limit.value)),
            need: call.tokens,
            origin: limits.tokens.as_ref().map(|limit| &limit.origin),
            latched: account.latched,
        },
    ]
}

impl Gauge<'_> {
    /// The most output tokens that fit here; `None` when not even the prompt does.
    fn most_output(&self) -> Option<u64> {
        if self.latched {
            return None;
        }
        let left = self.meter.room()?.checked_sub(self.need.prompt)?;
        Some(left.checked_div(self.need.per_output).unwrap_or(u64::MAX))
    }

    fn denial(&self, scope: &Scope, floor: u64) -> Denial {
        let amount = |value: u64| match self.resource {
            Resource::Cost => Amount::Cost(Money::from_picodollars(value).unwrap_or(Money::MAX)),
            Resource::Tokens => Amount::Tokens(value),
            Resource::Turns => Amount::Turns(value),
        };
        let (limit, origin) = match self.origin {
            Some(origin) => (self.meter.limit, origin.clone()),
            None if self.latched => (self.meter.spent, Origin::new(LATCH)),
            None => (self.meter.limit, Origin::new(UNCOUNTABLE)),
        };
        Denial {
            scope: scope.clone(),
            resource: self.resource,
            limit: amount(limit),
            spent: amount(self.meter.spent),
            held: amount(self.meter.held),
            needed: amount(self.need.with_output(floor).unwrap_or(u64::MAX)),
            origin,
            latched: self.latched,
        }
    }

    fn rank(&self, denial: &Denial, floor: u64) -> Rank {
        let obstacle = if self.latched {
            Obstacle::Latch
        } else if denial.is_contended() {
            Obstacle::InFlight
        } else {
            Obstacle::Spent
        };
        Rank {
            obstacle,
            is_set_limit: self.origin.is_some(),
            missing_output: self.missing_output(floor),
        }
    }

    /// By how many output tokens the call misses the limit: one measure for both resources.
    fn missing_output(&self, floor: u64) -> i128 {
        let wide = i128::from;
        let need = wide(self.need.per_output)
            .saturating_mul(wide(floor))
            .saturating_add(wide(self.need.prompt));
        let total = need
            .saturating_add(wide(self.meter.spent))
            .saturating_add(wide(self.meter.held));
        (total - wide(self.meter.limit)) / wide(self.need.per_output.max(1))
    }
}
