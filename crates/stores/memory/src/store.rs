//! The store: the port's traits on rows behind one mutex.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otto_core::ledger::{Account, Scope};
use otto_core::port::BoxFuture;
use otto_core::port::store::{
    ClaimOutcome, Directory, Dispatch, Durability, Entry, Finish, FinishReply, InvocationQuery,
    InvocationRecord, Journal, KillRow, Lease, LedgerStore, Outcome, ReserveCall, ReserveReply,
    SettleCall, SettleReply, StoreError, Submission, SubmitOutcome, UsageQuery, UsageStore,
    UsageSum,
};
use otto_core::store_rules::{self as rules, StoreClock};
use otto_core::{InvocationId, SessionId, Timestamp, UtcDay};

use crate::audit::Trail;
use crate::blobs::Files;
use crate::rows::MemoryRows;
use crate::{Bounds, queries};

/// A store in memory. Clones share the same rows, like processes on one state directory.
#[derive(Clone)]
pub struct MemoryStore {
    rows: Arc<Mutex<MemoryRows>>,
    pub(crate) files: Arc<Mutex<Files>>,
    pub(crate) audit: Arc<Mutex<Trail>>,
    clock: Arc<dyn StoreClock>,
}

impl MemoryStore {
    /// An empty store on the wall clock of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Bounds::default(), Arc::new(WallClock))
    }

    /// An empty store with bounds and a clock.
    #[must_use]
    pub fn with(bounds: Bounds, clock: Arc<dyn StoreClock>) -> Self {
        Self {
            rows: Arc::new(Mutex::new(MemoryRows::new(bounds))),
            files: Arc::new(Mutex::new(Files::new(bounds.artifact_bytes))),
            audit: Arc::default(),
            clock,
        }
    }

    fn rows(&self) -> MutexGuard<'_, MemoryRows> {
        // A panic inside a rule is a defect; what it left is shown rather than hidden behind a second panic.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// The wall clock of this machine.
struct WallClock;

impl StoreClock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.after(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }
}

impl Dispatch for MemoryStore {
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<SubmitOutcome, StoreError>> {
        Box::pin(async move { rules::submit(&mut *self.rows(), self.clock.now(), &submission) })
    }

    fn claim(
        &self,
        session: SessionId,
        node: Arc<str>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<ClaimOutcome, StoreError>> {
        Box::pin(
            async move { rules::claim(&mut *self.rows(), self.clock.now(), session, &node, ttl) },
        )
    }

    fn heartbeat(&self, lease: Lease, ttl: Duration) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move { rules::heartbeat(&mut *self.rows(), self.clock.now(), &lease, ttl) })
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move { rules::release(&mut *self.rows(), &lease) })
    }

    fn finish(&self, finish: Finish) -> BoxFuture<'_, Result<FinishReply, StoreError>> {
        Box::pin(async move {
            let outcome = rules::finish(&mut *self.rows(), &finish)?;
            let artifacts = match outcome {
                Outcome::Fenced => Vec::new(),
                Outcome::Done | Outcome::AlreadyDone => self.keep_derived(&finish),
            };
            Ok(FinishReply {
                outcome,
                artifacts,
                journal: None,
            })
        })
    }

    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        Box::pin(async move { queries::unfinished(&self.rows(), self.clock.now()) })
    }
}

impl Journal for MemoryStore {
    fn append(
        &self,
        lease: Lease,
        invocation: InvocationId,
        entries: Vec<Entry>,
        _durability: Durability,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move { rules::append(&mut *self.rows(), &lease, invocation, &entries) })
    }

    fn read_after(
        &self,
        invocation: InvocationId,
        after: u64,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        Box::pin(async move {
            let rows = self.rows();
            let not_found = |what: String| {
                Err(StoreError::NotFound {
                    what: Arc::from(what),
                })
            };
            match rows.invocations.get(&invocation) {
                None => not_found(format!("invocation {invocation}")),
                Some(found) if found.dropped => not_found(format!(
                    "the journal of invocation {invocation}, which the store in memory dropped at its bound,"
                )),
                Some(found) => {
                    // Numbered from 1 without gaps, so the position is the sequence.
                    let skipped = usize::try_from(after)
                        .unwrap_or(usize::MAX)
                        .min(found.entries.len());
                    Ok(found.entries[skipped..].to_vec())
                }
            }
        })
    }
}

impl LedgerStore for MemoryStore {
    fn reserve(&self, call: ReserveCall) -> BoxFuture<'_, Result<ReserveReply, StoreError>> {
        Box::pin(
            async move { Ok(rules::reserve(&mut *self.rows(), self.clock.now(), &call)?.reply) },
        )
    }

    fn settle(&self, call: SettleCall) -> BoxFuture<'_, Result<SettleReply, StoreError>> {
        Box::pin(async move { rules::settle(&mut *self.rows(), &call) })
    }

    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { rules::sweep(&mut *self.rows(), self.clock.now()) })
    }

    fn account(&self, scope: Scope) -> BoxFuture<'_, Result<Account, StoreError>> {
        Box::pin(async move { Ok(self.rows().ledger.account(&scope)) })
    }

    fn today(&self) -> BoxFuture<'_, Result<UtcDay, StoreError>> {
        Box::pin(async move { rules::today(&mut *self.rows(), self.clock.now()) })
    }
}

impl Directory for MemoryStore {
    fn invocations(
        &self,
        query: InvocationQuery,
    ) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        Box::pin(async move { queries::invocations(&self.rows(), &query, self.clock.now()) })
    }

    fn set_kill(&self, row: Option<KillRow>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.rows().set_kill(row);
            Ok(())
        })
    }

    fn kill(&self) -> BoxFuture<'_, Result<Option<KillRow>, StoreError>> {
        Box::pin(async move { rules::Rows::kill(&mut *self.rows()) })
    }
}

impl UsageStore for MemoryStore {
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<Vec<UsageSum>, StoreError>> {
        Box::pin(async move { queries::usage(&self.rows(), &query) })
    }
}
