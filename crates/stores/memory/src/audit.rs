//! The audit log in memory.

use std::sync::{Arc, MutexGuard, PoisonError};

use otto_core::Timestamp;
use otto_core::port::BoxFuture;
use otto_core::port::store::{
    AuditCheck, AuditEntry, AuditHead, AuditLog, AuditRecord, AuditTrim, Durability, StoreError,
};
use otto_core::store_rules::{AuditWalk, audit_preimage, audit_trimmed};
use sha2::{Digest, Sha256};

use crate::MemoryStore;

/// BOUND: records kept in memory. Above it, appending answers `Full`.
const RECORDS_MAX: usize = 1_000_000;

/// The log: the last record that was removed, and those after it.
#[derive(Default)]
pub(crate) struct Trail {
    begins_after: AuditHead,
    entries: Vec<AuditEntry>,
}

impl Trail {
    fn head(&self) -> AuditHead {
        self.entries.last().map_or(self.begins_after, place)
    }

    fn push(&mut self, record: AuditRecord) {
        let before = self.head();
        self.entries.push(AuditEntry {
            sequence: before.sequence + 1,
            hash: hash_of(&audit_preimage(&before, &record)),
            record,
        });
    }

    /// How many entries stand at or before a position.
    fn up_to(&self, sequence: u64) -> usize {
        let count = sequence.saturating_sub(self.begins_after.sequence);
        usize::try_from(count).map_or(self.entries.len(), |count| count.min(self.entries.len()))
    }
}

fn place(entry: &AuditEntry) -> AuditHead {
    AuditHead {
        sequence: entry.sequence,
        hash: entry.hash,
    }
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl MemoryStore {
    fn audit(&self) -> MutexGuard<'_, Trail> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditLog for MemoryStore {
    fn append_audit(
        &self,
        records: Vec<AuditRecord>,
        _durability: Durability,
    ) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
        Box::pin(async move {
            let mut trail = self.audit();
            if trail.entries.len() + records.len() > RECORDS_MAX {
                let detail = format!(
                    "append to the audit log in memory: it holds at most {RECORDS_MAX} records; use the embedded store for more"
                );
                return Err(StoreError::Full {
                    detail: Arc::from(detail),
                });
            }
            records.into_iter().for_each(|record| trail.push(record));
            Ok(trail.head())
        })
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
        Box::pin(async move { Ok(self.audit().head()) })
    }

    fn read_audit(
        &self,
        after: u64,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>> {
        Box::pin(async move {
            let trail = self.audit();
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let entries = trail.entries.iter().skip(trail.up_to(after));
            Ok(entries.take(most).cloned().collect())
        })
    }

    fn trim_audit(
        &self,
        through: AuditHead,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<AuditTrim, StoreError>> {
        Box::pin(async move {
            let mut trail = self.audit();
            if through.sequence <= trail.begins_after.sequence {
                return Ok(AuditTrim::AlreadyDone);
            }
            let count = trail.up_to(through.sequence);
            if trail.entries[..count].last().map(place) != Some(through) {
                return Ok(AuditTrim::NoSuchRecord);
            }
            trail.entries.drain(..count);
            trail.begins_after = through;
            trail.push(audit_trimmed(&through, at));
            Ok(AuditTrim::Done(trail.head()))
        })
    }

    fn check_audit(
        &self,
        anchor: Option<AuditHead>,
    ) -> BoxFuture<'_, Result<AuditCheck, StoreError>> {
        Box::pin(async move {
            let trail = self.audit();
            let mut walk = AuditWalk::new(trail.begins_after, anchor);
            for entry in &trail.entries {
                if let Err(broken) = walk.follow(entry, hash_of) {
                    return Ok(broken);
                }
            }
            Ok(walk.finish())
        })
    }
}
