//! The file system that a program finds: the system's programs and libraries, the toolchains of the
//! operator, the working directory, and private places for temporary files. No home, no settings of users,
//! no sockets of services.
//!
//! The working directory and the toolchains appear at their own paths, so that what a program prints and
//! caches is true outside as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, readlinkat,
    statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::confine::namespaces::Ids;
use crate::confine::view::{NewRoot, attach, attach_on, clone, private, protect, tmpfs};
use crate::spec::{ExecSpec, Layers, OrFail, SetupFailure, Stage};
use crate::sys::MountFlags;

const STAGE: Stage = Stage::MountView;

/// Directories of the system that hold programs and libraries.
pub(super) const SYSTEM_DIRS: [&str; 9] = [
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "nix/store",
    "gnu/store",
];

/// What programs need of `/etc`. Accounts are not among it: the few that are asked for are made up.
pub(super) const SYSTEM_SETTINGS: [&str; 14] = [
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// A granted directory: where it is, what is bound, and how.
struct Bind {
    path: PathBuf,
    mount: OwnedFd,
    is_working_dir: bool,
}

/// Builds the view and enters it.
pub(super) fn enter(spec: &ExecSpec, working_dir: OwnedFd, ids: Ids) -> Result<(), SetupFailure> {
    let writable = MountFlags::NO_SUID | MountFlags::NO_DEV;
    let read_only = writable | MountFlags::READ_ONLY;
    private()?;

    // Everything is cloned before the new root hides a part of the old tree.
    let system = clone_all("/", &SYSTEM_DIRS, read_only)?;
    let settings = clone_all("/etc", &SYSTEM_SETTINGS, read_only)?;
    let devices = clone_all("/dev", &DEVICES, MountFlags::NO_SUID | MountFlags::NO_EXEC)?;
    let mut binds = vec![Bind {
        path: spec.working_dir.path.to_path(),
        mount: clone(&working_dir, writable)?,
        is_working_dir: true,
    }];
    drop(working_dir);
    for (paths, flags) in [(&spec.read_only, read_only), (&spec.writable, writable)] {
        for path in paths {
            let path = path.to_path();
            if !is_of_system(&path) {
                let dir = open(
                    &path,
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .or_fail(
                    Stage::Directories,
                    &format!(
                        "open {}, which the operator lists for programs",
                        path.display()
                    ),
                )?;
                binds.push(Bind {
                    path,
                    mount: clone(dir, flags)?,
                    is_working_dir: false,
                });
            }
        }
    }
    // What lies inside another directory comes after it, or it would be hidden.
    binds.sort_by_key(|bind| bind.path.components().count());

    let root = NewRoot::attach(&[("size", "4m"), ("nr_inodes", "4096"), ("mode", "0755")])?;
    place_all(&root, "", system)?;
    root.make_dir("etc")?;
    place_all(&root, "etc/", settings)?;
    accounts(&root, ids)?;
    dev(&root, devices, spec)?;
    temporary(&root, spec)?;
    proc(&root)?;
    for bind in &binds {
        let at = make_path(&root, &bind.path)?;
        attach_on(&bind.mount, &at)?;
        if bind.is_working_dir && spec.layers.contains(Layers::PROTECTED) {
            let inside = open_in(&root, &bind.path)?;
            protect(&inside, &spec.protected)?;
        }
    }
    root.enter()
}

/// Whether a path is below what is there anyway.
fn is_of_system(path: &Path) -> bool {
    path.strip_prefix("/")
        .is_ok_and(|rest| SYSTEM_DIRS.iter().any(|dir| rest.starts_with(dir)))
}

/// One entry of the old tree, ready for the new one.
enum Entry {
    Dir(OwnedFd),
    File(OwnedFd),
    Link(std::ffi::CString),
}

fn clone_all(
    base: &str,
    names: &'static [&'static str],
    flags: MountFlags,
) -> Result<Vec<(&'static str, Entry)>, SetupFailure> {
    let base = match open(
        base,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(base) => base,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(SetupFailure::system(STAGE, &format!("open {base}"), error)),
    };
    let mut entries = Vec::new();
    for name in names {
        let Ok(stat) = statat(&base, *name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let entry = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Entry::Link(
                readlinkat(&base, *name, Vec::new())
                    .or_fail(STAGE, &format!("read the link {name}"))?,
            ),
            kind => {
                let handle = openat(
                    &base,
                    *name,
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .or_fail(STAGE, &format!("open {name}"))?;
                let mount = clone(handle, flags)?;
                if kind == FileType::Directory {
                    Entry::Dir(mount)
                } else {
                    Entry::File(mount)
                }
            }
        };
        entries.push((*name, entry));
    }
    Ok(entries)
}

fn place_all(
    root: &NewRoot,
    prefix: &str,
    entries: Vec<(&'static str, Entry)>,
) -> Result<(), SetupFailure> {
    for (name, entry) in entries {
        let path = format!("{prefix}{name}");
        if let Some((parents, _)) = path.rsplit_once('/') {
            make_path(root, &Path::new("/").join(parents))?;
        }
        match entry {
            Entry::Dir(mount) => drop(root.bind_dir(&path, &mount)?),
            Entry::File(mount) => {
                make_file(root, &path, b"")?;
                attach(&mount, root.handle(), &path)?;
            }
            Entry::Link(target) => {
                symlinkat(target.as_c_str(), root.handle(), path.as_str())
                    .or_fail(STAGE, &format!("make the link /{path}"))?;
            }
        }
    }
    Ok(())
}

fn make_file(root: &NewRoot, path: &str, content: &[u8]) -> Result<(), SetupFailure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let what = format!("make the file /{path}");
    let file =
        openat(root.handle(), path, flags, Mode::from_raw_mode(0o644)).or_fail(STAGE, &what)?;
    std::io::Write::write_all(&mut std::fs::File::from(file), content).or_fail(STAGE, &what)
}

/// The user that exists here, and the names that programs look up.
fn accounts(root: &NewRoot, ids: Ids) -> Result<(), SetupFailure> {
    let Ids { uid, gid } = ids;
    let name = if uid == 0 { "root" } else { "otto" };
    make_file(
        root,
        "etc/passwd",
        format!("{name}:x:{uid}:{gid}::/tmp:/bin/sh\n").as_bytes(),
    )?;
    make_file(root, "etc/group", format!("{name}:x:{gid}:\n").as_bytes())?;
    make_file(root, "etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
}

fn dev(
    root: &NewRoot,
    devices: Vec<(&'static str, Entry)>,
    spec: &ExecSpec,
) -> Result<(), SetupFailure> {
    root.make_dir("dev")?;
    place_all(root, "dev/", devices)?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlinkat(target, root.handle(), format!("dev/{name}").as_str())
            .or_fail(STAGE, &format!("make the link /dev/{name}"))?;
    }
    root.bind_dir("dev/shm", &memory(spec)?).map(drop)
}

fn temporary(root: &NewRoot, spec: &ExecSpec) -> Result<(), SetupFailure> {
    root.bind_dir("tmp", &memory(spec)?)?;
    root.make_dir("run")?;
    root.make_dir("var")?;
    symlinkat("/tmp", root.handle(), "var/tmp").or_fail(STAGE, "make the link /var/tmp")
}

/// A private place in memory that everyone inside may write to.
fn memory(spec: &ExecSpec) -> Result<OwnedFd, SetupFailure> {
    let size = spec.limits.tmp_bytes.to_string();
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    tmpfs(&[("size", &size), ("mode", "1777")], flags)
}

/// The processes of this sandbox, read-only as a whole: uid 0 owns files in there that steer the machine.
fn proc(root: &NewRoot) -> Result<(), SetupFailure> {
    let what = "mount /proc of the sandbox";
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).or_fail(STAGE, what)?;
    fsconfig_create(context.as_fd()).or_fail(STAGE, what)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount =
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).or_fail(STAGE, what)?;
    root.bind_dir("proc", &mount).map(drop)
}

/// Makes every directory of an absolute path in the new root that is not there, through no link.
fn make_path(root: &NewRoot, path: &Path) -> Result<OwnedFd, SetupFailure> {
    let mut here: Option<OwnedFd> = None;
    for component in path.components() {
        let name = match component {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(SetupFailure::refused(
                    STAGE,
                    format!("{} is not a plain absolute path", path.display()),
                ));
            }
        };
        let at = here.as_ref().map_or(root.handle(), AsFd::as_fd);
        let next = match open_dir(at, name.as_ref()) {
            Err(Errno::NOENT) => {
                mkdirat(at, name, Mode::from_raw_mode(0o755)).or_fail(
                    STAGE,
                    &format!("make the directory {} for a mount", path.display()),
                )?;
                open_dir(at, name.as_ref())
            }
            other => other,
        };
        here = Some(next.or_fail(
            STAGE,
            &format!("open the directory {} for a mount", path.display()),
        )?);
    }
    here.ok_or_else(|| SetupFailure::refused(STAGE, "the root cannot be granted to programs"))
}

fn open_in(root: &NewRoot, path: &Path) -> Result<OwnedFd, SetupFailure> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    open_dir(root.handle(), relative)
        .or_fail(STAGE, &format!("open {} in the new view", path.display()))
}

fn open_dir(at: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(at, path, flags, Mode::empty(), how)
}

/// The directories that a program may change, beside its own.
pub(super) const PRIVATE_DIRS: [&str; 2] = ["/tmp", "/dev/shm"];

/// A handle of a path in the current view, if it is there.
pub(super) fn place(path: &Path) -> Option<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}
