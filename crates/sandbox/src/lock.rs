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
use rustix::io::Errno;

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
    /// Where it may connect to. Name servers (port 53) are always among it.
    pub connections: Connections,
}

/// The TCP connections that a locked process may make. Those it accepts are not concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Connections {
    /// To every port.
    #[default]
    Anywhere,
    /// To these ports, of any host: the kernel knows no more of an address here. Needs version 4 of Landlock;
    /// an older kernel lets every connection pass, and [`MainLock::connections_confined`] says so.
    Ports(Vec<u16>),
}

/// A lock that is in force until the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MainLock {
    /// The version of Landlock that is enforced in full.
    pub landlock_abi: i32,
    /// Whether the kernel refuses connections to ports that were not named.
    pub connections_confined: bool,
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
/// signals to other processes, no connection but to the named ports. Afterwards it tries to open what it must
/// not; only a refusal of the kernel counts as locked.
///
/// To be called after [`crate::boot`] and before any thread. There is no way back, and everything that is
/// started later is in the same domain: a process that has to start or to end other programs does that first,
/// or leaves it to a process that runs no agents. Files that are open already stay open.
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
    let mut domain = match &config.connections {
        Connections::Anywhere => Domain::with_net(abi, Net::Free)?,
        Connections::Ports(ports) => {
            let mut domain = Domain::with_net(abi, Net::ConnectionsHandled)?;
            for port in ports.iter().copied().chain([DNS]) {
                domain.grant_port(port)?;
            }
            domain
        }
    };
    let connections_confined = domain.confines_connections();
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
    let landlock_abi = domain.enter()?;
    refuses_the_root()?;
    Ok(MainLock {
        landlock_abi,
        connections_confined,
    })
}

/// The lock, tried out: the root of the file system exists everywhere and is granted to nobody.
fn refuses_the_root() -> Result<(), LockError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, "/", flags, Mode::empty()) {
        Err(Errno::ACCESS) => Ok(()),
        other => Err(LockError::Kernel(format!(
            "the domain is entered, and opening `/` still gives {other:?}"
        ))),
    }
}

/// The port of name servers.
pub(crate) const DNS: u16 = 53;

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
const SYSTEM_READ: [&str; 26] = [
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
    // How many processors this process may use.
    "/sys/fs/cgroup",
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
