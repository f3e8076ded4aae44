//! The allowlist of an egress process: resolve a name, connect, relay. It makes no process, runs no program
//! and changes no file; of the socket families it has only those that a resolver and a connection need.

use seccompiler::BpfProgram;

use crate::spec::SetupFailure;

use super::build::{Calls, Test};
use super::worker::talk;

pub(super) fn filter() -> Result<BpfProgram, SetupFailure> {
    let mut calls = Calls::default();
    talk(&mut calls)?;
    calls.all(&[
        // The system's resolver loads its modules at the first look-up, so executable mappings are allowed.
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_openat,
        libc::SYS_newfstatat,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_pread64,
        libc::SYS_faccessat,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
        libc::SYS_recvmmsg,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
    ]);
    let fionread = i32::try_from(libc::FIONREAD).unwrap_or(0);
    let fionbio = i32::try_from(libc::FIONBIO).unwrap_or(0);
    calls
        .when(
            libc::SYS_sendmmsg,
            &[Test::int_masked(3, libc::MSG_FASTOPEN, 0)],
        )?
        .when(libc::SYS_ioctl, &[Test::int_is(1, fionread)])?
        .when(libc::SYS_ioctl, &[Test::int_is(1, fionbio)])?
        .when(libc::SYS_socketpair, &[Test::int_is(0, libc::AF_UNIX)])?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        // 0 and the two everyday protocols: no MPTCP, no raw sockets, no SCTP.
        for protocol in [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
            calls.when(
                libc::SYS_socket,
                &[Test::int_is(0, family), Test::int_is(2, protocol)],
            )?;
        }
    }
    // The resolver asks which addresses this host has, to sort what it found.
    calls.when(
        libc::SYS_socket,
        &[
            Test::int_is(0, libc::AF_NETLINK),
            Test::int_is(2, libc::NETLINK_ROUTE),
        ],
    )?;
    calls.allowlist()
}
