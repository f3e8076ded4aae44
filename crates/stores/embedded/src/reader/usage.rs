//! Sums of usage, exact: a sum that does not fit 64 bits is an error, never a wrapped number.

use std::collections::BTreeMap;

use otto_core::model::Usage;
use otto_core::port::store::{UsageGroup, UsageQuery, UsageSum};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::db::codec::{
    read_count, read_day, read_invocation, read_money, read_session, read_text, read_workflow, time,
};
use crate::error::Fault;
use crate::writer::many;

const SUMS: &str = "count(*), coalesce(sum(state = 1), 0), coalesce(sum(input_tokens), 0),
    coalesce(sum(output_tokens), 0), coalesce(sum(cache_read_tokens), 0), coalesce(sum(cache_write_5m_tokens), 0),
    coalesce(sum(cache_write_1h_tokens), 0), coalesce(sum(thinking_tokens), 0), coalesce(sum(cost), 0),
    coalesce(sum(CASE state WHEN 1 THEN cost END), 0)";

/// Sums of usage rows, grouped as asked, in the order of their keys.
pub(crate) fn usage(connection: &Connection, query: &UsageQuery) -> Result<Vec<UsageSum>, Fault> {
    let mut groups: Vec<UsageGroup> = Vec::new();
    for group in &query.group_by {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let (filter, values) = filter(query);
    let columns: Vec<&str> = groups.iter().map(|group| column(*group)).collect();
    let sql = if columns.is_empty() {
        format!("SELECT {SUMS} FROM calls {filter}")
    } else {
        let columns = columns.join(", ");
        format!("SELECT {columns}, {SUMS} FROM calls {filter} GROUP BY {columns}")
    };
    let mut sums = many(
        &mut connection.prepare(&sql)?,
        params_from_iter(values),
        |row| read_sum(row, &groups),
    )?;
    sums.sort_by(|a, b| {
        groups
            .iter()
            .map(|group| a.key.get(group))
            .cmp(groups.iter().map(|group| b.key.get(group)))
    });
    Ok(sums)
}

fn filter(query: &UsageQuery) -> (String, Vec<Value>) {
    let mut conditions = vec!["at IS NOT NULL"];
    let mut values = Vec::new();
    let mut add = |condition, value| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(from) = query.from {
        add("at >= ?", Value::Integer(time(from)));
    }
    if let Some(to) = query.to {
        add("at < ?", Value::Integer(time(to)));
    }
    if let Some(agent) = &query.agent {
        add("agent = ?", Value::Text(agent.to_string()));
    }
    if let Some(id) = &query.session {
        add("session = ?", Value::Blob(id.as_bytes().to_vec()));
    }
    if let Some(id) = &query.workflow {
        add("workflow = ?", Value::Blob(id.as_bytes().to_vec()));
    }
    if let Some(id) = &query.invocation {
        add("invocation = ?", Value::Blob(id.as_bytes().to_vec()));
    }
    (format!("WHERE {}", conditions.join(" AND ")), values)
}

const fn column(group: UsageGroup) -> &'static str {
    match group {
        UsageGroup::Day => "day",
        UsageGroup::Agent => "agent",
        UsageGroup::Model => "model",
        UsageGroup::Session => "session",
        UsageGroup::Workflow => "workflow",
        UsageGroup::Invocation => "invocation",
    }
}

fn read_sum(row: &Row<'_>, groups: &[UsageGroup]) -> Result<UsageSum, Fault> {
    let mut key = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        let value = match group {
            UsageGroup::Day => read_day(row, index)?.to_string(),
            UsageGroup::Agent | UsageGroup::Model => read_text(row, index)?.to_string(),
            UsageGroup::Session => read_session(row, index)?.to_string(),
            UsageGroup::Workflow => read_workflow(row, index)?
                .map(|id| id.to_string())
                .unwrap_or_default(),
            UsageGroup::Invocation => read_invocation(row, index)?.to_string(),
        };
        key.insert(*group, value);
    }
    let first = groups.len();
    Ok(UsageSum {
        key,
        calls: read_count(row, first)?,
        unconfirmed_calls: read_count(row, first + 1)?,
        usage: Usage {
            input_tokens: read_count(row, first + 2)?,
            output_tokens: read_count(row, first + 3)?,
            cache_read_tokens: read_count(row, first + 4)?,
            cache_write_5m_tokens: read_count(row, first + 5)?,
            cache_write_1h_tokens: read_count(row, first + 6)?,
            thinking_tokens: read_count(row, first + 7)?,
        },
        cost: read_money(row, first + 8)?,
        unconfirmed_cost: read_money(row, first + 9)?,
    })
}
