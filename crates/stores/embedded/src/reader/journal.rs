//! The journal of an invocation, checked against its chain of hashes as it is read.
//!
//! Invariant: what is returned follows, entry by entry, from the first one, or, read from the middle, from the hash of
//! the entry before.

use std::sync::Arc;

use otto_core::InvocationId;
use otto_core::port::store::{Entry, JournalHead, StoreError};
use rusqlite::{Connection, params};

use crate::chain::{Chain, seal_of};
use crate::db::codec::{count, read_count, read_hash, read_text};
use crate::error::Fault;
use crate::writer::{many, one};

/// The entries above `after`, in order. A gap or an entry that does not match its checksum is damage, not an end.
pub(crate) fn entries_after(
    connection: &Connection,
    id: InvocationId,
    after: u64,
) -> Result<Vec<Entry>, Fault> {
    journal_after(connection, id, after).map(|(entries, _)| entries)
}

/// The whole journal, and where it ends.
pub(crate) fn journal(
    connection: &Connection,
    id: InvocationId,
) -> Result<(Vec<Entry>, JournalHead), Fault> {
    journal_after(connection, id, 0)
}

fn journal_after(
    connection: &Connection,
    id: InvocationId,
    after: u64,
) -> Result<(Vec<Entry>, JournalHead), Fault> {
    let Some(seal) = seal_of(connection, id)? else {
        return Err(StoreError::NotFound {
            what: Arc::from(format!("invocation {id}")),
        }
        .into());
    };
    // Nothing is numbered above what a column holds.
    let after = after.min(i64::MAX.cast_unsigned() - 1);
    let begin = begin(connection, id, after)?;
    let mut chain = Chain::new(id, seal, begin);
    let mut statement = connection.prepare(
        "SELECT sequence, payload, hash FROM journal WHERE invocation = ?1 AND sequence > ?2 ORDER BY sequence",
    )?;
    let mut entries = many(
        &mut statement,
        params![id.as_bytes(), count(begin.sequence)],
        |row| {
            let sequence = read_count(row, 0)?;
            let read = read_text(row, 1).and_then(|payload| Ok((payload, read_hash(row, 2)?)));
            let (payload, hash) = read.map_err(|fault| unreadable(id, sequence, fault))?;
            chain.follow(sequence, payload.as_bytes(), hash)?;
            Ok(Entry { sequence, payload })
        },
    )?;
    chain.finish()?;
    if begin.sequence < after {
        entries.retain(|entry| entry.sequence > after);
    }
    Ok((entries, *chain.head()))
}

/// From where the chain is followed: from `after`, if that entry has a hash of its own, else from the beginning.
fn begin(connection: &Connection, id: InvocationId, after: u64) -> Result<JournalHead, Fault> {
    if after == 0 {
        return Ok(JournalHead::default());
    }
    let mut statement =
        connection.prepare("SELECT hash FROM journal WHERE invocation = ?1 AND sequence = ?2")?;
    let params = params![id.as_bytes(), count(after)];
    let hash = one(&mut statement, params, |row| read_hash(row, 0))
        .map_err(|fault| unreadable(id, after, fault))?
        .flatten();
    Ok(hash.map_or_else(JournalHead::default, |hash| JournalHead {
        sequence: after,
        hash,
    }))
}

/// Names the entry that cannot be read.
fn unreadable(id: InvocationId, sequence: u64, fault: Fault) -> Fault {
    fault.into_damage().map_or_else(
        |fault| fault,
        |what| {
            Fault::damaged_row(format_args!(
                "entry {sequence} of the journal of invocation {id} cannot be read: {what}"
            ))
        },
    )
}
