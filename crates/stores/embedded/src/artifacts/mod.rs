//! Artifacts: files on directory handles, with their rows in the database.
//!
//! A file appears under its name only when it is whole and durable, and is never changed. Its row (length,
//! checksum, time) follows at once without a sync of its own: a file without a row, left by a power loss, is
//! found by its name and gets one.
//!
//! Two kinds are durable in the database before they have a file, and get it later from one thread: what follows from its
//! invocation's journal is acknowledged with the end of the invocation (see `derived`), and what is short with a commit
//! of its own (see `short`).
//!
//! It does not decide what is worth storing, and redacts nothing: content arrives as it shall stay.

mod backlog;
mod batch;
mod checkpointer;
mod derived;
mod disk;
mod durable;
mod file_writer;
mod retention;
mod rows;
mod scrub;
mod short;

pub(crate) use backlog::{Backlog, Unwritten};
pub use checkpointer::Checkpointer;
pub(crate) use derived::{Offer, record};
pub(crate) use file_writer::{FileWriter, adopt};
pub use retention::{RetentionPolicy, RetentionReport};
pub(crate) use rows::{ALL, name_of, read_known};
pub use scrub::{DamagedArtifact, ScrubReport};
pub(crate) use short::check_contents;

use std::sync::Arc;

use crate::queue::{Queue, Taken};

/// A path and what belongs there.
type Content = (Arc<str>, Arc<[u8]>);

/// Work on files that may block.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// BOUND: calls that wait for a thread; more callers wait for room.
pub(crate) const QUEUE_BOUND: usize = 256;

/// BOUND: files written or read at the same time.
pub(crate) const THREADS: usize = 2;

/// Works until the queue is closed and empty.
pub(crate) fn run(queue: &Arc<Queue<Task>>) {
    let mut tasks = Vec::with_capacity(1);
    while queue.take(1, &mut tasks) == Taken::Items {
        for task in tasks.drain(..) {
            // The caller sees its answer channel closed.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
        }
    }
}
