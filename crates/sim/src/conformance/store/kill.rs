//! The kill switch: nothing new begins, what was is readable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use otto_core::ledger::{Account, ReserveOutcome};
use otto_core::port::store::{KillRow, ReserveReply, SubmitOutcome};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "a thrown switch stops submissions and reservations, on every node",
        stops_everything,
    ),
    (
        "it holds across restarts until it is lifted",
        holds_across_restarts,
    ),
    (
        "what is running can be settled and ended under it",
        running_ends,
    ),
    (
        "no reservation is granted after it was thrown",
        race_with_reservations,
    ),
];

fn throw(node: &Node) -> KillRow {
    let row = KillRow {
        reason: Arc::from("the operator, by hand"),
        at: NOON,
    };
    block_on(node.store.set_kill(Some(row.clone()))).expect("throw the switch");
    row
}

fn stops_everything(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let driven = b.drive(1, 1);
    assert_eq!(block_on(a.store.kill()).expect("kill"), None);
    let row = throw(&a);
    assert_eq!(block_on(b.store.kill()).expect("kill"), Some(row.clone()));
    assert_eq!(
        b.submit(submission(&b, 2, 2)),
        SubmitOutcome::Killed(row.clone())
    );
    assert_eq!(b.unfinished(), [invocation(1)], "nothing was recorded");
    let reply = driven
        .reserve_as(driven.reserve_call(1, 1_000_000, entries(1..=1)))
        .expect("reserve");
    assert_eq!(reply, ReserveReply::Killed(row));
    assert_eq!(b.journal(1), entries(1..=1), "the entries are kept");
    assert_eq!(b.day_account(), Account::default(), "nothing is held");
    block_on(a.store.set_kill(None)).expect("lift the switch");
    assert_eq!(block_on(b.store.kill()).expect("kill"), None);
    driven.hold(1);
}

fn holds_across_restarts(world: &dyn World) {
    let row = throw(&open(world, "a"));
    let node = open(world, "b");
    assert_eq!(
        block_on(node.store.kill()).expect("kill"),
        Some(row.clone())
    );
    let second = KillRow {
        reason: Arc::from("again"),
        at: NOON.after(DAY),
    };
    block_on(node.store.set_kill(Some(second.clone()))).expect("throw the switch");
    assert_eq!(
        node.submit(submission(&node, 1, 1)),
        SubmitOutcome::Killed(second)
    );
    block_on(node.store.set_kill(None)).expect("lift the switch");
    block_on(node.store.set_kill(None)).expect("lifting twice is fine");
    node.drive(1, 1);
}

fn running_ends(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.hold(1);
    throw(&node);
    driven.append(entries(1..=1)).expect("append");
    driven.settled(1, used());
    driven.finish(entries(2..=2), true);
    assert_eq!(node.journal(1), entries(1..=2));
    assert_eq!(node.total().cost, money(COST));
}

fn race_with_reservations(world: &dyn World) {
    const WORKERS: u8 = 8;
    let thrown = AtomicBool::new(false);
    let node = open(world, "a");
    let granted = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=WORKERS)
            .map(|number| {
                let driven = node.drive(number, number);
                let thrown = &thrown;
                scope.spawn(move || {
                    let mut granted = 0;
                    for effect in 1..=500 {
                        let after = thrown.load(Ordering::SeqCst);
                        match driven.reserve(effect, 1_000_000_000) {
                            ReserveReply::Ledger(ReserveOutcome::Granted(_)) => {
                                assert!(!after, "granted after the switch was thrown");
                                granted += 1;
                            }
                            ReserveReply::Killed(_) => return granted,
                            other => panic!("unexpected {other:?}"),
                        }
                    }
                    granted
                })
            })
            .collect();
        let other = open(world, "b");
        throw(&other);
        thrown.store(true, Ordering::SeqCst);
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker"))
            .sum::<u64>()
    });
    assert_eq!(node.day_account().held_cost, money(granted * HOLD));
}
