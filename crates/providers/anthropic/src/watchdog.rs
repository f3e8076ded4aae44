//! The time limits of one reply.
//!
//! Three limits run at once: silence (no byte at all), standstill (bytes, but nothing that moves the reply
//! forward, such as pings for ever) and the deadline of the attempt. Standstill is longer while the model
//! thinks, since the text of thinking may be withheld and pings are all that comes then.
//!
//! One timer serves all of them. It is not touched when bytes arrive: when it fires it looks at the times and
//! either sleeps on or gives up.
//!
//! Invariant: a reply ends at the latest with its deadline, whatever the server sends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long to wait for a proper end after a reply is complete in all but name.
const COMPLETE_PATIENCE: Duration = Duration::from_secs(5);

/// The limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WatchdogLimits {
    /// Without any byte, and without progress.
    pub idle: Duration,
    /// Without progress while the model thinks.
    pub thinking: Duration,
    /// The end of the attempt.
    pub deadline: Instant,
}

/// What the reply is doing, as far as it matters for how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Output is expected.
    Writing,
    /// Long stretches without output are normal.
    Thinking,
    /// Nothing more is needed.
    Complete,
}

/// Why waiting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// No byte came.
    Silent(Duration),
    /// Bytes came, but no progress.
    Standstill(Duration),
    /// The attempt's time is over.
    Deadline,
}

impl std::fmt::Display for Expired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(limit) => write!(f, "not a byte for {limit:?}"),
            Self::Standstill(limit) => write!(f, "no progress for {limit:?}"),
            Self::Deadline => f.write_str("the time for this attempt is over"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Watchdog {
    limits: WatchdogLimits,
    last_byte: Instant,
    last_progress: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Watchdog {
    pub(crate) fn new(limits: WatchdogLimits, now: Instant) -> Self {
        let due = limits.deadline.min(now + limits.idle);
        Self {
            limits,
            last_byte: now,
            last_progress: now,
            sleep: Box::pin(tokio::time::sleep_until(due)),
        }
    }

    /// Bytes came. Says whether time is up, since a server that never pauses never lets the timer run.
    pub(crate) fn bytes(
        &mut self,
        now: Instant,
        made_progress: bool,
        pace: Pace,
    ) -> Option<Expired> {
        self.last_byte = now;
        if made_progress {
            self.last_progress = now;
        }
        let (due, why) = self.due(pace);
        (now >= due).then_some(why)
    }

    /// Waits until time is up.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>, pace: Pace) -> Poll<Expired> {
        loop {
            let (due, why) = self.due(pace);
            // A reply that has become complete may be due before the timer is.
            if due < self.sleep.deadline() {
                self.sleep.as_mut().reset(due);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(why);
            }
            self.sleep.as_mut().reset(due);
        }
    }

    fn due(&self, pace: Pace) -> (Instant, Expired) {
        let standstill = match pace {
            Pace::Writing => self.limits.idle,
            Pace::Thinking => self.limits.thinking.max(self.limits.idle),
            Pace::Complete => COMPLETE_PATIENCE.min(self.limits.idle),
        };
        let silent = (
            self.last_byte + self.limits.idle,
            Expired::Silent(self.limits.idle),
        );
        let standing = (
            self.last_progress + standstill,
            Expired::Standstill(standstill),
        );
        let over = (self.limits.deadline, Expired::Deadline);
        let earlier = |a: (Instant, Expired), b: (Instant, Expired)| if b.0 < a.0 { b } else { a };
        earlier(earlier(over, silent), standing)
    }
}
