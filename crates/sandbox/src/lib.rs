//! What a tool may touch: the trust boundary and the only unsafe code.
//!
//! Otto's own tools run in *workers*: processes that the kernel confines to what an agent was granted. A
//! worker has Landlock, a seccomp filter and, where the host gives them, namespaces; no network, no
//! programs, no capabilities, an empty environment, and no view of anything but its directories. A tool with
//! a bug that runs foreign code is still in there.
//!
//! The order of a program's life: [`boot`] at the first line of `main` starts the launcher, which makes all
//! confined processes; then the program may lock itself ([`lock_main`]); then [`Booted::host`] gives a [`WorkerHost`], which
//! attacks its own workers once before it runs the first tool.
//!
//! What this crate does not do: decide what an agent is granted (that is policy, in `otto-core` and the
//! engine), or know any tool (they come as a [`Dispatch`] function).
//!
//! Invariant: if the kernel does not enforce a grant, the call does not run.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Otto runs on Linux alone: the kernel that confines its tools is Linux (Landlock, seccomp, namespaces), and there \
     is no stand-in for another one; build it on Linux or for a Linux target, such as in a container or a virtual \
     machine. What the compiler says after this is of no interest"
);

#[macro_use]
mod bitmask;

mod boot;
mod confine;
mod ctx;
pub mod dir;
mod egress;
mod exec;
mod handed;
mod host;
mod in_process;
mod launcher;
mod lock;
mod overlap;
mod probe;
mod shared;
mod shown;
mod spec;
mod sys;
mod wire;
mod worker;

pub use boot::{BootError, Booted, boot, booted};
pub use ctx::{
    ByteStream, Dispatch, Egress, EgressRefusal, ExecEnd, ExecOutcome, ExecRequest, FailureKind,
    MAX_ANSWER_BYTES, MAX_TOOL_NAME_BYTES, Place, RefusedBy, StopFlag, ToolFailure, WorkerAnswer,
    WorkerCtx, WorkerRequest,
};
pub use dir::{Access, Dir, DirError};
pub use egress::ConnectRate;
pub use host::{ExecPolicy, HostConfig, LevelChoice, PinError, WorkerHost};
pub use in_process::InProcessHost;
pub use lock::{Connections, LockConfig, LockError, MainLock, lock_main};
pub use overlap::{DirClaim, DirProblem, DirProblemKind, Reserved, check_working_dirs};
pub use probe::{Check, DoctorReport, Expectation, Mechanism};
pub use shown::{is_hidden, may_hide};
pub use spec::{ExecLimits, ExecNetwork};
