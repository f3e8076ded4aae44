//! The second machine: all reservations and settlements.
//!
//! Money is held before it can be spent: a model call may start only after
//! `spent + held + worst case <= limit` holds in *every* scope it belongs to, decided at once. The ledger
//! is a plain value that a store owns, persists and shares; it does no I/O and reads no clock.
//!
//! Invariants, checked by the property tests and the simulator:
//! - `spent + held <= limit` in every scope, unless a provider billed more than it was allowed to, which
//!   latches the scope shut;
//! - every reservation is settled exactly once; a repeated or late settlement changes nothing but a
//!   forfeit, which it corrects;
//! - `spent` never falls except by that correction;
//! - between two changes that are made durable, what an invocation holds and has been charged never grows:
//!   money held ahead (see [`Ledger::reserve_ahead`]) covers whatever is spent in between.

mod account;
mod ahead;
mod book;
mod estimate;
mod fit;
mod reservation;
mod scope;
#[cfg(test)]
mod tests;

pub use account::Account;
pub use ahead::{LookAhead, Reserved};
pub use book::Ledger;
pub use estimate::{Quote, TokenBound, message_bound, text_bound, tool_definition_bound};
pub use reservation::{
    Grant, Reservation, ReservationState, ReserveOutcome, ReserveRequest, SettleOutcome, Settled,
    Settlement, Warning,
};
pub use scope::{Amount, Denial, Period, Resource, Scope, ScopeKey, ScopeLimits};
