//! Money: what is asked for, what is settled, and what happens when it is not there.

use std::sync::{Arc, Mutex};

use super::harness::*;
use crate::agent::Limit;
use crate::invocation::ModelFailureKind::{PromptTooLong, Server};
use crate::invocation::StopReason::{EndTurn, ToolUse};
use crate::invocation::{Billing, InvocationSpec, ModelFailure, ModelFinish, Outcome};
use crate::ledger::{
    Amount, Ledger, Resource, Scope, ScopeKey, ScopeLimits, SettleOutcome, Settlement,
};
use crate::model::{TokenPrices, Usage};
use crate::{ModelId, Money};

fn ledger() -> Arc<Mutex<Ledger>> {
    Arc::new(Mutex::new(Ledger::new()))
}

/// An agent with this much money and a model at 10 USD per million tokens of input, 50 of output.
fn expensive(limit: &str) -> InvocationSpec {
    let mut spec = agent();
    let price = |dollars: u64| Money::from_picodollars(dollars * 1_000_000).unwrap();
    let mut model = model("vendor-model-5");
    model.prices = TokenPrices {
        input: price(10),
        output: price(50),
        cache_write_5m: price(12),
        cache_write_1h: price(20),
        cache_read: price(1),
    };
    spec.model = Arc::new(model);
    spec.tools.clear();
    spec.scopes = vec![ScopeLimits {
        scope: ScopeKey::Invocation(spec.invocation),
        cost: Some(Limit::new(limit.parse().unwrap(), "--cost")),
        tokens: None,
    }];
    spec
}

#[test]
fn the_output_limit_is_clamped_to_what_is_left() {
    // A cent less than what is wanted: the prompt's bound is about 1,100 tokens at 12 USD per million.
    let scene = check(
        expensive("0.05"),
        [
            (start(), "timer deadline 300s; reserve"),
            (asked(&ledger()), "call + [task]"),
        ],
    );
    let quote = scene.last_quote();
    let left = "0.05"
        .parse::<Money>()
        .unwrap()
        .saturating_sub(quote.prompt_cost);
    assert_eq!(scene.requested_output, left.picodollars() / 50_000_000);
    assert!(scene.requested_output < 1_000, "{}", scene.requested_output);
}

#[test]
fn below_the_floor_nothing_is_sent() {
    let scene = check(
        expensive("0.01"),
        [
            (start(), "timer deadline 300s; reserve"),
            (asked(&ledger()), "finish budget_exhausted"),
        ],
    );
    let Outcome::BudgetExhausted { denial } = scene.outcome() else {
        panic!()
    };
    assert_eq!(
        denial.scope,
        Scope::Invocation(scene.machine.spec().unwrap().invocation)
    );
    assert_eq!(
        (denial.resource, denial.limit),
        (Resource::Cost, Amount::Cost("0.01".parse().unwrap()))
    );
    assert_eq!(denial.spent, Amount::Cost(Money::ZERO));
    assert!(
        scene.outcome().to_string().ends_with("limit set by --cost"),
        "{}",
        scene.outcome()
    );
    assert_eq!(scene.settlements, []);
}

#[test]
fn what_was_spent_narrows_the_next_call() {
    let ledger = ledger();
    let scene = check(
        expensive("0.05"),
        [
            (start(), "timer deadline 300s; reserve"),
            (asked(&ledger), "call + [task]"),
            (wants_unknown(0, "look", "a"), ""),
            (
                ends_with(ModelFinish {
                    stop: ToolUse,
                    usage: Some(Usage {
                        input_tokens: 900,
                        output_tokens: 300,
                        ..USAGE
                    }),
                    served_by: None,
                }),
                "settle used; reserve",
            ),
            (settled_then_asked(&ledger), "call + [look a] + [a error]"),
        ],
    );
    // 900 at 10 and 300 at 50 USD per million.
    assert_eq!(scene.machine.totals().cost, "0.024".parse().unwrap());
    let quote = scene.last_quote();
    let left: Money = "0.026".parse().unwrap();
    assert_eq!(
        scene.requested_output,
        left.saturating_sub(quote.prompt_cost).picodollars() / 50_000_000
    );
}

/// Books the last settlement, as the store would, and asks for more.
fn settled_then_asked(ledger: &Arc<Mutex<Ledger>>) -> In {
    let ledger = ledger.clone();
    stray(move |scene| {
        let mut ledger = ledger.lock().unwrap();
        let open: Vec<_> = ledger.open_reservations().map(|(id, _)| *id).collect();
        let settlement = scene.settlements.last().unwrap();
        assert!(matches!(
            ledger.settle(open[0], settlement),
            SettleOutcome::Settled(_)
        ));
        scene.ask(&mut ledger)
    })
}

#[test]
fn the_next_quote_builds_on_what_the_provider_has_counted() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (done("a"), "reserve"),
        ],
    );
    // 1,100 tokens counted; one message with one result of 11 bytes on top.
    assert_eq!(scene.last_quote().prompt_tokens, 1_100 + 16 + 32 + 11);
}

#[test]
fn a_cut_reply_is_counted_at_all_it_can_have_been() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted_up_to(3_000), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (done("a"), ""),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
        ],
    );
    let first = check(agent(), [(start(), "timer deadline 300s; reserve")])
        .last_quote()
        .prompt_tokens;
    assert_eq!(
        scene.last_quote().prompt_tokens,
        first + 3_000 + 16 + 32 + 11
    );
}

#[test]
fn money_that_others_hold_is_waited_for() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (contended(), "timer contention 50ms"),
            (due("contention"), "reserve"),
            (contended(), "timer contention 100ms"),
            (due("contention"), "reserve"),
            (contended(), "timer contention 200ms"),
            (due("contention"), "reserve"),
            (granted(), "call + [task]"),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            // A grant starts the waits anew.
            (contended(), "timer contention 50ms"),
        ],
    );
}

#[test]
fn the_wait_for_money_is_bounded_and_ends_before_the_deadline() {
    let waits = [
        "timer contention 50ms",
        "timer contention 100ms",
        "timer contention 200ms",
        "timer contention 400ms",
        "timer contention 800ms",
        "timer contention 1.6s",
    ];
    let mut rows = vec![(start(), "timer deadline 5s; reserve")];
    for wait in waits {
        rows.push((contended(), wait));
        rows.push((due("contention"), "reserve"));
    }
    // 1.85 seconds are left, the next wait would be two.
    rows.push((contended(), "finish budget_exhausted"));
    check(limited(|limits| limits.time.value = seconds(5)), rows);
}

#[test]
fn a_spent_limit_ends_the_invocation_at_once() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (denied(), "finish budget_exhausted"),
        ],
    );
    assert_eq!(scene.settlements, []);
}

#[test]
fn a_usage_record_is_settled_to_the_picodollar() {
    let usage = Usage {
        input_tokens: 7,
        output_tokens: 11,
        cache_read_tokens: 13,
        cache_write_5m_tokens: 17,
        ..USAGE
    };
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "Done"), ""),
            (
                ends_with(ModelFinish {
                    stop: EndTurn,
                    usage: Some(usage),
                    served_by: None,
                }),
                "settle used; finish completed: Done",
            ),
        ],
    );
    let cost = Money::from_picodollars((7 * 3 + 11 * 15 + 13 + 17 * 4) * 1_000_000).unwrap();
    assert_eq!(scene.settlements, [Settlement::Used { usage, cost }]);
    assert_eq!(scene.machine.totals().cost, cost);
}

#[test]
fn without_a_usage_record_the_hold_is_charged() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "Done"), ""),
            (
                ends_with(ModelFinish {
                    stop: EndTurn,
                    usage: None,
                    served_by: None,
                }),
                "settle forfeited; finish completed: Done",
            ),
        ],
    );
    assert_eq!(scene.machine.totals().unconfirmed_calls, 1);
}

#[test]
fn a_usage_record_that_cannot_be_true_is_not_believed() {
    let usage = Usage {
        output_tokens: 0,
        ..USAGE
    };
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "Done"), ""),
            (
                ends_with(ModelFinish {
                    stop: EndTurn,
                    usage: Some(usage),
                    served_by: None,
                }),
                "settle forfeited; finish completed: Done",
            ),
        ],
    );
}

#[test]
fn not_even_when_nothing_of_the_reply_was_kept() {
    // Found by the simulator, seed 76: a blank text that cost thousands of tokens.
    let usage = Usage {
        output_tokens: 0,
        ..USAGE
    };
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, " "), ""),
            (
                ends_with(ModelFinish {
                    stop: EndTurn,
                    usage: Some(usage),
                    served_by: None,
                }),
                "settle forfeited; reserve",
            ),
        ],
    );
}

#[test]
fn an_answer_of_another_model_is_charged_at_the_hold() {
    for (served, settled) in [
        ("vendor-model-5", "settle used; finish completed: Done"),
        ("vendor-latest", "settle used; finish completed: Done"),
        (
            "vendor-model-5-20261101",
            "settle used; finish completed: Done",
        ),
        // The next model of the family begins with the name of this one, and has its own prices.
        (
            "vendor-model-5-5",
            "settle forfeited; finish completed: Done",
        ),
        (
            "vendor-model-50",
            "settle forfeited; finish completed: Done",
        ),
        (
            "vendor-model-5-20261101-fast",
            "settle forfeited; finish completed: Done",
        ),
        ("other", "settle forfeited; finish completed: Done"),
    ] {
        let served_by = Some(ModelId::new(served).unwrap());
        check(
            agent(),
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (say(0, "Done"), ""),
                (
                    ends_with(ModelFinish {
                        stop: EndTurn,
                        usage: Some(USAGE),
                        served_by,
                    }),
                    settled,
                ),
            ],
        );
    }
}

#[test]
fn a_failed_call_costs_what_the_provider_says() {
    for (billing, settled) in [
        (Billing::NotBilled, "settle released; timer backoff"),
        (Billing::Unknown, "settle forfeited; timer backoff"),
        (Billing::Known(USAGE), "settle used; timer backoff"),
    ] {
        check(
            agent(),
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (
                    fails(ModelFailure {
                        billing,
                        ..failure(Server)
                    }),
                    settled,
                ),
            ],
        );
    }
}

#[test]
fn a_prompt_that_is_too_long_is_not_tried_again() {
    let failure = ModelFailure {
        billing: Billing::NotBilled,
        ..failure(PromptTooLong)
    };
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (fails(failure), "settle released; finish provider_failed"),
        ],
    );
}

#[test]
fn a_quote_never_goes_beyond_the_window_or_the_models_own_limit() {
    let mut spec = agent();
    spec.input = Arc::from("x".repeat(1_000_000));
    spec.limits.max_output_tokens = 1_000_000;
    let scene = check(spec, [(start(), "timer deadline 300s; reserve")]);
    assert_eq!(scene.last_quote().prompt_tokens, 200_000);
    assert_eq!(scene.last_quote().output_wanted, 64_000);
}

#[test]
fn a_grant_that_is_told_twice_is_used_once() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (granted(), ""),
            (denied(), ""),
            (say(0, "Done"), ""),
            (ends(EndTurn), "settle used; finish completed: Done"),
        ],
    );
}

#[test]
fn a_price_that_cannot_be_counted_is_over_every_limit() {
    let mut spec = agent();
    let mut model = model("vendor-model-5");
    model.prices.cache_write_5m = Money::MAX;
    spec.model = Arc::new(model);
    check(
        spec,
        [
            (start(), "timer deadline 300s; reserve"),
            (asked(&ledger()), "finish budget_exhausted"),
        ],
    );
}
