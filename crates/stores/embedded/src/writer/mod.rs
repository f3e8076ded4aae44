//! The one thread that writes: group commit, and what happens when a commit fails.
//!
//! The thread takes whatever is queued, runs it in one transaction and answers after the commit. It never
//! waits for more to come. A batch in which somebody asked for durability is synced; any other becomes
//! visible at once and is synced with the next batch or within [`RELAXED_DELAY`].
//!
//! Several processes may do this on one file. What this one remembers of the rows is dropped when another
//! has committed.
//!
//! Invariants:
//! - nothing of a batch is acknowledged unless its transaction was committed (and synced, where asked);
//! - after a failed commit nothing in memory is believed: rows are read again, and after an I/O error the
//!   connection is opened again and the log is moved into the database with its own sync before any later
//!   sync counts as proof.

mod cache;
mod job;
mod rows;
mod statements;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use otto_core::port::store::{Durability, RELAXED_DELAY, StoreError};
use otto_core::store_rules::StoreClock;
use rusqlite::Connection;

use crate::db::open;
use crate::error::{Fault, distrusts_connection, from_sql, unavailable};
use crate::queue::{Queue, Taken};
pub(crate) use cache::Cache;
pub(crate) use job::{Change, Job, gone, job, job_then};
pub(crate) use rows::{SqlRows, many, one, read_kill};
use statements::Statements;

/// BOUND: calls that wait for the writer; more callers wait for room.
pub(crate) const QUEUE_BOUND: usize = 1_024;

/// BOUND: calls in one transaction.
const BATCH_MAX: usize = 256;

/// The writer's side of the store.
pub(crate) struct Writer {
    pub(crate) queue: Arc<Queue<Job>>,
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn StoreClock>,
    /// Most bytes of artifacts, checked where their rows are written.
    pub(crate) artifact_bytes_max: u64,
}

/// Why the inner loop ended.
enum Exit {
    /// The queue is closed and empty.
    Closed,
    /// The connection is not to be used again.
    Distrusted,
}

impl Writer {
    /// Serves the queue until it is closed and empty.
    pub(crate) fn run(self) {
        let mut recover = false;
        loop {
            match self.connect(recover) {
                Ok(connection) => match self.serve(&connection) {
                    Ok(Exit::Closed) => return,
                    Ok(Exit::Distrusted) => recover = true,
                    Err(error) => {
                        recover = true;
                        if self.refuse_next(&from_sql(&error, "prepare the database", &self.path))
                            == Taken::Closed
                        {
                            return;
                        }
                    }
                },
                // One batch is told, then the connection is tried again: an error that passes heals itself.
                Err(error) => {
                    if self.refuse_next(&from_sql(&error, "open the database again", &self.path))
                        == Taken::Closed
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Opens a connection. After an I/O error the log is moved into the database file and cut to nothing:
    /// its pages may be marked clean in memory without having reached the disk.
    fn connect(&self, recover: bool) -> rusqlite::Result<Connection> {
        let connection = open::writer(&self.path)?;
        if recover {
            connection.execute_batch("PRAGMA synchronous = FULL")?;
            let busy: i64 =
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
            if busy != 0 {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    Some("after a disk error the log cannot be moved while others read".to_owned()),
                ));
            }
        }
        Ok(connection)
    }

    fn refuse_next(&self, error: &StoreError) -> Taken {
        let mut batch = Vec::new();
        let taken = self.queue.take(BATCH_MAX, &mut batch, None);
        for job in batch {
            job.answer(Err(error.clone()));
        }
        taken
    }

    fn serve(&self, connection: &Connection) -> rusqlite::Result<Exit> {
        let mut batches = Batches {
            writer: self,
            connection,
            statements: Statements::prepare(connection)?,
            cache: Cache::default(),
            synchronous: Some(Durability::Synced),
            sync_due: None,
        };
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let (taken, trusted) = match self.queue.take(BATCH_MAX, &mut batch, batches.sync_due) {
                Taken::Items => (Taken::Items, batches.commit(&mut batch)),
                // With nothing in it, a batch syncs what is not yet durable.
                taken => (
                    taken,
                    batches.sync_due.is_none() || batches.commit(&mut Vec::new()),
                ),
            };
            match (taken, trusted) {
                (Taken::Closed, _) => return Ok(Exit::Closed),
                (_, false) => return Ok(Exit::Distrusted),
                (_, true) => {}
            }
        }
    }
}

/// The state of one connection.
struct Batches<'a> {
    writer: &'a Writer,
    connection: &'a Connection,
    statements: Statements<'a>,
    cache: Cache,
    /// How the connection commits now; `None` when unknown.
    synchronous: Option<Durability>,
    /// When commits that are visible but perhaps not durable must be synced; `None` when there are none.
    sync_due: Option<Instant>,
}

impl Batches<'_> {
    /// Runs a batch in one transaction and answers it. Says whether the connection may be used again.
    fn commit(&mut self, batch: &mut Vec<Job>) -> bool {
        let synced = batch.is_empty()
            || batch
                .iter()
                .any(|job| job.durability() == Durability::Synced);
        // The cache is reset after a panic, and the transaction rolled back, so nothing half done is seen.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.transact(batch, synced)));
        let (error, trusted) = match outcome {
            Ok(Ok(())) => {
                for job in batch.drain(..) {
                    job.answer(Ok(()));
                }
                return true;
            }
            Ok(Err(Fault::Sql(error))) => (
                from_sql(&error, "write", &self.writer.path),
                !distrusts_connection(&error),
            ),
            Ok(Err(Fault::Refused(error))) => (error, true),
            Err(_) => {
                let detail = format!(
                    "write in `{}`: the writer panicked; this is a defect of Otto",
                    self.writer.path.display()
                );
                (unavailable(Arc::from(detail)), false)
            }
        };
        self.cache.reset();
        let rolled_back =
            self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        for job in batch.drain(..) {
            job.answer(Err(error.clone()));
        }
        trusted && rolled_back
    }

    fn transact(&mut self, batch: &mut [Job], synced: bool) -> Result<(), Fault> {
        self.choose(if synced {
            Durability::Synced
        } else {
            Durability::Relaxed
        })?;
        self.statements.begin.execute(())?;
        if self.cache.is_stale(&mut self.statements)? {
            open::check_version(open::user_version(self.connection)?, &self.writer.path)?;
            self.cache.reset();
            // Whether the other process has synced what it wrote is unknown, and an answer may rest on it.
            self.sync_due
                .get_or_insert_with(|| Instant::now() + RELAXED_DELAY);
        }
        let changes = self.connection.total_changes();
        let now = self.writer.clock.now();
        let mut rows = SqlRows::new(
            &mut self.statements,
            &mut self.cache,
            self.writer.artifact_bytes_max,
        );
        for job in batch {
            job.run(&mut rows, now)?;
        }
        rows.flush()?;
        // A commit that changes nothing does not sync either, but a repeated call may be answered from
        // rows that are not durable yet.
        if synced && self.sync_due.is_some() {
            self.statements.touch.execute(())?;
        }
        let changed = self.connection.total_changes() != changes;
        self.statements.commit.execute(())?;
        self.cache.trim();
        if synced {
            self.sync_due = None;
        } else if changed && self.sync_due.is_none() {
            self.sync_due = Some(Instant::now() + RELAXED_DELAY);
        }
        Ok(())
    }

    /// Chooses whether commits are synced. In the log's mode an unsynced one cannot damage the file; a
    /// power loss takes it, and whatever follows it, back.
    fn choose(&mut self, durability: Durability) -> rusqlite::Result<()> {
        if self.synchronous != Some(durability) {
            self.synchronous = None;
            self.connection.execute_batch(match durability {
                Durability::Synced => "PRAGMA synchronous = FULL",
                Durability::Relaxed => "PRAGMA synchronous = NORMAL",
            })?;
            self.synchronous = Some(durability);
        }
        Ok(())
    }
}
