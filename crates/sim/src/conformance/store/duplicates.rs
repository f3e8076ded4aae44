//! Every call made twice is one call.

use otto_core::ledger::Settlement;
use otto_core::port::store::Durability;

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "an invocation whose calls are all repeated looks like one whose calls are not",
        everything_twice,
    ),
    (
        "a repetition that arrives after the end changes nothing",
        everything_late,
    ),
];

/// The calls of one invocation, each as something that can be done again.
fn calls(driven: &Driven) -> Vec<Box<dyn Fn() + '_>> {
    let store = &driven.node.store;
    let reserve = |effect, entries| driven.reserve_call(effect, 1_000_000, entries);
    vec![
        Box::new(move || drop(block_on(store.submit(driven.submission.clone())))),
        Box::new(move || drop(block_on(store.reserve(reserve(1, entries(1..=2)))))),
        Box::new(move || {
            drop(block_on(store.settle(driven.settle_call(
                1,
                used(),
                entries(3..=4),
            ))))
        }),
        Box::new(move || drop(driven.append_with(entries(5..=5), Durability::Relaxed))),
        Box::new(move || drop(block_on(store.heartbeat(driven.lease.clone(), TTL)))),
        Box::new(move || drop(block_on(store.reserve(reserve(2, entries(6..=6)))))),
        Box::new(move || {
            drop(block_on(store.settle(driven.settle_call(
                2,
                Settlement::Forfeited,
                entries(7..=7),
            ))))
        }),
        Box::new(move || drop(block_on(store.reserve(reserve(3, entries(8..=8)))))),
        Box::new(move || {
            drop(block_on(store.settle(driven.settle_call(
                3,
                Settlement::Released,
                Vec::new(),
            ))))
        }),
        Box::new(move || {
            drop(block_on(
                store.finish(driven.finish_call(entries(9..=9), false)),
            ))
        }),
    ]
}

fn state(node: &Node, number: u8) -> String {
    let account = node.account(otto_core::ledger::Scope::Session(session(number)));
    // What differs between two invocations by their names is left out.
    let record = node.record(number);
    let usage = node.usage(otto_core::port::store::UsageQuery {
        invocation: Some(invocation(number)),
        ..otto_core::port::store::UsageQuery::default()
    });
    format!(
        "{account:?} {:?} {usage:?} {:?} {} {:?} {} {}",
        node.journal(number),
        record.outcome,
        record.resumable,
        record.finished_at,
        record.cost,
        record.tokens
    )
}

fn everything_twice(world: &dyn World) {
    let node = open(world, "a");
    let (once, twice) = (node.drive(1, 1), node.drive(2, 2));
    for call in calls(&once) {
        call();
    }
    for call in calls(&twice) {
        call();
        call();
    }
    assert_eq!(state(&node, 1), state(&node, 2));
}

fn everything_late(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    for call in calls(&driven) {
        call();
    }
    let before = visible(&node, &[1]);
    drop(node);
    let (lease, submission) = (driven.lease.clone(), driven.submission.clone());
    drop(driven);
    let driven = Driven {
        node: open(world, "a"),
        lease,
        submission,
    };
    for call in calls(&driven) {
        call();
    }
    assert_eq!(visible(&driven.node, &[1]), before);
}
