//! The files of artifacts below `sessions/`, by directory handles only.
//!
//! Invariant: no path text is ever resolved; each step opens one component without following links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use otto_core::port::store::{ArtifactRef, StoreError};
use otto_core::store_rules::artifact_name as name;
use otto_core::store_rules::artifact_name::hex;
use otto_core::{SessionId, Timestamp};
use rustix::fs::{
    AtFlags, Dir, FileType, OFlags, RenameFlags, fstat, fsync, renameat_with, statat, unlinkat,
};
use rustix::io::{Errno, read};
use sha2::{Digest, Sha256};

use crate::artifacts::durable::{Written, checksum, write_once};
use crate::config::FaultPoints;
use crate::error::{damaged, from_errno};
use crate::presence;
use crate::state_dir::{StateDir, open_dir, open_file, open_or_create_dir, remove_file};

pub(super) const SESSIONS: &str = "sessions";
pub(super) const TEMP_PREFIX: &str = ".tmp-";
/// Where damaged files are moved, below the state directory.
const DAMAGED: &str = "damaged";

/// BOUND: how often the file of one name can be moved aside.
const ASIDE_MAX: u32 = 1_000;

/// BOUND: a session's directory that retention removes meanwhile is made anew at most this often.
const ATTEMPTS: usize = 10;

/// BOUND: what is read of a file at once when it is only hashed.
const CHUNK: usize = 64 * 1024;

/// The files of artifacts.
pub(super) struct Disk {
    state_dir: Arc<StateDir>,
    /// Part of the names of temporary files: whose they are.
    tag: String,
    count: AtomicU64,
    faults: Arc<dyn FaultPoints>,
}

/// A file found in a session's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sha256: String,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

impl Disk {
    pub(super) fn new(state_dir: Arc<StateDir>, node: &str, faults: Arc<dyn FaultPoints>) -> Self {
        Self {
            state_dir,
            tag: presence::file_name(node),
            count: AtomicU64::new(0),
            faults,
        }
    }

    /// Stores a file durably unless its name is taken.
    pub(super) fn write(
        &self,
        session: SessionId,
        file: &str,
        content: &[u8],
    ) -> Result<Written, StoreError> {
        let path = self.path(session).join(file);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.try_write(session, file, content) {
                Ok(written) => return Ok(written),
                // The directory was removed as empty, or the temporary name belongs to an earlier life.
                Err(Errno::NOENT | Errno::EXIST) if attempt < ATTEMPTS => {}
                Err(errno) => return Err(from_errno(errno, "store artifact", &path)),
            }
        }
    }

    /// Whether no file has this name. Not when that cannot be told.
    pub(super) fn is_free(&self, session: SessionId, file: &str) -> bool {
        let found = self
            .dir(session)
            .and_then(|dir| statat(&dir, file, AtFlags::SYMLINK_NOFOLLOW));
        matches!(found, Err(Errno::NOENT))
    }

    fn try_write(&self, session: SessionId, file: &str, content: &[u8]) -> Result<Written, Errno> {
        let sessions = open_or_create_dir(&self.state_dir.handle, SESSIONS)?;
        let dir = open_or_create_dir(&sessions, &session.to_string())?;
        write_once(&dir, &self.temp_name(), file, content, &*self.faults)
    }

    /// A name for a temporary file that no other has.
    pub(super) fn temp_name(&self) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{TEMP_PREFIX}{}-{number}", self.tag)
    }

    pub(super) fn state_dir_handle(&self) -> BorrowedFd<'_> {
        self.state_dir.handle.as_fd()
    }

    /// Reads an artifact and checks it against its reference.
    pub(super) fn read(&self, artifact: &ArtifactRef) -> Result<Vec<u8>, StoreError> {
        let path = self.path(artifact.session).join(&*artifact.path);
        let refuse = |what: String| {
            let detail = format!(
                "read artifact `{}`: {what}; restore it from a backup or run the task again",
                path.display()
            );
            Err(damaged(Arc::from(detail)))
        };
        if name::parse(&artifact.path).is_none() {
            return Err(name::not_found(artifact));
        }
        let opened = self.open(artifact.session, &artifact.path);
        let (file, size) = match opened {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Err(name::not_found(artifact)),
            Err(errno) => return Err(from_errno(errno, "read artifact", &path)),
        };
        if size != artifact.size_bytes {
            return refuse(format!(
                "it has {size} bytes, its reference says {}",
                artifact.size_bytes
            ));
        }
        let length =
            usize::try_from(size).map_err(|_| from_errno(Errno::FBIG, "read artifact", &path))?;
        let mut content = vec![0; length];
        let filled =
            fill(&file, &mut content).map_err(|errno| from_errno(errno, "read artifact", &path))?;
        if filled != length {
            return refuse(format!(
                "it ends after {filled} bytes, its reference says {size}"
            ));
        }
        let sha256 = checksum(&content);
        if *sha256 != *artifact.sha256 {
            return refuse(format!(
                "its SHA-256 is {sha256}, its reference says {}",
                artifact.sha256
            ));
        }
        Ok(content)
    }

    /// Hashes a file; `None` if it is not there.
    pub(super) fn examine(
        &self,
        session: SessionId,
        file: &str,
    ) -> Result<Option<Found>, StoreError> {
        let path = self.path(session).join(file);
        let fail = |errno| from_errno(errno, "check artifact", &path);
        let (file, size) = match self.open(session, file) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        let modified = fstat(&file).map_err(fail)?.st_mtime;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut left = size;
        while left > 0 {
            let most = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            let filled = fill(&file, &mut chunk[..most]).map_err(fail)?;
            if filled == 0 {
                break;
            }
            hash.update(&chunk[..filled]);
            left -= filled as u64;
        }
        Ok(Some(Found {
            sha256: hex(&hash.finalize()),
            size: size - left,
            modified: Timestamp::from_millis(
                u64::try_from(modified).unwrap_or(0).saturating_mul(1_000),
            ),
        }))
    }

    /// The names in a session's directory; none if there is no such directory.
    pub(super) fn names(&self, session: SessionId) -> Result<Vec<String>, StoreError> {
        let path = self.path(session);
        let fail = |errno| from_errno(errno, "list artifacts in", &path);
        let dir = match self.dir(session) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(fail(errno)),
        };
        names_in(&dir).map_err(fail)
    }

    /// Removes a file durably; it may be gone already.
    pub(super) fn remove(&self, session: SessionId, file: &str) -> Result<(), StoreError> {
        self.remove_all(session, &[Arc::from(file)])
    }

    /// Removes files durably, and their directory if nothing is left in it. They may be gone already.
    pub(super) fn remove_all(
        &self,
        session: SessionId,
        files: &[Arc<str>],
    ) -> Result<(), StoreError> {
        let path = self.path(session);
        let fail = |errno| from_errno(errno, "remove artifacts from", &path);
        let dir = match self.dir(session) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        };
        for file in files {
            self.reach("remove file").map_err(fail)?;
            remove_file(&dir, file).map_err(fail)?;
        }
        self.reach("sync directory after removal").map_err(fail)?;
        fsync(&dir).map_err(fail)?;
        let sessions = open_dir(&self.state_dir.handle, SESSIONS).map_err(fail)?;
        match unlinkat(&sessions, session.to_string(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Moves what stands under an artifact's name into the directory of damaged things, durably; returns its
    /// new path, or `None` if there is nothing to move.
    pub(super) fn set_aside(
        &self,
        session: SessionId,
        file: &str,
    ) -> Result<Option<PathBuf>, StoreError> {
        let path = self.path(session).join(file);
        let fail = |errno| from_errno(errno, "move aside", &path);
        let dir = match self.dir(session) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        let aside = open_or_create_dir(&self.state_dir.handle, DAMAGED).map_err(fail)?;
        for number in 0..ASIDE_MAX {
            let name = format!("{session}.{file}.{number}");
            match renameat_with(&dir, file, &aside, &name, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    fsync(&aside).map_err(fail)?;
                    fsync(&dir).map_err(fail)?;
                    return Ok(Some(self.state_dir.path.join(DAMAGED).join(name)));
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(fail(Errno::EXIST))
    }

    /// Removes the temporary files that dead processes left in a session's directory; returns how many.
    pub(super) fn remove_leftovers(&self, session: SessionId) -> Result<u64, StoreError> {
        let mut leftovers = Vec::new();
        for name in self.names(session)? {
            // `.tmp-<tag>-<number>`: a name of another form is not ours to remove.
            if let Some((tag, _)) = name
                .strip_prefix(TEMP_PREFIX)
                .and_then(|rest| rest.split_once('-'))
                && tag != self.tag
                && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !presence::may_be_alive(&self.state_dir, tag)?
            {
                leftovers.push(Arc::from(name));
            }
        }
        if !leftovers.is_empty() {
            self.remove_all(session, &leftovers)?;
        }
        Ok(leftovers.len() as u64)
    }

    /// The names below `sessions/`; none if there is no such directory.
    pub(super) fn sessions(&self) -> Result<Vec<String>, StoreError> {
        let path = self.state_dir.path.join(SESSIONS);
        match open_dir(&self.state_dir.handle, SESSIONS) {
            Ok(dir) => names_in(&dir).map_err(|errno| from_errno(errno, "list", &path)),
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(errno) => Err(from_errno(errno, "list", &path)),
        }
    }

    /// The path of a session's directory, for messages.
    pub(super) fn path(&self, session: SessionId) -> PathBuf {
        self.state_dir.path.join(SESSIONS).join(session.to_string())
    }

    pub(super) fn dir(&self, session: SessionId) -> Result<OwnedFd, Errno> {
        open_dir(
            open_dir(&self.state_dir.handle, SESSIONS)?,
            &session.to_string(),
        )
    }

    pub(super) fn reach(&self, step: &'static str) -> Result<(), Errno> {
        self.faults
            .reach(step)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// A regular file and its length.
    fn open(&self, session: SessionId, file: &str) -> Result<(OwnedFd, u64), Errno> {
        let file = open_file(self.dir(session)?, file, OFlags::RDONLY)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::NOTDIR);
        }
        Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
    }
}

/// The names in a directory, sorted. One that is not UTF-8 is not ours.
fn names_in(dir: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn fill(file: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while length < into.len() {
        match read(file, &mut into[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}
