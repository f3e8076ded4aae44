//! Opening the database file: whether it is ours, whole and of a known version, before SQLite touches it.
//!
//! Invariant: a file that is refused was not changed. Opening happens under the state directory's lock, so
//! that two processes never create or migrate at the same time.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use otto_core::port::store::StoreError;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FileType, OFlags, RenameFlags, fstat, fsync, renameat_with};
use rustix::io::{Errno, pread};

use crate::db::schema;
use crate::error::{damaged, from_errno, from_sql, unavailable};
use crate::state_dir::{StateDir, open_file, remove_file};

pub(crate) const FILE_NAME: &str = "otto.db";
const WAL_NAME: &str = "otto.db-wal";
const NEW_NAME: &str = "otto.db.new";
const NEW_JOURNAL_NAME: &str = "otto.db.new-journal";

/// BOUND: how long a transaction waits for the one of another process.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// BOUND: the log is cut back to this size when it was longer (a reader can hold it open for a while).
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Pages in the log before a commit moves them into the file. More pages are fewer syncs and a longer log
/// to read after a crash; this many are read in some 10 ms.
const CHECKPOINT_PAGES: u32 = 4_000;

/// Checks the file, creates or migrates it; returns its path and a connection for the writer thread. It is the one
/// that was checked with: closing the last connection removes the log, and the next one would make it anew.
pub(crate) fn prepare(state_dir: &StateDir) -> Result<(PathBuf, Connection), StoreError> {
    let path = state_dir.path.join(FILE_NAME);
    if !inspect(state_dir, &path)? {
        create(state_dir)?;
    }
    let fail = |error: rusqlite::Error| from_sql(&error, "open the database", &path);
    let connection = writer(&path).map_err(fail)?;
    // The header in the file can be behind the one in the log.
    let version = user_version(&connection).map_err(fail)?;
    check_version(version, &path)?;
    schema::migrate(&connection, version)
        .map_err(|error| from_sql(&error, "migrate the database", &path))?;
    check_tables(&connection, &path)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))
        .map_err(fail)?;
    if mode != "wal" {
        let detail = format!(
            "open the database `{}`: its file system does not support shared memory (journal mode is `{mode}`); choose a state directory on a local disk",
            path.display()
        );
        return Err(unavailable(Arc::from(detail)));
    }
    Ok((path, connection))
}

/// A connection for the writer thread.
pub(crate) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags())?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Foreign keys document the schema and are checked by `verify`; per row they would cost a look-up. What is deleted
    // is overwritten: contents pass through here that somebody may have to clean away later.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -8000; \
         PRAGMA journal_size_limit = {WAL_BYTES_MAX}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA temp_store = MEMORY; \
         PRAGMA secure_delete = ON;"
    ))?;
    Ok(connection)
}

/// A connection that cannot write.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags())?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA cache_size = -2000; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

/// Refuses a version that this Otto does not know.
pub(crate) fn check_version(version: i32, path: &Path) -> Result<(), StoreError> {
    if (0..=schema::VERSION).contains(&version) {
        return Ok(());
    }
    let detail = format!(
        "open the database `{}`: it has schema version {version}, this Otto knows up to {}; use a newer Otto, the file was not touched",
        path.display(),
        schema::VERSION
    );
    Err(damaged(Arc::from(detail)))
}

pub(crate) fn user_version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

/// Looks at the first bytes of the file without SQLite.
/// Says whether there is one.
/// Source of the layout: SQLite database file format, section 1.3.
fn inspect(state_dir: &StateDir, path: &Path) -> Result<bool, StoreError> {
    let fail = |errno| from_errno(errno, "open the database", path);
    let file = match open_file(&state_dir.handle, FILE_NAME, OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(fail(errno)),
    };
    let stat = fstat(&file).map_err(fail)?;
    let refuse = |what: &str| {
        let detail = format!(
            "open the database `{}`: {what}; it was not touched, move it away or restore a backup",
            path.display()
        );
        Err(damaged(Arc::from(detail)))
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse("it is not a regular file");
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        // A new database appears under its name only when it is whole.
        return refuse("it is empty: the file was truncated");
    }
    let mut header = [0; 100];
    if read_start(&file, &mut header).map_err(fail)? < header.len()
        || &header[..16] != b"SQLite format 3\0"
    {
        return refuse("it is not a SQLite database");
    }
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if number(68) != schema::APPLICATION_ID.cast_unsigned() {
        return refuse("it belongs to another program");
    }
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    // With a log the file may be shorter than its header says: a crash during a checkpoint leaves that.
    if size < page_size * u64::from(number(28)) && !log_has_content(state_dir)? {
        return refuse("it is shorter than its header says: the file was truncated");
    }
    check_version(number(60).cast_signed(), path)?;
    Ok(true)
}

fn log_has_content(state_dir: &StateDir) -> Result<bool, StoreError> {
    let path = state_dir.path.join(WAL_NAME);
    let fail = |errno| from_errno(errno, "open the log", &path);
    match open_file(&state_dir.handle, WAL_NAME, OFlags::RDONLY) {
        Ok(file) => Ok(fstat(&file).map_err(fail)?.st_size > 0),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(fail(errno)),
    }
}

fn read_start(file: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while length < into.len() {
        match pread(file, &mut into[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}

/// Makes a database under another name and gives it its own only when it is whole.
fn create(state_dir: &StateDir) -> Result<(), StoreError> {
    let path = state_dir.path.join(NEW_NAME);
    let fail = |errno| from_errno(errno, "create the database", &path);
    let dir = &state_dir.handle;
    for leftover in [NEW_NAME, NEW_JOURNAL_NAME] {
        remove_file(dir, leftover).map_err(fail)?;
    }
    // SQLite would choose a wider mode. The log and its index get the mode of the file.
    let file =
        open_file(dir, NEW_NAME, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map_err(fail)?;
    let connection =
        writer(&path).map_err(|error| from_sql(&error, "create the database", &path))?;
    schema::migrate(&connection, 0)
        .map_err(|error| from_sql(&error, "create the database", &path))?;
    connection
        .close()
        .map_err(|(_, error)| from_sql(&error, "create the database", &path))?;
    fsync(&file).map_err(fail)?;
    renameat_with(dir, NEW_NAME, dir, FILE_NAME, RenameFlags::NOREPLACE).map_err(fail)?;
    fsync(dir).map_err(fail)
}

fn check_tables(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |error: rusqlite::Error| from_sql(&error, "read the schema", path);
    let mut statement = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .map_err(fail)?;
    let names: Vec<String> = statement
        .query_map((), |row| row.get(0))
        .map_err(fail)?
        .collect::<Result<_, _>>()
        .map_err(fail)?;
    match schema::TABLES
        .iter()
        .find(|table| !names.iter().any(|name| name == *table))
    {
        None => Ok(()),
        Some(missing) => {
            let detail = format!(
                "open the database `{}`: table `{missing}` is missing; it was not touched, restore a backup",
                path.display()
            );
            Err(damaged(Arc::from(detail)))
        }
    }
}
