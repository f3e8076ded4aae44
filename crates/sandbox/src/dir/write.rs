//! Replacing a file as a whole: atomic, durable, with a backup.
//!
//! The new content goes to a temporary file in the same directory (`O_EXCL`, random name), is flushed to the
//! disk, and is then swapped with the old file in one step, so that the name always shows either the old or
//! the new content. The old content, now under the temporary name, becomes the backup. Last, the directory
//! is flushed. Whatever fails, the temporary file is removed and the old file is still there.
//!
//! A write follows no link, creates nothing with a protected name, replaces only a regular file with one
//! name, and never widens the mode of a file.
//!
//! Invariant: at every moment the target name holds the whole old or the whole new content.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::ffi::CString;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, fsync, mkdirat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::install::install;
use super::{
    Access, Dir, DirError, FileStamp, MAX_DEPTH, OpenFile, SCAN, check_text, is_protected_name,
    kind_word,
};

// BOUND: a name is taken only if 64 random bits collide or somebody plants them; then it ends in an error.
const MAX_TEMP_TRIES: u32 = 16;

// BOUND: NAME_MAX of Linux file systems.
const MAX_NAME_BYTES: usize = 255;

/// What happens to the content that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backup {
    /// It is kept as `NAME.bak`; an older `NAME.bak` is replaced.
    #[default]
    Last,
    /// It is kept as `NAME.bak`, `NAME.bak.2` up to `NAME.bak.9`, whichever is free; then the last is replaced.
    Numbered,
    /// It is dropped.
    Off,
}

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions<'a> {
    /// What happens to the old content.
    pub backup: Backup,
    /// Replace only this version of the file; anything else is [`DirError::Changed`]. The file is still open,
    /// so no other file can have taken its inode number since.
    pub expected: Option<&'a OpenFile>,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Whether the file had exactly this content already, so that nothing was done.
    pub unchanged: bool,
    /// Whether a file was there before.
    pub replaced: bool,
    /// The name of the backup, in the same directory.
    pub backup: Option<String>,
    /// Directories that were created on the way.
    pub created_dirs: usize,
}

impl Dir {
    /// Writes a file as a whole. Missing directories on the way are created.
    ///
    /// # Errors
    /// [`DirError`]; the old file, if any, is unchanged then. Only when flushing the directory fails after
    /// the swap the new content is in place and still reported as an error, since it may not survive a crash.
    pub fn write_atomic(
        &self,
        path: &str,
        content: &[u8],
        options: WriteOptions<'_>,
    ) -> Result<Written, DirError> {
        if self.access == Access::ReadOnly {
            return Err(DirError::ReadOnly);
        }
        let components = match plain_components(path) {
            Err(DirError::Climbs) => return Err(self.refusal(path)),
            other => other?,
        };
        let Some((name, parents)) = components.split_last() else {
            return Err(DirError::IsADirectory);
        };
        if options.backup != Backup::Off && name.len() + ".bak.9".len() > MAX_NAME_BYTES {
            return Err(DirError::TooLong);
        }
        let (parent, created_dirs) = self.make_parents(parents)?;
        let parent = parent.as_ref().unwrap_or(self);
        // Refused before any byte is written, for an error that costs nothing; looked at again at the swap.
        let present = existing(parent, name)?;
        if let (Some(expected), found) = (options.expected, present.as_ref())
            && found.is_none_or(|stat| FileStamp::of(stat) != expected.stamp)
        {
            return Err(DirError::Changed);
        }
        if present.is_some() && options.expected.is_none() && parent.holds(name, content) {
            parent.flush()?;
            return Ok(Written {
                unchanged: true,
                replaced: true,
                backup: None,
                created_dirs,
            });
        }
        let temp = TempFile::create(parent, present.as_ref())?;
        temp.fill(content)?;
        let mut written = install(&temp, name, options)?;
        parent.flush()?;
        written.created_dirs = created_dirs;
        Ok(written)
    }

    /// Opens the directory of a file, creating what is missing. `None` stands for this directory itself.
    fn make_parents(&self, components: &[&str]) -> Result<(Option<Self>, usize), DirError> {
        let mut created = 0;
        let mut here: Option<Self> = None;
        for component in components {
            let at = here.as_ref().unwrap_or(self);
            let next = match at.open_place(component) {
                Err(Errno::NOENT) => {
                    match mkdirat(at, *component, Mode::from_raw_mode(0o777)) {
                        Ok(()) => {
                            created += 1;
                            // The new directory's entry must survive a crash as well.
                            at.flush()?;
                        }
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(DirError::of_strict(errno)),
                    }
                    at.open_place(component)
                }
                other => other,
            };
            here = Some(next.map_err(DirError::of_strict)?);
        }
        Ok((here, created))
    }

    /// Whether the file already has this content, as far as we may look: without the right to read it is
    /// written again, which is as good.
    fn holds(&self, name: &str, content: &[u8]) -> bool {
        let Some(open) = CString::new(name)
            .ok()
            .and_then(|name| self.open_entry(&name).ok())
        else {
            return false;
        };
        let size = content.len() as u64;
        if open.stamp.size != size {
            return false;
        }
        let mut present = Vec::with_capacity(content.len());
        open.file.take(size + 1).read_to_end(&mut present).is_ok() && present == content
    }

    fn open_place(&self, name: &str) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = self.open_beneath(name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        Ok(Self {
            fd,
            access: self.access,
            scannable: false,
        })
    }

    /// Makes names in this directory durable.
    fn flush(&self) -> Result<(), DirError> {
        let fd = match self.open_beneath(".", SCAN, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => fd,
            // A worker without the right to read cannot open a directory to flush it. The names reach the
            // disk with the file system's next commit, a few seconds later; the content is there already.
            Err(Errno::ACCESS | Errno::PERM) => return Ok(()),
            Err(errno) => return Err(DirError::of(errno)),
        };
        match fsync(&fd) {
            // Some file systems cannot flush a directory and say so.
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(DirError::of(errno)),
        }
    }
}

/// The components of a path to be written, without `.` and `..`. Taking `..` away by text is exact here,
/// because a write follows no link; climbing above the directory is refused.
fn plain_components(path: &str) -> Result<Vec<&str>, DirError> {
    check_text(path)?;
    if path.starts_with('/') {
        return Err(DirError::Climbs);
    }
    if path.chars().any(char::is_control) {
        return Err(DirError::HasControl);
    }
    if path.ends_with('/') {
        return Err(DirError::IsADirectory);
    }
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop().ok_or(DirError::Climbs)?;
            }
            name if is_protected_name(name) => return Err(DirError::Protected),
            name if name.len() > MAX_NAME_BYTES => return Err(DirError::TooLong),
            name => components.push(name),
        }
        if components.len() > MAX_DEPTH {
            return Err(DirError::TooLong);
        }
    }
    Ok(components)
}

/// What is there now, if it may be replaced.
pub(super) fn existing(parent: &Dir, name: &str) -> Result<Option<Stat>, DirError> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => replaceable(&stat).map(|()| Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(DirError::of_strict(errno)),
    }
}

pub(super) fn replaceable(stat: &Stat) -> Result<(), DirError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => match FileStamp::of(stat).links {
            0 | 1 => Ok(()),
            links => Err(DirError::HardLinked(links)),
        },
        FileType::Directory => Err(DirError::IsADirectory),
        FileType::Symlink => Err(DirError::ThroughLink),
        other => Err(DirError::NotRegular(kind_word(other))),
    }
}

/// A temporary file that removes itself unless its name was given away.
pub(super) struct TempFile<'a> {
    pub(super) parent: &'a Dir,
    pub(super) name: CString,
    pub(super) file: File,
    owned: Cell<bool>,
}

impl<'a> TempFile<'a> {
    pub(super) fn create(parent: &'a Dir, like: Option<&Stat>) -> Result<Self, DirError> {
        // The permission bits of the old file and nothing above them: no set-uid, no sticky bit.
        let mode = Mode::from_raw_mode(like.map_or(0o666, |stat| stat.st_mode & 0o777));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..MAX_TEMP_TRIES {
            let name = temp_name();
            match parent.open_beneath(name.as_c_str(), flags, mode, ResolveFlags::NO_SYMLINKS) {
                Ok(fd) => {
                    let temp = Self {
                        parent,
                        name,
                        file: File::from(fd),
                        owned: Cell::new(true),
                    };
                    if like.is_some() {
                        temp.keep_mode(mode);
                    }
                    return Ok(temp);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(DirError::of_strict(errno)),
            }
        }
        Err(DirError::Unstable)
    }

    /// Gives back what the process's umask took away. A worker may not be allowed to; the file is then
    /// narrower than before, never wider.
    fn keep_mode(&self, mode: Mode) {
        if fstat(&self.file).is_ok_and(|stat| stat.st_mode & 0o777 != mode.as_raw_mode()) {
            let _ = fchmod(&self.file, mode);
        }
    }

    pub(super) fn fill(&self, content: &[u8]) -> Result<(), DirError> {
        (&self.file)
            .write_all(content)
            .map_err(|error| DirError::of_io(&error))?;
        // A flush that fails has thrown the data away; a second one would succeed and prove nothing.
        fsync(&self.file).map_err(DirError::of)
    }

    /// The temporary name no longer belongs to this value: it was renamed, or holds what is not ours.
    pub(super) fn give_away(&self) {
        self.owned.set(false);
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if self.owned.get() {
            let _ = unlinkat(self.parent, self.name.as_c_str(), AtFlags::empty());
        }
    }
}

fn temp_name() -> CString {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let random = RandomState::new().hash_one(COUNTER.fetch_add(1, Ordering::Relaxed));
    CString::new(format!(".otto-{random:016x}.tmp")).expect("hex digits hold no NUL")
}
