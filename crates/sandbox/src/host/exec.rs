//! Running a program for a call.

use std::path::{Path, PathBuf};
use std::time::Instant;

use otto_core::port::tool::ToolError;
use otto_core::port::tool_host::Enforcement;

use crate::ctx::{ExecOutcome, ExecRequest};
use crate::exec::MAX_CAPTURE_BYTES;
use crate::spec::{ExecProgram, ExecSpec, Layers, Start, WirePath, to_otto};
use crate::wire;

use super::{CallError, Connection, WorkerHost, WorkerHostInner};

// BOUND: both streams at their limit, and what their encoding adds.
const MAX_OUTCOME_BYTES: u64 = 2 * MAX_CAPTURE_BYTES + 64 * 1024;
// BOUND: arguments and variables together stay below what the launcher takes in one message.
const MAX_EXEC_REQUEST_BYTES: usize = 64 * 1024;

impl WorkerHost {
    /// Runs a program in a sandbox of its own, below `working_dir`, until it ends, its time limit, or
    /// `deadline`. Dropping the future kills the program with everything it has started.
    ///
    /// Nobody asks here whether the call was granted `exec`; callers do.
    ///
    /// # Errors
    /// [`otto_core::port::tool::ToolErrorKind::ForOperator`] when no program can run here, with the reason; a program that cannot be
    /// found or ends badly is an outcome.
    pub async fn exec_until(
        &self,
        working_dir: &Path,
        program: ExecRequest,
        deadline: Instant,
    ) -> Result<ExecOutcome, ToolError> {
        let layers = match self.inner.layers {
            Some(layers) => layers,
            None => Layers::of(
                self.proof()
                    .await?
                    .exec
                    .clone()
                    .map_err(ToolError::for_operator)?,
            ),
        };
        let closed = |_| ToolError::for_operator("the tool host is closed");
        let _turn = self.inner.programs.acquire().await.map_err(closed)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let program = ExecRequest {
            time_limit: program.time_limit.min(left),
            ..program
        };
        if program_bytes(&program) > MAX_EXEC_REQUEST_BYTES {
            return Err(ToolError::for_model(format!(
                "the program's arguments and variables are longer than {MAX_EXEC_REQUEST_BYTES} bytes"
            )));
        }
        let spec = self
            .inner
            .exec_spec(working_dir, layers, ExecProgram::Run(program))?;
        run(&self.inner, spec).await.map_err(|error| failed(&error))
    }
}

impl WorkerHostInner {
    /// What a sandbox for a program is told.
    pub(crate) fn exec_spec(
        &self,
        working_dir: &Path,
        layers: Layers,
        program: ExecProgram,
    ) -> Result<ExecSpec, ToolError> {
        let policy = &self.config.exec;
        let own = self.own_files_in(Some(working_dir)).collect::<Vec<_>>();
        let working_dir = self.pins.pin(working_dir).map_err(|error| {
            ToolError::for_operator(format!("open the working directory: {error}"))
        })?;
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| WirePath::new(path)).collect();
        Ok(ExecSpec {
            layers,
            working_dir,
            protected: PROTECTED_FROM_PROGRAMS
                .iter()
                .map(ToString::to_string)
                .chain(own)
                .collect(),
            read_only: paths(&policy.read_only),
            writable: paths(&policy.writable),
            env: policy.env.clone(),
            network: policy.network,
            limits: policy.limits,
            program,
        })
    }

    /// A directory of the operator's lists in which Otto's own files lie.
    pub(crate) fn listed_dir_that_holds_state(&self) -> Option<PathBuf> {
        let scratch = std::fs::canonicalize(&self.config.scratch).ok()?;
        let policy = &self.config.exec;
        let holds =
            |dir: &&PathBuf| std::fs::canonicalize(dir).is_ok_and(|dir| scratch.starts_with(dir));
        policy
            .read_only
            .iter()
            .chain(&policy.writable)
            .find(holds)
            .cloned()
    }

    /// The level at which programs may run, given the level of everything else.
    pub(crate) fn exec_level(&self, level: Enforcement) -> Result<Enforcement, String> {
        match level {
            Enforcement::L2 | Enforcement::None => Ok(level),
            Enforcement::L1 if !self.config.exec.allow_l1 => Err(
                "sandbox_unavailable: programs need level l2, which this host does not reach; the operator can \
                 allow them at level l1, where they see which files exist and can change times and modes"
                    .to_owned(),
            ),
            Enforcement::L1 if rustix::process::geteuid().is_root() => {
                Err("sandbox_unavailable: programs do not run as uid 0 at level l1; run Otto as a normal user".to_owned())
            }
            Enforcement::L1 => Ok(level),
        }
    }
}

/// Starts the sandbox and waits for the outcome.
pub(crate) async fn run(inner: &WorkerHostInner, spec: ExecSpec) -> Result<ExecOutcome, CallError> {
    let mut connection = Connection::start(&inner.booted, &Start::Exec(Box::new(spec))).await?;
    let frame = connection.receive(MAX_OUTCOME_BYTES).await?;
    match frame.tag {
        to_otto::EXECUTED => Ok(wire::decode(&frame.payload)?),
        _ => Err(CallError::Protocol("a frame came that is no outcome")),
    }
}

/// Paths below the working directory that no program may change. Git itself has to work in `.git`, but what
/// runs programs in there stays as it is.
const PROTECTED_FROM_PROGRAMS: [&str; 3] = [".otto", ".git/hooks", ".git/config"];

fn program_bytes(program: &ExecRequest) -> usize {
    let env: usize = program
        .env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let args: usize = program.args.iter().map(String::len).sum();
    program.program.len() + program.dir.len() + args + env
}

fn failed(error: &CallError) -> ToolError {
    match error {
        CallError::Ended(_) => {
            ToolError::for_model(format!("the sandbox of the program ended with it: {error}"))
        }
        _ => ToolError::for_operator(format!("run a program in its sandbox: {error}")),
    }
}
