//! Many callers at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use otto_core::ledger::{ReserveOutcome, ScopeKey, SettleOutcome, Settlement};
use otto_core::port::store::{ClaimOutcome, ReserveReply, SettleReply, SubmitOutcome};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "64 callers at the limit of one scope: as many grants as fit, never one more",
        workers_at_the_limit,
    ),
    ("64 callers warn once", one_warning),
    ("two sweepers charge each hold once", two_sweepers),
    ("one of many claimants gets a free session", one_claimant),
    (
        "one of many submissions with one key is accepted",
        one_submission,
    ),
    (
        "a settlement and a sweep at the same time count once",
        settle_against_sweep,
    ),
];

const WORKERS: u8 = 64;

/// Runs `work` on many threads that start together, each with its number from 1.
fn at_once<T: Send>(count: u8, work: impl Fn(u8) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(usize::from(count));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=count)
            .map(|number| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(number)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker that does not panic"))
            .collect()
    })
}

fn workers_at_the_limit(world: &dyn World) {
    const FIT: u64 = 100;
    const LIMIT: u64 = FIT * HOLD + HOLD - 1;
    let node = open(world, "a");
    let driven: Vec<Driven> = (1..=WORKERS)
        .map(|number| node.drive(number, number))
        .collect();
    let day = node.today();
    let done = AtomicBool::new(false);
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let other = open(world, "b");
            let mut looks = 0_u32;
            while !done.load(Ordering::SeqCst) || looks == 0 {
                let account = other.account(otto_core::ledger::Scope::Day(day));
                let total = account
                    .spent_cost
                    .checked_add(account.held_cost)
                    .expect("no overflow");
                assert!(total <= money(LIMIT), "spent plus held is {total}");
                looks += 1;
            }
        });
        at_once(WORKERS, |number| {
            let driven = &driven[usize::from(number) - 1];
            for effect in 1..=4 {
                match driven.reserve(effect, LIMIT) {
                    ReserveReply::Ledger(ReserveOutcome::Granted(_)) => {
                        granted.fetch_add(1, Ordering::SeqCst);
                    }
                    ReserveReply::Ledger(ReserveOutcome::OverLimit(_)) => {}
                    other => panic!("unexpected {other:?}"),
                }
            }
        });
        done.store(true, Ordering::SeqCst);
        reader.join().expect("the reader");
    });
    assert_eq!(granted.load(Ordering::SeqCst), FIT);
    let account = node.day_account();
    assert_eq!(
        (account.held_cost, account.spent_cost),
        (money(FIT * HOLD), money(0))
    );
    // Settled at less than was held, there is room again, and it is used to the last picodollar that fits.
    let settled: u64 = at_once(WORKERS, |number| {
        let driven = &driven[usize::from(number) - 1];
        (1..=4)
            .filter(|effect| {
                matches!(
                    driven.settle(*effect, used()),
                    SettleReply::Ledger(SettleOutcome::Settled(_))
                )
            })
            .count() as u64
    })
    .into_iter()
    .sum();
    assert_eq!(settled, FIT);
    let more: u64 = at_once(WORKERS, |number| {
        let driven = &driven[usize::from(number) - 1];
        (5..=6)
            .filter(|effect| {
                matches!(
                    driven.reserve(*effect, LIMIT),
                    ReserveReply::Ledger(ReserveOutcome::Granted(_))
                )
            })
            .count() as u64
    })
    .into_iter()
    .sum();
    assert_eq!(more, (LIMIT - FIT * COST) / HOLD);
    assert_eq!(node.total().cost, money(FIT * COST));
}

fn one_warning(world: &dyn World) {
    let node = open(world, "a");
    let driven: Vec<Driven> = (1..=WORKERS)
        .map(|number| node.drive(number, number))
        .collect();
    let limit = u64::from(WORKERS) * HOLD;
    let warnings: usize = at_once(WORKERS, |number| {
        let driven = &driven[usize::from(number) - 1];
        let mut call = driven.reserve_call(1, limit, Vec::new());
        call.request.scopes = vec![limits(ScopeKey::Day, Some(limit))];
        let reply = driven.reserve_as(call).expect("reserve");
        assert!(
            matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
            "{reply:?}"
        );
        driven.settled(1, Settlement::Forfeited).warnings.len()
    })
    .into_iter()
    .sum();
    assert_eq!(warnings, 1);
}

fn two_sweepers(world: &dyn World) {
    let node = open(world, "a");
    for number in 1..=WORKERS {
        node.drive(number, number).hold(1);
    }
    world.clock().advance(TTL);
    let nodes: Vec<Node> = (0..4)
        .map(|number| open(world, &format!("sweeper {number}")))
        .collect();
    let swept: u64 = at_once(4, |number| nodes[usize::from(number) - 1].sweep())
        .into_iter()
        .sum();
    assert_eq!(swept, u64::from(WORKERS));
    let account = node.day_account();
    assert_eq!(
        (account.held_cost, account.spent_cost),
        (money(0), money(u64::from(WORKERS) * HOLD))
    );
    assert_eq!(node.total().cost, account.spent_cost);
}

fn one_claimant(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    node.release(&driven.lease);
    let nodes: Vec<Node> = (1..=8)
        .map(|number| open(world, &format!("node {number}")))
        .collect();
    let leases: Vec<_> = at_once(8, |number| nodes[usize::from(number) - 1].claim(1))
        .into_iter()
        .filter_map(|outcome| match outcome {
            ClaimOutcome::Claimed(lease) => Some(lease),
            ClaimOutcome::Held { .. } => None,
        })
        .collect();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].epoch, driven.lease.epoch + 1);
}

fn one_submission(world: &dyn World) {
    let node = open(world, "a");
    let outcomes = at_once(16, |number| {
        let mut keyed = submission(&node, number, number);
        keyed.idempotency_key = Some(std::sync::Arc::from("once"));
        node.submit(keyed)
    });
    let unfinished = node.unfinished();
    assert_eq!(unfinished.len(), 1);
    let accepted = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, SubmitOutcome::Accepted(_)))
        .count();
    let duplicates = outcomes
        .iter()
        .filter(|outcome| **outcome == SubmitOutcome::Duplicate(unfinished[0]))
        .count();
    assert_eq!((accepted, duplicates), (1, 15));
}

fn settle_against_sweep(world: &dyn World) {
    let node = open(world, "a");
    let other = open(world, "b");
    let driven: Vec<Driven> = (1..=16).map(|number| node.drive(number, number)).collect();
    for driven in &driven {
        driven.hold(1);
    }
    world.clock().advance(TTL);
    at_once(17, |number| match driven.get(usize::from(number) - 1) {
        Some(driven) => {
            let reply = block_on(driven.node.store.settle(driven.settle_call(
                1,
                used(),
                Vec::new(),
            )))
            .expect("settle");
            assert!(
                matches!(reply, SettleReply::Ledger(SettleOutcome::Settled(_))),
                "before or after the sweep: {reply:?}"
            );
        }
        None => {
            other.sweep();
        }
    });
    let account = node.day_account();
    assert_eq!(
        (account.held_cost, account.spent_cost),
        (money(0), money(16 * COST))
    );
    let total = node.total();
    assert_eq!(
        (total.calls, total.unconfirmed_calls, total.cost),
        (16, 0, money(16 * COST))
    );
}
