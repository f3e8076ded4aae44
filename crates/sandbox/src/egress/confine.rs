//! The domain of an egress process: the files of the resolver, the ports of the allowlist, nothing else.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::confine::landlock::{Domain, Grant, Net};
use crate::confine::{Prepared, Tie, capabilities, limits, lock_memory};
use crate::lock::DNS;
use crate::spec::{Layers, SetupFailure};

use super::EgressPolicy;

/// What the system's resolver reads. A link is followed once, now, and its target granted.
const RESOLVER_FILES: [&str; 7] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
];

/// Where the system's resolver finds its modules.
const LIBRARY_DIRS: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store"];

/// Confines this process.
pub(super) fn enter(
    policy: &EgressPolicy,
    layers: Layers,
    prepared: &Prepared,
) -> Result<(), SetupFailure> {
    let tie = Tie::to_launcher(prepared)?;
    lock_memory()?;
    if layers.contains(Layers::NO_NEW_PRIVS) {
        capabilities::gain_none()?;
    }
    if layers.contains(Layers::CAPABILITIES) {
        capabilities::drop_all()?;
    }
    if layers.contains(Layers::LIMITS) {
        limits::egress()?;
    }
    if layers.contains(Layers::LANDLOCK) {
        // In audit mode the ports are not known beforehand.
        let net = if policy.audit {
            Net::Free
        } else {
            Net::Handled
        };
        let mut domain = Domain::with_net(prepared.landlock_abi, net)?;
        for path in RESOLVER_FILES.iter().chain(&LIBRARY_DIRS) {
            grant(&mut domain, Path::new(path))?;
        }
        for port in policy.ports().into_iter().chain([DNS]) {
            domain.grant_port(port)?;
        }
        domain.enter()?;
    }
    tie.renew()?;
    drop(tie);
    if layers.contains(Layers::SECCOMP) {
        prepared.filters.enter_egress()?;
    }
    Ok(())
}

/// Grants reading of what is there. What is missing is not needed here.
fn grant(domain: &mut Domain, path: &Path) -> Result<(), SetupFailure> {
    let Ok(place) = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
        return Ok(());
    };
    let kind = fstat(&place).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::Directory) => domain.grant(place.as_fd(), Grant::READ),
        Ok(FileType::RegularFile) => domain.grant(place.as_fd(), Grant::READ_FILE),
        _ => Ok(()),
    }
}
