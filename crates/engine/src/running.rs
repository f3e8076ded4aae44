//! A running invocation: who it is, and what it and those who hold it tell each other: a reason to end, and how far
//! its journal is durable.
//!
//! One small allocation per invocation, shared by its task, the registry and its handles: a hundred thousand of them
//! may wait at once.
//!
//! Invariant: the first reason to end stays, the durable sequence never falls, and whoever waits hears of the
//! last change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use otto_core::invocation::CancelReason;
use otto_core::{AgentName, Timestamp};
use tokio::sync::{Notify, broadcast};

use crate::{Ids, ListenerEvent};

/// What all who hold a running invocation share.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ids: Ids,
    pub(crate) agent: AgentName,
    /// When it was admitted.
    pub(crate) since: Timestamp,
    /// For those who come to listen later; `None` when nobody was to, and once it has ended: a sender that stays would
    /// keep listeners waiting.
    events: Mutex<Option<broadcast::Sender<ListenerEvent>>>,
    stop: OnceLock<CancelReason>,
    /// The task of the invocation: nobody else waits for a reason to end.
    driver: AtomicWaker,
    /// The last journal sequence that is durable.
    durable: AtomicU64,
    has_ended: AtomicBool,
    /// Told when `durable` or `has_ended` has changed.
    followed: Notify,
}

impl Running {
    /// Nobody has asked it to end; its journal is durable up to `durable`.
    pub(crate) fn new(
        ids: Ids,
        agent: AgentName,
        since: Timestamp,
        events: Option<broadcast::Sender<ListenerEvent>>,
        durable: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            ids,
            agent,
            since,
            events: Mutex::new(events),
            stop: OnceLock::new(),
            driver: AtomicWaker::new(),
            durable: AtomicU64::new(durable),
            has_ended: AtomicBool::new(false),
            followed: Notify::new(),
        })
    }

    /// Asks it to end, unless that was done before: the first reason stays.
    pub(crate) fn request_stop(&self, reason: CancelReason) {
        if self.stop.set(reason).is_ok() {
            self.driver.wake();
        }
    }

    /// Why it is to end, if it is.
    pub(crate) fn stop(&self) -> Option<CancelReason> {
        self.stop.get().copied()
    }

    /// Waits for a reason to end. For the task of the invocation alone: of two that wait only one would hear it.
    /// Cancel safe.
    pub(crate) async fn stop_requested(&self) -> CancelReason {
        std::future::poll_fn(|context| {
            self.driver.register(context.waker());
            // Looked at second, so that a reason given in between is not missed.
            self.stop().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Everything up to `sequence` is durable.
    pub(crate) fn durable_up_to(&self, sequence: u64) {
        if self.durable.fetch_max(sequence, Ordering::AcqRel) < sequence {
            self.followed.notify_waiters();
        }
    }

    /// Its events from now on, if somebody was to listen and it has not ended.
    pub(crate) fn subscribe(&self) -> Option<broadcast::Receiver<ListenerEvent>> {
        self.events().as_ref().map(broadcast::Sender::subscribe)
    }

    /// What its task tells listeners by, under the same conditions.
    pub(crate) fn sender(&self) -> Option<broadcast::Sender<ListenerEvent>> {
        self.events().clone()
    }

    fn events(&self) -> MutexGuard<'_, Option<broadcast::Sender<ListenerEvent>>> {
        // It is replaced whole.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has ended: nothing will become durable any more, and its task has told all that listeners hear.
    pub(crate) fn end(&self) {
        *self.events() = None;
        self.has_ended.store(true, Ordering::Release);
        self.followed.notify_waiters();
    }

    /// Waits until more than `seen` is durable and says how much; `None` when it has ended at that. Cancel safe.
    pub(crate) async fn durable_after(&self, seen: u64) -> Option<u64> {
        loop {
            // Made before the look, so that a word in between is not missed.
            let told = self.followed.notified();
            // In this order: what became durable before the end is told before it.
            let has_ended = self.has_ended.load(Ordering::Acquire);
            let durable = self.durable.load(Ordering::Acquire);
            if durable > seen {
                return Some(durable);
            }
            if has_ended {
                return None;
            }
            told.await;
        }
    }
}

/// How far the journal of a running invocation is durable, as it grows.
#[derive(Debug, Clone)]
pub struct Progress {
    running: Arc<Running>,
    seen: u64,
}

impl Progress {
    pub(crate) const fn of(running: Arc<Running>) -> Self {
        Self { running, seen: 0 }
    }

    /// The last sequence that is durable now.
    pub fn durable(&mut self) -> u64 {
        self.seen = self.running.durable.load(Ordering::Acquire);
        self.seen
    }

    /// Waits until more is durable than was last seen here. `false`: the invocation has ended, and nothing will be.
    /// Cancel safe.
    pub async fn grown(&mut self) -> bool {
        match self.running.durable_after(self.seen).await {
            Some(durable) => {
                self.seen = durable;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use otto_core::{InvocationId, SessionId, TaskId};

    use super::*;

    fn running(durable: u64) -> Arc<Running> {
        let ids = Ids {
            workflow: None,
            session: SessionId::from_parts(Timestamp::EPOCH, [1; 10]),
            task: TaskId::from_parts(Timestamp::EPOCH, [2; 10]),
            invocation: InvocationId::from_parts(Timestamp::EPOCH, [3; 10]),
        };
        let agent = AgentName::new("agent").unwrap();
        Running::new(ids, agent, Timestamp::EPOCH, None, durable)
    }

    #[tokio::test]
    async fn the_first_reason_stays_and_is_heard_whenever_it_comes() {
        let running = running(0);
        let waiting = tokio::spawn({
            let running = running.clone();
            async move { running.stop_requested().await }
        });
        tokio::task::yield_now().await;
        running.request_stop(CancelReason::KillSwitch);
        running.request_stop(CancelReason::User);
        assert_eq!(waiting.await.unwrap(), CancelReason::KillSwitch);
        assert_eq!(running.stop(), Some(CancelReason::KillSwitch));
        let again = running.stop_requested().now_or_never();
        assert_eq!(again, Some(CancelReason::KillSwitch));
    }

    #[tokio::test]
    async fn every_follower_hears_what_became_durable_and_then_the_end() {
        let running = running(1);
        let followers: Vec<_> = (0..3)
            .map(|_| {
                let mut progress = Progress::of(running.clone());
                assert_eq!(progress.durable(), 1);
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while progress.grown().await {
                        seen.push(progress.durable());
                    }
                    seen
                })
            })
            .collect();
        tokio::task::yield_now().await;
        running.durable_up_to(4);
        running.durable_up_to(2);
        tokio::task::yield_now().await;
        running.durable_up_to(5);
        running.end();
        for follower in followers {
            assert_eq!(follower.await.unwrap(), [4, 5]);
        }
    }
}
