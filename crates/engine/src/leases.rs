//! Keeps the leases of running invocations alive, with one Tokio task for all of them.
//!
//! Invariant: an invocation whose lease is lost, or whose lease could not be renewed before it ran out, is told
//! to end as fenced; it makes no further durable step, because each of those carries the lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use otto_core::SessionId;
use otto_core::invocation::CancelReason;
use otto_core::port::store::Outcome;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::ticks::Ticks;

/// How long a lease lasts without a heartbeat.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(30);
/// A third of the lease, so that two heartbeats may fail.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<BTreeMap<SessionId, Held>>>,
}

/// The lease of a session, all of which name this process.
#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: u64,
    /// How many invocations run under it.
    count: u32,
}

impl Leases {
    /// Counts one more invocation under a lease of this epoch.
    pub(crate) fn hold(&self, session: SessionId, epoch: u64) {
        let mut held = self.lock();
        let held = held.entry(session).or_insert(Held { epoch, count: 0 });
        held.epoch = epoch;
        held.count += 1;
    }

    /// Counts one invocation less; returns the epoch of the lease if it was the last.
    pub(crate) fn let_go(&self, session: SessionId) -> Option<u64> {
        let mut all = self.lock();
        let held = all.get_mut(&session)?;
        held.count -= 1;
        if held.count > 0 {
            return None;
        }
        all.remove(&session).map(|held| held.epoch)
    }

    /// The epoch of the lease under which invocations of the session run here, if any do.
    pub(crate) fn epoch(&self, session: SessionId) -> Option<u64> {
        self.lock().get(&session).map(|held| held.epoch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Held>> {
        // Entries are replaced whole, so a poisoned map is still a correct map.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews all leases until it is stopped.
pub(crate) async fn keep(shared: Weak<Shared>, stop: CancellationToken) {
    let mut ticks = Ticks::every(HEARTBEAT, shared, stop);
    while let Some(shared) = ticks.next().await {
        let held: Vec<(SessionId, u64)> = shared
            .leases
            .lock()
            .iter()
            .map(|(session, held)| (*session, held.epoch))
            .collect();
        for (session, epoch) in held {
            let lease = shared.lease(session, epoch);
            match shared.store.heartbeat(lease, LEASE_TTL).await {
                Ok(Outcome::Done | Outcome::AlreadyDone) => {}
                // One that was given back meanwhile is no loss to whoever holds the session now.
                Ok(Outcome::Fenced) if shared.leases.epoch(session) == Some(epoch) => {
                    shared.registry.stop_session(session, CancelReason::Fenced);
                }
                Ok(Outcome::Fenced) => {}
                // Tried again at the next tick; a lease that runs out is fenced by the store itself.
                Err(error) => shared.telemetry.store_failed("heartbeat", &error),
            }
        }
    }
}
