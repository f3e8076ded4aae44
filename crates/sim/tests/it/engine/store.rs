//! The store in memory behind troubles: it takes its time, fails, panics, and knows what a crash would lose.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otto_core::ledger::{Account, Scope};
use otto_core::port::BoxFuture;
use otto_core::port::store::{
    ClaimOutcome, Directory, Dispatch, Durability, Entry, Finish, FinishReply, InvocationQuery,
    InvocationRecord, Journal, KillRow, Lease, LedgerStore, Outcome, ReserveCall, ReserveReply,
    SettleCall, SettleReply, StoreError, Submission, SubmitOutcome, UsageQuery, UsageStore,
    UsageSum,
};
use otto_core::store_rules::{ManualClock, StoreClock};
use otto_core::{InvocationId, SessionId, Timestamp, UtcDay};
use otto_store_memory::{Bounds, MemoryStore};

use super::Chance;

/// The store of a world.
pub(crate) struct TroubledStore {
    pub(crate) inner: MemoryStore,
    pub(crate) clock: Arc<ManualClock>,
    chance: Arc<Chance>,
    is_troubled: AtomicBool,
    /// How many settlements succeed yet, and how many fail after them.
    failing_settles: Mutex<(u64, u64)>,
    /// Entries that were written and not synced, by invocation.
    volatile: Mutex<BTreeMap<InvocationId, usize>>,
}

impl TroubledStore {
    pub(crate) fn new(chance: Arc<Chance>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_000_000_000)));
        Self {
            inner: MemoryStore::with(Bounds::default(), clock.clone()),
            clock,
            chance,
            is_troubled: AtomicBool::new(true),
            failing_settles: Mutex::default(),
            volatile: Mutex::default(),
        }
    }

    pub(crate) fn without_troubles(&self) {
        self.is_troubled.store(false, Ordering::Relaxed);
    }

    /// After `skipped` more settlements, `count` of them fail.
    pub(crate) fn fail_settle_after(&self, skipped: u64, count: u64) {
        let mut failing = self.failing_settles.lock().unwrap();
        *failing = (skipped, count);
    }

    /// Whether this settlement fails.
    fn settle_fails(&self) -> bool {
        let mut failing = self.failing_settles.lock().unwrap();
        match &mut *failing {
            (0, 0) => false,
            (0, count) => {
                *count -= 1;
                true
            }
            (skipped, _) => {
                *skipped -= 1;
                false
            }
        }
    }

    pub(crate) fn today(&self) -> UtcDay {
        self.clock.now().day()
    }

    /// The journal that a crash would leave now.
    pub(crate) async fn durable_journal(&self, invocation: InvocationId) -> Vec<Entry> {
        let mut entries = self.inner.read(invocation).await.unwrap_or_default();
        let lost = self
            .volatile
            .lock()
            .unwrap()
            .get(&invocation)
            .copied()
            .unwrap_or(0);
        entries.truncate(entries.len() - lost);
        entries
    }

    /// Takes time, and sometimes fails or panics, before the call or after it.
    async fn trouble(&self) -> Result<(), StoreError> {
        if !self.is_troubled.load(Ordering::Relaxed) {
            return Ok(());
        }
        tokio::time::sleep(self.chance.delay(15)).await;
        assert!(!self.chance.happens(2), "planted: the AgentServer panics");
        if self.chance.happens(1) {
            return Err(planted());
        }
        Ok(())
    }

    fn synced(&self) {
        self.volatile.lock().unwrap().clear();
    }
}

impl Dispatch for TroubledStore {
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<SubmitOutcome, StoreError>> {
        self.inner.submit(submission)
    }

    fn claim(
        &self,
        session: SessionId,
        node: Arc<str>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<ClaimOutcome, StoreError>> {
        self.inner.claim(session, node, ttl)
    }

    fn heartbeat(&self, lease: Lease, ttl: Duration) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.inner.heartbeat(lease, ttl)
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.inner.release(lease)
    }

    fn finish(&self, finish: Finish) -> BoxFuture<'_, Result<FinishReply, StoreError>> {
        Box::pin(async move {
            self.trouble().await?;
            let reply = self.inner.finish(finish).await?;
            self.synced();
            Ok(reply)
        })
    }

    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        self.inner.unfinished()
    }
}

impl Journal for TroubledStore {
    fn append(
        &self,
        lease: Lease,
        invocation: InvocationId,
        entries: Vec<Entry>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move {
            self.trouble().await?;
            let count = entries.len();
            let outcome = self
                .inner
                .append(lease, invocation, entries, durability)
                .await?;
            match durability {
                Durability::Synced => self.synced(),
                Durability::Relaxed => {
                    *self.volatile.lock().unwrap().entry(invocation).or_insert(0) += count;
                }
            }
            Ok(outcome)
        })
    }

    fn read_after(
        &self,
        invocation: InvocationId,
        after: u64,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.inner.read_after(invocation, after)
    }
}

impl LedgerStore for TroubledStore {
    fn reserve(&self, call: ReserveCall) -> BoxFuture<'_, Result<ReserveReply, StoreError>> {
        Box::pin(async move {
            self.trouble().await?;
            let reply = self.inner.reserve(call).await?;
            self.synced();
            // The grant stands, and its owner may not live to hear of it.
            self.trouble().await.or(Ok(()))?;
            Ok(reply)
        })
    }

    fn settle(&self, call: SettleCall) -> BoxFuture<'_, Result<SettleReply, StoreError>> {
        Box::pin(async move {
            self.trouble().await?;
            if self.settle_fails() {
                return Err(planted());
            }
            let (invocation, count) = (call.reservation.invocation, call.entries.len());
            let durability = call.durability;
            let reply = self.inner.settle(call).await?;
            match durability {
                Durability::Synced => self.synced(),
                Durability::Relaxed => {
                    *self.volatile.lock().unwrap().entry(invocation).or_insert(0) += count;
                }
            }
            Ok(reply)
        })
    }

    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.sweep()
    }

    fn account(&self, scope: Scope) -> BoxFuture<'_, Result<Account, StoreError>> {
        self.inner.account(scope)
    }

    fn today(&self) -> BoxFuture<'_, Result<UtcDay, StoreError>> {
        self.inner.today()
    }
}

impl Directory for TroubledStore {
    fn invocations(
        &self,
        query: InvocationQuery,
    ) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        self.inner.invocations(query)
    }

    fn set_kill(&self, row: Option<KillRow>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.set_kill(row)
    }

    fn kill(&self) -> BoxFuture<'_, Result<Option<KillRow>, StoreError>> {
        self.inner.kill()
    }
}

impl UsageStore for TroubledStore {
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<Vec<UsageSum>, StoreError>> {
        self.inner.usage(query)
    }
}

fn planted() -> StoreError {
    StoreError::Unavailable {
        detail: Arc::from("planted"),
    }
}
