//! The end of an engine: admission stops, what runs comes to a durable point, leases are given back, and what
//! was left is named.
//!
//! Invariant: after it returns, no AgentServer of this engine writes any more.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use otto_core::AgentName;
use otto_core::invocation::CancelReason;
use tokio::time::Instant;

use crate::engine::{Engine, Shared};
use crate::{Ids, registry::Registry};

/// What a shutdown left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Invocations that were ended by it and can be resumed, oldest first.
    pub left: Vec<LeftForResume>,
    /// Components that did not end within the bound and were dropped.
    pub dropped: Vec<Arc<str>>,
}

/// An invocation that a shutdown ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftForResume {
    /// Its ids; `otto resume SESSION` takes it up.
    pub ids: Ids,
    /// Its agent.
    pub agent: AgentName,
    /// It did not reach a durable point within the bound: it is resumed as after a crash, so an open model
    /// call counts as spent and an open tool call as of unknown outcome.
    pub was_abandoned: bool,
}

/// How long abandoned tasks get to give their leases back.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Engine {
    /// As [`Engine::shutdown`], for a process that is to be started again: what runs stays unfinished, and the
    /// next one takes it up with [`Engine::recover`] by itself.
    pub async fn hand_over(&self, bound: Duration) -> ShutdownReport {
        self.shared().begin_to_hand_over();
        self.shutdown(bound).await
    }

    /// Ends: no new invocation, running ones stop at their next durable point, at most `bound`; then the
    /// components end in the reverse of their start. Calling it again waits for the same end.
    pub async fn shutdown(&self, bound: Duration) -> ShutdownReport {
        let shared = self.shared();
        let until = Instant::now() + bound;
        shared.close();
        shared
            .telemetry
            .shutdown_begun(shared.registry.count(), bound);
        shared.registry.stop_all(CancelReason::Shutdown);
        if tokio::time::timeout_at(until, shared.registry.emptied())
            .await
            .is_err()
        {
            shared.abandon.cancel();
            // A task that is stuck in code that never awaits is left to the end of the process; its lease
            // runs out.
            let _ = tokio::time::timeout(LAST_WORDS, shared.registry.emptied()).await;
        }
        let rest = until.saturating_duration_since(Instant::now());
        let dropped = shared.supervisor.shutdown(rest.max(LAST_WORDS)).await;
        let mut left = shared.take_left();
        add_stuck(&shared.registry, &mut left);
        left.sort_by_key(|left| left.ids.invocation);
        let abandoned = left.iter().filter(|left| left.was_abandoned).count();
        shared.telemetry.shutdown_ended(left.len(), abandoned);
        ShutdownReport { left, dropped }
    }
}

/// Whoever is still registered did not even notice that it was abandoned.
fn add_stuck(registry: &Registry, left: &mut Vec<LeftForResume>) {
    for running in registry.running() {
        if left.iter().all(|known| known.ids != running.ids) {
            left.push(LeftForResume {
                ids: running.ids,
                agent: running.agent.clone(),
                was_abandoned: true,
            });
        }
    }
}

impl Shared {
    pub(crate) fn note_left(&self, left: LeftForResume) {
        // Entries are pushed whole, so a poisoned list is still a correct list.
        let mut list = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(left);
    }

    fn take_left(&self) -> Vec<LeftForResume> {
        std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
