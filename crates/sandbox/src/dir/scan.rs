//! Listing a directory through its handle.
//!
//! Entries arrive in the order of the file system, raw names and all; callers sort, filter and bound.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, RawDir, ResolveFlags, SeekFrom, seek, statat};
use rustix::io::Errno;

use super::{Dir, DirError, SCAN};

// BOUND: one system call's worth of entries; about 800 names.
const SCAN_BUFFER_BYTES: usize = 32 * 1024;

/// What an entry is, without following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, socket, device or something newer.
    Special,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its name as bytes; not always UTF-8.
    pub name: &'a CStr,
    /// What it is.
    pub kind: EntryKind,
    /// Its inode number, for reading in the order of the disk.
    pub inode: u64,
}

/// Memory for [`Dir::scan`], kept by the caller so that a walk allocates once.
pub struct ScanBuffer(Box<[MaybeUninit<u8>]>);

impl ScanBuffer {
    /// A buffer of the usual size.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new_uninit_slice(SCAN_BUFFER_BYTES))
    }
}

impl Default for ScanBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ScanBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScanBuffer")
    }
}

impl Dir {
    /// Calls `each` for every entry but `.` and `..` until it returns `false`.
    ///
    /// # Errors
    /// [`DirError`] when the directory cannot be opened or read.
    pub fn scan(
        &self,
        buffer: &mut ScanBuffer,
        mut each: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<(), DirError> {
        let opened;
        let fd = if self.scannable {
            seek(self, SeekFrom::Start(0)).map_err(DirError::of)?;
            self.as_fd()
        } else {
            // The handle is a bare place (O_PATH), which cannot be read.
            opened = self
                .open_beneath(".", SCAN, Mode::empty(), ResolveFlags::NO_SYMLINKS)
                .map_err(DirError::of)?;
            opened.as_fd()
        };
        let mut entries = RawDir::new(fd, &mut buffer.0);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(DirError::of(errno)),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(DirError::of(errno)),
                },
                known => known,
            };
            let kind = match kind {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                FileType::Symlink => EntryKind::Link,
                _ => EntryKind::Special,
            };
            if !each(Entry {
                name,
                kind,
                inode: entry.ino(),
            }) {
                break;
            }
        }
        Ok(())
    }

    /// Size in bytes of the entry `name` of this very directory; a link's own size. `None` if it is gone.
    #[must_use]
    pub fn entry_size(&self, name: &CStr) -> Option<u64> {
        let stat = statat(self, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        u64::try_from(stat.st_size).ok()
    }
}
