//! Artifacts: files on directory handles, with their rows in the database.
//!
//! A file appears under its name only when it is whole and durable, and is never changed. Its row (length,
//! checksum, time) follows at once without a sync of its own: a file without a row, left by a power loss, is
//! found by its name and gets one.
//!
//! An artifact that follows from its invocation's journal is acknowledged with the end of the invocation and
//! gets its file later, see `derived`.
//!
//! It does not decide what is worth storing, and redacts nothing: content arrives as it shall stay.

mod backlog;
mod batch;
mod checkpointer;
mod derived;
mod disk;
mod durable;
mod retention;
mod rows;
mod scrub;

pub(crate) use backlog::{Backlog, Unwritten};
pub use checkpointer::Checkpointer;
pub(crate) use derived::{FileWriter, Offer, adopt, record};
pub use retention::{RetentionPolicy, RetentionReport};
pub(crate) use rows::{ALL, name_of, read_known};
pub use scrub::{DamagedArtifact, ScrubReport};

use std::sync::Arc;

use crate::queue::{Queue, Taken};

/// Work on files that may block.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// BOUND: calls that wait for a thread; more callers wait for room.
pub(crate) const QUEUE_BOUND: usize = 256;

/// BOUND: files written or read at the same time.
pub(crate) const THREADS: usize = 2;

/// Works until the queue is closed and empty.
pub(crate) fn run(queue: &Arc<Queue<Task>>) {
    let mut tasks = Vec::with_capacity(1);
    while queue.take(1, &mut tasks, None) == Taken::Items {
        for task in tasks.drain(..) {
            // The caller sees its answer channel closed.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
        }
    }
}
