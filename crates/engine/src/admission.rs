//! Admission: how many invocations run, how many wait, and when the answer is "busy".
//!
//! Invariant: at most `running` permits are out, and at most `waiting` callers queue for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::InvokeError;

/// The bounds on concurrent invocations.
#[derive(Debug, Clone)]
pub struct Admission {
    running: Arc<Semaphore>,
    limit: usize,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
}

/// A place in the queue; becomes a permit.
#[derive(Debug)]
pub(crate) struct Ticket {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// What a caller is told to wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Admission {
    /// At most `limit` invocations at once, and at most `max_waiting` behind them.
    #[must_use]
    pub fn new(limit: usize, max_waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(limit)),
            limit,
            waiting: Arc::new(AtomicUsize::new(0)),
            max_waiting,
        }
    }

    /// Takes a place in the queue, or says "busy" at once.
    pub(crate) fn enter(&self) -> Result<Ticket, InvokeError> {
        let free = self.running.available_permits();
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        if waiting >= free + self.max_waiting {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(InvokeError::Busy {
                running: self.limit - free,
                waiting,
                retry_after: RETRY_AFTER,
            });
        }
        Ok(Ticket {
            running: self.running.clone(),
            waiting: self.waiting.clone(),
        })
    }

    /// Whether the next caller would be told "busy".
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting() >= self.running.available_permits() + self.max_waiting
    }

    /// Invocations that wait for a permit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

impl Ticket {
    /// Whether there is no room at the moment.
    pub(crate) fn must_wait(&self) -> bool {
        self.running.available_permits() == 0
    }

    /// Waits for a permit. `None` once admission has been closed.
    pub(crate) async fn admitted(self) -> Option<OwnedSemaphorePermit> {
        self.running.clone().acquire_owned().await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let admission = Admission::new(1, 1);
        let running = admission.enter().unwrap().admitted().await.unwrap();
        let waiting = admission.enter().unwrap();
        assert!(matches!(
            admission.enter(),
            Err(InvokeError::Busy {
                running: 1,
                waiting: 1,
                ..
            })
        ));
        drop(running);
        assert!(waiting.admitted().await.is_some());
        assert_eq!(admission.waiting(), 0);
    }
}
