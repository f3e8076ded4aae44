//! The store's own clock, as a port.
//!
//! Leases and UTC days are decided by it, never by the clock of a caller. It may jump: the rules cap a
//! lease that a backward jump has lengthened, and the highest day seen is kept in a row.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Timestamp;

/// Tells a store the time.
pub trait StoreClock: Send + Sync {
    /// The time now. Need not be monotonic.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is set: for tests and the simulator.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `at`.
    #[must_use]
    pub const fn new(at: Timestamp) -> Self {
        Self(AtomicU64::new(at.micros()))
    }

    /// Sets the clock, forward or backward.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.micros(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        self.set(self.now().after(by));
    }
}

impl StoreClock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
