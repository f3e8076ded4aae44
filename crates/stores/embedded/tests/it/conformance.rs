//! The embedded store means what every store means.

use std::sync::Arc;

use otto_core::Timestamp;
use otto_core::port::store::{AuditLog, Blobs, Store};
use otto_core::store_rules::ManualClock;
use otto_sim::conformance::{audit, blobs, store};
use otto_store_embedded::{EmbeddedStore, StoreConfig};

/// A state directory; stores opened on it side by side share nothing but its files.
struct World {
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::new(Timestamp::EPOCH)),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn embedded(&self, node: &str) -> EmbeddedStore {
        let mut config = StoreConfig::new(self.dir.path().join("state"), node);
        config.clock = self.clock.clone();
        EmbeddedStore::open(config).unwrap()
    }
}

impl store::World for World {
    fn open(&self, node: &str) -> Arc<dyn Store> {
        Arc::new(self.embedded(node))
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

impl blobs::World for World {
    fn open(&self) -> Arc<dyn Blobs> {
        Arc::new(self.embedded("blobs"))
    }
}

impl audit::World for World {
    fn open(&self) -> Arc<dyn AuditLog> {
        Arc::new(self.embedded("audit"))
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
