//! A store with two faces: what every caller sees, and what would be left after a crash.
//!
//! Changes take effect in the order in which they come. A synced change makes everything before it durable;
//! of the relaxed ones since then a crash keeps the first few, by chance. The ledger is the real one.
//!
//! Invariant: a change under a lease that was taken over changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use otto_core::UtcDay;
use otto_core::id::ReservationId;
use otto_core::ledger::{Ledger, ReserveOutcome, ReserveRequest, SettleOutcome, Settlement};
use otto_core::port::store::Entry;

use crate::chance::Draw;
use crate::rule::{Broken, Held, Rule};
use crate::world::books::Books;

/// A change of the store.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The invocation.
    pub(crate) who: usize,
    /// The right to write.
    pub(crate) epoch: u32,
    /// Journal entries that ride on it.
    pub(crate) entries: Vec<Entry>,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Append,
    Reserve {
        request: ReserveRequest,
        today: UtcDay,
        killed: bool,
        /// Planted: the ledger does not see the limits.
        is_generous: bool,
    },
    Settle {
        reservation: ReservationId,
        settlement: Settlement,
        /// Planted: the ledger does not hear of it.
        is_lost: bool,
    },
    Finish,
    /// The session is taken by the next epoch.
    Claim,
    /// Reservations of owners that are taken for dead.
    Sweep(Vec<ReservationId>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Done,
    Fenced,
    Killed,
    Reserved(ReserveOutcome),
    Settled(SettleOutcome),
}

/// Rows, as they are at one moment.
#[derive(Debug, Clone, Default)]
struct Rows {
    ledger: Ledger,
    books: Books,
    journals: Vec<Vec<Entry>>,
    epochs: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Store {
    visible: Rows,
    durable: Rows,
    /// Relaxed changes that are visible and not yet durable.
    pending: Vec<Change>,
    /// Invocations with entries among them.
    pending_owners: BTreeSet<usize>,
}

impl Store {
    pub(crate) fn new(invocations: usize) -> Self {
        let rows = Rows {
            journals: vec![Vec::new(); invocations],
            epochs: vec![0; invocations],
            ..Rows::default()
        };
        Self {
            visible: rows.clone(),
            durable: rows,
            pending: Vec::new(),
            pending_owners: BTreeSet::new(),
        }
    }

    /// A change that is answered when it and everything before it is durable.
    pub(crate) fn synced(&mut self, change: Change) -> Held<Reply> {
        let reply = self.visible.apply(&change)?;
        for earlier in self.pending.drain(..) {
            self.durable.apply(&earlier)?;
        }
        self.pending_owners.clear();
        self.durable.apply(&change)?;
        Ok(reply)
    }

    /// A change that is visible at once and durable with the next synced one.
    pub(crate) fn relaxed(&mut self, change: Change) -> Held<Reply> {
        let reply = self.visible.apply(&change)?;
        if reply != Reply::Fenced {
            self.pending_owners.insert(change.who);
        }
        self.pending.push(change);
        Ok(reply)
    }

    /// The process dies: of what was not synced, the first few changes are left.
    pub(crate) fn crash(&mut self, draw: &mut Draw) -> Held {
        let kept = usize::try_from(draw.between(0, self.pending.len() as u64)).unwrap_or(0);
        for change in self.pending.drain(..).take(kept) {
            self.durable.apply(&change)?;
        }
        self.pending_owners.clear();
        self.visible = self.durable.clone();
        Ok(())
    }

    /// Whether everything that was appended for an invocation is durable.
    pub(crate) fn is_durable(&self, who: usize) -> bool {
        !self.pending_owners.contains(&who)
    }

    pub(crate) fn journal(&self, who: usize) -> &[Entry] {
        &self.visible.journals[who]
    }

    pub(crate) fn epoch(&self, who: usize) -> u32 {
        self.visible.epochs[who]
    }

    pub(crate) fn books(&self) -> &Books {
        &self.visible.books
    }
}

impl Rows {
    fn apply(&mut self, change: &Change) -> Held<Reply> {
        let Change {
            who,
            epoch,
            entries,
            what,
        } = change;
        if let What::Sweep(reservations) = what {
            for id in reservations {
                if let SettleOutcome::Settled(_) = self.ledger.settle(*id, &Settlement::Forfeited) {
                    self.books.swept(&self.ledger, *id)?;
                }
            }
            return Ok(Reply::Done);
        }
        if *epoch != self.epochs[*who] {
            return Ok(Reply::Fenced);
        }
        self.append(*who, entries)?;
        match what {
            What::Append | What::Finish | What::Sweep(_) => Ok(Reply::Done),
            What::Claim => {
                self.epochs[*who] += 1;
                Ok(Reply::Done)
            }
            What::Reserve { killed: true, .. } => Ok(Reply::Killed),
            What::Reserve {
                request,
                today,
                killed: false,
                is_generous,
            } => {
                let outcome = if *is_generous {
                    self.ledger.reserve(*today, &without_limits(request))
                } else {
                    self.ledger.reserve(*today, request)
                };
                if let ReserveOutcome::Granted(grant) = &outcome {
                    self.books.granted(&self.ledger, *today, request, grant)?;
                }
                Ok(Reply::Reserved(outcome))
            }
            What::Settle {
                reservation,
                settlement,
                is_lost,
            } => {
                let outcome = if *is_lost {
                    SettleOutcome::Unknown
                } else {
                    self.ledger.settle(*reservation, settlement)
                };
                self.books.settled(&self.ledger, *reservation, settlement)?;
                Ok(Reply::Settled(outcome))
            }
        }
    }

    /// Entries that are there already are skipped; a gap is a defect of whoever writes.
    fn append(&mut self, who: usize, entries: &[Entry]) -> Held {
        let journal = &mut self.journals[who];
        for entry in entries {
            let next = journal.len() as u64 + 1;
            if entry.sequence > next {
                let detail = format!(
                    "entry {} of #{who} comes where {next} is missing",
                    entry.sequence
                );
                return Err(Broken {
                    rule: Rule::FoldIsLive,
                    detail,
                });
            }
            if entry.sequence == next {
                journal.push(Entry {
                    sequence: next,
                    payload: Arc::clone(&entry.payload),
                });
            }
        }
        Ok(())
    }
}

fn without_limits(request: &ReserveRequest) -> ReserveRequest {
    let mut request = request.clone();
    for limits in &mut request.scopes {
        limits.cost = None;
        limits.tokens = None;
    }
    request
}
