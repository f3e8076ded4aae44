//! What goes into the ledger and what comes out: requests, grants, settlements and their answers.
//!
//! Plain data. The rules are in [`Ledger`](crate::ledger::Ledger).
//!
//! Invariant: a reservation keeps the accounts and limits it was granted under, so that it is settled on
//! the day and against the limits of its grant.

use crate::Money;
use crate::agent::Origin;
use crate::id::ReservationId;
use crate::ledger::{Amount, Denial, Quote, Resource, Scope, ScopeLimits};
use crate::model::Usage;

/// A request to hold money and tokens for one model call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveRequest {
    /// Names the reservation; asking again with the same id returns the same grant.
    pub id: ReservationId,
    /// Every scope the call belongs to, with the limits in force. A scope named twice is held once, under
    /// the tighter limit of both.
    pub scopes: Vec<ScopeLimits>,
    /// What the call can use at most.
    pub quote: Quote,
}

/// What was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The call may ask for this many output tokens; at most what was wanted.
    pub max_output_tokens: u64,
    /// Money held in every scope.
    pub held_cost: Money,
    /// Tokens held in every scope.
    pub held_tokens: u64,
}

/// The answer to a reserve request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// Held now, in every scope.
    Granted(Grant),
    /// This reservation was granted before and is still open.
    AlreadyGranted(Grant),
    /// This reservation was granted and settled before: the call must not be made again under it.
    AlreadySettled,
    /// Nothing was held: at least one limit is in the way.
    OverLimit(Box<Denial>),
}

/// How a reservation ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The provider reported what was used.
    Used {
        /// The usage record.
        usage: Usage,
        /// Its exact cost.
        cost: Money,
    },
    /// No usage record: the hold is charged in full and marked unconfirmed.
    Forfeited,
    /// The provider bills nothing for this call.
    Released,
}

/// The effect of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Settled now.
    Settled(Settled),
    /// A settlement was already booked; this one changed nothing.
    AlreadySettled,
    /// No such reservation; nothing changed.
    Unknown,
}

/// What a settlement changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Money this reservation costs now. Where a usage record corrects a forfeit this is the corrected
    /// amount, not the difference.
    pub charged: Money,
    /// Scopes that passed 80 % with it, for the first time.
    pub warnings: Vec<Warning>,
    /// The provider billed more than was held; the scopes are latched shut.
    pub overdrawn: bool,
}

/// A scope has passed 80 % of a limit. Raised once per scope and resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The scope.
    pub scope: Scope,
    /// What is limited.
    pub resource: Resource,
    /// The limit.
    pub limit: Amount,
    /// Spent in the scope now.
    pub spent: Amount,
    /// Where the limit was set.
    pub origin: Origin,
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    /// Money is held.
    Open,
    /// Charged at the hold without a usage record; a late usage record may still correct it.
    Forfeited,
    /// Settled for good.
    Settled,
}

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// What was granted.
    pub grant: Grant,
    /// The accounts it is held in, each once, with the limits that applied (for warnings).
    pub scopes: Vec<(Scope, ScopeLimits)>,
    /// Where it stands.
    pub state: ReservationState,
}
