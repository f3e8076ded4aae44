//! What the operator decides about the host.

use std::path::PathBuf;
use std::time::Duration;

use crate::egress::ConnectRate;
use crate::spec::{ExecLimits, ExecNetwork};

/// How strongly workers are to be confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LevelChoice {
    /// As strongly as this host can, and not at all if it cannot do at least level l1.
    #[default]
    Strongest,
    /// Landlock and seccomp without namespaces, although more might be possible.
    ForcedL1,
    /// Namespaces, Landlock and seccomp; without them no tool runs.
    ForcedL2,
    /// Not at all. Only for an operator who opted out by flag and by setting.
    OperatorOptOut,
}

/// The settings of a [`crate::WorkerHost`].
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// How strongly workers are confined.
    pub level: LevelChoice,
    /// A directory of Otto's own, outside every working directory, in which the self-test may make a
    /// directory for itself. It must exist.
    pub scratch: PathBuf,
    /// Files and directories of Otto's own; absolute. Where a working directory holds one, no tool can change
    /// it: the state directory at its default place lies inside the project.
    pub protected: Vec<PathBuf>,
    /// An idle worker is ended after this time.
    pub idle_timeout: Duration,
    /// Calls of one agent with one grant that run at the same time; more wait.
    pub workers_per_grant: usize,
    /// Live workers in total; idle ones are ended to make room, then calls wait.
    pub max_workers: usize,
    /// Longest answer of a worker, in bytes; at most [`crate::MAX_ANSWER_BYTES`].
    pub max_answer_bytes: u64,
    /// Hosts (`host:port`, `address:port`) that may be reached although their address is private or given as
    /// a number. From the operator's own configuration only.
    pub private_hosts: Vec<String>,
    /// How often one host may be connected to by one agent.
    pub connect_rate: ConnectRate,
    /// Audit mode, from the operator's own configuration only. The kernel has no permissive mode, so workers
    /// get more than the agent was granted: a call runs with every right that its tool needs
    /// ([`otto_core::port::tool_host::HostGrant::beyond`]), and a host on no list is reached after a note to
    /// the call's [`otto_core::port::tool::AuditLog`]. What stays as it is: the working directory and roots
    /// are all that is seen of the file system, `.otto`, `.git` and `protected` are read-only, private
    /// addresses are refused, `net` and files never meet in one worker, and every layer of the sandbox is on.
    pub audit_mode: bool,
    /// What programs get.
    pub exec: ExecPolicy,
}

/// What programs get in the exec sandbox. From the operator's own configuration only.
#[derive(Debug, Clone)]
pub struct ExecPolicy {
    /// Whether programs may run where namespaces are not available. Never for uid 0.
    pub allow_l1: bool,
    /// Directories with toolchains, read-only, beside those of the system.
    pub read_only: Vec<PathBuf>,
    /// Directories that programs may change beside the working directory, such as caches of packages.
    pub writable: Vec<PathBuf>,
    /// Variables that every program gets.
    pub env: Vec<(String, String)>,
    /// The network of programs.
    pub network: ExecNetwork,
    /// Bounds of each program.
    pub limits: ExecLimits,
    /// Programs that run at the same time; more wait.
    pub at_once: usize,
}

impl HostConfig {
    /// The defaults, with the one thing that has none.
    #[must_use]
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            level: LevelChoice::Strongest,
            scratch: scratch.into(),
            protected: Vec::new(),
            idle_timeout: Duration::from_secs(60),
            workers_per_grant: 4,
            max_workers: 2048,
            max_answer_bytes: crate::MAX_ANSWER_BYTES,
            private_hosts: Vec::new(),
            connect_rate: ConnectRate::default(),
            audit_mode: false,
            exec: ExecPolicy::default(),
        }
    }
}

impl Default for ExecPolicy {
    fn default() -> Self {
        Self {
            allow_l1: false,
            read_only: Vec::new(),
            writable: Vec::new(),
            env: Vec::new(),
            network: ExecNetwork::Loopback,
            limits: ExecLimits::default(),
            at_once: 4,
        }
    }
}
