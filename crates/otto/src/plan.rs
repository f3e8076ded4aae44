//! What an invocation can cost, before anything is spent.
//!
//! The least is what the shortest plausible course costs: one call, a prompt of a tenth of its bound, an answer of a
//! few words. The most is what no course can exceed: the tightest of all limits, as far as they are not used up, and
//! of what the model's window and the limit on turns allow.
//!
//! Invariant: `most` is an upper bound under the limits, accounts and prices of this moment.

use otto_core::invocation::InvocationSpec;
use otto_core::ledger::{
    Account, Amount, Denial, Grant, Ledger, Quote, ReserveOutcome, ReserveRequest, Scope, ScopeKey,
};
use otto_core::model::Usage;
use otto_core::port::store::StoreError;
use otto_core::task::TaskSpec;
use otto_core::{EffectId, Money, id::ReservationId};
use otto_engine::InvokeError;

use crate::otto::Agent;

/// The price range of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The model that would be asked, as the price table names it.
    pub model: otto_core::ModelId,
    /// Prompt tokens of the first call: plausible at the least, and at most.
    pub prompt_tokens: (u64, u64),
    /// What the first call would hold; or the limit that would refuse it.
    pub first_call: Result<Grant, Box<Denial>>,
    /// The most that any later call can cost: a full window and the longest answer.
    pub any_call: Money,
    /// The least plausible and the most possible of all calls together.
    pub least: Money,
    /// See `least`.
    pub most: Money,
    /// What keeps it from costing more than `most`.
    pub bound_by: BoundBy,
}

/// What binds first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundBy {
    /// `cost`, `tokens` or `turns`.
    pub resource: &'static str,
    /// The scope, such as `invocation`, `day 2026-11-28` or `budget research`.
    pub scope: String,
    /// The limit.
    pub limit: Amount,
    /// Where it was set.
    pub origin: String,
}

/// An answer of a few words.
const SHORT_ANSWER_TOKENS: u64 = 32;
/// The bound counts every byte, those of schemas twice, and room for what the provider adds; ordinary text has a
/// token for about four bytes.
const BOUND_PER_TOKEN: u64 = 10;

impl Agent {
    /// What invoking the agent on this task could cost, and which limit binds first. Nothing is sent or held.
    ///
    /// # Errors
    /// When it could not begin, or the accounts cannot be read.
    pub async fn plan(&self, task: impl Into<TaskSpec>) -> Result<Plan, InvokeError> {
        let preview = self.otto().engine().preview(self.config(), &task.into())?;
        let accounts = self
            .accounts(&preview.spec)
            .await
            .map_err(|source| InvokeError::Store {
                attempted: "look up what is spent",
                source,
            })?;
        Ok(plan(&preview.spec, &preview.quote, accounts))
    }

    async fn accounts(&self, spec: &InvocationSpec) -> Result<Vec<(Scope, Account)>, StoreError> {
        let tracker = self.otto().engine().cost_tracker();
        let today = tracker.today().await?;
        let mut accounts = Vec::with_capacity(spec.scopes.len());
        for limits in &spec.scopes {
            let scope = limits.scope.on(today);
            let mut account = tracker.account(scope.clone()).await?;
            // The user's day is fuller than this project's.
            if limits.scope == ScopeKey::Day
                && let Some((spent, _)) = self.otto().day_of_user().await?
            {
                account.spent_cost = account.spent_cost.max(spent);
            }
            accounts.push((scope, account));
        }
        Ok(accounts)
    }
}

fn plan(spec: &InvocationSpec, quote: &Quote, accounts: Vec<(Scope, Account)>) -> Plan {
    let model = &spec.model;
    let least_prompt = quote.prompt_tokens / BOUND_PER_TOKEN;
    let least = model.cost(&Usage {
        input_tokens: least_prompt,
        output_tokens: SHORT_ANSWER_TOKENS,
        ..Usage::default()
    });
    let window = model.worst_case(model.context_window, spec.cache);
    let any_call = window
        .and_then(|worst| {
            let output = worst.output_per_token.checked_mul(quote.output_wanted)?;
            worst.input.checked_add(output)
        })
        .unwrap_or(Money::MAX);
    let turns = &spec.limits.turns;
    // An attempt that fails may be charged as well.
    let calls = u64::from(turns.value).saturating_mul(u64::from(spec.limits.attempts));
    let mut most = any_call.checked_mul(calls).unwrap_or(Money::MAX);
    let mut bound_by = BoundBy {
        resource: "turns",
        scope: "invocation".to_owned(),
        limit: Amount::Turns(u64::from(turns.value)),
        origin: turns.origin.to_string(),
    };
    // The dearest a token can be.
    let dearest = model
        .worst_case(1, spec.cache)
        .map_or(Money::MAX, |worst| worst.input.max(worst.output_per_token))
        .max(model.long_context.as_ref().map_or(Money::ZERO, |tier| {
            tier.prices.output.max(tier.prices.cache_write_1h)
        }));
    for (limits, (scope, account)) in spec.scopes.iter().zip(&accounts) {
        let mut bind = |resource, bound: Money, limit, origin: &otto_core::agent::Origin| {
            if bound < most {
                most = bound;
                bound_by = BoundBy {
                    resource,
                    scope: match scope {
                        Scope::Invocation(_) => "invocation".to_owned(),
                        Scope::Session(_) => "session".to_owned(),
                        other => other.to_string(),
                    },
                    limit,
                    origin: origin.to_string(),
                };
            }
        };
        if let Some(limit) = &limits.cost {
            let left = limit
                .value
                .saturating_sub(account.spent_cost)
                .saturating_sub(account.held_cost);
            bind("cost", left, Amount::Cost(limit.value), &limit.origin);
        }
        if let Some(limit) = &limits.tokens {
            let left = limit
                .value
                .saturating_sub(account.spent_tokens)
                .saturating_sub(account.held_tokens);
            let bound = dearest.checked_mul(left).unwrap_or(Money::MAX);
            bind("tokens", bound, Amount::Tokens(limit.value), &limit.origin);
        }
    }
    let first_call = first_call(spec, quote, accounts);
    let least = match &first_call {
        Ok(_) => least.unwrap_or(Money::MAX).min(most),
        Err(_) => Money::ZERO,
    };
    let most = if first_call.is_ok() {
        most
    } else {
        Money::ZERO
    };
    Plan {
        model: model.id.clone(),
        prompt_tokens: (least_prompt, quote.prompt_tokens),
        first_call,
        any_call,
        least,
        most,
        bound_by,
    }
}

/// Asks a ledger with the accounts of now.
fn first_call(
    spec: &InvocationSpec,
    quote: &Quote,
    accounts: Vec<(Scope, Account)>,
) -> Result<Grant, Box<Denial>> {
    let today = accounts
        .iter()
        .find_map(|(scope, _)| match scope {
            Scope::Day(day) => Some(*day),
            _ => None,
        })
        .unwrap_or_default();
    let mut ledger = Ledger::restore(accounts, []);
    let outcome = ledger.reserve(
        today,
        &ReserveRequest {
            id: ReservationId {
                invocation: spec.invocation,
                effect: EffectId(1),
            },
            scopes: spec.scopes.clone(),
            quote: *quote,
        },
    );
    match outcome {
        ReserveOutcome::Granted(grant) | ReserveOutcome::AlreadyGranted(grant) => Ok(grant),
        ReserveOutcome::OverLimit(denial) => Err(denial),
        ReserveOutcome::AlreadySettled => Ok(Grant {
            max_output_tokens: 0,
            held_cost: Money::ZERO,
            held_tokens: 0,
        }),
    }
}
