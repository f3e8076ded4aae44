//! A store whose reservations also hold money of the user's day.
//!
//! Everything else goes straight to the store behind it. The day's money is held first and settled last, so
//! that at every instant the book holds at least what the ledger does.
//!
//! Invariant: no reservation is granted without its hold in the book.

use std::sync::Arc;
use std::time::Duration;

use otto_core::ledger::{Account, Denial};
use otto_core::ledger::{ReserveOutcome, Scope, SettleOutcome};
use otto_core::port::BoxFuture;
use otto_core::port::store::{
    ClaimOutcome, Directory, Dispatch, Durability, Entry, Finish, FinishReply, InvocationQuery,
    InvocationRecord, Journal, KillRow, Lease, LedgerStore, Outcome, ReserveCall, ReserveReply,
    SettleCall, SettleReply, Store, StoreError, Submission, SubmitOutcome, UsageQuery, UsageStore,
    UsageSum,
};
use otto_core::{InvocationId, SessionId, UtcDay};
use otto_engine::clock::Clock;

use super::day_book::{DayBook, Held};

/// The store behind, with the user's day in front of its ledger.
pub(crate) struct DayStore {
    inner: Arc<dyn Store>,
    book: Arc<DayBook>,
    clock: Arc<dyn Clock>,
}

impl DayStore {
    pub(crate) fn new(inner: Arc<dyn Store>, book: Arc<DayBook>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, book, clock }
    }

    /// Runs a step of the book that may wait for a file, off the async threads.
    async fn hold(&self, call: &ReserveCall) -> Result<Held, StoreError> {
        let (book, id, quote) = (self.book.clone(), call.request.id, call.request.quote);
        let today = self.clock.now().day();
        if let Some(held) = book.hold_at_once(today, id, &quote) {
            return Ok(Held::Granted(held));
        }
        tokio::task::spawn_blocking(move || book.hold(today, id, &quote))
            .await
            .unwrap_or_else(|panic| {
                Err(StoreError::Unavailable {
                    detail: Arc::from(format!("hold money of the day: {panic}")),
                })
            })
    }

    /// Nothing is held; the entries are kept all the same, as with every other limit.
    async fn deny(
        &self,
        call: ReserveCall,
        denial: Box<Denial>,
    ) -> Result<ReserveReply, StoreError> {
        if let Some(kill) = self.inner.kill().await? {
            return Ok(ReserveReply::Killed(kill));
        }
        let invocation = call.request.id.invocation;
        let kept = self
            .inner
            .append(call.lease, invocation, call.entries, Durability::Synced)
            .await?;
        Ok(match kept {
            Outcome::Done | Outcome::AlreadyDone => {
                ReserveReply::Ledger(ReserveOutcome::OverLimit(denial))
            }
            Outcome::Fenced => ReserveReply::Fenced,
        })
    }
}

impl LedgerStore for DayStore {
    fn reserve(&self, mut call: ReserveCall) -> BoxFuture<'_, Result<ReserveReply, StoreError>> {
        Box::pin(async move {
            let id = call.request.id;
            let held = match self.hold(&call).await? {
                Held::Granted(held) => held,
                Held::Over(denial) => return self.deny(call, denial).await,
            };
            let quote = &mut call.request.quote;
            let for_output = held.saturating_sub(quote.prompt_cost).picodollars();
            if let Some(tokens) = for_output.checked_div(quote.output_price.picodollars()) {
                quote.output_wanted = quote.output_wanted.min(tokens);
            }
            let reply = self.inner.reserve(call).await;
            match &reply {
                Ok(ReserveReply::Ledger(
                    ReserveOutcome::Granted(grant) | ReserveOutcome::AlreadyGranted(grant),
                )) => self.book.lower(id, grant.held_cost),
                _ => self.book.release(id),
            }
            reply
        })
    }

    fn settle(&self, call: SettleCall) -> BoxFuture<'_, Result<SettleReply, StoreError>> {
        Box::pin(async move {
            let id = call.reservation;
            let mut reply = self.inner.settle(call).await?;
            if let SettleReply::Ledger(SettleOutcome::Settled(settled)) = &mut reply {
                let of_day = self.book.settle(id, settled.charged);
                // The store's own warning of the day tells of this project alone.
                let knows =
                    |warning: &otto_core::ledger::Warning| matches!(warning.scope, Scope::Day(_));
                if let Some(warning) = of_day {
                    settled.warnings.retain(|known| !knows(known));
                    settled.warnings.push(warning);
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

impl Dispatch for DayStore {
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
        self.inner.finish(finish)
    }

    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        self.inner.unfinished()
    }
}

impl Journal for DayStore {
    fn append(
        &self,
        lease: Lease,
        invocation: InvocationId,
        entries: Vec<Entry>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.inner.append(lease, invocation, entries, durability)
    }

    fn read_after(
        &self,
        invocation: InvocationId,
        after: u64,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.inner.read_after(invocation, after)
    }
}

impl Directory for DayStore {
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

impl UsageStore for DayStore {
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<Vec<UsageSum>, StoreError>> {
        self.inner.usage(query)
    }
}
