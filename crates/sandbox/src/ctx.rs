//! What a tool gets inside a worker, what it is asked, and what it may answer.
//!
//! These types cross the pipe between Otto and a worker, so they are plain data with a serializer. This
//! module does not route, run or confine anything: a worker (or the in-process stand-in) reads a
//! [`WorkerRequest`], calls the [`Dispatch`] function it was given, and sends the [`WorkerAnswer`] back.
//!
//! Invariant: a tool reaches files only through the [`Dir`] handles of its [`WorkerCtx`], hosts only through
//! its [`Egress`], and programs only by asking for an [`ExecRequest`]; nothing here holds a path.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use otto_core::port::tool::{ToolError, ToolErrorKind, ToolOutput};
use serde::{Deserialize, Serialize};

use crate::dir::{Dir, DirError};

/// Runs one request; the function that a worker is started with. It finds the tool by its name and returns
/// an answer in every case, never a panic on bad input.
pub type Dispatch = fn(&WorkerCtx, &WorkerRequest) -> WorkerAnswer;

// BOUND: a tool name on the wire; the names of the catalog are far shorter.
/// Longest name of a tool that a worker looks at, in bytes.
pub const MAX_TOOL_NAME_BYTES: usize = 64;

// BOUND: one answer; above the 2 MiB default of `fs.read` with room for escapes.
/// Longest answer that a host accepts from a worker unless it says less, in bytes.
pub const MAX_ANSWER_BYTES: u64 = 8 * 1024 * 1024;

/// One call as it is sent to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRequest {
    /// Name of the tool, at most [`MAX_TOOL_NAME_BYTES`].
    pub tool: String,
    /// The input: a JSON object as text, written by the model.
    pub input: String,
    /// Settings of the tool as JSON text, from the operator and the agent file.
    pub settings: Option<String>,
    /// The answer may not be longer; the tool's own limit may be tighter.
    pub max_output_bytes: u64,
    /// Time left for the call when the request was sent.
    pub time_left: Duration,
    /// How the program ended that the tool asked for in its first answer; `None` in the first request.
    pub exec: Option<ExecOutcome>,
    /// Whether [`WorkerAnswer::HandedOver`] is an answer. The host may ask again without this offer.
    pub takes_files: bool,
}

/// What a worker sends back. Hostile until the host has checked its size and kind.
#[derive(Debug, Serialize, Deserialize)]
pub enum WorkerAnswer {
    /// The call is done; this is what the model reads.
    Done {
        /// Text for the model.
        content: String,
    },
    /// The call failed.
    Failed(ToolFailure),
    /// The tool wants a program to be run in the exec sandbox. If the grant has `exec`, the host runs it and
    /// sends the same request again with its outcome; otherwise the call is denied. Once per call.
    Exec(ExecRequest),
    /// As `Done`, with the whole text of a file, if the request takes files. The host takes only what hides nothing
    /// and waits for nothing; otherwise it asks again. The handle goes beside the bytes of the frame.
    // Last, because the number of a variant that is skipped is used again when it is read.
    #[serde(skip)]
    HandedOver {
        /// The file, open for reading.
        file: File,
        /// A file with more bytes than these is not taken.
        most_bytes: u64,
    },
}

impl From<String> for WorkerAnswer {
    fn from(content: String) -> Self {
        Self::Done { content }
    }
}

impl WorkerAnswer {
    /// The end of a call in which no program can be run any more; one that is asked for gets `refusal`.
    pub(crate) fn finish(
        self,
        refusal: impl FnOnce() -> ToolError,
    ) -> Result<ToolOutput, ToolError> {
        match self {
            Self::Done { content } => Ok(ToolOutput { content }),
            Self::Failed(failure) => Err(failure.into()),
            Self::Exec(_) => Err(refusal()),
            Self::HandedOver { .. } => Err(ToolError::for_operator(
                "take the answer of a tool: it handed a file over and was not asked for one",
            )),
        }
    }
}

/// Why a call failed and who can act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ToolFailure {
    /// Who can act on it.
    pub kind: FailureKind,
    /// What was attempted, on what, and what would work instead. Names nothing outside the grant.
    pub message: String,
}

/// Who can act on a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The model: wrong input, missing file, no match for an edit.
    ForModel,
    /// Nobody: it was refused.
    Denied(RefusedBy),
    /// It took longer than its limit.
    TimedOut,
    /// It was stopped from outside.
    Cancelled,
    /// The operator: the tool cannot work here at all.
    ForOperator,
}

/// Which fence refused; [`otto_core::policy::RefusedBy`] as it crosses the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedBy {
    /// The grant.
    Policy,
    /// The rule about paths, before the kernel was asked.
    PathRule,
    /// The egress process.
    Egress,
    /// The kernel.
    Kernel,
}

impl From<RefusedBy> for otto_core::policy::RefusedBy {
    fn from(by: RefusedBy) -> Self {
        match by {
            RefusedBy::Policy => Self::Policy,
            RefusedBy::PathRule => Self::PathRule,
            RefusedBy::Egress => Self::Egress,
            RefusedBy::Kernel => Self::Kernel,
        }
    }
}

impl ToolFailure {
    /// A failure that the model can act on.
    #[must_use]
    pub fn for_model(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::ForModel,
            message: message.into(),
        }
    }

    /// A refusal.
    #[must_use]
    pub fn denied(by: RefusedBy, message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Denied(by),
            message: message.into(),
        }
    }

    /// A failure that only the operator can repair.
    #[must_use]
    pub fn for_operator(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::ForOperator,
            message: message.into(),
        }
    }
}

impl From<ToolFailure> for ToolError {
    fn from(failure: ToolFailure) -> Self {
        let kind = match failure.kind {
            FailureKind::ForModel => ToolErrorKind::ForModel,
            FailureKind::Denied(by) => ToolErrorKind::Denied(by.into()),
            FailureKind::TimedOut => ToolErrorKind::TimedOut,
            FailureKind::Cancelled => ToolErrorKind::Cancelled,
            FailureKind::ForOperator => ToolErrorKind::ForOperator,
        };
        Self {
            kind,
            message: failure.message,
        }
    }
}

/// A program to run in the exec sandbox. It is data from a worker, so the host gives it no more than the
/// agent's own programs get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Name of the program, looked up on the search path of the exec sandbox, or a path below `dir`.
    pub program: String,
    /// Its arguments, without the program's name. Never seen by a shell.
    pub args: Vec<String>,
    /// Variables to set beside the few that the exec sandbox sets itself.
    pub env: Vec<(String, String)>,
    /// Where it starts: a path relative to the working directory, or empty for the working directory.
    pub dir: String,
    /// The whole tree is killed after this time, or at the call's deadline if that is earlier.
    pub time_limit: Duration,
    /// Bytes of each of the two streams that are kept; the rest is read and dropped.
    pub max_output_bytes: u64,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// How it ended.
    pub end: ExecEnd,
    /// What it wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// Whether bytes were dropped from either stream.
    pub cut: bool,
    /// How long it ran.
    pub elapsed: Duration,
}

/// The way a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecEnd {
    /// It returned this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It ran out of time and was killed with all its children.
    TimedOut,
    /// It could not be started; the text says why in terms of the exec sandbox.
    NotStarted(String),
}

/// The way out to hosts on the allowlist: a separate process that decides, resolves and dials.
pub trait Egress: Send {
    /// Asks for a byte stream to `host` (ASCII, lower case) and `port`. The allowlist is checked before any
    /// name is resolved.
    ///
    /// # Errors
    /// [`EgressRefusal`] says whether the model, the operator or nobody can do something about it.
    fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Box<dyn ByteStream>, EgressRefusal>;
}

/// A connected stream of bytes.
pub trait ByteStream: io::Read + io::Write + Send {
    /// Later reads and writes fail with [`io::ErrorKind::TimedOut`] or [`io::ErrorKind::WouldBlock`] once this
    /// moment has passed.
    ///
    /// # Errors
    /// The error of the system when a timeout cannot be set.
    fn set_deadline(&mut self, deadline: Instant) -> io::Result<()>;
}

/// Why a connection was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EgressRefusal {
    /// The host or port is not on the allowlist, or its address may not be reached.
    #[error("{0}")]
    Refused(String),
    /// Too many connections to this host lately; try again after this time.
    #[error("rate limit reached; the next connection is possible in {} ms", .0.as_millis())]
    RateLimited(Duration),
    /// The host is allowed, but it could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It took longer than the call may take.
    #[error("the connection took longer than the call may take")]
    TimedOut,
}

/// Ends a call from outside: set once, read often.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the call to end.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the call is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// All that a tool can reach during one call.
pub struct WorkerCtx {
    /// The working directory, if the agent has one and the call may touch files.
    pub working_dir: Option<Dir>,
    /// Read-only directories by name, addressed as `@name/...`.
    pub roots: Vec<(String, Dir)>,
    /// The tool ends here by itself (a little before its limit); long loops ask [`WorkerCtx::check`].
    pub deadline: Instant,
    /// Set when the call is to end early.
    pub stop: StopFlag,
    /// The way to hosts, if the call may use the network.
    pub egress: Option<Box<dyn Egress>>,
    /// Whether [`WorkerAnswer::HandedOver`] is an answer to this call.
    pub takes_files: bool,
}

impl fmt::Debug for WorkerCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerCtx")
            .field("working_dir", &self.working_dir.is_some())
            .field(
                "roots",
                &self.roots.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .field("egress", &self.egress.is_some())
            .finish_non_exhaustive()
    }
}

/// A path as a model writes it, taken apart: which directory, and what below it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The directory it is below.
    pub dir: &'a Dir,
    /// The rest, relative to `dir`; `.` for `dir` itself.
    pub path: &'a str,
    /// The name of the read-only root, if it is one.
    pub root: Option<&'a str>,
}

/// When a tool should end by itself, so that what it has found so far still reaches the caller before the
/// host ends the call: a tenth of the time, at most 250 ms, before the deadline.
#[must_use]
pub(crate) fn soft_deadline(now: Instant, time_left: Duration) -> Instant {
    now + (time_left - (time_left / 10).min(MAX_MARGIN))
}

// BOUND: time to format and send an answer.
const MAX_MARGIN: Duration = Duration::from_millis(250);

impl WorkerCtx {
    /// A context that can compute and nothing else.
    #[must_use]
    pub fn compute(deadline: Instant) -> Self {
        Self {
            working_dir: None,
            roots: Vec::new(),
            deadline,
            stop: StopFlag::default(),
            egress: None,
            takes_files: false,
        }
    }

    /// Finds the directory that `path` is below: `src/lib.rs` is below the working directory, `@docs/a.md`
    /// below the root `docs`. A file whose own name starts with `@` is `./@name`. Opens nothing.
    ///
    /// # Errors
    /// [`DirError`] when the path is empty or the directory is not granted.
    pub fn place<'a>(&'a self, path: &'a str) -> Result<Place<'a>, DirError> {
        if let Some(rest) = path.strip_prefix('@') {
            let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
            let below = below.trim_start_matches('/');
            let below = if below.is_empty() { "." } else { below };
            let (root, dir) = self
                .roots
                .iter()
                .find(|(known, _)| known == name)
                .ok_or(DirError::UnknownRoot)?;
            return Ok(Place {
                dir,
                path: below,
                root: Some(root),
            });
        }
        let dir = self.working_dir.as_ref().ok_or(DirError::NoWorkingDir)?;
        Ok(Place {
            dir,
            path,
            root: None,
        })
    }

    /// Fails when the call is to end: its time is up or it was stopped. Cheap enough for every few kilobytes.
    ///
    /// # Errors
    /// [`FailureKind::Cancelled`] or [`FailureKind::TimedOut`].
    pub fn check(&self) -> Result<(), ToolFailure> {
        if self.stop.is_stopped() {
            return Err(ToolFailure {
                kind: FailureKind::Cancelled,
                message: "the call was cancelled".to_owned(),
            });
        }
        if Instant::now() >= self.deadline {
            return Err(ToolFailure {
                kind: FailureKind::TimedOut,
                message: "the call took longer than it may; ask for less at once".to_owned(),
            });
        }
        Ok(())
    }
}
