//! What a standing task does every so often, until it is stopped or what it looks after is gone.
//!
//! Invariant: between two ticks nothing holds its owner, so a task that waits keeps nobody alive.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

/// The ticks of a supervised task. A task that was late is not hurried: the next tick comes a whole period after.
#[derive(Debug)]
pub struct Ticks<T: ?Sized> {
    owner: Weak<T>,
    stop: CancellationToken,
    interval: Interval,
}

impl<T: ?Sized> Ticks<T> {
    /// The first one at once, then one every `period`, which is not zero.
    #[must_use]
    pub fn every(period: Duration, owner: Weak<T>, stop: CancellationToken) -> Self {
        Self::after(Duration::ZERO, period, owner, stop)
    }

    /// The first one after `first`, then one every `period`, which is not zero.
    #[must_use]
    pub fn after(
        first: Duration,
        period: Duration,
        owner: Weak<T>,
        stop: CancellationToken,
    ) -> Self {
        let mut interval = interval_at(Instant::now() + first, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            owner,
            stop,
            interval,
        }
    }

    /// Waits for the next tick; `None` once the task is stopped or its owner is gone.
    pub async fn next(&mut self) -> Option<Arc<T>> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            _ = self.interval.tick() => self.owner.upgrade(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn ticks_come_in_their_time_until_the_owner_is_gone() {
        let owner = Arc::new(());
        let began = Instant::now();
        let stop = CancellationToken::new();
        let mut ticks = Ticks::after(PERIOD / 5, PERIOD, Arc::downgrade(&owner), stop);
        assert!(ticks.next().await.is_some());
        assert_eq!(began.elapsed(), PERIOD / 5);
        tokio::time::sleep(PERIOD * 3).await;
        assert!(ticks.next().await.is_some(), "late");
        let late = Instant::now();
        assert!(ticks.next().await.is_some());
        assert_eq!(late.elapsed(), PERIOD, "what was missed is not made up for");
        drop(owner);
        assert!(ticks.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_task_has_no_more_ticks() {
        let owner: Arc<str> = Arc::from("owner");
        let stop = CancellationToken::new();
        let mut ticks = Ticks::every(PERIOD, Arc::downgrade(&owner), stop.clone());
        assert!(ticks.next().await.is_some(), "the first comes at once");
        let began = Instant::now();
        let (next, ()) = tokio::join!(ticks.next(), async { stop.cancel() });
        assert!(next.is_none() && began.elapsed() == Duration::ZERO);
    }
}
