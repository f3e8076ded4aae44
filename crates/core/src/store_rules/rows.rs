//! What a backend brings: single rows, looked up and changed inside one transaction.
//!
//! Each method is one row (or one range of rows) and decides nothing.

use std::sync::Arc;

use crate::id::ReservationId;
use crate::ledger::{Ledger, Scope};
use crate::model::Usage;
use crate::port::store::{Attribution, Entry, Finish, KillRow, StoreError, Submission};
use crate::store_rules::LeaseRow;
use crate::{InvocationId, Money, SessionId, Timestamp, UtcDay};

/// The part of an invocation's row that rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvocationRow {
    /// Its session.
    pub session: SessionId,
    /// The sequence of its last journal entry; 0 when there is none.
    pub last_sequence: u64,
    /// Its end; `None` while it is unfinished.
    pub end: Option<End>,
}

/// That an invocation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Whether it may go on later.
    pub resumable: bool,
}

/// What an idempotency key was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The invocation.
    pub invocation: InvocationId,
    /// A digest of what was asked, if it was kept.
    pub fingerprint: Option<Arc<str>>,
}

/// What a usage row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// What the provider reported; `None` for a hold charged without a usage record.
    pub usage: Option<Usage>,
    /// Money charged.
    pub cost: Money,
    /// Whom it belongs to.
    pub attribution: Attribution,
}

/// An open reservation that nobody will settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// The reservation.
    pub id: ReservationId,
    /// Whom the forfeit belongs to, from the invocation's row. Its time is ignored.
    pub attribution: Attribution,
}

/// Rows of a store inside one transaction.
///
/// A rule that fails may have changed rows: the backend rolls the transaction back, or has checked
/// beforehand what can fail.
pub trait Rows {
    /// The backend's error. Carries the refusals of the rules unchanged.
    type Error: From<StoreError>;

    /// The lease of a session; `None` when the session was never recorded.
    fn lease(&mut self, session: SessionId) -> Result<Option<LeaseRow>, Self::Error>;

    /// Records a session with its lease, or changes the lease.
    fn set_lease(&mut self, session: SessionId, row: LeaseRow) -> Result<(), Self::Error>;

    /// Shortens every lease that would end later than its own length from `now`.
    fn cap_leases(&mut self, now: Timestamp) -> Result<(), Self::Error>;

    /// An invocation, if it was recorded.
    fn invocation(&mut self, id: InvocationId) -> Result<Option<InvocationRow>, Self::Error>;

    /// What an idempotency key was used for.
    fn invocation_of_key(&mut self, key: &str) -> Result<Option<KeyRow>, Self::Error>;

    /// Whether there is room for one more invocation; an error says why not.
    fn can_insert_invocation(&mut self) -> Result<(), Self::Error>;

    /// Records an invocation that is not there yet. Its entries are appended apart.
    fn insert_invocation(&mut self, submission: &Submission) -> Result<(), Self::Error>;

    /// Appends entries that follow the last one without a gap. Never empty.
    fn append(&mut self, id: InvocationId, entries: &[Entry]) -> Result<(), Self::Error>;

    /// Records the end of an invocation. Its entries are appended apart.
    fn end(&mut self, finish: &Finish) -> Result<(), Self::Error>;

    /// Takes the end of an invocation back: it goes on.
    fn reopen(&mut self, id: InvocationId) -> Result<(), Self::Error>;

    /// The kill switch, if thrown.
    fn kill(&mut self) -> Result<Option<KillRow>, Self::Error>;

    /// The highest UTC day this store has seen; day 0 at first.
    fn highest_day(&mut self) -> Result<UtcDay, Self::Error>;

    /// Raises the highest UTC day seen.
    fn set_highest_day(&mut self, day: UtcDay) -> Result<(), Self::Error>;

    /// The ledger, in which the reservation `id` (if there is a row) with the accounts it is held in, and
    /// the accounts of `scopes`, stand as they are stored.
    fn ledger(&mut self, id: ReservationId, scopes: &[Scope]) -> Result<&mut Ledger, Self::Error>;

    /// Stores a reservation that the ledger has just granted on `day`, and its accounts.
    fn keep_grant(&mut self, id: ReservationId, day: UtcDay) -> Result<(), Self::Error>;

    /// Stores a reservation that the ledger has just settled, its accounts, and its usage row: replaced by
    /// `charge`, or removed when the provider bills nothing.
    fn keep_settlement(
        &mut self,
        id: ReservationId,
        charge: Option<&Charge>,
    ) -> Result<(), Self::Error>;

    /// The money that an invocation holds ahead. From then on it stands in the [`ledger`](Self::ledger), with the
    /// accounts it is held in.
    fn ahead_of(&mut self, id: InvocationId) -> Result<Option<ReservationId>, Self::Error>;

    /// Brings all money held ahead into the ledger, with the accounts it is held in.
    fn load_ahead(&mut self) -> Result<(), Self::Error>;

    /// Stores the hold of an open reservation that the ledger has changed. Its accounts are stored with the grant
    /// or the settlement that changed it.
    fn keep_hold(&mut self, id: ReservationId) -> Result<(), Self::Error>;

    /// All money held ahead, with whom a forfeit of it belongs to; at most `most`.
    fn held_ahead(&mut self, most: usize) -> Result<Vec<Lapsed>, Self::Error>;

    /// Open reservations whose invocation has ended or whose session's lease has expired at `now` or was
    /// given back; oldest first, at most `most`.
    fn lapsed(&mut self, now: Timestamp, most: usize) -> Result<Vec<Lapsed>, Self::Error>;
}
