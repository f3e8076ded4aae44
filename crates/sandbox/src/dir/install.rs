//! The last step of a write: the new file takes the name, the old content becomes the backup.
//!
//! Both names are swapped in one system call, so the target always shows the whole old or the whole new
//! content, and what comes out of the swap is looked at before it is accepted. Otto's own writers lock the
//! file that they replace, so no two of them replace the same version. A program that does not lock can still
//! step in between; then the swap is undone, and whatever belongs to somebody else stays.
//!
//! Invariant: content that somebody else wrote is never removed, except as the backup setting says.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, Stat, flock, fstat, renameat,
    renameat_with, statat,
};
use rustix::io::Errno;

use super::write::{Backup, TempFile, WriteOptions, Written, existing, replaceable};
use super::{Dir, DirError, FileStamp};

// BOUND: how often the target may appear, vanish or be replaced by others before the write gives up.
const MAX_INSTALL_TRIES: u32 = 1_000;

// BOUND: how long another program may hold the lock of the file: 200 times one millisecond.
const MAX_LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

// BOUND: numbered backups of one file; the last one is replaced from then on.
const MAX_NUMBERED_BACKUPS: u32 = 9;

/// Puts the new file in place of `name`.
pub(super) fn install(
    temp: &TempFile<'_>,
    name: &str,
    options: WriteOptions<'_>,
) -> Result<Written, DirError> {
    let parent = temp.parent;
    let done = |replaced, backup| Written {
        unchanged: false,
        replaced,
        backup,
        created_dirs: 0,
    };
    for _ in 0..MAX_INSTALL_TRIES {
        let Some(_) = existing(parent, name)? else {
            if options.expected.is_some() {
                return Err(DirError::Changed);
            }
            match create(temp, name) {
                Ok(()) => return Ok(done(false, None)),
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(DirError::of_strict(errno)),
            }
        };
        let lock = Lock::take(parent, name, options)?;
        // Whoever held the lock before may have replaced the file that is locked now.
        let Some(old) = existing(parent, name)? else {
            continue;
        };
        match options.expected {
            Some(expected) if FileStamp::of(&old) != expected.stamp => {
                return Err(DirError::Changed);
            }
            None if !lock.is_of(&old) => continue,
            _ => {}
        }
        match swap(temp, name) {
            Ok(()) => return accept(temp, name, options).map(|backup| done(true, backup)),
            Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let backup = replace_with_copy(temp, name, &old, options.backup)?;
                return Ok(done(true, backup));
            }
            Err(errno) => return Err(DirError::of_strict(errno)),
        }
    }
    Err(DirError::Unstable)
}

/// The lock of the file that is to be replaced, for Otto's writers among each other. Gone when dropped.
enum Lock<'a> {
    /// The file that the caller has open.
    Theirs(&'a File),
    /// The file that was opened to lock it.
    Own(File),
    /// The file could not be opened or locks are not to be had: then nobody is kept out, and the look at what
    /// the swap brings out has to do.
    None,
}

impl<'a> Lock<'a> {
    fn take(parent: &Dir, name: &str, options: WriteOptions<'a>) -> Result<Self, DirError> {
        if let Some(expected) = options.expected {
            return Self::Theirs(&expected.file).wait();
        }
        let open = |access: OFlags| {
            let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            parent.open_beneath(name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        };
        // A worker that may only write cannot open for reading; nothing is written through this handle.
        match open(OFlags::RDONLY).or_else(|_| open(OFlags::WRONLY)) {
            Ok(fd) => Self::Own(File::from(fd)).wait(),
            Err(_) => Ok(Self::None),
        }
    }

    fn file(&self) -> Option<&File> {
        match self {
            Self::Theirs(file) => Some(file),
            Self::Own(file) => Some(file),
            Self::None => None,
        }
    }

    fn wait(self) -> Result<Self, DirError> {
        let Some(file) = self.file() else {
            return Ok(self);
        };
        for _ in 0..MAX_LOCK_TRIES {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(self),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                Err(Errno::INTR) => {}
                // No locks on this file system, or none for this process.
                Err(_) => return Ok(Self::None),
            }
        }
        Err(DirError::Locked)
    }

    /// Whether the locked file is the one that `stat` tells of. Without a lock there is nothing to compare.
    fn is_of(&self, stat: &Stat) -> bool {
        self.file()
            .is_none_or(|file| fstat(file).is_ok_and(|locked| same_file(&locked, stat)))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // The file of the caller stays open, so its lock would stay as well.
        if let Some(file) = self.file() {
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

fn same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn create(temp: &TempFile<'_>, name: &str) -> Result<(), Errno> {
    let parent = temp.parent;
    match renameat_with(
        parent,
        temp.name.as_c_str(),
        parent,
        name,
        RenameFlags::NOREPLACE,
    ) {
        Err(Errno::INVAL | Errno::NOSYS) => renameat(parent, temp.name.as_c_str(), parent, name)?,
        other => other?,
    }
    temp.give_away();
    Ok(())
}

fn swap(temp: &TempFile<'_>, name: &str) -> Result<(), Errno> {
    renameat_with(
        temp.parent,
        temp.name.as_c_str(),
        temp.parent,
        name,
        RenameFlags::EXCHANGE,
    )
}

/// Keeps what the swap brought out as the backup, or undoes the swap.
fn accept(
    temp: &TempFile<'_>,
    name: &str,
    options: WriteOptions<'_>,
) -> Result<Option<String>, DirError> {
    let verdict = acceptable(temp, options).and_then(|()| keep_backup(temp, name, options.backup));
    let Err(error) = verdict else { return verdict };
    let undone = swap(temp, name).is_ok();
    // After the second swap the temporary name should hold the new file again. If it does not, somebody
    // was faster, and what it holds is theirs.
    let ours = statat(temp.parent, temp.name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|now| fstat(&temp.file).map(|new| same_file(&now, &new)))
        .unwrap_or(false);
    if undone && ours {
        return Err(error);
    }
    temp.give_away();
    Err(DirError::Unstable)
}

/// Looks at what the swap brought out: it may not be what stood there a moment before.
fn acceptable(temp: &TempFile<'_>, options: WriteOptions<'_>) -> Result<(), DirError> {
    let out = statat(temp.parent, temp.name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(DirError::of_strict)?;
    replaceable(&out)?;
    match options.expected {
        Some(expected) if FileStamp::of(&out) != expected.stamp => Err(DirError::Changed),
        _ => Ok(()),
    }
}

/// Gives the temporary name, which holds old content, the name of a backup.
fn keep_backup(
    temp: &TempFile<'_>,
    name: &str,
    backup: Backup,
) -> Result<Option<String>, DirError> {
    let parent = temp.parent;
    let target = match backup {
        Backup::Off => return Ok(None),
        Backup::Last => numbered(name, 1),
        Backup::Numbered => {
            for number in 1..MAX_NUMBERED_BACKUPS {
                let target = numbered(name, number);
                match renameat_with(
                    parent,
                    temp.name.as_c_str(),
                    parent,
                    &target,
                    RenameFlags::NOREPLACE,
                ) {
                    Ok(()) => {
                        temp.give_away();
                        return Ok(Some(target));
                    }
                    Err(Errno::EXIST) => {}
                    Err(_) => return Err(DirError::NoBackup),
                }
            }
            numbered(name, MAX_NUMBERED_BACKUPS)
        }
    };
    renameat(parent, temp.name.as_c_str(), parent, &target).map_err(|_| DirError::NoBackup)?;
    temp.give_away();
    Ok(Some(target))
}

fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        format!("{name}.bak")
    } else {
        format!("{name}.bak.{number}")
    }
}

/// For file systems that cannot swap two names: the backup is a flushed copy, made before the rename.
fn replace_with_copy(
    temp: &TempFile<'_>,
    name: &str,
    old: &Stat,
    backup: Backup,
) -> Result<Option<String>, DirError> {
    let parent = temp.parent;
    let kept = if backup == Backup::Off {
        None
    } else {
        let entry = CString::new(name).map_err(|_| DirError::HasNul)?;
        let mut content = Vec::new();
        let file = parent.open_entry(&entry)?.file;
        file.take(FileStamp::of(old).size)
            .read_to_end(&mut content)
            .map_err(|error| DirError::of_io(&error))?;
        let copy = TempFile::create(parent, Some(old))?;
        copy.fill(&content)?;
        keep_backup(&copy, name, backup)?
    };
    renameat(parent.as_fd(), temp.name.as_c_str(), parent.as_fd(), name)
        .map_err(DirError::of_strict)?;
    temp.give_away();
    Ok(kept)
}
