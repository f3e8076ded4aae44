//! The context of one invocation, as its tools see it.
//!
//! Invariant: it is there from the first write to the end of its AgentServer, and not longer, whoever still holds
//! the handle.

use std::sync::{Arc, Mutex, PoisonError};

use otto_core::ContextId;
use otto_core::port::BoxFuture;
use otto_core::port::contexts::{ContextChange, ContextData, ContextError};

use super::{ContextGuard, ContextMetadata, ContextStore};
use crate::Ids;
use crate::clock::Clock;

/// The context of an invocation; ends when it is dropped.
pub(crate) struct OwnedData(Arc<AgentData>);

struct AgentData {
    store: ContextStore,
    clock: Arc<dyn Clock>,
    ids: Ids,
    state: Mutex<State>,
}

enum State {
    /// Nothing was written yet.
    Unopened,
    Open(#[expect(dead_code, reason = "held, not read: it keeps the context in use")] ContextGuard),
    Ended,
}

impl OwnedData {
    pub(crate) fn new(store: &ContextStore, clock: &Arc<dyn Clock>, ids: Ids) -> Self {
        Self(Arc::new(AgentData {
            store: store.clone(),
            clock: clock.clone(),
            ids,
            state: Mutex::new(State::Unopened),
        }))
    }

    /// What a tool is given.
    pub(crate) fn handle(&self) -> Arc<dyn ContextData> {
        self.0.clone()
    }
}

impl Drop for OwnedData {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.0.state(), State::Ended);
        // Closed outside of the lock: it may remove a file.
        drop(before);
    }
}

impl AgentData {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // It is replaced whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<(), ContextError> {
        let mut state = self.state();
        match &*state {
            State::Open(_) => Ok(()),
            State::Ended => Err(ContextError::Gone(self.id())),
            State::Unopened => {
                let now = self.clock.now();
                let metadata = ContextMetadata {
                    task: self.ids.task,
                    parent_workflow: self.ids.workflow,
                    created_at: now,
                    updated_at: now,
                };
                *state = State::Open(self.store.open(self.id(), metadata));
                Ok(())
            }
        }
    }
}

impl ContextData for AgentData {
    fn id(&self) -> ContextId {
        ContextId::from_bytes(*self.ids.invocation.as_bytes())
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, ContextError>> {
        Box::pin(self.store.read(self.id(), key))
    }

    fn update<'a>(
        &'a self,
        key: &'a str,
        change: ContextChange<'a>,
    ) -> BoxFuture<'a, Result<(), ContextError>> {
        Box::pin(async move {
            self.open()?;
            let now = self.clock.now();
            self.store
                .update(self.id(), key, now, |old| change(old.map(|old| &**old)))
                .await
        })
    }
}
