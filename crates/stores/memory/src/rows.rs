//! The rows of the core's rules, in ordered maps.
//!
//! Invariant: what can fail (a bound) is looked at before anything is changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use otto_core::id::ReservationId;
use otto_core::ledger::{Ledger, ReservationState, Scope};
use otto_core::port::store::{Attribution, Entry, Finish, KillRow, StoreError, Submission};
use otto_core::store_rules::{Charge, End, InvocationRow, KeyRow, Lapsed, LeaseRow, Rows};
use otto_core::{AgentName, InvocationId, ModelId, SessionId, Timestamp, UtcDay, WorkflowId};

use crate::Bounds;

/// All rows.
#[derive(Debug)]
pub(crate) struct MemoryRows {
    bounds: Bounds,
    pub(crate) sessions: BTreeMap<SessionId, LeaseRow>,
    /// In boxes: the nodes of a map that grows at its end are half empty.
    pub(crate) invocations: BTreeMap<InvocationId, Box<Invocation>>,
    keys: BTreeMap<Arc<str>, KeyRow>,
    kill: Option<KillRow>,
    highest_day: UtcDay,
    pub(crate) ledger: Ledger,
    /// The reservations that hold money, with the day they are booked on.
    open: BTreeMap<ReservationId, UtcDay>,
    pub(crate) charges: BTreeMap<ReservationId, (UtcDay, Charge)>,
    /// Bytes of journals and results.
    bytes: usize,
    /// Invocations whose journal may be dropped, in the order of their ends.
    ended: VecDeque<InvocationId>,
}

/// An invocation with its journal: of its submission what is asked for later. Many wait for long.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) session: SessionId,
    pub(crate) agent: AgentName,
    pub(crate) model: ModelId,
    pub(crate) workflow: Option<WorkflowId>,
    pub(crate) title: Arc<str>,
    pub(crate) submitted_at: Timestamp,
    pub(crate) entries: Vec<Entry>,
    pub(crate) finish: Option<Box<Finish>>,
    /// The journal was dropped: the bound was reached.
    pub(crate) dropped: bool,
    last_sequence: u64,
}

impl MemoryRows {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            sessions: BTreeMap::new(),
            invocations: BTreeMap::new(),
            keys: BTreeMap::new(),
            kill: None,
            highest_day: UtcDay(0),
            ledger: Ledger::new(),
            open: BTreeMap::new(),
            charges: BTreeMap::new(),
            bytes: 0,
            ended: VecDeque::new(),
        }
    }

    /// An open reservation with whom a forfeit of it belongs to.
    fn owed(&self, id: ReservationId, at: Timestamp) -> Option<Lapsed> {
        let invocation = self.invocations.get(&id.invocation)?;
        Some(Lapsed {
            id,
            attribution: Attribution {
                session: invocation.session,
                agent: invocation.agent.clone(),
                workflow: invocation.workflow,
                model: invocation.model.clone(),
                at,
            },
        })
    }

    pub(crate) fn set_kill(&mut self, row: Option<KillRow>) {
        self.kill = row;
    }

    /// Drops the journals of those that ended first until the rest fits.
    fn trim(&mut self) {
        while self.bytes > self.bounds.journal_bytes
            && let Some(id) = self.ended.pop_front()
        {
            let Some(invocation) = self.invocations.get_mut(&id) else {
                continue;
            };
            // One that was reopened and ended again stands in the list a second time.
            let Some(finish) = invocation
                .finish
                .as_mut()
                .filter(|finish| !finish.resumable)
            else {
                continue;
            };
            if invocation.dropped {
                continue;
            }
            self.bytes = self
                .bytes
                .saturating_sub(size_of_entries(&invocation.entries) + finish.result.len());
            finish.result = Arc::from("");
            invocation.entries = Vec::new();
            invocation.dropped = true;
            let known = self.ledger.reservations_of(id).map(|(id, _)| *id);
            for id in known.collect::<Vec<_>>() {
                self.ledger.forget(&id);
            }
        }
    }
}

fn size_of_entries(entries: &[Entry]) -> usize {
    entries
        .iter()
        .map(|entry| entry.payload.len() + size_of::<Entry>())
        .sum()
}

impl Rows for MemoryRows {
    type Error = StoreError;

    fn lease(&mut self, session: SessionId) -> Result<Option<LeaseRow>, StoreError> {
        Ok(self.sessions.get(&session).cloned())
    }

    fn set_lease(&mut self, session: SessionId, row: LeaseRow) -> Result<(), StoreError> {
        self.sessions.insert(session, row);
        Ok(())
    }

    fn cap_leases(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for row in self.sessions.values_mut().filter(|row| row.node.is_some()) {
            row.until = row.until.min(now.after(row.ttl));
        }
        Ok(())
    }

    fn invocation(&mut self, id: InvocationId) -> Result<Option<InvocationRow>, StoreError> {
        Ok(self.invocations.get(&id).map(|invocation| InvocationRow {
            session: invocation.session,
            last_sequence: invocation.last_sequence,
            end: invocation.finish.as_ref().map(|finish| End {
                resumable: finish.resumable,
            }),
        }))
    }

    fn invocation_of_key(&mut self, key: &str) -> Result<Option<KeyRow>, StoreError> {
        Ok(self.keys.get(key).cloned())
    }

    fn can_insert_invocation(&mut self) -> Result<(), StoreError> {
        if self.invocations.len() < self.bounds.invocations {
            return Ok(());
        }
        let detail = format!(
            "submit an invocation to the store in memory: it holds {} already; use the embedded store for more",
            self.bounds.invocations
        );
        Err(StoreError::Full {
            detail: Arc::from(detail),
        })
    }

    fn insert_invocation(&mut self, submission: &Submission) -> Result<(), StoreError> {
        if let Some(key) = &submission.idempotency_key {
            let row = KeyRow {
                invocation: submission.invocation,
                fingerprint: submission.fingerprint.clone(),
            };
            self.keys.insert(key.clone(), row);
        }
        let invocation = Invocation {
            session: submission.session,
            agent: submission.agent.clone(),
            model: submission.model.clone(),
            workflow: submission.workflow,
            title: submission.title.clone(),
            submitted_at: submission.at,
            entries: Vec::new(),
            finish: None,
            dropped: false,
            last_sequence: 0,
        };
        self.invocations
            .insert(submission.invocation, Box::new(invocation));
        Ok(())
    }

    fn append(&mut self, id: InvocationId, entries: &[Entry]) -> Result<(), StoreError> {
        if let (Some(invocation), Some(last)) = (self.invocations.get_mut(&id), entries.last()) {
            invocation.last_sequence = last.sequence;
            // What follows a dropped journal would be a journal with a gap.
            if !invocation.dropped {
                if invocation.entries.is_empty() {
                    // Many wait for long with nothing but their beginning.
                    invocation.entries.reserve_exact(entries.len());
                }
                invocation.entries.extend_from_slice(entries);
                self.bytes += size_of_entries(entries);
                self.trim();
            }
        }
        Ok(())
    }

    fn end(&mut self, finish: &Finish) -> Result<(), StoreError> {
        if let Some(invocation) = self.invocations.get_mut(&finish.invocation) {
            invocation.finish = Some(Box::new(Finish {
                entries: Vec::new(),
                artifacts: Vec::new(),
                ..finish.clone()
            }));
            self.bytes += finish.result.len();
            self.ended.push_back(finish.invocation);
            self.trim();
        }
        Ok(())
    }

    fn reopen(&mut self, id: InvocationId) -> Result<(), StoreError> {
        if let Some(invocation) = self.invocations.get_mut(&id)
            && let Some(finish) = invocation.finish.take()
        {
            self.bytes = self.bytes.saturating_sub(finish.result.len());
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<Option<KillRow>, StoreError> {
        Ok(self.kill.clone())
    }

    fn highest_day(&mut self) -> Result<UtcDay, StoreError> {
        Ok(self.highest_day)
    }

    fn set_highest_day(&mut self, day: UtcDay) -> Result<(), StoreError> {
        self.highest_day = day;
        Ok(())
    }

    fn ledger(&mut self, _id: ReservationId, _scopes: &[Scope]) -> Result<&mut Ledger, StoreError> {
        Ok(&mut self.ledger)
    }

    fn keep_grant(&mut self, id: ReservationId, day: UtcDay) -> Result<(), StoreError> {
        self.open.insert(id, day);
        Ok(())
    }

    fn keep_settlement(
        &mut self,
        id: ReservationId,
        charge: Option<&Charge>,
    ) -> Result<(), StoreError> {
        let day = self.open.get(&id).copied();
        if self
            .ledger
            .reservation(&id)
            .is_none_or(|reservation| reservation.state != ReservationState::Open)
        {
            self.open.remove(&id);
        }
        match charge {
            Some(charge) => {
                // One that corrects a forfeit stays on its day.
                let day = day.or_else(|| self.charges.get(&id).map(|(day, _)| *day));
                let day = day.unwrap_or(self.highest_day);
                self.charges.insert(id, (day, charge.clone()));
            }
            None => {
                self.charges.remove(&id);
            }
        }
        Ok(())
    }

    fn ahead_of(&mut self, id: InvocationId) -> Result<Option<ReservationId>, StoreError> {
        Ok(self.ledger.ahead_of(id))
    }

    fn load_ahead(&mut self) -> Result<(), StoreError> {
        // All of it is in the ledger.
        Ok(())
    }

    fn keep_hold(&mut self, _id: ReservationId) -> Result<(), StoreError> {
        Ok(())
    }

    fn held_ahead(&mut self, most: usize) -> Result<Vec<Lapsed>, StoreError> {
        let held = self.open.keys().filter(|id| id.is_ahead());
        Ok(held
            .filter_map(|id| self.owed(*id, Timestamp::EPOCH))
            .take(most)
            .collect())
    }

    fn lapsed(&mut self, now: Timestamp, most: usize) -> Result<Vec<Lapsed>, StoreError> {
        let lapsed = self.open.keys().filter(|id| {
            self.invocations.get(&id.invocation).is_some_and(|found| {
                let is_live = self
                    .sessions
                    .get(&found.session)
                    .is_some_and(|row| row.is_live(now));
                found.finish.is_some() || !is_live
            })
        });
        Ok(lapsed
            .filter_map(|id| self.owed(*id, now))
            .take(most)
            .collect())
    }
}
