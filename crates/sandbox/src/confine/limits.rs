//! Resource limits of confined processes.
//!
//! These bound what one process can take from the machine. They are not a permission: a tool that hits one
//! gets an error or dies, and only its own call is lost.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::spec::{ExecLimits, OrFail, SetupFailure, Stage};

// BOUND: a worker holds a request, an answer and the buffers of one tool.
const WORKER_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
// BOUND: the largest file a tool may write.
const WORKER_FILE_BYTES: u64 = 256 * 1024 * 1024;
// BOUND: a walk holds one handle per level of depth.
const WORKER_OPEN_FILES: u64 = 256;
// BOUND: one egress process serves one worker; each connection takes two.
const EGRESS_OPEN_FILES: u64 = 64;
const EGRESS_MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// Limits of a worker. It can start no process at all: seccomp refuses that, and this refuses it again.
pub(crate) fn worker() -> Result<(), SetupFailure> {
    set_all(&[
        (Resource::Core, 0),
        (Resource::As, WORKER_MEMORY_BYTES),
        (Resource::Fsize, WORKER_FILE_BYTES),
        (Resource::Nofile, WORKER_OPEN_FILES),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ])
}

/// Limits of an egress process.
pub(crate) fn egress() -> Result<(), SetupFailure> {
    set_all(&[
        (Resource::Core, 0),
        (Resource::As, EGRESS_MEMORY_BYTES),
        (Resource::Fsize, 0),
        (Resource::Nofile, EGRESS_OPEN_FILES),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ])
}

/// Limits of every process of an exec sandbox.
pub(crate) fn exec(limits: ExecLimits) -> Result<(), SetupFailure> {
    // A program that computes at Otto's own real-time priority would keep the processor from who is to end it.
    crate::sys::leave_real_time().or_fail(Stage::Limits, "leave real-time priority")?;
    set_all(&[
        (Resource::Rtprio, 0),
        (Resource::Core, 0),
        (Resource::As, limits.memory_bytes),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nofile, limits.open_files),
        (Resource::Nproc, limits.processes),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ])
}

/// No core file of this process is ever written: it would hold keys.
pub(crate) fn no_core() -> Result<(), SetupFailure> {
    set_all(&[(Resource::Core, 0)])
}

/// Raises the number of open files as far as it goes without a privilege: every live worker takes one.
pub(crate) fn raise_open_files() {
    // BOUND: some hosts set no upper limit, and the kernel then sizes a table by what is asked.
    const ENOUGH: u64 = 64 * 1024;
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if now.current.is_some_and(|current| current < wanted) {
        // What cannot be raised stays as it is: fewer workers then fit, and starting one more says so.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: now.maximum,
            },
        );
    }
}

fn set_all(limits: &[(Resource, u64)]) -> Result<(), SetupFailure> {
    for (resource, value) in limits {
        // A host may have set a lower bound already; it stays.
        let value = getrlimit(*resource)
            .maximum
            .map_or(*value, |maximum| maximum.min(*value));
        setrlimit(
            *resource,
            Rlimit {
                current: Some(value),
                maximum: Some(value),
            },
        )
        .or_fail(Stage::Limits, &format!("limit {resource:?} to {value}"))?;
    }
    Ok(())
}
