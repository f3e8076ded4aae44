//! The allowlists of workers: what a tool of that kind calls, and nothing more.
//!
//! No kind can make a process or thread, run a program, open a socket, send a signal, change an owner, a
//! time or an extended attribute, make executable memory, or reach another process. What a kind can open is
//! decided by its Landlock domain; that it can open at all, here.

use seccompiler::BpfProgram;

use crate::spec::{SetupFailure, WorkerKind};

use super::build::{Calls, Test};

pub(super) fn filter(kind: WorkerKind) -> Result<BpfProgram, SetupFailure> {
    let mut calls = Calls::default();
    base(&mut calls)?;
    match kind {
        WorkerKind::Compute => {}
        WorkerKind::Http => http(&mut calls)?,
        WorkerKind::Read => {
            files(&mut calls);
            calls.all(LIST);
        }
        WorkerKind::Write => {
            files(&mut calls);
            calls.all(CHANGE);
        }
        WorkerKind::ReadWrite => {
            files(&mut calls);
            calls.all(LIST).all(CHANGE);
        }
    }
    calls.allowlist()
}

/// What every process needs to compute and to talk over the streams it already has.
pub(super) fn base(calls: &mut Calls) -> Result<(), SetupFailure> {
    talk(calls)?;
    calls
        // Memory, but none that can be run: nothing here loads code after its start.
        .when(libc::SYS_mmap, &[Test::none_of(2, libc::PROT_EXEC)])?
        .when(libc::SYS_mprotect, &[Test::none_of(2, libc::PROT_EXEC)])?
        .all(&[
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_madvise,
            libc::SYS_brk,
        ]);
    Ok(())
}

/// [`base`] without the rules about memory.
pub(super) fn talk(calls: &mut Calls) -> Result<(), SetupFailure> {
    calls
        .all(&[
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_write,
            libc::SYS_writev,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
            libc::SYS_close,
            libc::SYS_dup,
            libc::SYS_shutdown,
            libc::SYS_ppoll,
            libc::SYS_futex,
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_getrandom,
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_clock_nanosleep,
            libc::SYS_nanosleep,
            libc::SYS_gettimeofday,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
            libc::SYS_uname,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_restart_syscall,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_getrusage,
        ])
        // Sending only on what is already connected: no address, and no flag that connects.
        .when(
            libc::SYS_sendto,
            &[Test::int_masked(3, libc::MSG_FASTOPEN, 0), Test::is_null(4)],
        )?
        .when(
            libc::SYS_sendmsg,
            &[Test::int_masked(2, libc::MSG_FASTOPEN, 0)],
        )?
        // Reading one's own limits, not setting any.
        .when(libc::SYS_prlimit64, &[Test::int_is(0, 0), Test::is_null(2)])?
        // Flags of a descriptor; never the commands that make somebody else's process get signals.
        .when(libc::SYS_fcntl, &[Test::int_is(1, libc::F_GETFD)])?
        .when(libc::SYS_fcntl, &[Test::int_is(1, libc::F_SETFD)])?
        .when(libc::SYS_fcntl, &[Test::int_is(1, libc::F_GETFL)])?
        .when(libc::SYS_fcntl, &[Test::int_is(1, libc::F_SETFL)])?
        .when(libc::SYS_fcntl, &[Test::int_is(1, libc::F_DUPFD_CLOEXEC)])?
        // Memory for a large answer: always sealed against being run, and written from its beginning.
        .all(&[libc::SYS_lseek])
        .when(libc::SYS_fcntl, &[Test::int_is(1, libc::F_ADD_SEALS)])?
        .when(
            libc::SYS_memfd_create,
            &[Test::int_is(1, crate::shared::FLAGS.bits().cast_signed())],
        )?;
    #[cfg(target_arch = "x86_64")]
    calls.all(&[libc::SYS_poll, libc::SYS_time]);
    Ok(())
}

/// Opening and looking at files, for every kind that has a directory.
fn files(calls: &mut Calls) {
    calls.all(&[
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_newfstatat,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_fstatfs,
        libc::SYS_pread64,
        libc::SYS_preadv,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_fadvise64,
        libc::SYS_getcwd,
        libc::SYS_fchdir,
    ]);
    #[cfg(target_arch = "x86_64")]
    calls.all(&[
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
    ]);
}

const LIST: &[libc::c_long] = &[libc::SYS_getdents64];

const CHANGE: &[libc::c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // Two writers of one file must not replace the same version of it.
    libc::SYS_flock,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    // By descriptor only: it can name no file that this process could not open, and a replaced file keeps its mode.
    libc::SYS_fchmod,
    libc::SYS_renameat,
];

const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;

/// Waiting on the streams that egress hands out.
fn http(calls: &mut Calls) -> Result<(), SetupFailure> {
    calls.all(&[
        libc::SYS_fstat,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_eventfd2,
    ]);
    // How long a read or write may take, under the old and the new number of each option.
    for option in [
        libc::SO_RCVTIMEO,
        libc::SO_SNDTIMEO,
        SO_RCVTIMEO_NEW,
        SO_SNDTIMEO_NEW,
    ] {
        calls.when(
            libc::SYS_setsockopt,
            &[Test::int_is(1, libc::SOL_SOCKET), Test::int_is(2, option)],
        )?;
    }
    let fionbio = i32::try_from(libc::FIONBIO).unwrap_or(0);
    calls.when(libc::SYS_ioctl, &[Test::int_is(1, fionbio)])?;
    #[cfg(target_arch = "x86_64")]
    calls.all(&[libc::SYS_epoll_wait]);
    Ok(())
}
