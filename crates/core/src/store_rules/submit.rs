//! Submission: a new invocation, once per idempotency key.

use std::sync::Arc;

use crate::Timestamp;
use crate::port::store::{Entry, StoreError, Submission, SubmitOutcome};
use crate::store_rules::journal::unknown_entries;
use crate::store_rules::lease::take;
use crate::store_rules::{InvocationRow, KeyRow, Rows};

/// The longest idempotency key and the longest node name, in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// Records a new invocation and claims its session.
///
/// A call that is repeated for the same invocation gets the lease again. A key that was used for another
/// invocation names that one, also while the kill switch is thrown: nothing new begins by it. Where both
/// calls say what they asked and it differs, the key was reused by mistake.
///
/// # Errors
/// `Invalid` for a key or node name that is too long or empty, and for an invocation that is known in
/// another session; what the rows report.
pub fn submit<R: Rows>(
    rows: &mut R,
    now: Timestamp,
    submission: &Submission,
) -> Result<SubmitOutcome, R::Error> {
    let id = submission.invocation;
    check_name("node name", &submission.node)?;
    if let Some(key) = &submission.idempotency_key {
        check_name("idempotency key", key)?;
        if let Some(KeyRow {
            invocation: first,
            fingerprint,
        }) = rows.invocation_of_key(key)?
            && first != id
        {
            let is_other = fingerprint
                .zip(submission.fingerprint.as_ref())
                .is_some_and(|(first, now)| first != *now);
            return Ok(if is_other {
                SubmitOutcome::KeyReused(first)
            } else {
                SubmitOutcome::Duplicate(first)
            });
        }
    }
    let known = rows.invocation(id)?;
    match known {
        Some(InvocationRow { session, .. }) if session != submission.session => {
            let detail = format!(
                "submit invocation {id} in session {}: it belongs to session {session}",
                submission.session
            );
            return Err(StoreError::Invalid {
                detail: Arc::from(detail),
            }
            .into());
        }
        Some(InvocationRow { end: Some(_), .. }) => return Ok(SubmitOutcome::Duplicate(id)),
        _ => {}
    }
    if let Some(kill) = rows.kill()? {
        return Ok(SubmitOutcome::Killed(kill));
    }
    let mut new: &[Entry] = &[];
    if known.is_none() {
        let row = InvocationRow {
            session: submission.session,
            last_sequence: 0,
            end: None,
        };
        new = unknown_entries(row, id, &submission.entries)?;
        rows.can_insert_invocation()?;
    }
    let row = rows.lease(submission.session)?;
    match take(
        rows,
        now,
        submission.session,
        row,
        &submission.node,
        submission.ttl,
    )? {
        Err(node) => Ok(SubmitOutcome::SessionBusy { node }),
        Ok(lease) => {
            if known.is_none() {
                rows.insert_invocation(submission)?;
                if !new.is_empty() {
                    rows.append(id, new)?;
                }
            }
            Ok(SubmitOutcome::Accepted(lease))
        }
    }
}

fn check_name(what: &str, text: &str) -> Result<(), StoreError> {
    if text.is_empty() || text.len() > MAX_KEY_BYTES {
        let detail = format!(
            "submit an invocation: the {what} has {} bytes, expected 1 to {MAX_KEY_BYTES}",
            text.len()
        );
        return Err(StoreError::Invalid {
            detail: Arc::from(detail),
        });
    }
    Ok(())
}
