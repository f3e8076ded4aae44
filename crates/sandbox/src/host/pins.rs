//! Directories by identity: what was granted is what is used, also a day later.
//!
//! The first time a directory is named, it is opened through no link and its handle is kept. Every worker
//! that is started for it later opens the path again and must find the same one. Holding the handle keeps
//! the identity from being used again for a new directory.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::confine::identity;
use crate::spec::{Identity, PinnedDir, WirePath};

// BOUND: one open handle each; far above the agents of one host.
const MAX_PINS: usize = 16 * 1024;

/// Why a directory cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// Nothing is there.
    #[error("directory {0} does not exist")]
    Missing(PathBuf),
    /// It is something else.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// A component of the path is a link.
    #[error("{path} goes through a link; {hint}")]
    ThroughLink {
        /// The path.
        path: PathBuf,
        /// What to write instead.
        hint: String,
    },
    /// The path does not start at the root.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    /// Too many directories are in use.
    #[error("more than {MAX_PINS} directories are in use")]
    TooMany,
    /// Any other error of the system.
    #[error("open directory {path}: {error}")]
    System {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        error: String,
    },
}

#[derive(Debug)]
struct Pin {
    identity: Identity,
    _handle: OwnedFd,
}

/// All directories that are in use.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<HashMap<PathBuf, Pin>>);

impl Pins {
    /// The identity of `path`, as it was when it was named first.
    pub(crate) fn pin(&self, path: &Path) -> Result<PinnedDir, PinError> {
        let pinned = |identity| PinnedDir {
            path: WirePath::new(path),
            identity,
        };
        let mut pins = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pin) = pins.get(path) {
            return Ok(pinned(pin.identity));
        }
        if pins.len() >= MAX_PINS {
            return Err(PinError::TooMany);
        }
        let pin = open(path)?;
        let identity = pin.identity;
        pins.insert(path.to_owned(), pin);
        Ok(pinned(identity))
    }

    /// Forgets a directory, so that what is there now is what will be granted next.
    pub(crate) fn unpin(&self, path: &Path) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(path);
    }
}

fn open(path: &Path) -> Result<Pin, PinError> {
    if !path.is_absolute() {
        return Err(PinError::Relative(path.to_owned()));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let system = |error: Errno| PinError::System {
        path: path.to_owned(),
        error: error.to_string(),
    };
    let handle = openat2(CWD, path, flags, Mode::empty(), how).map_err(|error| match error {
        Errno::NOENT => PinError::Missing(path.to_owned()),
        Errno::NOTDIR => PinError::NotADirectory(path.to_owned()),
        Errno::LOOP => PinError::ThroughLink {
            path: path.to_owned(),
            hint: hint(path),
        },
        other => system(other),
    })?;
    Ok(Pin {
        identity: identity(&handle).map_err(system)?,
        _handle: handle,
    })
}

fn hint(path: &Path) -> String {
    match std::fs::canonicalize(path) {
        Ok(real) => format!("write {} instead, if that is what is meant", real.display()),
        Err(_) => "write the path that the link leads to".to_owned(),
    }
}
