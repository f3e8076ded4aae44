//! The journal and the end of an invocation.
//!
//! Invariant: the entries of an invocation are numbered from 1 without gaps, and an entry that was stored
//! is never replaced.

use std::sync::Arc;

use crate::InvocationId;
use crate::port::store::{Entry, Finish, Lease, Outcome, StoreError};
use crate::store_rules::lease::holds;
use crate::store_rules::money::give_back;
use crate::store_rules::{InvocationRow, Rows};

/// The longest journal entry, summary or result, in bytes.
///
/// BOUND: far above what a turn can hold (a provider's request is at most 32 MB), far below what a database
/// row can.
pub const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;

/// Appends entries; those that are already there are skipped.
///
/// New entries of an invocation that has ended but is resumable reopen it: from then on it is unfinished
/// again, so that a crash during the resumed part is found at the next start.
///
/// # Errors
/// `NotFound` for an unknown invocation, `Invalid` for a gap in the sequence numbers or a lease of another
/// session; what the rows report.
pub fn append<R: Rows>(
    rows: &mut R,
    lease: &Lease,
    id: InvocationId,
    entries: &[Entry],
) -> Result<Outcome, R::Error> {
    if !holds(rows, lease)? {
        return Ok(Outcome::Fenced);
    }
    let row = owned(rows, lease, id)?;
    let new = unknown_entries(row, id, entries)?;
    Ok(if keep(rows, row, id, new)? {
        Outcome::Done
    } else {
        Outcome::AlreadyDone
    })
}

/// Records the end of an invocation with its last entries.
///
/// # Errors
/// As [`append`], and `Invalid` when the entry before its own is missing.
pub fn finish<R: Rows>(rows: &mut R, finish: &Finish) -> Result<Outcome, R::Error> {
    if !holds(rows, &finish.lease)? {
        return Ok(Outcome::Fenced);
    }
    let id = finish.invocation;
    let row = owned(rows, &finish.lease, id)?;
    stands_on(row, id, finish.after)?;
    let new = unknown_entries(row, id, &finish.entries)?;
    check_length(&format!("summary of invocation {id}"), &finish.summary)?;
    check_length(&format!("result of invocation {id}"), &finish.result)?;
    if row.end.is_some_and(|end| !end.resumable || new.is_empty()) {
        return Ok(Outcome::AlreadyDone);
    }
    keep(rows, row, id, new)?;
    rows.end(finish)?;
    give_back(rows, id)?;
    Ok(Outcome::Done)
}

/// The row of an invocation that belongs to the lease's session.
pub(super) fn owned<R: Rows>(
    rows: &mut R,
    lease: &Lease,
    id: InvocationId,
) -> Result<InvocationRow, R::Error> {
    match rows.invocation(id)? {
        None => Err(StoreError::NotFound {
            what: Arc::from(format!("invocation {id}")),
        }
        .into()),
        Some(row) if row.session != lease.session => {
            let detail = format!(
                "write to invocation {id} under the lease of session {}: it belongs to session {}",
                lease.session, row.session
            );
            Err(StoreError::Invalid {
                detail: Arc::from(detail),
            }
            .into())
        }
        Some(row) => Ok(row),
    }
}

/// Whether everything up to the entry `after` is there: an earlier call may have carried it and failed.
pub(super) fn stands_on(
    row: InvocationRow,
    id: InvocationId,
    after: u64,
) -> Result<(), StoreError> {
    if after <= row.last_sequence {
        return Ok(());
    }
    let detail = format!(
        "write after entry {after} of the journal of invocation {id}: its last entry is {}; hand the missing entries over first",
        row.last_sequence,
    );
    Err(StoreError::Invalid {
        detail: Arc::from(detail),
    })
}

/// The entries that are not there yet. They follow the last one without a gap.
pub(super) fn unknown_entries(
    row: InvocationRow,
    id: InvocationId,
    entries: &[Entry],
) -> Result<&[Entry], StoreError> {
    let mut expected = None;
    for entry in entries {
        let fits = match expected {
            None => entry.sequence >= 1 && entry.sequence <= row.last_sequence.saturating_add(1),
            Some(expected) => entry.sequence == expected,
        };
        if !fits {
            let detail = format!(
                "append entry {} to the journal of invocation {id}: its last entry is {}, and entries are numbered from 1 without gaps",
                entry.sequence,
                expected.map_or(row.last_sequence, |next: u64| next - 1),
            );
            return Err(StoreError::Invalid {
                detail: Arc::from(detail),
            });
        }
        if entry.payload.len() > MAX_TEXT_BYTES {
            check_length(
                &format!("journal entry {} of invocation {id}", entry.sequence),
                &entry.payload,
            )?;
        }
        expected = Some(entry.sequence.saturating_add(1));
    }
    let known = entries
        .iter()
        .take_while(|entry| entry.sequence <= row.last_sequence)
        .count();
    Ok(&entries[known..])
}

/// Stores new entries and reopens a resumable end. Says whether there were any.
pub(super) fn keep<R: Rows>(
    rows: &mut R,
    row: InvocationRow,
    id: InvocationId,
    new: &[Entry],
) -> Result<bool, R::Error> {
    if new.is_empty() {
        return Ok(false);
    }
    rows.append(id, new)?;
    if row.end.is_some_and(|end| end.resumable) {
        rows.reopen(id)?;
    }
    Ok(true)
}

fn check_length(what: &str, text: &str) -> Result<(), StoreError> {
    if text.len() > MAX_TEXT_BYTES {
        let detail = format!(
            "store the {what}: it has {} bytes, at most {MAX_TEXT_BYTES} are kept",
            text.len()
        );
        return Err(StoreError::Invalid {
            detail: Arc::from(detail),
        });
    }
    Ok(())
}
