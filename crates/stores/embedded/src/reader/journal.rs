//! The journal of an invocation.

use std::sync::Arc;

use otto_core::InvocationId;
use otto_core::port::store::{Entry, StoreError};
use rusqlite::{Connection, params};

use crate::db::codec::{read_count, read_text};
use crate::error::Fault;
use crate::writer::many;

/// All entries in order. A gap is damage, not an end.
pub(crate) fn entries(connection: &Connection, id: InvocationId) -> Result<Vec<Entry>, Fault> {
    let mut statement = connection
        .prepare("SELECT sequence, payload FROM journal WHERE invocation = ?1 ORDER BY sequence")?;
    let entries = many(&mut statement, params![id.as_bytes()], |row| {
        Ok(Entry {
            sequence: read_count(row, 0)?,
            payload: read_text(row, 1)?,
        })
    })?;
    if let Some((_, expected)) = entries
        .iter()
        .zip(1..)
        .find(|(entry, expected)| entry.sequence != *expected)
    {
        return Err(Fault::damaged_row(format_args!(
            "entry {expected} of the journal of invocation {id} is missing"
        )));
    }
    if entries.is_empty() {
        let known = connection.query_row(
            "SELECT count(*) FROM invocations WHERE invocation = ?1",
            params![id.as_bytes()],
            |row| row.get::<_, i64>(0),
        )?;
        if known == 0 {
            return Err(StoreError::NotFound {
                what: Arc::from(format!("invocation {id}")),
            }
            .into());
        }
    }
    Ok(entries)
}
