//! Running invocations by id and by agent.
//!
//! The registry only knows; it owns no task. An entry is removed by the guard that its AgentServer holds, also
//! when that panics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use otto_core::invocation::CancelReason;
use otto_core::{AgentName, InvocationId, Timestamp};
use tokio::sync::{Notify, broadcast};

use crate::running::{Progress, Running};
use crate::{Ids, ListenerEvent};

/// What is known of a running invocation.
#[derive(Debug, Clone)]
pub struct RunningInvocation {
    /// Its ids.
    pub ids: Ids,
    /// Its agent.
    pub agent: AgentName,
    /// When it was admitted.
    pub since: Timestamp,
    shared: Arc<Running>,
}

impl RunningInvocation {
    fn of(shared: &Arc<Running>) -> Self {
        Self {
            ids: shared.ids,
            agent: shared.agent.clone(),
            since: shared.since,
            shared: shared.clone(),
        }
    }

    /// Its events from now on, if it was started with listening.
    #[must_use]
    pub fn subscribe(&self) -> Option<broadcast::Receiver<ListenerEvent>> {
        self.shared.subscribe()
    }

    /// How far its journal is durable, as it grows.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress::of(self.shared.clone())
    }

    /// Asks it to end.
    pub fn cancel(&self) {
        self.shared.request_stop(CancelReason::User);
    }
}

/// Running invocations by id and by agent.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: Mutex<BTreeMap<InvocationId, Arc<Running>>>,
    /// Told whenever the last one has gone.
    emptied: Notify,
    taking_up: Mutex<BTreeSet<InvocationId>>,
}

/// Keeps others from taking the same invocation up, for as long as it lives.
#[derive(Debug)]
pub(crate) struct TakingUp {
    registry: Registry,
    invocation: InvocationId,
}

/// Keeps an entry in the registry for as long as it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Registry,
    running: Arc<Running>,
}

impl Registry {
    pub(crate) fn register(&self, running: Arc<Running>) -> Registration {
        self.lock().insert(running.ids.invocation, running.clone());
        Registration {
            registry: self.clone(),
            running,
        }
    }

    /// Begins to start an invocation, or to take one up that does not run; `None` if it runs, or another has begun to.
    pub(crate) fn take_up(&self, invocation: InvocationId) -> Option<TakingUp> {
        if !self.taking_up().insert(invocation) {
            return None;
        }
        let taking_up = TakingUp {
            registry: self.clone(),
            invocation,
        };
        // Looked at second: whoever has registered it meanwhile has left the set before.
        self.find(invocation).is_none().then_some(taking_up)
    }

    /// Whether an invocation runs here, or is about to: it begins, or is taken up.
    #[must_use]
    pub fn is_driven(&self, invocation: InvocationId) -> bool {
        // In this order: what is about to run is registered before it leaves the set.
        self.taking_up().contains(&invocation) || self.find(invocation).is_some()
    }

    /// The running invocation of that id.
    #[must_use]
    pub fn find(&self, invocation: InvocationId) -> Option<RunningInvocation> {
        self.lock().get(&invocation).map(RunningInvocation::of)
    }

    /// The running invocations of an agent, oldest first.
    #[must_use]
    pub fn of_agent(&self, agent: &AgentName) -> Vec<RunningInvocation> {
        self.lock()
            .values()
            .filter(|running| running.agent == *agent)
            .map(RunningInvocation::of)
            .collect()
    }

    /// All running invocations, oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<RunningInvocation> {
        self.lock().values().map(RunningInvocation::of).collect()
    }

    /// How many run.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Resolves once nothing runs. Cancel safe.
    pub(crate) async fn emptied(&self) {
        loop {
            // Made before the look, so that a word in between is not missed.
            let told = self.inner.emptied.notified();
            if self.lock().is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Asks every running invocation to end.
    pub(crate) fn stop_all(&self, reason: CancelReason) {
        for running in self.lock().values() {
            running.request_stop(reason);
        }
    }

    /// Asks the invocations of a session to end.
    pub(crate) fn stop_session(&self, session: otto_core::SessionId, reason: CancelReason) {
        for running in self
            .lock()
            .values()
            .filter(|running| running.ids.session == session)
        {
            running.request_stop(reason);
        }
    }

    fn taking_up(&self) -> std::sync::MutexGuard<'_, BTreeSet<InvocationId>> {
        // Ids are inserted and removed whole, so a poisoned set is still a correct set.
        self.inner
            .taking_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InvocationId, Arc<Running>>> {
        // Entries are inserted and removed whole, so a poisoned map is still a correct map.
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let is_last = {
            let mut running = self.registry.lock();
            running.remove(&self.running.ids.invocation);
            running.is_empty()
        };
        // Whoever hears of the end finds it in the registry no more.
        self.running.end();
        if is_last {
            self.registry.inner.emptied.notify_waiters();
        }
    }
}

impl Drop for TakingUp {
    fn drop(&mut self) {
        self.registry.taking_up().remove(&self.invocation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_to_run_is_driven_and_cannot_be_taken_up() {
        let registry = Registry::default();
        let id: InvocationId = "01a20846-fe00-7102-8000-000000000002".parse().unwrap();
        let beginning = registry.take_up(id);
        assert!(beginning.is_some());
        assert!(registry.is_driven(id));
        assert!(registry.take_up(id).is_none());
        drop(beginning);
        assert!(!registry.is_driven(id));
        assert!(registry.take_up(id).is_some());
    }
}
