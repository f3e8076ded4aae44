//! A few threads that answer questions, each with a connection that cannot write.
//!
//! A long question (a usage report, a backup) never holds up the writer. Each answer is one consistent
//! snapshot that contains every call answered before the question was asked.

mod invocations;
mod journal;
mod usage;

use std::path::Path;
use std::sync::Arc;

use otto_core::port::store::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::db::open;
use crate::error::{Fault, from_sql};
use crate::queue::{Queue, Taken};
pub(crate) use invocations::{INVOCATIONS, invocations, read_record, unfinished};
pub(crate) use journal::{entries_after, journal};
pub(crate) use usage::usage;

/// BOUND: questions that wait; more callers wait for room.
pub(crate) const QUEUE_BOUND: usize = 1_024;

/// BOUND: questions answered at the same time.
pub(crate) const THREADS: usize = 2;

/// A question. It is told why it cannot be asked when there is no connection.
pub(crate) type Question = Box<dyn FnOnce(Result<&Connection, &StoreError>) + Send>;

/// A question about the rows, and where its answer arrives.
pub(crate) fn question<T: Send + 'static>(
    attempted: &'static str,
    path: &Path,
    ask: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
) -> (Question, oneshot::Receiver<Result<T, StoreError>>) {
    let (reply, answer) = oneshot::channel();
    let path = path.to_owned();
    let question: Question = Box::new(move |connection| {
        let result = match connection {
            Ok(connection) => {
                snapshot(connection, ask).map_err(|fault| fault.into_store_error(attempted, &path))
            }
            Err(error) => Err(error.clone()),
        };
        // A caller that no longer waits has lost interest.
        let _ = reply.send(result);
    });
    (question, answer)
}

/// Answers questions until the queue is closed and empty.
pub(crate) fn run(queue: &Arc<Queue<Question>>, path: &Path) {
    let mut connection = None;
    let mut questions = Vec::with_capacity(1);
    while queue.take(1, &mut questions) == Taken::Items {
        for question in questions.drain(..) {
            if connection.is_none() {
                match open::reader(path) {
                    Ok(opened) => connection = Some(opened),
                    Err(error) => {
                        question(Err(&from_sql(&error, "open for reading", path)));
                        continue;
                    }
                }
            }
            if let Some(open) = &connection {
                let asked =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| question(Ok(open))));
                // After a panic the connection may be in the middle of something.
                if asked.is_err() {
                    connection = None;
                }
            }
        }
    }
}

/// Asks about one snapshot of the rows.
pub(crate) fn snapshot<T>(
    connection: &Connection,
    ask: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    connection.execute_batch("BEGIN")?;
    let result = ask(connection);
    let ended = connection.execute_batch("ROLLBACK");
    let value = result?;
    ended?;
    Ok(value)
}
