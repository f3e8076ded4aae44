//! The identity of this process in its new user namespace.
//!
//! Exactly one user and one group exist inside: those that Otto runs as, under the same numbers. Files keep
//! their owners, and nobody inside can become anybody else.

use std::fs::OpenOptions;
use std::io::Write;

use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};

use crate::spec::{OrFail, SetupFailure, Stage};

/// The ids of this process as they are outside; to be read before the process is copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Ids {
    /// The ids this process has now.
    pub(crate) fn current() -> Self {
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        }
    }
}

/// Maps the outer user and group, alone, to themselves.
pub(crate) fn map(ids: Ids) -> Result<(), SetupFailure> {
    // The files below belong to root while the process is not dumpable, which is how the launcher left it.
    set_dumpable_behavior(DumpableBehavior::Dumpable).or_fail(
        Stage::Namespaces,
        "make the process dumpable while its ids are mapped",
    )?;
    write("/proc/self/uid_map", &format!("{0} {0} 1", ids.uid))?;
    // The kernel wants this before an unprivileged process maps its group: without it a process could drop a
    // group that *denies* it access.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/gid_map", &format!("{0} {0} 1", ids.gid))
}

fn write(path: &str, text: &str) -> Result<(), SetupFailure> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .or_fail(Stage::Namespaces, &format!("write {path}"))
}
