//! Artifacts that follow from a journal: acknowledged with the end, written later, never lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::derived::{self, DerivedArtifact};
use otto_core::invocation::{
    Effect, Event, Invocation, InvocationLimits, InvocationSpec, ModelFinish, Resumption,
    StopReason,
};
use otto_core::journal;
use otto_core::ledger::Grant;
use otto_core::message::{Block, BlockView};
use otto_core::model::{CacheUse, ModelSpec, TokenPrices, Usage};
use otto_core::port::store::*;
use otto_core::store_rules::ManualClock;
use otto_core::{AgentName, ModelId, Money, TaskId};
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, RetentionPolicy};

use crate::fixture::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// An invocation that is driven by hand and journaled.
struct Told {
    n: u8,
    lease: Lease,
    machine: Invocation,
    pending: Vec<Entry>,
    last: u64,
}

impl Told {
    fn begin(store: &EmbeddedStore, n: u8) -> Self {
        Self {
            n,
            lease: submit(store, n),
            machine: Invocation::default(),
            pending: Vec::new(),
            last: 0,
        }
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        self.last += 1;
        self.pending.push(Entry {
            sequence: self.last,
            payload: journal::encode(NOON, &event),
        });
        self.machine.step(NOON, event)
    }

    /// One turn in which the model says `text`, from the start or a resumption to the end.
    fn turn(&mut self, first: Event, text: &str, stop: StopReason) {
        let wishes = self.feed(first);
        let id = wishes.iter().find_map(|effect| match effect {
            Effect::Reserve { id, .. } => Some(*id),
            _ => None,
        });
        let grant = Grant {
            max_output_tokens: 1_000,
            held_cost: Money::from_dollars(1),
            held_tokens: 2_000,
        };
        let wishes = self.feed(Event::ReservationGranted {
            effect: id.expect("money is asked for first"),
            grant,
        });
        let effect = wishes
            .iter()
            .find_map(|effect| match effect {
                Effect::CallModel { id, .. } => Some(*id),
                _ => None,
            })
            .expect("the model is called");
        let block = Arc::new(Block {
            raw: Arc::from(format!("{{\"type\":\"text\",\"text\":{text:?}}}")),
            view: BlockView::Text(Arc::from(text)),
        });
        self.feed(Event::BlockReceived {
            effect,
            index: 0,
            block,
        });
        let usage = Usage {
            input_tokens: 10,
            output_tokens: 10,
            ..Usage::default()
        };
        self.feed(Event::ModelFinished {
            effect,
            finish: ModelFinish {
                stop,
                usage: Some(usage),
                served_by: None,
            },
        });
    }

    fn artifacts(&self) -> Vec<DerivedArtifact> {
        let outcome = self.machine.outcome().expect("it has ended");
        derived::of(&invocation(self.n), &self.machine, outcome)
    }

    fn finish(&mut self, store: &EmbeddedStore, resumable: bool) -> Vec<Kept> {
        let artifacts = self.artifacts();
        let outcome = self.machine.outcome().expect("it has ended");
        let finish = Finish {
            lease: self.lease.clone(),
            invocation: invocation(self.n),
            outcome: outcome.kind(),
            summary: Arc::from(""),
            result: Arc::from(""),
            after: 0,
            entries: std::mem::take(&mut self.pending),
            artifacts: artifacts.clone(),
            resumable,
            at: NOON,
        };
        let reply = block_on(store.finish(finish)).unwrap();
        assert_eq!(reply.outcome, Outcome::Done);
        assert_eq!(reply.artifacts.len(), artifacts.len(), "all are taken");
        reply
            .artifacts
            .into_iter()
            .zip(artifacts)
            .map(|(artifact, derived)| Kept {
                artifact,
                content: derived.content,
            })
            .collect()
    }
}

/// What was acknowledged.
struct Kept {
    artifact: ArtifactRef,
    content: Arc<[u8]>,
}

fn spec(n: u8) -> Arc<InvocationSpec> {
    let price = Money::from_picodollars(1_000_000).unwrap();
    let model = ModelSpec {
        id: ModelId::new("model-1").unwrap(),
        aliases: Vec::new(),
        context_window: 100_000,
        max_output_tokens: 1_000,
        prices: TokenPrices {
            input: price,
            output: price,
            cache_read: price,
            cache_write_5m: price,
            cache_write_1h: price,
        },
        long_context: None,
        surcharge_percent: 100,
        hidden_prompt_tokens: 0,
    };
    Arc::new(InvocationSpec {
        invocation: invocation(n),
        session: session(n),
        task: TaskId::from_bytes([n; 16]),
        workflow: None,
        agent: AgentName::new("reviewer").unwrap(),
        model: Arc::new(model),
        cache: CacheUse::FiveMinutes,
        system_prompt: Arc::from("Review."),
        tools: Vec::new(),
        input: Arc::from("Look at `src/`."),
        compaction: None,
        transcript_messages: 200,
        tells_limits: false,
        limits: limits(),
        scopes: Vec::new(),
        seed: 1,
    })
}

fn limits() -> InvocationLimits {
    InvocationLimits {
        time: Limit::new(Duration::from_secs(60), "a test"),
        turns: Limit::new(10, "a test"),
        repetitions: 3,
        attempts: 3,
        max_output_tokens: 1_000,
        floor_output_tokens: 1,
        parallel_tools: 1,
    }
}

/// Runs invocation `n` to its end.
fn ended(store: &EmbeddedStore, n: u8) -> Vec<Kept> {
    let mut told = Told::begin(store, n);
    let text = format!("All is well in {n}.");
    told.turn(Event::Started(spec(n)), &text, StopReason::EndTurn);
    told.finish(store, false)
}

fn file(state: &Path, artifact: &ArtifactRef) -> PathBuf {
    let session = artifact.session.to_string();
    state.join("sessions").join(session).join(&*artifact.path)
}

fn unwritten(state: &Path) -> i64 {
    rusqlite::Connection::open(state.join("otto.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM unwritten", (), |row| row.get(0))
        .unwrap()
}

fn unwritten_of(state: &Path, n: u8) -> bool {
    rusqlite::Connection::open(state.join("otto.db"))
        .unwrap()
        .query_row(
            "SELECT count(*) FROM unwritten WHERE session = ?1",
            [session(n).as_bytes()],
            |row| row.get(0),
        )
        .unwrap()
}

fn check_readable(store: &EmbeddedStore, kept: &[Kept]) {
    for Kept { artifact, content } in kept {
        let read = block_on(store.get(artifact.clone())).unwrap();
        assert!(read == **content, "{}", artifact.path);
    }
}

fn check_files(state: &Path, kept: &[Kept]) {
    for Kept { artifact, content } in kept {
        let read = fs::read(file(state, artifact)).unwrap();
        assert!(read == **content, "{}", artifact.path);
    }
    for session in fs::read_dir(state.join("sessions")).unwrap() {
        for file in fs::read_dir(session.unwrap().path()).unwrap() {
            let name = file.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with(".tmp-"), "{name:?}");
        }
    }
}

#[test]
fn artifacts_are_readable_with_the_end_and_files_when_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    // Enough that they share their syncs, and one that is synced by itself.
    let mut kept: Vec<Kept> = (1..=12).flat_map(|n| ended(&store, n)).collect();
    assert_eq!(kept.len(), 36);
    check_readable(&store, &kept);
    let other = open(&state, "b");
    check_readable(&other, &kept);
    drop((store, other));
    check_files(&state, &kept);
    let store = open(&state, "c");
    kept.extend(ended(&store, 13));
    assert_eq!(block_on(store.list(session(13))).unwrap().len(), 3);
    drop(store);
    check_files(&state, &kept);
    assert_eq!(unwritten(&state), 0);
    let store = open(&state, "d");
    assert!(block_on(store.checkpointer().scrub()).unwrap().is_clean());
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn what_cannot_be_written_is_readable_and_written_by_the_next_process() {
    // One invocation is synced file by file: three files written and synced, three names, their directory. Four
    // share their syncs: twelve files, a sync, twelve names, a sync.
    for (invocations, steps) in [(1, (0..10).collect()), (4, vec![0, 7, 12, 13, 19, 25])] {
        for step in steps {
            let dir = tempfile::tempdir().unwrap();
            let state = dir.path().join("state");
            let faults = Arc::new(Faults::default());
            let mut config = config(&state, "a");
            config.faults = faults.clone();
            let store = EmbeddedStore::open(config).unwrap();
            faults.fail_after(step, if step % 2 == 0 { EIO } else { ENOSPC });
            let kept: Vec<Kept> = (1..=invocations).flat_map(|n| ended(&store, n)).collect();
            drop(store);
            let failed = faults.reached()[step];
            assert!(failed.contains("derived"), "{failed}");
            assert!(unwritten(&state) > 0, "step {step}, {failed}");
            // A process that is killed cannot take back what it was writing.
            let leftover = format!(".tmp-{}-7", "ab".repeat(12));
            for n in 1..=invocations {
                if unwritten_of(&state, n) {
                    let folder = state.join("sessions").join(session(n).to_string());
                    fs::write(folder.join(&leftover), b"half").unwrap();
                }
            }
            let store = open(&state, "b");
            check_readable(&store, &kept);
            drop(store);
            check_files(&state, &kept);
            assert_eq!(unwritten(&state), 0, "step {step}, {failed}");
        }
    }
}

#[test]
fn every_loss_of_files_is_made_good_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let kept: Vec<Kept> = (1..=5).flat_map(|n| ended(&store, n)).collect();
    drop(store);
    // A power loss can leave any of the files, if they were not yet known to be durable.
    let connection = rusqlite::Connection::open(state.join("otto.db")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO unwritten SELECT DISTINCT invocation, session, 'a' FROM artifacts",
        )
        .unwrap();
    drop(connection);
    for (number, kept) in kept.iter().enumerate() {
        if number % 3 != 0 {
            fs::remove_file(file(&state, &kept.artifact)).unwrap();
        }
    }
    fs::remove_dir_all(file(&state, &kept[0].artifact).parent().unwrap()).unwrap();
    let store = open(&state, "b");
    check_readable(&store, &kept);
    drop(store);
    check_files(&state, &kept);
    assert_eq!(unwritten(&state), 0);

    // Later losses are found by the scrub; a changed file is reported, and read as it was acknowledged.
    fs::remove_file(file(&state, &kept[1].artifact)).unwrap();
    fs::write(file(&state, &kept[2].artifact), "changed").unwrap();
    let store = open(&state, "c");
    check_readable(&store, &kept);
    let report = block_on(store.checkpointer().scrub()).unwrap();
    assert_eq!(report.remade, 1);
    let damaged: Vec<&ArtifactRef> = report.damaged.iter().map(|d| &d.artifact).collect();
    assert_eq!(damaged, [&kept[2].artifact]);
    assert!(file(&state, &kept[1].artifact).exists());

    // What the journal does not confirm is not given out.
    let wrong = ArtifactRef {
        sha256: Arc::from("0".repeat(64)),
        ..kept[0].artifact.clone()
    };
    let answer = block_on(store.get(wrong));
    assert!(
        matches!(answer, Err(StoreError::Damaged { .. })),
        "{answer:?}"
    );
}

#[test]
fn an_invocation_that_went_on_keeps_the_artifacts_of_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let mut told = Told::begin(&store, 1);
    told.turn(
        Event::Started(spec(1)),
        "I cannot say.",
        StopReason::ContextWindowExceeded,
    );
    let mut kept = told.finish(&store, true);
    let resumed = Event::Resumed(Arc::new(Resumption {
        limits: limits(),
        scopes: Vec::new(),
        decision: None,
    }));
    told.turn(resumed, "Now I can.", StopReason::EndTurn);
    kept.extend(told.finish(&store, false));
    check_readable(&store, &kept);
    drop(store);
    check_files(&state, &kept);
    fs::remove_dir_all(state.join("sessions")).unwrap();
    let store = open(&state, "b");
    check_readable(&store, &kept);
    let report = block_on(store.checkpointer().scrub()).unwrap();
    assert_eq!(report.remade, kept.len() as u64);
    drop(store);
    check_files(&state, &kept);
}

#[test]
fn retention_waits_for_files_that_are_still_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let clock = Arc::new(ManualClock::new(NOON));
    let faults = Arc::new(Faults::default());
    let mut config = config(&state, "a");
    (config.clock, config.faults) = (clock.clone(), faults.clone());
    let store = EmbeddedStore::open(config).unwrap();
    faults.fail_after(0, EIO);
    ended(&store, 1);
    drop(store);
    let mut config = crate::fixture::config(&state, "b");
    clock.advance(Duration::from_secs(30 * 86_400));
    config.clock = clock;
    let policy = RetentionPolicy::default();
    let mut failing = config.clone();
    failing.faults = faults.clone();
    faults.fail_after(0, EIO);
    let store = EmbeddedStore::open(failing).unwrap();
    let early = block_on(store.checkpointer().sweep(&policy)).unwrap();
    drop(store);
    drop(EmbeddedStore::open(config.clone()).unwrap());
    let store = EmbeddedStore::open(config).unwrap();
    let late = block_on(store.checkpointer().sweep(&policy)).unwrap();
    assert_eq!((early.removed, late.removed), (0, 3));
    drop(store);
    assert_eq!(unwritten(&state), 0);
}

#[test]
fn large_artifacts_are_left_to_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = open(&state, "a");
    let mut told = Told::begin(&store, 1);
    let text = "x".repeat(1024 * 1024);
    told.turn(Event::Started(spec(1)), &text, StopReason::EndTurn);
    let finish = Finish {
        lease: told.lease.clone(),
        invocation: invocation(1),
        outcome: told.machine.outcome().unwrap().kind(),
        summary: Arc::from(""),
        result: Arc::from(""),
        after: 0,
        entries: std::mem::take(&mut told.pending),
        artifacts: told.artifacts(),
        resumable: false,
        at: NOON,
    };
    let reply = block_on(store.finish(finish)).unwrap();
    assert_eq!(
        (reply.outcome, reply.artifacts),
        (Outcome::Done, Vec::new())
    );
    assert_eq!(block_on(store.list(session(1))).unwrap(), []);
}
