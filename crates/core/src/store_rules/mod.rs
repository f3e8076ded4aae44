//! What a store decides, written once for all stores.
//!
//! A backend brings [`Rows`]: how to look up and change single rows inside one transaction. The functions
//! of this module are the semantics of the port ([`crate::port::store`]): who may write (leases and their
//! epochs), what a repeated call answers, in which order kill switch, journal and ledger are asked. So the
//! embedded store, the one in memory and a later networked one cannot come to different answers.
//!
//! It does no I/O, reads no clock (the time is an argument, from the store's clock) and knows nothing
//! about transactions: the caller begins one before a rule and ends it after.
//!
//! Invariants:
//! - a rule that answers `Fenced` has changed nothing;
//! - a rule looks at everything before it changes anything, so an error that says the call itself is wrong
//!   has changed nothing either;
//! - every rule can be repeated: the second answer says so and changes nothing.

pub mod artifact_name;
mod audit;
mod clock;
mod journal;
mod journal_chain;
mod lease;
mod money;
mod rows;
mod submit;

pub use audit::{AuditWalk, audit_preimage, audit_trimmed};
pub use clock::{ManualClock, StoreClock};
pub use journal::{MAX_TEXT_BYTES, append, finish};
pub use journal_chain::{
    InvalidJournalHead, JOURNAL_KEY, JournalFact, journal_prefix, journal_rewritten, parse_place,
    place_text,
};
pub use lease::{LeaseRow, MAX_LEASE_TTL, claim, heartbeat, release};
pub use money::{ReserveAnswer, forfeit_ahead, reserve, settle, sweep, today};
pub use rows::{Charge, End, InvocationRow, KeyRow, Lapsed, Rows};
pub use submit::{MAX_KEY_BYTES, submit};
