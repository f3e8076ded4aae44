//! The next batch is written while the last one is being synced, and nobody is answered before its own sync.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};

use otto_core::Money;
use otto_core::ledger::{ReserveOutcome, Scope};
use otto_core::port::store::*;
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, FaultPoints};

use crate::fixture::*;

const EIO: i32 = 5;
/// As many calls as one batch takes.
const BATCH: u64 = 256;
/// As many as have to wait before the next one begins while it is being synced.
const REST: u64 = 16;

/// Holds up syncs of the log, once it is shut, until each is told what becomes of it.
struct Gate {
    shut: AtomicBool,
    begun: Mutex<mpsc::Sender<()>>,
    outcomes: Mutex<mpsc::Receiver<io::Result<()>>>,
}

impl FaultPoints for Gate {
    fn reach(&self, _: &'static str) -> io::Result<()> {
        Ok(())
    }

    fn sync_log(&self) -> io::Result<()> {
        if !self.shut.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.begun.lock().unwrap().send(()).unwrap();
        self.outcomes.lock().unwrap().recv().unwrap_or(Ok(()))
    }
}

/// The test's side of a gate.
struct Keeper {
    gate: Arc<Gate>,
    begun: mpsc::Receiver<()>,
    outcomes: mpsc::Sender<io::Result<()>>,
}

impl Keeper {
    /// Waits until a sync has begun.
    fn begun(&self) {
        self.begun.recv().unwrap();
    }

    fn open(&self) {
        self.gate.shut.store(false, Ordering::SeqCst);
    }
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<ReserveReply, StoreError>> + Send + 'a>>;

/// A store whose syncs are held up, and the lease of invocation 1. Nothing waits to be synced.
fn held_up(state: &Path) -> (EmbeddedStore, Lease, Keeper) {
    let (begin, begun) = mpsc::channel();
    let (outcomes, received) = mpsc::channel();
    let gate = Arc::new(Gate {
        shut: AtomicBool::new(false),
        begun: Mutex::new(begin),
        outcomes: Mutex::new(received),
    });
    let mut config = config(state, "a");
    config.faults = gate.clone();
    let store = EmbeddedStore::open(config).unwrap();
    let lease = submit(&store, 1);
    granted(block_on(store.reserve(reserve_call(&lease, 1, 1))));
    gate.shut.store(true, Ordering::SeqCst);
    let keeper = Keeper {
        gate,
        begun,
        outcomes,
    };
    (store, lease, keeper)
}

/// Asks for money that many times, without waiting for an answer.
fn ask<'a>(
    store: &'a EmbeddedStore,
    lease: &Lease,
    effects: std::ops::RangeInclusive<u64>,
) -> Vec<Call<'a>> {
    let mut calls: Vec<Call<'a>> = effects
        .map(|effect| store.reserve(reserve_call(lease, 1, effect)))
        .collect();
    assert_eq!(answered(&mut calls), 0);
    calls
}

/// How many have an answer.
fn answered(calls: &mut [Call<'_>]) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    calls
        .iter_mut()
        .filter_map(|call| match call.as_mut().poll(&mut context) {
            Poll::Pending => None,
            Poll::Ready(reply) => Some(reply),
        })
        .map(granted)
        .count()
}

fn granted(reply: Result<ReserveReply, StoreError>) {
    assert!(
        matches!(reply, Ok(ReserveReply::Ledger(ReserveOutcome::Granted(_)))),
        "{reply:?}"
    );
}

/// Waits until so many calls are committed: readers see them then.
fn await_commits(store: &EmbeddedStore, calls: u64) {
    let wanted = Money::from_picodollars(calls * HOLD).unwrap();
    let account = || block_on(store.account(Scope::Invocation(invocation(1)))).unwrap();
    await_that(|| account().held_cost == wanted);
}

fn await_that(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if is_so() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("what is awaited never comes");
}

/// Two batches: the first is being synced by a thread of its own, the second is committed meanwhile.
fn overlap<'a>(
    store: &'a EmbeddedStore,
    lease: &Lease,
    keeper: &Keeper,
) -> (Vec<Call<'a>>, Vec<Call<'a>>) {
    let alone = ask(store, lease, 2..=2);
    // The writer syncs by itself: it has nothing else to do.
    keeper.begun();
    let first = ask(store, lease, 3..=2 + BATCH);
    // One more than it takes at once, so that it has the first batch synced by the thread.
    let mut second = ask(store, lease, 3 + BATCH..=3 + BATCH);
    keeper.outcomes.send(Ok(())).unwrap();
    alone.into_iter().for_each(|call| granted(block_on(call)));
    keeper.begun();
    second.extend(ask(store, lease, 4 + BATCH..=2 + BATCH + REST));
    await_commits(store, 2 + BATCH + REST);
    (first, second)
}

#[test]
fn each_batch_is_answered_after_a_sync_that_began_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, lease, keeper) = held_up(&state);
    let (mut first, mut second) = overlap(&store, &lease, &keeper);
    assert_eq!((answered(&mut first), answered(&mut second)), (0, 0));
    keeper.outcomes.send(Ok(())).unwrap();
    first.into_iter().for_each(|call| granted(block_on(call)));
    keeper.begun();
    assert_eq!(answered(&mut second), 0, "committed after that sync began");
    keeper.outcomes.send(Ok(())).unwrap();
    second.into_iter().for_each(|call| granted(block_on(call)));
    keeper.open();
}

#[test]
fn a_repeated_call_is_answered_when_what_it_repeats_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, lease, keeper) = held_up(&state);
    let (first, second) = overlap(&store, &lease, &keeper);
    // Another batch, that changes nothing.
    let mut again: Vec<_> = (3..=2 + REST)
        .map(|effect| store.reserve(reserve_call(&lease, 1, effect)))
        .collect();
    assert_eq!(answered(&mut again), 0);
    keeper.outcomes.send(Ok(())).unwrap();
    first.into_iter().for_each(|call| granted(block_on(call)));
    keeper.begun();
    assert_eq!(answered(&mut again), 0, "it may repeat the second batch");
    keeper.open();
    keeper.outcomes.send(Ok(())).unwrap();
    second.into_iter().for_each(|call| granted(block_on(call)));
    for call in again {
        let reply = block_on(call).unwrap();
        assert!(
            matches!(
                reply,
                ReserveReply::Ledger(ReserveOutcome::AlreadyGranted(_))
            ),
            "{reply:?}"
        );
    }
}

#[test]
fn a_failed_sync_fails_what_waits_and_what_was_committed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, lease, keeper) = held_up(&state);
    let (first, second) = overlap(&store, &lease, &keeper);
    keeper.open();
    keeper
        .outcomes
        .send(Err(io::Error::from_raw_os_error(EIO)))
        .unwrap();
    for call in first.into_iter().chain(second) {
        let reply = block_on(call);
        assert!(
            matches!(reply, Err(StoreError::Unavailable { .. })),
            "{reply:?}"
        );
    }
    // The database is opened again, also when nobody calls: then its log is moved into it and cut.
    let log = state.join("otto.db-wal");
    await_that(|| std::fs::metadata(&log).is_ok_and(|log| log.len() == 0));
    // It goes on, and what was refused is asked for once more.
    let last = 2 + BATCH + REST;
    granted(block_on(store.reserve(reserve_call(&lease, 1, last + 1))));
    for effect in [3, last] {
        let reply = block_on(store.reserve(reserve_call(&lease, 1, effect))).unwrap();
        assert!(
            matches!(
                reply,
                ReserveReply::Ledger(
                    ReserveOutcome::Granted(_) | ReserveOutcome::AlreadyGranted(_)
                )
            ),
            "{reply:?}"
        );
    }
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn a_store_that_is_closed_answers_whoever_waits_for_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, lease, keeper) = held_up(&state);
    let (first, second) = overlap(&store, &lease, &keeper);
    drop((first, second));
    keeper.open();
    let closing = std::thread::spawn(move || drop(store));
    keeper.outcomes.send(Ok(())).unwrap();
    closing.join().unwrap();
    let store = open(&state, "b");
    await_commits(&store, 2 + BATCH + REST);
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}
