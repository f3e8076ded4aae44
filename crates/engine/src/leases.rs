//! Keeps the leases of running invocations alive, with one Tokio task for all of them.
//!
//! Invariant: an invocation whose lease is lost, or whose lease could not be renewed before it ran out, is told
//! to end as fenced; it makes no further durable step, because each of those carries the lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use otto_core::SessionId;
use otto_core::invocation::CancelReason;
use otto_core::port::store::{Lease, Outcome};
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::ticks::Ticks;

/// How long a lease lasts without a heartbeat.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(30);
/// A third of the lease, so that two heartbeats may fail.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<BTreeMap<SessionId, (Lease, u32)>>>,
}

impl Leases {
    /// Counts one more invocation under this lease.
    pub(crate) fn hold(&self, lease: &Lease) {
        let mut held = self.lock();
        let entry = held
            .entry(lease.session)
            .or_insert_with(|| (lease.clone(), 0));
        entry.0 = lease.clone();
        entry.1 += 1;
    }

    /// Counts one invocation less; returns the lease if it was the last.
    pub(crate) fn let_go(&self, session: SessionId) -> Option<Lease> {
        let mut held = self.lock();
        let entry = held.get_mut(&session)?;
        entry.1 -= 1;
        if entry.1 > 0 {
            return None;
        }
        held.remove(&session).map(|(lease, _)| lease)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, (Lease, u32)>> {
        // Entries are replaced whole, so a poisoned map is still a correct map.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews all leases until it is stopped.
pub(crate) async fn keep(shared: Weak<Shared>, stop: CancellationToken) {
    let mut ticks = Ticks::every(HEARTBEAT, shared, stop);
    while let Some(shared) = ticks.next().await {
        let leases: Vec<Lease> = shared
            .leases
            .lock()
            .values()
            .map(|(lease, _)| lease.clone())
            .collect();
        for lease in leases {
            let session = lease.session;
            match shared.store.heartbeat(lease, LEASE_TTL).await {
                Ok(Outcome::Done | Outcome::AlreadyDone) => {}
                Ok(Outcome::Fenced) => {
                    shared.registry.stop_session(session, CancelReason::Fenced);
                }
                // Tried again at the next tick; a lease that runs out is fenced by the store itself.
                Err(error) => shared.telemetry.store_failed("heartbeat", &error),
            }
        }
    }
}
