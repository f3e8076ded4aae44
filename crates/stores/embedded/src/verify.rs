//! Whether the database is whole and adds up.
//!
//! It reads everything and changes nothing: the file's own structure, every row by itself, the totals of every account against
//! the calls they are made of, the chain of every journal, the chain of the audit log, and the clock. The files
//! of artifacts are checked by [`Checkpointer::scrub`](crate::Checkpointer::scrub).

mod journals;

use std::collections::BTreeMap;

use otto_core::ledger::{Account, Scope};
use otto_core::port::store::{AuditCheck, AuditHead, AuditRecord, AuditSpan, StoreError};
use otto_core::store_rules::JournalFact;
use otto_core::{InvocationId, Money, SessionId, UtcDay};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use crate::artifacts;
use crate::audit;
use crate::db::codec::{
    Own, read_account, read_count, read_day, read_invocation, read_money, read_scopes,
    read_session, read_text,
};
use crate::db::schema::TABLES;
use crate::error::Fault;
use crate::reader::{INVOCATIONS, read_record};
use crate::store::EmbeddedStore;
use crate::writer::{many, one};
use journals::KnownHeads;

/// What was checked and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// What is wrong; empty when all is well. At most 1,000, see `more`.
    pub findings: Vec<Finding>,
    /// There are more findings than are listed.
    pub more: bool,
    /// Invocations with a journal.
    pub journals: Vec<InvocationId>,
    /// How many of these are from before entries had checksums, and were not written to since: nothing shows whether
    /// they were changed.
    pub journals_without_checksums: u64,
    /// Model calls.
    pub calls: u64,
    /// Accounts.
    pub accounts: u64,
    /// From where to where the audit log reaches: keep its end elsewhere as an anchor.
    pub audit: AuditSpan,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// What, where, and what was expected.
    pub detail: String,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// The file: restore a backup.
    File,
    /// A row that cannot be read.
    Row,
    /// An account does not add up.
    Ledger,
    /// A journal has a gap, or was changed, cut or rewritten.
    Journal,
    /// The audit log was changed, cut, or does not match the anchor.
    Audit,
    /// The anchor is too old to be compared with the audit log.
    Anchor,
    /// The bytes of artifacts do not add up.
    Artifacts,
    /// The store has seen a day that the clock has not reached.
    Clock,
}

/// BOUND: findings in a report.
const FINDINGS_MAX: usize = 1_000;

impl EmbeddedStore {
    /// Checks the whole database, and the audit log against an anchor kept elsewhere.
    ///
    /// Takes time in proportion to the file; reads and writes go on meanwhile.
    ///
    /// # Errors
    /// When the database cannot be read at all.
    pub async fn verify(&self, anchor: Option<AuditHead>) -> Result<VerifyReport, StoreError> {
        let today = self.inner.clock.now().day();
        self.inner
            .ask("verify the database", move |connection| {
                let mut report = examine(connection, anchor)?;
                if report
                    .findings
                    .iter()
                    .all(|finding| finding.kind != FindingKind::File)
                {
                    clock(connection, today, &mut report)?;
                }
                Ok(report)
            })
            .await
    }
}

/// Checks everything that does not depend on the time.
pub(crate) fn examine(
    connection: &Connection,
    anchor: Option<AuditHead>,
) -> Result<VerifyReport, Fault> {
    let mut report = VerifyReport::default();
    file(connection, &mut report)?;
    // In a damaged file the rest would only repeat that it cannot be read.
    if report.findings.is_empty() {
        texts(connection, &mut report)?;
        invocations(connection, &mut report)?;
        ledger(connection, &mut report)?;
        let heads = audit_log(connection, anchor, &mut report)?;
        journals::check(connection, heads, &mut report)?;
        artifact_rows(connection, &mut report)?;
    }
    Ok(report)
}

impl VerifyReport {
    fn add(&mut self, kind: FindingKind, detail: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { kind, detail });
        } else {
            self.more = true;
        }
    }

    /// Adds a row that cannot be read, once.
    fn add_row(&mut self, name: &str, what: impl std::fmt::Display) {
        // With what follows the key: the name of row 1 begins that of row 12.
        let row = format!("{name} cannot be read: ");
        let is_known = |finding: &Finding| {
            finding.kind == FindingKind::Row && finding.detail.starts_with(&row)
        };
        if !self.findings.iter().any(is_known) {
            self.add(FindingKind::Row, format!("{row}{what}"));
        }
    }

    /// What was read of a row; `None` with a finding if it cannot be read.
    fn readable<T>(
        &mut self,
        read: Result<T, Fault>,
        name: impl FnOnce() -> Result<String, Fault>,
    ) -> Result<Option<T>, Fault> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(fault) => {
                let what = fault.into_damage()?;
                self.add_row(&name()?, what);
                Ok(None)
            }
        }
    }
}

/// A row by its key, which is read whatever it holds: "the row of `journal` with invocation ..., sequence 3:".
pub(crate) fn row_name(
    table: &str,
    row: &Row<'_>,
    keys: &[(usize, &str)],
) -> Result<String, Fault> {
    let mut parts = Vec::with_capacity(keys.len());
    for (index, column) in keys {
        let value = match row.get_ref(*index)? {
            ValueRef::Null => "nothing".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(bytes) => format!("`{}`", bytes.escape_ascii()),
            ValueRef::Blob(bytes) => match (*column, <[u8; 16]>::try_from(bytes)) {
                ("invocation", Ok(id)) => InvocationId::from_bytes(id).to_string(),
                ("session", Ok(id)) => SessionId::from_bytes(id).to_string(),
                _ => format!("`{}`", bytes.escape_ascii()),
            },
        };
        parts.push(format!("{column} {value}"));
    }
    Ok(format!("the row of `{table}` with {}", parts.join(", ")))
}

/// Every text of every table is UTF-8, which SQLite itself does not check.
fn texts(connection: &Connection, report: &mut VerifyReport) -> Result<(), Fault> {
    for table in TABLES {
        let mut keys = connection
            .prepare("SELECT cid, name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
        let keys: Vec<(usize, String)> = many(&mut keys, params![table], |row| {
            Ok((row.get::<_, u32>(0)? as usize, row.get(1)?))
        })?;
        let keys: Vec<(usize, &str)> = keys.iter().map(|(at, name)| (*at, &**name)).collect();
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query(params![])?;
        while let Some(row) = rows.next()? {
            for (index, column) in columns.iter().enumerate() {
                if let ValueRef::Text(bytes) = row.get_ref(index)?
                    && let Err(error) = std::str::from_utf8(bytes)
                {
                    let name = row_name(table, row, &keys)?;
                    report.add_row(&name, format_args!("`{column}` is no text: {error}"));
                    break;
                }
            }
        }
    }
    Ok(())
}

fn invocations(connection: &Connection, report: &mut VerifyReport) -> Result<(), Fault> {
    let mut statement = connection.prepare(INVOCATIONS)?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        report.readable(read_record(row), || {
            row_name("invocations", row, &[(0, "invocation")])
        })?;
    }
    Ok(())
}

fn file(connection: &Connection, report: &mut VerifyReport) -> Result<(), Fault> {
    let lines = many(
        &mut connection.prepare("PRAGMA integrity_check")?,
        params![],
        |row| read_text(row, 0),
    )?;
    for line in lines.iter().filter(|line| &***line != "ok") {
        report.add(FindingKind::File, line.to_string());
    }
    let dangling = many(
        &mut connection.prepare("PRAGMA foreign_key_check")?,
        params![],
        |row| Ok((read_text(row, 0)?, read_text(row, 2)?)),
    )?;
    for (table, parent) in dangling {
        report.add(
            FindingKind::File,
            format!("a row of `{table}` belongs to no row of `{parent}`"),
        );
    }
    Ok(())
}

#[derive(Default)]
struct Totals {
    spent_cost: Money,
    held_cost: Money,
    spent_tokens: u64,
    held_tokens: u64,
}

impl Totals {
    fn add(&mut self, call: &CallRow) {
        const MAX: u64 = i64::MAX.cast_unsigned();
        match call.charged {
            None if call.state == 0 => {
                self.held_cost = self.held_cost.saturating_add(call.held_cost);
                self.held_tokens = self.held_tokens.saturating_add(call.held_tokens).min(MAX);
            }
            None => {}
            Some((cost, tokens)) => {
                let tokens = if call.state == 1 {
                    call.held_tokens
                } else {
                    tokens
                };
                self.spent_cost = self.spent_cost.saturating_add(cost);
                self.spent_tokens = self.spent_tokens.saturating_add(tokens).min(MAX);
            }
        }
    }

    fn matches(&self, account: &Account) -> bool {
        self.spent_cost == account.spent_cost
            && self.held_cost == account.held_cost
            && self.spent_tokens == account.spent_tokens
            && self.held_tokens == account.held_tokens
    }

    /// Whether calls that are missing in this sum can explain what the account says.
    fn may_lack_of(&self, account: &Account) -> bool {
        self.spent_cost <= account.spent_cost
            && self.held_cost <= account.held_cost
            && self.spent_tokens <= account.spent_tokens
            && self.held_tokens <= account.held_tokens
    }

    fn words(&self) -> String {
        format!(
            "{} and {} tokens spent, {} and {} tokens held",
            self.spent_cost, self.spent_tokens, self.held_cost, self.held_tokens
        )
    }
}

struct CallRow {
    state: i64,
    held_cost: Money,
    held_tokens: u64,
    charged: Option<(Money, u64)>,
    scopes: Vec<Scope>,
}

fn ledger(connection: &Connection, report: &mut VerifyReport) -> Result<(), Fault> {
    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    // What only follows from rows that cannot be read is one finding, however many sums they are missing in.
    let (mut unread_calls, mut lacking) = (0_u64, 0_u64);
    let mut unread_accounts = 0;
    let mut statement = connection.prepare(
        "SELECT c.invocation, i.session, c.day, c.scopes, c.state, c.held_cost, c.held_tokens, c.cost,
            c.input_tokens, c.output_tokens, c.cache_read_tokens, c.cache_write_5m_tokens, c.cache_write_1h_tokens, c.id
        FROM calls c JOIN invocations i ON i.invocation = c.invocation",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        report.calls += 1;
        let call = report.readable(read_call(row), || row_name("calls", row, &[(13, "id")]))?;
        unread_calls += u64::from(call.is_none());
        for scope in call.iter().flat_map(|call| &call.scopes) {
            let total = totals.entry(scope.to_string()).or_default();
            call.iter().for_each(|call| total.add(call));
        }
    }
    let mut statement = connection.prepare(
        "SELECT scope, spent_cost, held_cost, spent_tokens, held_tokens, warned_cost, warned_tokens, latched
        FROM accounts",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        report.accounts += 1;
        let read = read_text(row, 0).and_then(|scope| Ok((scope, read_account(row, 1)?)));
        let name = || row_name("accounts", row, &[(0, "scope")]);
        let Some((scope, account)) = report.readable(read, name)? else {
            unread_accounts += 1;
            continue;
        };
        let expected = totals.remove(&*scope).unwrap_or_default();
        if expected.matches(&account) {
            continue;
        }
        if unread_calls > 0 && expected.may_lack_of(&account) {
            lacking += 1;
        } else {
            let found = Totals {
                spent_cost: account.spent_cost,
                held_cost: account.held_cost,
                spent_tokens: account.spent_tokens,
                held_tokens: account.held_tokens,
            };
            report.add(
                FindingKind::Ledger,
                format!(
                    "the account of {scope} says {}; its calls add up to {}",
                    found.words(),
                    expected.words()
                ),
            );
        }
    }
    totals.retain(|_, expected| !expected.matches(&Account::default()));
    if !totals.is_empty() && totals.len() <= unread_accounts {
        report.add(
            FindingKind::Ledger,
            format!(
                "{} scopes with calls have no account, which may be in rows of `accounts` that cannot be read",
                totals.len()
            ),
        );
    } else {
        for (scope, expected) in totals {
            report.add(
                FindingKind::Ledger,
                format!(
                    "{scope} has no account; its calls add up to {}",
                    expected.words()
                ),
            );
        }
    }
    if lacking > 0 {
        report.add(
            FindingKind::Ledger,
            format!(
                "{lacking} accounts say more than their calls add up to, in which rows of `calls` that cannot be read may be missing"
            ),
        );
    }
    Ok(())
}

fn read_call(row: &Row<'_>) -> Result<CallRow, Fault> {
    let own = Own {
        invocation: read_invocation(row, 0)?,
        session: read_session(row, 1)?,
        day: read_day(row, 2)?,
    };
    let scopes = read_scopes(own, &read_text(row, 3)?)?;
    let charged = if row.get_ref(7)? == ValueRef::Null {
        None
    } else {
        let mut tokens = 0_u64;
        for column in 8..=12 {
            tokens = tokens.saturating_add(read_count(row, column)?);
        }
        Some((read_money(row, 7)?, tokens))
    };
    Ok(CallRow {
        state: row.get(4)?,
        held_cost: read_money(row, 5)?,
        held_tokens: read_count(row, 6)?,
        charged,
        scopes: scopes.into_iter().map(|(scope, _)| scope).collect(),
    })
}

/// Follows the audit log; returns where it saw journals end, up to where it can be followed.
fn audit_log(
    connection: &Connection,
    anchor: Option<AuditHead>,
    report: &mut VerifyReport,
) -> Result<KnownHeads, Fault> {
    let mut heads = KnownHeads::default();
    let learn =
        |record: &AuditRecord| JournalFact::all_in(&record.text).for_each(|fact| heads.learn(fact));
    let check = match audit::check(connection, anchor, learn).map_err(Fault::into_damage) {
        Ok(check) => check,
        Err(Ok(what)) => AuditCheck::Broken {
            detail: format!("the audit log cannot be followed: {what}").into(),
        },
        Err(Err(fault)) => return Err(fault),
    };
    match check {
        AuditCheck::Whole(span) => report.audit = span,
        AuditCheck::AnchorRemoved(span) => {
            report.audit = span;
            report.add(
                FindingKind::Anchor,
                format!(
                    "the anchor at {} lies before the beginning of the audit log: records up to {} were removed by its retention",
                    anchor.unwrap_or_default().sequence,
                    span.begins_after.sequence
                ),
            );
        }
        AuditCheck::Broken { detail } => report.add(FindingKind::Audit, detail.to_string()),
    }
    Ok(heads)
}

fn artifact_rows(connection: &Connection, report: &mut VerifyReport) -> Result<(), Fault> {
    let mut statement = connection.prepare(artifacts::ALL)?;
    let mut rows = statement.query(params![])?;
    let mut is_whole = true;
    while let Some(row) = rows.next()? {
        let read = read_session(row, 6).and_then(|session| artifacts::read_known(row, session));
        is_whole &= report.readable(read, || artifacts::name_of(row))?.is_some();
    }
    for what in artifacts::check_contents(connection)? {
        report.add(FindingKind::Artifacts, what);
    }
    // A size may be what cannot be read.
    if !is_whole {
        return Ok(());
    }
    let sum: i64 =
        connection.query_row("SELECT coalesce(sum(size), 0) FROM artifacts", (), |row| {
            row.get(0)
        })?;
    let kept: i64 = connection.query_row(
        "SELECT value FROM meta WHERE name = 'artifact_bytes'",
        (),
        |row| row.get(0),
    )?;
    if sum != kept {
        report.add(
            FindingKind::Artifacts,
            format!("the artifacts have {sum} bytes together, their total says {kept}"),
        );
    }
    Ok(())
}

fn clock(connection: &Connection, today: UtcDay, report: &mut VerifyReport) -> Result<(), Fault> {
    let highest = one(
        &mut connection.prepare("SELECT value FROM meta WHERE name = 'highest_day'")?,
        params![],
        |row| read_day(row, 0),
    )?;
    if let Some(highest) = highest
        && highest > today
    {
        report.add(
            FindingKind::Clock,
            format!(
                "the store has seen {highest}, but the clock says {today}: the limits of that day stay in force until the clock reaches it; set the clock right"
            ),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_listed_once_and_not_taken_for_another_whose_name_it_begins() {
        let mut report = VerifyReport::default();
        for sequence in [12, 1, 12, 1] {
            report.add_row(&format!("the row with sequence {sequence}"), "no text");
        }
        let listed: Vec<&str> = report.findings.iter().map(|found| &*found.detail).collect();
        let expected = [
            "the row with sequence 12 cannot be read: no text",
            "the row with sequence 1 cannot be read: no text",
        ];
        assert_eq!(listed, expected);
    }
}
