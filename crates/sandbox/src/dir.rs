//! A directory that a tool may use, as a handle.
//!
//! Every path is resolved by the kernel, beneath the handle (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_MAGICLINKS`), and what was opened is looked at once more before a byte of it is used. Text
//! checks exist only to give better errors; nothing relies on them. Reads may follow links that stay beneath
//! the handle; writes follow none at all, which is what makes the rule about protected names exact.
//!
//! It does not decide who may use which directory, and it is no substitute for the kernel domain of a
//! worker: it is the second fence there and the only one in the in-process host.
//!
//! Invariant: no operation touches a file outside the directory, whatever the path says and however fast
//! links, names and directories are swapped meanwhile.

mod error;
mod install;
mod protected;
mod scan;
mod write;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

pub use error::DirError;
pub use protected::is_protected_name;
pub use scan::{Entry, EntryKind, ScanBuffer};
pub use write::{Backup, WriteOptions, Written};

// BOUND: what Linux accepts in one system call (PATH_MAX).
/// Longest path a tool accepts, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

// BOUND: each level of a write is one handle; deeper trees are not written by people.
/// Most components of a path that is written to.
pub const MAX_DEPTH: usize = 64;

// BOUND: the kernel gives EAGAIN when a rename ran meanwhile and asks to try again; a hostile neighbor can
// keep that up, so it ends in an error.
const MAX_RESOLVE_TRIES: u32 = 64;

/// Whether a directory may be changed through a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Every change is refused here, before the kernel is asked.
    ReadOnly,
    /// Changes are tried; the kernel has the last word.
    ReadWrite,
}

/// A handle of a directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    access: Access,
    /// Whether entries can be read from `fd` itself.
    scannable: bool,
}

/// An open regular file beneath a [`Dir`].
#[derive(Debug)]
pub struct OpenFile {
    /// The file; reading it never blocks on another process.
    pub file: File,
    /// What it was when it was opened.
    pub stamp: FileStamp,
}

/// Tells one version of a file from another, as long as one of both is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Size in bytes.
    pub size: u64,
    /// Number of names the file has.
    pub links: u64,
    device: u64,
    inode: u64,
    modified: (i128, i128),
}

impl FileStamp {
    fn of(stat: &Stat) -> Self {
        // Sizes are not negative, and the widths of the other fields differ between platforms.
        let wide = |value: i128| u64::try_from(value).unwrap_or(0);
        Self {
            size: wide(stat.st_size.into()),
            links: wide(stat.st_nlink.into()),
            device: wide(stat.st_dev.into()),
            inode: wide(stat.st_ino.into()),
            modified: (i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec)),
        }
    }
}

impl Dir {
    /// Opens the directory at `path`. No component of the path may be a link: what is granted is what was
    /// written in the agent file, not what somebody made of it since.
    ///
    /// # Errors
    /// [`DirError`]; in particular [`DirError::ThroughLink`].
    pub fn open(path: &Path, access: Access) -> Result<Self, DirError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = resolve(
            CWD,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(DirError::of_strict)?;
        Ok(Self {
            fd,
            access,
            scannable: false,
        })
    }

    /// Wraps a handle that another process passed on.
    ///
    /// # Errors
    /// [`DirError::NotADirectory`] when it is something else.
    pub fn from_fd(fd: OwnedFd, access: Access) -> Result<Self, DirError> {
        let stat = fstat(&fd).map_err(DirError::of)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(DirError::NotADirectory);
        }
        Ok(Self {
            fd,
            access,
            scannable: false,
        })
    }

    /// Whether changes are tried.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Opens a regular file for reading. Links that stay beneath the directory are followed. A FIFO, socket
    /// or device is refused without waiting for it.
    ///
    /// # Errors
    /// [`DirError`].
    pub fn open_file(&self, path: &str) -> Result<OpenFile, DirError> {
        check_text(path)?;
        self.open_regular(path, ResolveFlags::empty())
            .map_err(|errno| DirError::of_path(errno, path))
            .and_then(regular)
    }

    /// Opens the file `name` of this very directory; unlike [`Dir::open_file`] it follows no link.
    ///
    /// # Errors
    /// [`DirError`].
    pub fn open_entry(&self, name: &CStr) -> Result<OpenFile, DirError> {
        self.open_regular(name, ResolveFlags::NO_SYMLINKS)
            .map_err(DirError::of_strict)
            .and_then(regular)
    }

    /// Opens a directory beneath this one, for scanning and for more of the same.
    ///
    /// # Errors
    /// [`DirError`].
    pub fn open_dir(&self, path: &str) -> Result<Self, DirError> {
        check_text(path)?;
        let fd = self
            .open_beneath(path, SCAN, Mode::empty(), ResolveFlags::empty())
            .map_err(|errno| DirError::of_path(errno, path))?;
        Ok(Self {
            fd,
            access: self.access,
            scannable: true,
        })
    }

    /// Opens the directory `name` of this very directory; follows no link.
    ///
    /// # Errors
    /// [`DirError`].
    pub fn open_dir_entry(&self, name: &CStr) -> Result<Self, DirError> {
        let fd = self
            .open_beneath(name, SCAN, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .map_err(DirError::of_strict)?;
        Ok(Self {
            fd,
            access: self.access,
            scannable: true,
        })
    }

    /// Asks the kernel about a path that leads out of the directory, and gives its refusal. Where it has
    /// another answer (nothing is there, or nothing that leads out), the rule about paths is what refuses.
    fn refusal(&self, path: &str) -> DirError {
        let asked = self.open_beneath(
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::empty(),
        );
        match asked.map_err(|errno| DirError::of_path(errno, path)) {
            Err(error) if error.refused_by() == Some(crate::ctx::RefusedBy::Kernel) => error,
            _ => DirError::Climbs,
        }
    }

    fn open_regular(&self, path: impl Arg + Copy, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        // O_NONBLOCK: opening a FIFO must not wait for a writer. O_NOCTTY: a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.open_beneath(path, flags, Mode::empty(), extra)
    }

    /// The one way a path is resolved: by the kernel, beneath the handle.
    fn open_beneath(
        &self,
        path: impl Arg + Copy,
        flags: OFlags,
        mode: Mode,
        extra: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        resolve(
            self.as_fd(),
            path,
            flags,
            mode,
            extra | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const SCAN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

fn resolve(
    at: BorrowedFd<'_>,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        match openat2(at, path, flags, mode, how) {
            Err(Errno::AGAIN | Errno::INTR) if tries < MAX_RESOLVE_TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Looks at what was opened, not at what a name said a moment ago.
fn regular(fd: OwnedFd) -> Result<OpenFile, DirError> {
    let stat = fstat(&fd).map_err(DirError::of)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(OpenFile {
            file: File::from(fd),
            stamp: FileStamp::of(&stat),
        }),
        FileType::Directory => Err(DirError::IsADirectory),
        other => Err(DirError::NotRegular(kind_word(other))),
    }
}

const fn kind_word(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Symlink => "a link",
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        _ => "a special file",
    }
}

/// What cannot be asked of the kernel as it stands. Where a path leads is not looked at: the kernel is asked.
fn check_text(path: &str) -> Result<(), DirError> {
    if path.is_empty() {
        return Err(DirError::Empty);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(DirError::TooLong);
    }
    if path.contains('\0') {
        return Err(DirError::HasNul);
    }
    Ok(())
}
