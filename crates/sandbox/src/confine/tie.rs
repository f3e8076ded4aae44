//! Ties the life of a copy to that of the launcher: the kernel kills the copy when the launcher ends.
//!
//! The kernel forgets whom to kill when a process drops capabilities, so the tie is made anew after that. If the
//! launcher ends while there is none, the copy belongs to somebody else from then on and would live for ever;
//! so after each tie it looks who its parent is. Inside a namespace of its own it cannot see that, except through
//! a file of the old `/proc` that was opened before.
//!
//! Invariant: after [`Tie::renew`] has succeeded, the end of the launcher is the end of this process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::confine::Prepared;
use crate::spec::{OrFail, SetupFailure, Stage};

// BOUND: the numbers stand in the first lines.
const STATUS_BYTES: usize = 1024;

/// The tie of one copy.
pub(crate) struct Tie {
    status: File,
    launcher: u32,
}

impl Tie {
    /// Ties this process. Called while `/proc` is still that of the launcher.
    pub(crate) fn to_launcher(prepared: &Prepared) -> Result<Self, SetupFailure> {
        let tie = Self {
            status: open_status()?,
            launcher: prepared.launcher,
        };
        tie.renew()?;
        Ok(tie)
    }

    /// Ties it again, and makes sure that the launcher is still there.
    pub(crate) fn renew(&self) -> Result<(), SetupFailure> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .or_fail(Stage::Limits, "set the parent death signal")?;
        if number(&self.status, "PPid:")? == self.launcher {
            Ok(())
        } else {
            Err(SetupFailure::refused(
                Stage::Limits,
                "the launcher has ended; start Otto again",
            ))
        }
    }
}

/// The number of this process as `/proc` tells it, which a copy compares its parent with.
pub(crate) fn own_number() -> Result<u32, SetupFailure> {
    number(&open_status()?, "Pid:")
}

fn open_status() -> Result<File, SetupFailure> {
    File::open("/proc/self/status").or_fail(Stage::Limits, "open /proc/self/status")
}

fn number(status: &File, name: &str) -> Result<u32, SetupFailure> {
    let mut text = [0; STATUS_BYTES];
    let length = status
        .read_at(&mut text, 0)
        .or_fail(Stage::Limits, "read /proc/self/status")?;
    let text = String::from_utf8_lossy(&text[..length]);
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .ok_or_else(|| {
            SetupFailure::refused(
                Stage::Limits,
                format!("/proc/self/status has no line `{name}`; is /proc mounted?"),
            )
        })
}
