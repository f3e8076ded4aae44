//! The rows of the core's rules, in SQLite, read through and written through the writer's memory.

use std::time::Duration;

use otto_core::id::ReservationId;
use otto_core::ledger::{Grant, Ledger, Reservation, ReservationState, Scope};
use otto_core::port::store::{Attribution, Entry, Finish, JournalHead, KillRow, Submission};
use otto_core::store_rules::{Charge, End, InvocationRow, KeyRow, Lapsed, LeaseRow, Rows};
use otto_core::{EffectId, InvocationId, Money, SessionId, Timestamp, UtcDay};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Statement, params};

use crate::chain;
use crate::db::codec::{
    Limits, Own, count, duration, read_account, read_count, read_count_or_null, read_day,
    read_hash, read_invocation, read_money, read_name, read_scopes, read_session, read_text,
    read_time, read_workflow, scopes_text, time,
};
use crate::error::Fault;
use crate::writer::cache::{Cache, KnownInvocation};
use crate::writer::statements::Statements;

/// Rows inside the writer's transaction.
pub(crate) struct SqlRows<'a, 'c> {
    statements: &'a mut Statements<'c>,
    cache: &'a mut Cache,
    artifact_bytes_max: u64,
    /// An answer of this transaction must be durable before it is given.
    must_sync: bool,
}

impl<'a, 'c> SqlRows<'a, 'c> {
    pub(super) fn new(
        statements: &'a mut Statements<'c>,
        cache: &'a mut Cache,
        artifact_bytes_max: u64,
    ) -> Self {
        Self {
            statements,
            cache,
            artifact_bytes_max,
            must_sync: false,
        }
    }

    /// Makes this transaction durable before anybody is answered.
    pub(crate) const fn require_sync(&mut self) {
        self.must_sync = true;
    }

    /// Whether this transaction was asked to be durable.
    pub(super) const fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// Writes the accounts that changed: once per transaction, however many calls changed them.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        while let Some(scope) = self.cache.dirty.pop_first() {
            let account = self.cache.ledger.account(&scope);
            let (scope, spent_tokens, held_tokens) = (
                scope.to_string(),
                count(account.spent_tokens),
                count(account.held_tokens),
            );
            let row = params![
                scope,
                account.spent_cost.picodollars_i64(),
                account.held_cost.picodollars_i64(),
                spent_tokens,
                held_tokens,
                account.warned_cost,
                account.warned_tokens,
                account.latched,
            ];
            // Nearly every time it is there, and an update costs half of an insert that may turn into one.
            if self.statements.set_account.execute(row)? == 0 {
                self.statements.insert_account.execute(row)?;
            }
        }
        while let Some(id) = self.cache.dirty_holds.pop_first() {
            let Some(held) = self
                .cache
                .ledger
                .reservation(&id)
                .filter(|held| held.state == ReservationState::Open)
            else {
                continue;
            };
            self.statements.set_hold.execute(params![
                id.invocation.as_bytes(),
                count(id.effect.0),
                held.grant.held_cost.picodollars_i64(),
                count(held.grant.held_tokens),
            ])?;
        }
        Ok(())
    }

    /// The statements, for rows that the rules of the core do not know.
    pub(crate) fn statements_mut(&mut self) -> &mut Statements<'c> {
        self.statements
    }

    /// How many leases, invocations and accounts are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 3] {
        let Cache {
            leases,
            invocations,
            ledger,
            ..
        } = &*self.cache;
        [leases.len(), invocations.len(), ledger.accounts().len()]
    }

    /// Most bytes of artifacts.
    pub(crate) const fn artifact_bytes_max(&self) -> u64 {
        self.artifact_bytes_max
    }

    /// Throws or lifts the kill switch.
    pub(crate) fn set_kill(&mut self, row: Option<KillRow>) -> Result<(), Fault> {
        match &row {
            Some(row) => self
                .statements
                .throw_kill
                .execute(params![&*row.reason, time(row.at)])?,
            None => self.statements.lift_kill.execute(())?,
        };
        self.cache.kill = Some(row);
        Ok(())
    }

    /// One of the single numbers.
    pub(crate) fn number(&mut self, name: &str) -> Result<u64, Fault> {
        one(&mut self.statements.number, params![name], |row| {
            read_count(row, 0)
        })?
        .ok_or_else(|| {
            Fault::damaged_row(format_args!(
                "the number `{name}` is missing in the database"
            ))
        })
    }

    pub(crate) fn set_number(&mut self, name: &str, value: u64) -> Result<(), Fault> {
        self.statements
            .set_number
            .execute(params![name, count(value)])?;
        Ok(())
    }

    /// The sequence of an invocation's last journal entry; 0 when there is none.
    pub(crate) fn last_sequence(&mut self, id: InvocationId) -> Result<u64, Fault> {
        Ok(self.known(id)?.map_or(0, |known| known.row.last_sequence))
    }

    /// Where the journal of an invocation ends. In memory, but for one that was not written to since before schema
    /// version 5: then it is read once.
    pub(crate) fn journal_head(&mut self, id: InvocationId) -> Result<JournalHead, Fault> {
        let Some(known) = self.known(id)? else {
            return Ok(JournalHead::default());
        };
        let sequence = known.row.last_sequence;
        if let Some(hash) = known.hash {
            return Ok(JournalHead { sequence, hash });
        }
        if known.hashed_from.is_some_and(|from| from <= sequence) {
            return Err(Fault::damaged_row(format_args!(
                "entry {sequence} of the journal of invocation {id} has lost its checksum"
            )));
        }
        let mut head = JournalHead::default();
        if sequence > 0 {
            let mut rows = self.statements.payloads.query(params![id.as_bytes()])?;
            while let Some(row) = rows.next()? {
                head = chain::next(&head, id, read_text(row, 0)?.as_bytes());
            }
        }
        if head.sequence != sequence {
            return Err(Fault::damaged_row(format_args!(
                "the journal of invocation {id} has {} entries, and its last one is {sequence}",
                head.sequence
            )));
        }
        if let Some(known) = self.cache.invocations.get_mut(&id) {
            known.hash = Some(head.hash);
        }
        Ok(head)
    }

    /// Ends every lease but those of these nodes: no other process that held one can be alive.
    pub(crate) fn end_leases_except(&mut self, alive: &[String]) -> Result<(), Fault> {
        let alive = serde_json::Value::from(alive).to_string();
        self.statements.end_leases_except.execute(params![alive])?;
        self.cache.forget_leases();
        Ok(())
    }

    fn load_account(&mut self, scope: &Scope) -> Result<(), Fault> {
        if self.cache.ledger.has_account(scope) {
            return Ok(());
        }
        let text = scope.to_string();
        if let Some(account) = one(&mut self.statements.account, params![text], |row| {
            read_account(row, 0)
        })? {
            self.cache.ledger.load_account(scope.clone(), account);
        } else {
            self.cache
                .ledger
                .load_account(scope.clone(), otto_core::ledger::Account::default());
        }
        Ok(())
    }

    fn load_reservation(&mut self, id: ReservationId) -> Result<(), Fault> {
        if self.cache.ledger.reservation(&id).is_some() {
            return self.load_accounts_of(id);
        }
        let Some(known) = self.known(id.invocation)? else {
            return Ok(());
        };
        let is_new = if id.is_ahead() {
            // What was given back or forfeited is not asked for again.
            known.ahead != Some(id.effect.0)
        } else {
            known.last_effect.is_none_or(|last| last < id.effect.0)
        };
        if is_new {
            return Ok(());
        }
        let session = known.row.session;
        let found = one(
            &mut self.statements.call,
            params![id.invocation.as_bytes(), count(id.effect.0)],
            |row| read_reservation(row, id, session),
        )?;
        let Some(reservation) = found else {
            return Ok(());
        };
        if reservation.state != ReservationState::Settled {
            for (scope, _) in &reservation.scopes {
                self.load_account(scope)?;
            }
        }
        self.cache.ledger.load_reservation(id, reservation);
        self.cache.touched.push(id);
        Ok(())
    }

    /// Brings the accounts of a reservation back that holds nothing: they may have been forgotten beside it. Those
    /// of one that holds something are there.
    fn load_accounts_of(&mut self, id: ReservationId) -> Result<(), Fault> {
        let scopes: Vec<Scope> = match self.cache.ledger.reservation(&id) {
            Some(held) if held.grant.held_cost == Money::ZERO && held.grant.held_tokens == 0 => {
                held.scopes.iter().map(|(scope, _)| scope.clone()).collect()
            }
            _ => return Ok(()),
        };
        for scope in &scopes {
            self.load_account(scope)?;
        }
        Ok(())
    }

    /// An invocation, from memory or from its row.
    fn known(&mut self, id: InvocationId) -> Result<Option<KnownInvocation>, Fault> {
        if let Some(known) = self.cache.invocations.get(&id) {
            return Ok(Some(*known));
        }
        let found = one(
            &mut self.statements.invocation,
            params![id.as_bytes(), first_ahead(id)],
            |row| {
                let ended: bool = row.get(1)?;
                let resumable: bool = row.get(2)?;
                Ok(KnownInvocation {
                    row: InvocationRow {
                        session: read_session(row, 0)?,
                        last_sequence: read_count(row, 3)?,
                        end: ended.then_some(End { resumable }),
                    },
                    last_effect: read_count_or_null(row, 4)?,
                    ahead: read_count_or_null(row, 5)?,
                    hashed_from: read_count_or_null(row, 6)?,
                    // One that cannot be read is missing where the chain goes on, not for money.
                    hash: read_hash(row, 7).ok().flatten(),
                })
            },
        )?;
        if let Some(known) = found {
            self.cache.invocations.insert(id, known);
        }
        Ok(found)
    }

    /// What the row of a reservation implies.
    fn own(&mut self, id: ReservationId, day: UtcDay) -> Result<Own, Fault> {
        let known = self.known(id.invocation)?;
        let session = known.map(|known| known.row.session).ok_or_else(|| {
            Fault::damaged_row(format_args!("reservation {id} belongs to no invocation"))
        })?;
        Ok(Own {
            invocation: id.invocation,
            session,
            day,
        })
    }

    /// Notes the accounts of a reservation as changed; returns it beside the statements that write it.
    fn changed(&mut self, id: ReservationId) -> Result<(&Reservation, &mut Statements<'c>), Fault> {
        self.load_accounts_of(id)?;
        let Cache { ledger, dirty, .. } = &mut *self.cache;
        let reservation = ledger.reservation(&id).ok_or_else(|| {
            Fault::damaged_row(format_args!("reservation {id} vanished from the ledger"))
        })?;
        for (scope, _) in &reservation.scopes {
            if !dirty.contains(scope) {
                dirty.insert(scope.clone());
            }
        }
        Ok((reservation, self.statements))
    }
}

impl Rows for SqlRows<'_, '_> {
    type Error = Fault;

    fn lease(&mut self, session: SessionId) -> Result<Option<LeaseRow>, Fault> {
        if let Some(row) = self.cache.leases.get(&session) {
            return Ok(Some(row.clone()));
        }
        let found = one(
            &mut self.statements.lease,
            params![session.as_bytes()],
            |row| {
                let node = match row.get_ref(0)? {
                    ValueRef::Null => None,
                    _ => Some(read_text(row, 0)?),
                };
                Ok(LeaseRow {
                    node,
                    epoch: read_count(row, 1)?,
                    until: read_time(row, 2)?,
                    ttl: Duration::from_micros(read_count(row, 3)?),
                })
            },
        )?;
        if let Some(row) = &found {
            self.cache.leases.insert(session, row.clone());
        }
        Ok(found)
    }

    fn set_lease(&mut self, session: SessionId, row: LeaseRow) -> Result<(), Fault> {
        self.statements.set_lease.execute(params![
            session.as_bytes(),
            row.node.as_deref(),
            count(row.epoch),
            time(row.until),
            duration(row.ttl),
        ])?;
        if row.node.is_none() {
            self.cache.released.push(session);
        }
        self.cache.leases.insert(session, row);
        Ok(())
    }

    fn cap_leases(&mut self, now: Timestamp) -> Result<(), Fault> {
        if self.statements.cap_leases.execute(params![time(now)])? > 0 {
            self.cache.leases.clear();
        }
        Ok(())
    }

    fn invocation(&mut self, id: InvocationId) -> Result<Option<InvocationRow>, Fault> {
        Ok(self.known(id)?.map(|known| known.row))
    }

    fn invocation_of_key(&mut self, key: &str) -> Result<Option<KeyRow>, Fault> {
        one(
            &mut self.statements.invocation_of_key,
            params![key],
            |row| {
                let fingerprint = match row.get_ref(1)? {
                    ValueRef::Null => None,
                    _ => Some(read_text(row, 1)?),
                };
                Ok(KeyRow {
                    invocation: read_invocation(row, 0)?,
                    fingerprint,
                })
            },
        )
    }

    fn can_insert_invocation(&mut self) -> Result<(), Fault> {
        // The disk is the bound.
        Ok(())
    }

    fn insert_invocation(&mut self, submission: &Submission) -> Result<(), Fault> {
        self.statements.insert_invocation.execute(params![
            submission.invocation.as_bytes(),
            submission.session.as_bytes(),
            submission.agent.as_str(),
            submission.model.as_str(),
            submission.workflow.as_ref().map(|id| id.as_bytes()),
            &*submission.title,
            submission.idempotency_key.as_deref(),
            submission.fingerprint.as_deref(),
            time(submission.at),
        ])?;
        let row = InvocationRow {
            session: submission.session,
            last_sequence: 0,
            end: None,
        };
        self.cache.invocations.insert(
            submission.invocation,
            KnownInvocation {
                row,
                last_effect: None,
                ahead: None,
                hashed_from: Some(1),
                hash: None,
            },
        );
        Ok(())
    }

    fn append(&mut self, id: InvocationId, entries: &[Entry]) -> Result<(), Fault> {
        let mut head = self.journal_head(id)?;
        for entry in entries {
            head = chain::next(&head, id, entry.payload.as_bytes());
            self.statements.append.execute(params![
                id.as_bytes(),
                count(entry.sequence),
                &*entry.payload,
                head.hash,
            ])?;
        }
        let (Some(first), Some(known)) = (entries.first(), self.cache.invocations.get_mut(&id))
        else {
            return Ok(());
        };
        known.row.last_sequence = head.sequence;
        known.hash = Some(head.hash);
        if known.hashed_from.is_none() {
            known.hashed_from = Some(first.sequence);
            self.statements
                .set_hashed_from
                .execute(params![id.as_bytes(), count(first.sequence)])?;
        }
        if known.row.end.is_some() {
            self.statements
                .set_end_hash
                .execute(params![id.as_bytes(), head.hash])?;
        }
        Ok(())
    }

    fn end(&mut self, finish: &Finish) -> Result<(), Fault> {
        let head = self.journal_head(finish.invocation)?;
        self.statements.end.execute(params![
            finish.invocation.as_bytes(),
            time(finish.at),
            finish.outcome.as_str(),
            &*finish.summary,
            &*finish.result,
            finish.resumable,
            head.hash,
        ])?;
        if let Some(known) = self.cache.invocations.get_mut(&finish.invocation) {
            known.row.end = Some(End {
                resumable: finish.resumable,
            });
        }
        self.cache.ended.push(finish.invocation);
        Ok(())
    }

    fn reopen(&mut self, id: InvocationId) -> Result<(), Fault> {
        self.statements.reopen.execute(params![id.as_bytes()])?;
        if let Some(known) = self.cache.invocations.get_mut(&id) {
            known.row.end = None;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<Option<KillRow>, Fault> {
        if let Some(kill) = &self.cache.kill {
            return Ok(kill.clone());
        }
        let found = one(&mut self.statements.kill, params![], read_kill)?;
        self.cache.kill = Some(found.clone());
        Ok(found)
    }

    fn highest_day(&mut self) -> Result<UtcDay, Fault> {
        if let Some(day) = self.cache.highest_day {
            return Ok(day);
        }
        let day = self.number("highest_day")?;
        let day = UtcDay(
            u32::try_from(day)
                .map_err(|_| Fault::damaged_row(format_args!("the highest day is {day}")))?,
        );
        self.cache.highest_day = Some(day);
        Ok(day)
    }

    fn set_highest_day(&mut self, day: UtcDay) -> Result<(), Fault> {
        self.set_number("highest_day", u64::from(day.0))?;
        self.cache.highest_day = Some(day);
        Ok(())
    }

    fn ledger(&mut self, id: ReservationId, scopes: &[Scope]) -> Result<&mut Ledger, Fault> {
        self.load_reservation(id)?;
        for scope in scopes {
            self.load_account(scope)?;
        }
        Ok(&mut self.cache.ledger)
    }

    fn keep_grant(&mut self, id: ReservationId, day: UtcDay) -> Result<(), Fault> {
        let own = self.own(id, day)?;
        let (reservation, statements) = self.changed(id)?;
        let Grant {
            max_output_tokens,
            held_cost,
            held_tokens,
        } = reservation.grant;
        statements.insert_call.execute(params![
            id.invocation.as_bytes(),
            count(id.effect.0),
            i64::from(day.0),
            count(max_output_tokens),
            held_cost.picodollars_i64(),
            count(held_tokens),
            scopes_text(own, &reservation.scopes, Limits::Keep),
        ])?;
        if let Some(known) = self.cache.invocations.get_mut(&id.invocation) {
            if id.is_ahead() {
                known.ahead = Some(id.effect.0);
            } else {
                known.last_effect = known.last_effect.max(Some(id.effect.0));
            }
        }
        Ok(())
    }

    fn keep_settlement(&mut self, id: ReservationId, charge: Option<&Charge>) -> Result<(), Fault> {
        // Days are not written with the scopes, so any will do here.
        let own = self.own(id, UtcDay(0))?;
        let (reservation, statements) = self.changed(id)?;
        let keep = if reservation.state == ReservationState::Forfeited {
            Limits::Keep
        } else {
            Limits::Drop
        };
        let scopes = scopes_text(own, &reservation.scopes, keep);
        let (invocation, effect) = (id.invocation.as_bytes(), count(id.effect.0));
        let state = state_number(reservation.state);
        let changed = match charge {
            // It was no call, so nothing is to be remembered of it.
            None if id.is_ahead() => statements
                .delete_call
                .execute(params![invocation, effect])?,
            None => statements
                .release_call
                .execute(params![invocation, effect, state, scopes])?,
            Some(Charge {
                usage,
                cost,
                attribution,
            }) => {
                let usage = usage.unwrap_or_default();
                statements.charge_call.execute(params![
                    invocation,
                    effect,
                    state,
                    scopes,
                    time(attribution.at),
                    attribution.session.as_bytes(),
                    attribution.agent.as_str(),
                    attribution.workflow.as_ref().map(|id| id.as_bytes()),
                    attribution.model.as_str(),
                    count(usage.input_tokens),
                    count(usage.output_tokens),
                    count(usage.cache_read_tokens),
                    count(usage.cache_write_5m_tokens),
                    count(usage.cache_write_1h_tokens),
                    count(usage.thinking_tokens),
                    cost.picodollars_i64(),
                ])?
            }
        };
        if changed != 1 {
            return Err(Fault::damaged_row(format_args!(
                "reservation {id} has {changed} rows"
            )));
        }
        self.cache.touched.push(id);
        if id.is_ahead()
            && let Some(known) = self.cache.invocations.get_mut(&id.invocation)
        {
            known.ahead = None;
        }
        Ok(())
    }

    fn ahead_of(&mut self, id: InvocationId) -> Result<Option<ReservationId>, Fault> {
        let Some(effect) = self.known(id)?.and_then(|known| known.ahead) else {
            return Ok(None);
        };
        let ahead = ReservationId {
            invocation: id,
            effect: EffectId(effect),
        };
        self.load_reservation(ahead)?;
        Ok(Some(ahead))
    }

    fn load_ahead(&mut self) -> Result<(), Fault> {
        if !self.cache.has_all_ahead {
            for held in self.held_ahead(usize::MAX)? {
                self.load_reservation(held.id)?;
            }
            self.cache.has_all_ahead = true;
        }
        Ok(())
    }

    fn keep_hold(&mut self, id: ReservationId) -> Result<(), Fault> {
        self.cache.dirty_holds.insert(id);
        Ok(())
    }

    fn held_ahead(&mut self, most: usize) -> Result<Vec<Lapsed>, Fault> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let first = first_ahead(InvocationId::from_bytes([0; 16]));
        many(
            &mut self.statements.held_ahead,
            params![first, most],
            |row| read_lapsed(row, Timestamp::EPOCH),
        )
    }

    fn lapsed(&mut self, now: Timestamp, most: usize) -> Result<Vec<Lapsed>, Fault> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        many(
            &mut self.statements.lapsed,
            params![time(now), most],
            |row| read_lapsed(row, now),
        )
    }
}

/// The smallest effect of money held ahead, as a column.
fn first_ahead(id: InvocationId) -> i64 {
    count(ReservationId::ahead_ids(id).start().effect.0)
}

/// An open reservation with whom a forfeit of it belongs to.
fn read_lapsed(row: &Row<'_>, at: Timestamp) -> Result<Lapsed, Fault> {
    Ok(Lapsed {
        id: ReservationId {
            invocation: read_invocation(row, 0)?,
            effect: EffectId(read_count(row, 1)?),
        },
        attribution: Attribution {
            session: read_session(row, 2)?,
            agent: read_name(row, 3)?,
            workflow: read_workflow(row, 4)?,
            model: read_name(row, 5)?,
            at,
        },
    })
}

/// The row of the kill switch: reason, at.
pub(crate) fn read_kill(row: &Row<'_>) -> Result<KillRow, Fault> {
    Ok(KillRow {
        reason: read_text(row, 0)?,
        at: read_time(row, 1)?,
    })
}

fn read_reservation(
    row: &Row<'_>,
    id: ReservationId,
    session: SessionId,
) -> Result<Reservation, Fault> {
    let state = match row.get::<_, i64>(0)? {
        0 => ReservationState::Open,
        1 => ReservationState::Forfeited,
        2 => ReservationState::Settled,
        other => {
            return Err(Fault::damaged_row(format_args!(
                "the state of reservation {id} is {other}"
            )));
        }
    };
    let own = Own {
        invocation: id.invocation,
        session,
        day: read_day(row, 5)?,
    };
    let scopes = row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?;
    Ok(Reservation {
        grant: Grant {
            max_output_tokens: read_count(row, 1)?,
            held_cost: read_money(row, 2)?,
            held_tokens: read_count(row, 3)?,
        },
        // What is settled for good is only asked whether it is there.
        scopes: if state == ReservationState::Settled {
            Vec::new()
        } else {
            read_scopes(own, scopes)?
        },
        state,
    })
}

fn state_number(state: ReservationState) -> i64 {
    match state {
        ReservationState::Open => 0,
        ReservationState::Forfeited => 1,
        ReservationState::Settled => 2,
    }
}

/// The first row, if there is one.
pub(crate) fn one<T>(
    statement: &mut Statement<'_>,
    params: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    statement
        .query_row(params, |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// All rows.
pub(crate) fn many<T>(
    statement: &mut Statement<'_>,
    params: impl rusqlite::Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut rows = statement.query(params)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}
