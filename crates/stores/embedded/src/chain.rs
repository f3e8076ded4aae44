//! The chain of a journal: each entry's hash covers the entry and the hash before it.
//!
//! Where a journal is read, the chain is followed; where it is written, it goes on from its last hash. What the
//! bytes under a hash are is said once for all stores, in [`otto_core::store_rules`]. Whether an end that the audit
//! log knows is still there is asked by `verify` alone.
//!
//! SHA-256, because a head of the chain in the audit log stands for the whole journal against whoever can write the
//! file; and with the instructions that processors have for it, an entry of a kilobyte takes less than a microsecond,
//! a twentieth of what its row takes.
//!
//! Entries from before schema version 5 have no hash of their own. The first entry after them covers them.
//!
//! Invariant: from the entry that `invocations.hashed_from` names, every entry has a hash, and none before it has.

use otto_core::InvocationId;
use otto_core::port::store::JournalHead;
use otto_core::store_rules::journal_prefix;
use rusqlite::{Connection, Row, params};
use sha2::{Digest, Sha256};

use crate::db::codec::{read_count_or_null, read_hash};
use crate::error::Fault;
use crate::writer::one;

/// What the row of an invocation says about its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The first entry with a hash of its own; `None` while there is none.
    pub(crate) hashed_from: Option<u64>,
    /// Whether the invocation has ended.
    pub(crate) has_ended: bool,
    /// The hash of its last entry, once it has ended.
    pub(crate) end_hash: Option<[u8; 32]>,
}

/// The seal of the invocation `?1`.
pub(crate) const SEAL: &str =
    "SELECT hashed_from, finished_at IS NOT NULL, end_hash FROM invocations WHERE invocation = ?1";

pub(crate) fn read_seal(row: &Row<'_>) -> Result<Seal, Fault> {
    Ok(Seal {
        hashed_from: read_count_or_null(row, 0)?,
        has_ended: row.get(1)?,
        end_hash: read_hash(row, 2)?,
    })
}

/// The seal of an invocation; `None` if it is unknown.
pub(crate) fn seal_of(connection: &Connection, id: InvocationId) -> Result<Option<Seal>, Fault> {
    let mut statement = connection.prepare(SEAL)?;
    one(&mut statement, params![id.as_bytes()], read_seal)
}

/// Where a journal stands once an entry follows.
pub(crate) fn next(before: &JournalHead, id: InvocationId, payload: &[u8]) -> JournalHead {
    let hash = Sha256::new()
        .chain_update(journal_prefix(before, id))
        .chain_update(payload)
        .finalize();
    JournalHead {
        sequence: before.sequence.saturating_add(1),
        hash: hash.into(),
    }
}

/// Follows a journal entry by entry.
#[derive(Debug)]
pub(crate) struct Chain {
    id: InvocationId,
    seal: Seal,
    head: JournalHead,
}

impl Chain {
    /// Begins after an entry whose hash is known; the first one follows the head of zeros.
    pub(crate) const fn new(id: InvocationId, seal: Seal, head: JournalHead) -> Self {
        Self { id, seal, head }
    }

    /// Where it has come to.
    pub(crate) const fn head(&self) -> &JournalHead {
        &self.head
    }

    /// Goes on to the next entry. An entry that does not follow is damage.
    pub(crate) fn follow(
        &mut self,
        sequence: u64,
        payload: &[u8],
        stored: Option<[u8; 32]>,
    ) -> Result<(), Fault> {
        let id = self.id;
        let head = next(&self.head, id, payload);
        if sequence != head.sequence {
            return Err(Fault::damaged_row(format_args!(
                "entry {} of the journal of invocation {id} is missing",
                head.sequence
            )));
        }
        let is_hashed = self.seal.hashed_from.is_some_and(|from| from <= sequence);
        let what = match stored {
            Some(stored) if is_hashed && stored == head.hash => None,
            None if !is_hashed => None,
            Some(_) if is_hashed => {
                Some("does not match its checksum: it was changed after it was written")
            }
            Some(_) => Some("has a checksum that an entry of its place cannot have"),
            None => Some("has lost its checksum"),
        };
        if let Some(what) = what {
            return Err(Fault::damaged_row(format_args!(
                "entry {sequence} of the journal of invocation {id} {what}"
            )));
        }
        self.head = head;
        Ok(())
    }

    /// Whether it may end here.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        let Self { id, seal, head } = self;
        let has_hashes = seal.hashed_from.is_some();
        let fits = match seal.end_hash {
            Some(end) => seal.has_ended && end == head.hash,
            None => !(seal.has_ended && has_hashes),
        };
        let begins = seal.hashed_from.unwrap_or(1) <= head.sequence.saturating_add(1);
        if fits && begins {
            return Ok(());
        }
        Err(Fault::damaged_row(format_args!(
            "the journal of invocation {id} has {} entries, and its invocation says that it ends elsewhere",
            head.sequence
        )))
    }
}
