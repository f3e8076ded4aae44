//! What Otto tells the launcher, and what comes back over a worker's own stream.
//!
//! These types cross a socket between processes of the same binary, so they are plain data and need no
//! compatibility between versions. A directory is named by its path *and* its identity: whoever opens it
//! compares both, so a path that was swapped since is refused instead of followed.
//!
//! Nothing here is a command line and nothing is seen by a shell.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use otto_core::port::tool_host::Enforcement;
use serde::{Deserialize, Serialize};

use crate::ctx::ExecRequest;
use crate::egress::EgressPolicy;

// BOUND: a message to the launcher fits into the default buffer of a socket with room to spare.
/// Longest message to the launcher, in bytes.
pub(crate) const MAX_START_BYTES: usize = 128 * 1024;

// BOUND: a request carries the model's input, or the output of a program: two streams of at most 8 MiB.
/// Longest frame to a worker, in bytes.
pub(crate) const MAX_REQUEST_FRAME_BYTES: u64 = 24 * 1024 * 1024;

/// Tags of frames from Otto to a worker.
pub(crate) mod to_worker {
    pub(crate) const CALL: u8 = 1;
    pub(crate) const ATTACK: u8 = 2;
}

/// Tags of frames from a worker, or from the launcher in its name, to Otto.
pub(crate) mod to_otto {
    pub(crate) const READY: u8 = 1;
    pub(crate) const FAILED: u8 = 2;
    /// The payload is the text for the model and nothing else, so a large answer is not copied once more.
    pub(crate) const DONE: u8 = 3;
    pub(crate) const ANSWER: u8 = 4;
    pub(crate) const ENDED: u8 = 5;
    pub(crate) const ATTACKED: u8 = 6;
    pub(crate) const EXECUTED: u8 = 7;
    /// As `DONE` for a large text: it is in the sealed memory whose handle comes with the frame, and the payload
    /// is its length. The text is copied once instead of twice, and without a wait for every buffer full.
    pub(crate) const SHARED: u8 = 8;
    /// As `DONE` with the text of the file whose handle comes with the frame; the payload is the most bytes it may
    /// have. Only an answer to a request that takes files.
    pub(crate) const FILE: u8 = 9;
}

bitmask! {
    /// The layers that confine a process. Production uses the sets of the levels; tests take single layers
    /// away to prove that each is needed.
    Layers: u16 {
        // Namespaces of its own but for the network, and the mount view that they make possible.
        NAMESPACES = 1,
        CAPABILITIES = 2,
        LANDLOCK = 4,
        SECCOMP = 8,
        LIMITS = 16,
        // Protected paths stay as they are.
        PROTECTED = 32,
        // A network namespace of its own.
        NETWORK = 64,
        NO_NEW_PRIVS = 128,
    }
}

impl Layers {
    /// Landlock and seccomp.
    pub(crate) const L1: Self = Self::CAPABILITIES
        .with(Self::LANDLOCK)
        .with(Self::SECCOMP)
        .with(Self::LIMITS)
        .with(Self::PROTECTED)
        .with(Self::NO_NEW_PRIVS);
    /// Namespaces, Landlock and seccomp.
    pub(crate) const L2: Self = Self::L1.with(Self::NAMESPACES).with(Self::NETWORK);

    /// The layers with these names, for tests.
    pub(crate) fn named(names: &[&str]) -> Self {
        names.iter().fold(Self::NONE, |layers, name| {
            layers.with(match *name {
                "namespaces" => Self::NAMESPACES,
                "capabilities" => Self::CAPABILITIES,
                "landlock" => Self::LANDLOCK,
                "seccomp" => Self::SECCOMP,
                "limits" => Self::LIMITS,
                "protected" => Self::PROTECTED,
                "network" => Self::NETWORK,
                "no_new_privs" => Self::NO_NEW_PRIVS,
                _ => Self::NONE,
            })
        })
    }

    /// The layers of a level.
    pub(crate) const fn of(level: Enforcement) -> Self {
        match level {
            Enforcement::None => Self::NONE,
            Enforcement::L1 => Self::L1,
            Enforcement::L2 => Self::L2,
        }
    }
}

/// What a worker may do; each kind has its own domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum WorkerKind {
    /// Nothing but computing.
    Compute,
    /// Read and list files.
    Read,
    /// Create and change files, without reading or listing them.
    Write,
    /// Both.
    ReadWrite,
    /// Ask the egress process for connections; no files.
    Http,
}

impl WorkerKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Compute,
        Self::Read,
        Self::Write,
        Self::ReadWrite,
        Self::Http,
    ];

    pub(crate) const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "read+write",
            Self::Http => "http",
        }
    }
}

/// A path on the wire: bytes, because a path need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct WirePath(Vec<u8>);

impl WirePath {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }

    pub(crate) fn to_path(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.0.clone()))
    }
}

impl fmt::Debug for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_path().fmt(f)
    }
}

/// Which file or directory a path named when it was pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A directory by path and identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedDir {
    pub(crate) path: WirePath,
    pub(crate) identity: Identity,
}

/// A message to the launcher. With it goes one end of the stream of the new process, and for an http worker
/// in audit mode one end of the socket on which its egress process writes notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Start {
    Worker(WorkerSpec),
    Exec(Box<ExecSpec>),
}

/// A worker to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerSpec {
    pub(crate) kind: WorkerKind,
    pub(crate) layers: Layers,
    pub(crate) working_dir: Option<PinnedDir>,
    pub(crate) roots: Vec<(String, PinnedDir)>,
    /// Paths below the working directory that are read-only to everyone.
    pub(crate) protected: Vec<String>,
    /// For [`WorkerKind::Http`].
    pub(crate) egress: Option<EgressPolicy>,
    /// Audit mode: `kind` may hold rights beyond what policy granted, and egress lets hosts pass that are on
    /// no list, with a note for each. Nothing else is wider: the working directory and the roots are the same,
    /// and `protected` holds.
    pub(crate) audit: bool,
}

/// A program to be run in a sandbox of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    pub(crate) layers: Layers,
    pub(crate) working_dir: PinnedDir,
    pub(crate) protected: Vec<String>,
    /// Directories with programs and libraries, read-only.
    pub(crate) read_only: Vec<WirePath>,
    /// Directories that may be changed beside the working directory.
    pub(crate) writable: Vec<WirePath>,
    /// Variables from the operator.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) network: ExecNetwork,
    pub(crate) limits: ExecLimits,
    pub(crate) program: ExecProgram,
}

/// What runs in the exec sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExecProgram {
    /// A program of the agent.
    Run(ExecRequest),
    /// The attacks of the self-test, by the code of this binary.
    Attack(Vec<u8>),
}

/// The network a program finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecNetwork {
    /// No interface that is up.
    None,
    /// A loopback interface of its own, so that a test can talk to its own server.
    Loopback,
}

/// Bounds of the processes of one exec sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecLimits {
    /// Address space of each process, in bytes.
    pub memory_bytes: u64,
    /// Size of each file that is written, in bytes.
    pub file_bytes: u64,
    /// Processes and threads. The kernel does not apply it to uid 0.
    pub processes: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// Private `/tmp`, in bytes.
    pub tmp_bytes: u64,
}

impl Default for ExecLimits {
    fn default() -> Self {
        Self {
            // BOUND: virtual machines of languages reserve address space generously; 16 GiB of reservations is
            // what the largest of them take at their defaults.
            memory_bytes: 16 * 1024 * 1024 * 1024,
            file_bytes: 2 * 1024 * 1024 * 1024,
            processes: 512,
            open_files: 4096,
            tmp_bytes: 512 * 1024 * 1024,
        }
    }
}

/// What a worker says when it is confined and waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The Landlock version that is fully enforced; 0 when that layer is off.
    pub(crate) landlock_abi: i32,
}

/// Why a worker could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{stage}: {detail}")]
pub(crate) struct SetupFailure {
    pub(crate) stage: Stage,
    pub(crate) errno: i32,
    pub(crate) detail: String,
}

/// The step at which the start of a worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Stage {
    Request,
    Fork,
    Namespaces,
    Directories,
    MountView,
    Capabilities,
    Limits,
    Landlock,
    Seccomp,
    Egress,
    Program,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "read the request to start a worker",
            Self::Fork => "make a new process",
            Self::Namespaces => "enter new namespaces",
            Self::Directories => "open the directories of the grant",
            Self::MountView => "build the view of the file system",
            Self::Capabilities => "drop all capabilities",
            Self::Limits => "set resource limits",
            Self::Landlock => "enter the Landlock domain",
            Self::Seccomp => "install the seccomp filter",
            Self::Egress => "start the egress process",
            Self::Program => "start the program",
        })
    }
}

/// How a process of the launcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it ended with code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal} ended it"),
        }
    }
}

impl SetupFailure {
    /// A failed system call.
    pub(crate) fn system(stage: Stage, what: &str, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        Self {
            stage,
            errno: error.raw_os_error().unwrap_or(0),
            detail: format!("{what}: {error}"),
        }
    }

    /// A refusal of our own.
    pub(crate) fn refused(stage: Stage, detail: impl Into<String>) -> Self {
        Self {
            stage,
            errno: 0,
            detail: detail.into(),
        }
    }
}

/// Turns a failed call into a [`SetupFailure`] that says what was attempted.
pub(crate) trait OrFail<T> {
    fn or_fail(self, stage: Stage, what: &str) -> Result<T, SetupFailure>;
}

impl<T, E: Into<std::io::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, stage: Stage, what: &str) -> Result<T, SetupFailure> {
        self.map_err(|error| SetupFailure::system(stage, what, error))
    }
}

/// Unused time of a call that a tool gets less than the host keeps, so that a tool that stops by itself at
/// its deadline can still answer before its process is killed.
pub(crate) fn tool_time(time_left: Duration) -> Duration {
    // BOUND: enough to format and send an answer on a loaded machine.
    const MARGIN: Duration = Duration::from_millis(100);
    time_left.saturating_sub(MARGIN.min(time_left / 10))
}
