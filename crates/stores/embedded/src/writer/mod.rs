//! The one thread that writes: group commit, and what happens when a commit fails.
//!
//! The thread takes whatever is queued, runs it in one transaction and answers after the commit. A batch in which
//! somebody asked for durability is synced; any other becomes visible at once and is synced with the next batch or
//! within [`RELAXED_DELAY`].
//!
//! While nobody else waits, the thread syncs by itself. Otherwise another one does (see `syncer`), and this one goes on
//! with the next batch as soon as some calls wait or the sync is done; it never waits for more to come while
//! nothing is being synced.
//!
//! SQLite commits without a sync, and the writer syncs the log itself: whether a batch must be durable is known
//! only when its rules have run, too late to tell SQLite; and the log's bytes are synced without its times, which
//! spares the file system a commit of its own. A commit in the log's mode has written all its frames to the log
//! when it returns, so a sync of the log after it makes it durable, with all commits before it.
//! Source: SQLite, Write-Ahead Logging, section 2.3; `PRAGMA synchronous`, NORMAL.
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
mod syncer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use otto_core::port::store::{Durability, RELAXED_DELAY, StoreError};
use otto_core::store_rules::StoreClock;
use rusqlite::Connection;

use crate::config::FaultPoints;
use crate::db::open;
use crate::error::{Fault, distrusts_connection, from_sql, unavailable};
use crate::queue::{Queue, Taken};
pub(crate) use cache::Cache;
pub(crate) use job::{Change, Job, gone, job, job_then};
pub(crate) use rows::{SqlRows, many, one, read_kill};
use statements::Statements;
use syncer::{Standing, Syncer};

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
    /// Counts the syncs of the log.
    pub(crate) syncs: Arc<AtomicU64>,
    pub(crate) faults: Arc<dyn FaultPoints>,
}

/// Why the inner loop ended.
enum Exit {
    /// The queue is closed and empty.
    Closed,
    /// The connection is not to be used again.
    Distrusted,
}

impl Writer {
    /// Serves the queue until it is closed and empty, over this connection as long as it can be trusted.
    pub(crate) fn run(self, connection: Connection) {
        let mut recover = false;
        let mut first = Some(connection);
        // Calls that were taken and not begun.
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            match first.take().map_or_else(|| self.connect(recover), Ok) {
                Ok(connection) => match self.serve(&connection, &mut batch) {
                    Ok(Exit::Closed) => return,
                    Ok(Exit::Distrusted) => recover = true,
                    Err(error) => {
                        recover = true;
                        let error = from_sql(&error, "prepare the database", &self.path);
                        if self.refuse_next(&error, &mut batch) == Taken::Closed {
                            return;
                        }
                    }
                },
                // One batch is told, then the connection is tried again: an error that passes heals itself.
                Err(error) => {
                    let error = from_sql(&error, "open the database again", &self.path);
                    if self.refuse_next(&error, &mut batch) == Taken::Closed {
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

    fn refuse_next(&self, error: &StoreError, batch: &mut Vec<Job>) -> Taken {
        let taken = if batch.is_empty() {
            self.queue.take(BATCH_MAX, batch)
        } else {
            Taken::Items
        };
        for job in batch.drain(..) {
            job.answer(Err(error.clone()));
        }
        taken
    }

    /// Serves the queue, beginning with calls that were taken before.
    fn serve(&self, connection: &Connection, batch: &mut Vec<Job>) -> rusqlite::Result<Exit> {
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        let mut batches = Batches {
            writer: self,
            connection,
            statements: Statements::prepare(connection)?,
            cache: Cache::default(),
            syncer: Syncer::new(self),
            sync_due: None,
        };
        loop {
            let taken = if batch.is_empty() {
                let least = || batches.syncer.least();
                self.queue
                    .take_at_least(least, BATCH_MAX, batch, batches.sync_due)
            } else {
                Taken::Items
            };
            let trusted = match taken {
                // What was taken is begun on another connection.
                _ if matches!(batches.syncer.standing(), Standing::Failed(_)) => false,
                Taken::Items => batches.commit(batch),
                // With nothing in it, a batch syncs what is not yet durable.
                Taken::Timeout | Taken::Closed => {
                    batches.sync_due.is_none() || batches.commit(&mut Vec::new())
                }
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
    syncer: Syncer,
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
            Ok(Ok(Committed::Answerable)) => {
                for job in batch.drain(..) {
                    job.answer(Ok(()));
                }
                return true;
            }
            Ok(Ok(Committed::WithNextSync)) => {
                self.syncer.hand_over(std::mem::take(batch));
                return true;
            }
            Ok(Err(Failed::Rules(fault))) => match fault.into_refusal() {
                Ok(refusal) => (refusal, true),
                Err(error) => (
                    from_sql(&error, "write", &self.writer.path),
                    !distrusts_connection(&error),
                ),
            },
            Ok(Err(Failed::Sync(error))) => (error, false),
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

    fn transact(&mut self, batch: &mut [Job], synced: bool) -> Result<Committed, Failed> {
        let (changed, synced) = if batch.is_empty() {
            (false, synced)
        } else {
            self.run(batch, synced).map_err(Failed::Rules)?
        };
        if !synced {
            if changed && self.sync_due.is_none() {
                self.sync_due = Some(Instant::now() + RELAXED_DELAY);
            }
            return Ok(Committed::Answerable);
        }
        let is_syncing = match self.syncer.standing() {
            Standing::Failed(error) => return Err(Failed::Sync(error)),
            standing => matches!(standing, Standing::Busy),
        };
        // Also when nothing changed: a repeated call may be answered from rows that are not durable yet.
        if !changed && self.sync_due.is_none() && !is_syncing {
            return Ok(Committed::Answerable);
        }
        self.sync_due = None;
        if is_syncing || !self.writer.queue.is_empty() {
            return Ok(Committed::WithNextSync);
        }
        self.syncer.sync_now().map_err(Failed::Sync)?;
        Ok(Committed::Answerable)
    }

    /// Runs a batch in one transaction. Says whether anything changed, and whether it must be durable.
    fn run(&mut self, batch: &mut [Job], synced: bool) -> Result<(bool, bool), Fault> {
        self.statements.begin.execute(())?;
        if let Some(version) = self.cache.foreign(&mut self.statements)? {
            // Refused again each time: a newer Otto that runs beside this one has changed what rows mean.
            open::check_version(open::user_version(self.connection)?, &self.writer.path)?;
            self.cache.refresh(version);
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
        let synced = synced || rows.must_sync();
        let changed = self.connection.total_changes() != changes;
        self.statements.commit.execute(())?;
        self.cache.trim();
        Ok((changed, synced))
    }
}

/// What a commit waits for.
enum Committed {
    /// Nothing: it may be answered.
    Answerable,
    /// A sync that begins after it.
    WithNextSync,
}

/// Why a batch was not acknowledged.
enum Failed {
    /// It was not committed.
    Rules(Fault),
    /// It was committed, but perhaps not to the disk.
    Sync(StoreError),
}
