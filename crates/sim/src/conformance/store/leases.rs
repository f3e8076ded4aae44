//! Leases: one writer per session, whatever clocks and processes do.

use std::sync::Arc;
use std::time::Duration;

use otto_core::ledger::{SettleOutcome, Settlement};
use otto_core::port::store::{
    ClaimOutcome, Outcome, ReserveReply, SettleReply, StoreError, SubmitOutcome,
};
use otto_core::store_rules::{MAX_LEASE_TTL, StoreClock};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "submitting leases the session to the node",
        submitting_leases,
    ),
    ("a live lease keeps other nodes out", live_lease_keeps_out),
    (
        "an expired lease is taken over and fences the old owner everywhere",
        takeover_fences,
    ),
    (
        "a node that froze past its lease wakes up fenced",
        freeze_and_wake,
    ),
    (
        "an expired lease that nobody took is still its owner's",
        expired_but_not_taken,
    ),
    ("a heartbeat keeps a lease alive", heartbeat_extends),
    (
        "a lease that was given back is free, and its epoch is over",
        release_frees,
    ),
    (
        "an unfinished invocation is driven as long as its session has a live lease",
        driven_while_leased,
    ),
    ("claiming twice is one claim", claim_is_idempotent),
    (
        "a session that was never recorded cannot be claimed",
        claim_unknown,
    ),
    (
        "a clock set back does not lengthen a dead node's lease",
        clock_set_back,
    ),
    (
        "a clock set forward ends leases, and the old owner is fenced",
        clock_set_forward,
    ),
    ("no lease is longer than the longest", ttl_is_bounded),
];

fn submitting_leases(world: &dyn World) {
    let a = open(world, "a");
    let first = a.drive(1, 1);
    assert_eq!(
        (first.lease.session, &first.lease.node, first.lease.epoch),
        (session(1), &a.name, 1)
    );
    let second = a.drive(1, 2);
    assert_eq!(
        second.lease, first.lease,
        "a second invocation of the same node shares the lease"
    );
}

fn live_lease_keeps_out(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    a.drive(1, 1);
    world.clock().advance(TTL - Duration::from_micros(1));
    assert_eq!(
        b.submit(submission(&b, 1, 2)),
        SubmitOutcome::SessionBusy {
            node: Arc::from("a")
        }
    );
    assert_eq!(
        b.claim(1),
        ClaimOutcome::Held {
            node: Arc::from("a")
        }
    );
    assert_eq!(
        a.unfinished(),
        [invocation(1)],
        "a refused submission leaves nothing"
    );
    b.drive(2, 3);
}

fn takeover_fences(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let old = a.drive(1, 1);
    old.append(entries(1..=2)).expect("append");
    old.hold(1);
    world.clock().advance(TTL);
    let new = b.take_over(&old);
    assert_eq!(new.lease.epoch, old.lease.epoch + 1);
    let before = visible(&b, &[1]);
    assert_eq!(old.append(entries(3..=3)).expect("append"), Outcome::Fenced);
    assert_eq!(
        old.append(entries(1..=2)).expect("append"),
        Outcome::Fenced,
        "also for what is there already"
    );
    assert_eq!(old.reserve(2, 1_000_000), ReserveReply::Fenced);
    assert_eq!(old.reserve(1, 1_000_000), ReserveReply::Fenced);
    assert_eq!(old.settle(1, used()), SettleReply::Fenced);
    assert_eq!(old.finish(entries(3..=3), false), Outcome::Fenced);
    assert_eq!(a.heartbeat(&old.lease), Outcome::Fenced);
    assert_eq!(a.release(&old.lease), Outcome::Fenced);
    assert_eq!(visible(&b, &[1]), before, "a fenced call changes nothing");
    assert_eq!(new.append(entries(3..=3)).expect("append"), Outcome::Done);
    new.settled(1, Settlement::Forfeited);
}

fn freeze_and_wake(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let frozen = a.drive(1, 1);
    frozen.hold(1);
    world.clock().advance(TTL + Duration::from_secs(3_600));
    assert_eq!(b.sweep(), 1, "the hold of the frozen node is charged");
    let new = b.take_over(&frozen);
    assert_eq!(frozen.settle(1, used()), SettleReply::Fenced);
    assert_eq!(b.day_account().spent_cost, money(HOLD));
    assert_eq!(
        new.settle(1, Settlement::Forfeited),
        SettleReply::Ledger(SettleOutcome::AlreadySettled)
    );
    new.hold(2);
    new.settled(2, used());
    assert_eq!(b.day_account().spent_cost, money(HOLD + COST));
    assert_eq!(b.day_account().held_cost, money(0));
}

fn expired_but_not_taken(world: &dyn World) {
    let a = open(world, "a");
    let driven = a.drive(1, 1);
    driven.hold(1);
    world.clock().advance(TTL * 10);
    assert_eq!(
        driven.append(entries(1..=1)).expect("append"),
        Outcome::Done
    );
    driven.settled(1, used());
    assert_eq!(a.heartbeat(&driven.lease), Outcome::Done);
    let b = open(world, "b");
    assert_eq!(
        b.claim(1),
        ClaimOutcome::Held {
            node: Arc::from("a")
        },
        "the heartbeat has renewed it"
    );
}

fn heartbeat_extends(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let driven = a.drive(1, 1);
    for _ in 0..5 {
        world.clock().advance(TTL - Duration::from_secs(1));
        assert_eq!(a.heartbeat(&driven.lease), Outcome::Done);
        assert_eq!(
            b.claim(1),
            ClaimOutcome::Held {
                node: Arc::from("a")
            }
        );
    }
    world.clock().advance(TTL);
    assert!(matches!(b.claim(1), ClaimOutcome::Claimed(_)));
}

fn release_frees(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let driven = a.drive(1, 1);
    assert_eq!(a.release(&driven.lease), Outcome::Done);
    assert_eq!(a.release(&driven.lease), Outcome::AlreadyDone);
    assert_eq!(
        driven.append(entries(1..=1)).expect("append"),
        Outcome::Fenced
    );
    let ClaimOutcome::Claimed(lease) = b.claim(1) else {
        panic!("a free session is claimed")
    };
    assert_eq!(lease.epoch, driven.lease.epoch + 1);
    assert_eq!(
        a.release(&driven.lease),
        Outcome::Fenced,
        "and the new owner keeps it"
    );
    assert_eq!(
        a.claim(1),
        ClaimOutcome::Held {
            node: Arc::from("b")
        }
    );
    assert_eq!(b.release(&lease), Outcome::Done);
    let ClaimOutcome::Claimed(again) = b.claim(1) else {
        panic!("a free session is claimed")
    };
    assert_eq!(
        again.epoch,
        lease.epoch + 1,
        "the same node gets a new epoch after giving back"
    );
}

fn driven_while_leased(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let is_driven = |node: &Node| {
        let unfinished = block_on(node.store.unfinished()).expect("unfinished");
        assert_eq!(unfinished, [node.record(1)], "both lists say the same");
        unfinished[0].driven
    };
    let first = a.drive(1, 1);
    assert!(is_driven(&a) && is_driven(&b));
    world.clock().advance(TTL);
    assert!(!is_driven(&a) && !is_driven(&b), "its lease has run out");
    let second = b.take_over(&first);
    assert!(is_driven(&a));
    assert_eq!(b.release(&second.lease), Outcome::Done);
    assert!(!is_driven(&a), "its lease was given back");
    let third = a.take_over(&second);
    assert_eq!(third.finish(Vec::new(), false), Outcome::Done);
    assert!(!a.record(1).driven, "it has ended");
}

fn claim_is_idempotent(world: &dyn World) {
    let a = open(world, "a");
    let driven = a.drive(1, 1);
    assert_eq!(a.claim(1), ClaimOutcome::Claimed(driven.lease.clone()));
    assert_eq!(a.claim(1), ClaimOutcome::Claimed(driven.lease.clone()));
    world.clock().advance(TTL * 2);
    assert_eq!(
        a.claim(1),
        ClaimOutcome::Claimed(driven.lease),
        "also when it had expired"
    );
}

fn claim_unknown(world: &dyn World) {
    let a = open(world, "a");
    let answer = block_on(a.store.claim(session(9), a.name.clone(), TTL));
    assert!(
        matches!(answer, Err(StoreError::NotFound { .. })),
        "{answer:?}"
    );
}

fn clock_set_back(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    a.drive(1, 1);
    world.clock().set(otto_core::Timestamp::from_micros(
        NOON.micros() - 365 * 86_400_000_000,
    ));
    assert_eq!(
        b.claim(1),
        ClaimOutcome::Held {
            node: Arc::from("a")
        },
        "whether it is dead is not known yet"
    );
    world.clock().advance(TTL);
    assert!(
        matches!(b.claim(1), ClaimOutcome::Claimed(_)),
        "after its own length it is free"
    );
}

fn clock_set_forward(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let old = a.drive(1, 1);
    world.clock().advance(DAY * 400);
    b.take_over(&old);
    world.clock().set(NOON);
    assert_eq!(old.append(entries(1..=1)).expect("append"), Outcome::Fenced);
    assert_eq!(
        a.claim(1),
        ClaimOutcome::Held {
            node: Arc::from("b")
        }
    );
    world.clock().advance(TTL);
    assert!(
        matches!(a.claim(1), ClaimOutcome::Claimed(_)),
        "b's lease was cut to its own length"
    );
}

fn ttl_is_bounded(world: &dyn World) {
    let (a, b) = (open(world, "a"), open(world, "b"));
    let mut long = submission(&a, 1, 1);
    long.ttl = Duration::MAX;
    a.drive_as(long);
    world.clock().set(world.clock().now().after(MAX_LEASE_TTL));
    assert!(matches!(b.claim(1), ClaimOutcome::Claimed(_)));
}
