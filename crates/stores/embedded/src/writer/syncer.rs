//! Making commits durable: the log's sync, and the thread that syncs it while the writer goes on with the next batch.
//!
//! Batches that are committed and not yet durable wait here. One sync covers all that were there when it began, and this
//! thread answers them, in the order of their commits. The thread begins with the first batch that is handed over: where
//! calls come one by one, the writer syncs by itself, which spares a hand-over.
//!
//! A file tells of a failed write once to each handle, so that a second sync beside the first could be told that all is
//! well. There is one handle, and one sync at a time: the writer syncs by itself only while nothing waits here.
//! Source: fsync(2), section on errors.
//!
//! Invariants:
//! - a batch is acknowledged only after a sync has succeeded that began after its commit;
//! - after a sync has failed, every batch is refused that waits or still comes.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use otto_core::port::store::StoreError;

use crate::config::FaultPoints;
use crate::error::{from_io, unavailable};
use crate::queue::Queue;
use crate::store::thread;
use crate::writer::{Job, Writer};

/// How many calls have to wait before the next batch begins while the last one is being synced. Fewer would be many
/// small transactions, whose pages all have to be synced; they come with the sync that follows.
const OVERLAP_MIN: usize = 16;

/// BOUND: calls that are committed and wait for a sync to begin; with so many the writer waits for it.
const WAITING_MAX: usize = 1_024;

/// The thread and what it has to do, for one connection.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What becomes of commits.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Nothing waits to be synced by the thread.
    Idle,
    /// Something does.
    Busy,
    /// A sync has failed: nothing that was committed since is known to be durable.
    Failed(StoreError),
}

struct Shared {
    state: Mutex<State>,
    ready: Condvar,
    /// The writer's queue: it waits for less while nothing is being synced.
    queue: Arc<Queue<Job>>,
    path: PathBuf,
    /// Counts the syncs of the log.
    syncs: Arc<AtomicU64>,
    faults: Arc<dyn FaultPoints>,
    /// The log. It stays the same file as long as the connection is open.
    log: Mutex<Option<File>>,
}

struct State {
    /// Batches in the order of their commits; `None` when no sync is wanted.
    waiting: Option<Vec<Job>>,
    standing: Standing,
    closed: bool,
}

impl Syncer {
    /// For a connection of the writer.
    pub(super) fn new(writer: &Writer) -> Self {
        let mut path = writer.path.as_os_str().to_owned();
        path.push("-wal");
        let path = PathBuf::from(path);
        let shared = Shared {
            state: Mutex::new(State {
                waiting: None,
                standing: Standing::Idle,
                closed: false,
            }),
            ready: Condvar::new(),
            queue: writer.queue.clone(),
            syncs: writer.syncs.clone(),
            faults: writer.faults.clone(),
            // From the beginning, where it is there: a handle is told only what fails after it was opened.
            log: Mutex::new(File::open(&path).ok()),
            path,
        };
        Self {
            shared: Arc::new(shared),
            thread: None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.shared.lock().standing.clone()
    }

    /// How many calls have to wait before the writer takes the next batch.
    pub(super) fn least(&self) -> usize {
        let state = self.shared.lock();
        match &state.standing {
            Standing::Idle => 1,
            Standing::Busy => match &state.waiting {
                Some(jobs) if jobs.len() >= WAITING_MAX => usize::MAX,
                _ => OVERLAP_MIN,
            },
            // None: the database is opened again at once, so that what nobody waits for becomes durable, too.
            Standing::Failed(_) => 0,
        }
    }

    /// Syncs the log, and so every commit before. Only while this is idle.
    pub(super) fn sync_now(&self) -> Result<(), StoreError> {
        self.shared.sync()
    }

    /// Has the thread sync the log and answer a batch that is committed, or none.
    pub(super) fn hand_over(&mut self, batch: Vec<Job>) {
        let mut state = self.shared.lock();
        if matches!(state.standing, Standing::Idle) {
            state.standing = Standing::Busy;
        }
        state.waiting.get_or_insert_default().extend(batch);
        drop(state);
        if self.thread.is_none() {
            let shared = self.shared.clone();
            let work = move || while shared.round() {};
            match thread("otto-store-syncer", work) {
                Ok(thread) => self.thread = Some(thread),
                // Then the writer does it by itself, the next time as well.
                Err(_) => drop(self.shared.round()),
            }
        }
        self.shared.ready.notify_one();
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_one();
        if let Some(thread) = self.thread.take() {
            // It catches its own panics, and has answered everybody when it ends.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Waits for batches, syncs once and answers them. False when there will be none.
    fn round(&self) -> bool {
        let mut state = self
            .ready
            .wait_while(self.lock(), |state| {
                state.waiting.is_none() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let Some(batches) = state.waiting.take() else {
            return false;
        };
        let failed = match &state.standing {
            Standing::Failed(error) => Some(error.clone()),
            Standing::Idle | Standing::Busy => None,
        };
        drop(state);
        let outcome = failed.map_or_else(|| self.sync_unless_it_panics(), Err);
        let mut state = self.lock();
        match &outcome {
            Err(error) => state.standing = Standing::Failed(error.clone()),
            Ok(()) if state.waiting.is_none() => state.standing = Standing::Idle,
            Ok(()) => {}
        }
        drop(state);
        for job in batches {
            // Whoever hears nothing sees its channel closed; the others are told.
            let _ = catch_unwind(AssertUnwindSafe(|| job.answer(outcome.clone())));
        }
        self.queue.look_again();
        true
    }

    fn sync_unless_it_panics(&self) -> Result<(), StoreError> {
        catch_unwind(AssertUnwindSafe(|| self.sync())).unwrap_or_else(|_| {
            let detail = format!(
                "sync the log `{}`: the thread panicked; this is a defect of Otto",
                self.path.display()
            );
            Err(unavailable(Arc::from(detail)))
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        let fail = |error: std::io::Error| from_io(&error, "sync the log", &self.path);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *log {
            Some(file) => file,
            none => none.insert(File::open(&self.path).map_err(fail)?),
        };
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.faults.sync_log().map_err(fail)?;
        file.sync_data().map_err(fail)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
