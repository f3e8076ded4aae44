//! The chain of the audit log: what the hash of a record covers.
//!
//! Every part has a fixed length but the text, which comes last, so no two records have the same bytes.

use crate::port::store::{AuditHead, AuditRecord};

/// The bytes whose SHA-256 is the hash of the record that follows `before`.
#[must_use]
pub fn audit_preimage(before: &AuditHead, record: &AuditRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48 + record.text.len());
    bytes.extend_from_slice(&before.hash);
    bytes.extend_from_slice(&before.sequence.saturating_add(1).to_be_bytes());
    bytes.extend_from_slice(&record.at.micros().to_be_bytes());
    bytes.extend_from_slice(record.text.as_bytes());
    bytes
}
