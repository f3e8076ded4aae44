//! Invocations as lists show them.

use otto_core::port::store::{InvocationQuery, InvocationRecord};
use otto_core::{Money, Timestamp};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

use crate::db::codec::{
    read_count, read_invocation, read_money, read_name, read_outcome, read_session, read_text,
    read_time, read_workflow,
};
use crate::error::Fault;
use crate::writer::{many, one};

/// BOUND: rows of a list, unless asked for fewer or more.
const LIST_MAX: u32 = 1_000;

pub(crate) const INVOCATIONS: &str =
    "SELECT invocation, session, agent, model, workflow, title, started_at, finished_at, outcome,
    summary, result, resumable, coalesce((SELECT until FROM sessions
        WHERE sessions.session = invocations.session AND node IS NOT NULL), 0) FROM invocations";

/// Invocations, newest first.
pub(crate) fn invocations(
    connection: &Connection,
    query: &InvocationQuery,
    now: Timestamp,
) -> Result<Vec<InvocationRecord>, Fault> {
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    if let Some(id) = query.invocation {
        conditions.push("invocation = ?");
        values.push(Value::Blob(id.as_bytes().to_vec()));
    }
    if let Some(id) = query.session {
        conditions.push("session = ?");
        values.push(Value::Blob(id.as_bytes().to_vec()));
    }
    if let Some(agent) = &query.agent {
        conditions.push("agent = ?");
        values.push(Value::Text(agent.to_string()));
    }
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    values.push(Value::Integer(i64::from(query.limit.unwrap_or(LIST_MAX))));
    let sql = format!("{INVOCATIONS} {filter} ORDER BY started_at DESC, invocation DESC LIMIT ?");
    records(connection, &sql, values, now)
}

/// Invocations without an end, oldest first.
pub(crate) fn unfinished(
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<InvocationRecord>, Fault> {
    let sql = format!("{INVOCATIONS} WHERE finished_at IS NULL ORDER BY started_at, invocation");
    records(connection, &sql, Vec::new(), now)
}

fn records(
    connection: &Connection,
    sql: &str,
    values: Vec<Value>,
    now: Timestamp,
) -> Result<Vec<InvocationRecord>, Fault> {
    let mut records = many(
        &mut connection.prepare(sql)?,
        params_from_iter(values),
        |row| {
            let record = read_record(row)?;
            let driven = record.outcome.is_none() && now < read_time(row, 12)?;
            Ok(InvocationRecord { driven, ..record })
        },
    )?;
    let mut sums = connection.prepare(
        "SELECT coalesce(sum(cost), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
            coalesce(sum(cache_read_tokens), 0), coalesce(sum(cache_write_5m_tokens), 0),
            coalesce(sum(cache_write_1h_tokens), 0)
        FROM calls WHERE invocation = ?1 AND at IS NOT NULL",
    )?;
    for record in &mut records {
        let sum = one(&mut sums, [record.invocation.as_bytes()], |row| {
            let mut tokens = 0_u64;
            for column in 1..=5 {
                tokens = tokens.saturating_add(read_count(row, column)?);
            }
            Ok((read_money(row, 0)?, tokens))
        })?;
        (record.cost, record.tokens) = sum.unwrap_or((Money::ZERO, 0));
    }
    Ok(records)
}

/// What the row itself says; what it cost and who drives it stands elsewhere.
pub(crate) fn read_record(row: &Row<'_>) -> Result<InvocationRecord, Fault> {
    let finished = row.get_ref(7)? != ValueRef::Null;
    Ok(InvocationRecord {
        invocation: read_invocation(row, 0)?,
        session: read_session(row, 1)?,
        agent: read_name(row, 2)?,
        model: read_name(row, 3)?,
        workflow: read_workflow(row, 4)?,
        title: read_text(row, 5)?,
        started_at: read_time(row, 6)?,
        finished_at: if finished {
            Some(read_time(row, 7)?)
        } else {
            None
        },
        outcome: if finished {
            Some(read_outcome(&read_text(row, 8)?)?)
        } else {
            None
        },
        summary: read_text(row, 9)?,
        result: read_text(row, 10)?,
        resumable: row.get(11)?,
        driven: false,
        cost: Money::ZERO,
        tokens: 0,
    })
}
