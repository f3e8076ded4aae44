//! The view of the file system at level l2: a small empty file system with the granted directories bound
//! into it, and nothing else there is.
//!
//! Everything is bound by handle, never by name: the handles were opened and compared with what was granted
//! before the first mount, so nobody can swap a source in between. All bindings are cloned before the new
//! root is attached, because attaching it hides a part of the old tree.
//!
//! Invariant: a path that is not below a granted directory does not exist after [`enter`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::spec::{Layers, OrFail, SetupFailure, Stage, WorkerSpec};
use crate::sys::{MountFlags, mount_set};

use super::Opened;

/// Where the working directory of a worker appears.
const WORKING_DIR: &str = "work";
/// Where its read-only roots appear, by number.
const ROOTS: &str = "roots";

// BOUND: the root holds a few empty directories.
const ROOT_OPTIONS: [(&str, &str); 3] = [("size", "256k"), ("nr_inodes", "1024"), ("mode", "0755")];

/// Builds the view of a worker, enters it, and returns handles inside it.
pub(super) fn worker(spec: &WorkerSpec, granted: Opened) -> Result<Opened, SetupFailure> {
    let sealed = MountFlags::NO_SUID | MountFlags::NO_DEV | MountFlags::NO_EXEC;
    let read_only = sealed | MountFlags::READ_ONLY;
    private()?;
    let working_dir = match &granted.working_dir {
        Some(dir) if spec.kind.writes() => Some(clone(dir, sealed)?),
        Some(dir) => Some(clone(dir, read_only)?),
        None => None,
    };
    let mut roots = Vec::new();
    for (name, dir) in &granted.roots {
        roots.push((name.clone(), clone(dir, read_only)?));
    }
    drop(granted);

    let root = NewRoot::attach(&ROOT_OPTIONS)?;
    let mut opened = Opened {
        working_dir: None,
        roots: Vec::new(),
    };
    if let Some(mount) = working_dir {
        let dir = root.bind_dir(WORKING_DIR, &mount)?;
        if spec.kind.writes() && spec.layers.contains(Layers::PROTECTED) {
            protect(&dir, &spec.protected)?;
        }
        opened.working_dir = Some(dir);
    }
    if !roots.is_empty() {
        root.make_dir(ROOTS)?;
    }
    for (number, (name, mount)) in roots.into_iter().enumerate() {
        let dir = root.bind_dir(&format!("{ROOTS}/{number}"), &mount)?;
        opened.roots.push((name, dir));
    }
    root.enter()?;
    Ok(opened)
}

/// Nothing that is mounted here is seen outside, and the other way round.
pub(crate) fn private() -> Result<(), SetupFailure> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .or_fail(Stage::MountView, "make all mounts private")
}

/// A detached copy of what is mounted at `dir` and below, with `flags` on every part of it.
pub(crate) fn clone(dir: impl AsFd, flags: MountFlags) -> Result<OwnedFd, SetupFailure> {
    let how = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = open_tree(dir, "", how)
        .or_fail(Stage::MountView, "clone the mount of a granted directory")?;
    mount_set(&mount, flags).or_fail(
        Stage::MountView,
        "restrict the mount of a granted directory",
    )?;
    Ok(mount)
}

/// A root that is attached somewhere and not yet entered.
#[derive(Debug)]
pub(crate) struct NewRoot {
    mount: OwnedFd,
}

impl NewRoot {
    /// Makes an empty file system in memory and attaches it where it does no harm: in this mount namespace
    /// nobody lives but this process.
    pub(crate) fn attach(options: &[(&str, &str)]) -> Result<Self, SetupFailure> {
        let mount = tmpfs(
            options,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
        )?;
        let staging = staging_place()?;
        attach(&mount, CWD, staging)?;
        Ok(Self { mount })
    }

    /// Makes a directory; its parent must exist.
    pub(crate) fn make_dir(&self, path: &str) -> Result<(), SetupFailure> {
        match mkdirat(&self.mount, path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(SetupFailure::system(
                Stage::MountView,
                &format!("make /{path}"),
                error,
            )),
        }
    }

    /// Attaches a mount at a new directory and opens that directory.
    pub(crate) fn bind_dir(&self, path: &str, mount: &OwnedFd) -> Result<OwnedFd, SetupFailure> {
        self.make_dir(path)?;
        attach(mount, self.mount.as_fd(), path)?;
        openat(
            &self.mount,
            path,
            PLACE.union(OFlags::DIRECTORY),
            Mode::empty(),
        )
        .or_fail(Stage::MountView, &format!("open /{path}"))
    }

    /// The handle of the root.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Makes this the root of the process and lets go of the old one.
    pub(crate) fn enter(self) -> Result<(), SetupFailure> {
        const STAGE: Stage = Stage::MountView;
        fchdir(&self.mount).or_fail(STAGE, "go to the new root")?;
        // With the same directory twice, the old root ends up on top of the new one and is then taken off.
        pivot_root(".", ".").or_fail(STAGE, "change the root")?;
        unmount(".", UnmountFlags::DETACH).or_fail(STAGE, "let go of the old root")?;
        chdir("/").or_fail(STAGE, "go to the root")?;
        // The root alone: what is bound below has its own flags.
        root_read_only(&self.mount)
    }
}

fn root_read_only(root: &OwnedFd) -> Result<(), SetupFailure> {
    crate::sys::mount_set_one(root, MountFlags::READ_ONLY)
        .or_fail(Stage::MountView, "make the new root read-only")
}

/// An empty file system in memory.
pub(crate) fn tmpfs(
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> Result<OwnedFd, SetupFailure> {
    const STAGE: Stage = Stage::MountView;
    let context =
        fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).or_fail(STAGE, "make an empty file system")?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)
            .or_fail(STAGE, &format!("set {key}={value}"))?;
    }
    fsconfig_create(context.as_fd()).or_fail(STAGE, "create an empty file system")?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
        .or_fail(STAGE, "mount an empty file system")
}

/// Attaches a mount at a path that is not followed if it is a link.
pub(crate) fn attach(mount: impl AsFd, at: BorrowedFd<'_>, path: &str) -> Result<(), SetupFailure> {
    move_mount(mount, "", at, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .or_fail(Stage::MountView, &format!("attach a mount at {path}"))
}

/// Attaches a mount on what a handle names.
pub(crate) fn attach_on(mount: impl AsFd, on: impl AsFd) -> Result<(), SetupFailure> {
    let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", on, "", how).or_fail(Stage::MountView, "attach a mount on a directory")
}

/// A directory that the new root can be attached to.
fn staging_place() -> Result<&'static str, SetupFailure> {
    const PLACES: [&str; 8] = [
        "/tmp", "/run", "/var", "/mnt", "/dev", "/proc", "/usr", "/etc",
    ];
    let is_dir = |path: &&str| {
        statat(CWD, *path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    PLACES.into_iter().find(is_dir).ok_or_else(|| {
        SetupFailure::refused(
            Stage::MountView,
            "the root of this host has no directory to mount on",
        )
    })
}

/// Makes `paths` below `dir` read-only and keeps them where they are.
///
/// A path whose first component is missing is created if it has just that one component (so that `.otto`
/// cannot be made by an agent where none was) and skipped otherwise (a directory without `.git` is no
/// repository). Where a deeper component is missing, the deepest directory there is becomes read-only, so
/// that the missing one cannot be created either. Every directory on the way becomes a mount of its own:
/// otherwise it could be renamed away and a new one put in its place.
pub(crate) fn protect(dir: impl AsFd, paths: &[String]) -> Result<(), SetupFailure> {
    for path in paths {
        protect_one(dir.as_fd(), path)?;
    }
    Ok(())
}

fn protect_one(dir: BorrowedFd<'_>, path: &str) -> Result<(), SetupFailure> {
    let components: Vec<&str> = path.split('/').collect();
    let mut here: Option<OwnedFd> = None;
    for (index, component) in components.iter().enumerate() {
        let at = here.as_ref().map_or(dir, AsFd::as_fd);
        let is_last = index + 1 == components.len();
        let found = match open_place(at, component) {
            Err(Errno::NOENT) if index == 0 && is_last => {
                match mkdirat(at, *component, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    // Who may not create it now may not create it later either.
                    Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => return Ok(()),
                    Err(error) => {
                        return Err(SetupFailure::system(
                            Stage::MountView,
                            &format!("create {component}"),
                            error,
                        ));
                    }
                }
                open_place(at, component)
            }
            Err(Errno::NOENT) if index == 0 => return Ok(()),
            Err(Errno::NOENT) => return seal(at),
            other => other,
        };
        let found = found.or_fail(Stage::MountView, &format!("open the protected path {path}"))?;
        let kind = fstat(&found).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind.or_fail(
            Stage::MountView,
            &format!("look at the protected path {path}"),
        )? {
            FileType::Symlink => {
                return Err(SetupFailure::refused(
                    Stage::Directories,
                    format!(
                        "{path} in the working directory is or goes through a link, so it cannot be protected; \
                         replace the link by what it leads to"
                    ),
                ));
            }
            FileType::Directory if !is_last => here = Some(pin(at, component, &found)?),
            // A file where a directory was expected: nothing can be below it, and it must not be replaced.
            _ => return seal(found.as_fd()),
        }
    }
    Ok(())
}

/// Makes a directory a mount of its own, so that it cannot be renamed or removed, and opens it anew.
fn pin(at: BorrowedFd<'_>, name: &str, found: &OwnedFd) -> Result<OwnedFd, SetupFailure> {
    let mount = clone(found, MountFlags::NONE)?;
    attach_on(&mount, found)?;
    open_place(at, name).or_fail(Stage::MountView, &format!("open {name}"))
}

/// Makes what a handle names, and everything below, read-only.
fn seal(found: BorrowedFd<'_>) -> Result<(), SetupFailure> {
    let mount = clone(found, MountFlags::READ_ONLY)?;
    attach_on(&mount, found)
}

fn open_place(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(at, name, PLACE.union(OFlags::NOFOLLOW), Mode::empty(), how)
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
