//! Reservations and settlements with what they ride on.
//!
//! Invariant: the order of a reserve is lease, journal, kill switch, ledger, all in one transaction. A
//! reservation cannot be granted by a node that was taken over, nor after the kill switch was thrown.

use std::sync::Arc;

use crate::id::ReservationId;
use crate::ledger::{ReserveOutcome, Reserved, Scope, ScopeKey, SettleOutcome, Settlement};
use crate::model::Usage;
use crate::port::store::{
    Attribution, Durability, ReserveCall, ReserveReply, SettleCall, SettleReply, StoreError,
};
use crate::store_rules::journal::{keep, owned, stands_on, unknown_entries};
use crate::store_rules::lease::holds;
use crate::store_rules::{Charge, Lapsed, Rows};
use crate::{InvocationId, Timestamp, UtcDay};

/// The UTC day at `now`: the highest that the store has seen. A clock that is set back does not open a
/// day again whose money is spent.
///
/// # Errors
/// What the rows report.
pub fn today<R: Rows>(rows: &mut R, now: Timestamp) -> Result<UtcDay, R::Error> {
    let (highest, day) = (rows.highest_day()?, now.day());
    if day > highest {
        rows.set_highest_day(day)?;
    }
    Ok(highest.max(day))
}

/// The answer to a reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveAnswer {
    /// The answer itself.
    pub reply: ReserveReply,
    /// Whether it must be durable before it is given.
    pub durability: Durability,
}

/// Holds money for a model call.
///
/// The entries are kept whatever the answer, but for `Fenced`.
///
/// # Errors
/// `NotFound` for an unknown invocation; `Invalid` for a gap in the entries or before them, a lease of another
/// session, or a new reservation of an invocation that has ended; what the rows report.
pub fn reserve<R: Rows>(
    rows: &mut R,
    now: Timestamp,
    call: &ReserveCall,
) -> Result<ReserveAnswer, R::Error> {
    let synced = |reply| ReserveAnswer {
        reply,
        durability: Durability::Synced,
    };
    if !holds(rows, &call.lease)? {
        return Ok(synced(ReserveReply::Fenced));
    }
    let id = call.request.id;
    let row = owned(rows, &call.lease, id.invocation)?;
    stands_on(row, id.invocation, call.after)?;
    let new = unknown_entries(row, id.invocation, &call.entries)?;
    let killed = rows.kill()?;
    let today = today(rows, now)?;
    let scopes = scopes_on(today, call);
    let goes_on = row.end.is_none_or(|end| end.resumable && !new.is_empty());
    if !goes_on && rows.ledger(id, &scopes)?.reservation(&id).is_none() {
        let detail = format!("reserve {id}: the invocation has ended");
        return Err(StoreError::Invalid {
            detail: Arc::from(detail),
        }
        .into());
    }
    keep(rows, row, id.invocation, new)?;
    if let Some(kill) = killed {
        return Ok(synced(ReserveReply::Killed(kill)));
    }
    let own = rows.ahead_of(id.invocation)?;
    let ledger = rows.ledger(id, &scopes)?;
    let undisturbed = ledger.reserve_undisturbed(today, &call.request, call.look_ahead);
    let Reserved {
        outcome,
        drawn_from,
        taken,
        returned,
    } = match undisturbed {
        Some(reserved) => reserved,
        None => {
            if ledger.is_short(today, &call.request) {
                rows.load_ahead()?;
            }
            rows.ledger(id, &scopes)?
                .reserve_ahead(today, &call.request, call.look_ahead)
        }
    };
    debug_assert!(drawn_from.is_none() || drawn_from == own);
    for returned in returned {
        rows.keep_settlement(returned, None)?;
    }
    if matches!(outcome, ReserveOutcome::Granted(_)) {
        rows.keep_grant(id, today)?;
    }
    if let Some(taken) = taken {
        rows.keep_grant(taken, today)?;
    }
    let durability = match drawn_from {
        Some(ahead) => {
            rows.keep_hold(ahead)?;
            Durability::Relaxed
        }
        None => Durability::Synced,
    };
    Ok(ReserveAnswer {
        reply: ReserveReply::Ledger(outcome),
        durability,
    })
}

/// Gives back what an invocation holds ahead: it has ended.
pub(super) fn give_back<R: Rows>(rows: &mut R, id: InvocationId) -> Result<(), R::Error> {
    if let Some(ahead) = rows.ahead_of(id)?
        && rows.ledger(ahead, &[])?.give_back(ahead)
    {
        rows.keep_settlement(ahead, None)?;
    }
    Ok(())
}

/// Ends a reservation, with entries and usage row.
///
/// # Errors
/// `NotFound` for an unknown invocation; `Invalid` for a gap in the entries or a lease of another session;
/// what the rows report.
pub fn settle<R: Rows>(rows: &mut R, call: &SettleCall) -> Result<SettleReply, R::Error> {
    if !holds(rows, &call.lease)? {
        return Ok(SettleReply::Fenced);
    }
    let id = call.reservation;
    let row = owned(rows, &call.lease, id.invocation)?;
    if call.attribution.session != row.session {
        let detail = format!(
            "settle {id} for session {}: its invocation belongs to session {}",
            call.attribution.session, row.session
        );
        return Err(StoreError::Invalid {
            detail: Arc::from(detail),
        }
        .into());
    }
    let new = unknown_entries(row, id.invocation, &call.entries)?;
    keep(rows, row, id.invocation, new)?;
    book(rows, id, &call.settlement, &call.attribution).map(SettleReply::Ledger)
}

/// Forfeits the open reservations that nobody will settle: their hold is charged. Returns how many.
///
/// # Errors
/// What the rows report.
pub fn sweep<R: Rows>(rows: &mut R, now: Timestamp) -> Result<u64, R::Error> {
    rows.cap_leases(now)?;
    let mut total = 0;
    loop {
        let lapsed = rows.lapsed(now, SWEEP_CHUNK)?;
        let (mut settled, mut returned) = (0, 0);
        for Lapsed { id, attribution } in &lapsed {
            let attribution = Attribution {
                at: now,
                ..attribution.clone()
            };
            // Only a process died, so nothing of what it drew is unknown.
            if id.is_ahead() {
                if rows.ledger(*id, &[])?.give_back(*id) {
                    rows.keep_settlement(*id, None)?;
                    returned += 1;
                }
            } else if let SettleOutcome::Settled(_) =
                book(rows, *id, &Settlement::Forfeited, &attribution)?
            {
                settled += 1;
            }
        }
        total += settled;
        // A chunk in which nothing was open contradicts its query; asking again would not end.
        if lapsed.len() < SWEEP_CHUNK || settled + returned == 0 {
            return Ok(total);
        }
    }
}

/// Forfeits all money held ahead. To be called after the machine has failed, before anything else: the last
/// changes of those who held it may be lost, and what they spent in them came out of it. Returns how many.
///
/// # Errors
/// What the rows report.
pub fn forfeit_ahead<R: Rows>(rows: &mut R, now: Timestamp) -> Result<u64, R::Error> {
    let mut total = 0;
    loop {
        let held = rows.held_ahead(SWEEP_CHUNK)?;
        let mut forfeited = 0;
        for Lapsed { id, attribution } in &held {
            let attribution = Attribution {
                at: now,
                ..attribution.clone()
            };
            if let SettleOutcome::Settled(_) =
                book(rows, *id, &Settlement::Forfeited, &attribution)?
            {
                forfeited += 1;
            }
        }
        total += forfeited;
        if held.len() < SWEEP_CHUNK || forfeited == 0 {
            return Ok(total);
        }
    }
}

// BOUND: what a sweep holds in memory at once.
const SWEEP_CHUNK: usize = 1_000;

fn book<R: Rows>(
    rows: &mut R,
    id: ReservationId,
    settlement: &Settlement,
    attribution: &Attribution,
) -> Result<SettleOutcome, R::Error> {
    let outcome = rows.ledger(id, &[])?.settle(id, settlement);
    if let SettleOutcome::Settled(settled) = &outcome {
        let usage = match settlement {
            Settlement::Used { usage, .. } => Some(Some(countable(usage))),
            Settlement::Forfeited => Some(None),
            Settlement::Released => None,
        };
        let charge = usage.map(|usage| Charge {
            usage,
            cost: settled.charged,
            attribution: attribution.clone(),
        });
        rows.keep_settlement(id, charge.as_ref())?;
        if rows.ahead_of(id.invocation)?.is_some()
            && let Some(ahead) = rows.ledger(id, &[])?.return_unused(id, settlement)
        {
            rows.keep_hold(ahead)?;
        }
    }
    Ok(outcome)
}

/// Usage as rows can hold it: a count beyond a signed 64-bit column stands at its end, as in the ledger.
fn countable(usage: &Usage) -> Usage {
    const MAX: u64 = i64::MAX.cast_unsigned();
    Usage {
        input_tokens: usage.input_tokens.min(MAX),
        output_tokens: usage.output_tokens.min(MAX),
        cache_read_tokens: usage.cache_read_tokens.min(MAX),
        cache_write_5m_tokens: usage.cache_write_5m_tokens.min(MAX),
        cache_write_1h_tokens: usage.cache_write_1h_tokens.min(MAX),
        thinking_tokens: usage.thinking_tokens.min(MAX),
    }
}

/// The accounts that the ledger will look at. One that names no scope is booked on its day.
fn scopes_on(today: UtcDay, call: &ReserveCall) -> Vec<Scope> {
    let scopes = &call.request.scopes;
    if scopes.is_empty() {
        return vec![ScopeKey::Day.on(today)];
    }
    scopes.iter().map(|limits| limits.scope.on(today)).collect()
}
