//! The note that tells the model how much of its own limits is used.
//!
//! It stands behind the results of the turn in which four fifths of a limit were passed, once per limit, if the
//! spec asks for it. Only the limits of this invocation are told: what others spend is not the model's business,
//! and a text that depended on them could not be folded from the journal.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::Timestamp;
use crate::invocation::Invocation;
use crate::ledger::ScopeKey;

/// The share of a limit from which on it is told, as for the warnings of the ledger.
const TOLD_FROM_PERCENT: u128 = 80;

/// Of which limits the model was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    cost: bool,
    tokens: bool,
    turns: bool,
    time: bool,
}

impl Invocation {
    /// What the model is to be told now, if anything.
    pub(super) fn limit_note(&mut self, now: Timestamp) -> Option<Arc<str>> {
        let spec = self.spec.clone().filter(|spec| spec.tells_limits)?;
        let mut told = self.told;
        let mut note = String::new();
        let mut tell =
            |is_told: &mut bool, what: &str, used: u128, limit: u128, amounts: String| {
                if !*is_told && used.saturating_mul(100) >= limit.saturating_mul(TOLD_FROM_PERCENT)
                {
                    *is_told = true;
                    let percent = used.saturating_mul(100) / limit.max(1);
                    let _ = write!(
                        note,
                        "{percent} % of the {what} of this task is used ({amounts}). "
                    );
                }
            };
        let own = ScopeKey::Invocation(spec.invocation);
        if let Some(own) = spec.scopes.iter().find(|limits| limits.scope == own) {
            let (cost, tokens) = (self.totals.cost, self.totals.usage.total_tokens());
            if let Some(limit) = &own.cost {
                let (used, most) = (cost.picodollars(), limit.value.picodollars());
                let amounts = format!("{cost} of {}", limit.value);
                tell(&mut told.cost, "money", used.into(), most.into(), amounts);
            }
            if let Some(limit) = &own.tokens {
                let amounts = format!("{tokens} of {} tokens", limit.value);
                tell(
                    &mut told.tokens,
                    "tokens",
                    tokens.into(),
                    limit.value.into(),
                    amounts,
                );
            }
        }
        let (turns, most) = (self.turns, spec.limits.turns.value);
        let amounts = format!("{turns} of {most} turns");
        tell(&mut told.turns, "turns", turns.into(), most.into(), amounts);
        let limit = spec.limits.time.value;
        let used = limit.saturating_sub(self.time_left(now));
        let amounts = format!("{} of {} seconds", used.as_secs(), limit.as_secs());
        tell(
            &mut told.time,
            "time",
            used.as_micros(),
            limit.as_micros(),
            amounts,
        );
        self.told = told;
        (!note.is_empty()).then(|| {
            Arc::from(format!(
                "[Otto: {note}Come to an end before the rest is used.]"
            ))
        })
    }
}
