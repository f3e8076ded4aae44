//! The machine fails: what is known of money held ahead, and what is charged then.

use otto_core::Money;
use otto_core::ledger::{LookAhead, ReserveOutcome, Scope};
use otto_core::port::store::*;
use otto_sim::conformance::block_on;

use crate::fixture::*;

fn ahead(lease: &Lease, effect: u64) -> ReserveCall {
    ReserveCall {
        look_ahead: LookAhead::Hold,
        ..reserve_call(lease, 1, effect)
    }
}

fn money(picodollars: u64) -> Money {
    Money::from_picodollars(picodollars).unwrap()
}

#[test]
fn money_ahead_is_charged_after_a_failure_of_the_machine_and_kept_after_one_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let lease = submit(&store, 1);
    for effect in 1..=3 {
        let reply = block_on(store.reserve(ahead(&lease, effect))).unwrap();
        assert!(
            matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
            "{reply:?}"
        );
        block_on(store.settle(settle_call(&lease, 1, effect))).unwrap();
    }
    let account = |store: &otto_store_embedded::EmbeddedStore| {
        let account = block_on(store.account(Scope::Session(session(1)))).unwrap();
        (account.spent_cost, account.held_cost)
    };
    let (spent, held) = account(&store);
    assert_eq!(spent, money(3 * COST));
    assert!(held > Money::ZERO);
    drop(store);

    let store = open(&state, "b");
    assert_eq!(account(&store), (spent, held), "the process died");
    drop(store);

    // Another start of the machine: what the last process has drawn may be unknown.
    rusqlite::Connection::open(state.join("otto.db"))
        .unwrap()
        .execute("UPDATE meta SET value = 5 WHERE name = 'boot'", ())
        .unwrap();
    let store = open(&state, "c");
    assert_eq!(
        account(&store),
        (spent.saturating_add(held), Money::ZERO),
        "the machine failed"
    );
    let sums = block_on(store.usage(UsageQuery::default())).unwrap();
    assert_eq!(
        (sums[0].calls, sums[0].unconfirmed_calls, sums[0].cost),
        (4, 1, spent.saturating_add(held)),
        "the sum of all rows is what the accounts say"
    );
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    let claimed = block_on(store.claim(session(1), store.node().clone(), TTL)).unwrap();
    assert!(
        matches!(claimed, ClaimOutcome::Claimed(_)),
        "no process outlives its machine: {claimed:?}"
    );
    drop(store);
    let store = open(&state, "d");
    assert_eq!(
        account(&store),
        (spent.saturating_add(held), Money::ZERO),
        "it is charged once"
    );
}
