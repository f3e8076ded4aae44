//! One call from request to result.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use otto_core::policy::{Permission, RefusedBy};
use otto_core::port::BoxFuture;
use otto_core::port::tool::{AuditLog, ToolError, ToolErrorKind, ToolOutput};
use otto_core::port::tool_host::{Enforcement, HostGrant, HostRequest, ToolHost};

use tokio::sync::{AcquireError, SemaphorePermit};

use crate::boot::Booted;
use crate::ctx::{ExecOutcome, MAX_ANSWER_BYTES, WorkerAnswer, WorkerRequest};
use crate::probe::{self, Proof};
use crate::spec::{Layers, Start, WorkerKind, tool_time};

use super::inner::Inner;
use super::{CallError, Connection, HostConfig, Key, PinError, Pool};

/// Runs calls of Otto's own tools in confined workers. Cheap to clone.
///
/// A host belongs to the async runtime in which it is first used.
#[derive(Clone)]
pub struct WorkerHost {
    pub(crate) inner: Arc<Inner>,
}

impl Booted {
    /// A host whose workers come from this launcher. Starts nothing yet.
    #[must_use]
    pub fn host(&self, config: HostConfig) -> WorkerHost {
        WorkerHost::new(self.clone(), config, None)
    }

    /// A host whose processes have exactly the named layers and whose self-test does not decide, for the tests
    /// that prove each layer is needed. Whoever can call this can switch the sandbox off anyway.
    #[doc(hidden)]
    #[must_use]
    pub fn host_with_layers(&self, config: HostConfig, layers: &[&str]) -> WorkerHost {
        WorkerHost::new(self.clone(), config, Some(Layers::named(layers)))
    }
}

impl WorkerHost {
    pub(crate) fn new(booted: Booted, config: HostConfig, layers: Option<Layers>) -> Self {
        Self {
            inner: Arc::new(Inner::new(booted, config, layers)),
        }
    }

    /// Proves the confinement, if that has not been done yet: decides the level, then attacks workers of
    /// every kind. Takes some tens of milliseconds once. Calls of tools wait for it by themselves; a program
    /// asks for it at its start to be ready earlier.
    ///
    /// # Errors
    /// [`ToolErrorKind::ForOperator`]: nothing can be run here, and the message says what is missing and how
    /// to get it.
    pub async fn prove(&self) -> Result<Enforcement, ToolError> {
        self.proof()
            .await?
            .verdict
            .clone()
            .map_err(ToolError::for_operator)
    }

    pub(crate) async fn proof(&self) -> Result<&Proof, ToolError> {
        self.inner
            .proof
            .get_or_try_init(|| probe::prove(&self.inner))
            .await
            .map_err(|error| ToolError::for_operator(format!("sandbox_unavailable: {error}")))
    }

    /// Remembers which directory `path` is now. A worker is started only for that very directory, not for
    /// whatever stands at the path later. Called when an agent is loaded; the first call of a tool does it
    /// otherwise.
    ///
    /// # Errors
    /// [`PinError`] when it is missing, no directory, or reached through a link.
    pub fn pin_dir(&self, path: &std::path::Path) -> Result<(), PinError> {
        self.inner.pins.pin(path).map(drop)
    }

    /// Forgets which directory `path` was and ends idle workers that use it; for an agent that is reloaded.
    pub fn unpin_dir(&self, path: &std::path::Path) {
        self.inner.pins.unpin(path);
        self.inner.pool.end_idle(|key| {
            key.working_dir.as_deref() == Some(path)
                || key.roots.iter().any(|(_, root)| root == path)
        });
    }

    /// Ends the idle workers of an agent; for an agent that is removed.
    pub fn end_idle_workers(&self, agent: &otto_core::AgentName) {
        self.inner.pool.end_idle(|key| key.agent == *agent);
    }

    /// Live keys and idle workers, for metrics.
    #[must_use]
    pub fn worker_counts(&self) -> (usize, usize) {
        self.inner.pool.counts()
    }

    async fn run_to_end(&self, request: HostRequest) -> Result<ToolOutput, ToolError> {
        let deadline = Instant::now() + request.time_left;
        let cancellation = Arc::clone(&request.cancellation);
        tokio::select! {
            biased;
            // Dropping the call at its deadline or cancellation drops its worker, which kills it.
            result = self.call(&request, deadline) => result,
            () = cancellation.cancelled() => {
                Err(ToolError { kind: ToolErrorKind::Cancelled, message: "the call was cancelled".to_owned() })
            }
            () = tokio::time::sleep_until(deadline.into()) => Err(timed_out()),
        }
    }

    async fn call(
        &self,
        request: &HostRequest,
        deadline: Instant,
    ) -> Result<ToolOutput, ToolError> {
        if self.inner.layers.is_none() {
            self.prove().await?;
        }
        if !request.grant.beyond.is_empty() && !self.inner.config.audit_mode {
            return Err(ToolError::denied(
                RefusedBy::Policy,
                format!(
                    "`{}` needs the permission {}, which was not granted, and the tool host is not in audit mode",
                    request.tool, request.grant.beyond
                ),
            ));
        }
        let kind = kind_of(&request.grant)?;
        let mut asked = WorkerRequest {
            tool: request.tool.as_str().to_owned(),
            input: request.input.to_string(),
            settings: request.settings.as_ref().map(ToString::to_string),
            max_output_bytes: self.inner.config.max_answer_bytes.min(MAX_ANSWER_BYTES),
            time_left: Duration::ZERO,
            exec: None,
            takes_files: true,
        };
        let mut answer = self
            .call_worker(request, kind, &mut asked, deadline)
            .await?;
        if let WorkerAnswer::Exec(program) = answer {
            asked.exec = Some(self.run_program(request, program, deadline).await?);
            answer = self
                .call_worker(request, kind, &mut asked, deadline)
                .await?;
        }
        answer.finish(|| {
            ToolError::for_operator("the tool asked for a second program; a call may run one")
        })
    }

    async fn run_program(
        &self,
        request: &HostRequest,
        program: crate::ctx::ExecRequest,
        deadline: Instant,
    ) -> Result<ExecOutcome, ToolError> {
        if !request.grant.permissions.contains(Permission::Exec) {
            return Err(ToolError::denied(
                RefusedBy::Policy,
                "running programs (`exec`) is not granted to this call",
            ));
        }
        let working_dir = request.grant.working_dir.as_deref().ok_or_else(|| {
            ToolError::for_operator("running programs needs a `working_dir` of the agent")
        })?;
        self.exec_until(working_dir, program, deadline).await
    }

    async fn call_worker(
        &self,
        request: &HostRequest,
        kind: WorkerKind,
        asked: &mut WorkerRequest,
        deadline: Instant,
    ) -> Result<WorkerAnswer, ToolError> {
        let mut lease = self.lease(request, kind).await?;
        let turn = self.inner.turns.acquire().await.map_err(closed)?;
        asked.time_left = tool_time(deadline.saturating_duration_since(Instant::now()));
        let worker = lease
            .worker()
            .expect("a lease that was handed out holds a worker");
        let noting = Noting {
            worker,
            audit: request.audit.as_deref(),
        };
        let answered = in_turn(turn, noting.worker.call(asked)).await;
        drop(noting);
        match answered {
            Ok(answer) => {
                lease.give_back();
                self.keep_reaping();
                Ok(answer)
            }
            Err(error) => Err(call_failed(&error)),
        }
    }

    /// A lease with a worker in it.
    async fn lease(
        &self,
        request: &HostRequest,
        kind: WorkerKind,
    ) -> Result<super::pool::Lease, ToolError> {
        let key = Key::new(&request.agent, kind, &request.grant);
        let mut lease = self.inner.pool.lease(key).await.map_err(closed)?;
        if lease.worker().is_none() {
            let counted = lease.room().await.map_err(closed)?;
            let layers = self.inner.layers()?;
            let spec = self.inner.worker_spec(kind, layers, &request.grant)?;
            let (connection, _) =
                Connection::start_worker(&self.inner.booted, &Start::Worker(spec))
                    .await
                    .map_err(|error| start_failed(&error))?;
            lease.fill(connection, counted);
        }
        Ok(lease)
    }

    /// Makes sure that somebody ends idle workers.
    fn keep_reaping(&self) {
        if self.inner.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = Arc::downgrade(&self.inner.pool);
        tokio::spawn(reap(pool, self.inner.config.idle_timeout));
    }
}

/// Awaits a call that has its turn. The turn ends with the call, or when the call takes long: it waits for a disk or
/// the network then, or has much to do, and others begin beside it.
async fn in_turn<T>(turn: SemaphorePermit<'_>, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    match tokio::time::timeout(TURN, &mut call).await {
        Ok(answered) => answered,
        Err(_) => {
            drop(turn);
            call.await
        }
    }
}

/// Tells the audit log what was let pass, also when the call is dropped before its end.
struct Noting<'a> {
    worker: &'a mut Connection,
    audit: Option<&'a dyn AuditLog>,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        if let Some(audit) = self.audit {
            for note in self.worker.take_notes() {
                audit.would_deny(note);
            }
        }
    }
}

impl ToolHost for WorkerHost {
    fn run(&self, request: HostRequest) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(self.run_to_end(request))
    }

    /// What is enforced: known once [`WorkerHost::prove`] is done, `none` before.
    fn enforcement(&self) -> Enforcement {
        match self.inner.proof.get().map(|proof| &proof.verdict) {
            Some(Ok(level)) => *level,
            _ => Enforcement::None,
        }
    }
}

impl fmt::Debug for WorkerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHost")
            .field("enforcement", &self.enforcement())
            .finish_non_exhaustive()
    }
}

async fn reap(pool: Weak<Pool>, timeout: Duration) {
    loop {
        let due = match pool.upgrade() {
            Some(pool) => pool.reap(Instant::now(), timeout),
            None => return,
        };
        let due = due.unwrap_or_else(|| Instant::now() + timeout.max(SHORTEST_REAP));
        tokio::time::sleep_until(due.into()).await;
    }
}

// BOUND: how long a call keeps others from beginning; several times what reading a small file takes.
const TURN: Duration = Duration::from_millis(1);

// BOUND: how often an empty pool is looked at when workers are ended at once.
const SHORTEST_REAP: Duration = Duration::from_millis(10);

/// The kind of worker that can do what a call was granted, and no more.
fn kind_of(grant: &HostGrant) -> Result<WorkerKind, ToolError> {
    let has = |permission| grant.permissions.contains(permission);
    match (
        has(Permission::Read),
        has(Permission::Write),
        has(Permission::Net),
    ) {
        (false, false, false) => Ok(WorkerKind::Compute),
        (true, false, false) => Ok(WorkerKind::Read),
        (false, true, false) => Ok(WorkerKind::Write),
        (true, true, false) => Ok(WorkerKind::ReadWrite),
        (false, false, true) => Ok(WorkerKind::Http),
        (_, _, true) => Err(ToolError::for_operator(
            "a tool asks for `net` together with `read` or `write`; no worker has both, so that nothing that was \
             read can be sent away by the same code",
        )),
    }
}

fn closed(_: AcquireError) -> ToolError {
    ToolError::for_operator("the tool host is closed")
}

fn timed_out() -> ToolError {
    ToolError {
        kind: ToolErrorKind::TimedOut,
        message: "the call took longer than it may; ask for less at once".to_owned(),
    }
}

fn start_failed(error: &CallError) -> ToolError {
    ToolError::for_operator(format!("start a worker: {error}"))
}

fn call_failed(error: &CallError) -> ToolError {
    match error {
        // The tool's own code ended the process: a crash, too much memory, or a refused call it insisted on.
        CallError::Ended(_) | CallError::Protocol(_) => ToolError::for_model(format!(
            "the tool crashed on this input, and nothing is known about its effect: {error}"
        )),
        CallError::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            ToolError::for_model(
                "the tool crashed on this input, and nothing is known about its effect",
            )
        }
        CallError::Setup(_) | CallError::Io(_) | CallError::SlowStart => {
            ToolError::for_operator(format!("run a tool in its worker: {error}"))
        }
    }
}
