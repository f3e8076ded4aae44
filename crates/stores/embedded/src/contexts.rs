//! The files of contexts that memory has no room for: `contexts/<process>/<number>`, by directory handles only.
//!
//! They are worth nothing once their process has ended, so nothing is synced: a power loss takes the process and
//! the files in one. They go with their context, with the store, or, after a crash, when the next store is opened.
//! A file is named nowhere before all of it is written, and never written again under its name; its checksum
//! covers the number, so that one file does not pass for another.
//!
//! Invariant: what is read is what was written, or an error.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use otto_core::port::contexts::{ContextEntries, ContextFile, ContextFiles};
use otto_core::port::store::StoreError;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, fstat, mkdirat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::{damaged, from_errno, from_io};
use crate::presence;
use crate::state_dir::{DIR_MODE, StateDir, open_dir, open_file, remove_file};

/// The directory below the state directory.
const CONTEXTS: &str = "contexts";
/// How a file begins: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"ottoctx1";
const SHA256_BYTES: usize = 32;
/// BOUND: what is written at once of small entries.
const BUFFER: usize = 64 * 1024;

/// The files of one open store.
pub(crate) struct SpilledContexts {
    state_dir: Arc<StateDir>,
    /// The directory of this process.
    tag: String,
    next: AtomicU64,
    /// The files that are there.
    files: Mutex<BTreeSet<u64>>,
}

impl SpilledContexts {
    pub(crate) fn new(state_dir: Arc<StateDir>, node: &str) -> Self {
        Self {
            state_dir,
            tag: presence::file_name(node),
            next: AtomicU64::new(1),
            files: Mutex::default(),
        }
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u64) -> PathBuf {
        let dir = self.state_dir.path.join(CONTEXTS).join(&self.tag);
        dir.join(number.to_string())
    }

    fn dir(&self) -> Result<OwnedFd, Errno> {
        open_dir(open_dir(&self.state_dir.handle, CONTEXTS)?, &self.tag)
    }

    fn make_dir(&self) -> Result<OwnedFd, Errno> {
        let contexts = open_or_make(&self.state_dir.handle, CONTEXTS)?;
        open_or_make(&contexts, &self.tag)
    }

    /// A file that is not there yet, by a number that was never used in this life.
    fn create(&self) -> Result<(u64, OwnedFd, OwnedFd), StoreError> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let fail = |errno| from_errno(errno, "make a file for a context", &self.path(number));
            let dir = self.make_dir().map_err(fail)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            match open_file(&dir, &number.to_string(), flags) {
                Ok(file) => return Ok((number, dir, file)),
                // A store of the same name has it, in this process or left by an earlier one.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
    }
}

impl ContextFiles for SpilledContexts {
    fn write(&self, entries: &ContextEntries) -> Result<ContextFile, StoreError> {
        let (number, dir, file) = self.create()?;
        match encode(number, entries, File::from(file)) {
            Ok(()) => {
                self.files().insert(number);
                Ok(ContextFile(number))
            }
            Err(error) => {
                // Should this fail too, the next start removes it.
                let _ = remove_file(&dir, &number.to_string());
                Err(from_io(&error, "move a context to", &self.path(number)))
            }
        }
    }

    fn read(&self, ContextFile(number): ContextFile) -> Result<ContextEntries, StoreError> {
        let path = self.path(number);
        let lost = |what: &str| {
            damaged(Arc::from(format!(
                "read the context in `{}`: {what}; its invocation cannot go on with it, begin a new one",
                path.display()
            )))
        };
        let opened = self
            .dir()
            .and_then(|dir| open_file(dir, &number.to_string(), OFlags::RDONLY));
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(lost("the file is missing")),
            Err(errno) => return Err(from_errno(errno, "read a context from", &path)),
        };
        let fail = |error: &io::Error| from_io(error, "read a context from", &path);
        let stat = fstat(&file).map_err(|errno| fail(&errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(lost("it is no file"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
        File::from(file)
            .read_to_end(&mut bytes)
            .map_err(|error| fail(&error))?;
        decode(number, &bytes).ok_or_else(|| lost("it does not hold what was written"))
    }

    fn remove(&self, ContextFile(number): ContextFile) {
        self.files().remove(&number);
        if let Ok(dir) = self.dir() {
            // One that stays goes with the next start.
            let _ = remove_file(dir, &number.to_string());
        }
    }
}

impl Drop for SpilledContexts {
    fn drop(&mut self) {
        let Ok(dir) = self.dir() else { return };
        for number in &*self.files() {
            let _ = remove_file(&dir, &number.to_string());
        }
        if let Ok(contexts) = open_dir(&self.state_dir.handle, CONTEXTS) {
            // Another store of that name may have files in it.
            let _ = unlinkat(contexts, &self.tag, AtFlags::REMOVEDIR);
        }
    }
}

/// Removes what dead processes have left. Called while no store is being opened elsewhere.
pub(crate) fn remove_leftovers(state_dir: &StateDir) -> Result<(), StoreError> {
    let path = state_dir.path.join(CONTEXTS);
    let fail = |errno| from_errno(errno, "remove contexts of dead processes from", &path);
    let contexts = match open_dir(&state_dir.handle, CONTEXTS) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(fail(errno)),
    };
    for tag in names(&contexts).map_err(fail)? {
        if !tag.bytes().all(|byte| byte.is_ascii_hexdigit())
            || presence::may_be_alive(state_dir, &tag)?
        {
            continue;
        }
        let dir = match open_dir(&contexts, &tag) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(fail(errno)),
        };
        for name in names(&dir).map_err(fail)? {
            remove_file(&dir, &name).map_err(fail)?;
        }
        match unlinkat(&contexts, &tag, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

fn names(dir: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !name.starts_with('.')
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A directory, made if it is missing; not synced, since nothing in it has to survive.
fn open_or_make(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match open_dir(dir, name) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    match mkdirat(dir, name, DIR_MODE) {
        Ok(()) | Err(Errno::EXIST) => open_dir(dir, name),
        Err(errno) => Err(errno),
    }
}

/// `MAGIC`, the number of entries, each as the lengths of key and value and their bytes, and the SHA-256 of all
/// that and the file's number.
fn encode(number: u64, entries: &ContextEntries, file: File) -> io::Result<()> {
    let mut hash = Sha256::new();
    hash.update(number.to_le_bytes());
    let mut file = BufWriter::with_capacity(BUFFER, file);
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes)
    };
    put(MAGIC)?;
    put(&(entries.len() as u64).to_le_bytes())?;
    for (key, value) in entries {
        put(&(key.len() as u64).to_le_bytes())?;
        put(&(value.len() as u64).to_le_bytes())?;
        put(key.as_bytes())?;
        put(value)?;
    }
    file.write_all(&hash.finalize())?;
    file.flush()
}

/// What [`encode`] wrote; `None` for anything else.
fn decode(number: u64, bytes: &[u8]) -> Option<ContextEntries> {
    let (mut rest, sha256) = bytes.split_at_checked(bytes.len().checked_sub(SHA256_BYTES)?)?;
    let mut hash = Sha256::new();
    hash.update(number.to_le_bytes());
    hash.update(rest);
    if *hash.finalize() != *sha256 {
        return None;
    }
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length)?;
        rest = left;
        Some(taken)
    };
    let length = |bytes: &[u8]| usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok();
    if take(MAGIC.len())? != MAGIC {
        return None;
    }
    let count = length(take(8)?)?;
    let mut entries = ContextEntries::new();
    for _ in 0..count {
        let key = length(take(8)?)?;
        let value = length(take(8)?)?;
        let key = std::str::from_utf8(take(key)?).ok()?;
        entries.insert(Arc::from(key), Arc::from(take(value)?));
    }
    rest.is_empty().then_some(entries)
}
