//! Reservations and settlements: what is held, what is charged, and on which day.

use std::time::Duration;

use otto_core::ledger::{
    Account, LookAhead, ReserveOutcome, Scope, ScopeKey, SettleOutcome, Settlement,
};
use otto_core::port::store::{
    KillRow, Outcome, ReserveReply, SettleReply, StoreError, UsageGroup, UsageQuery,
};
use otto_core::{Timestamp, UtcDay};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "a grant is held in every scope, and survives a restart",
        grants_are_held,
    ),
    (
        "asking again is the same grant; once settled it is used up",
        reserve_is_idempotent,
    ),
    (
        "a refused reservation names the limit and keeps its entries",
        over_limit,
    ),
    ("a usage record replaces the hold, with its row", settlement),
    ("exactly one settlement counts", settle_once),
    ("a released hold costs nothing and has no row", released),
    (
        "a late usage record corrects a forfeit, across a restart",
        late_settlement,
    ),
    (
        "the sweep charges what nobody will settle, and nothing else",
        sweeping,
    ),
    (
        "money held ahead serves later calls, and what they leave of it",
        drawn,
    ),
    (
        "money held ahead never stands in anyone's way",
        ahead_gives_way,
    ),
    (
        "a draw is refused like any reserve: fenced, killed, ended",
        draws_are_checked,
    ),
    (
        "the sweep gives back what was only held ahead",
        ahead_is_swept,
    ),
    ("an invocation that has ended reserves nothing new", ended),
    ("a call belongs to the day it was held on", day_rollover),
    (
        "the day never falls, whatever the clock does",
        day_never_falls,
    ),
    ("a request without scopes is booked on its day", no_scopes),
    (
        "an overdrawn scope is latched shut, also after a restart",
        overdrawn,
    ),
    (
        "the largest amounts are refused, not wrapped",
        largest_amounts,
    ),
];

const NO_LIMIT: u64 = 1_000_000_000;

fn held(cost: u64, tokens: u64) -> Account {
    Account {
        held_cost: money(cost),
        held_tokens: tokens,
        ..Account::default()
    }
}

fn spent(cost: u64, tokens: u64) -> Account {
    Account {
        spent_cost: money(cost),
        spent_tokens: tokens,
        ..Account::default()
    }
}

fn all_scopes(day: UtcDay) -> [Scope; 4] {
    [
        Scope::Invocation(invocation(1)),
        Scope::Session(session(1)),
        Scope::Agent(agent("reviewer"), day),
        Scope::Day(day),
    ]
}

fn grants_are_held(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    let day = node.today();
    for scope in all_scopes(day) {
        assert_eq!(
            node.account(scope.clone()),
            held(HOLD, HOLD_TOKENS),
            "{scope}"
        );
    }
    assert_eq!(node.account(Scope::Session(session(2))), Account::default());
    drop((driven, node));
    let node = open(world, "b");
    for scope in all_scopes(day) {
        assert_eq!(
            node.account(scope.clone()),
            held(HOLD, HOLD_TOKENS),
            "{scope} after a restart"
        );
    }
    assert_eq!(node.total().calls, 0, "a hold is not yet usage");
}

fn reserve_is_idempotent(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let grant = driven.hold(1);
    assert_eq!(
        driven.reserve(1, NO_LIMIT),
        ReserveReply::Ledger(ReserveOutcome::AlreadyGranted(grant))
    );
    assert_eq!(
        driven.reserve(1, 0),
        ReserveReply::Ledger(ReserveOutcome::AlreadyGranted(grant)),
        "no limit is asked twice"
    );
    assert_eq!(node.day_account(), held(HOLD, HOLD_TOKENS));
    drop(node);
    let (lease, submission) = (driven.lease.clone(), driven.submission.clone());
    drop(driven);
    let driven = Driven {
        node: open(world, "a"),
        lease,
        submission,
    };
    assert_eq!(
        driven.reserve(1, NO_LIMIT),
        ReserveReply::Ledger(ReserveOutcome::AlreadyGranted(grant)),
        "after a restart"
    );
    driven.settled(1, used());
    assert_eq!(
        driven.reserve(1, NO_LIMIT),
        ReserveReply::Ledger(ReserveOutcome::AlreadySettled)
    );
    driven.finish(entries(1..=1), false);
    assert_eq!(
        driven.reserve(1, NO_LIMIT),
        ReserveReply::Ledger(ReserveOutcome::AlreadySettled)
    );
}

fn over_limit(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let reply = driven
        .reserve_as(driven.reserve_call(1, HOLD - 1, entries(1..=2)))
        .expect("reserve");
    let ReserveReply::Ledger(ReserveOutcome::OverLimit(denial)) = reply else {
        panic!("expected a denial, got {reply:?}")
    };
    assert_eq!(denial.scope, Scope::Day(node.today()));
    assert_eq!(denial.origin.to_string(), "the suite");
    assert_eq!(node.journal(1), entries(1..=2), "the entries are kept");
    for scope in all_scopes(node.today()) {
        assert_eq!(
            node.account(scope.clone()),
            Account::default(),
            "{scope}: nothing is held"
        );
    }
    assert_eq!(
        driven.settle(1, used()),
        SettleReply::Ledger(SettleOutcome::Unknown)
    );
    assert!(
        matches!(
            driven.reserve(1, HOLD),
            ReserveReply::Ledger(ReserveOutcome::Granted(_))
        ),
        "the same request fits a higher limit"
    );
}

fn settlement(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    let settled = driven.settled(1, used());
    assert_eq!((settled.charged, settled.overdrawn), (money(COST), false));
    for scope in all_scopes(node.today()) {
        assert_eq!(
            node.account(scope.clone()),
            spent(COST, usage().total_tokens()),
            "{scope}"
        );
    }
    drop((driven, node));
    let node = open(world, "b");
    let total = node.total();
    assert_eq!(
        (
            total.calls,
            total.unconfirmed_calls,
            total.usage,
            total.cost
        ),
        (1, 0, usage(), money(COST))
    );
    let record = node.record(1);
    assert_eq!(
        (record.cost, record.tokens),
        (money(COST), usage().total_tokens())
    );
}

fn settle_once(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    driven.settled(1, used());
    for again in [used(), Settlement::Forfeited, Settlement::Released] {
        assert_eq!(
            driven.settle(1, again),
            SettleReply::Ledger(SettleOutcome::AlreadySettled)
        );
    }
    drop(node);
    let (lease, submission) = (driven.lease.clone(), driven.submission.clone());
    drop(driven);
    let driven = Driven {
        node: open(world, "a"),
        lease,
        submission,
    };
    assert_eq!(
        driven.settle(1, Settlement::Forfeited),
        SettleReply::Ledger(SettleOutcome::AlreadySettled)
    );
    let call = driven.settle_call(1, used(), entries(1..=1));
    let reply = crate::conformance::block_on(driven.node.store.settle(call)).expect("settle");
    assert_eq!(reply, SettleReply::Ledger(SettleOutcome::AlreadySettled));
    assert_eq!(
        driven.node.journal(1),
        entries(1..=1),
        "its entries are kept all the same"
    );
    assert_eq!(driven.node.total().cost, money(COST));
    assert_eq!(
        driven.node.day_account(),
        spent(COST, usage().total_tokens())
    );
}

fn released(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    assert_eq!(driven.settled(1, Settlement::Released).charged, money(0));
    assert_eq!(node.day_account(), Account::default());
    assert_eq!(node.total().calls, 0);
    assert_eq!(
        driven.settle(1, used()),
        SettleReply::Ledger(SettleOutcome::AlreadySettled)
    );
}

fn late_settlement(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    assert_eq!(
        driven.settled(1, Settlement::Forfeited).charged,
        money(HOLD)
    );
    assert_eq!(node.day_account(), spent(HOLD, HOLD_TOKENS));
    let total = node.total();
    assert_eq!(
        (total.calls, total.unconfirmed_calls, total.cost),
        (1, 1, money(HOLD))
    );
    assert_eq!(
        total.usage,
        otto_core::model::Usage::default(),
        "nobody knows the tokens of a forfeit"
    );
    for again in [Settlement::Forfeited, Settlement::Released] {
        assert_eq!(
            driven.settle(1, again),
            SettleReply::Ledger(SettleOutcome::AlreadySettled)
        );
    }
    drop(node);
    let (lease, submission) = (driven.lease.clone(), driven.submission.clone());
    drop(driven);
    let driven = Driven {
        node: open(world, "a"),
        lease,
        submission,
    };
    assert_eq!(driven.settled(1, used()).charged, money(COST));
    assert_eq!(
        driven.node.day_account(),
        spent(COST, usage().total_tokens())
    );
    let total = driven.node.total();
    assert_eq!(
        (
            total.calls,
            total.unconfirmed_calls,
            total.usage,
            total.cost
        ),
        (1, 0, usage(), money(COST))
    );
}

fn sweeping(world: &dyn World) {
    let node = open(world, "a");
    let (live, ended, parked, lapsed) = (
        node.drive(1, 1),
        node.drive(2, 2),
        node.drive(3, 3),
        node.drive(4, 4),
    );
    for driven in [&live, &ended, &parked, &lapsed] {
        driven.hold(1);
    }
    assert_eq!(node.sweep(), 0, "all of them may still be settled");
    ended.finish(entries(1..=1), false);
    assert_eq!(node.release(&parked.lease), Outcome::Done);
    world.clock().advance(TTL);
    node.heartbeat(&live.lease);
    let now = otto_core::store_rules::StoreClock::now(world.clock());
    assert_eq!(node.sweep(), 3);
    assert_eq!(node.sweep(), 0, "once");
    let day = node.day_account();
    assert_eq!(
        (day.held_cost, day.spent_cost),
        (money(HOLD), money(3 * HOLD))
    );
    let sums = node.usage(UsageQuery {
        group_by: vec![UsageGroup::Invocation],
        ..UsageQuery::default()
    });
    let keys: Vec<&String> = sums
        .iter()
        .filter_map(|sum| sum.key.get(&UsageGroup::Invocation))
        .collect();
    assert_eq!(
        keys,
        [
            &invocation(2).to_string(),
            &invocation(3).to_string(),
            &invocation(4).to_string()
        ]
    );
    assert!(
        sums.iter()
            .all(|sum| (sum.unconfirmed_calls, sum.cost) == (1, money(HOLD)))
    );
    let before = UsageQuery {
        to: Some(now),
        ..UsageQuery::default()
    };
    assert_eq!(
        node.usage(before)[0].calls,
        0,
        "a forfeit bears the time of the sweep"
    );
    // The owner is late, but nobody has taken its session: its usage record corrects the forfeit.
    assert_eq!(lapsed.settled(1, used()).charged, money(COST));
    live.settled(1, used());
    let day = node.day_account();
    assert_eq!(
        (day.held_cost, day.spent_cost),
        (money(0), money(2 * HOLD + 2 * COST))
    );
    assert_eq!(node.total().cost, day.spent_cost);
}

/// Reserves with money held ahead.
fn ahead(driven: &Driven, effect: u64, day_limit: u64) -> ReserveReply {
    let mut call = driven.reserve_call(effect, day_limit, Vec::new());
    call.look_ahead = LookAhead::Hold;
    driven.reserve_as(call).expect("reserve")
}

fn is_granted(reply: &ReserveReply) -> bool {
    matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_)))
}

fn drawn(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    assert!(is_granted(&ahead(&driven, 1, NO_LIMIT)));
    let day = node.today();
    for scope in all_scopes(day) {
        assert_eq!(
            node.account(scope.clone()),
            held(2 * HOLD, 2 * HOLD_TOKENS),
            "{scope}: as much again is held"
        );
    }
    driven.settled(1, used());
    let after_one = Account {
        held_cost: money(2 * HOLD - COST),
        held_tokens: 2 * HOLD_TOKENS - usage().total_tokens(),
        ..spent(COST, usage().total_tokens())
    };
    assert_eq!(node.day_account(), after_one, "what was not used stays");
    assert!(is_granted(&ahead(&driven, 2, NO_LIMIT)));
    assert_eq!(node.day_account(), after_one, "a draw changes no account");
    let (lease, submission) = (driven.lease.clone(), driven.submission.clone());
    drop((driven, node));
    let node = open(world, "a");
    let driven = Driven {
        node: node.clone(),
        lease,
        submission,
    };
    for scope in all_scopes(day) {
        assert_eq!(
            node.account(scope.clone()),
            after_one,
            "{scope} after a restart"
        );
    }
    driven.settled(2, used());
    assert!(is_granted(&ahead(&driven, 3, NO_LIMIT)));
    driven.settled(3, used());
    driven.finish(entries(1..=1), false);
    for scope in all_scopes(day) {
        assert_eq!(
            node.account(scope.clone()),
            spent(3 * COST, 3 * usage().total_tokens()),
            "{scope}: the end gives the rest back"
        );
    }
    let total = node.total();
    assert_eq!((total.calls, total.cost), (3, money(3 * COST)));
    assert_eq!(node.sweep(), 0);
}

fn ahead_gives_way(world: &dyn World) {
    let node = open(world, "a");
    let other = open(world, "b");
    let (greedy, modest) = (node.drive(1, 1), other.drive(2, 2));
    assert!(is_granted(&ahead(&greedy, 1, 3 * HOLD)));
    assert_eq!(
        node.day_account(),
        held(HOLD + HOLD / 2, 2 * HOLD_TOKENS),
        "half of every limit stays free"
    );
    // Two holds fit the limit exactly, and money that nobody needs yet is not in the way.
    assert!(is_granted(&modest.reserve(1, 2 * HOLD)));
    assert_eq!(node.day_account(), held(2 * HOLD, 2 * HOLD_TOKENS));
    let reply = ahead(&greedy, 2, 2 * HOLD);
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::OverLimit(_))),
        "{reply:?}"
    );
    greedy.settled(1, used());
    modest.settled(1, used());
    assert_eq!(
        node.day_account(),
        spent(2 * COST, 2 * usage().total_tokens())
    );
}

fn draws_are_checked(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    assert!(is_granted(&ahead(&driven, 1, NO_LIMIT)));
    let row = KillRow {
        reason: std::sync::Arc::from("a test"),
        at: NOON,
    };
    block_on(node.store.set_kill(Some(row))).expect("kill");
    assert!(matches!(
        ahead(&driven, 2, NO_LIMIT),
        ReserveReply::Killed(_)
    ));
    block_on(node.store.set_kill(None)).expect("lift");
    let reply = ahead(&driven, 3, 2 * HOLD - 1);
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::OverLimit(_))),
        "a limit that was lowered holds: {reply:?}"
    );
    assert_eq!(node.day_account(), held(HOLD, HOLD_TOKENS));
    assert!(is_granted(&ahead(&driven, 4, NO_LIMIT)));
    world.clock().set(NOON.after(DAY));
    node.heartbeat(&driven.lease);
    assert!(is_granted(&ahead(&driven, 5, NO_LIMIT)));
    assert_eq!(
        node.day_account(),
        held(2 * HOLD, 2 * HOLD_TOKENS),
        "yesterday's money does not serve today"
    );
    world.clock().advance(TTL);
    let successor = open(world, "b").take_over(&driven);
    assert_eq!(ahead(&driven, 6, NO_LIMIT), ReserveReply::Fenced);
    assert!(is_granted(&ahead(&successor, 6, NO_LIMIT)));
}

fn ahead_is_swept(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    assert!(is_granted(&ahead(&driven, 1, NO_LIMIT)));
    assert_eq!(node.sweep(), 0, "its owner lives");
    assert_eq!(node.release(&driven.lease), Outcome::Done);
    assert_eq!(node.sweep(), 1, "the call is charged");
    assert_eq!(node.day_account(), spent(HOLD, HOLD_TOKENS));
    assert_eq!(node.total().calls, 1);
    assert_eq!(node.sweep(), 0);
}

fn ended(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    driven.finish(entries(1..=1), true);
    let answer = driven.reserve_as(driven.reserve_call(2, NO_LIMIT, Vec::new()));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    let reply = driven
        .reserve_as(driven.reserve_call(2, NO_LIMIT, entries(2..=2)))
        .expect("reserve");
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
        "what resumes it says so: {reply:?}"
    );
    assert_eq!(node.unfinished(), [invocation(1)]);
    driven.finish(entries(3..=3), false);
    let answer = driven.reserve_as(driven.reserve_call(3, NO_LIMIT, entries(4..=4)));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    assert_eq!(
        node.journal(1),
        entries(1..=3),
        "nothing of a refused call is kept"
    );
    driven.settled(2, used());
}

fn day_rollover(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let first = node.today();
    driven.hold(1);
    world.clock().set(NOON.after(DAY));
    let second = node.today();
    assert_eq!(second, UtcDay(first.0 + 1));
    driven.hold(2);
    driven.settled(1, used());
    assert_eq!(
        node.account(Scope::Day(first)),
        spent(COST, usage().total_tokens())
    );
    assert_eq!(
        node.account(Scope::Agent(agent("reviewer"), first)),
        spent(COST, usage().total_tokens())
    );
    assert_eq!(node.account(Scope::Day(second)), held(HOLD, HOLD_TOKENS));
    driven.settled(2, Settlement::Forfeited);
    assert_eq!(node.account(Scope::Day(second)), spent(HOLD, HOLD_TOKENS));
    let sums = node.usage(UsageQuery {
        group_by: vec![UsageGroup::Day],
        ..UsageQuery::default()
    });
    let days: Vec<(String, otto_core::Money)> = sums
        .into_iter()
        .map(|sum| {
            (
                sum.key.get(&UsageGroup::Day).cloned().unwrap_or_default(),
                sum.cost,
            )
        })
        .collect();
    assert_eq!(
        days,
        [
            (first.to_string(), money(COST)),
            (second.to_string(), money(HOLD))
        ],
        "usage adds up to the accounts"
    );
}

fn day_never_falls(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let day = node.today();
    let reply = driven.reserve(1, HOLD);
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
        "{reply:?}"
    );
    for back in [Duration::from_secs(1), DAY, DAY * 4_000] {
        world
            .clock()
            .set(Timestamp::from_micros(NOON.micros().saturating_sub(
                u64::try_from(back.as_micros()).expect("fits"),
            )));
        assert_eq!(node.today(), day, "after {back:?} back");
        let reply = driven.reserve(2, HOLD);
        assert!(
            matches!(reply, ReserveReply::Ledger(ReserveOutcome::OverLimit(_))),
            "no second fresh day: {reply:?}"
        );
    }
    drop((driven, node));
    let node = open(world, "b");
    assert_eq!(node.today(), day, "also after a restart");
    world.clock().set(NOON.after(DAY * 3));
    assert_eq!(node.today(), UtcDay(day.0 + 3));
}

fn no_scopes(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let mut call = driven.reserve_call(1, NO_LIMIT, Vec::new());
    call.request.scopes.clear();
    let reply = driven.reserve_as(call).expect("reserve");
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
        "{reply:?}"
    );
    assert_eq!(node.day_account(), held(HOLD, HOLD_TOKENS));
    let mut call = driven.reserve_call(2, NO_LIMIT, Vec::new());
    call.request.scopes = vec![
        limits(ScopeKey::Workflow(workflow(1)), None),
        limits(ScopeKey::Workflow(workflow(1)), Some(HOLD)),
    ];
    let reply = driven.reserve_as(call).expect("reserve");
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
        "{reply:?}"
    );
    assert_eq!(
        node.account(Scope::Workflow(workflow(1))),
        held(HOLD, HOLD_TOKENS),
        "a scope named twice is held once"
    );
}

fn overdrawn(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    let settled = driven.settled(
        1,
        Settlement::Used {
            usage: usage(),
            cost: money(HOLD + 1),
        },
    );
    assert!(settled.overdrawn);
    assert_eq!(settled.charged, money(HOLD + 1), "recorded in full");
    drop(node);
    let (lease, submission) = (driven.lease.clone(), driven.submission.clone());
    drop(driven);
    let driven = Driven {
        node: open(world, "a"),
        lease,
        submission,
    };
    assert!(driven.node.day_account().latched);
    let reply = driven.reserve(2, NO_LIMIT);
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::OverLimit(_))),
        "{reply:?}"
    );
}

fn largest_amounts(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let mut call = driven.reserve_call(1, NO_LIMIT, Vec::new());
    call.request.scopes = vec![limits(ScopeKey::Day, None)];
    call.request.quote.prompt_cost = otto_core::Money::MAX;
    call.request.quote.prompt_tokens = u64::MAX;
    let reply = driven.reserve_as(call).expect("reserve");
    assert!(
        matches!(reply, ReserveReply::Ledger(ReserveOutcome::OverLimit(_))),
        "{reply:?}"
    );
    assert_eq!(node.day_account(), Account::default());
    driven.hold(2);
    let huge = otto_core::model::Usage {
        input_tokens: u64::MAX,
        ..usage()
    };
    let settled = driven.settled(
        2,
        Settlement::Used {
            usage: huge,
            cost: otto_core::Money::MAX,
        },
    );
    assert!(settled.overdrawn);
    assert_eq!(node.total().cost, otto_core::Money::MAX);
    assert_eq!(
        node.total().usage.input_tokens,
        i64::MAX.cast_unsigned(),
        "counted at the end of its range"
    );
}
