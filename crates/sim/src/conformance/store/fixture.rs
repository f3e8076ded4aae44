//! What the cases share: ids, calls with sensible contents, short ways to make them.

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::invocation::OutcomeKind;
use otto_core::ledger::{
    Account, Grant, LookAhead, Quote, ReserveOutcome, ReserveRequest, Scope, ScopeKey, ScopeLimits,
    SettleOutcome, Settled, Settlement,
};
use otto_core::model::Usage;
use otto_core::port::store::{
    Attribution, ClaimOutcome, Durability, Entry, Finish, FinishReply, InvocationQuery,
    InvocationRecord, Lease, Outcome, ReserveCall, ReserveReply, SettleCall, SettleReply, Store,
    StoreError, Submission, SubmitOutcome, UsageQuery, UsageSum,
};
use otto_core::{
    AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp, UtcDay, WorkflowId,
};

use crate::conformance::block_on;
use crate::conformance::store::World;

/// Noon of 2026-11-23 UTC.
pub(super) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
pub(super) const TTL: Duration = Duration::from_secs(30);

/// Each call holds at most 100 tokens of output at 10 picodollars each and a prompt of 1,000 picodollars.
pub(super) const HOLD: u64 = 2_000;
/// Prompt and output tokens of a hold.
pub(super) const HOLD_TOKENS: u64 = 150;
/// What a call costs that used what [`usage`] says.
pub(super) const COST: u64 = 1_300;

/// A store, opened as a node, with short ways to call it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) store: Arc<dyn Store>,
}

/// An invocation that a node drives.
#[derive(Clone)]
pub(super) struct Driven {
    pub(super) node: Node,
    pub(super) lease: Lease,
    pub(super) submission: Submission,
}

pub(super) fn session(n: u8) -> SessionId {
    SessionId::from_parts(NOON, [n, 1, 0, 0, 0, 0, 0, 0, 0, 1])
}

pub(super) fn invocation(n: u8) -> InvocationId {
    InvocationId::from_parts(
        NOON.after(Duration::from_millis(u64::from(n))),
        [n, 2, 0, 0, 0, 0, 0, 0, 0, 2],
    )
}

pub(super) fn workflow(n: u8) -> WorkflowId {
    WorkflowId::from_parts(NOON, [n, 3, 0, 0, 0, 0, 0, 0, 0, 3])
}

pub(super) fn agent(name: &str) -> AgentName {
    AgentName::new(name).expect("a valid name")
}

pub(super) fn money(picodollars: u64) -> Money {
    Money::from_picodollars(picodollars).expect("a small amount")
}

pub(super) fn entry(sequence: u64) -> Entry {
    Entry {
        sequence,
        payload: Arc::from(format!("{{\"entry\":{sequence}}}")),
    }
}

pub(super) fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    range.map(entry).collect()
}

pub(super) fn usage() -> Usage {
    Usage {
        input_tokens: 40,
        output_tokens: 60,
        cache_read_tokens: 5,
        cache_write_5m_tokens: 3,
        cache_write_1h_tokens: 2,
        thinking_tokens: 11,
    }
}

pub(super) fn used() -> Settlement {
    Settlement::Used {
        usage: usage(),
        cost: money(COST),
    }
}

pub(super) fn quote() -> Quote {
    Quote {
        prompt_tokens: 50,
        prompt_cost: money(1_000),
        output_price: money(10),
        output_wanted: 100,
        output_floor: 100,
    }
}

pub(super) fn limits(scope: ScopeKey, cost: Option<u64>) -> ScopeLimits {
    ScopeLimits {
        scope,
        cost: cost.map(|cost| Limit::new(money(cost), "the suite")),
        tokens: None,
    }
}

pub(super) fn submission(node: &Node, session_number: u8, number: u8) -> Submission {
    Submission {
        invocation: invocation(number),
        session: session(session_number),
        node: node.name.clone(),
        ttl: TTL,
        agent: agent("reviewer"),
        model: ModelId::new("model-1").expect("a valid id"),
        workflow: None,
        title: Arc::from("Review src/"),
        idempotency_key: None,
        fingerprint: None,
        entries: Vec::new(),
        durability: Durability::Relaxed,
        at: NOON.after(Duration::from_millis(u64::from(number))),
    }
}

/// Opens the store at noon.
pub(super) fn open(world: &dyn World, node: &str) -> Node {
    if world.clock().now_is_unset() {
        world.clock().set(NOON);
    }
    Node {
        name: Arc::from(node),
        store: world.open(node),
    }
}

trait Unset {
    fn now_is_unset(&self) -> bool;
}

impl Unset for otto_core::store_rules::ManualClock {
    fn now_is_unset(&self) -> bool {
        otto_core::store_rules::StoreClock::now(self) == Timestamp::EPOCH
    }
}

impl Node {
    pub(super) fn submit(&self, submission: Submission) -> SubmitOutcome {
        block_on(self.store.submit(submission)).expect("submit")
    }

    /// Submits and must get the lease.
    pub(super) fn drive(&self, session_number: u8, number: u8) -> Driven {
        self.drive_as(submission(self, session_number, number))
    }

    pub(super) fn drive_as(&self, submission: Submission) -> Driven {
        match self.submit(submission.clone()) {
            SubmitOutcome::Accepted(lease) => Driven {
                node: self.clone(),
                lease,
                submission,
            },
            other => panic!("expected the lease, got {other:?}"),
        }
    }

    pub(super) fn claim(&self, session_number: u8) -> ClaimOutcome {
        block_on(
            self.store
                .claim(session(session_number), self.name.clone(), TTL),
        )
        .expect("claim")
    }

    /// Claims a session and must get it; goes on with one of its invocations.
    pub(super) fn take_over(&self, from: &Driven) -> Driven {
        match block_on(self.store.claim(from.lease.session, self.name.clone(), TTL)).expect("claim")
        {
            ClaimOutcome::Claimed(lease) => Driven {
                node: self.clone(),
                lease,
                submission: from.submission.clone(),
            },
            other => panic!("expected the lease, got {other:?}"),
        }
    }

    pub(super) fn heartbeat(&self, lease: &Lease) -> Outcome {
        block_on(self.store.heartbeat(lease.clone(), TTL)).expect("heartbeat")
    }

    pub(super) fn release(&self, lease: &Lease) -> Outcome {
        block_on(self.store.release(lease.clone())).expect("release")
    }

    pub(super) fn account(&self, scope: Scope) -> Account {
        block_on(self.store.account(scope)).expect("account")
    }

    pub(super) fn today(&self) -> UtcDay {
        block_on(self.store.today()).expect("today")
    }

    pub(super) fn day_account(&self) -> Account {
        self.account(Scope::Day(self.today()))
    }

    pub(super) fn sweep(&self) -> u64 {
        block_on(self.store.sweep()).expect("sweep")
    }

    pub(super) fn journal(&self, number: u8) -> Vec<Entry> {
        block_on(self.store.read(invocation(number))).expect("read")
    }

    pub(super) fn record(&self, number: u8) -> InvocationRecord {
        let query = InvocationQuery {
            invocation: Some(invocation(number)),
            ..InvocationQuery::default()
        };
        let mut found = block_on(self.store.invocations(query)).expect("invocations");
        assert_eq!(found.len(), 1, "one record of one invocation");
        found.remove(0)
    }

    pub(super) fn unfinished(&self) -> Vec<InvocationId> {
        block_on(self.store.unfinished())
            .expect("unfinished")
            .iter()
            .map(|record| record.invocation)
            .collect()
    }

    pub(super) fn usage(&self, query: UsageQuery) -> Vec<UsageSum> {
        block_on(self.store.usage(query)).expect("usage")
    }

    /// All usage in one sum.
    pub(super) fn total(&self) -> UsageSum {
        let mut sums = self.usage(UsageQuery::default());
        assert_eq!(sums.len(), 1, "without groups there is one sum");
        sums.remove(0)
    }
}

impl Driven {
    pub(super) fn id(&self, effect: u64) -> ReservationId {
        ReservationId {
            invocation: self.submission.invocation,
            effect: EffectId(effect),
        }
    }

    pub(super) fn attribution(&self) -> Attribution {
        Attribution {
            session: self.submission.session,
            agent: self.submission.agent.clone(),
            workflow: self.submission.workflow,
            model: self.submission.model.clone(),
            at: NOON,
        }
    }

    /// A reserve in the scopes of the invocation, its session, its agent and the day, limited by the day.
    pub(super) fn reserve_call(
        &self,
        effect: u64,
        day_limit: u64,
        entries: Vec<Entry>,
    ) -> ReserveCall {
        let scopes = vec![
            limits(ScopeKey::Invocation(self.submission.invocation), None),
            limits(ScopeKey::Session(self.submission.session), None),
            limits(ScopeKey::Agent(self.submission.agent.clone()), None),
            limits(ScopeKey::Day, Some(day_limit)),
        ];
        let request = ReserveRequest {
            id: self.id(effect),
            scopes,
            quote: quote(),
        };
        ReserveCall {
            lease: self.lease.clone(),
            request,
            after: 0,
            entries,
            look_ahead: LookAhead::None,
        }
    }

    pub(super) fn reserve_as(&self, call: ReserveCall) -> Result<ReserveReply, StoreError> {
        block_on(self.node.store.reserve(call))
    }

    pub(super) fn reserve(&self, effect: u64, day_limit: u64) -> ReserveReply {
        self.reserve_as(self.reserve_call(effect, day_limit, Vec::new()))
            .expect("reserve")
    }

    /// Reserves and must get the full grant.
    pub(super) fn hold(&self, effect: u64) -> Grant {
        match self.reserve(effect, 1_000_000_000) {
            ReserveReply::Ledger(ReserveOutcome::Granted(grant)) => {
                assert_eq!(
                    grant.held_cost,
                    money(HOLD),
                    "held is what can be spent at most"
                );
                assert_eq!(grant.held_tokens, HOLD_TOKENS);
                grant
            }
            other => panic!("expected a grant, got {other:?}"),
        }
    }

    pub(super) fn settle_call(
        &self,
        effect: u64,
        settlement: Settlement,
        entries: Vec<Entry>,
    ) -> SettleCall {
        SettleCall {
            lease: self.lease.clone(),
            reservation: self.id(effect),
            settlement,
            attribution: self.attribution(),
            entries,
            durability: Durability::Synced,
        }
    }

    pub(super) fn settle(&self, effect: u64, settlement: Settlement) -> SettleReply {
        block_on(
            self.node
                .store
                .settle(self.settle_call(effect, settlement, Vec::new())),
        )
        .expect("settle")
    }

    /// Settles and must be the one that counts.
    pub(super) fn settled(&self, effect: u64, settlement: Settlement) -> Settled {
        match self.settle(effect, settlement) {
            SettleReply::Ledger(SettleOutcome::Settled(settled)) => settled,
            other => panic!("expected a settlement, got {other:?}"),
        }
    }

    pub(super) fn append(&self, entries: Vec<Entry>) -> Result<Outcome, StoreError> {
        self.append_with(entries, Durability::Synced)
    }

    pub(super) fn append_with(
        &self,
        entries: Vec<Entry>,
        durability: Durability,
    ) -> Result<Outcome, StoreError> {
        block_on(self.node.store.append(
            self.lease.clone(),
            self.submission.invocation,
            entries,
            durability,
        ))
    }

    pub(super) fn finish_call(&self, entries: Vec<Entry>, resumable: bool) -> Finish {
        Finish {
            lease: self.lease.clone(),
            invocation: self.submission.invocation,
            outcome: if resumable {
                OutcomeKind::Cancelled
            } else {
                OutcomeKind::Completed
            },
            summary: Arc::from("in a line"),
            result: Arc::from("the result"),
            after: 0,
            entries,
            artifacts: Vec::new(),
            resumable,
            at: NOON.after(Duration::from_secs(60)),
        }
    }

    pub(super) fn finish_as(&self, finish: Finish) -> FinishReply {
        block_on(self.node.store.finish(finish)).expect("finish")
    }

    pub(super) fn finish(&self, entries: Vec<Entry>, resumable: bool) -> Outcome {
        self.finish_as(self.finish_call(entries, resumable)).outcome
    }
}

/// What a reader can see of a store, for comparing before and after.
pub(super) fn visible(node: &Node, numbers: &[u8]) -> String {
    let mut text = String::new();
    for number in numbers {
        text += &format!("{:?} {:?} ", node.record(*number), node.journal(*number));
        text += &format!(
            "{:?} ",
            node.account(Scope::Invocation(invocation(*number)))
        );
    }
    text + &format!(
        "{:?} {:?} {:?}",
        node.day_account(),
        node.total(),
        node.unfinished()
    )
}
