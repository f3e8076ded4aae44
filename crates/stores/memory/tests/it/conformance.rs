//! The store in memory means what every store means.

use std::sync::Arc;

use otto_core::Timestamp;
use otto_core::port::store::{AuditLog, Blobs, Store};
use otto_core::store_rules::ManualClock;
use otto_sim::conformance::{audit, blobs, store};
use otto_store_memory::{Bounds, MemoryStore};

/// Clones of one store are the processes of this world; what a process leaves is in the others.
struct World {
    clock: Arc<ManualClock>,
    store: MemoryStore,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        Self {
            store: MemoryStore::with(Bounds::default(), clock.clone()),
            clock,
        }
    }
}

impl store::World for World {
    fn open(&self, _node: &str) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

impl blobs::World for World {
    fn open(&self) -> Arc<dyn Blobs> {
        Arc::new(self.store.clone())
    }
}

impl audit::World for World {
    fn open(&self) -> Arc<dyn AuditLog> {
        Arc::new(self.store.clone())
    }
}

#[test]
fn audit_suite() {
    audit::run(|| Box::new(World::new()));
}

#[test]
fn store_suite() {
    store::run(|| Box::new(World::new()));
}

#[test]
fn blobs_suite() {
    blobs::run(|| Box::new(World::new()));
}

#[test]
fn many_random_histories() {
    for seed in 100..400 {
        store::history(&World::new(), seed, 400);
    }
}
