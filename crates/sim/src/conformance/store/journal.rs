//! The journal, submission keys, and the end of an invocation.

use std::sync::Arc;

use otto_core::derived::DerivedArtifact;
use otto_core::invocation::OutcomeKind;
use otto_core::ledger::Account;
use otto_core::port::store::{
    ArtifactKind, Durability, Entry as JournalEntry, Finish, Outcome, ReserveCall, StoreError,
    SubmitOutcome,
};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    (
        "entries are read in order, also after a restart",
        entries_are_kept,
    ),
    (
        "reading from a sequence on gives what follows it",
        reading_on,
    ),
    (
        "entries that are there already are skipped, never replaced",
        repeated_entries,
    ),
    ("a gap in the journal is refused", gaps_are_refused),
    (
        "neither an end nor a hold stands above a missing entry",
        missing_entries,
    ),
    (
        "only the session of an invocation may write it",
        wrong_session,
    ),
    ("unknown invocations are not found", unknown_invocations),
    ("an idempotency key is one invocation", keys),
    (
        "a submission is kept with its first entries or not at all",
        first_entries,
    ),
    ("submitting twice is one invocation", submit_twice),
    ("an end is recorded once", finish_once),
    (
        "an end names the artifacts it takes, all or none, and again when repeated",
        taken_artifacts,
    ),
    (
        "new entries reopen a resumable end, and only that",
        reopening,
    ),
    ("large and odd texts are kept as they are", odd_texts),
];

fn entries_are_kept(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    assert_eq!(
        driven
            .append_with(entries(1..=3), Durability::Relaxed)
            .expect("append"),
        Outcome::Done
    );
    assert_eq!(
        node.journal(1),
        entries(1..=3),
        "relaxed is visible at once"
    );
    assert_eq!(open(world, "b").journal(1), entries(1..=3), "to every node");
    assert_eq!(
        driven.append(entries(4..=4)).expect("append"),
        Outcome::Done
    );
    drop((driven, node));
    assert_eq!(open(world, "c").journal(1), entries(1..=4));
}

fn reading_on(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let other = node.drive(2, 2);
    driven.append(entries(1..=5)).expect("append");
    other.append(entries(1..=7)).expect("append");
    let after = |after| block_on(node.store.read_after(invocation(1), after)).expect("read");
    assert_eq!(after(0), entries(1..=5));
    assert_eq!(after(3), entries(4..=5));
    for beyond in [5, 6, 1 << 40, u64::MAX - 1, u64::MAX] {
        assert_eq!(after(beyond), [], "after {beyond}");
    }
    assert!(matches!(
        block_on(node.store.read_after(invocation(9), 3)),
        Err(StoreError::NotFound { .. })
    ));
}

fn repeated_entries(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.append(entries(1..=3)).expect("append");
    assert_eq!(
        driven.append(entries(1..=3)).expect("append"),
        Outcome::AlreadyDone
    );
    assert_eq!(
        driven.append(entries(2..=2)).expect("append"),
        Outcome::AlreadyDone
    );
    assert_eq!(
        driven.append(entries(2..=5)).expect("append"),
        Outcome::Done,
        "what is new is kept"
    );
    let other = JournalEntry {
        sequence: 1,
        payload: Arc::from("\"other\""),
    };
    assert_eq!(
        driven.append(vec![other]).expect("append"),
        Outcome::AlreadyDone
    );
    assert_eq!(
        driven.append(Vec::new()).expect("append"),
        Outcome::AlreadyDone
    );
    assert_eq!(node.journal(1), entries(1..=5));
}

fn gaps_are_refused(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    for wrong in [
        vec![entry(2)],
        vec![entry(0)],
        vec![entry(1), entry(3)],
        vec![entry(1), entry(1)],
        vec![entry(u64::MAX)],
    ] {
        let answer = driven.append(wrong.clone());
        assert!(
            matches!(answer, Err(StoreError::Invalid { .. })),
            "{wrong:?}: {answer:?}"
        );
        assert_eq!(node.journal(1), [], "nothing of a refused call is kept");
    }
    driven.append(entries(1..=2)).expect("append");
    assert!(matches!(
        driven.append(vec![entry(4)]),
        Err(StoreError::Invalid { .. })
    ));
    assert!(matches!(
        driven.append(vec![entry(2), entry(4)]),
        Err(StoreError::Invalid { .. })
    ));
    assert_eq!(node.journal(1), entries(1..=2));
}

fn missing_entries(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.append(entries(1..=2)).expect("append");
    // The call that carried entry 3 has failed, and the one behind it has no entry of its own.
    let end = Finish {
        after: 3,
        ..driven.finish_call(Vec::new(), false)
    };
    let answer = block_on(node.store.finish(end.clone()));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    assert_eq!(node.record(1).outcome, None);
    let hold = ReserveCall {
        after: 3,
        ..driven.reserve_call(7, 1_000_000_000, Vec::new())
    };
    let answer = driven.reserve_as(hold.clone());
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    assert_eq!(node.day_account(), Account::default(), "nothing is held");
    driven.append(vec![entry(3)]).expect("append");
    assert!(driven.reserve_as(hold).is_ok());
    assert_eq!(driven.finish_as(end).outcome, Outcome::Done);
}

fn wrong_session(world: &dyn World) {
    let node = open(world, "a");
    let (first, second) = (node.drive(1, 1), node.drive(2, 2));
    let answer = block_on(node.store.append(
        first.lease.clone(),
        invocation(2),
        entries(1..=1),
        Durability::Synced,
    ));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    let mut call = second.settle_call(1, used(), Vec::new());
    call.attribution.session = session(1);
    let answer = block_on(node.store.settle(call));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    let mut moved = submission(&node, 2, 1);
    moved.session = session(2);
    let answer = block_on(node.store.submit(moved));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    assert_eq!(node.journal(2), []);
}

fn unknown_invocations(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    assert!(matches!(
        block_on(node.store.read(invocation(9))),
        Err(StoreError::NotFound { .. })
    ));
    let answer = block_on(node.store.append(
        driven.lease.clone(),
        invocation(9),
        entries(1..=1),
        Durability::Synced,
    ));
    assert!(
        matches!(answer, Err(StoreError::NotFound { .. })),
        "{answer:?}"
    );
    let mut call = driven.reserve_call(1, 1_000_000, Vec::new());
    call.request.id.invocation = invocation(9);
    let answer = driven.reserve_as(call);
    assert!(
        matches!(answer, Err(StoreError::NotFound { .. })),
        "{answer:?}"
    );
    assert_eq!(
        node.journal(1),
        [],
        "a known invocation without entries has an empty journal"
    );
}

fn first_entries(world: &dyn World) {
    let node = open(world, "a");
    let mut begun = submission(&node, 1, 1);
    begun.entries = entries(1..=1);
    begun.durability = Durability::Synced;
    let driven = node.drive_as(begun);
    assert_eq!(node.journal(1), entries(1..=1));
    assert_eq!(
        driven.append(entries(1..=2)).expect("append"),
        Outcome::Done,
        "the first is there already"
    );
    assert_eq!(node.journal(1), entries(1..=2));
    let mut gap = submission(&node, 2, 2);
    gap.entries = entries(2..=2);
    let answer = block_on(node.store.submit(gap));
    assert!(
        matches!(answer, Err(StoreError::Invalid { .. })),
        "{answer:?}"
    );
    assert_eq!(node.unfinished(), [invocation(1)], "nothing of it was kept");
    drop(node);
    assert_eq!(open(world, "b").journal(1), entries(1..=2));
}

fn keys(world: &dyn World) {
    let node = open(world, "a");
    let mut keyed = submission(&node, 1, 1);
    keyed.idempotency_key = Some(Arc::from("order 17"));
    node.drive_as(keyed.clone());
    let mut second = submission(&node, 2, 2);
    second.idempotency_key = Some(Arc::from("order 17"));
    assert_eq!(
        node.submit(second.clone()),
        SubmitOutcome::Duplicate(invocation(1))
    );
    // Only what both calls say is compared.
    second.fingerprint = Some(Arc::from("two crates"));
    assert_eq!(
        node.submit(second.clone()),
        SubmitOutcome::Duplicate(invocation(1))
    );
    second.fingerprint = None;
    drop(node);
    let other = open(world, "b");
    second.node = other.name.clone();
    assert_eq!(
        other.submit(second.clone()),
        SubmitOutcome::Duplicate(invocation(1)),
        "also for another node"
    );
    assert_eq!(other.unfinished(), [invocation(1)]);
    second.idempotency_key = Some(Arc::from("order 18"));
    second.fingerprint = Some(Arc::from("two crates"));
    assert!(matches!(
        other.submit(second.clone()),
        SubmitOutcome::Accepted(_)
    ));
    let mut third = submission(&other, 3, 3);
    third.idempotency_key = Some(Arc::from("order 18"));
    third.fingerprint = Some(Arc::from("two crates"));
    assert_eq!(
        other.submit(third.clone()),
        SubmitOutcome::Duplicate(invocation(2))
    );
    third.fingerprint = Some(Arc::from("three crates"));
    assert_eq!(
        other.submit(third),
        SubmitOutcome::KeyReused(invocation(2)),
        "the key stands for something else"
    );
    for wrong in [String::new(), "k".repeat(257)] {
        second.invocation = invocation(3);
        second.idempotency_key = Some(Arc::from(wrong));
        let answer = block_on(other.store.submit(second.clone()));
        assert!(
            matches!(answer, Err(StoreError::Invalid { .. })),
            "{answer:?}"
        );
    }
}

fn submit_twice(world: &dyn World) {
    let node = open(world, "a");
    let first = node.drive(1, 1);
    assert_eq!(node.drive(1, 1).lease, first.lease);
    assert_eq!(node.unfinished(), [invocation(1)]);
    first.finish(entries(1..=1), false);
    assert_eq!(
        node.submit(first.submission),
        SubmitOutcome::Duplicate(invocation(1)),
        "one that ended does not begin again"
    );
    assert_eq!(node.record(1).outcome, Some(OutcomeKind::Completed));
}

fn finish_once(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    driven.append(entries(1..=1)).expect("append");
    assert_eq!(driven.finish(entries(2..=3), false), Outcome::Done);
    assert_eq!(driven.finish(entries(2..=3), false), Outcome::AlreadyDone);
    assert_eq!(
        driven.finish(entries(4..=4), true),
        Outcome::AlreadyDone,
        "a final end stays"
    );
    assert_eq!(node.journal(1), entries(1..=3));
    assert_eq!(node.unfinished(), []);
    drop((driven, node));
    let record = open(world, "b").record(1);
    assert_eq!(
        (record.outcome, record.resumable),
        (Some(OutcomeKind::Completed), false)
    );
    assert_eq!(
        (&*record.summary, &*record.result),
        ("in a line", "the result")
    );
    assert!(record.finished_at.is_some());
}

fn taken_artifacts(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    let artifacts = |text: &str| {
        [
            (ArtifactKind::Transcript, "transcript.md"),
            (ArtifactKind::Result, "result.md"),
        ]
        .map(|(kind, name)| DerivedArtifact {
            kind,
            name,
            content: Arc::from(text.as_bytes()),
        })
        .to_vec()
    };
    let finish = |sequence, text| Finish {
        artifacts: artifacts(text),
        ..driven.finish_call(entries(sequence..=sequence), true)
    };
    let reply = driven.finish_as(finish(1, "abc"));
    assert_eq!(reply.outcome, Outcome::Done);
    for (taken, name) in reply.artifacts.iter().zip(["transcript.md", "result.md"]) {
        assert!(taken.path.contains(name), "in the order asked: {taken:?}");
        assert_eq!((taken.session, taken.size_bytes), (session(1), 3));
        assert_eq!(&*taken.sha256, crate::conformance::blobs::ABC);
    }
    assert!(
        [0, 2].contains(&reply.artifacts.len()),
        "all or none: {reply:?}"
    );
    let again = driven.finish_as(finish(1, "abc"));
    assert_eq!(
        (again.outcome, again.artifacts),
        (Outcome::AlreadyDone, reply.artifacts.clone())
    );
    let later = driven.finish_as(finish(2, "later"));
    assert_eq!(later.outcome, Outcome::Done);
    assert!(
        later
            .artifacts
            .iter()
            .all(|new| reply.artifacts.iter().all(|old| old.path != new.path)),
        "another content is another version: {later:?}"
    );
    world.clock().advance(TTL);
    let other = open(world, "b").take_over(&driven);
    let fenced = driven.finish_as(finish(3, "too late"));
    assert_eq!(
        (fenced.outcome, fenced.artifacts),
        (Outcome::Fenced, Vec::new())
    );
    drop(other);
}

fn reopening(world: &dyn World) {
    let node = open(world, "a");
    let driven = node.drive(1, 1);
    assert_eq!(driven.finish(entries(1..=2), true), Outcome::Done);
    assert!(node.record(1).resumable);
    assert_eq!(
        driven.append(entries(1..=2)).expect("append"),
        Outcome::AlreadyDone
    );
    assert_eq!(node.unfinished(), [], "a late repetition does not reopen");
    assert_eq!(driven.finish(entries(1..=2), true), Outcome::AlreadyDone);
    assert_eq!(
        driven.append(entries(3..=3)).expect("append"),
        Outcome::Done
    );
    let record = node.record(1);
    assert_eq!(
        (record.outcome, record.finished_at, record.resumable),
        (None, None, false)
    );
    assert_eq!(
        node.unfinished(),
        [invocation(1)],
        "a crash from here on is found"
    );
    assert_eq!(driven.finish(entries(4..=4), false), Outcome::Done);
    assert_eq!(
        driven.append(entries(5..=5)).expect("append"),
        Outcome::Done,
        "what arrives late is kept"
    );
    assert_eq!(node.unfinished(), [], "and reopens nothing");
    assert_eq!(node.journal(1), entries(1..=5));
}

fn odd_texts(world: &dyn World) {
    let node = open(world, "a");
    let mut odd = submission(&node, 1, 1);
    odd.title = Arc::from("nul \0, quote ', \u{202e}, \u{10FFFF}");
    let driven = node.drive_as(odd.clone());
    let payloads = [
        String::new(),
        "\0".to_owned(),
        "ü\u{10FFFF}';--".to_owned(),
        "x".repeat(3_000_000),
    ];
    let written: Vec<JournalEntry> = (1..)
        .zip(&payloads)
        .map(|(sequence, payload)| JournalEntry {
            sequence,
            payload: Arc::from(payload.as_str()),
        })
        .collect();
    driven.append(written.clone()).expect("append");
    drop((driven, node));
    let node = open(world, "b");
    assert!(node.journal(1) == written, "texts come back as they were");
    assert_eq!(node.record(1).title, odd.title);
}
