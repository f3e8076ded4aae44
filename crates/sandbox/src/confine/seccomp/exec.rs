//! The denylist of programs in the exec sandbox.
//!
//! It takes away what namespaces, mounts and Landlock do not cover: kernel interfaces with a history of
//! holes, other processes, keys, and new namespaces (inside which more of the kernel could be reached).
//! Without namespaces it also takes away every socket and every way out of the process group, because there
//! the group is all that can be killed.

use seccompiler::BpfProgram;

use crate::spec::SetupFailure;

use super::ExecFilter;
use super::build::{Calls, ENOSYS, EPERM, Test};

pub(super) fn filters(which: ExecFilter) -> Result<Vec<BpfProgram>, SetupFailure> {
    Ok(vec![refused(which)?, missing()?])
}

/// Calls that do not exist, so that a C library falls back to one whose arguments a filter can read.
fn missing() -> Result<BpfProgram, SetupFailure> {
    let mut calls = Calls::default();
    calls.all(&[libc::SYS_clone3]);
    calls.denylist(ENOSYS)
}

fn refused(which: ExecFilter) -> Result<BpfProgram, SetupFailure> {
    let mut calls = Calls::default();
    calls.all(ALWAYS);
    for flag in NEW_NAMESPACES {
        calls.when(libc::SYS_clone, &[Test::int_masked(0, *flag, *flag)])?;
    }
    calls
        .when(libc::SYS_prlimit64, &[Test::int_is_not(0, 0)])?
        // Typing on the user's terminal.
        .when(
            libc::SYS_ioctl,
            &[Test::int_is(1, i32::try_from(libc::TIOCSTI).unwrap_or(0))],
        )?
        .when(libc::SYS_ioctl, &[Test::int_is(1, TIOCLINUX)])?;
    sockets(&mut calls, which)?;
    if which == ExecFilter::WithoutNamespaces {
        calls.all(&[libc::SYS_setsid, libc::SYS_setpgid]);
    }
    calls.denylist(EPERM)
}

fn sockets(calls: &mut Calls, which: ExecFilter) -> Result<(), SetupFailure> {
    match which {
        // A pair of connected unix sockets reaches nobody else and is what many runtimes are built on.
        ExecFilter::WithoutNamespaces => {
            calls.all(&[libc::SYS_socket]);
        }
        ExecFilter::InNamespaces => {
            let families = [
                libc::AF_UNIX,
                libc::AF_INET,
                libc::AF_INET6,
                libc::AF_NETLINK,
            ];
            let none_of_these: Vec<Test> = families
                .iter()
                .map(|family| Test::int_is_not(0, *family))
                .collect();
            calls.when(libc::SYS_socket, &none_of_these)?;
            calls.when(
                libc::SYS_socket,
                &[
                    Test::int_is(0, libc::AF_NETLINK),
                    Test::int_is_not(2, libc::NETLINK_ROUTE),
                ],
            )?;
            // Other protocols over the same families have their own code in the kernel.
            for family in [libc::AF_INET, libc::AF_INET6] {
                let mut other = vec![Test::int_is(0, family)];
                other.extend(
                    [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP]
                        .iter()
                        .map(|protocol| Test::int_is_not(2, *protocol)),
                );
                calls.when(libc::SYS_socket, &other)?;
            }
        }
    }
    calls.when(libc::SYS_socketpair, &[Test::int_is_not(0, libc::AF_UNIX)])?;
    Ok(())
}

const TIOCLINUX: i32 = 0x541C;

const NEW_NAMESPACES: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWTIME,
];

const ALWAYS: &[libc::c_long] = &[
    // Asynchronous system calls that other filters do not see.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Parts of the kernel with their own languages.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    // Memory and queues that outlive their processes.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];
