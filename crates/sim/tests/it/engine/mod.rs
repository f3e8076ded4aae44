//! The real engine in a made-up world: Tokio's clock stands still and jumps, the model and the tools are fake,
//! the store is the one in memory behind a wrapper that loses what was not synced, fails and panics.
//!
//! What the machines decide is the business of the worlds; here it is the engine's part of the promises:
//! that effects are performed in order, that nothing begins before it is durable, that a panic, a kill and a
//! shutdown lose nothing and repeat nothing.

mod agents;
mod isolation;
mod model;
mod replacing;
mod store;
mod tools;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use otto_core::invocation::{Outcome, UnknownCallDecision};
use otto_core::ledger::{Account, ScopeKey};
use otto_core::message::{Message, UserBlock};
use otto_core::port::store::{Directory, InvocationQuery, InvocationRecord, Journal, LedgerStore};
use otto_core::task::TaskSpec;
use otto_core::{InvocationId, Money, journal};
use otto_engine::{Engine, InvocationHandle, InvokeError, InvokeOptions, Report, ResumeOptions};

use agents::{agent, engine};
use model::FakeModel;
use store::TroubledStore;
use tools::Deeds;

/// Seeds of the test command; `OTTO_SIM_ENGINE_SEEDS` names another number.
const SEEDS: u64 = 25;
/// Invocations of each world.
const INVOCATIONS: u64 = 5;

/// SplitMix64 behind an atomic, so that everybody in a world can draw from it.
pub(crate) struct Chance(AtomicU64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93)))
    }

    pub(crate) fn next(&self) -> u64 {
        let step = 0x9E37_79B9_7F4A_7C15_u64;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether something happens that happens `percent` times in a hundred.
    pub(crate) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn delay(&self, most_ms: u64) -> Duration {
        Duration::from_micros(self.below(most_ms * 1_000 + 1))
    }
}

/// What a world is made of.
pub(crate) struct World {
    pub(crate) chance: Arc<Chance>,
    pub(crate) store: Arc<TroubledStore>,
    pub(crate) model: Arc<FakeModel>,
    pub(crate) deeds: Arc<Deeds>,
}

impl World {
    fn new(seed: u64) -> Self {
        let chance = Arc::new(Chance::new(seed));
        let store = Arc::new(TroubledStore::new(chance.clone()));
        let deeds = Arc::new(Deeds::new(chance.clone(), store.clone()));
        let model = Arc::new(FakeModel::new(chance.clone()));
        Self {
            chance,
            store,
            model,
            deeds,
        }
    }
}

fn in_a_world(seed: u64, test: impl AsyncFnOnce(World)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(test(World::new(seed)));
}

#[test]
fn a_side_effect_begins_only_when_its_intent_is_durable() {
    in_a_world(1, async |world| {
        world.store.without_troubles();
        world.model.answers_with_one_act();
        let engine = engine(&world, "first");
        let report = run(&engine, "one").await;
        assert!(
            matches!(report.outcome, Outcome::Completed { .. }),
            "{}",
            report.outcome
        );
        assert_eq!(world.deeds.done(), 1);
        world.deeds.must_be_clean();
    });
}

#[test]
fn a_settlement_that_fails_once_is_made_again_before_the_end() {
    // With the first rides the intent of the side effect, which then is not begun; the last stands before the end.
    for failed in 0..2 {
        in_a_world(1, async |world| {
            world.store.without_troubles();
            world.model.answers_with_one_act();
            world.store.fail_settle_after(failed, 1);
            let engine = engine(&world, "first");
            let report = run(&engine, "one").await;
            let id = report.ids.invocation;
            assert_eq!(world.deeds.done(), failed);
            world.deeds.must_be_clean();
            if failed == 1 {
                assert!(
                    matches!(report.outcome, Outcome::Completed { .. }),
                    "{}",
                    report.outcome
                );
                assert_eq!(report.store_error, None);
            }
            ended_as_journaled(&world, id).await;
            let account = account_of(&world, id).await;
            assert_eq!(account.held_cost, Money::ZERO, "everything is settled");
            assert!(world.model.billed(id) <= account.spent_cost);
        });
    }
}

#[test]
fn an_end_is_not_recorded_above_a_settlement_that_failed() {
    in_a_world(1, async |world| {
        world.store.without_troubles();
        world.model.answers_with_one_act();
        world.store.fail_settle_after(1, 1_000);
        let first = engine(&world, "first");
        let begun = begin(&first, "one").await;
        let Err(InvokeError::NotStored(report)) = begun.report().await else {
            panic!("an answer that is not kept is no success");
        };
        let id = report.ids.invocation;
        assert!(
            !report.text().is_empty(),
            "the answer is paid for, and told"
        );
        let told = InvokeError::NotStored(report).to_string();
        assert!(
            told.contains("planted") && told.contains(&id.to_string()),
            "{told}"
        );
        let record = record_of(&world, id).await;
        assert_eq!((record.outcome, record.finished_at), (None, None));

        // Another process goes on: what was lost was paid for, and stays charged.
        world.store.fail_settle_after(0, 0);
        world.store.clock.advance(Duration::from_secs(3_600));
        let second = engine(&world, "second");
        let resumed = second
            .resume(agent(&Chance::new(1)), id, ResumeOptions::default())
            .await;
        let report = resumed.expect("it goes on").report().await;
        let outcome = report.expect("it reports").outcome;
        assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome}");
        ended_as_journaled(&world, id).await;
        let account = account_of(&world, id).await;
        assert_eq!(account.held_cost, Money::ZERO);
        assert!(world.model.billed(id) <= account.spent_cost);
        assert_eq!(world.deeds.done(), 1, "the side effect is not repeated");
    });
}

#[test]
fn what_a_side_effect_came_to_is_kept_while_the_model_talks_on() {
    in_a_world(1, async |world| {
        world.store.without_troubles();
        world.model.acts_and_talks_on();
        let engine = engine(&world, "first");
        let agent = agent(&Chance::new(1));
        let begun = engine.invoke(agent, TaskSpec::new("one"), InvokeOptions::default());
        let handle = begun.await.expect("it begins");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.deeds.done(), 1);
        // What a death of the process leaves.
        let left = world.store.inner.read(handle.ids().invocation).await;
        let machine = journal::fold(&left.expect("it was recorded")).expect("it can be folded");
        assert_eq!(machine.outcome(), None, "the reply goes on");
        assert!(
            machine.open_calls().is_empty(),
            "a call that has ended would be told as of unknown outcome"
        );
    });
}

#[test]
fn panics_kills_and_restarts_lose_nothing_and_repeat_nothing() {
    let seeds = std::env::var("OTTO_SIM_ENGINE_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |text| {
        text.parse().expect("OTTO_SIM_ENGINE_SEEDS is a number")
    });
    silence_planted_panics();
    let mut deeds = 0;
    for seed in 0..seeds {
        println!("seed {seed}");
        in_a_world(seed, async |world| deeds += troubled(&world).await);
    }
    println!("{deeds} calls with side effects");
    assert!(deeds > seeds, "the agents did too little: {deeds}");
}

/// The panics are planted; their messages would hide everything else.
fn silence_planted_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info
                .payload_as_str()
                .is_some_and(|text| text.starts_with("planted"))
            {
                hook(info);
            }
        }));
    });
}

/// One world from its first engine to its last; returns how many side effects were begun.
async fn troubled(world: &World) -> u64 {
    let mut known: BTreeSet<InvocationId> = BTreeSet::new();
    for node in ["first", "second", "third"] {
        let engine = engine(world, node);
        let waiting = begin_all(world, &engine, &mut known).await;
        let ordered = order_an_end(world, &engine);
        let reports = async {
            for handle in waiting {
                // The runtime lives on, so every handle gets its report, kept or not.
                let report = handle.report().await;
                assert!(
                    matches!(report, Ok(_) | Err(InvokeError::NotStored(_))),
                    "{report:?}"
                );
            }
        };
        let (done, ()) = tokio::join!(
            tokio::time::timeout(Duration::from_secs(900), reports),
            ordered
        );
        assert!(done.is_ok(), "an invocation never ended");
        engine.lift_kill().await.expect("the store takes it");
        // The next engine is another process: the leases of this one have run out.
        world.store.clock.advance(Duration::from_secs(3_600));
    }
    world.store.without_troubles();
    let last = engine(world, "last");
    for handle in begin_all(world, &last, &mut known).await {
        handle.report().await.expect("every invocation reports");
    }
    comes_to_rest(world, &known).await;
    world.deeds.must_be_clean();
    world.deeds.done()
}

/// Starts new invocations, or takes up again what can be.
async fn begin_all(
    world: &World,
    engine: &Engine,
    known: &mut BTreeSet<InvocationId>,
) -> Vec<InvocationHandle> {
    let mut handles = Vec::new();
    if known.is_empty() {
        for number in 0..INVOCATIONS {
            let task = TaskSpec::new(&format!("task {number}"));
            let started = engine
                .invoke(agent(&world.chance), task, InvokeOptions::default())
                .await;
            if let Ok(handle) = started {
                known.insert(handle.ids().invocation);
                handles.push(handle);
            }
        }
        return handles;
    }
    for invocation in known.iter() {
        let decision = match world.chance.below(3) {
            0 => None,
            1 => Some(UnknownCallDecision::TellModel),
            _ => Some(UnknownCallDecision::RunAgain),
        };
        let options = ResumeOptions {
            decision,
            ..ResumeOptions::default()
        };
        // What has ended for good refuses; what is taken up by another cannot be yet.
        if let Ok(handle) = engine
            .resume(agent(&world.chance), *invocation, options)
            .await
        {
            handles.push(handle);
        }
    }
    handles
}

/// Kill switch, shutdown, or nothing, at some time.
async fn order_an_end(world: &World, engine: &Engine) {
    tokio::time::sleep(world.chance.delay(20_000)).await;
    match world.chance.below(3) {
        0 => {
            // Running invocations are ended in any case; the row may not be kept.
            let _ = engine.kill("a drill").await;
        }
        1 => {
            engine.shutdown(Duration::from_secs(5)).await;
        }
        _ => {}
    }
}

async fn run(engine: &Engine, task: &str) -> Report {
    let begun = begin(engine, task).await;
    begun.report().await.expect("it reports")
}

async fn begin(engine: &Engine, task: &str) -> InvocationHandle {
    let agent = agent(&Chance::new(1));
    let handle = engine
        .invoke(agent, TaskSpec::new(task), InvokeOptions::default())
        .await;
    handle.expect("it begins")
}

/// What holds when nothing runs any more.
async fn comes_to_rest(world: &World, known: &BTreeSet<InvocationId>) {
    let store = &world.store.inner;
    world.store.clock.advance(Duration::from_secs(100_000));
    store
        .sweep()
        .await
        .expect("the store in memory does not fail");
    for invocation in known {
        let entries = store.read(*invocation).await.expect("it was recorded");
        if entries.is_empty() {
            // It panicked before anything was durable: nothing was paid.
            continue;
        }
        let machine = journal::fold(&entries).expect("every journal can be folded");
        answers_are_complete(machine.history(), *invocation);
        ended_as_journaled(world, *invocation).await;
        let account = account_of(world, *invocation).await;
        assert_eq!(
            account.held_cost,
            Money::ZERO,
            "{invocation} holds money and does not run"
        );
        let billed = world.model.billed(*invocation);
        let spent = account.spent_cost;
        assert!(
            billed <= spent,
            "{invocation}: the provider billed {billed}, the ledger knows of {spent}"
        );
        assert!(spent <= agents::COST_LIMIT, "{invocation} cost {spent}");
        assert_eq!(
            record_of(world, *invocation).await.cost,
            spent,
            "the usage rows of {invocation} do not add up"
        );
    }
}

async fn record_of(world: &World, invocation: InvocationId) -> InvocationRecord {
    let query = InvocationQuery {
        invocation: Some(invocation),
        ..InvocationQuery::default()
    };
    let records = world.store.inner.invocations(query).await;
    records.expect("it was recorded").remove(0)
}

async fn account_of(world: &World, invocation: InvocationId) -> Account {
    let scope = ScopeKey::Invocation(invocation).on(world.store.today());
    let account = world.store.inner.account(scope).await;
    account.expect("the store in memory does not fail")
}

/// An end stands above no hole: who folds the journal comes to the same end.
async fn ended_as_journaled(world: &World, invocation: InvocationId) {
    let entries = world.store.inner.read(invocation).await;
    let machine = journal::fold(&entries.expect("it was recorded")).expect("it can be folded");
    let journaled = machine.outcome().map(Outcome::kind);
    let recorded = record_of(world, invocation).await.outcome;
    assert!(
        recorded.is_none() || recorded == journaled,
        "{invocation} is recorded as {recorded:?}, journaled is {journaled:?}"
    );
}

/// Every call but those of the last reply has its one result.
fn answers_are_complete(history: &[Arc<Message>], invocation: InvocationId) {
    for pair in history.windows(2) {
        let calls: Vec<_> = pair[0].tool_calls().map(|call| call.id.clone()).collect();
        let Message::User(blocks) = &*pair[1] else {
            continue;
        };
        let answered: Vec<_> = blocks
            .iter()
            .filter_map(|block| match block {
                UserBlock::ToolResult(result) => Some(result.call.clone()),
                UserBlock::Text(_) => None,
            })
            .collect();
        assert_eq!(
            calls, answered,
            "the calls of {invocation} and their results differ"
        );
    }
}
