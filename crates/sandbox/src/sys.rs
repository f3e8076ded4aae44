//! The system calls that no safe crate covers, each behind a safe function.
//!
//! Nothing here decides anything: no policy, no path, no order. It also holds the one generic call that the
//! self-test attacks with, because an attack must reach the kernel without anybody's checks in between.
//!
//! Invariant: every function is safe for every argument its signature admits.

#![expect(
    unsafe_code,
    reason = "these are the system calls that no safe crate covers"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old process, with the id of the new one.
    Parent(Pid),
}

bitmask! {
    /// Namespaces that a new process gets for itself.
    Namespaces: i32 {
        USER = libc::CLONE_NEWUSER,
        MOUNT = libc::CLONE_NEWNS,
        PID = libc::CLONE_NEWPID,
        NET = libc::CLONE_NEWNET,
        IPC = libc::CLONE_NEWIPC,
        UTS = libc::CLONE_NEWUTS,
    }
}

impl Namespaces {
    /// All of the above.
    pub(crate) const ALL: Self = Self(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS,
    );
}

/// Makes a copy of this process in new namespaces. Only for processes with one thread.
///
/// # Errors
/// The error of the system, and `EDEADLK` when the process has other threads: a lock one of them holds at
/// this moment would stay locked in the copy for ever.
pub(crate) fn fork(namespaces: Namespaces) -> io::Result<Fork> {
    if !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let flags = libc::c_long::from(namespaces.0 | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM the child gets its own copy of all memory and goes on with a copy of this stack, so no
    // memory is shared. All pointer arguments are null, which the call accepts. The process has one thread (checked
    // above), so every lock and the allocator are in a consistent state in the copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match process_number(check(pid)?)? {
        Some(pid) => Ok(Fork::Parent(pid)),
        None => Ok(Fork::Child),
    }
}

/// Makes a process that ends at once, and waits for it. What an attack does that only wants to know whether it can.
pub(crate) fn fork_and_end() -> io::Result<()> {
    let none: libc::c_long = 0;
    let flags = libc::c_long::from(libc::SIGCHLD);
    // SAFETY: as in `fork`; the child touches nothing and ends, so that locks of other threads do not matter to it.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match process_number(check(pid)?)? {
        None => exit_now(0),
        Some(pid) => {
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
            Ok(())
        }
    }
}

/// `None` for zero, which is what a new process gets.
fn process_number(pid: i64) -> io::Result<Option<Pid>> {
    i32::try_from(pid)
        .map(Pid::from_raw)
        .map_err(|_| io::Error::from_raw_os_error(libc::ERANGE))
}

/// Takes a variable out of the environment of this process; without effect when it has other threads.
pub(crate) fn forget_variable(name: &str) {
    if is_single_threaded().unwrap_or(false) {
        // SAFETY: no other thread exists, so none reads or writes the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// Whether this process has one thread, by the kernel's own count.
pub(crate) fn is_single_threaded() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.take(2).count() == 1)
}

/// Ends this process at once, without running what its parent registered for its own end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Takes a real-time priority from this process, if it has inherited one.
pub(crate) fn leave_real_time() -> io::Result<()> {
    let itself: libc::c_long = 0;
    // SAFETY: the call takes a number.
    let policy = check(unsafe { libc::syscall(libc::SYS_sched_getscheduler, itself) })?;
    let policy = i32::try_from(policy).unwrap_or(libc::SCHED_OTHER) & !libc::SCHED_RESET_ON_FORK;
    if !matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR) {
        return Ok(());
    }
    let ordinary = libc::c_long::from(libc::SCHED_OTHER);
    // The whole of the structure that the call reads.
    let priority: libc::c_int = 0;
    // SAFETY: the priority lives across the call, which only reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            itself,
            ordinary,
            &raw const priority,
        )
    })
    .map(drop)
}

/// Closes every descriptor above standard error except those in `keep`.
pub(crate) fn close_all_except(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep
        .iter()
        .map(AsRawFd::as_raw_fd)
        .filter(|fd| *fd > 2)
        .collect();
    kept.sort_unstable();
    let mut first: libc::c_uint = 3;
    for fd in kept {
        let fd = libc::c_uint::try_from(fd).expect("a descriptor above 2 is not negative");
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    let flags: libc::c_uint = 0;
    // SAFETY: the call takes three numbers. Values that own a closed descriptor exist in the caller of
    // `close_all_except` only in a process that has just been copied and never drops them.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

bitmask! {
    /// Properties of a mount.
    MountFlags: u64 {
        READ_ONLY = libc::MOUNT_ATTR_RDONLY,
        NO_SUID = libc::MOUNT_ATTR_NOSUID,
        NO_DEV = libc::MOUNT_ATTR_NODEV,
        NO_EXEC = libc::MOUNT_ATTR_NOEXEC,
    }
}

/// Sets properties on a mount and everything mounted below it.
pub(crate) fn mount_set(mount: impl AsFd, set: MountFlags) -> io::Result<()> {
    mount_setattr(mount.as_fd(), libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, set)
}

/// Sets properties on a mount, not on what is mounted below it.
pub(crate) fn mount_set_one(mount: impl AsFd, set: MountFlags) -> io::Result<()> {
    mount_setattr(mount.as_fd(), libc::AT_EMPTY_PATH, set)
}

fn mount_setattr(mount: BorrowedFd<'_>, flags: libc::c_int, set: MountFlags) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set.0,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a NUL-terminated literal, the attributes live across the call and their true size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Lets the async runtime watch a stream for one kind of event.
pub(crate) fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a stream names one descriptor as long as it lives, and keeps it open.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

/// Appends to `content` what a file holds from that place on, as far as its capacity goes and as far as it can be had
/// without waiting. 0 at the end of the file.
///
/// # Errors
/// `EAGAIN` when it would have to wait, `EOPNOTSUPP` when the file system cannot say.
pub(crate) fn read_more_at_once(
    file: BorrowedFd<'_>,
    content: &mut Vec<u8>,
) -> Result<usize, Errno> {
    let offset = libc::off_t::try_from(content.len()).map_err(|_| Errno::OVERFLOW)?;
    let spare = content.spare_capacity_mut();
    let into = libc::iovec {
        iov_base: spare.as_mut_ptr().cast(),
        iov_len: spare.len(),
    };
    // SAFETY: the one range is the spare capacity of `content`, which is writable and lives across the call.
    let read = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const into,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    let Ok(read) = usize::try_from(read) else {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    };
    // SAFETY: the kernel has filled as many bytes behind the present length, within the capacity.
    unsafe { content.set_len(content.len() + read) };
    Ok(read)
}

/// The version of Landlock that the running kernel offers.
///
/// # Errors
/// `ENOSYS` when the kernel was built without it, `EOPNOTSUPP` when it is switched off.
pub(crate) fn landlock_abi() -> io::Result<i32> {
    const VERSION: libc::c_uint = 1;
    let size: usize = 0;
    // SAFETY: with this flag the call takes a null pointer and a zero size and returns a number.
    let abi = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            size,
            VERSION,
        )
    })?;
    i32::try_from(abi).map_err(|_| io::Error::from_raw_os_error(libc::ERANGE))
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all fields of `ifreq` are plain numbers or a union of them; zero is a valid value of each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).expect("both flags are below 2^15");
    // SAFETY: the request is a valid `ifreq` that lives across the call; the kernel reads it.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))
    .map(drop)
}

/// One argument of a [`raw`] call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg<'a> {
    /// A number.
    Number(i64),
    /// A text.
    Text(&'a CStr),
    /// Memory that the kernel may read; it must be as large as the call expects.
    Bytes(&'a [u8]),
}

impl Arg<'_> {
    fn word(self) -> libc::c_long {
        match self {
            Self::Number(number) => number,
            Self::Text(text) => text.as_ptr().expose_provenance().cast_signed() as libc::c_long,
            Self::Bytes(bytes) => bytes.as_ptr().expose_provenance().cast_signed() as libc::c_long,
        }
    }
}

/// Makes a system call by number: what an attack that ignores every library does. Only for calls that read
/// the memory they are given and never write it.
pub(crate) fn raw(number: libc::c_long, args: &[Arg<'_>]) -> io::Result<i64> {
    let mut words = [0; 6];
    for (word, arg) in words.iter_mut().zip(args) {
        *word = arg.word();
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: every pointer is valid for reads across the call; the callers are the attacks of the self-test, whose
    // calls write no memory of this process.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn check(result: libc::c_long) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
