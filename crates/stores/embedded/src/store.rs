//! The store: the port's traits on the writer thread and the readers.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use otto_core::ledger::{Account, LookAhead, Scope};
use otto_core::port::BoxFuture;
use otto_core::port::contexts::ContextFiles;
use otto_core::port::store::{
    ArtifactDraft, ArtifactRef, Blobs, ClaimOutcome, Directory, Dispatch, Durability, Entry,
    Finish, FinishReply, InvocationQuery, InvocationRecord, Journal, KillRow, Lease, LedgerStore,
    Outcome, ReserveCall, ReserveReply, SettleCall, SettleReply, StoreError, Submission,
    SubmitOutcome, UsageQuery, UsageStore, UsageSum,
};
use otto_core::store_rules::{self as rules, StoreClock};
use otto_core::{InvocationId, SessionId, UtcDay};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::artifacts::{self, Backlog, Checkpointer, Offer, Task, Unwritten};
use crate::boot;
use crate::config::StoreConfig;
use crate::contexts::{self, SpilledContexts};
use crate::db::codec::read_account;
use crate::db::open;
use crate::error::{Fault, from_sql, invalid, unavailable};
use crate::presence::{self, Presence};
use crate::queue::Queue;
use crate::reader::{self, Question};
use crate::state_dir::StateDir;
use crate::writer::{self, Change, Job, SqlRows, Writer, gone, job, job_then, one, read_kill};

/// The embedded store: one SQLite file, one thread that writes it.
///
/// Several processes may open the same state directory; see the crate's documentation for what that means.
/// Dropping the last handle finishes what was called, makes it durable and ends the threads.
pub struct EmbeddedStore {
    pub(crate) inner: Arc<Inner>,
    checkpointer: Checkpointer,
}

/// BOUND: how long a store that is dropped waits for its writer before it ends the thread that writes files.
const WRITER_PATIENCE: Duration = Duration::from_secs(60);

/// Threads that end together.
type Threads = Mutex<Vec<JoinHandle<()>>>;

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) state_dir: Arc<StateDir>,
    pub(crate) path: std::path::PathBuf,
    pub(crate) clock: Arc<dyn StoreClock>,
    pub(crate) node: Arc<str>,
    pub(crate) writer: Arc<Queue<Job>>,
    readers: Arc<Queue<Question>>,
    pub(crate) files: Arc<Queue<Task>>,
    syncs: Arc<AtomicU64>,
    /// Whether a failure of the machine is noticed, so that money may be held ahead.
    can_hold_ahead: bool,
    pub(crate) backlog: Arc<Backlog>,
    /// Ended before the others, in this order: they hand rows to the writer.
    pub(crate) file_threads: Threads,
    pub(crate) file_writer: Threads,
    threads: Threads,
    _presence: Presence,
}

impl EmbeddedStore {
    /// Opens the store of a state directory; creates or migrates it if needed.
    ///
    /// The leases of nodes whose process is dead end here, so that their sessions can be claimed at once.
    ///
    /// # Errors
    /// `Damaged` for a file that is foreign, truncated, or of a newer version: it was not touched.
    /// `ReadOnly` and `Full` when the directory cannot be written. `Unavailable` when another process keeps
    /// the store locked. `Invalid` for a node name that is empty or too long.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        if config.node.is_empty() || config.node.len() > rules::MAX_KEY_BYTES {
            let detail = format!(
                "open the store as a node whose name has {} bytes: expected 1 to {}",
                config.node.len(),
                rules::MAX_KEY_BYTES
            );
            return Err(invalid(Arc::from(detail)));
        }
        let state_dir = Arc::new(StateDir::open(&config.state_dir)?);
        let lock = state_dir.lock_opening()?;
        let (path, connection) = open::prepare(&state_dir)?;
        let Buried { alive, left } = bury_dead_nodes(&state_dir, &connection, &path, &config)?;
        contexts::remove_leftovers(&state_dir)?;
        let presence = presence::announce(&state_dir, &config.node)?;
        let boot = boot::number(&config.boot);
        let inner = Inner {
            can_hold_ahead: boot.is_some(),
            path: path.clone(),
            clock: config.clock.clone(),
            node: config.node,
            writer: Arc::new(Queue::new(writer::QUEUE_BOUND)),
            readers: Arc::new(Queue::new(reader::QUEUE_BOUND)),
            files: Arc::new(Queue::new(artifacts::QUEUE_BOUND)),
            backlog: Arc::default(),
            syncs: Arc::default(),
            file_threads: Mutex::default(),
            file_writer: Mutex::default(),
            threads: Mutex::default(),
            _presence: presence,
            state_dir,
        };
        let writer = Writer {
            queue: inner.writer.clone(),
            path: path.clone(),
            clock: config.clock,
            artifact_bytes_max: config.artifact_bytes_max,
            syncs: inner.syncs.clone(),
            faults: config.faults.clone(),
        };
        inner.spawn(&inner.threads, "otto-store-writer", move || {
            writer.run(connection)
        })?;
        for _ in 0..reader::THREADS {
            let (queue, path) = (inner.readers.clone(), path.clone());
            inner.spawn(&inner.threads, "otto-store-reader", move || {
                reader::run(&queue, &path);
            })?;
        }
        boot::settle_up(&inner.writer, boot, alive, &path)?;
        drop(lock);
        let inner = Arc::new(inner);
        let checkpointer = Checkpointer::start(&inner, config.artifact_bytes_max, config.faults)?;
        for unwritten in left {
            inner.backlog.push(unwritten);
        }
        Ok(Self {
            inner,
            checkpointer,
        })
    }

    /// The component that keeps artifacts, for what the port does not cover: retention, pins, checks.
    #[must_use]
    pub const fn checkpointer(&self) -> &Checkpointer {
        &self.checkpointer
    }

    /// A place for contexts that memory has no room for. Its files go with it, and after a crash when the next
    /// store is opened.
    #[must_use]
    pub fn context_files(&self) -> Arc<dyn ContextFiles> {
        let state_dir = self.inner.state_dir.clone();
        Arc::new(SpilledContexts::new(state_dir, &self.inner.node))
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// How often the log was synced since this store was opened: what the calls so far have waited for.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.inner.syncs.load(Ordering::Relaxed)
    }

    /// The node that this store was opened as.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.inner.node
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("path", &self.inner.path)
            .field("node", &self.inner.node)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Starts a thread that ends with these.
    pub(crate) fn spawn(
        &self,
        with: &Threads,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let thread = thread(name, run)?;
        with.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    /// Waits until the writer has done what is in its queue.
    fn await_writer(&self) {
        let (done, waits) = mpsc::channel();
        let last = job_then(
            Durability::Relaxed,
            |_, _| Ok(()),
            move |_: Result<(), StoreError>| {
                // Whoever waits no longer does not mind.
                let _ = done.send(());
            },
        );
        if self.writer.push_now(last).is_ok() {
            // A writer that hangs is joined below all the same.
            let _ = waits.recv_timeout(WRITER_PATIENCE);
        }
    }

    /// Runs a rule in the writer's next transaction.
    pub(crate) fn change<'a, T: Send + 'static>(
        &'a self,
        durability: Durability,
        rule: impl Change<T>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let (job, answer) = job(durability, rule);
            self.send(job).await?;
            answer.await.unwrap_or_else(|_| Err(gone(&self.path)))
        })
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        self.writer.push(job).await.map_err(|_| gone(&self.path))
    }

    /// Asks a question about one snapshot of the rows.
    pub(crate) fn ask<'a, T: Send + 'static>(
        &'a self,
        attempted: &'static str,
        ask: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let (question, answer) = reader::question(attempted, &self.path, ask);
            self.readers
                .push(question)
                .await
                .map_err(|_| gone(&self.path))?;
            answer.await.unwrap_or_else(|_| Err(gone(&self.path)))
        })
    }
}

pub(crate) fn thread(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| {
            unavailable(Arc::from(format!(
                "start thread `{name}`: {error}; raise the limit on threads"
            )))
        })
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A thread that panicked has told its callers; there is nobody left to tell here.
        let join = |threads: &mut Threads| {
            for thread in threads
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..)
            {
                let _ = thread.join();
            }
        };
        self.files.close();
        join(&mut self.file_threads);
        // What they handed on may still want files.
        self.await_writer();
        self.backlog.close();
        join(&mut self.file_writer);
        self.writer.close();
        self.readers.close();
        join(&mut self.threads);
    }
}

/// What was found when the dead were buried.
struct Buried {
    /// Nodes whose process is there.
    alive: Vec<String>,
    /// What the dead have not written.
    left: Vec<Unwritten>,
}

/// Ends the leases of nodes that are known to be dead, and takes over the files they have not written.
fn bury_dead_nodes(
    state_dir: &StateDir,
    connection: &Connection,
    path: &Path,
    config: &StoreConfig,
) -> Result<Buried, StoreError> {
    let alive = presence::bury_dead(state_dir, |node| {
        connection
            .execute(
                "UPDATE sessions SET until = 0 WHERE node IS NOT NULL AND until > 0 AND node = ?1",
                params![node],
            )
            .map(drop)
            .map_err(|error| from_sql(&error, "end the leases of a dead process", path))
    })?;
    let left = artifacts::adopt(connection, &config.node, |other| {
        presence::may_be_alive(state_dir, &presence::file_name(other))
    })
    .map_err(|fault| fault.into_store_error("take over the files of a dead process", path))?;
    Ok(Buried { alive, left })
}

impl Dispatch for EmbeddedStore {
    fn submit(&self, submission: Submission) -> BoxFuture<'_, Result<SubmitOutcome, StoreError>> {
        self.inner.change(submission.durability, move |rows, now| {
            rules::submit(rows, now, &submission)
        })
    }

    fn claim(
        &self,
        session: SessionId,
        node: Arc<str>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<ClaimOutcome, StoreError>> {
        self.inner.change(Durability::Synced, move |rows, now| {
            rules::claim(rows, now, session, &node, ttl)
        })
    }

    fn heartbeat(&self, lease: Lease, ttl: Duration) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.inner.change(Durability::Relaxed, move |rows, now| {
            rules::heartbeat(rows, now, &lease, ttl)
        })
    }

    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.inner.change(Durability::Relaxed, move |rows, _| {
            rules::release(rows, &lease)
        })
    }

    fn finish(&self, finish: Finish) -> BoxFuture<'_, Result<FinishReply, StoreError>> {
        Box::pin(async move {
            let (invocation, session) = (finish.invocation, finish.lease.session);
            let offer = Offer::of(&finish, &self.inner.backlog).map(Arc::new);
            let offered = offer.clone();
            let node = self.inner.node.clone();
            let rule = move |rows: &mut SqlRows<'_, '_>, now| {
                let outcome = rules::finish(rows, &finish)?;
                let artifacts = match &offered {
                    Some(offer) => artifacts::record(rows, now, &finish, outcome, offer, &node)?,
                    None => Vec::new(),
                };
                let journal = match outcome {
                    Outcome::Fenced => None,
                    Outcome::Done | Outcome::AlreadyDone => Some(rows.journal_head(invocation)?),
                };
                Ok(FinishReply {
                    outcome,
                    artifacts,
                    journal,
                })
            };
            let backlog = self.inner.backlog.clone();
            let (reply, answer) = oneshot::channel();
            let job = job_then(Durability::Synced, rule, move |result| {
                // From here on the files are promised, whether or not the caller still waits.
                if let Ok(FinishReply {
                    outcome: Outcome::Done,
                    artifacts,
                    ..
                }) = &result
                    && let Some(offer) = offer.and_then(Arc::into_inner)
                    && !artifacts.is_empty()
                {
                    backlog.push(offer.into_unwritten(invocation, session, artifacts));
                }
                drop(reply.send(result));
            });
            self.inner.send(job).await?;
            answer.await.unwrap_or_else(|_| Err(gone(&self.inner.path)))
        })
    }

    fn unfinished(&self) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        let now = self.inner.clock.now();
        self.inner
            .ask("list unfinished invocations", move |connection| {
                reader::unfinished(connection, now)
            })
    }
}

impl Journal for EmbeddedStore {
    fn append(
        &self,
        lease: Lease,
        invocation: InvocationId,
        entries: Vec<Entry>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.inner.change(durability, move |rows, _| {
            rules::append(rows, &lease, invocation, &entries)
        })
    }

    fn read_after(
        &self,
        invocation: InvocationId,
        after: u64,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.inner.ask("read a journal", move |connection| {
            reader::entries_after(connection, invocation, after)
        })
    }
}

impl LedgerStore for EmbeddedStore {
    fn reserve(&self, mut call: ReserveCall) -> BoxFuture<'_, Result<ReserveReply, StoreError>> {
        if !self.inner.can_hold_ahead {
            call.look_ahead = LookAhead::None;
        }
        self.inner.change(Durability::Relaxed, move |rows, now| {
            let answer = rules::reserve(rows, now, &call)?;
            if answer.durability == Durability::Synced {
                rows.require_sync();
            }
            Ok(answer.reply)
        })
    }

    fn settle(&self, call: SettleCall) -> BoxFuture<'_, Result<SettleReply, StoreError>> {
        self.inner
            .change(call.durability, move |rows, _| rules::settle(rows, &call))
    }

    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner
            .change(Durability::Synced, |rows, now| rules::sweep(rows, now))
    }

    fn account(&self, scope: Scope) -> BoxFuture<'_, Result<Account, StoreError>> {
        self.inner.ask("read an account", move |connection| {
            let mut statement = connection.prepare(
                "SELECT spent_cost, held_cost, spent_tokens, held_tokens, warned_cost, warned_tokens, latched
                FROM accounts WHERE scope = ?1",
            )?;
            Ok(one(&mut statement, params![scope.to_string()], |row| read_account(row, 0))?.unwrap_or_default())
        })
    }

    fn today(&self) -> BoxFuture<'_, Result<UtcDay, StoreError>> {
        self.inner
            .change(Durability::Relaxed, |rows, now| rules::today(rows, now))
    }
}

impl Directory for EmbeddedStore {
    fn invocations(
        &self,
        query: InvocationQuery,
    ) -> BoxFuture<'_, Result<Vec<InvocationRecord>, StoreError>> {
        let now = self.inner.clock.now();
        self.inner.ask("list invocations", move |connection| {
            reader::invocations(connection, &query, now)
        })
    }

    fn set_kill(&self, row: Option<KillRow>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner
            .change(Durability::Synced, move |rows, _| rows.set_kill(row))
    }

    fn kill(&self) -> BoxFuture<'_, Result<Option<KillRow>, StoreError>> {
        self.inner.ask("read the kill switch", |connection| {
            one(
                &mut connection.prepare("SELECT reason, at FROM kill")?,
                params![],
                read_kill,
            )
        })
    }
}

impl UsageStore for EmbeddedStore {
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<Vec<UsageSum>, StoreError>> {
        self.inner.ask("sum usage", move |connection| {
            reader::usage(connection, &query)
        })
    }
}

impl Blobs for EmbeddedStore {
    fn put(&self, draft: ArtifactDraft) -> BoxFuture<'_, Result<ArtifactRef, StoreError>> {
        self.checkpointer.put(draft)
    }

    fn get(&self, artifact: ArtifactRef) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        self.checkpointer.get(artifact)
    }

    fn list(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<ArtifactRef>, StoreError>> {
        self.checkpointer.list(session)
    }
}
