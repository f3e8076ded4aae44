//! From a journal back to the machine.
//!
//! The machine is stepped over every event as it was when the event happened, and the effects are dropped:
//! they were performed then, or they are wished for again by the `Resumed` event that follows a fold.
//!
//! Invariant: folding the journal of a living machine gives a machine equal to it.

use std::sync::Arc;

use crate::Timestamp;
use crate::invocation::{Event, Invocation};
use crate::journal::{FoldError, decode};
use crate::message::Message;
use crate::port::store::Entry;

/// Rebuilds an invocation from its journal entries, oldest first, without a gap.
///
/// # Errors
/// When an entry is missing or cannot be read, or the first one is not the start. A journal that cannot be
/// folded whole is not folded at all: a part of it would be another state.
pub fn fold(entries: &[Entry]) -> Result<Invocation, FoldError> {
    fold_watched(entries, |_| {})
}

/// Everything that was said in an invocation, oldest first, from its journal: also what compaction has replaced,
/// each time followed by what it was replaced by.
///
/// # Errors
/// As for [`fold`].
pub fn everything_said(entries: &[Entry]) -> Result<Vec<Arc<Message>>, FoldError> {
    let mut said = Vec::new();
    fold_watched(entries, |invocation| {
        let new = invocation
            .said(said.len())
            .map(|(_, message)| message.clone());
        said.extend(new.collect::<Vec<_>>());
    })?;
    Ok(said)
}

fn fold_watched(
    entries: &[Entry],
    mut watch: impl FnMut(&Invocation),
) -> Result<Invocation, FoldError> {
    let mut invocation = Invocation::default();
    for (entry, expected) in entries.iter().zip(1..) {
        if entry.sequence != expected {
            return Err(FoldError::Gap {
                expected,
                found: entry.sequence,
            });
        }
        let (at, event) = decode(&entry.payload).map_err(|source| FoldError::Unreadable {
            sequence: entry.sequence,
            source,
        })?;
        advance(&mut invocation, entry.sequence, at, event)?;
        watch(&invocation);
    }
    if entries.is_empty() {
        Err(FoldError::Empty)
    } else {
        Ok(invocation)
    }
}

/// Rebuilds an invocation from decoded events, oldest first.
///
/// # Errors
/// When there is no event, or the first and only the first is not the start.
pub fn replay(
    events: impl IntoIterator<Item = (Timestamp, Event)>,
) -> Result<Invocation, FoldError> {
    let mut invocation = Invocation::default();
    let mut last = 0;
    for ((at, event), sequence) in events.into_iter().zip(1..) {
        advance(&mut invocation, sequence, at, event)?;
        last = sequence;
    }
    if last == 0 {
        Err(FoldError::Empty)
    } else {
        Ok(invocation)
    }
}

fn advance(
    invocation: &mut Invocation,
    sequence: u64,
    at: Timestamp,
    event: Event,
) -> Result<(), FoldError> {
    if matches!(event, Event::Started(_)) != (sequence == 1) {
        return Err(FoldError::MisplacedStart { sequence });
    }
    let _performed_then = invocation.step(at, event);
    Ok(())
}
