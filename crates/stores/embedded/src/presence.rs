//! Which nodes of this machine are alive.
//!
//! Every open store holds a shared lock on a file named after its node, `nodes/<hash>`; the kernel gives it
//! back when the process dies, however it dies. Whoever opens the store next finds the lock free, knows for
//! sure that the node is dead, and expires its leases: nobody waits for a dead process.
//!
//! A node without a file is unknown, not dead: its leases end by time. Only a power loss takes the file of a
//! node, and the boot id that is kept in the database shows that one has happened.
//!
//! Invariant: a file is removed only under its exclusive lock, and whoever locks a file checks that it still
//! has its name.

use std::os::fd::{AsFd, OwnedFd};

use otto_core::port::store::StoreError;
use otto_core::store_rules::artifact_name::hex;
use rustix::fs::{AtFlags, Dir, FlockOperation, OFlags, flock, fstat, statat, unlinkat};
use rustix::io::{Errno, read, write};
use sha2::{Digest, Sha256};

use crate::error::from_errno;
use crate::state_dir::{StateDir, open_file, open_or_create_dir};

const NODES: &str = "nodes";

/// BOUND: a file lost between opening and locking is made anew at most this often.
const ATTEMPTS: usize = 100;

/// The longest node name, as the rules have it.
const NAME_MAX: usize = otto_core::store_rules::MAX_KEY_BYTES;

/// The sign that this node is alive; ends when dropped or when the process dies.
#[derive(Debug)]
pub(crate) struct Presence {
    #[expect(
        dead_code,
        reason = "held, not read: closing the file gives the lock back"
    )]
    file: OwnedFd,
}

/// Shows that `node` is alive, from now on.
pub(crate) fn announce(state_dir: &StateDir, node: &str) -> Result<Presence, StoreError> {
    let path = state_dir.path.join(NODES);
    let fail = |errno| from_errno(errno, "announce this process in", &path);
    let nodes = open_or_create_dir(&state_dir.handle, NODES).map_err(fail)?;
    let name = file_name(node);
    for _ in 0..ATTEMPTS {
        let file = open_file(&nodes, &name, OFlags::RDWR | OFlags::CREATE).map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            // Somebody is about to remove the file of an earlier node of that name.
            Err(Errno::WOULDBLOCK | Errno::INTR) => continue,
            Err(errno) => return Err(fail(errno)),
        }
        if is_named(&nodes, &name, &file).map_err(fail)? {
            write_all(&file, node.as_bytes()).map_err(fail)?;
            return Ok(Presence { file });
        }
    }
    Err(fail(Errno::AGAIN))
}

/// Nodes whose process is dead. Calls `bury` with each; if that succeeds its file is removed. Returns the nodes
/// whose process is alive.
pub(crate) fn bury_dead(
    state_dir: &StateDir,
    mut bury: impl FnMut(&str) -> Result<(), StoreError>,
) -> Result<Vec<String>, StoreError> {
    let mut alive = Vec::new();
    let path = state_dir.path.join(NODES);
    let fail = |errno| from_errno(errno, "look for dead processes in", &path);
    let nodes = open_or_create_dir(&state_dir.handle, NODES).map_err(fail)?;
    for entry in Dir::read_from(&nodes).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let file = match open_file(&nodes, name, OFlags::RDWR) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR) => continue,
            Err(errno) => return Err(fail(errno)),
        };
        let is_alive = flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
        if !is_alive && !is_named(&nodes, name, &file).map_err(fail)? {
            continue;
        }
        let mut node = [0; NAME_MAX];
        let length = read(&file, &mut node[..]).map_err(fail)?;
        let node = std::str::from_utf8(&node[..length])
            .ok()
            .filter(|node| file_name(node) == name);
        if is_alive {
            alive.extend(node.map(str::to_owned));
            continue;
        }
        if let Some(node) = node {
            bury(node)?;
        }
        match unlinkat(&nodes, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(alive)
}

/// Whether the process of a node, by its tag, is alive or unknown.
pub(crate) fn may_be_alive(state_dir: &StateDir, tag: &str) -> Result<bool, StoreError> {
    let path = state_dir.path.join(NODES);
    let fail = |errno| from_errno(errno, "look for a process in", &path);
    let nodes = open_or_create_dir(&state_dir.handle, NODES).map_err(fail)?;
    match open_file(&nodes, tag, OFlags::RDWR) {
        Ok(file) => Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()),
        // A file is removed only once its node is known to be dead.
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(fail(errno)),
    }
}

/// A file name for any node name: the start of its hash.
pub(crate) fn file_name(node: &str) -> String {
    hex(&Sha256::digest(node.as_bytes())[..12])
}

fn is_named(dir: impl AsFd, name: &str, file: &OwnedFd) -> Result<bool, Errno> {
    let held = fstat(file)?;
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok(named.st_ino == held.st_ino && named.st_dev == held.st_dev),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
