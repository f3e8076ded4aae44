//! The list of the self-test: what each kind of process tries, and what must come of it.

use std::path::PathBuf;

use otto_core::port::tool_host::Enforcement;

use crate::spec::{WirePath, WorkerKind};

use super::attacks::{Attack, Attacked};
use super::doctor::{Check, Expectation};
use super::scene::{READABLE, Scene, WRITTEN};

/// An attack and what must come of it.
pub(super) struct Step {
    name: &'static str,
    expectation: Expectation,
    pub(super) attack: Attack,
}

impl Step {
    pub(super) fn refused(name: &'static str, attack: Attack) -> Self {
        Self {
            name,
            expectation: Expectation::Refused,
            attack,
        }
    }

    fn when(allowed: bool, name: &'static str, attack: Attack) -> Self {
        let expectation = if allowed {
            Expectation::Allowed
        } else {
            Expectation::Refused
        };
        Self {
            name,
            expectation,
            attack,
        }
    }

    pub(super) fn judge(&self, domain: &'static str, result: &Attacked) -> Check {
        let passed = match (self.expectation, result.errno) {
            (Expectation::Allowed, None) => true,
            (Expectation::Refused, Some(errno)) => is_refusal(&self.attack, errno),
            _ => false,
        };
        let outcome = match result.errno {
            None => "it succeeded".to_owned(),
            Some(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        };
        Check {
            domain,
            name: self.name,
            expectation: self.expectation,
            passed,
            outcome,
        }
    }
}

/// Numbers that say "you may not" or "there is no such thing for you"; anything else, such as a full table
/// or a bad argument, would pass by accident.
fn is_refusal(attack: &Attack, errno: i32) -> bool {
    match errno {
        libc::EPERM | libc::EACCES | libc::ENOENT | libc::EROFS | libc::ESRCH | libc::ENOSYS => {
            true
        }
        // In a network of its own there is nobody at that address.
        libc::ECONNREFUSED | libc::ENETUNREACH => matches!(attack, Attack::Connect(_)),
        _ => false,
    }
}

/// What a worker of this kind tries.
pub(super) fn of_worker(kind: WorkerKind, level: Enforcement, scene: &Scene) -> Vec<Step> {
    let otto = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let canary = WirePath::new(&scene.canary());
    let mut steps = Vec::new();
    if level == Enforcement::L2 {
        // Landlock does not hide what exists; the mount view does.
        steps.push(Step::refused(
            "see that a file outside exists",
            Attack::Look(canary.clone()),
        ));
    }
    steps.extend([
        Step::when(
            kind.reads(),
            "read a file of the working directory",
            Attack::ReadInside(READABLE.to_owned()),
        ),
        Step::when(
            kind.writes(),
            "write a file of the working directory",
            Attack::WriteInside(WRITTEN.to_owned()),
        ),
        Step::when(
            kind.reads(),
            "list the working directory",
            Attack::ListInside,
        ),
        Step::refused("read a file outside", Attack::Open(canary)),
        Step::refused(
            "read /etc/passwd",
            Attack::Open(WirePath::new("/etc/passwd".as_ref())),
        ),
        Step::refused(
            "create a file outside",
            Attack::Create(WirePath::new(&scene.planted())),
        ),
        Step::refused("make an internet socket", Attack::InternetSocket),
        Step::refused("make a unix socket", Attack::UnixSocket),
        Step::refused("make a process", Attack::Fork),
        Step::refused("signal Otto", Attack::Signal(otto)),
        Step::refused("change a limit of Otto", Attack::Limit(otto)),
        Step::refused("trace Otto", Attack::Trace(otto)),
        Step::refused("use io_uring", Attack::IoUring),
        Step::refused("enter a new namespace", Attack::NewNamespace),
    ]);
    steps
}

/// What a program tries.
pub(super) fn of_program(scene: &Scene, port: u16) -> Vec<Step> {
    let otto = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let environment = PathBuf::from(format!("/proc/{otto}/environ"));
    vec![
        Step::when(
            true,
            "create a file in the working directory",
            Attack::Create(WirePath::new(&scene.working_dir().join(WRITTEN))),
        ),
        Step::when(true, "make a process", Attack::Fork),
        Step::refused(
            "read a file outside",
            Attack::Open(WirePath::new(&scene.canary())),
        ),
        Step::refused(
            "create a file outside",
            Attack::Create(WirePath::new(&scene.planted())),
        ),
        Step::refused("connect to a server of this host", Attack::Connect(port)),
        Step::refused(
            "read Otto's environment",
            Attack::Open(WirePath::new(&environment)),
        ),
        Step::refused(
            "change the kernel's settings",
            Attack::OpenForWriting(WirePath::new("/proc/sys/kernel/core_pattern".as_ref())),
        ),
        Step::refused("change a limit of Otto", Attack::Limit(otto)),
        Step::refused("trace Otto", Attack::Trace(otto)),
        Step::refused("use io_uring", Attack::IoUring),
        Step::refused("enter a new namespace", Attack::NewNamespace),
        // It works, as it does for any build tool; what counts is that the process does not live on.
        Step::when(
            true,
            "leave a daemon behind",
            Attack::LeaveDaemon(WirePath::new(&scene.lock())),
        ),
    ]
}

/// Programs of which one exists nearly everywhere.
pub(super) const PROGRAMS: [&str; 4] = ["/bin/true", "/usr/bin/true", "/bin/sh", "/usr/bin/env"];
