//! Writing a file so that it is whole or not there, and stays once that was said.
//!
//! On a directory handle: a temporary file in the same directory (created anew, mode 0600), all bytes, a
//! sync of the file, a rename that replaces nothing, a sync of the directory. A failed sync is never tried
//! again as proof: the kernel may have dropped the bytes and reported it once. The file is removed and the
//! error reported; a new attempt writes a new file.
//!
//! The checksum is computed from memory, for long content by another thread while this one writes.
//!
//! Invariant: `Ok(Written)` means durable; with any other answer the name is as it was.

use std::os::fd::{AsFd, OwnedFd};

use otto_core::store_rules::artifact_name::hex;
use rustix::fs::{OFlags, RenameFlags, fsync, renameat_with};
use rustix::io::{Errno, write};
use sha2::{Digest, Sha256};

use crate::config::FaultPoints;
use crate::state_dir::{open_file, remove_file};

/// BOUND: from this length on, hashing on another thread costs less than it saves.
const PARALLEL_MIN: usize = 256 * 1024;

/// What a durable write came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Stored; this is its SHA-256.
    New(String),
    /// The name is taken; nothing was changed. The checksum of the content that was offered.
    Taken(String),
}

/// Stores `content` as `name` in `dir`, by way of `temp`.
pub(super) fn write_once(
    dir: &OwnedFd,
    temp: &str,
    name: &str,
    content: &[u8],
    faults: &dyn FaultPoints,
) -> Result<Written, Errno> {
    let step = |name| {
        faults
            .reach(name)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    step("create temporary file")?;
    let file = open_file(dir, temp, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    let stored = std::thread::scope(|scope| {
        let hashing = (content.len() >= PARALLEL_MIN).then(|| scope.spawn(|| checksum(content)));
        step("write")?;
        write_all(&file, content, &step)?;
        step("sync file")?;
        fsync(&file)?;
        let sha256 = match hashing {
            Some(thread) => thread.join().map_err(|_| Errno::IO)?,
            None => checksum(content),
        };
        step("rename")?;
        match renameat_with(dir, temp, dir, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Written::New(sha256)),
            Err(Errno::EXIST) => Ok(Written::Taken(sha256)),
            Err(errno) => Err(errno),
        }
    });
    match stored {
        Ok(Written::New(sha256)) => {
            if let Err(errno) = step("sync directory").and_then(|()| fsync(dir)) {
                // Whether the name survives is unknown, so it must not stay: nothing was acknowledged.
                let _ = remove_file(dir, name);
                return Err(errno);
            }
            Ok(Written::New(sha256))
        }
        other => {
            // Should this fail too, the next check of the directory removes it.
            let _ = remove_file(dir, temp);
            other
        }
    }
}

/// The SHA-256 of content, as artifacts name it.
pub(super) fn checksum(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

pub(super) fn write_all(
    file: impl AsFd,
    mut content: &[u8],
    step: &impl Fn(&'static str) -> Result<(), Errno>,
) -> Result<(), Errno> {
    while !content.is_empty() {
        match write(&file, content) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => content = &content[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if !content.is_empty() {
            step("write on")?;
        }
    }
    Ok(())
}
