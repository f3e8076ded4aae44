//! The rules of the book, one by one. The property tests are in `tests/it/ledger_model.rs`.

use super::*;
use crate::agent::Limit;
use crate::id::{EffectId, ReservationId};
use crate::model::Usage;
use crate::{AgentName, InvocationId, Money, SessionId, Timestamp, UtcDay, WorkflowId};

const TODAY: UtcDay = UtcDay(20_000);
const TOMORROW: UtcDay = UtcDay(20_001);

fn id(effect: u64) -> ReservationId {
    ReservationId {
        invocation: InvocationId::from_bytes([1; 16]),
        effect: EffectId(effect),
    }
}

fn money(picodollars: u64) -> Money {
    Money::from_picodollars(picodollars).unwrap()
}

fn session() -> ScopeKey {
    ScopeKey::Session(SessionId::from_bytes([2; 16]))
}

fn limits(scope: ScopeKey, cost: Option<u64>, tokens: Option<u64>) -> ScopeLimits {
    ScopeLimits {
        cost: cost.map(|cost| Limit::new(money(cost), &format!("cost of {scope:?}"))),
        tokens: tokens.map(|tokens| Limit::new(tokens, &format!("tokens of {scope:?}"))),
        scope,
    }
}

/// 100 prompt tokens for 1,000 picodollars; up to 100 output tokens of 10 each, at least 10.
fn quote() -> Quote {
    Quote {
        prompt_tokens: 100,
        prompt_cost: money(1_000),
        output_price: money(10),
        output_wanted: 100,
        output_floor: 10,
    }
}

fn request(effect: u64, scopes: &[ScopeLimits]) -> ReserveRequest {
    ReserveRequest {
        id: id(effect),
        scopes: scopes.to_vec(),
        quote: quote(),
    }
}

fn granted(outcome: ReserveOutcome) -> Grant {
    match outcome {
        ReserveOutcome::Granted(grant) => grant,
        other => panic!("expected a grant, got {other:?}"),
    }
}

fn denied(outcome: ReserveOutcome) -> Denial {
    match outcome {
        ReserveOutcome::OverLimit(denial) => *denial,
        other => panic!("expected a denial, got {other:?}"),
    }
}

fn settled(outcome: SettleOutcome) -> Settled {
    match outcome {
        SettleOutcome::Settled(settled) => settled,
        other => panic!("expected a settlement, got {other:?}"),
    }
}

fn used(cost: u64, tokens: u64) -> Settlement {
    Settlement::Used {
        usage: Usage {
            input_tokens: tokens,
            ..Usage::default()
        },
        cost: money(cost),
    }
}

#[test]
fn a_call_without_limits_gets_what_it_wants_and_is_added_up() {
    let mut ledger = Ledger::new();
    let scopes = [
        limits(session(), None, None),
        limits(ScopeKey::Day, None, None),
    ];
    let grant = granted(ledger.reserve(TODAY, &request(1, &scopes)));
    assert_eq!(
        grant,
        Grant {
            max_output_tokens: 100,
            held_cost: money(2_000),
            held_tokens: 200
        }
    );
    for scope in [session().on(TODAY), Scope::Day(TODAY)] {
        let account = ledger.account(&scope);
        assert_eq!(
            (account.held_cost, account.held_tokens),
            (money(2_000), 200)
        );
        assert_eq!(account.spent_cost, Money::ZERO);
    }
}

#[test]
fn a_call_that_names_no_scope_is_held_on_its_day() {
    let mut ledger = Ledger::new();
    granted(ledger.reserve(TODAY, &request(1, &[])));
    assert_eq!(ledger.account(&Scope::Day(TODAY)).held_cost, money(2_000));
}

#[test]
fn output_is_clamped_to_the_tightest_limit_exactly() {
    for (cost, tokens, expected) in [
        (Some(2_000), None, Some(100)),
        (Some(1_999), None, Some(99)),
        (Some(1_995), None, Some(99)),
        (Some(1_100), None, Some(10)),
        (Some(1_099), None, None),
        (Some(0), None, None),
        (None, Some(200), Some(100)),
        (None, Some(150), Some(50)),
        (None, Some(110), Some(10)),
        (None, Some(109), None),
        (Some(1_500), Some(130), Some(30)),
        (Some(1_300), Some(150), Some(30)),
        (Some(u64::MAX >> 1), Some(u64::MAX), Some(100)),
    ] {
        let mut ledger = Ledger::new();
        let outcome = ledger.reserve(TODAY, &request(1, &[limits(session(), cost, tokens)]));
        match expected {
            Some(output) => assert_eq!(
                granted(outcome).max_output_tokens,
                output,
                "{cost:?} {tokens:?}"
            ),
            None => {
                denied(outcome);
                assert_eq!(ledger, Ledger::new(), "a denied request leaves no trace");
            }
        }
    }
}

#[test]
fn a_floor_above_what_is_wanted_counts_as_what_is_wanted() {
    let mut ledger = Ledger::new();
    let mut request = request(1, &[limits(session(), Some(1_050), None)]);
    request.quote.output_wanted = 5;
    assert_eq!(
        granted(ledger.reserve(TODAY, &request)).max_output_tokens,
        5
    );
}

#[test]
fn a_free_model_is_bounded_by_tokens_alone() {
    let mut ledger = Ledger::new();
    let mut request = request(1, &[limits(session(), Some(0), Some(150))]);
    request.quote.prompt_cost = Money::ZERO;
    request.quote.output_price = Money::ZERO;
    let grant = granted(ledger.reserve(TODAY, &request));
    assert_eq!(
        (grant.max_output_tokens, grant.held_cost),
        (50, Money::ZERO)
    );
}

#[test]
fn one_scope_that_is_full_denies_all_of_them() {
    let mut ledger = Ledger::new();
    let scopes = [
        limits(session(), Some(10_000), None),
        limits(ScopeKey::Day, Some(1_099), None),
    ];
    let denial = denied(ledger.reserve(TODAY, &request(1, &scopes)));
    assert_eq!(denial.scope, Scope::Day(TODAY));
    assert_eq!(denial.resource, Resource::Cost);
    assert_eq!(denial.limit, Amount::Cost(money(1_099)));
    assert_eq!(denial.needed, Amount::Cost(money(1_100)));
    assert_eq!(denial.origin.to_string(), "cost of Day");
    assert!(!denial.is_contended(), "nothing is in flight");
    assert!(!ledger.has_account(&session().on(TODAY)));
}

#[test]
fn the_denial_names_what_waiting_cannot_help_first() {
    let mut ledger = Ledger::new();
    // The session is blocked only by a call in flight; the day by what is spent.
    granted(ledger.reserve(TODAY, &request(1, &[limits(session(), None, None)])));
    granted(ledger.reserve(TODAY, &request(2, &[limits(ScopeKey::Day, None, None)])));
    ledger.settle(id(2), &used(2_000, 200));
    let in_flight = limits(session(), Some(2_000), None);
    let spent = limits(ScopeKey::Day, Some(3_000), None);
    let denial = denied(ledger.reserve(TODAY, &request(3, std::slice::from_ref(&in_flight))));
    assert!(denial.is_contended());
    let denial = denied(ledger.reserve(TODAY, &request(3, &[in_flight, spent])));
    assert_eq!(denial.scope, Scope::Day(TODAY));
    assert!(!denial.is_contended());
}

#[test]
fn asking_again_is_the_same_request() {
    let mut ledger = Ledger::new();
    let request = request(1, &[limits(session(), Some(2_000), None)]);
    let grant = granted(ledger.reserve(TODAY, &request));
    let before = ledger.clone();
    assert_eq!(
        ledger.reserve(TOMORROW, &request),
        ReserveOutcome::AlreadyGranted(grant)
    );
    assert_eq!(ledger, before);
    ledger.settle(id(1), &Settlement::Released);
    assert_eq!(
        ledger.reserve(TODAY, &request),
        ReserveOutcome::AlreadySettled
    );
    assert!(ledger.forget(&id(1)));
    granted(ledger.reserve(TODAY, &request));
}

#[test]
fn a_forfeited_reservation_is_not_granted_again() {
    let mut ledger = Ledger::new();
    let request = request(1, &[]);
    granted(ledger.reserve(TODAY, &request));
    ledger.settle(id(1), &Settlement::Forfeited);
    assert_eq!(
        ledger.reserve(TODAY, &request),
        ReserveOutcome::AlreadySettled
    );
}

#[test]
fn a_settlement_replaces_the_hold() {
    for (settlement, cost, tokens) in [
        (used(1_234, 150), 1_234, 150),
        (used(0, 0), 0, 0),
        (used(2_000, 200), 2_000, 200),
        (Settlement::Forfeited, 2_000, 200),
        (Settlement::Released, 0, 0),
    ] {
        let mut ledger = Ledger::new();
        granted(ledger.reserve(TODAY, &request(1, &[limits(session(), None, None)])));
        let outcome = settled(ledger.settle(id(1), &settlement));
        assert_eq!(
            outcome,
            Settled {
                charged: money(cost),
                warnings: vec![],
                overdrawn: false
            }
        );
        let account = ledger.account(&session().on(TODAY));
        let expected = Account {
            spent_cost: money(cost),
            spent_tokens: tokens,
            ..Account::default()
        };
        assert_eq!(account, expected, "{settlement:?}");
        assert_eq!(ledger.open_reservations().count(), 0);
    }
}

#[test]
fn only_a_usage_record_corrects_a_forfeit_and_only_once() {
    let mut ledger = Ledger::new();
    granted(ledger.reserve(TODAY, &request(1, &[limits(session(), None, None)])));
    settled(ledger.settle(id(1), &Settlement::Forfeited));
    let forfeited = ledger.clone();
    for late in [Settlement::Forfeited, Settlement::Released] {
        assert_eq!(ledger.settle(id(1), &late), SettleOutcome::AlreadySettled);
        assert_eq!(ledger, forfeited);
    }
    assert_eq!(
        settled(ledger.settle(id(1), &used(1_500, 120))).charged,
        money(1_500)
    );
    let account = ledger.account(&session().on(TODAY));
    assert_eq!(
        (account.spent_cost, account.spent_tokens),
        (money(1_500), 120)
    );
    let corrected = ledger.clone();
    for late in [used(1, 1), Settlement::Forfeited, Settlement::Released] {
        assert_eq!(ledger.settle(id(1), &late), SettleOutcome::AlreadySettled);
        assert_eq!(ledger, corrected);
    }
}

#[test]
fn an_unknown_reservation_changes_nothing() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.settle(id(1), &used(5, 5)), SettleOutcome::Unknown);
    assert_eq!(ledger, Ledger::new());
}

#[test]
fn an_overdraft_is_booked_in_full_and_latches_every_scope() {
    for overdraft in [
        used(2_001, 100),
        used(100, 201),
        used(u64::MAX >> 1, u64::MAX),
    ] {
        let mut ledger = Ledger::new();
        let scopes = [
            limits(session(), None, None),
            limits(ScopeKey::Day, Some(1_000_000), None),
        ];
        granted(ledger.reserve(TODAY, &request(1, &scopes)));
        let outcome = settled(ledger.settle(id(1), &overdraft));
        assert!(outcome.overdrawn);
        let Settlement::Used { cost, .. } = overdraft else {
            unreachable!()
        };
        assert_eq!(outcome.charged, cost);
        for scope in [session().on(TODAY), Scope::Day(TODAY)] {
            assert!(ledger.account(&scope).latched);
            assert_eq!(ledger.account(&scope).spent_cost, cost);
        }
        let denial = denied(ledger.reserve(TODAY, &request(2, &scopes)));
        assert!(denial.latched && !denial.is_contended());
        assert_eq!(
            denial.scope,
            Scope::Day(TODAY),
            "a latched scope with a limit says more: {denial}"
        );
        let denial = denied(ledger.reserve(TODAY, &request(2, &scopes[..1])));
        assert!(denial.latched, "a latch needs no limit: {denial}");
        granted(ledger.reserve(TOMORROW, &request(2, &scopes[1..])));
    }
}

#[test]
fn a_late_overdraft_latches_too() {
    let mut ledger = Ledger::new();
    granted(ledger.reserve(TODAY, &request(1, &[])));
    settled(ledger.settle(id(1), &Settlement::Forfeited));
    assert!(settled(ledger.settle(id(1), &used(2_001, 1))).overdrawn);
    assert_eq!(ledger.account(&Scope::Day(TODAY)).spent_cost, money(2_001));
    assert!(ledger.account(&Scope::Day(TODAY)).latched);
}

#[test]
fn the_warning_comes_at_80_percent_once_per_scope_and_resource() {
    let mut ledger = Ledger::new();
    let scopes = [limits(session(), Some(10_000), Some(1_000))];
    let mut raised = Vec::new();
    for (effect, cost, tokens) in [
        (1, 1_999, 200),
        (2, 2_000, 200),
        (3, 2_000, 200),
        (4, 2_000, 199),
        (5, 0, 1),
        (6, 1, 0),
        (7, 1, 1),
    ] {
        granted(ledger.reserve(TODAY, &request(effect, &scopes)));
        let warnings = settled(ledger.settle(id(effect), &used(cost, tokens))).warnings;
        raised.extend(warnings.into_iter().map(|warning| (effect, warning)));
    }
    let raised: Vec<_> = raised
        .iter()
        .map(|(effect, w)| (*effect, w.resource, w.spent, w.limit))
        .collect();
    assert_eq!(
        raised,
        [
            (
                5,
                Resource::Tokens,
                Amount::Tokens(800),
                Amount::Tokens(1_000)
            ),
            (
                6,
                Resource::Cost,
                Amount::Cost(money(8_000)),
                Amount::Cost(money(10_000))
            ),
        ]
    );
}

#[test]
fn a_reservation_is_settled_on_the_day_it_was_granted() {
    let mut ledger = Ledger::new();
    let agent = ScopeKey::Agent(AgentName::new("reviewer").unwrap());
    let scopes = [
        limits(agent.clone(), None, None),
        limits(ScopeKey::Day, Some(2_000), None),
    ];
    granted(ledger.reserve(TODAY, &request(1, &scopes)));
    granted(ledger.reserve(TOMORROW, &request(2, &scopes)));
    settled(ledger.settle(id(1), &used(1_700, 10)));
    assert_eq!(ledger.account(&Scope::Day(TODAY)).spent_cost, money(1_700));
    assert_eq!(ledger.account(&agent.on(TODAY)).spent_cost, money(1_700));
    assert_eq!(
        ledger.account(&Scope::Day(TOMORROW)).spent_cost,
        Money::ZERO
    );
    assert_eq!(
        ledger.account(&Scope::Day(TOMORROW)).held_cost,
        money(2_000)
    );
}

#[test]
fn a_scope_named_twice_is_held_once_under_the_tighter_limit() {
    let mut ledger = Ledger::new();
    let scopes = [
        limits(session(), Some(9_000), Some(130)),
        limits(session(), Some(1_500), None),
    ];
    let grant = granted(ledger.reserve(TODAY, &request(1, &scopes)));
    assert_eq!(grant.max_output_tokens, 30);
    assert_eq!(ledger.account(&session().on(TODAY)).held_tokens, 130);
    let denial = denied(ledger.reserve(TODAY, &request(2, &scopes)));
    assert_eq!(
        denial.limit,
        Amount::Tokens(130),
        "both limits are full; tokens miss by more output"
    );
}

#[test]
fn what_cannot_be_counted_is_denied() {
    let huge = |prompt_tokens, prompt_cost, output_price, output_floor| Quote {
        prompt_tokens,
        prompt_cost,
        output_price,
        output_wanted: u64::MAX,
        output_floor,
    };
    let max = Money::MAX;
    for quote in [
        huge(u64::MAX, Money::ZERO, Money::ZERO, 1),
        huge(0, max, max, 1),
        huge(0, max, max, u64::MAX),
        huge(u64::MAX, max, max, u64::MAX),
        huge(0, Money::ZERO, money(1), u64::MAX),
    ] {
        for scopes in [
            vec![],
            vec![limits(session(), Some(max.picodollars()), Some(u64::MAX))],
        ] {
            let mut ledger = Ledger::new();
            let denial = denied(ledger.reserve(
                TODAY,
                &ReserveRequest {
                    id: id(1),
                    scopes,
                    quote,
                },
            ));
            assert!(!denial.is_contended(), "waiting cannot help: {denial}");
            assert_eq!(ledger, Ledger::new());
        }
    }
    // Just at the edge, and then nothing more.
    let mut ledger = Ledger::new();
    let all = ReserveRequest {
        id: id(1),
        scopes: vec![],
        quote: huge(7, money(5), money(1), 1),
    };
    let grant = granted(ledger.reserve(TODAY, &all));
    assert_eq!(
        grant.held_cost.picodollars().max(grant.held_tokens),
        i64::MAX as u64
    );
    denied(ledger.reserve(TODAY, &ReserveRequest { id: id(2), ..all }));
}

#[test]
fn a_restored_book_goes_on_where_it_was() {
    let mut ledger = Ledger::new();
    let scopes = [
        limits(session(), Some(10_000), None),
        limits(
            ScopeKey::Workflow(WorkflowId::from_bytes([3; 16])),
            None,
            None,
        ),
    ];
    granted(ledger.reserve(TODAY, &request(1, &scopes)));
    granted(ledger.reserve(TODAY, &request(2, &scopes)));
    settled(ledger.settle(id(2), &Settlement::Forfeited));
    let copy = Ledger::restore(
        ledger
            .accounts()
            .map(|(scope, account)| (scope.clone(), account.clone())),
        [id(1), id(2)].map(|id| (id, ledger.reservation(&id).unwrap().clone())),
    );
    assert_eq!(copy, ledger);
}

#[test]
fn what_is_in_use_is_not_forgotten() {
    let mut ledger = Ledger::new();
    granted(ledger.reserve(TODAY, &request(1, &[])));
    let day = Scope::Day(TODAY);
    assert!(!ledger.forget(&id(1)), "it holds money");
    assert!(!ledger.forget_account(&day), "money is held in it");
    ledger.load_account(day.clone(), Account::default());
    assert_eq!(
        ledger.account(&day).held_cost,
        money(2_000),
        "what is in the book is newer"
    );
    settled(ledger.settle(id(1), &used(1_000, 1)));
    let kept = ledger.account(&day);
    assert!(ledger.forget(&id(1)) && ledger.forget_account(&day));
    assert!(!ledger.forget(&id(1)) && !ledger.forget_account(&day));
    assert_eq!(ledger, Ledger::new());
    ledger.load_account(day.clone(), kept.clone());
    assert_eq!(ledger.account(&day), kept);
}

#[test]
fn a_damaged_store_cannot_make_the_book_panic_or_wrap() {
    // A release build must survive rows that contradict each other; a debug build says so.
    let reservation = Reservation {
        grant: Grant {
            max_output_tokens: 1,
            held_cost: money(10),
            held_tokens: 10,
        },
        scopes: vec![(Scope::Day(TODAY), limits(ScopeKey::Day, Some(1), Some(1)))],
        state: ReservationState::Open,
    };
    let run = || {
        let mut ledger = Ledger::restore([], [(id(1), reservation.clone())]);
        ledger.settle(id(1), &used(u64::MAX >> 1, u64::MAX));
        ledger
    };
    if cfg!(debug_assertions) {
        assert!(std::panic::catch_unwind(run).is_err());
    } else {
        assert_eq!(run().account(&Scope::Day(TODAY)).held_cost, Money::ZERO);
    }
}

#[test]
fn any_time_names_one_day_for_all_scopes() {
    let day = Timestamp::from_millis(1_795_392_000_000).day();
    assert_eq!(ScopeKey::Day.on(day).to_string(), "day 2026-11-23");
}
