//! The rows of artifacts: written by the writer thread, read by the readers.
//!
//! Invariant: the number `artifact_bytes` is the sum of the sizes of all rows, changed in the same
//! transaction as they are.

use std::sync::Arc;

use otto_core::port::store::{ArtifactKind, ArtifactRef};
use otto_core::store_rules::artifact_name;
use otto_core::{InvocationId, SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::db::codec::{count, read_count, read_kind, read_text, time};
use crate::error::Fault;
use crate::verify::row_name;
use crate::writer::{SqlRows, many, one};

const BYTES: &str = "artifact_bytes";

/// A file that gets a row.
#[derive(Debug, Clone)]
pub(super) struct NewRow {
    pub(super) session: SessionId,
    pub(super) path: Arc<str>,
    pub(super) invocation: InvocationId,
    pub(super) kind: ArtifactKind,
    pub(super) size: u64,
    pub(super) sha256: Arc<str>,
    pub(super) at: Timestamp,
    /// The journal entry up to which it follows from the journal; 0 when it does not.
    pub(super) derived: u64,
}

impl NewRow {
    pub(super) fn to_ref(&self) -> ArtifactRef {
        ArtifactRef {
            session: self.session,
            path: self.path.clone(),
            kind: self.kind,
            size_bytes: self.size,
            sha256: self.sha256.clone(),
        }
    }
}

/// What a row says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(super) artifact: ArtifactRef,
    pub(super) deleting: bool,
    /// The journal entry up to which it follows from the journal; 0 when it does not.
    pub(super) derived: u64,
}

/// Whether a row can be refused because all artifacts together have too many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// For a file that was just written: it is taken back.
    Applies,
    /// For a file that was there already: leaving it without a row frees nothing.
    Waived,
}

/// Adds a row unless there is one; returns the total of all sizes.
pub(super) fn insert(rows: &mut SqlRows<'_, '_>, new: &NewRow, bound: Bound) -> Result<u64, Fault> {
    let total = rows.number(BYTES)?;
    if stored(rows, new.session, &new.path)?.is_some() {
        return Ok(total);
    }
    let max = rows.artifact_bytes_max();
    let total = total.saturating_add(new.size);
    if total > max && bound == Bound::Applies {
        return Err(artifact_name::too_much(&new.path, new.size, total - new.size, max).into());
    }
    rows.statements_mut().insert_artifact.execute(params![
        new.session.as_bytes(),
        &*new.path,
        new.invocation.as_bytes(),
        new.kind.as_str(),
        count(new.size),
        &*new.sha256,
        time(new.at),
        count(new.derived),
    ])?;
    rows.set_number(BYTES, total)?;
    Ok(total)
}

/// Whether all artifacts together may have that many bytes more.
pub(super) fn fits(rows: &mut SqlRows<'_, '_>, bytes: u64) -> Result<bool, Fault> {
    Ok(rows.number(BYTES)?.saturating_add(bytes) <= rows.artifact_bytes_max())
}

/// The row of a name, inside the writer's transaction.
pub(super) fn stored(
    rows: &mut SqlRows<'_, '_>,
    session: SessionId,
    path: &str,
) -> Result<Option<Known>, Fault> {
    one(
        &mut rows.statements_mut().artifact,
        params![session.as_bytes(), path],
        |row| read_known(row, session),
    )
}

/// Removes a row whose file is gone, and what the database has of its content.
pub(super) fn delete(
    rows: &mut SqlRows<'_, '_>,
    session: SessionId,
    path: &str,
) -> Result<(), Fault> {
    let size = one(
        &mut rows.statements_mut().delete_artifact,
        params![session.as_bytes(), path],
        |row| read_count(row, 0),
    )?;
    if let Some(size) = size {
        let total = rows.number(BYTES)?;
        rows.set_number(BYTES, total.saturating_sub(size))?;
    }
    rows.statements_mut()
        .delete_content
        .execute(params![session.as_bytes(), path])?;
    Ok(())
}

/// The row of a name.
pub(super) fn known(
    connection: &Connection,
    session: SessionId,
    path: &str,
) -> Result<Option<Known>, Fault> {
    let mut statement = connection.prepare(
        "SELECT path, kind, size, sha256, deleting, derived FROM artifacts WHERE session = ?1 AND path = ?2",
    )?;
    one(&mut statement, params![session.as_bytes(), path], |row| {
        read_known(row, session)
    })
}

/// The rows of a session, by path.
pub(super) fn of_session(connection: &Connection, session: SessionId) -> Result<Vec<Known>, Fault> {
    let mut statement = connection.prepare(OF_SESSION)?;
    many(&mut statement, params![session.as_bytes()], |row| {
        read_known(row, session)
    })
}

/// The rows of a session that can be read, and the others by name, with what is wrong with them.
pub(super) fn readable_of_session(
    connection: &Connection,
    session: SessionId,
) -> Result<(Vec<Known>, Vec<String>), Fault> {
    let mut statement = connection.prepare(OF_SESSION)?;
    let mut rows = statement.query(params![session.as_bytes()])?;
    let (mut known, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match read_known(row, session) {
            Ok(read) => known.push(read),
            Err(fault) => {
                let what = fault.into_damage()?;
                unreadable.push(format!("{} cannot be read: {what}", name_of(row)?));
            }
        }
    }
    Ok((known, unreadable))
}

const OF_SESSION: &str =
    "SELECT path, kind, size, sha256, deleting, derived, session FROM artifacts
    WHERE session = ?1 ORDER BY path";

/// All rows, with the columns of [`read_known`] and [`name_of`].
pub(crate) const ALL: &str =
    "SELECT path, kind, size, sha256, deleting, derived, session FROM artifacts";

/// A row by its key.
pub(crate) fn name_of(row: &rusqlite::Row<'_>) -> Result<String, Fault> {
    row_name("artifacts", row, &[(6, "session"), (0, "path")])
}

pub(crate) fn read_known(row: &rusqlite::Row<'_>, session: SessionId) -> Result<Known, Fault> {
    Ok(Known {
        artifact: ArtifactRef {
            session,
            path: read_text(row, 0)?,
            kind: read_kind(&read_text(row, 1)?)?,
            size_bytes: read_count(row, 2)?,
            sha256: read_text(row, 3)?,
        },
        deleting: row.get(4)?,
        derived: read_count(row, 5)?,
    })
}
