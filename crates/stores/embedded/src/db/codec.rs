//! How values stand in columns.
//!
//! Invariant: decoding what was encoded gives the same value; anything else is reported as a damaged row,
//! never guessed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{Limit, Origin};
use otto_core::invocation::OutcomeKind;
use otto_core::ledger::{Account, Period, Scope, ScopeKey, ScopeLimits};
use otto_core::port::store::ArtifactKind;
use otto_core::{
    AgentName, BudgetName, InvocationId, Money, SessionId, Timestamp, UtcDay, WorkflowId,
};
use rusqlite::Row;
use rusqlite::types::ValueRef;
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

/// A column that is null or never negative.
pub(crate) fn read_count_or_null(row: &Row<'_>, index: usize) -> Result<Option<u64>, Fault> {
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        _ => read_count(row, index).map(Some),
    }
}

/// A SHA-256, or null.
pub(crate) fn read_hash(row: &Row<'_>, index: usize) -> Result<Option<[u8; 32]>, Fault> {
    let bytes = match row.get_ref(index)? {
        ValueRef::Null => return Ok(None),
        value => value.as_blob().map_err(rusqlite::Error::from)?,
    };
    bytes.try_into().map(Some).map_err(|_| {
        Fault::damaged_row(format_args!(
            "a checksum in the database has {} bytes",
            bytes.len()
        ))
    })
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
    if row.get_ref(index)? == ValueRef::Null {
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

/// One account of a reservation, as JSON: `["agent", "reviewer", [500000, "agent.yml:7"], null]`.
///
/// Kind; name, absent for the reservation's own invocation and session; most money and most tokens with the
/// place where they were set. Days are those of the row.
#[derive(Serialize, Deserialize)]
struct HeldIn<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Option<Cow<'a, str>>,
    #[serde(borrow)] Option<(u64, Cow<'a, str>)>,
    #[serde(borrow)] Option<(u64, Cow<'a, str>)>,
);

/// What a reservation's row implies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) invocation: InvocationId,
    pub(crate) session: SessionId,
    pub(crate) day: UtcDay,
}

/// Whether limits are kept with the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// A later settlement may still warn.
    Keep,
    /// Settled for good: which accounts it is in is all that is asked.
    Drop,
}

/// The accounts of a reservation with the limits that applied, as JSON.
pub(crate) fn scopes_text(own: Own, scopes: &[(Scope, ScopeLimits)], keep: Limits) -> String {
    let rows: Vec<HeldIn<'_>> = scopes
        .iter()
        .map(|(scope, limits)| {
            let (kind, name) = match scope {
                Scope::Invocation(id) if *id == own.invocation => ("invocation", None),
                Scope::Invocation(id) => ("invocation", Some(Cow::Owned(id.to_string()))),
                Scope::Session(id) if *id == own.session => ("session", None),
                Scope::Session(id) => ("session", Some(Cow::Owned(id.to_string()))),
                Scope::Agent(name, _) => ("agent", Some(Cow::Borrowed(name.as_str()))),
                Scope::Workflow(id) => ("workflow", Some(Cow::Owned(id.to_string()))),
                Scope::Budget(name, None) => ("budget", Some(Cow::Borrowed(name.as_str()))),
                Scope::Budget(name, Some(_)) => ("day_budget", Some(Cow::Borrowed(name.as_str()))),
                Scope::Day(_) => ("day", None),
            };
            let limits = (keep == Limits::Keep).then_some(limits);
            let cost = limits.and_then(|limits| limits.cost.as_ref());
            let tokens = limits.and_then(|limits| limits.tokens.as_ref());
            HeldIn(
                Cow::Borrowed(kind),
                name,
                cost.map(|limit| (limit.value.picodollars(), Cow::Borrowed(&*limit.origin.0))),
                tokens.map(|limit| (limit.value, Cow::Borrowed(&*limit.origin.0))),
            )
        })
        .collect();
    serde_json::to_string(&rows).expect("strings and numbers always have a JSON form")
}

/// What [`scopes_text`] wrote.
pub(crate) fn read_scopes(own: Own, text: &str) -> Result<Vec<(Scope, ScopeLimits)>, Fault> {
    let damaged = |what: &dyn std::fmt::Display| {
        Fault::damaged_row(format_args!("the scopes of a reservation: {what}"))
    };
    let rows: Vec<HeldIn<'_>> = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    let mut scopes = Vec::with_capacity(rows.len());
    for HeldIn(kind, name, cost, tokens) in rows {
        let key = match (&*kind, name.as_deref()) {
            ("invocation", None) => ScopeKey::Invocation(own.invocation),
            ("invocation", Some(id)) => {
                ScopeKey::Invocation(id.parse().map_err(|error| damaged(&error))?)
            }
            ("session", None) => ScopeKey::Session(own.session),
            ("session", Some(id)) => {
                ScopeKey::Session(id.parse().map_err(|error| damaged(&error))?)
            }
            ("agent", Some(name)) => {
                ScopeKey::Agent(AgentName::new(name).map_err(|error| damaged(&error))?)
            }
            ("workflow", Some(id)) => {
                ScopeKey::Workflow(id.parse().map_err(|error| damaged(&error))?)
            }
            ("budget", Some(name)) => ScopeKey::Budget(
                BudgetName::new(name).map_err(|error| damaged(&error))?,
                Period::Ever,
            ),
            ("day_budget", Some(name)) => ScopeKey::Budget(
                BudgetName::new(name).map_err(|error| damaged(&error))?,
                Period::Day,
            ),
            ("day", None) => ScopeKey::Day,
            _ => return Err(damaged(&"an unknown kind of scope")),
        };
        let cost = match cost {
            None => None,
            Some((value, origin)) => Some(Limit {
                value: Money::from_picodollars(value)
                    .ok_or_else(|| damaged(&"a limit above the largest amount"))?,
                origin: Origin::new(&origin),
            }),
        };
        let tokens = tokens.map(|(value, origin)| Limit {
            value,
            origin: Origin::new(&origin),
        });
        scopes.push((
            key.on(own.day),
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

    fn own() -> Own {
        let at = Timestamp::from_millis(1_764_000_000_000);
        Own {
            invocation: InvocationId::from_parts(at, [1; 10]),
            session: SessionId::from_parts(at, [2; 10]),
            day: UtcDay(20_415),
        }
    }

    #[test]
    fn scopes_round_trip() {
        let own = own();
        let other = Timestamp::from_millis(7);
        let cost = Some(Limit::new(Money::MAX, "--cost \"quoted\"\n"));
        let tokens = Some(Limit::new(u64::MAX, "default"));
        let scopes = [
            (
                ScopeKey::Invocation(own.invocation),
                cost.clone(),
                tokens.clone(),
            ),
            (ScopeKey::Session(own.session), None, tokens),
            (
                ScopeKey::Invocation(InvocationId::from_parts(other, [1; 10])),
                cost.clone(),
                None,
            ),
            (
                ScopeKey::Session(SessionId::from_parts(other, [2; 10])),
                None,
                None,
            ),
            (
                ScopeKey::Agent(AgentName::new("reviewer").unwrap()),
                cost,
                None,
            ),
            (
                ScopeKey::Workflow(WorkflowId::from_parts(other, [3; 10])),
                None,
                None,
            ),
            (
                ScopeKey::Budget(BudgetName::new("research").unwrap(), Period::Ever),
                None,
                None,
            ),
            (
                ScopeKey::Budget(BudgetName::new("research").unwrap(), Period::Day),
                None,
                None,
            ),
            (ScopeKey::Day, None, None),
        ]
        .map(|(scope, cost, tokens)| {
            (
                scope.on(own.day),
                ScopeLimits {
                    scope,
                    cost,
                    tokens,
                },
            )
        });
        assert_eq!(
            read_scopes(own, &scopes_text(own, &scopes, Limits::Keep)).unwrap(),
            scopes
        );
        let without = read_scopes(own, &scopes_text(own, &scopes, Limits::Drop)).unwrap();
        assert!(
            without
                .iter()
                .zip(&scopes)
                .all(|((read, limits), (scope, _))| {
                    read == scope && limits.cost.is_none() && limits.tokens.is_none()
                })
        );
    }

    #[test]
    fn damaged_scopes_are_reported() {
        for text in [
            "",
            "{}",
            "[{}]",
            "[1]",
            r#"[["day"]]"#,
            r#"[["agent","../x",null,null]]"#,
            r#"[["agent",null,null,null]]"#,
            r#"[["week",null,null,null]]"#,
            r#"[["day",null,[9223372036854775808,"x"],null]]"#,
        ] {
            assert!(
                matches!(read_scopes(own(), text), Err(Fault::Damaged(_))),
                "{text}"
            );
        }
    }
}
