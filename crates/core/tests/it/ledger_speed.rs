//! How long a reserve takes. Run by hand, optimised:
//! `cargo test --release -p otto-core --test it ledger_speed -- --ignored --nocapture`.
//!
//! It prints and never judges: a time in a test would fail on a busy machine.

use std::hint::black_box;

use otto_core::agent::Limit;
use otto_core::id::{EffectId, ReservationId};
use otto_core::ledger::{
    Ledger, Quote, ReserveOutcome, ReserveRequest, ScopeKey, ScopeLimits, Settlement,
};
use otto_core::model::Usage;
use otto_core::{AgentName, InvocationId, Money, SessionId, UtcDay, WorkflowId};

#[test]
#[ignore = "prints a measurement"]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement reads the clock"
)]
#[expect(clippy::print_stdout, reason = "a measurement is printed")]
fn reserve_and_settle() {
    const ROUNDS: u64 = 1_000_000;
    const AGENTS: u64 = 64;
    let today = UtcDay(20_000);
    for others in [0_u64, 10_000] {
        let mut ledger = Ledger::new();
        let id = |n: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            bytes
        };
        let limits = |scope| ScopeLimits {
            scope,
            cost: Some(Limit::new(Money::MAX, "measurement")),
            tokens: Some(Limit::new(u64::MAX, "measurement")),
        };
        let request = |n: u64| ReserveRequest {
            id: ReservationId {
                invocation: InvocationId::from_bytes(id(n)),
                effect: EffectId(1),
            },
            scopes: vec![
                limits(ScopeKey::Invocation(InvocationId::from_bytes(id(n)))),
                limits(ScopeKey::Session(SessionId::from_bytes(id(n)))),
                limits(ScopeKey::Agent(
                    AgentName::new(&format!("agent-{n}")).unwrap(),
                )),
                limits(ScopeKey::Workflow(WorkflowId::from_bytes(id(n % 7)))),
                limits(ScopeKey::Day),
            ],
            quote: Quote {
                prompt_tokens: 4_000,
                prompt_cost: Money::from_picodollars(15_000_000_000).unwrap(),
                output_price: Money::from_picodollars(15_000_000).unwrap(),
                output_wanted: 16_384,
                output_floor: 256,
            },
        };
        for other in 0..others {
            ledger.reserve(today, &request(AGENTS + other));
        }
        let mut requests: Vec<_> = (0..AGENTS).map(request).collect();
        let used = Settlement::Used {
            usage: Usage {
                input_tokens: 3,
                output_tokens: 2,
                ..Usage::default()
            },
            cost: Money::from_picodollars(1).unwrap(),
        };
        let (mut reserving, mut settling) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
        for round in 0..ROUNDS / AGENTS {
            for request in &mut requests {
                request.id.effect = EffectId(round + 2);
            }
            let start = std::time::Instant::now();
            for request in &requests {
                assert!(matches!(
                    ledger.reserve(today, request),
                    ReserveOutcome::Granted(_)
                ));
            }
            reserving += start.elapsed();
            let start = std::time::Instant::now();
            for request in &requests {
                black_box(ledger.settle(request.id, &used));
                ledger.forget(&request.id);
            }
            settling += start.elapsed();
        }
        let each = |total: std::time::Duration| total.as_nanos() / u128::from(ROUNDS);
        println!(
            "{others} other open calls: reserve {} ns, settle and forget {} ns (5 scopes, {AGENTS} agents)",
            each(reserving),
            each(settling)
        );
    }
}
