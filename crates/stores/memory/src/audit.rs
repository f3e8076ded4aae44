//! The audit log in memory.

use std::sync::{Arc, MutexGuard, PoisonError};

use otto_core::port::BoxFuture;
use otto_core::port::store::{
    AuditCheck, AuditEntry, AuditHead, AuditLog, AuditRecord, Durability, StoreError,
};
use otto_core::store_rules::audit_preimage;
use sha2::{Digest, Sha256};

use crate::MemoryStore;

/// BOUND: records kept in memory. Above it, appending answers `Full`.
const RECORDS_MAX: usize = 1_000_000;

impl MemoryStore {
    fn audit(&self) -> MutexGuard<'_, Vec<AuditEntry>> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head(entries: &[AuditEntry]) -> AuditHead {
    entries
        .last()
        .map_or_else(AuditHead::default, |entry| AuditHead {
            sequence: entry.sequence,
            hash: entry.hash,
        })
}

impl AuditLog for MemoryStore {
    fn append_audit(
        &self,
        records: Vec<AuditRecord>,
        _durability: Durability,
    ) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
        Box::pin(async move {
            let mut entries = self.audit();
            if entries.len() + records.len() > RECORDS_MAX {
                let detail = format!(
                    "append to the audit log in memory: it holds at most {RECORDS_MAX} records; use the embedded store for more"
                );
                return Err(StoreError::Full {
                    detail: Arc::from(detail),
                });
            }
            for record in records {
                let before = head(&entries);
                let hash = Sha256::digest(audit_preimage(&before, &record)).into();
                entries.push(AuditEntry {
                    sequence: before.sequence + 1,
                    record,
                    hash,
                });
            }
            Ok(head(&entries))
        })
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
        Box::pin(async move { Ok(head(&self.audit())) })
    }

    fn read_audit(
        &self,
        after: u64,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>> {
        Box::pin(async move {
            let (after, most) = (
                usize::try_from(after),
                usize::try_from(most).unwrap_or(usize::MAX),
            );
            let entries = self.audit();
            Ok(entries
                .iter()
                .skip(after.unwrap_or(usize::MAX))
                .take(most)
                .cloned()
                .collect())
        })
    }

    fn check_audit(
        &self,
        anchor: Option<AuditHead>,
    ) -> BoxFuture<'_, Result<AuditCheck, StoreError>> {
        Box::pin(async move {
            // What is only in the memory of this process is what this process wrote.
            let entries = self.audit();
            let end = head(&entries);
            let is_held = |anchor: AuditHead| {
                anchor == AuditHead::default()
                    || entries
                        .iter()
                        .any(|entry| (entry.sequence, entry.hash) == (anchor.sequence, anchor.hash))
            };
            Ok(match anchor {
                Some(anchor) if !is_held(anchor) => AuditCheck::Broken {
                    detail: Arc::from(format!(
                        "no record of the audit log matches the anchor at {}",
                        anchor.sequence
                    )),
                },
                _ => AuditCheck::Whole(end),
            })
        })
    }
}
