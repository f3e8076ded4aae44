//! How the launcher comes to be: the same binary, started once more, with a socket as its standard input.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

/// The first argument of a launcher. Together with a socket of the right kind on standard input it makes a
/// process a launcher; alone it means nothing, so no user can become one by typing it.
const LAUNCHER: &str = "__otto_launcher";

/// Set in the environment that a launcher is started with, and taken out of it when it takes up its role. A
/// program that does other work before it calls `boot` does that work in its launcher as well; should the work
/// start the program again, this mark, which children inherit, ends the chain.
const MARK: &str = "OTTO_LAUNCHER_STARTING";

/// What this process was started as.
#[derive(Debug)]
pub(crate) enum Role {
    /// Otto itself, or a program that embeds it.
    Main,
    /// The launcher, with its socket to Otto.
    Launcher(OwnedFd),
    /// A program that a launcher started before it took up its role.
    ChildOfLauncher,
}

/// Finds out what this process was started as.
pub(crate) fn role_of_this_process() -> Role {
    match launcher_socket() {
        Some(socket) => {
            crate::sys::forget_variable(MARK);
            Role::Launcher(socket)
        }
        None if std::env::var_os(MARK).is_some() => Role::ChildOfLauncher,
        None => Role::Main,
    }
}

fn launcher_socket() -> Option<OwnedFd> {
    let mut args = std::env::args_os().skip(1);
    let named = args.next().is_some_and(|first| first == LAUNCHER) && args.next().is_none();
    if !named {
        return None;
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().ok()?;
    let is_ours = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET);
    is_ours.then_some(socket)
}

/// Starts the launcher. The socket keeps message boundaries and carries handles.
///
/// The standard library starts it without copying this process (`posix_spawn`), because nothing here asks
/// for more than arguments, environment and standard streams.
pub(crate) fn spawn() -> io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The link of the kernel names this very binary, even when the file was replaced by an upgrade since.
    let child = Command::new("/proc/self/exe")
        .arg0("otto-launcher")
        .arg(LAUNCHER)
        .env_clear()
        .env(MARK, "1")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((ours, child))
}
