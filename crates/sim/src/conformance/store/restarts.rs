//! A process that ends between any two calls: what was answered is there, and another node goes on.

use otto_core::ledger::{ReserveOutcome, SettleOutcome, Settlement};
use otto_core::port::store::{Outcome, ReserveReply, SettleReply};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "after an end at any boundary nothing acknowledged is lost and the rest is done once",
        every_boundary,
    ),
    ("recovery can end at any boundary, too", recovery_ends),
];

/// What an invocation of two model calls does, one call of the store each. Returns how many steps there are.
const STEPS: usize = 7;

fn step(driven: &Driven, number: usize) {
    match number {
        0 => assert_eq!(
            driven.append(entries(1..=1)).expect("append"),
            Outcome::Done
        ),
        1 | 4 => {
            let (effect, sequence) = if number == 1 { (1, 2) } else { (2, 5) };
            let call = driven.reserve_call(effect, 1_000_000, entries(sequence..=sequence));
            let reply = driven.reserve_as(call).expect("reserve");
            assert!(
                matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
                "{reply:?}"
            );
        }
        2 | 5 => {
            let (effect, sequence) = if number == 2 { (1, 3) } else { (2, 6) };
            let call = driven.settle_call(effect, used(), entries(sequence..=sequence));
            let reply = block_on(driven.node.store.settle(call)).expect("settle");
            assert!(
                matches!(reply, SettleReply::Ledger(SettleOutcome::Settled(_))),
                "{reply:?}"
            );
        }
        3 => assert_eq!(
            driven.append(entries(4..=4)).expect("append"),
            Outcome::Done
        ),
        6 => assert_eq!(driven.finish(entries(7..=7), false), Outcome::Done),
        other => unreachable!("step {other}"),
    }
}

/// How many entries, settled calls and open holds there are after the first `steps` steps.
fn expected(steps: usize) -> (u64, u64, u64) {
    [
        (0, 0, 0),
        (1, 0, 0),
        (2, 0, 1),
        (3, 1, 0),
        (4, 1, 0),
        (5, 1, 1),
        (6, 2, 0),
        (7, 2, 0),
    ][steps]
}

fn check(node: &Node, number: u8, steps: usize) {
    let (entry_count, settled, open) = expected(steps);
    let expected_entries = if entry_count == 0 {
        Vec::new()
    } else {
        entries(1..=entry_count)
    };
    assert_eq!(
        node.journal(number),
        expected_entries,
        "after {steps} steps"
    );
    let account = node.account(otto_core::ledger::Scope::Invocation(invocation(number)));
    assert_eq!(
        account.spent_cost,
        money(settled * COST),
        "after {steps} steps"
    );
    assert_eq!(account.held_cost, money(open * HOLD), "after {steps} steps");
    assert_eq!(
        node.record(number).outcome.is_some(),
        steps == STEPS,
        "after {steps} steps"
    );
}

fn every_boundary(world: &dyn World) {
    for steps in 0..=STEPS {
        let number = u8::try_from(steps).expect("few steps") + 1;
        let submission = {
            let node = open(world, &format!("node {steps}"));
            let driven = node.drive(number, number);
            (0..steps).for_each(|step_number| step(&driven, step_number));
            driven.submission
        };
        world.clock().advance(TTL);
        let node = open(world, &format!("successor {steps}"));
        check(&node, number, steps);
        assert_eq!(
            node.unfinished().contains(&invocation(number)),
            steps < STEPS
        );
        let driven = match block_on(node.store.claim(session(number), node.name.clone(), TTL))
            .expect("claim")
        {
            otto_core::port::store::ClaimOutcome::Claimed(lease) => Driven {
                node: node.clone(),
                lease,
                submission,
            },
            other => panic!("expected the lease, got {other:?}"),
        };
        finish_what_is_left(&driven, steps);
        let record = node.record(number);
        assert!(record.outcome.is_some());
        let (_, _, open) = expected(steps);
        let forfeited = open * HOLD;
        assert_eq!(
            record.cost,
            money(2 * COST + forfeited),
            "two calls, and the hold that was open, after {steps} steps"
        );
    }
    let node = open(world, "auditor");
    assert_eq!(
        node.total().cost,
        node.day_account().spent_cost,
        "usage adds up to the account of the day"
    );
    assert_eq!(node.day_account().held_cost, money(0));
}

/// Charges an open call at its hold, makes it again under a new reservation, and goes on to the end.
fn finish_what_is_left(driven: &Driven, steps: usize) {
    let (_, settled, open) = expected(steps);
    if open == 1 {
        let lost = settled + 1;
        assert_eq!(
            driven.settled(lost, Settlement::Forfeited).charged,
            money(HOLD)
        );
    }
    if steps == STEPS {
        return;
    }
    for (effect, _) in (10..).zip(settled..2) {
        driven.hold(effect);
        driven.settled(effect, used());
    }
    assert_eq!(driven.finish(Vec::new(), false), Outcome::Done);
}

fn recovery_ends(world: &dyn World) {
    let first = open(world, "node").drive(1, 1);
    step(&first, 0);
    step(&first, 1);
    let submission = first.submission.clone();
    drop(first);
    for round in 0..5 {
        world.clock().advance(TTL);
        let node = open(world, &format!("round {round}"));
        if round % 2 == 0 {
            assert_eq!(
                node.sweep(),
                u64::from(round == 0),
                "the hold is charged once"
            );
        }
        let lease = match node.claim(1) {
            otto_core::port::store::ClaimOutcome::Claimed(lease) => lease,
            other => panic!("expected the lease, got {other:?}"),
        };
        let driven = Driven {
            node: node.clone(),
            lease,
            submission: submission.clone(),
        };
        let reply = driven.settle(1, Settlement::Forfeited);
        assert_eq!(
            reply,
            SettleReply::Ledger(SettleOutcome::AlreadySettled),
            "round {round}"
        );
        assert_eq!(node.day_account().spent_cost, money(HOLD), "round {round}");
        assert_eq!(node.total().cost, money(HOLD), "round {round}");
    }
}
