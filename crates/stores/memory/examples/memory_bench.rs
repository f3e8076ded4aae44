//! What a reservation costs in memory, with 64 agents on one scope.
//!
//! `cargo run --release -p otto-store-memory --example memory_bench`.

#![expect(clippy::print_stdout, reason = "figures for people")]

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::ledger::{Quote, ReserveOutcome, ReserveRequest, ScopeKey, ScopeLimits};
use otto_core::port::store::{
    Dispatch, Durability, LedgerStore, ReserveCall, ReserveReply, Submission, SubmitOutcome,
};
use otto_core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp};
use otto_sim::conformance::block_on;
use otto_store_memory::MemoryStore;

const AGENTS: u64 = 64;
const EACH: u64 = 2_000;

fn main() {
    for scopes in [1, 4] {
        let mut times: Vec<f64> = (0..7).map(|_| once(scopes)).collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{AGENTS} agents, {scopes} scopes per call: {:.0} ns of CPU per reserve (median of 7 runs)",
            times[3]
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn once(scopes: usize) -> f64 {
    let store = MemoryStore::new();
    let calls: Vec<ReserveCall> = (0..AGENTS).flat_map(|n| calls(&store, n, scopes)).collect();
    let count = calls.len();
    let start = cpu_time_ns();
    for call in calls {
        let reply = block_on(store.reserve(call));
        assert!(
            matches!(reply, Ok(ReserveReply::Ledger(ReserveOutcome::Granted(_)))),
            "{reply:?}"
        );
    }
    (cpu_time_ns() - start) as f64 / count as f64
}

/// Time this thread was on a processor: other programs on the machine do not count.
fn cpu_time_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    schedstat
        .split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .expect("its first number is the time in nanoseconds")
}

fn calls(store: &MemoryStore, n: u64, scopes: usize) -> Vec<ReserveCall> {
    let at = Timestamp::from_millis(n);
    let session = SessionId::from_parts(at, [1; 10]);
    let invocation = InvocationId::from_parts(at, [2; 10]);
    let agent = AgentName::new(&format!("agent-{n}")).expect("valid");
    let submission = Submission {
        invocation,
        session,
        node: Arc::from("bench"),
        ttl: Duration::from_secs(3_600),
        agent: agent.clone(),
        model: ModelId::new("m").expect("valid"),
        workflow: None,
        title: Arc::from("bench"),
        idempotency_key: None,
        fingerprint: None,
        entries: Vec::new(),
        durability: Durability::Relaxed,
        at,
    };
    let Ok(SubmitOutcome::Accepted(lease)) = block_on(store.submit(submission)) else {
        panic!("expected the lease")
    };
    let keys = [
        ScopeKey::Day,
        ScopeKey::Invocation(invocation),
        ScopeKey::Session(session),
        ScopeKey::Agent(agent),
    ];
    let limits = |scope: &ScopeKey| ScopeLimits {
        scope: scope.clone(),
        cost: Some(Limit::new(Money::MAX, "a bench")),
        tokens: None,
    };
    let price = Money::from_picodollars(3).expect("small");
    let quote = Quote {
        prompt_tokens: 100,
        prompt_cost: price,
        output_price: price,
        output_wanted: 100,
        output_floor: 1,
    };
    (1..=EACH)
        .map(|effect| {
            let id = ReservationId {
                invocation,
                effect: EffectId(effect),
            };
            let scopes = keys[..scopes].iter().map(limits).collect();
            ReserveCall {
                lease: lease.clone(),
                request: ReserveRequest { id, scopes, quote },
                entries: Vec::new(),
            }
        })
        .collect()
}
