//! Why a path was refused, in words that a model can act on.
//!
//! An error never holds a path: the caller adds the path as the model wrote it, so nothing outside the
//! grant can be named by accident.

use rustix::io::Errno;

use crate::ctx::RefusedBy;

/// Why an operation on a [`crate::Dir`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    /// The path has no characters.
    #[error("the path is empty; `.` names the directory itself")]
    Empty,
    /// The path is longer than [`crate::dir::MAX_PATH_BYTES`] or one of its names too long for the file system.
    #[error("the path or a name in it is too long")]
    TooLong,
    /// The path has a NUL character.
    #[error("the path contains a NUL character")]
    HasNul,
    /// A name to be created has a control character.
    #[error("the path contains a control character")]
    HasControl,
    /// The path starts with `/`.
    #[error(
        "absolute paths lead outside the directory that was granted (EXDEV); give a path relative to the working \
         directory, such as `src/main.rs`"
    )]
    Absolute,
    /// The path leads out of the directory, by `..` or by a link.
    #[error("it leads outside the directory that was granted, by `..` or by a link (EXDEV)")]
    Outside,
    /// The path climbs out of the directory by `..`, whatever stands there.
    #[error("it climbs outside the directory that was granted, by `..`")]
    Climbs,
    /// The path goes through a link where none is allowed.
    #[error(
        "it is a link or goes through one, and links are not followed here (ELOOP); use the path that the link \
         leads to"
    )]
    ThroughLink,
    /// Links that lead to each other, or a link of the kernel such as `/proc/self/exe`.
    #[error(
        "it goes through links that lead to each other or through a link of the kernel (ELOOP)"
    )]
    BadLink,
    /// Nothing is there.
    #[error("no such file or directory")]
    NotFound,
    /// A directory was expected.
    #[error("not a directory")]
    NotADirectory,
    /// A file was expected.
    #[error("it is a directory, not a file")]
    IsADirectory,
    /// Something that is neither file nor directory.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// A file with more than one name is not replaced, since the other names would keep the old content.
    #[error(
        "the file has {0} names (hard links), so replacing it would cut it off from the others; write to a new \
         file instead"
    )]
    HardLinked(u64),
    /// The file holds settings of Otto or of git that could widen what an agent may do.
    #[error("`.otto` and `.git` are protected: tools can read what is in them but not change it")]
    Protected,
    /// The directory was granted for reading.
    #[error("it was granted for reading only")]
    ReadOnly,
    /// The directory, or what lies at this place in it, is mounted read-only.
    #[error("it is read-only (EROFS)")]
    ReadOnlyMount,
    /// The kernel refused.
    #[error("permission denied ({0})")]
    Denied(&'static str),
    /// The agent has no working directory.
    #[error("this agent has no working directory; its `working_dir` must be set")]
    NoWorkingDir,
    /// No root has that name.
    #[error("no read-only root has that name")]
    UnknownRoot,
    /// Somebody else changed the file since it was read.
    #[error("the file was changed by somebody else meanwhile; read it again")]
    Changed,
    /// The old content could not be kept under the name of a backup.
    #[error(
        "its backup could not be made: a directory may have the name of the backup; nothing was changed"
    )]
    NoBackup,
    /// Another program keeps the file locked.
    #[error("another program has locked the file; nothing was changed")]
    Locked,
    /// Names on the way were swapped faster than they could be resolved.
    #[error("the directories on the way keep changing; try again")]
    Unstable,
    /// The disk or the quota is full.
    #[error("no space left; nothing was changed")]
    NoSpace,
    /// The file would be larger than the limit of the process.
    #[error("the file would be larger than the sandbox allows; nothing was changed")]
    FileTooLarge,
    /// Any other error of the system.
    #[error("{0}")]
    System(SystemError),
}

/// An error number of the system that has no better name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemError(Errno);

impl std::fmt::Display for SystemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl DirError {
    /// The meaning of an error number where links are followed as long as they stay beneath.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::NotFound,
            Errno::NOTDIR => Self::NotADirectory,
            Errno::ISDIR => Self::IsADirectory,
            Errno::XDEV => Self::Outside,
            Errno::LOOP => Self::BadLink,
            Errno::ACCESS => Self::Denied("EACCES"),
            Errno::PERM => Self::Denied("EPERM"),
            Errno::ROFS => Self::ReadOnlyMount,
            Errno::NAMETOOLONG => Self::TooLong,
            Errno::AGAIN => Self::Unstable,
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
            Errno::FBIG => Self::FileTooLarge,
            // Opening a socket, or a device without a driver.
            Errno::NXIO | Errno::NODEV => Self::NotRegular("a socket or a device"),
            other => Self::System(SystemError(other)),
        }
    }

    /// The meaning of an error number for this path, with better words where the path explains it.
    pub(crate) fn of_path(errno: Errno, path: &str) -> Self {
        match Self::of(errno) {
            Self::Outside if path.starts_with('/') => Self::Absolute,
            other => other,
        }
    }

    /// The meaning of an error number where no link is followed.
    pub(crate) fn of_strict(errno: Errno) -> Self {
        match errno {
            Errno::LOOP => Self::ThroughLink,
            other => Self::of(other),
        }
    }

    /// The meaning of an error of the standard library.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        Errno::from_io_error(error).map_or(Self::System(SystemError(Errno::IO)), Self::of)
    }

    /// Which fence refused, if this is a refusal and no other error.
    #[must_use]
    pub const fn refused_by(self) -> Option<RefusedBy> {
        match self {
            Self::Absolute
            | Self::Outside
            | Self::ThroughLink
            | Self::BadLink
            | Self::ReadOnlyMount
            | Self::Denied(_) => Some(RefusedBy::Kernel),
            Self::Climbs | Self::Protected | Self::HardLinked(_) => Some(RefusedBy::PathRule),
            Self::ReadOnly => Some(RefusedBy::Policy),
            Self::Empty
            | Self::TooLong
            | Self::HasNul
            | Self::HasControl
            | Self::NotFound
            | Self::NotADirectory
            | Self::IsADirectory
            | Self::NotRegular(_)
            | Self::NoWorkingDir
            | Self::UnknownRoot
            | Self::Changed
            | Self::NoBackup
            | Self::Locked
            | Self::Unstable
            | Self::NoSpace
            | Self::FileTooLarge
            | Self::System(_) => None,
        }
    }
}
