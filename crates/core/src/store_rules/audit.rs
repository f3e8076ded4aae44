//! The chain of the audit log: what the hash of a record covers, and how a log is followed from its beginning.
//!
//! Every part has a fixed length but the text, which comes last, so no two records have the same bytes. The hash
//! function itself is the store's: nothing here depends on one.
//!
//! Invariant: a log whose front was removed is whole only if one of its own records says so.

use std::sync::Arc;

use super::artifact_name::hex;
use crate::Timestamp;
use crate::audit::AuditKind;
use crate::port::store::{AuditCheck, AuditEntry, AuditHead, AuditRecord, AuditSpan};

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

/// The record which says that everything up to `through` was removed from the front of the log.
#[must_use]
pub fn audit_trimmed(through: &AuditHead, at: Timestamp) -> AuditRecord {
    let text = format!(
        "{{\"at_us\":{},\"what\":\"{}\",\"through\":{},\"hash\":\"{}\"}}\n",
        at.micros(),
        AuditKind::AuditLogTrimmed,
        through.sequence,
        hex(&through.hash)
    );
    AuditRecord {
        at,
        text: Arc::from(text),
    }
}

/// Follows the chain of a log, record by record, from the last one that was removed.
#[derive(Debug)]
pub struct AuditWalk {
    span: AuditSpan,
    anchor: Option<AuditHead>,
    is_anchored: bool,
    /// Whether a record says that the front was removed, or nothing was.
    is_told: bool,
}

impl AuditWalk {
    /// Begins after `begins_after`, looking for the anchor if there is one.
    #[must_use]
    pub fn new(begins_after: AuditHead, anchor: Option<AuditHead>) -> Self {
        Self {
            span: AuditSpan {
                begins_after,
                end: begins_after,
            },
            anchor,
            is_anchored: anchor.is_none_or(|anchor| anchor == begins_after),
            is_told: begins_after == AuditHead::default(),
        }
    }

    /// Where it has come to.
    #[must_use]
    pub const fn end(&self) -> AuditHead {
        self.span.end
    }

    /// Goes on to the next record. `hash_of` is SHA-256.
    ///
    /// # Errors
    /// When the record does not follow: the log is broken there.
    pub fn follow(
        &mut self,
        entry: &AuditEntry,
        hash_of: impl FnOnce(&[u8]) -> [u8; 32],
    ) -> Result<(), AuditCheck> {
        let expected = AuditHead {
            sequence: self.span.end.sequence.saturating_add(1),
            hash: hash_of(&audit_preimage(&self.span.end, &entry.record)),
        };
        if (entry.sequence, entry.hash) != (expected.sequence, expected.hash) {
            return Err(broken(format!(
                "record {} of the audit log does not follow from the records before it",
                entry.sequence
            )));
        }
        self.is_told =
            self.is_told || entry.record == audit_trimmed(&self.span.begins_after, entry.record.at);
        self.is_anchored = self.is_anchored || self.anchor == Some(expected);
        self.span.end = expected;
        Ok(())
    }

    /// What was found, once every record was followed.
    #[must_use]
    pub fn finish(self) -> AuditCheck {
        let AuditSpan { begins_after, end } = self.span;
        if !self.is_told {
            return broken(format!(
                "the audit log begins after record {}, and no record of it says that those before were removed: it was cut at its front",
                begins_after.sequence
            ));
        }
        match self.anchor {
            Some(anchor) if anchor.sequence < begins_after.sequence => {
                AuditCheck::AnchorRemoved(self.span)
            }
            Some(anchor) if !self.is_anchored => broken(format!(
                "the audit log has the records {} to {}, none of which matches the anchor at {}: it was cut or rewritten",
                begins_after.sequence + 1,
                end.sequence,
                anchor.sequence
            )),
            _ => AuditCheck::Whole(self.span),
        }
    }
}

fn broken(detail: String) -> AuditCheck {
    AuditCheck::Broken {
        detail: Arc::from(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for SHA-256: every byte and its place count.
    fn hash_of(bytes: &[u8]) -> [u8; 32] {
        let mut hash = [0_u8; 32];
        for (index, byte) in bytes.iter().enumerate() {
            let mixed = u8::try_from(index % 251).unwrap() ^ byte.wrapping_mul(167);
            hash.rotate_left(1);
            hash[0] = hash[0].wrapping_mul(31).wrapping_add(mixed);
        }
        hash
    }

    /// Ten records, of which the first four were removed.
    fn log() -> (AuditHead, Vec<AuditEntry>) {
        let mut head = AuditHead::default();
        let mut places = vec![head];
        let mut entries = Vec::new();
        for number in 1..=10 {
            let at = Timestamp::from_millis(number);
            let record = match number {
                8 => audit_trimmed(&places[4], at),
                _ => AuditRecord {
                    at,
                    text: Arc::from(format!("page {number}")),
                },
            };
            head = AuditHead {
                sequence: number,
                hash: hash_of(&audit_preimage(&head, &record)),
            };
            places.push(head);
            entries.push(AuditEntry {
                sequence: head.sequence,
                record,
                hash: head.hash,
            });
        }
        (places[4], entries.split_off(4))
    }

    fn walk(begins_after: AuditHead, entries: &[AuditEntry]) -> AuditCheck {
        let mut walk = AuditWalk::new(begins_after, None);
        for entry in entries {
            if let Err(broken) = walk.follow(entry, hash_of) {
                return broken;
            }
        }
        walk.finish()
    }

    fn problem(check: AuditCheck) -> String {
        match check {
            AuditCheck::Broken { detail } => detail.to_string(),
            whole => panic!("it was changed: {whole:?}"),
        }
    }

    #[test]
    fn every_change_of_what_is_left_is_found() {
        let (begins_after, entries) = log();
        let end = AuditHead {
            sequence: 10,
            hash: entries[5].hash,
        };
        let whole = AuditCheck::Whole(AuditSpan { begins_after, end });
        assert_eq!(walk(begins_after, &entries), whole);
        for index in 0..entries.len() {
            let changed = |change: fn(&mut AuditEntry)| {
                let mut entries = entries.clone();
                change(&mut entries[index]);
                problem(walk(begins_after, &entries))
            };
            let place = format!("record {} ", 5 + index);
            assert!(changed(|entry| entry.hash[31] ^= 1).contains(&place));
            assert!(changed(|entry| entry.record.text = Arc::from("page")).contains(&place));
            let moved = |entry: &mut AuditEntry| entry.record.at = Timestamp::EPOCH;
            assert!(changed(moved).contains(&place));
            // The last one may be missing: only an anchor shows that.
            if index + 1 < entries.len() {
                let mut fewer = entries.clone();
                fewer.remove(index);
                problem(walk(begins_after, &fewer));
            }
        }
    }

    #[test]
    fn a_beginning_that_no_record_tells_of_is_found() {
        let (begins_after, entries) = log();
        let later = AuditHead {
            sequence: 5,
            hash: entries[0].hash,
        };
        assert!(
            problem(walk(later, &entries[1..])).contains("no record of it says"),
            "a prefix was cut off"
        );
        let wrong = AuditHead {
            hash: [1; 32],
            ..begins_after
        };
        assert!(problem(walk(wrong, &entries)).contains("record 5 "));
        assert!(problem(walk(AuditHead::default(), &entries)).contains("record 5 "));
        assert!(problem(walk(begins_after, &[])).contains("no record of it says"));
    }
}
