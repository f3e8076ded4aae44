//! The chain of a journal: what the hash of an entry covers, and the facts of the audit log that tell of it.
//!
//! The hash of an entry covers the hash before it, the invocation, the position and the payload. Every part has a
//! fixed length but the payload, which comes last, so no two entries have the same bytes. The hash function itself
//! (SHA-256) is the store's, as for the audit log: nothing here depends on one.
//!
//! Whoever can write the database can compute the chain anew. So where a journal stood at the end of its invocation
//! is a fact of the audit log as well, whose end may be kept elsewhere.
//!
//! Invariant: a fact that [`JournalFact`] does not know says nothing about a journal.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use super::artifact_name::hex;
use crate::audit::AuditKind;
use crate::port::store::{AuditRecord, JournalHead};
use crate::{InvocationId, SessionId, Timestamp};

/// The key under which the fact of an end, or of a rewriting, says where the journal stands.
pub const JOURNAL_KEY: &str = "journal";

/// The bytes that stand before the payload of an entry where its hash is computed.
#[must_use]
pub fn journal_prefix(before: &JournalHead, invocation: InvocationId) -> [u8; 56] {
    let mut bytes = [0; 56];
    bytes[..32].copy_from_slice(&before.hash);
    bytes[32..48].copy_from_slice(invocation.as_bytes());
    bytes[48..].copy_from_slice(&before.sequence.saturating_add(1).to_be_bytes());
    bytes
}

/// What a fact of the audit log says about a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalFact {
    /// The invocation ended there.
    Ended {
        /// The invocation.
        invocation: InvocationId,
        /// Where.
        head: JournalHead,
        /// When.
        at: Timestamp,
    },
    /// It was rewritten on purpose: what was said of it before holds no more.
    Rewritten {
        /// The invocation.
        invocation: InvocationId,
        /// Its last entry from then on.
        head: JournalHead,
        /// When.
        at: Timestamp,
    },
}

impl JournalFact {
    /// The facts about journals in a record of the audit log, in order.
    pub fn all_in(text: &str) -> impl Iterator<Item = Self> + '_ {
        // Few facts have the key, and the others need not be read.
        text.lines()
            .filter(|line| line.contains("\"journal\""))
            .filter_map(Self::read)
    }

    fn read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line<'a> {
            at_us: u64,
            #[serde(borrow)]
            what: Cow<'a, str>,
            #[serde(borrow)]
            invocation: Cow<'a, str>,
            #[serde(borrow)]
            journal: Cow<'a, str>,
        }
        let line: Line<'_> = serde_json::from_str(line).ok()?;
        let invocation = line.invocation.parse().ok()?;
        let head = line.journal.parse().ok()?;
        let at = Timestamp::from_micros(line.at_us);
        match line.what.parse().ok()? {
            AuditKind::InvocationEnded => Some(Self::Ended {
                invocation,
                head,
                at,
            }),
            AuditKind::JournalRewritten => Some(Self::Rewritten {
                invocation,
                head,
                at,
            }),
            _ => None,
        }
    }
}

/// The record which says that a journal was rewritten on purpose.
#[must_use]
pub fn journal_rewritten(
    session: SessionId,
    invocation: InvocationId,
    before: &JournalHead,
    head: &JournalHead,
    at: Timestamp,
) -> AuditRecord {
    let text = format!(
        "{{\"at_us\":{},\"what\":\"{}\",\"session\":\"{session}\",\"invocation\":\"{invocation}\",\"journal_before\":\"{before}\",\"{JOURNAL_KEY}\":\"{head}\"}}\n",
        at.micros(),
        AuditKind::JournalRewritten,
    );
    AuditRecord {
        at,
        text: Arc::from(text),
    }
}

/// A place in a chain of hashes as people keep it: `POSITION:HASH`.
#[must_use]
pub fn place_text(position: u64, hash: &[u8; 32]) -> String {
    format!("{position}:{}", hex(hash))
}

/// What [`place_text`] wrote; `None` for anything else.
#[must_use]
pub fn parse_place(text: &str) -> Option<(u64, [u8; 32])> {
    let (position, digits) = text.split_once(':')?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    Some((position.parse().ok()?, hash))
}

impl fmt::Display for JournalHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&place_text(self.sequence, &self.hash))
    }
}

/// Not the place of a journal entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a journal: expected `POSITION:HASH` with 64 hexadecimal digits")]
pub struct InvalidJournalHead;

impl FromStr for JournalHead {
    type Err = InvalidJournalHead;

    fn from_str(text: &str) -> Result<Self, InvalidJournalHead> {
        let (sequence, hash) = parse_place(text).ok_or(InvalidJournalHead)?;
        Ok(Self { sequence, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u64, byte: u8) -> JournalHead {
        JournalHead {
            sequence,
            hash: [byte; 32],
        }
    }

    #[test]
    fn facts_about_journals_are_read_back_and_others_are_not() {
        let at = Timestamp::from_millis(1_795_435_200_000);
        let invocation = InvocationId::from_parts(at, [1; 10]);
        let session = SessionId::from_parts(at, [2; 10]);
        let rewritten = journal_rewritten(session, invocation, &head(3, 1), &head(3, 0xAB), at);
        let text = format!(
            "{{\"at_us\":17,\"what\":\"invocation_ended\",\"invocation\":\"{invocation}\",\"journal\":\"{}\"}}\n{}\
            {{\"what\":\"invocation_ended\",\"invocation\":\"{invocation}\"}}\n\
            {{\"what\":\"tool_started\",\"invocation\":\"{invocation}\",\"journal\":\"{}\"}}\n\
            {{\"at_us\":18,\"what\":\"invocation_ended\",\"invocation\":\"{invocation}\",\"journal\":\"3:00\"}}\n\
            \"journal\"\n",
            head(2, 7),
            rewritten.text,
            head(9, 9),
        );
        let found: Vec<JournalFact> = JournalFact::all_in(&text).collect();
        let expected = [
            JournalFact::Ended {
                invocation,
                head: head(2, 7),
                at: Timestamp::from_micros(17),
            },
            JournalFact::Rewritten {
                invocation,
                head: head(3, 0xAB),
                at,
            },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_part_of_an_entry_is_in_what_is_hashed() {
        let at = Timestamp::from_millis(5);
        let [one, other] = [1, 2].map(|n| InvocationId::from_parts(at, [n; 10]));
        let prefix = journal_prefix(&head(3, 1), one);
        assert_eq!(prefix, journal_prefix(&head(3, 1), one));
        for changed in [
            journal_prefix(&head(4, 1), one),
            journal_prefix(&head(3, 2), one),
            journal_prefix(&head(3, 1), other),
        ] {
            assert_ne!(prefix, changed);
        }
    }
}
