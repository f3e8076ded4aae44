//! What an invocation and those who hold it tell each other: a reason to end, and how far its journal is durable.
//!
//! One small allocation per invocation: a hundred thousand of them may wait at once.
//!
//! Invariant: the first reason to end stays, the durable sequence never falls, and whoever waits hears of the
//! last change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use otto_core::invocation::CancelReason;
use tokio::sync::Notify;

/// The signals of one invocation.
#[derive(Debug)]
pub(crate) struct Signals {
    stop: OnceLock<CancelReason>,
    /// The task of the invocation: nobody else waits for a reason to end.
    driver: AtomicWaker,
    /// The last journal sequence that is durable.
    durable: AtomicU64,
    has_ended: AtomicBool,
    /// Told when `durable` or `has_ended` has changed.
    followed: Notify,
}

impl Signals {
    /// Nobody has asked it to end; its journal is durable up to `durable`.
    pub(crate) fn new(durable: u64) -> Arc<Self> {
        Arc::new(Self {
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

    /// It has ended: nothing will become durable any more.
    pub(crate) fn end(&self) {
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
    signals: Arc<Signals>,
    seen: u64,
}

impl Progress {
    pub(crate) const fn of(signals: Arc<Signals>) -> Self {
        Self { signals, seen: 0 }
    }

    /// The last sequence that is durable now.
    pub fn durable(&mut self) -> u64 {
        self.seen = self.signals.durable.load(Ordering::Acquire);
        self.seen
    }

    /// Waits until more is durable than was last seen here. `false`: the invocation has ended, and nothing will be.
    /// Cancel safe.
    pub async fn grown(&mut self) -> bool {
        match self.signals.durable_after(self.seen).await {
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

    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_is_heard_whenever_it_comes() {
        let signals = Signals::new(0);
        let waiting = tokio::spawn({
            let signals = signals.clone();
            async move { signals.stop_requested().await }
        });
        tokio::task::yield_now().await;
        signals.request_stop(CancelReason::KillSwitch);
        signals.request_stop(CancelReason::User);
        assert_eq!(waiting.await.unwrap(), CancelReason::KillSwitch);
        assert_eq!(signals.stop(), Some(CancelReason::KillSwitch));
        let again = signals.stop_requested().now_or_never();
        assert_eq!(again, Some(CancelReason::KillSwitch));
    }

    #[tokio::test]
    async fn every_follower_hears_what_became_durable_and_then_the_end() {
        let signals = Signals::new(1);
        let followers: Vec<_> = (0..3)
            .map(|_| {
                let mut progress = Progress::of(signals.clone());
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
        signals.durable_up_to(4);
        signals.durable_up_to(2);
        tokio::task::yield_now().await;
        signals.durable_up_to(5);
        signals.end();
        for follower in followers {
            assert_eq!(follower.await.unwrap(), [4, 5]);
        }
    }
}
