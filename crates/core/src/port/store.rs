//! The port for everything that must outlive the process.
//!
//! Six capabilities: [`Dispatch`], [`Journal`], [`LedgerStore`], [`Directory`], [`UsageStore`] come from one
//! store, because a reservation checks lease and kill switch in its own transaction; [`Blobs`] may come from
//! another. Plain data only, so that a networked SQL store can implement it.
//!
//! Rules that every implementation keeps (the conformance suite in `sim` defines them):
//! - every mutating call carries an idempotency key: an invocation, a reservation, a sequence number;
//! - a call whose lease has been taken over answers `Fenced` and changes nothing;
//! - an answered call with [`Durability::Synced`] survives power loss; one with [`Durability::Relaxed`] is
//!   visible at once and durable with the next synced call, or soon;
//! - calls of one caller take effect in the order they were made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::derived::DerivedArtifact;
use crate::id::ReservationId;
use crate::invocation::OutcomeKind;
use crate::ledger::{
    Account, LookAhead, ReserveOutcome, ReserveRequest, Scope, SettleOutcome, Settlement,
};
use crate::model::Usage;
use crate::port::BoxFuture;
use crate::{AgentName, InvocationId, ModelId, Money, SessionId, Timestamp, UtcDay, WorkflowId};

/// The store that an engine runs on.
pub trait Store: Dispatch + Journal + LedgerStore + Directory + UsageStore {}

impl<T: Dispatch + Journal + LedgerStore + Directory + UsageStore> Store for T {}

/// Why a store could not do its job. Expected answers (fenced, over limit) are not errors.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full or a quota is reached. Nothing of the call was kept; free space and try again.
    #[error("store is full: {detail}")]
    Full {
        /// What was attempted, on what file.
        detail: Arc<str>,
    },
    /// The store cannot be written: read-only file system, missing permission.
    #[error("store cannot be written: {detail}")]
    ReadOnly {
        /// What was attempted, on what file.
        detail: Arc<str>,
    },
    /// The data is damaged or of a newer version. It was not touched.
    #[error("store cannot be read: {detail}")]
    Damaged {
        /// What was found, where, and what to do.
        detail: Arc<str>,
    },
    /// The store did not answer, or has shut down after an error.
    #[error("store is unavailable: {detail}")]
    Unavailable {
        /// What was attempted and what failed.
        detail: Arc<str>,
    },
    /// The call itself is wrong: a gap in the journal, a name that is no file name. Nothing was changed;
    /// trying again does not help.
    #[error("store refused the call: {detail}")]
    Invalid {
        /// What was attempted, on what, and what was expected.
        detail: Arc<str>,
    },
    /// No such thing.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for.
        what: Arc<str>,
    },
}

/// Whether a call returns before its effect is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Visible now, durable with the next synced call or within [`RELAXED_DELAY`].
    Relaxed,
    /// Durable when answered.
    Synced,
}

/// A relaxed write is made durable at the latest after this time.
pub const RELAXED_DELAY: Duration = Duration::from_millis(20);

/// One journaled event, encoded by `crate::journal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the invocation's journal, from 1 without gaps.
    pub sequence: u64,
    /// The encoded event.
    pub payload: Arc<str>,
}

/// The time-limited right of one node to drive the invocations of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The session.
    pub session: SessionId,
    /// The node that holds it.
    pub node: Arc<str>,
    /// Counts the takeovers; a call with an older epoch is fenced.
    pub epoch: u64,
}

/// The answer to a mutating call that can lose its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done now.
    Done,
    /// It had been done before; nothing changed.
    AlreadyDone,
    /// The lease belongs to another node now; nothing changed.
    Fenced,
}

/// Submission, leases, end.
pub trait Dispatch: Send + Sync {
    /// Records a new invocation with its first entries and claims its session.
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<SubmitOutcome, StoreError>>;

    /// Claims a session for `node` if it is free, expired or already its own. Synced.
    fn claim(
        &self,
        session: SessionId,
        node: Arc<str>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<ClaimOutcome, StoreError>>;

    /// Extends a lease.
    fn heartbeat(&self, lease: Lease, ttl: Duration) -> BoxFuture<'_, Result<Outcome, StoreError>>;

    /// Gives a lease back.
    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<Outcome, StoreError>>;

    /// Records the end of an invocation with its last journal entries and its artifacts. Synced.
    fn finish(&self, finish: Finish) -> BoxFuture<'_, Result<FinishReply, StoreError>>;

    /// Invocations without an end, oldest first.
    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>>;
}

/// A new invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its id.
    pub invocation: InvocationId,
    /// Its session, new or existing.
    pub session: SessionId,
    /// The node that will drive it.
    pub node: Arc<str>,
    /// How long the lease lasts without a heartbeat.
    pub ttl: Duration,
    /// The agent.
    pub agent: AgentName,
    /// The model.
    pub model: ModelId,
    /// The workflow, if any.
    pub workflow: Option<WorkflowId>,
    /// The task's first line, redacted, at most 200 characters; for lists.
    pub title: Arc<str>,
    /// Submitting twice with the same key is one invocation.
    pub idempotency_key: Option<Arc<str>>,
    /// What the key stands for: a digest of what was asked. Another one under the same key is refused.
    pub fingerprint: Option<Arc<str>>,
    /// The first journal entries: kept with the submission or not at all.
    pub entries: Vec<Entry>,
    /// Whether to wait for durability. Relaxed where a reservation follows at once and makes it durable.
    pub durability: Durability,
    /// When.
    pub at: Timestamp,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// Recorded; the session is leased.
    Accepted(Lease),
    /// The key was used before, for this invocation.
    Duplicate(InvocationId),
    /// The key was used before, for this invocation, and something else was asked then.
    KeyReused(InvocationId),
    /// Another live node holds the session.
    SessionBusy {
        /// The node.
        node: Arc<str>,
    },
    /// The kill switch is thrown.
    Killed(KillRow),
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// Leased.
    Claimed(Lease),
    /// Another live node holds it.
    Held {
        /// The node.
        node: Arc<str>,
    },
}

/// The end of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The right to write.
    pub lease: Lease,
    /// The invocation.
    pub invocation: InvocationId,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// How it ended, in a line for people.
    pub summary: Arc<str>,
    /// Its final text, redacted; empty if there is none.
    pub result: Arc<str>,
    /// The sequence of the last entry that was handed over before these, 0 for none. If the store does not have it
    /// (the call that carried it has failed), nothing is recorded: an end never stands above a hole.
    pub after: u64,
    /// Its last journal entries.
    pub entries: Vec<Entry>,
    /// Artifacts that follow from the journal up to here ([`crate::derived`]), named as in an [`ArtifactDraft`].
    pub artifacts: Vec<DerivedArtifact>,
    /// Whether it may be resumed later (shutdown, a raised limit).
    pub resumable: bool,
    /// When.
    pub at: Timestamp,
}

/// The answer to the end of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishReply {
    /// Whether the end was recorded.
    pub outcome: Outcome,
    /// What was asked for in [`Finish::artifacts`], in that order: the references of artifacts that the store
    /// has taken. They are durable with the end, and can be read through its [`Blobs`]; their files may follow.
    /// Empty when the store takes none (it keeps no artifacts, or has no room): the caller stores them itself.
    pub artifacts: Vec<ArtifactRef>,
    /// Where the journal stands at its end, for the audit log; `None` from a store that keeps no hashes of entries, and
    /// where nothing was recorded.
    pub journal: Option<JournalHead>,
}

/// A place in a journal whose entries form a chain of hashes: its end, where nothing else is said. Position 0 and a
/// hash of zeros before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalHead {
    /// Position of the entry.
    pub sequence: u64,
    /// Its hash, which covers all entries up to it.
    pub hash: [u8; 32],
}

/// An invocation as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationRecord {
    /// Its id.
    pub invocation: InvocationId,
    /// Its session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentName,
    /// Its model.
    pub model: ModelId,
    /// Its workflow, if any.
    pub workflow: Option<WorkflowId>,
    /// The task's first line.
    pub title: Arc<str>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended; absent while it is unfinished.
    pub outcome: Option<OutcomeKind>,
    /// How it ended, in a line.
    pub summary: Arc<str>,
    /// Its final text.
    pub result: Arc<str>,
    /// Whether it may be resumed.
    pub resumable: bool,
    /// Whether it has not ended and a node holds the live lease of its session. One that has not ended and is not
    /// driven was interrupted: nothing happens to it until somebody takes it up. The lease is that of the session: while
    /// another invocation of it runs, this one counts as driven.
    pub driven: bool,
    /// Its settled cost.
    pub cost: Money,
    /// Its settled tokens.
    pub tokens: u64,
}

/// The ordered, durable events of an invocation.
pub trait Journal: Send + Sync {
    /// Appends entries. An entry whose sequence is already there is skipped.
    fn append(
        &self,
        lease: Lease,
        invocation: InvocationId,
        entries: Vec<Entry>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>>;

    /// The entries of an invocation whose sequence is above `after`, in order; none when there are no more.
    ///
    /// Costs what is returned, not what is skipped: whoever follows a journal asks from where it stands.
    fn read_after(
        &self,
        invocation: InvocationId,
        after: u64,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;

    /// All entries of an invocation in order.
    fn read(&self, invocation: InvocationId) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.read_after(invocation, 0)
    }
}

/// Reservations and settlements.
pub trait LedgerStore: Send + Sync {
    /// Holds money, checking lease and kill switch in the same transaction. Synced, unless the money was held
    /// ahead already ([`ReserveCall::look_ahead`]): then relaxed.
    fn reserve(&self, call: ReserveCall) -> BoxFuture<'_, Result<ReserveReply, StoreError>>;

    /// Ends a reservation, with journal entries and the usage row in the same transaction.
    fn settle(&self, call: SettleCall) -> BoxFuture<'_, Result<SettleReply, StoreError>>;

    /// Forfeits the open reservations of invocations whose lease has expired or that are finished.
    /// Returns how many. Money that was only held ahead is given back, unless the last changes of its owner may
    /// have been lost: then it is forfeited as well.
    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The running totals of a scope; zero when nothing was ever booked there.
    fn account(&self, scope: Scope) -> BoxFuture<'_, Result<Account, StoreError>>;

    /// The UTC day by the store's clock. Never falls.
    fn today(&self) -> BoxFuture<'_, Result<UtcDay, StoreError>>;
}

/// A reserve request with what it rides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveCall {
    /// The right to write.
    pub lease: Lease,
    /// What to hold.
    pub request: ReserveRequest,
    /// As [`Finish::after`]: nothing is held above a hole.
    pub after: u64,
    /// Journal entries that become durable with it, granted or not.
    pub entries: Vec<Entry>,
    /// Whether money is held ahead for the calls that follow, and drawn on.
    pub look_ahead: LookAhead,
}

/// The answer to a reserve call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveReply {
    /// The ledger's answer.
    Ledger(ReserveOutcome),
    /// The lease belongs to another node now; nothing changed.
    Fenced,
    /// The kill switch is thrown; entries were kept, nothing was held.
    Killed(KillRow),
}

/// A settlement with what it rides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleCall {
    /// The right to write.
    pub lease: Lease,
    /// The reservation.
    pub reservation: ReservationId,
    /// How it ends.
    pub settlement: Settlement,
    /// Whom the usage belongs to.
    pub attribution: Attribution,
    /// Journal entries that become durable with it.
    pub entries: Vec<Entry>,
    /// Whether to wait for durability.
    pub durability: Durability,
}

/// Whom a usage row belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The session.
    pub session: SessionId,
    /// The agent.
    pub agent: AgentName,
    /// The workflow, if any.
    pub workflow: Option<WorkflowId>,
    /// The model that was asked.
    pub model: ModelId,
    /// When the call ended.
    pub at: Timestamp,
}

/// The answer to a settle call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleReply {
    /// The ledger's answer.
    Ledger(SettleOutcome),
    /// The lease belongs to another node now; nothing changed.
    Fenced,
}

/// Sessions, invocations, the kill switch.
pub trait Directory: Send + Sync {
    /// Invocations, newest first, at most `limit`.
    fn invocations(
        &self,
        query: InvocationQuery,
    ) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>>;

    /// Throws (`Some`) or lifts (`None`) the kill switch. Synced.
    fn set_kill(&self, row: Option<KillRow>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The kill switch, if thrown.
    fn kill(&self) -> BoxFuture<'_, Result<Option<KillRow>, StoreError>>;
}

/// Which invocations to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InvocationQuery {
    /// Only this invocation.
    pub invocation: Option<InvocationId>,
    /// Only this session.
    pub session: Option<SessionId>,
    /// Only this agent.
    pub agent: Option<AgentName>,
    /// Most rows; `None` means 1,000.
    pub limit: Option<u32>,
}

/// The kill switch, thrown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillRow {
    /// Why and by whom, in words.
    pub reason: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// Usage queries.
pub trait UsageStore: Send + Sync {
    /// Sums of usage rows, grouped as asked, in the order of their keys.
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<Vec<UsageSum>, StoreError>>;
}

/// Which usage to sum, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageQuery {
    /// From this time, inclusive.
    pub from: Option<Timestamp>,
    /// To this time, exclusive.
    pub to: Option<Timestamp>,
    /// Only this agent.
    pub agent: Option<AgentName>,
    /// Only this session.
    pub session: Option<SessionId>,
    /// Only this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only this invocation.
    pub invocation: Option<InvocationId>,
    /// The columns to group by; empty gives one sum.
    pub group_by: Vec<UsageGroup>,
}

impl UsageQuery {
    /// Whether its beginning is after its end: a slip of whoever asks, and no time that could be empty.
    #[must_use]
    pub fn is_backwards(&self) -> bool {
        matches!((self.from, self.to), (Some(from), Some(to)) if from > to)
    }
}

/// A column to group usage by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UsageGroup {
    /// UTC day.
    Day,
    /// Agent.
    Agent,
    /// Model.
    Model,
    /// Session.
    Session,
    /// Workflow.
    Workflow,
    /// Invocation.
    Invocation,
}

impl UsageGroup {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Day,
        Self::Agent,
        Self::Model,
        Self::Session,
        Self::Workflow,
        Self::Invocation,
    ];

    /// `day`, `agent`, `model`, `session`, `workflow` or `invocation`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Session => "session",
            Self::Workflow => "workflow",
            Self::Invocation => "invocation",
        }
    }
}

/// One sum of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// The group's values, in the order asked; an absent workflow is an empty text.
    pub key: BTreeMap<UsageGroup, String>,
    /// Model calls.
    pub calls: u64,
    /// Of these, calls charged at their hold because no usage record came.
    pub unconfirmed_calls: u64,
    /// Tokens by class. Forfeited calls count no tokens here.
    pub usage: Usage,
    /// Money charged, forfeits included.
    pub cost: Money,
    /// Of this, charged for the unconfirmed calls.
    pub unconfirmed_cost: Money,
}

/// A log in which the hash of each record covers all records before it. It grows at its end; at its front, whole
/// prefixes may be removed, and the log says so itself: it begins after the last removed record, whose position and
/// hash are kept, so that the chain is followed from there.
///
/// Not part of [`Store`]: an engine that keeps no audit log needs none.
pub trait AuditLog: Send + Sync {
    /// Appends records in order and returns the new end.
    fn append_audit(
        &self,
        records: Vec<AuditRecord>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<AuditHead, StoreError>>;

    /// The end of the log. Kept elsewhere, it is the anchor that shows a log that was cut or rewritten.
    fn audit_head(&self) -> BoxFuture<'_, Result<AuditHead, StoreError>>;

    /// Records after a sequence number, in order, at most `most`.
    fn read_audit(
        &self,
        after: u64,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>>;

    /// Removes the record that `through` names and all before it, and appends a record that says so
    /// ([`audit_trimmed`](crate::store_rules::audit_trimmed)): both or neither, and durable when this returns.
    fn trim_audit(
        &self,
        through: AuditHead,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<AuditTrim, StoreError>>;

    /// Checks every record against those before it, and the log against an end of it that was kept elsewhere.
    fn check_audit(
        &self,
        anchor: Option<AuditHead>,
    ) -> BoxFuture<'_, Result<AuditCheck, StoreError>>;
}

/// What became of the wish to remove records from the front of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditTrim {
    /// They are gone. The new end of the log, which is the record that says so.
    Done(AuditHead),
    /// The log begins at that record or after it; nothing was changed.
    AlreadyDone,
    /// The log has no record with that position and hash; nothing was changed.
    NoSuchRecord,
}

/// What a check of the audit log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditCheck {
    /// Every record follows from those before it, and the anchor, if one was given, is among them or is the last
    /// removed one.
    Whole(AuditSpan),
    /// Every record follows from those before it, but the anchor is that of a record which was removed: it says
    /// nothing of this log any more.
    AnchorRemoved(AuditSpan),
    /// It was changed, cut or rewritten.
    Broken {
        /// Where, and what was expected.
        detail: Arc<str>,
    },
}

/// A record of the audit log: redacted text, such as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// What.
    pub text: Arc<str>,
}

/// A record in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Position, from 1 without gaps.
    pub sequence: u64,
    /// The record.
    pub record: AuditRecord,
    /// SHA-256 over the hash before, the position, the time and the text.
    pub hash: [u8; 32],
}

/// From where to where an audit log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditSpan {
    /// The last record that was removed from the front; position 0 if none was.
    pub begins_after: AuditHead,
    /// The last record.
    pub end: AuditHead,
}

/// A place in an audit log, by which it can be found again: its end, where nothing else is said. Position 0 and a
/// hash of zeros before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditHead {
    /// Position of the record.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// Stored result files.
pub trait Blobs: Send + Sync {
    /// Stores an artifact atomically and durably.
    fn put(&self, draft: ArtifactDraft) -> BoxFuture<'_, Result<ArtifactRef, StoreError>>;

    /// Reads an artifact and checks it against its reference.
    fn get(&self, artifact: ArtifactRef) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;

    /// The artifacts of a session, by name.
    fn list(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<ArtifactRef>, StoreError>>;
}

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ArtifactKind {
    /// What was said.
    Transcript,
    /// What came out.
    Result,
    /// Anything in between.
    Intermediate,
}

impl ArtifactKind {
    /// `transcript`, `result` or `intermediate`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transcript => "transcript",
            Self::Result => "result",
            Self::Intermediate => "intermediate",
        }
    }
}

/// An artifact to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactDraft {
    /// The session.
    pub session: SessionId,
    /// The invocation.
    pub invocation: InvocationId,
    /// What it is.
    pub kind: ArtifactKind,
    /// File name: letters, digits, `-`, `_`, `.`; does not begin with a dot; at most 100 characters.
    pub name: Arc<str>,
    /// The bytes.
    pub content: Arc<[u8]>,
}

/// Names a stored artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRef {
    /// The session.
    pub session: SessionId,
    /// Path below the session's directory.
    pub path: Arc<str>,
    /// What it is.
    pub kind: ArtifactKind,
    /// Length in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: Arc<str>,
}
