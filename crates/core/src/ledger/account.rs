//! The running totals of one scope and the arithmetic on them.
//!
//! Invariant: no operation here wraps or panics. Totals that could leave their range are refused before
//! they are held ([`Account::meter`]); what a provider bills beyond any range is recorded at the maximum,
//! in an account that is latched shut.

use crate::Money;

/// The running totals of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Settled money.
    pub spent_cost: Money,
    /// Money held by open reservations.
    pub held_cost: Money,
    /// Settled tokens.
    pub spent_tokens: u64,
    /// Tokens held by open reservations.
    pub held_tokens: u64,
    /// The 80 % warning for money was raised.
    pub warned_cost: bool,
    /// The 80 % warning for tokens was raised.
    pub warned_tokens: bool,
    /// A provider billed more than was held: nothing more is granted here.
    pub latched: bool,
}

/// Most tokens an account can count: what a signed 64-bit database column holds.
pub(super) const TOKENS_MAX: u64 = i64::MAX as u64;

/// A limit at which people are warned, in percent.
const WARNING_PERCENT: u128 = 80;

/// One resource of one account against one limit, in plain units (picodollars or tokens).
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    pub(super) limit: u64,
    pub(super) spent: u64,
    pub(super) held: u64,
}

impl Meter {
    /// What may still be held; `None` when the limit has been passed (it was lowered, or overdrawn).
    pub(super) fn room(self) -> Option<u64> {
        self.limit.checked_sub(self.spent)?.checked_sub(self.held)
    }

    /// What may still be held while half of the limit stays free.
    pub(super) fn room_to_half(self) -> u64 {
        (self.limit / 2)
            .saturating_sub(self.spent)
            .saturating_sub(self.held)
    }

    /// Whether what is spent has reached the warning mark.
    pub(super) fn passed_warning(self) -> bool {
        u128::from(self.spent) * 100 >= u128::from(self.limit) * WARNING_PERCENT
    }
}

impl Account {
    /// The money of this account against a limit; without one, against what can be counted.
    pub(super) fn cost_meter(&self, limit: Option<Money>) -> Meter {
        Meter {
            limit: limit.unwrap_or(Money::MAX).picodollars(),
            spent: self.spent_cost.picodollars(),
            held: self.held_cost.picodollars(),
        }
    }

    /// The tokens of this account against a limit; without one, against what can be counted.
    pub(super) fn token_meter(&self, limit: Option<u64>) -> Meter {
        Meter {
            limit: limit.unwrap_or(TOKENS_MAX).min(TOKENS_MAX),
            spent: self.spent_tokens,
            held: self.held_tokens,
        }
    }

    /// Holds amounts that were found to fit.
    pub(super) fn hold(&mut self, cost: Money, tokens: u64) {
        self.held_cost = self.held_cost.saturating_add(cost);
        self.held_tokens = self.held_tokens.saturating_add(tokens).min(TOKENS_MAX);
    }

    /// Takes a hold back.
    pub(super) fn unhold(&mut self, cost: Money, tokens: u64) {
        debug_assert!(
            self.held_cost >= cost && self.held_tokens >= tokens,
            "a hold is taken back once"
        );
        self.held_cost = self.held_cost.checked_sub(cost).unwrap_or(Money::ZERO);
        self.held_tokens = self.held_tokens.saturating_sub(tokens);
    }

    /// Adds to what is spent.
    pub(super) fn charge(&mut self, cost: Money, tokens: u64) {
        self.spent_cost = self.spent_cost.saturating_add(cost);
        self.spent_tokens = self.spent_tokens.saturating_add(tokens).min(TOKENS_MAX);
    }

    /// Takes a charge back: only for a forfeit that a usage record corrects.
    pub(super) fn uncharge(&mut self, cost: Money, tokens: u64) {
        debug_assert!(
            self.spent_cost >= cost && self.spent_tokens >= tokens,
            "a forfeit is corrected once"
        );
        self.spent_cost = self.spent_cost.checked_sub(cost).unwrap_or(Money::ZERO);
        self.spent_tokens = self.spent_tokens.saturating_sub(tokens);
    }
}
