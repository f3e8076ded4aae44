//! How values stand in columns.
//!
//! Invariant: decoding what was encoded gives the same value; anything else is reported as a damaged row,
//! never guessed.

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{Limit, Origin};
use otto_core::invocation::OutcomeKind;
use otto_core::ledger::{Account, Scope, ScopeKey, ScopeLimits};
use otto_core::port::store::ArtifactKind;
use otto_core::{AgentName, InvocationId, Money, SessionId, Timestamp, UtcDay, WorkflowId};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::error::Fault;

/// A count as a column; counts above the column's range stand at its end, as in the ledger.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn time(at: Timestamp) -> i64 {
    count(at.micros())
}

pub(crate) fn duration(value: Duration) -> i64 {
    i64::try_from(value.as_micros()).unwrap_or(i64::MAX)
}

/// A column that is never negative.
pub(crate) fn read_count(row: &Row<'_>, index: usize) -> Result<u64, Fault> {
    let value: i64 = row.get(index)?;
    u64::try_from(value)
        .map_err(|_| Fault::damaged_row(format_args!("a count in the database is {value}")))
}

pub(crate) fn read_money(row: &Row<'_>, index: usize) -> Result<Money, Fault> {
    let value: i64 = row.get(index)?;
    Money::from_picodollars_i64(value).ok_or_else(|| {
        Fault::damaged_row(format_args!(
            "an amount of money in the database is {value}"
        ))
    })
}

pub(crate) fn read_time(row: &Row<'_>, index: usize) -> Result<Timestamp, Fault> {
    read_count(row, index).map(Timestamp::from_micros)
}

pub(crate) fn read_day(row: &Row<'_>, index: usize) -> Result<UtcDay, Fault> {
    let value = read_count(row, index)?;
    u32::try_from(value)
        .map(UtcDay)
        .map_err(|_| Fault::damaged_row(format_args!("a day in the database is {value}")))
}

pub(crate) fn read_text(row: &Row<'_>, index: usize) -> Result<Arc<str>, Fault> {
    Ok(Arc::from(
        row.get_ref(index)?
            .as_str()
            .map_err(rusqlite::Error::from)?,
    ))
}

fn id_bytes(row: &Row<'_>, index: usize) -> Result<[u8; 16], Fault> {
    let bytes = row
        .get_ref(index)?
        .as_blob()
        .map_err(rusqlite::Error::from)?;
    bytes.try_into().map_err(|_| {
        Fault::damaged_row(format_args!(
            "an id in the database has {} bytes",
            bytes.len()
        ))
    })
}

pub(crate) fn read_session(row: &Row<'_>, index: usize) -> Result<SessionId, Fault> {
    id_bytes(row, index).map(SessionId::from_bytes)
}

pub(crate) fn read_invocation(row: &Row<'_>, index: usize) -> Result<InvocationId, Fault> {
    id_bytes(row, index).map(InvocationId::from_bytes)
}

pub(crate) fn read_workflow(row: &Row<'_>, index: usize) -> Result<Option<WorkflowId>, Fault> {
    if row.get_ref(index)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    id_bytes(row, index).map(|bytes| Some(WorkflowId::from_bytes(bytes)))
}

/// A name such as an agent's.
pub(crate) fn read_name<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    index: usize,
) -> Result<T, Fault> {
    let text = row
        .get_ref(index)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    text.parse()
        .map_err(|error| Fault::damaged_row(format_args!("a name in the database: {error}")))
}

pub(crate) fn read_outcome(text: &str) -> Result<OutcomeKind, Fault> {
    [
        OutcomeKind::Completed,
        OutcomeKind::BudgetExhausted,
        OutcomeKind::Deadline,
        OutcomeKind::Cancelled,
        OutcomeKind::Refused,
        OutcomeKind::ProviderFailed,
        OutcomeKind::Failed,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == text)
    .ok_or_else(|| {
        Fault::damaged_row(format_args!(
            "an outcome in the database is `{}`",
            text.escape_default()
        ))
    })
}

pub(crate) fn read_kind(text: &str) -> Result<ArtifactKind, Fault> {
    [
        ArtifactKind::Transcript,
        ArtifactKind::Result,
        ArtifactKind::Intermediate,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == text)
    .ok_or_else(|| {
        Fault::damaged_row(format_args!(
            "an artifact kind in the database is `{}`",
            text.escape_default()
        ))
    })
}

/// The columns of `accounts` from `first` on.
pub(crate) fn read_account(row: &Row<'_>, first: usize) -> Result<Account, Fault> {
    Ok(Account {
        spent_cost: read_money(row, first)?,
        held_cost: read_money(row, first + 1)?,
        spent_tokens: read_count(row, first + 2)?,
        held_tokens: read_count(row, first + 3)?,
        warned_cost: row.get(first + 4)?,
        warned_tokens: row.get(first + 5)?,
        latched: row.get(first + 6)?,
    })
}

/// One account of a reservation, as JSON.
#[derive(Serialize, Deserialize)]
struct HeldIn {
    #[serde(flatten)]
    scope: ScopeColumn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<LimitColumn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<LimitColumn>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
enum ScopeColumn {
    Invocation { id: String },
    Session { id: String },
    Agent { name: String, day: u32 },
    Workflow { id: String },
    Day { day: u32 },
}

#[derive(Serialize, Deserialize)]
struct LimitColumn {
    value: u64,
    origin: String,
}

/// The accounts of a reservation with the limits that applied, as JSON.
pub(crate) fn scopes_text(scopes: &[(Scope, ScopeLimits)]) -> String {
    let rows: Vec<HeldIn> = scopes
        .iter()
        .map(|(scope, limits)| HeldIn {
            scope: match scope {
                Scope::Invocation(id) => ScopeColumn::Invocation { id: id.to_string() },
                Scope::Session(id) => ScopeColumn::Session { id: id.to_string() },
                Scope::Agent(name, day) => ScopeColumn::Agent {
                    name: name.to_string(),
                    day: day.0,
                },
                Scope::Workflow(id) => ScopeColumn::Workflow { id: id.to_string() },
                Scope::Day(day) => ScopeColumn::Day { day: day.0 },
            },
            cost: limits.cost.as_ref().map(|limit| LimitColumn {
                value: limit.value.picodollars(),
                origin: limit.origin.to_string(),
            }),
            tokens: limits.tokens.as_ref().map(|limit| LimitColumn {
                value: limit.value,
                origin: limit.origin.to_string(),
            }),
        })
        .collect();
    serde_json::to_string(&rows).expect("strings and numbers always have a JSON form")
}

/// What [`scopes_text`] wrote.
pub(crate) fn read_scopes(text: &str) -> Result<Vec<(Scope, ScopeLimits)>, Fault> {
    let damaged = |what: &dyn std::fmt::Display| {
        Fault::damaged_row(format_args!("the scopes of a reservation: {what}"))
    };
    let rows: Vec<HeldIn> = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    let mut scopes = Vec::with_capacity(rows.len());
    for row in rows {
        let (scope, key) = match row.scope {
            ScopeColumn::Invocation { id } => {
                let id: InvocationId = id.parse().map_err(|error| damaged(&error))?;
                (Scope::Invocation(id), ScopeKey::Invocation(id))
            }
            ScopeColumn::Session { id } => {
                let id: SessionId = id.parse().map_err(|error| damaged(&error))?;
                (Scope::Session(id), ScopeKey::Session(id))
            }
            ScopeColumn::Agent { name, day } => {
                let name = AgentName::new(&name).map_err(|error| damaged(&error))?;
                (
                    Scope::Agent(name.clone(), UtcDay(day)),
                    ScopeKey::Agent(name),
                )
            }
            ScopeColumn::Workflow { id } => {
                let id: WorkflowId = id.parse().map_err(|error| damaged(&error))?;
                (Scope::Workflow(id), ScopeKey::Workflow(id))
            }
            ScopeColumn::Day { day } => (Scope::Day(UtcDay(day)), ScopeKey::Day),
        };
        let cost = match row.cost {
            None => None,
            Some(limit) => Some(Limit {
                value: Money::from_picodollars(limit.value)
                    .ok_or_else(|| damaged(&"a limit above the largest amount"))?,
                origin: Origin::new(&limit.origin),
            }),
        };
        let tokens = row.tokens.map(|limit| Limit {
            value: limit.value,
            origin: Origin::new(&limit.origin),
        });
        scopes.push((
            scope,
            ScopeLimits {
                scope: key,
                cost,
                tokens,
            },
        ));
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_round_trip() {
        let at = Timestamp::from_millis(1_764_000_000_000);
        let agent = AgentName::new("reviewer").unwrap();
        let workflow = WorkflowId::from_parts(at, [3; 10]);
        let session = SessionId::from_parts(at, [2; 10]);
        let invocation = InvocationId::from_parts(at, [1; 10]);
        let cost = Some(Limit::new(Money::MAX, "--cost \"quoted\"\n"));
        let tokens = Some(Limit::new(u64::MAX, "default"));
        let scopes = [
            (
                ScopeKey::Invocation(invocation),
                cost.clone(),
                tokens.clone(),
            ),
            (ScopeKey::Session(session), None, tokens),
            (ScopeKey::Agent(agent), cost, None),
            (ScopeKey::Workflow(workflow), None, None),
            (ScopeKey::Day, None, None),
        ]
        .map(|(scope, cost, tokens)| {
            (
                scope.on(UtcDay(20_415)),
                ScopeLimits {
                    scope,
                    cost,
                    tokens,
                },
            )
        });
        assert_eq!(read_scopes(&scopes_text(&scopes)).unwrap(), scopes);
    }

    #[test]
    fn damaged_scopes_are_reported() {
        for text in [
            "",
            "{}",
            "[{}]",
            r#"[{"scope":"day"}]"#,
            r#"[{"scope":"agent","name":"../x","day":1}]"#,
            "[1]",
        ] {
            assert!(
                matches!(read_scopes(text), Err(Fault::Refused(_))),
                "{text}"
            );
        }
    }
}
