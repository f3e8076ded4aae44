//! The state directory: one handle, everything else relative to it.
//!
//! The path may be given through symbolic links; it is resolved once, here. Nothing below it is ever
//! reached through one. Directories that Otto makes have mode 0700, files 0600.
//!
//! Invariant: a directory that was created is durable (its parent is synced) before it is used.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use otto_core::port::store::StoreError;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fsync, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use crate::error::{from_errno, from_io, unavailable};

pub(crate) const DIR_MODE: Mode = Mode::RWXU;
pub(crate) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

const OPEN_LOCK: &str = "open.lock";

/// BOUND: how long one process waits for another that is opening or migrating the same store.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_POLL: Duration = Duration::from_millis(5);

/// The state directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    pub(crate) path: PathBuf,
    pub(crate) handle: OwnedFd,
}

impl StateDir {
    /// Opens the directory, creating it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        create_state_dir(path)?;
        let resolved = fs::canonicalize(path)
            .map_err(|error| from_io(&error, "resolve state directory", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&resolved, flags, Mode::empty())
            .map_err(|errno| from_errno(errno, "open state directory", &resolved))?;
        Ok(Self {
            path: resolved,
            handle,
        })
    }

    /// Takes the lock under which stores are opened, checked and migrated, one process at a time.
    pub(crate) fn lock_opening(&self) -> Result<OpenLock, StoreError> {
        let path = self.path.join(OPEN_LOCK);
        let file = open_file(&self.handle, OPEN_LOCK, OFlags::RDWR | OFlags::CREATE)
            .map_err(|errno| from_errno(errno, "open lock file", &path))?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(OpenLock(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < OPEN_TIMEOUT => {
                    std::thread::sleep(OPEN_POLL)
                }
                Err(Errno::WOULDBLOCK) => {
                    let detail = format!(
                        "open state directory `{}`: another Otto process has been opening it for more than {} s; see whether it hangs",
                        self.path.display(),
                        OPEN_TIMEOUT.as_secs()
                    );
                    return Err(unavailable(Arc::from(detail)));
                }
                Err(errno) => return Err(from_errno(errno, "lock", &path)),
            }
        }
    }
}

/// The lock under which a store is opened; ends when dropped.
pub(crate) struct OpenLock(
    #[expect(
        dead_code,
        reason = "held, not read: closing the file gives the lock back"
    )]
    OwnedFd,
);

/// Creates a state directory and its missing parents, each durably. Opening a store does it as well; a process
/// that is to lock itself into the directory needs it earlier.
///
/// # Errors
/// [`StoreError::Unavailable`] with the path.
pub fn create_state_dir(path: &Path) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor.as_os_str().is_empty() || ancestor.exists() {
            break;
        }
        missing.push(ancestor);
    }
    for dir in missing.iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => {}
            // Another process was faster, or it is a link to nowhere; opening it will tell.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(from_io(&error, "create state directory", dir)),
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|error| from_io(&error, "sync the parent of state directory", dir))?;
    }
    Ok(())
}

/// Opens a file below a directory handle; never through a symbolic link.
pub(crate) fn open_file(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(
        dir,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK,
        FILE_MODE,
    )
}

/// Opens a directory below a directory handle; never through a symbolic link.
pub(crate) fn open_dir(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Opens a directory below a directory handle; creates it durably if it is missing.
pub(crate) fn open_or_create_dir(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    match open_dir(&dir, name) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    match mkdirat(&dir, name, DIR_MODE) {
        // Whoever created it may not have synced it yet.
        Ok(()) | Err(Errno::EXIST) => fsync(&dir)?,
        Err(errno) => return Err(errno),
    }
    open_dir(&dir, name)
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
