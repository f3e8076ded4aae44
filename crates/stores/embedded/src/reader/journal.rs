//! The journal of an invocation.

use std::sync::Arc;

use otto_core::InvocationId;
use otto_core::port::store::{Entry, StoreError};
use rusqlite::{Connection, params};

use crate::db::codec::{count, read_count, read_text};
use crate::error::Fault;
use crate::writer::many;

/// The entries above `after`, in order. A gap is damage, not an end.
pub(crate) fn entries_after(
    connection: &Connection,
    id: InvocationId,
    after: u64,
) -> Result<Vec<Entry>, Fault> {
    // Nothing is numbered above what a column holds.
    let after = after.min(i64::MAX.cast_unsigned() - 1);
    let mut statement = connection.prepare(
        "SELECT sequence, payload FROM journal WHERE invocation = ?1 AND sequence > ?2 ORDER BY sequence",
    )?;
    let entries = many(
        &mut statement,
        params![id.as_bytes(), count(after)],
        |row| {
            Ok(Entry {
                sequence: read_count(row, 0)?,
                payload: read_text(row, 1)?,
            })
        },
    )?;
    if let Some((_, expected)) = entries
        .iter()
        .zip(after + 1..)
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
