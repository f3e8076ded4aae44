//! Artifacts that are durable in the database and whose files are still to be written: a bounded queue that fills
//! batches.
//!
//! Who offers artifacts takes room first; without room they are stored in the caller's own time, which is how
//! a slow disk slows its callers down. The thread that writes waits a little for company: files written
//! together share their syncs.
//!
//! Invariant: what was pushed is taken, also after the queue was closed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use otto_core::{InvocationId, SessionId};

use crate::artifacts::Content;

/// BOUND: bytes of artifacts that wait for their files.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// BOUND: entries that wait for their files.
const WAITING_MAX: usize = 4_096;

/// BOUND: entries in one batch.
const BATCH_MAX: usize = 128;

/// How long the first of a batch waits for others. Nobody waits for the files; the fewer batches, the fewer
/// syncs stand in the way of those that somebody waits for.
const LINGER: Duration = Duration::from_millis(250);

/// How long the first of a batch waits after one that could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Files that are written together or not at all.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(super) session: SessionId,
    pub(super) origin: Origin,
    pub(super) files: Files,
}

/// Where the database has what belongs into the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the journal of an invocation: all artifacts of its end.
    Journal(InvocationId),
    /// In `contents`: the artifact of this path.
    Content(Arc<str>),
}

/// Where the contents come from.
#[derive(Debug)]
pub(super) enum Files {
    /// Here: file names and contents.
    Known(Vec<Content>, Room),
    /// From their origin: whoever was to write them is dead.
    Lost,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    ready: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Unwritten>,
    /// Entries that were added, and those of them that the thread is done with, in the same order.
    added: u64,
    done: u64,
    /// Somebody waits for the files of this many entries: the batch lingers no longer.
    wanted: u64,
    /// Entries and bytes that have taken room: waiting, or being written.
    taken: usize,
    taken_bytes: usize,
    /// The last batch could not all be written; what is left of it is tried again.
    failing: bool,
    closed: bool,
    /// The thread has ended: what is added now stays in the database.
    ended: bool,
}

/// Room for one entry; given back when its files are written.
#[derive(Debug)]
pub(crate) struct Room {
    pub(super) backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Takes room for an entry with that many bytes, if there is any.
    pub(super) fn room(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let mut state = self.lock();
        if state.closed
            || state.taken >= WAITING_MAX
            || state.taken_bytes.saturating_add(bytes) > BYTES_MAX
        {
            return None;
        }
        state.taken += 1;
        state.taken_bytes += bytes;
        Some(Room {
            backlog: self.clone(),
            bytes,
        })
    }

    /// The same for an artifact that the database keeps until its file is there: none while files cannot be written, so
    /// that their callers hear why, and the database does not fill with them.
    pub(super) fn room_for_short(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        if self.lock().failing {
            return None;
        }
        self.room(bytes)
    }

    /// Says whether the last batch could be written, and gives back what could not: it is tried again later. A queue
    /// that is closed takes none of it; the next process tries.
    pub(super) fn retry(&self, failed: Vec<Unwritten>) {
        let mut state = self.lock();
        state.failing = !failed.is_empty();
        if !state.closed {
            state.added += failed.len() as u64;
            state.waiting.extend(failed);
        }
    }

    /// Adds files to write.
    pub(crate) fn push(&self, unwritten: Unwritten) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.waiting.push_back(unwritten);
        state.added += 1;
        // The first begins the wait for others, a full batch ends it.
        let wake = state.waiting.len() == 1 || state.waiting.len() == BATCH_MAX;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Waits for files to write and moves a batch of them into `into`. False when the queue is closed and
    /// empty.
    pub(super) fn take(&self, into: &mut Vec<Unwritten>) -> bool {
        let mut state = self
            .ready
            .wait_while(self.lock(), |state| {
                state.waiting.is_empty() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let (linger, most) = if state.failing {
            (RETRY_PAUSE, usize::MAX)
        } else {
            (LINGER, BATCH_MAX)
        };
        let deadline = Instant::now() + linger;
        while state.waiting.len() < most && !state.closed && state.wanted <= state.done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .ready
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let count = state.waiting.len().min(BATCH_MAX);
        into.extend(state.waiting.drain(..count));
        state.ended = count == 0;
        count > 0
    }

    /// Says that the thread has done what it can for so many entries that it took.
    pub(super) fn done(&self, count: usize) {
        self.lock().done += count as u64;
        self.written.notify_all();
    }

    /// Waits until the thread is done with all entries that are there now.
    pub(super) fn flush(&self) {
        let mut state = self.lock();
        let wanted = state.added;
        state.wanted = wanted;
        self.ready.notify_all();
        // A thread that has ended has ended with an empty queue, and nothing is added to that.
        let done = self.written.wait_while(state, |state| state.done < wanted);
        drop(done);
    }

    /// Takes no more, and lets the thread write what is there at once.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.backlog.lock();
        state.taken -= 1;
        state.taken_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(n: u8) -> Unwritten {
        Unwritten {
            session: SessionId::from_bytes([n; 16]),
            origin: Origin::Journal(InvocationId::from_bytes([n; 16])),
            files: Files::Lost,
        }
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let backlog = Arc::new(Backlog::default());
        let most = backlog.room(BYTES_MAX).expect("all of it");
        assert!(backlog.room(1).is_none(), "no byte is left");
        drop(most);
        let rooms: Vec<Room> = (0..WAITING_MAX).filter_map(|_| backlog.room(1)).collect();
        assert_eq!(rooms.len(), WAITING_MAX);
        assert!(backlog.room(0).is_none(), "no place is left");
        drop(rooms);
        assert!(backlog.room(1).is_some());
        backlog.close();
        assert!(backlog.room(1).is_none(), "closed");
    }

    #[test]
    fn what_was_pushed_is_taken_in_order_also_after_closing() {
        let backlog = Backlog::default();
        for n in 0..=u8::MAX {
            backlog.push(lost(n));
        }
        backlog.close();
        let (mut batch, mut sizes) = (Vec::new(), Vec::new());
        let mut seen = 0;
        while backlog.take(&mut batch) {
            sizes.push(batch.len());
            seen = batch.len();
        }
        assert_eq!(sizes, [BATCH_MAX, 2 * BATCH_MAX]);
        assert_eq!(seen, 256);
        let bytes: Vec<u8> = batch
            .iter()
            .map(|item| item.session.as_bytes()[0])
            .collect();
        assert!(bytes.is_sorted());
    }
}
