//! What to do about a mechanism that does not work here, from what the kernel says about itself.

use std::fs;

use crate::spec::{SetupFailure, Stage};

/// How to get namespaces, after starting a worker in them has failed.
pub(super) fn for_namespaces(failure: &SetupFailure) -> String {
    let setting = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let is = |path: &str, value: &str| setting(path).as_deref() == Some(value);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "set `sysctl user.max_user_namespaces=10000`".to_owned();
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "set `sysctl kernel.unprivileged_userns_clone=1`".to_owned();
    }
    if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        return "AppArmor takes the power from user namespaces of unknown programs: give Otto's binary a profile \
                with `userns,`, or set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            .to_owned();
    }
    match failure.stage {
        Stage::Namespaces | Stage::MountView if failure.errno == libc::EPERM || failure.errno == libc::EACCES => {
            "a container or service manager refuses namespaces or mounts: allow them in its seccomp profile (with \
             Docker: `--security-opt seccomp=PROFILE` with `clone`, `unshare` and the mount calls allowed), or accept \
             level l1"
                .to_owned()
        }
        Stage::Namespaces if failure.errno == libc::ENOSPC => {
            "too many user namespaces exist: raise `sysctl user.max_user_namespaces`".to_owned()
        }
        _ => "use a kernel of version 5.13 or later with user, mount, pid, network, ipc and uts namespaces".to_owned(),
    }
}

/// How to get Landlock.
pub(super) fn for_landlock(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::EOPNOTSUPP) => {
            "Landlock is built into this kernel and switched off: add `landlock` to the `lsm=` boot parameter"
        }
        Some(libc::ENOSYS) => {
            "use a kernel of version 5.13 or later that is built with CONFIG_SECURITY_LANDLOCK=y, and a container \
             runtime whose seccomp profile lets the three landlock calls through"
        }
        _ => {
            "a seccomp profile refuses the three landlock calls: allow them in the profile of the container"
        }
    }
}

/// How to get a Landlock that is enough without namespaces.
pub(super) const FOR_OLD_LANDLOCK: &str = "without namespaces, Landlock version 3 is needed: use a kernel of version 6.2 or later, or allow namespaces";

/// How to get the sandbox of programs, where workers can be confined and programs cannot.
pub(super) fn for_programs(failure: &SetupFailure) -> String {
    match failure.stage {
        Stage::MountView if failure.detail.contains("/proc") => {
            "a container hides a part of its /proc, so the kernel gives no new one: run the container with an unmasked \
             /proc (with Docker: `--security-opt systempaths=unconfined`)"
                .to_owned()
        }
        _ => for_namespaces(failure),
    }
}
