//! What the tests of the embedded store share.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::invocation::OutcomeKind;
use otto_core::ledger::{LookAhead, Quote, ReserveRequest, ScopeKey, ScopeLimits, Settlement};
use otto_core::model::Usage;
use otto_core::port::store::*;
use otto_core::store_rules::ManualClock;
use otto_core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp};
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, FaultPoints, StoreConfig};

pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);
pub(crate) const TTL: Duration = Duration::from_secs(30);
/// What each call of [`reserve`] holds.
pub(crate) const HOLD: u64 = 2_000;
/// What each call of [`settle`] costs.
pub(crate) const COST: u64 = 1_300;

pub(crate) fn session(n: u8) -> SessionId {
    SessionId::from_parts(NOON, [n, 1, 0, 0, 0, 0, 0, 0, 0, 1])
}

pub(crate) fn invocation(n: u8) -> InvocationId {
    InvocationId::from_parts(NOON, [n, 2, 0, 0, 0, 0, 0, 0, 0, 2])
}

pub(crate) fn entry(sequence: u64) -> Entry {
    Entry {
        sequence,
        payload: Arc::from(format!("{{\"entry\":{sequence}}}")),
    }
}

pub(crate) fn config(state_dir: &Path, node: &str) -> StoreConfig {
    let mut config = StoreConfig::new(state_dir, node);
    config.clock = Arc::new(ManualClock::new(NOON));
    config
}

pub(crate) fn open(state_dir: &Path, node: &str) -> EmbeddedStore {
    EmbeddedStore::open(config(state_dir, node)).unwrap()
}

/// Submits invocation `n` in session `n`.
pub(crate) fn submit(store: &EmbeddedStore, n: u8) -> Lease {
    let submission = Submission {
        invocation: invocation(n),
        session: session(n),
        node: store.node().clone(),
        ttl: TTL,
        agent: AgentName::new("reviewer").unwrap(),
        model: ModelId::new("model-1").unwrap(),
        workflow: None,
        title: Arc::from("Review src/"),
        idempotency_key: None,
        fingerprint: None,
        entries: Vec::new(),
        durability: Durability::Relaxed,
        at: NOON,
    };
    match block_on(store.submit(submission)).unwrap() {
        SubmitOutcome::Accepted(lease) => lease,
        other => panic!("expected the lease, got {other:?}"),
    }
}

pub(crate) fn reserve_call(lease: &Lease, n: u8, effect: u64) -> ReserveCall {
    let limits = |scope| ScopeLimits {
        scope,
        cost: Some(Limit::new(Money::from_dollars(10), "a test")),
        tokens: None,
    };
    let picodollars = |amount| Money::from_picodollars(amount).unwrap();
    let request = ReserveRequest {
        id: ReservationId {
            invocation: invocation(n),
            effect: EffectId(effect),
        },
        scopes: vec![
            limits(ScopeKey::Invocation(invocation(n))),
            limits(ScopeKey::Session(session(n))),
            limits(ScopeKey::Day),
        ],
        quote: Quote {
            prompt_tokens: 50,
            prompt_cost: picodollars(1_000),
            output_price: picodollars(10),
            output_wanted: 100,
            output_floor: 100,
        },
    };
    ReserveCall {
        lease: lease.clone(),
        request,
        after: 0,
        entries: Vec::new(),
        look_ahead: LookAhead::None,
    }
}

pub(crate) fn settle_call(lease: &Lease, n: u8, effect: u64) -> SettleCall {
    let usage = Usage {
        input_tokens: 50,
        output_tokens: 30,
        ..Usage::default()
    };
    SettleCall {
        lease: lease.clone(),
        reservation: ReservationId {
            invocation: invocation(n),
            effect: EffectId(effect),
        },
        settlement: Settlement::Used {
            usage,
            cost: Money::from_picodollars(COST).unwrap(),
        },
        attribution: Attribution {
            session: session(n),
            agent: AgentName::new("reviewer").unwrap(),
            workflow: None,
            model: ModelId::new("model-1").unwrap(),
            at: NOON,
        },
        entries: Vec::new(),
        durability: Durability::Synced,
    }
}

pub(crate) fn append(
    store: &EmbeddedStore,
    lease: &Lease,
    n: u8,
    sequence: u64,
) -> Result<Outcome, StoreError> {
    block_on(store.append(
        lease.clone(),
        invocation(n),
        vec![entry(sequence)],
        Durability::Synced,
    ))
}

/// The end of invocation `n`, after which it may go on.
pub(crate) fn ending(lease: &Lease, n: u8) -> Finish {
    Finish {
        lease: lease.clone(),
        invocation: invocation(n),
        outcome: OutcomeKind::Failed,
        summary: Arc::from("failed"),
        result: Arc::from(""),
        after: 0,
        entries: Vec::new(),
        artifacts: Vec::new(),
        resumable: true,
        at: NOON,
    }
}

/// Ends invocation `n`, so that it may go on later.
pub(crate) fn end(store: &EmbeddedStore, lease: &Lease, n: u8, entries: Vec<Entry>) -> FinishReply {
    let finish = Finish {
        entries,
        ..ending(lease, n)
    };
    block_on(store.finish(finish)).unwrap()
}

pub(crate) fn draft(n: u8, name: &str, content: &[u8]) -> ArtifactDraft {
    ArtifactDraft {
        session: session(n),
        invocation: invocation(n),
        kind: ArtifactKind::Result,
        name: Arc::from(name),
        content: Arc::from(content),
    }
}

/// Fails or observes the steps of durable writes.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<FaultState>,
}

#[derive(Default)]
struct FaultState {
    reached: Vec<&'static str>,
    fail_at: Option<(usize, i32)>,
    broken: Option<(&'static str, i32)>,
}

impl Faults {
    /// From now on, the step after `steps` more fails with an OS error, once.
    pub(crate) fn fail_after(&self, steps: usize, os_error: i32) {
        let mut state = self.state.lock().unwrap();
        state.reached.clear();
        state.fail_at = Some((steps, os_error));
    }

    /// From now on, a step fails with an OS error each time, or none does any more.
    pub(crate) fn set_broken(&self, broken: Option<(&'static str, i32)>) {
        let mut state = self.state.lock().unwrap();
        state.reached.clear();
        state.broken = broken;
    }

    /// The steps since the last call of `fail_after` or `set_broken`.
    pub(crate) fn reached(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().reached.clone()
    }
}

impl FaultPoints for Faults {
    fn reach(&self, step: &'static str) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.reached.push(step);
        if let Some((broken, os_error)) = state.broken
            && broken == step
        {
            return Err(std::io::Error::from_raw_os_error(os_error));
        }
        match state.fail_at {
            Some((steps, os_error)) if state.reached.len() > steps => {
                state.fail_at = None;
                Err(std::io::Error::from_raw_os_error(os_error))
            }
            _ => Ok(()),
        }
    }
}
