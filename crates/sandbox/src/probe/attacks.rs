//! What a worker tries against its own confinement, from inside.
//!
//! An attack is one step without any check of its own: it reports what the kernel said. Attacks are
//! harmless where they succeed: they open and close, create an empty file in a directory made for that,
//! set a limit to what it is, signal nothing (signal 0), start a process that ends at once.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ctx::WorkerCtx;
use crate::dir::{Backup, ScanBuffer, WriteOptions};
use crate::spec::WirePath;
use crate::sys::{self, Arg, Fork, Namespaces};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Attack {
    /// Read a file of the working directory.
    ReadInside(String),
    /// Write a file of the working directory.
    WriteInside(String),
    /// List the working directory.
    ListInside,
    /// Open a file by its absolute path.
    Open(WirePath),
    /// Ask whether a file exists, by its absolute path.
    Look(WirePath),
    /// Create a file by its absolute path.
    Create(WirePath),
    /// Make an internet socket.
    InternetSocket,
    /// Make a unix socket, the first step to a service of this host.
    UnixSocket,
    /// Run a program.
    Execute(WirePath),
    /// Make a process.
    Fork,
    /// Ask whether a process may be signaled.
    Signal(i32),
    /// Set a limit of another process, to the value it has.
    Limit(i32),
    /// Set up asynchronous system calls that a filter does not see.
    IoUring,
    /// Enter a new user namespace.
    NewNamespace,
    /// Trace another process.
    Trace(i32),
    /// Connect to a TCP port of this host.
    Connect(u16),
    /// Open a file for writing by its absolute path.
    OpenForWriting(WirePath),
    /// Leave a process behind that has left its group, its session and its parent, and that holds a lock on
    /// a file for as long as it lives.
    LeaveDaemon(WirePath),
}

/// What the kernel said to one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attacked {
    /// `None` when it succeeded.
    pub(crate) errno: Option<i32>,
}

/// Tries each in turn.
pub(crate) fn run(attacks: &[Attack], ctx: &WorkerCtx) -> Vec<Attacked> {
    attacks
        .iter()
        .map(|attack| Attacked {
            errno: attempt(attack, ctx).err().map(|error| errno(&error)),
        })
        .collect()
}

/// An error without a number of the system came from our own directory handles, which refuse like the kernel.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EACCES)
}

fn attempt(attack: &Attack, ctx: &WorkerCtx) -> io::Result<()> {
    match attack {
        Attack::ReadInside(name) => inside(ctx)?
            .open_file(name)
            .map(drop)
            .map_err(io::Error::other),
        Attack::WriteInside(name) => {
            let options = WriteOptions {
                backup: Backup::Off,
                expected: None,
            };
            inside(ctx)?
                .write_atomic(name, b"written by the self-test", options)
                .map(drop)
                .map_err(io::Error::other)
        }
        Attack::ListInside => inside(ctx)?
            .scan(&mut ScanBuffer::new(), |_| true)
            .map_err(io::Error::other),
        Attack::Open(path) => {
            let flags = i64::from(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC);
            open(path, flags, 0)
        }
        Attack::Look(path) => rustix::fs::stat(path.to_path())
            .map(drop)
            .map_err(Into::into),
        Attack::Create(path) => {
            let flags = i64::from(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC);
            open(path, flags, 0o600)
        }
        Attack::InternetSocket => socket(libc::AF_INET),
        Attack::UnixSocket => socket(libc::AF_UNIX),
        // Returns only when it fails; a worker that is replaced by another program gives no more answers.
        Attack::Execute(path) => Err(Command::new(path.to_path()).env_clear().exec()),
        Attack::Fork => sys::fork_and_end(),
        Attack::Signal(pid) => sys::raw(libc::SYS_kill, &[number(*pid), number(0)]).map(drop),
        Attack::Limit(pid) => {
            // Core files are off in every process of Otto; this sets the limit to what it is.
            let limit = [0; size_of::<libc::rlimit64>()];
            let core = i64::from(libc::RLIMIT_CORE);
            sys::raw(
                libc::SYS_prlimit64,
                &[
                    number(*pid),
                    Arg::Number(core),
                    Arg::Bytes(&limit),
                    number(0),
                ],
            )
            .map(drop)
        }
        Attack::IoUring => sys::raw(libc::SYS_io_uring_setup, &[number(1), number(0)]).map(drop),
        Attack::NewNamespace => {
            sys::raw(libc::SYS_unshare, &[number(libc::CLONE_NEWUSER)]).map(drop)
        }
        Attack::Connect(port) => connect(*port),
        Attack::OpenForWriting(path) => open(path, i64::from(libc::O_WRONLY | libc::O_CLOEXEC), 0),
        Attack::LeaveDaemon(path) => leave_daemon(path),
        Attack::Trace(pid) => {
            let seize = i64::from(libc::PTRACE_SEIZE);
            sys::raw(
                libc::SYS_ptrace,
                &[Arg::Number(seize), number(*pid), number(0), number(0)],
            )
            .map(drop)
        }
    }
}

fn connect(port: u16) -> io::Result<()> {
    let stream = sys::raw(
        libc::SYS_socket,
        &[number(libc::AF_INET), number(libc::SOCK_STREAM), number(0)],
    )?;
    // A `sockaddr_in`: family, port, address, padding.
    let mut address = [0; 16];
    address[..2].copy_from_slice(&u16::try_from(libc::AF_INET).unwrap_or(0).to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    sys::raw(
        libc::SYS_connect,
        &[Arg::Number(stream), Arg::Bytes(&address), number(16)],
    )
    .map(drop)
}

fn leave_daemon(lock: &WirePath) -> io::Result<()> {
    // BOUND: a daemon that nothing kills ends by itself.
    const LIFE: Duration = Duration::from_secs(60);
    let (ready, holds) = io::pipe()?;
    if let Fork::Child = sys::fork(Namespaces::NONE)? {
        drop(ready);
        let _ = rustix::process::setsid();
        if let Ok(Fork::Child) = sys::fork(Namespaces::NONE) {
            let held = std::fs::File::options()
                .append(true)
                .create(true)
                .open(lock.to_path());
            if held.as_ref().is_ok_and(|file| file.lock().is_ok()) {
                let _ = (&holds).write_all(b"x");
                drop(holds);
                std::thread::sleep(LIFE);
            }
        }
        sys::exit_now(0);
    }
    drop(holds);
    let mut byte = Vec::new();
    (&ready).take(1).read_to_end(&mut byte)?;
    if byte.is_empty() {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    } else {
        Ok(())
    }
}

fn inside(ctx: &WorkerCtx) -> io::Result<&crate::dir::Dir> {
    ctx.working_dir
        .as_ref()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))
}

fn open(path: &WirePath, flags: i64, mode: i32) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.to_path().as_os_str().as_bytes())?;
    let at = number(libc::AT_FDCWD);
    // The handle stays open; the process is thrown away after its attacks.
    sys::raw(
        libc::SYS_openat,
        &[at, Arg::Text(&path), Arg::Number(flags), number(mode)],
    )
    .map(drop)
}

fn socket(family: i32) -> io::Result<()> {
    sys::raw(
        libc::SYS_socket,
        &[number(family), number(libc::SOCK_STREAM), number(0)],
    )
    .map(drop)
}

fn number(value: i32) -> Arg<'static> {
    Arg::Number(i64::from(value))
}
