//! What the writer remembers of rows, so that most calls read nothing.
//!
//! Only a memory: every change is written through in the same transaction, and the whole is dropped when a
//! transaction fails or another process has committed. What has ended is forgotten at once, so that the memory
//! follows what runs and not what ever ran.

use std::collections::{BTreeSet, HashMap};

use otto_core::id::ReservationId;
use otto_core::ledger::{Ledger, Scope};
use otto_core::port::store::KillRow;
use otto_core::store_rules::{InvocationRow, LeaseRow};
use otto_core::{InvocationId, SessionId, UtcDay};

use crate::writer::statements::Statements;

/// BOUND: remembered rows per kind. At the bound all that are not in use are forgotten and read again on use.
const ROWS_MAX: usize = 20_000;

/// What the writer remembers.
#[derive(Default)]
pub(crate) struct Cache {
    pub(super) ledger: Ledger,
    /// Accounts that changed in this transaction and are not written yet.
    pub(super) dirty: BTreeSet<Scope>,
    /// Open reservations whose hold changed in this transaction and is not written yet.
    pub(super) dirty_holds: BTreeSet<ReservationId>,
    /// Whether the ledger has all money held ahead.
    pub(super) has_all_ahead: bool,
    /// Reservations that this transaction brought into the ledger or settled.
    pub(super) touched: Vec<ReservationId>,
    /// Invocations that this transaction has ended.
    pub(super) ended: Vec<InvocationId>,
    /// Sessions whose lease this transaction has given back.
    pub(super) released: Vec<SessionId>,
    /// Accounts that stayed when those not in use were forgotten: they are looked through again at twice as many.
    accounts_kept: usize,
    pub(super) leases: HashMap<SessionId, LeaseRow>,
    pub(super) invocations: HashMap<InvocationId, KnownInvocation>,
    pub(super) kill: Option<Option<KillRow>>,
    pub(super) highest_day: Option<UtcDay>,
    data_version: Option<i64>,
}

/// An invocation as the writer remembers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownInvocation {
    pub(super) row: InvocationRow,
    /// The highest effect that money was held for: a higher one is new, without a look.
    pub(super) last_effect: Option<u64>,
    /// The effect of the money that it holds ahead.
    pub(super) ahead: Option<u64>,
    /// The first journal entry with a hash of its own.
    pub(super) hashed_from: Option<u64>,
    /// The hash of the last journal entry; `None` if it was not computed yet.
    pub(super) hash: Option<[u8; 32]>,
}

impl Cache {
    /// What the rows are like now, if another connection has committed since [`Self::refresh`] was told of it. Asked
    /// inside a transaction.
    pub(super) fn foreign(
        &mut self,
        statements: &mut Statements<'_>,
    ) -> rusqlite::Result<Option<i64>> {
        let version: i64 = statements.data_version.query_row((), |row| row.get(0))?;
        let before = *self.data_version.get_or_insert(version);
        Ok((before != version).then_some(version))
    }

    /// Forgets everything, since rows of this version are ones that this Otto may go on from.
    pub(super) fn refresh(&mut self, version: i64) {
        self.data_version = Some(version);
        self.reset();
    }

    /// Forgets everything but the version of the file.
    pub(super) fn reset(&mut self) {
        *self = Self {
            data_version: self.data_version,
            ..Self::default()
        };
    }

    /// Forgets all leases: their rows have changed.
    pub(super) fn forget_leases(&mut self) {
        self.leases.clear();
    }

    /// After a commit: drops what no longer holds money, and everything above the bounds.
    pub(super) fn trim(&mut self) {
        for id in self.touched.drain(..) {
            self.ledger.forget(&id);
        }
        for id in self.ended.drain(..) {
            self.invocations.remove(&id);
            self.ledger.forget_account(&Scope::Invocation(id));
        }
        for session in self.released.drain(..) {
            self.leases.remove(&session);
            self.ledger.forget_account(&Scope::Session(session));
        }
        let accounts = self.ledger.accounts();
        if accounts.len() > ROWS_MAX.max(2 * self.accounts_kept) {
            let scopes: Vec<Scope> = accounts.map(|(scope, _)| scope.clone()).collect();
            for scope in &scopes {
                self.ledger.forget_account(scope);
            }
            self.accounts_kept = self.ledger.accounts().len();
        }
        if self.leases.len() > ROWS_MAX {
            self.leases.clear();
        }
        if self.invocations.len() > ROWS_MAX {
            self.invocations.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use otto_core::agent::Limit;
    use otto_core::invocation::OutcomeKind;
    use otto_core::ledger::{
        LookAhead, Quote, ReserveOutcome, ReserveRequest, ScopeKey, ScopeLimits, Settlement,
    };
    use otto_core::model::Usage;
    use otto_core::port::store::*;
    use otto_core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp};
    use otto_sim::conformance::block_on;

    use super::*;
    use crate::{EmbeddedStore, StoreConfig};

    /// A call that holds and costs a dollar.
    const PAID: EffectId = EffectId(1);
    /// A call that holds nothing.
    const FREE: EffectId = EffectId(2);

    fn remembered(store: &EmbeddedStore) -> [usize; 3] {
        let look = store
            .inner
            .change(Durability::Relaxed, |rows, _| Ok(rows.remembered()));
        block_on(look).unwrap()
    }

    fn ids(n: u8) -> (InvocationId, SessionId) {
        let id = [n, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        (
            InvocationId::from_parts(Timestamp::EPOCH, id),
            SessionId::from_parts(Timestamp::EPOCH, id),
        )
    }

    fn begin(store: &EmbeddedStore, n: u8) -> Lease {
        let (invocation, session) = ids(n);
        let submission = Submission {
            invocation,
            session,
            node: store.node().clone(),
            ttl: Duration::from_secs(30),
            agent: AgentName::new("agent").unwrap(),
            model: ModelId::new("model").unwrap(),
            workflow: None,
            title: Arc::from("go"),
            idempotency_key: None,
            fingerprint: None,
            entries: Vec::new(),
            durability: Durability::Relaxed,
            at: Timestamp::EPOCH,
        };
        let SubmitOutcome::Accepted(lease) = block_on(store.submit(submission)).unwrap() else {
            panic!("the session is free");
        };
        let limits = |scope| ScopeLimits {
            scope,
            cost: Some(Limit::new(Money::from_dollars(10), "a test")),
            tokens: None,
        };
        let scopes = [
            ScopeKey::Invocation(invocation),
            ScopeKey::Session(session),
            ScopeKey::Day,
        ];
        let scopes: Vec<ScopeLimits> = scopes.into_iter().map(limits).collect();
        for (effect, tokens, dollars) in [(PAID, 50, 1), (FREE, 0, 0)] {
            let call = ReserveCall {
                lease: lease.clone(),
                request: ReserveRequest {
                    id: ReservationId { invocation, effect },
                    scopes: scopes.clone(),
                    quote: Quote {
                        prompt_tokens: tokens,
                        prompt_cost: Money::from_dollars(dollars),
                        output_price: Money::ZERO,
                        output_wanted: tokens,
                        output_floor: tokens,
                    },
                },
                after: 0,
                entries: Vec::new(),
                look_ahead: LookAhead::None,
            };
            let ReserveReply::Ledger(ReserveOutcome::Granted(_)) =
                block_on(store.reserve(call)).unwrap()
            else {
                panic!("it is within the limits");
            };
        }
        lease
    }

    fn settle(store: &EmbeddedStore, n: u8, lease: &Lease, effect: EffectId, dollars: u32) {
        let (invocation, session) = ids(n);
        let settle = SettleCall {
            lease: lease.clone(),
            reservation: ReservationId { invocation, effect },
            settlement: Settlement::Used {
                usage: Usage::default(),
                cost: Money::from_dollars(dollars),
            },
            attribution: Attribution {
                session,
                agent: AgentName::new("agent").unwrap(),
                workflow: None,
                model: ModelId::new("model").unwrap(),
                at: Timestamp::EPOCH,
            },
            entries: Vec::new(),
            durability: Durability::Relaxed,
        };
        block_on(store.settle(settle)).unwrap();
    }

    fn end(store: &EmbeddedStore, n: u8, lease: &Lease) {
        settle(store, n, lease, PAID, 1);
        let (invocation, _) = ids(n);
        let finish = Finish {
            lease: lease.clone(),
            invocation,
            outcome: OutcomeKind::Completed,
            summary: Arc::from("completed"),
            result: Arc::from(""),
            after: 0,
            entries: Vec::new(),
            artifacts: Vec::new(),
            resumable: true,
            at: Timestamp::EPOCH,
        };
        block_on(store.finish(finish)).unwrap();
    }

    #[test]
    fn what_has_ended_is_forgotten_and_read_again_when_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(StoreConfig::new(folder.path(), "node")).unwrap();
        let leases: Vec<Lease> = (0..8).map(|n| begin(&store, n)).collect();
        let day = 1;
        assert_eq!(remembered(&store), [8, 8, 16 + day]);
        for (n, lease) in (0..8).zip(&leases) {
            end(&store, n, lease);
            block_on(store.release(lease.clone())).unwrap();
        }
        assert_eq!(remembered(&store), [0, 0, day]);

        // An invocation that is taken up again finds what it had spent.
        let (invocation, session) = ids(3);
        let claim = store.claim(session, store.node().clone(), Duration::from_secs(30));
        let ClaimOutcome::Claimed(lease) = block_on(claim).unwrap() else {
            panic!("the session is free");
        };
        let entry = Entry {
            sequence: 1,
            payload: Arc::from("{}"),
        };
        let append = store.append(lease.clone(), invocation, vec![entry], Durability::Relaxed);
        assert_eq!(block_on(append).unwrap(), Outcome::Done);
        // A call that holds nothing does not keep its accounts.
        settle(&store, 3, &lease, FREE, 0);
        let account = store.account(Scope::Invocation(invocation));
        assert_eq!(
            block_on(account).unwrap().spent_cost,
            Money::from_dollars(1)
        );
    }
}
