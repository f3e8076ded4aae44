//! The timers of one invocation: a few, so a sorted list and one sleep for the earliest.
//!
//! Invariant: a due timer is taken exactly once.

use std::pin::Pin;
use std::time::Duration;

use otto_core::{EffectId, Timestamp};
use tokio::time::{Instant, Sleep};

/// BOUND: a deadline further away than this is checked again when it passes.
const FAR: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: Vec<(Timestamp, EffectId)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    pub(crate) fn set(&mut self, now: Timestamp, at: Timestamp, id: EffectId) {
        self.due.push((at, id));
        self.due.sort_unstable();
        self.arm(now);
    }

    /// Waits for the earliest timer; for ever when there is none. Cancel safe.
    pub(crate) async fn wait(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
    }

    /// Takes one timer that is due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<EffectId> {
        let due = self
            .due
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| *id);
        if due.is_some() {
            self.due.remove(0);
        }
        self.arm(now);
        due
    }

    fn arm(&mut self, now: Timestamp) {
        let Some((at, _)) = self.due.first() else {
            self.sleep = None;
            return;
        };
        let until = Instant::now() + at.since(now).min(FAR);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(until),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(until))),
        }
    }
}
