//! Otto's own domain: what the main process may still touch once it is set up.
//!
//! Tools run in workers. A tool that by mistake runs in this process instead, on whatever thread, finds that
//! it can open nothing but Otto's own state and a few files of the system, and can run no program. So the
//! mistake fails closed.
//!
//! It is for Otto's own binary; a program that embeds Otto has its own needs and is not locked for it.
//!
//! Invariant: the lock is taken while the process has one thread, so that no thread is left out.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::boot::{BootError, booted};
use crate::confine::landlock::{Domain, Grant, Net};
use crate::confine::{limits, lock_memory};
use crate::spec::SetupFailure;

/// What the main process may touch from now on, beside what it has open.
#[derive(Debug, Clone, Default)]
pub struct LockConfig {
    /// Directories of Otto's own, to be changed: state, scratch. They must exist.
    pub read_write: Vec<PathBuf>,
    /// Files and directories to be read: configuration, own certificates. What does not exist is left out
    /// and stays out of reach even if it is created later.
    pub read_only: Vec<PathBuf>,
}

/// A lock that is in force until the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MainLock {
    /// The version of Landlock that is enforced in full.
    pub landlock_abi: i32,
}

/// Why the main process was not locked. It is unchanged then, but for core files and tracing, which are off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The launcher does not run, and after the lock it could not be started.
    #[error("lock the main process: {0}")]
    Boot(#[from] BootError),
    /// Other threads run already, which the lock would not reach.
    #[error(
        "lock the main process: it has more than one thread; lock it before the async runtime starts"
    )]
    Threads,
    /// A directory that is to stay writable cannot be opened.
    #[error("lock the main process: open {path}: {error}")]
    Directory {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        error: String,
    },
    /// The kernel does not enforce it.
    #[error("lock the main process: {0}")]
    Kernel(String),
}

impl From<SetupFailure> for LockError {
    fn from(failure: SetupFailure) -> Self {
        Self::Kernel(failure.to_string())
    }
}

/// Locks the main process: no core file, no tracing by others, and Landlock with what `config` names and
/// what a program needs to resolve names, check certificates and tell the time. No execution of programs, no
/// signals to other processes. The network stays open; calls of models go there.
///
/// To be called after [`crate::boot`] and before any thread.
///
/// # Errors
/// [`LockError`]; a caller that goes on says so, since a tool that forgets its worker is not stopped then.
pub fn lock_main(config: &LockConfig) -> Result<MainLock, LockError> {
    lock_memory()?;
    limits::no_core()?;
    if let Some(error) = booted().error() {
        return Err(error.clone().into());
    }
    match crate::sys::is_single_threaded() {
        Ok(true) => {}
        Ok(false) => return Err(LockError::Threads),
        Err(error) => {
            return Err(LockError::Kernel(format!(
                "count the threads of this process: {error}"
            )));
        }
    }
    let abi = crate::sys::landlock_abi().map_err(|error| {
        LockError::Kernel(format!("this kernel does not offer Landlock: {error}"))
    })?;
    let mut domain = Domain::with_net(abi, Net::Free)?;
    for path in SYSTEM_READ
        .iter()
        .map(Path::new)
        .chain(config.read_only.iter().map(PathBuf::as_path))
    {
        grant(&mut domain, path, Grant::READ, Grant::READ_FILE)?;
    }
    for path in DEVICES {
        grant(&mut domain, Path::new(path), Grant::READ, Grant::USE_FILE)?;
    }
    for path in &config.read_write {
        let place = openat(
            CWD,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| LockError::Directory {
            path: path.clone(),
            error: error.to_string(),
        })?;
        domain.grant(place.as_fd(), Grant::KEEP)?;
    }
    Ok(MainLock {
        landlock_abi: domain.enter()?,
    })
}

/// Grants what is there: `dir` rights on a directory, `file` rights on anything else.
fn grant(domain: &mut Domain, path: &Path, dir: Grant, file: Grant) -> Result<(), LockError> {
    let Ok(place) = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
        return Ok(());
    };
    let is_dir = fstat(&place)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    domain.grant(place.as_fd(), if is_dir { dir } else { file })?;
    Ok(())
}

/// What a program reads without being told: settings and modules of the resolver, certificates, time zones,
/// and what the kernel says about this process and about confinement.
const SYSTEM_READ: [&str; 25] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/nix/store",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc/self",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/kernel/seccomp/actions_avail",
];

const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];
