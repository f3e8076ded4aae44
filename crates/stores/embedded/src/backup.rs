//! A copy of the database while it is in use.
//!
//! The copy is one consistent snapshot, written compactly under another name, synced, read again as a whole
//! and checked as `verify` does, and given its name only then. Artifacts are plain files that never change:
//! copy `sessions/` beside it.
//!
//! Invariant: a file under the name that was asked for is a whole backup.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::port::store::StoreError;
use rusqlite::params;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::db::open;
use crate::error::{damaged, from_errno, from_io, from_sql, invalid};
use crate::store::EmbeddedStore;
use crate::verify::{self, Finding, FindingKind};

impl EmbeddedStore {
    /// Copies the database to a file that is not there yet and verifies the copy.
    ///
    /// A journal that is damaged concerns its own invocation: it is copied as it is, and told.
    ///
    /// Cancel safety: dropped before it is done, the copy goes on and appears or not.
    ///
    /// # Errors
    /// `Invalid` when the file exists; `Full`, `ReadOnly` and `Unavailable` when it cannot be written;
    /// `Damaged` when the copy does not pass the checks: then no file stays.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> Result<Copied, StoreError> {
        let (from, to) = (self.inner.path.clone(), to.into());
        self.checkpointer().blocking(move || copy(&from, &to)).await
    }
}

/// A copy of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its length.
    pub bytes: u64,
    /// What is wrong with journals in it, as in the store.
    pub damaged_journals: Vec<String>,
}

fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let exists = || {
        let detail = format!(
            "write a backup to `{}`: it exists already; name a new file",
            to.display()
        );
        invalid(Arc::from(detail))
    };
    if to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let mut name = OsString::from(to.file_name().ok_or_else(exists)?);
    name.push(".partial");
    let partial = to.with_file_name(name);
    let written = write(from, &partial).and_then(|bytes| {
        let damaged_journals = check(&partial)?;
        match renameat_with(CWD, &partial, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Copied {
                bytes,
                damaged_journals,
            }),
            Err(rustix::io::Errno::EXIST) => Err(exists()),
            Err(errno) => Err(from_errno(errno, "name the backup", to)),
        }
    });
    if written.is_err() {
        // Should this fail too, the partial file stays under its own name and says what it is.
        let _ = fs::remove_file(&partial);
        return written;
    }
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|error| from_io(&error, "sync the directory of the backup", parent))?;
    written
}

/// Reads the copy as a whole: a backup that cannot be restored is worse than none. Returns what is wrong with journals,
/// of which each concerns its own invocation: no backup at all would lose the others too.
fn check(partial: &Path) -> Result<Vec<String>, StoreError> {
    let attempted = "verify the backup";
    let connection = open::reader(partial).map_err(|error| from_sql(&error, attempted, partial))?;
    let report = verify::examine(&connection, None)
        .map_err(|fault| fault.into_store_error(attempted, partial))?;
    let (journals, others): (Vec<Finding>, Vec<Finding>) = report
        .findings
        .into_iter()
        .partition(|finding| finding.kind == FindingKind::Journal);
    match others.first() {
        None => Ok(journals.into_iter().map(|finding| finding.detail).collect()),
        Some(finding) => Err(damaged(Arc::from(format!(
            "{attempted} `{}`: {}; the store itself is damaged: run `otto verify`",
            partial.display(),
            finding.detail
        )))),
    }
}

fn write(from: &Path, partial: &Path) -> Result<u64, StoreError> {
    let fail = |error: std::io::Error| from_io(&error, "write the backup", partial);
    // An empty file of the right mode; SQLite fills it and would choose a wider mode by itself.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(partial)
        .map_err(fail)?;
    let connection =
        open::writer(from).map_err(|error| from_sql(&error, "open for a backup", from))?;
    let target = partial.to_str().ok_or_else(|| {
        invalid(Arc::from(format!(
            "write a backup to `{}`: the path is not UTF-8; choose another one",
            partial.display()
        )))
    })?;
    connection
        .execute("VACUUM INTO ?1", params![target])
        .map_err(|error| from_sql(&error, "write a backup", partial))?;
    file.sync_all().map_err(fail)?;
    Ok(file.metadata().map_err(fail)?.len())
}
