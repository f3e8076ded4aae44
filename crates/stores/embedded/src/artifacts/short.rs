//! Short artifacts: acknowledged with one sync of the log, which many share; their files are written later.
//!
//! A file of its own takes two syncs, of itself and of its folder. So a short content is stored beside its row, in
//! `contents`, and leaves it when its file is durable. Whoever asks before that gets it from there, and what a crash
//! leaves unwritten is written by the next process.
//!
//! Invariant: a row of `contents` has a row of the same name in `artifacts`, and is removed only after its file is
//! durable or when that row goes.

use std::sync::Arc;

use otto_core::SessionId;
use otto_core::port::store::ArtifactRef;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use crate::artifacts::Content;
use crate::artifacts::backlog::{Files, Origin, Room, Unwritten};
use crate::artifacts::durable::checksum;
use crate::artifacts::rows::{self, Bound, Known, NewRow};
use crate::error::Fault;
use crate::verify::row_name;
use crate::writer::{SqlRows, one};

/// BOUND: the longest content that goes through the database. It is written twice, which costs less than a sync only
/// while it is short.
pub(super) const SHORT_MAX: usize = 32 * 1024;

/// What recording a short artifact came to.
pub(super) enum Recorded {
    /// It is there now. The total of all sizes.
    New(u64),
    /// The name is taken.
    Taken,
}

/// Records a short artifact with its content, unless its name is taken.
pub(super) fn record(
    rows: &mut SqlRows<'_, '_>,
    row: &NewRow,
    content: &[u8],
    node: &str,
) -> Result<Recorded, Fault> {
    if rows::stored(rows, row.session, &row.path)?.is_some() {
        return Ok(Recorded::Taken);
    }
    let total = rows::insert(rows, row, Bound::Applies)?;
    rows.statements_mut().insert_content.execute(params![
        row.session.as_bytes(),
        &*row.path,
        node,
        content
    ])?;
    Ok(Recorded::New(total))
}

/// The file to write once it is recorded.
pub(super) fn unwritten(artifact: &ArtifactRef, content: Arc<[u8]>, room: Room) -> Unwritten {
    Unwritten {
        session: artifact.session,
        origin: Origin::Content(artifact.path.clone()),
        files: Files::Known(vec![(artifact.path.clone(), content)], room),
    }
}

/// The content of an artifact that has no durable file yet. One that is not what the reference says is damage.
pub(super) fn content(
    connection: &Connection,
    artifact: &ArtifactRef,
) -> Result<Option<Arc<[u8]>>, Fault> {
    let mut statement =
        connection.prepare("SELECT content FROM contents WHERE session = ?1 AND path = ?2")?;
    let key = params![artifact.session.as_bytes(), &*artifact.path];
    let stored = one(&mut statement, key, |row| {
        let content = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(Arc::<[u8]>::from(content))
    })?;
    let is_it = |content: &Arc<[u8]>| {
        content.len() as u64 == artifact.size_bytes && checksum(content) == *artifact.sha256
    };
    match stored {
        Some(content) if !is_it(&content) => Err(Fault::damaged_row(format_args!(
            "artifact `{}` of session {} has {} bytes with SHA-256 {}, its reference says {} bytes with {}",
            artifact.path,
            artifact.session,
            content.len(),
            checksum(&content),
            artifact.size_bytes,
            artifact.sha256
        ))),
        stored => Ok(stored),
    }
}

/// What belongs into the file of an artifact whose process is dead; nothing if it is no longer wanted.
pub(super) fn lost(
    connection: &Connection,
    session: SessionId,
    path: &Arc<str>,
) -> Result<Vec<Content>, Fault> {
    let Some(Known { artifact, .. }) = rows::known(connection, session, path)? else {
        return Ok(Vec::new());
    };
    let content = content(connection, &artifact)?;
    Ok(content
        .map(|content| (path.clone(), content))
        .into_iter()
        .collect())
}

/// What is wrong with contents in the database, each with the name of its row.
pub(crate) fn check_contents(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement = connection.prepare(
        "SELECT c.session, c.path, c.content, a.sha256
        FROM contents c LEFT JOIN artifacts a ON a.session = c.session AND a.path = c.path
        ORDER BY c.session, c.path",
    )?;
    let mut rows = statement.query(params![])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let content = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let what = match row.get_ref(3)? {
            ValueRef::Null => "belongs to no artifact",
            ValueRef::Text(sha256) if sha256 == checksum(content).as_bytes() => continue,
            _ => "does not match the checksum of its artifact",
        };
        let name = row_name("contents", row, &[(0, "session"), (1, "path")])?;
        found.push(format!("{name} {what}"));
    }
    Ok(found)
}
