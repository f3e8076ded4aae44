//! What a hostile tool would do, one function each, without any check: straight to the kernel.
//!
//! Attacks are harmless where they succeed. They touch only what the test made, signal and trace only a
//! witness that the test started, connect only to listeners of the test, and make few processes that end.

#![allow(unsafe_code, reason = "an attack goes straight to the kernel")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call here passes valid memory or none at all"
)]

use std::ffi::{CString, c_long, c_void};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{null, null_mut};

use otto_sandbox::{WorkerAnswer, WorkerCtx, WorkerRequest};

/// Runs the attack that a request names. The answer is `ok TEXT` or `errno NUMBER`.
pub fn dispatch(ctx: &WorkerCtx, request: &WorkerRequest) -> WorkerAnswer {
    if let Some(answer) = crate::tools::run(ctx, request) {
        return answer;
    }
    WorkerAnswer::Done {
        content: attack_by_name(request.tool.as_str(), &request.input),
    }
}

/// Makes one attack; its arguments are lines.
pub fn attack_by_name(name: &str, input: &str) -> String {
    let args: Vec<&str> = input.split('\n').collect();
    match run(name, &args) {
        Ok(text) => format!("ok {text}"),
        Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
}

fn run(name: &str, args: &[&str]) -> io::Result<String> {
    let arg = |index: usize| args.get(index).copied().unwrap_or_default();
    let path = |index: usize| CString::new(arg(index)).expect("an argument of a test has no NUL");
    let number = |index: usize| {
        arg(index)
            .parse::<c_long>()
            .expect("an argument of a test is a number")
    };
    match name {
        // Files.
        "read" => {
            let fd = openat(&path(0), libc::O_RDONLY | libc::O_NONBLOCK)?;
            let mut buffer = [0_u8; 4096];
            let read = call(libc::SYS_read, &[fd, buffer.as_mut_ptr() as c_long, 4096])?;
            Ok(String::from_utf8_lossy(&buffer[..usize::try_from(read).unwrap_or(0)]).into_owned())
        }
        "list" => {
            let fd = openat(&path(0), libc::O_RDONLY | libc::O_DIRECTORY)?;
            let mut buffer = [0_u8; 4096];
            call(
                libc::SYS_getdents64,
                &[fd, buffer.as_mut_ptr() as c_long, 4096],
            )
            .map(|n| n.to_string())
        }
        "stat" => {
            let mut stat = [0_u8; 512];
            call(
                libc::SYS_newfstatat,
                &[at(), ptr(&path(0)), stat.as_mut_ptr() as c_long, 0],
            )
            .map(text)
        }
        "reopen" => {
            let fd = openat(&path(0), libc::O_PATH)?;
            openat(
                &CString::new(format!("/proc/self/fd/{fd}")).expect("digits"),
                libc::O_RDONLY,
            )
            .map(text)
        }
        "open-for-writing" => openat(&path(0), libc::O_WRONLY).map(text),
        "open-truncating" => openat(&path(0), libc::O_RDONLY | libc::O_TRUNC).map(text),
        "create" => openat(&path(0), libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).map(text),
        "tmpfile" => openat(&path(0), libc::O_WRONLY | libc::O_TMPFILE).map(text),
        "overwrite" => {
            let fd = openat(&path(0), libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)?;
            call(libc::SYS_write, &[fd, c"attacked".as_ptr() as c_long, 8]).map(text)
        }
        "truncate" => call(libc::SYS_truncate, &[ptr(&path(0)), 0]).map(text),
        "mkdir" => call(libc::SYS_mkdirat, &[at(), ptr(&path(0)), 0o755]).map(text),
        "unlink" => call(libc::SYS_unlinkat, &[at(), ptr(&path(0)), 0]).map(text),
        "rmdir" => call(
            libc::SYS_unlinkat,
            &[at(), ptr(&path(0)), libc::AT_REMOVEDIR.into()],
        )
        .map(text),
        "rename" => call(
            libc::SYS_renameat2,
            &[at(), ptr(&path(0)), at(), ptr(&path(1)), 0],
        )
        .map(text),
        "link" => call(
            libc::SYS_linkat,
            &[at(), ptr(&path(0)), at(), ptr(&path(1)), 0],
        )
        .map(text),
        "symlink" => call(libc::SYS_symlinkat, &[ptr(&path(0)), at(), ptr(&path(1))]).map(text),
        "mkfifo" => call(
            libc::SYS_mknodat,
            &[at(), ptr(&path(0)), (libc::S_IFIFO | 0o600).into(), 0],
        )
        .map(text),
        "mkdevice" => {
            let device = c_long::try_from(libc::makedev(1, 3)).expect("a small number");
            call(
                libc::SYS_mknodat,
                &[at(), ptr(&path(0)), (libc::S_IFCHR | 0o600).into(), device],
            )
            .map(text)
        }
        "chmod" => call(libc::SYS_fchmodat, &[at(), ptr(&path(0)), 0o777]).map(text),
        "chown" => {
            let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
            call(
                libc::SYS_fchownat,
                &[at(), ptr(&path(0)), uid.into(), gid.into(), 0],
            )
            .map(text)
        }
        "utimes" => call(libc::SYS_utimensat, &[at(), ptr(&path(0)), 0, 0]).map(text),
        "setxattr" => call(
            libc::SYS_setxattr,
            &[
                ptr(&path(0)),
                c"user.attack".as_ptr() as c_long,
                c"x".as_ptr() as c_long,
                1,
                0,
            ],
        )
        .map(text),
        "watch" => {
            let fd = call(libc::SYS_inotify_init1, &[0])?;
            call(
                libc::SYS_inotify_add_watch,
                &[fd, ptr(&path(0)), libc::IN_MODIFY.into()],
            )
            .map(text)
        }
        "chroot" => call(libc::SYS_chroot, &[ptr(&path(0))]).map(text),

        // Processes.
        "fork" => fork(),
        "thread" => std::thread::Builder::new()
            .spawn(|| {})
            .map(|_| String::new()),
        "execute" => Err(Command::new(arg(0)).env_clear().exec()),
        "execute-memory" => {
            let fd = call(libc::SYS_memfd_create, &[c"x".as_ptr() as c_long, 0])?;
            let argv: [*const i8; 2] = [c"x".as_ptr(), null()];
            let envp: [*const i8; 1] = [null()];
            let empty = c"".as_ptr() as c_long;
            let flags = libc::AT_EMPTY_PATH.into();
            call(
                libc::SYS_execveat,
                &[
                    fd,
                    empty,
                    argv.as_ptr() as c_long,
                    envp.as_ptr() as c_long,
                    flags,
                ],
            )
            .map(text)
        }
        "signal" => call(libc::SYS_kill, &[number(0), libc::SIGUSR1.into()]).map(text),
        "signal-thread" => call(
            libc::SYS_tgkill,
            &[number(0), number(0), libc::SIGUSR1.into()],
        )
        .map(text),
        "limit" => {
            let limit = libc::rlimit64 {
                rlim_cur: 0,
                rlim_max: 0,
            };
            let core = c_long::from(libc::RLIMIT_CORE);
            call(
                libc::SYS_prlimit64,
                &[number(0), core, (&raw const limit) as c_long, 0],
            )
            .map(text)
        }
        "priority" => call(libc::SYS_setpriority, &[0, number(0), 19]).map(text),
        "affinity" => call(
            libc::SYS_sched_setaffinity,
            &[number(0), 8, (&raw const ALL_CPUS) as c_long],
        )
        .map(text),
        "trace" => call(
            libc::SYS_ptrace,
            &[libc::PTRACE_SEIZE.into(), number(0), 0, 0],
        )
        .map(text),
        "read-memory" => read_memory(number(0), number(1)),
        "take-handle" => {
            let pidfd = call(libc::SYS_pidfd_open, &[number(0), 0])?;
            call(libc::SYS_pidfd_getfd, &[pidfd, 0, 0]).map(text)
        }
        "handle-of-process" => call(libc::SYS_pidfd_open, &[number(0), 0]).map(text),

        // Network.
        "socket" => call(libc::SYS_socket, &[number(0), number(1), number(2)]).map(text),
        "connect" => connect(number(0), 0),
        "connect-mptcp" => connect(number(0), libc::IPPROTO_MPTCP.into()),
        "fast-open" => fast_open(number(0), false),
        "fast-open-message" => fast_open(number(0), true),
        "send-udp" => {
            let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            let address = loopback(number(0));
            call(
                libc::SYS_sendto,
                &[
                    fd,
                    c"x".as_ptr() as c_long,
                    1,
                    0,
                    address.as_ptr() as c_long,
                    16,
                ],
            )
            .map(text)
        }
        "listen" => {
            let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
            call(libc::SYS_listen, &[fd, 1]).map(text)
        }
        "connect-unix" => connect_unix(arg(0).as_bytes()),
        "connect-abstract" => connect_unix(&[&[0], arg(0).as_bytes()].concat()),

        // The kernel.
        "io-uring" => {
            let parameters = [0_u8; 256];
            call(
                libc::SYS_io_uring_setup,
                &[1, parameters.as_ptr() as c_long],
            )
            .map(text)
        }
        "bpf" => call(libc::SYS_bpf, &[-1, 0, 0]).map(text),
        "perf" => call(libc::SYS_perf_event_open, &[0, 0, -1, -1, 0]).map(text),
        "userfaultfd" => call(libc::SYS_userfaultfd, &[-1]).map(text),
        "add-key" => {
            let session = -2;
            call(
                libc::SYS_add_key,
                &[
                    c"user".as_ptr() as c_long,
                    c"otto-test".as_ptr() as c_long,
                    c"x".as_ptr() as c_long,
                    1,
                    session,
                ],
            )
            .map(text)
        }
        "unshare" => call(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()]).map(text),
        "setns" => call(libc::SYS_setns, &[-1, 0]).map(text),
        "mount" => call(libc::SYS_mount, &[0, 0, 0, 0, 0]).map(text),
        "open-tree" => call(libc::SYS_open_tree, &[at(), ptr(&path(0)), 1]).map(text),
        "pivot-root" => call(libc::SYS_pivot_root, &[0, 0]).map(text),
        "open-by-handle" => call(libc::SYS_open_by_handle_at, &[at(), 0, 0]).map(text),
        "shared-memory" => {
            let id = call(libc::SYS_shmget, &[libc::IPC_PRIVATE.into(), 4096, 0o600])?;
            // It would outlive the test.
            call(libc::SYS_shmctl, &[id, libc::IPC_RMID.into(), 0]).map(text)
        }
        "message-queue" => {
            let flags = libc::O_RDWR | libc::O_CREAT;
            let name =
                CString::new(format!("otto-boundary-{}", std::process::id())).expect("no NUL");
            call(libc::SYS_mq_open, &[ptr(&name), flags.into(), 0o600, 0])?;
            call(libc::SYS_mq_unlink, &[ptr(&name)]).map(text)
        }
        "executable-memory" => {
            let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            call(
                libc::SYS_mmap,
                &[0, 4096, protection.into(), flags.into(), -1, 0],
            )
            .map(|_| String::new())
        }
        "reserve-memory" => {
            // Address space alone: no page of it is ever touched.
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            call(
                libc::SYS_mmap,
                &[0, 4 << 30, libc::PROT_READ.into(), flags.into(), -1, 0],
            )
            .map(|_| String::new())
        }
        "no-such-call" => call(5000, &[]).map(text),
        "write-memory" => write_memory(number(0), number(1)),
        "personality" => call(libc::SYS_personality, &[0xffff_ffff]).map(text),
        "dumpable" => call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0]).map(text),
        "x32" => call(0x4000_0000 + libc::SYS_getpid, &[]).map(text),
        #[cfg(target_arch = "x86_64")]
        "int80" => int80(),
        "type-on-terminal" => call(
            libc::SYS_ioctl,
            &[0, libc::TIOCSTI.try_into().expect("a small number"), 0],
        )
        .map(text),
        other => panic!("no attack is named {other}"),
    }
}

static ALL_CPUS: u64 = u64::MAX;

fn text(result: c_long) -> String {
    result.to_string()
}

fn at() -> c_long {
    libc::AT_FDCWD.into()
}

fn ptr(path: &CString) -> c_long {
    path.as_ptr() as c_long
}

fn openat(path: &CString, flags: i32) -> io::Result<c_long> {
    call(
        libc::SYS_openat,
        &[at(), ptr(path), (flags | libc::O_CLOEXEC).into(), 0o600],
    )
}

/// One system call. The error is the kernel's own.
fn call(number: c_long, args: &[c_long]) -> io::Result<c_long> {
    let mut words = [0; 6];
    words[..args.len()].copy_from_slice(args);
    let result = unsafe {
        libc::syscall(
            number, words[0], words[1], words[2], words[3], words[4], words[5],
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A process that ends at once.
fn fork() -> io::Result<String> {
    let pid = call(libc::SYS_clone, &[libc::SIGCHLD.into(), 0, 0, 0, 0])?;
    if pid == 0 {
        unsafe { libc::_exit(0) };
    }
    let pid = i32::try_from(pid).expect("a process number");
    unsafe { libc::waitpid(pid, null_mut(), 0) };
    Ok(String::new())
}

fn read_memory(pid: c_long, address: c_long) -> io::Result<String> {
    let mut byte = [0_u8; 1];
    let local = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: address as *mut c_void,
        iov_len: 1,
    };
    let (local, remote) = ((&raw const local) as c_long, (&raw const remote) as c_long);
    call(libc::SYS_process_vm_readv, &[pid, local, 1, remote, 1, 0]).map(text)
}

fn write_memory(pid: c_long, address: c_long) -> io::Result<String> {
    let mut byte = [0_u8; 1];
    let part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // Read-only there: where the call gets through, it changes nothing.
    let remote = libc::iovec {
        iov_base: address as *mut c_void,
        iov_len: 1,
    };
    let (local, remote) = ((&raw const part) as c_long, (&raw const remote) as c_long);
    call(libc::SYS_process_vm_writev, &[pid, local, 1, remote, 1, 0]).map(text)
}

fn socket(family: i32, kind: i32, protocol: c_long) -> io::Result<c_long> {
    call(libc::SYS_socket, &[family.into(), kind.into(), protocol])
}

fn loopback(port: c_long) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&2_u16.to_ne_bytes());
    address[2..4].copy_from_slice(&u16::try_from(port).expect("a port").to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    address
}

fn connect(port: c_long, protocol: c_long) -> io::Result<String> {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, protocol)?;
    call(
        libc::SYS_connect,
        &[fd, loopback(port).as_ptr() as c_long, 16],
    )
    .map(text)
}

/// A TCP connection that is made by sending.
fn fast_open(port: c_long, as_message: bool) -> io::Result<String> {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let mut address = loopback(port);
    let flags = c_long::from(libc::MSG_FASTOPEN);
    if !as_message {
        return call(
            libc::SYS_sendto,
            &[
                fd,
                c"x".as_ptr() as c_long,
                1,
                flags,
                address.as_ptr() as c_long,
                16,
            ],
        )
        .map(text);
    }
    let mut part = libc::iovec {
        iov_base: c"x".as_ptr() as *mut c_void,
        iov_len: 1,
    };
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = 16;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    call(
        libc::SYS_sendmsg,
        &[fd, (&raw const message) as c_long, flags],
    )
    .map(text)
}

fn connect_unix(name: &[u8]) -> io::Result<String> {
    let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    let mut address = vec![0_u8; 2];
    address[..2].copy_from_slice(&1_u16.to_ne_bytes());
    address.extend_from_slice(name);
    if name.first() != Some(&0) {
        address.push(0);
    }
    let length = c_long::try_from(address.len()).expect("a short name");
    call(libc::SYS_connect, &[fd, address.as_ptr() as c_long, length]).map(text)
}

/// `getpid` by the door of 32-bit programs.
#[cfg(target_arch = "x86_64")]
fn int80() -> io::Result<String> {
    let result: i64;
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => result, options(nostack));
    }
    if result < 0 {
        Err(io::Error::from_raw_os_error(
            i32::try_from(-result).unwrap_or(0),
        ))
    } else {
        Ok(result.to_string())
    }
}

/// Everything that is open, except standard streams: what of it is a regular file or directory of `device`
/// and `inode`.
pub fn open_handles() -> Vec<(u64, u64)> {
    (3..1024)
        .filter_map(|fd| {
            let mut stat: libc::stat = unsafe { std::mem::zeroed() };
            (unsafe { libc::fstat(fd, &raw mut stat) } == 0).then_some((stat.st_dev, stat.st_ino))
        })
        .collect()
}

/// Writes to every open stream but the standard ones, as a worker that wants to confuse its host would.
pub fn write_to_every_handle(bytes: &[u8]) {
    for fd in 3..64 {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written =
                unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
            let Ok(written) = usize::try_from(written) else {
                break;
            };
            rest = &rest[written..];
        }
    }
}

/// Installs a filter on this process that lets the given calls fail with `errno`, as a container would.
pub fn refuse_calls(calls: &[c_long], errno: i32) {
    use seccompiler::{SeccompAction, SeccompFilter};
    let rules = calls.iter().map(|number| (*number, Vec::new())).collect();
    let errno = u32::try_from(errno).expect("an error number");
    let arch = std::env::consts::ARCH
        .try_into()
        .expect("a known processor");
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        arch,
    );
    let program: seccompiler::BpfProgram = filter
        .and_then(TryInto::try_into)
        .expect("the filter of a test can be compiled");
    seccompiler::apply_filter(&program).expect("the filter of a test can be installed");
}

/// The number of a call of which the confinement is made.
pub fn call_number(name: &str) -> c_long {
    match name {
        "landlock_create_ruleset" => libc::SYS_landlock_create_ruleset,
        "landlock_add_rule" => libc::SYS_landlock_add_rule,
        "landlock_restrict_self" => libc::SYS_landlock_restrict_self,
        "seccomp" => libc::SYS_seccomp,
        "capset" => libc::SYS_capset,
        "prctl" => libc::SYS_prctl,
        "openat2" => libc::SYS_openat2,
        "close_range" => libc::SYS_close_range,
        "mount" => libc::SYS_mount,
        "open_tree" => libc::SYS_open_tree,
        "move_mount" => libc::SYS_move_mount,
        "mount_setattr" => libc::SYS_mount_setattr,
        "fsopen" => libc::SYS_fsopen,
        "pivot_root" => libc::SYS_pivot_root,
        "umount2" => libc::SYS_umount2,
        other => panic!("no call is named {other}"),
    }
}

/// A host on which new user namespaces fail with `errno`.
pub fn refuse_namespaces(errno: i32) {
    install_refusal(&[], errno);
}

/// Enters a user namespace of its own, with the same user in it. Only for a process with one thread.
pub fn enter_user_namespace() {
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    call(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()]).expect("this host has user namespaces");
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), content).expect("a new namespace is mapped");
    }
}

/// Goes on as process 1 of a new pid namespace, in a copy of this process. `false` in the process that was
/// copied, after the copy has ended.
pub fn become_first_process() -> bool {
    call(libc::SYS_unshare, &[libc::CLONE_NEWPID.into()])
        .expect("it is the owner of its namespace");
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "one more process fits");
    if pid > 0 {
        unsafe { libc::waitpid(pid, null_mut(), 0) };
    }
    pid == 0
}

/// Gives this process a real-time priority; `false` when it may not have one.
pub fn take_real_time() -> bool {
    let lowest = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR.into();
    call(
        libc::SYS_sched_setscheduler,
        &[0, policy, (&raw const lowest) as c_long],
    )
    .is_ok()
}

/// An operator's setting that allows no new user namespace. It counts in the user namespace of this process
/// alone, which therefore has to be its own.
pub fn allow_no_more_namespaces() {
    std::fs::write("/proc/sys/user/max_user_namespaces", "0")
        .expect("the setting of a namespace belongs to who made it");
}

/// What the default profile of a container runtime refuses, as far as it matters here: namespaces, mounts and
/// the parts of the kernel that come with privileges.
pub fn refuse_like_a_container() {
    let refused = [
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_pidfd_getfd,
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_add_key,
        libc::SYS_keyctl,
    ];
    install_refusal(&refused, libc::EPERM);
}

/// Refuses these calls, and new processes in new namespaces.
fn install_refusal(refused: &[c_long], errno: i32) {
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        refused.iter().map(|number| (*number, Vec::new())).collect();
    let namespaces = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
    ];
    let masked = namespaces
        .iter()
        .map(|flag| {
            let flag = u64::from(flag.cast_unsigned());
            let condition = SeccompCondition::new(
                0,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(flag),
                flag,
            );
            SeccompRule::new(vec![condition.expect("a valid comparison")]).expect("a valid rule")
        })
        .collect();
    rules.insert(libc::SYS_clone, masked);
    let arch = std::env::consts::ARCH
        .try_into()
        .expect("a known processor");
    let errno = SeccompAction::Errno(errno.cast_unsigned());
    let program: seccompiler::BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)
            .and_then(TryInto::try_into)
            .expect("the filter of a test can be compiled");
    seccompiler::apply_filter(&program).expect("the filter of a test can be installed");
}

/// Duplicates a handle so that it stays open over the start of another program.
pub fn leak_handle(fd: i32) -> i32 {
    unsafe { libc::fcntl(fd, libc::F_DUPFD, 100) }
}

/// Allocates and touches memory until there is none or `limit` bytes are taken.
pub fn take_memory(limit: usize) -> usize {
    let mut taken = Vec::new();
    while taken.len() * 1024 * 1024 < limit {
        taken.push(vec![1_u8; 1024 * 1024]);
    }
    taken.len()
}

/// Swaps two names for each other in one step.
pub fn exchange(one: &CString, other: &CString) -> io::Result<()> {
    let flags = c_long::from(libc::RENAME_EXCHANGE);
    call(
        libc::SYS_renameat2,
        &[at(), ptr(one), at(), ptr(other), flags],
    )
    .map(drop)
}

/// Opens by absolute or relative path and reads a little, as often as asked; counts what was read.
pub fn race_plain(path: &str, secret: &[u8], tries: u32) -> (u32, u32, u32) {
    let path = CString::new(path).expect("no NUL");
    let (mut escapes, mut inside, mut refused) = (0, 0, 0);
    let mut buffer = vec![0_u8; 64];
    for _ in 0..tries {
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd < 0 {
            refused += 1;
            continue;
        }
        let read = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        unsafe { libc::close(fd) };
        match usize::try_from(read) {
            Ok(read) if buffer[..read].starts_with(secret) => escapes += 1,
            _ => inside += 1,
        }
    }
    (escapes, inside, refused)
}

/// Reads all of a stream and writes a line to it before, for a test of the way out.
pub fn talk(stream: &mut dyn otto_sandbox::ByteStream, line: &str) -> io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
