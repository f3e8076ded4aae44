//! Confining the process this code runs in: one step per file, and the order of the steps.
//!
//! The order is forced by the kernel: identity maps before Landlock (writing them opens files), mounts
//! before the capabilities go (mounting needs them) and before Landlock (a domain may not mount), seccomp
//! last (it takes away the calls that the other steps are made of).
//!
//! Everything here runs in a process that has just been copied from the launcher and has one thread. It
//! fails closed: any error ends the process before it has read a byte of work.
//!
//! Invariant: when a function here returns `Ok`, the layer is enforced by the kernel, not requested.

pub(crate) mod capabilities;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod namespaces;
pub(crate) mod seccomp;
mod tie;
pub(crate) mod view;

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fstat, openat2, statat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::spec::{Identity, Layers, OrFail, PinnedDir, SetupFailure, Stage, WorkerSpec};

use self::landlock::{Domain, Grant};
use self::namespaces::Ids;
use self::seccomp::Filters;
pub(crate) use self::tie::{Tie, own_number};

/// What the launcher worked out once, for every process that is copied from it.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The filters, compiled.
    pub(crate) filters: Filters,
    /// The version of Landlock here; 0 when there is none.
    pub(crate) landlock_abi: i32,
    /// Who Otto runs as, seen from outside any namespace.
    pub(crate) ids: Ids,
    /// The number of the launcher.
    pub(crate) launcher: u32,
}

/// The directories of a confined worker.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) working_dir: Option<OwnedFd>,
    pub(crate) roots: Vec<(String, OwnedFd)>,
}

/// Confines this process as a worker.
pub(crate) fn worker(
    spec: &WorkerSpec,
    prepared: &Prepared,
) -> Result<(Opened, i32), SetupFailure> {
    let in_namespaces = spec.layers.contains(Layers::NAMESPACES);
    if in_namespaces {
        namespaces::map(prepared.ids)?;
    }
    let tie = Tie::to_launcher(prepared)?;
    let real = open_granted(spec)?;
    let opened = if in_namespaces {
        view::worker(spec, real)?
    } else {
        without_view(spec, real)?
    };
    lock_memory()?;
    if spec.layers.contains(Layers::NO_NEW_PRIVS) {
        capabilities::gain_none()?;
    }
    if spec.layers.contains(Layers::CAPABILITIES) {
        capabilities::drop_all()?;
    }
    if spec.layers.contains(Layers::LIMITS) {
        limits::worker()?;
    }
    let mut enforced = 0;
    if spec.layers.contains(Layers::LANDLOCK) {
        let mut domain = Domain::new(prepared.landlock_abi)?;
        if let Some(dir) = &opened.working_dir {
            domain.grant(dir.as_fd(), Grant::worker(spec.kind))?;
        }
        for (_, dir) in &opened.roots {
            domain.grant(dir.as_fd(), Grant::READ)?;
        }
        enforced = domain.enter()?;
    }
    // Dropping capabilities clears it, so it is set once more.
    tie.renew()?;
    drop(tie);
    if spec.layers.contains(Layers::SECCOMP) {
        prepared.filters.enter_worker(spec.kind)?;
    }
    Ok((opened, enforced))
}

/// No other process of this user may read or trace this one, and it leaves no core file.
pub(crate) fn lock_memory() -> Result<(), SetupFailure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .or_fail(Stage::Limits, "make the process not dumpable")
}

/// Opens the directory that `pinned` names, through no link, and makes sure that it is still the same one.
pub(crate) fn open_pinned(pinned: &PinnedDir) -> Result<OwnedFd, SetupFailure> {
    let path = pinned.path.to_path();
    let what = format!("open {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(CWD, &path, flags, Mode::empty(), how).or_fail(Stage::Directories, &what)?;
    if identity(&fd).or_fail(Stage::Directories, &what)? != pinned.identity {
        return Err(SetupFailure::refused(
            Stage::Directories,
            format!(
                "{} is no longer the directory that was granted; restart or reload the agent",
                path.display()
            ),
        ));
    }
    Ok(fd)
}

/// Which file or directory a handle names.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_lossless,
    reason = "the widths of these fields differ between platforms"
)]
pub(crate) fn identity(fd: impl AsFd) -> Result<Identity, Errno> {
    let stat = fstat(fd)?;
    Ok(Identity {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    })
}

fn open_granted(spec: &WorkerSpec) -> Result<Opened, SetupFailure> {
    let files = spec.kind.reads() || spec.kind.writes();
    let working_dir = match &spec.working_dir {
        Some(pinned) if files => Some(open_pinned(pinned)?),
        _ => None,
    };
    let mut roots = Vec::new();
    if spec.kind.reads() {
        for (name, pinned) in &spec.roots {
            roots.push((name.clone(), open_pinned(pinned)?));
        }
    }
    Ok(Opened { working_dir, roots })
}

/// Without a mount view nothing can be taken out of a directory that may be changed: Landlock knows only
/// "everything below". So a directory that holds Otto's own settings is not given out for writing at all.
fn without_view(spec: &WorkerSpec, opened: Opened) -> Result<Opened, SetupFailure> {
    if !spec.layers.contains(Layers::PROTECTED) {
        return Ok(opened);
    }
    if let (Some(dir), true) = (&opened.working_dir, spec.kind.writes()) {
        refuse_protected(dir, &spec.protected)?;
    }
    Ok(opened)
}

/// Refuses a working directory that holds a protected path. `.git` is left to the tools, which refuse the name:
/// nearly every directory that is worth writing to has one.
pub(crate) fn refuse_protected(
    working_dir: impl AsFd,
    protected: &[String],
) -> Result<(), SetupFailure> {
    for path in protected
        .iter()
        .filter(|path| path.split('/').next() != Some(".git"))
    {
        match statat(&working_dir, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => {
                let what = format!("look for the protected path {path} in the working directory");
                return Err(SetupFailure::system(Stage::Directories, &what, error));
            }
            Ok(_) => {
                return Err(SetupFailure::refused(
                    Stage::Directories,
                    format!(
                        "the working directory holds `{path}`, and this host cannot protect a part of a directory \
                         (level l1); give the agent a subdirectory as its working directory, or run Otto where user \
                         namespaces are allowed"
                    ),
                ));
            }
        }
    }
    Ok(())
}
