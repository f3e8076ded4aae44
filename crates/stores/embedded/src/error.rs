//! From what SQLite and the file system say to what a caller can do about it.
//!
//! Invariant: an answer names what was attempted, on which file, and what to do.

use std::path::Path;
use std::sync::Arc;

use otto_core::port::store::StoreError;
use rusqlite::ErrorCode;
use rustix::io::Errno;

const ON_DAMAGE: &str = "stop Otto, run `otto verify`, and restore a backup if it reports damage";

/// Why work inside a transaction stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The call itself is refused; other calls of the same transaction go on.
    Refused(StoreError),
    /// A row does not hold what Otto writes, in plain words. As a refusal: other calls go on.
    Damaged(String),
    /// The database failed; the whole transaction is rolled back.
    Sql(rusqlite::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// A row that does not hold what Otto writes.
    pub(crate) fn damaged_row(what: impl std::fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }

    /// What is wrong with the row that could not be read; the fault itself if it is about anything else.
    pub(crate) fn into_damage(self) -> Result<String, Self> {
        match self {
            Self::Damaged(what) => Ok(what),
            Self::Sql(error) if is_foreign_value(&error) => Ok(error.to_string()),
            other => Err(other),
        }
    }

    /// The answer to the call that was refused; the error if it is the database that failed.
    pub(crate) fn into_refusal(self) -> Result<StoreError, rusqlite::Error> {
        match self {
            Self::Refused(error) => Ok(error),
            Self::Damaged(what) => Ok(damaged(Arc::from(format!("{what}; {ON_DAMAGE}")))),
            Self::Sql(error) => Err(error),
        }
    }

    pub(crate) fn into_store_error(self, attempted: &str, path: &Path) -> StoreError {
        self.into_refusal()
            .unwrap_or_else(|error| from_sql(&error, attempted, path))
    }
}

/// Whether the connection that said so may be used again. After an I/O error (a failed sync above all) the
/// kernel may have dropped what was written, so nothing in memory is proof of what is on disk.
pub(crate) fn distrusts_connection(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
                | ErrorCode::ApiMisuse
                | ErrorCode::InternalMalfunction
        )
    )
}

/// Whether a column holds what no column of Otto's can hold, such as a text that is not UTF-8.
fn is_foreign_value(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

/// The answer for an error of SQLite.
pub(crate) fn from_sql(error: &rusqlite::Error, attempted: &str, path: &Path) -> StoreError {
    let on = format!("{attempted} in `{}`: {error}", path.display());
    let (make, advice): (fn(Arc<str>) -> StoreError, &str) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (
            full,
            "nothing of the call was kept; free space on that file system and try again",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => (
            read_only,
            "make the state directory writable for this user, or choose another one",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (damaged, ON_DAMAGE),
        None if is_foreign_value(error) => (damaged, ON_DAMAGE),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            unavailable,
            "another process has been writing all the time; see whether one hangs or holds the file open with another program",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            unavailable,
            "the disk reported an error; nothing of the call was kept, check the disk before trying again",
        ),
        Some(ErrorCode::TooBig) => (invalid, "the value is too large for the database"),
        _ if error.to_string().contains("integer overflow") => (
            invalid,
            "the sum does not fit 64 bits; ask for a shorter time range",
        ),
        _ => (
            unavailable,
            "this is not an expected answer of the database",
        ),
    };
    make(Arc::from(format!("{on}; {advice}")))
}

/// The answer for an error of the file system.
pub(crate) fn from_errno(errno: Errno, attempted: &str, path: &Path) -> StoreError {
    let on = format!("{attempted} `{}`: {errno}", path.display());
    let (make, advice): (fn(Arc<str>) -> StoreError, &str) = match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => (
            full,
            "nothing was kept; free space on that file system and try again",
        ),
        Errno::ROFS | Errno::ACCESS | Errno::PERM => (
            read_only,
            "make the state directory writable for this user, or choose another one",
        ),
        Errno::LOOP | Errno::NOTDIR => (
            damaged,
            "a symbolic link or a file stands where Otto keeps a directory or file of its own; it is never followed, remove it",
        ),
        _ => (
            unavailable,
            "nothing was kept; check the disk before trying again",
        ),
    };
    make(Arc::from(format!("{on}; {advice}")))
}

/// The answer for an error of the standard library's file functions.
pub(crate) fn from_io(error: &std::io::Error, attempted: &str, path: &Path) -> StoreError {
    match Errno::from_io_error(error) {
        Some(errno) => from_errno(errno, attempted, path),
        None => unavailable(Arc::from(format!(
            "{attempted} `{}`: {error}",
            path.display()
        ))),
    }
}

pub(crate) fn full(detail: Arc<str>) -> StoreError {
    StoreError::Full { detail }
}

pub(crate) fn read_only(detail: Arc<str>) -> StoreError {
    StoreError::ReadOnly { detail }
}

pub(crate) fn damaged(detail: Arc<str>) -> StoreError {
    StoreError::Damaged { detail }
}

pub(crate) fn unavailable(detail: Arc<str>) -> StoreError {
    StoreError::Unavailable { detail }
}

pub(crate) fn invalid(detail: Arc<str>) -> StoreError {
    StoreError::Invalid { detail }
}
