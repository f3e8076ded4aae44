//! Figures of the store on this machine, each beside a floor measured in the same run.
//!
//! `cargo run --release -p otto-store-embedded --example store_bench [DIR [PART]]`. Ratios are what counts: disks
//! differ by a factor of a hundred. Floor and store take turns, so that a slow moment hits both.

#![expect(clippy::print_stdout, reason = "figures for people")]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::ledger::{Quote, ReserveRequest, ScopeKey, ScopeLimits, Settlement};
use otto_core::model::Usage;
use otto_core::port::store::*;
use otto_core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp};
use otto_sim::conformance::block_on;
use otto_store_embedded::{EmbeddedStore, StoreConfig};

const CALLERS: u64 = 64;
const ROUNDS: usize = 5;

fn main() {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(dir).expect("a directory to measure in");
    let only = std::env::args().nth(2);
    for (name, part) in [
        ("together", together as fn(&Path)),
        ("alone", alone),
        ("artifacts", artifacts),
    ] {
        if only.as_deref().is_none_or(|only| only == name) {
            part(dir.path());
        }
    }
}

fn together(dir: &Path) {
    let store = Arc::new(
        EmbeddedStore::open(StoreConfig::new(dir.join("together"), "bench")).expect("open"),
    );
    let driven: Vec<Driven> = (0..CALLERS).map(|n| Driven::new(&store, n)).collect();
    let effect = AtomicU64::new(1);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let connection = one_each(&dir.join("each.db"));
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut count = 0_u64;
        while start.elapsed() < Duration::from_secs(1) {
            connection
                .execute("INSERT INTO t (a, b) VALUES (?1, ?2)", (1, "reserve"))
                .expect("insert");
            count += 1;
        }
        floor.push(rate(count, start.elapsed()));
        let start = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let pairs: u64 = runtime.block_on(async {
            let mut set = tokio::task::JoinSet::new();
            for driven in &driven {
                let (driven, effect) = (
                    driven.clone(),
                    effect.fetch_add(1_000_000, Ordering::Relaxed),
                );
                let store = store.clone();
                set.spawn(async move {
                    let mut pairs = 0;
                    while start.elapsed() < Duration::from_secs(2) {
                        let id = effect + pairs;
                        store.reserve(driven.reserve(id)).await.expect("reserve");
                        store
                            .settle(driven.settle(id, Durability::Synced))
                            .await
                            .expect("settle");
                        pairs += 1;
                    }
                    pairs
                });
            }
            let mut pairs = 0;
            while let Some(done) = set.join_next().await {
                pairs += done.expect("a caller");
            }
            pairs
        });
        ours.push(rate(pairs, start.elapsed()));
    }
    let (ours, floor) = (median(&mut ours), median(&mut floor));
    println!(
        "{CALLERS} callers: {ours:.0} durable reserve-settle pairs/s ({:.0} calls/s)",
        ours * 2.0
    );
    println!(
        "  one transaction each, SQLite FULL: {floor:.0}/s; pairs {:.1}x, calls {:.1}x",
        ours / floor,
        ours * 2.0 / floor
    );
}

fn alone(dir: &Path) {
    let store = EmbeddedStore::open(StoreConfig::new(dir.join("alone"), "bench")).expect("open");
    let driven = Driven::new(&store, 1);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("append"))
        .expect("open");
    let connection = one_each(&dir.join("alone.db"));
    let (mut floor, mut sqlite, mut reserve, mut relaxed) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for id in 1..=600 {
        floor.push(time(|| {
            file.write_all(&[7; 4096]).expect("write");
            file.sync_data().expect("sync");
        }));
        sqlite.push(time(|| {
            connection
                .execute("INSERT INTO t (a, b) VALUES (?1, ?2)", (1, "reserve"))
                .expect("insert");
        }));
        reserve.push(time(|| {
            drop(block_on(store.reserve(driven.reserve(id))).expect("reserve"))
        }));
        relaxed.push(time(|| {
            drop(block_on(store.settle(driven.settle(id, Durability::Relaxed))).expect("settle"))
        }));
    }
    let floor = median(&mut floor);
    println!("alone, p50: synced append {:.0} us", floor * 1e6);
    for (name, times) in [
        ("SQLite transaction", &mut sqlite),
        ("reserve (synced)", &mut reserve),
        ("settle (relaxed)", &mut relaxed),
    ] {
        let time = median(times);
        println!("  {name}: {:.0} us, {:.2}x", time * 1e6, time / floor);
    }
}

fn artifacts(dir: &Path) {
    let store =
        EmbeddedStore::open(StoreConfig::new(dir.join("artifacts"), "bench")).expect("open");
    for (size, count) in [(10 * 1024, 200), (10 * 1024 * 1024, 15)] {
        let content: Arc<[u8]> = (0..size)
            .map(|n| u8::try_from(n % 251).expect("small"))
            .collect::<Vec<u8>>()
            .into();
        let (mut ours, mut floor, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
        let raw = dir.join("raw");
        fs::create_dir_all(&raw).expect("create");
        for n in 0..count {
            floor.push(time(|| {
                let mut file = File::create(raw.join(format!("{size}-{n}"))).expect("create");
                file.write_all(&content).expect("write");
                file.sync_all().expect("sync");
            }));
            renamed.push(time(|| {
                let temp = raw.join(format!("tmp-{size}-{n}"));
                let mut file = File::create(&temp).expect("create");
                file.write_all(&content).expect("write");
                file.sync_all().expect("sync");
                fs::rename(&temp, raw.join(format!("final-{size}-{n}"))).expect("rename");
                File::open(&raw)
                    .and_then(|dir| dir.sync_all())
                    .expect("sync");
            }));
            let draft = ArtifactDraft {
                session: SessionId::from_parts(Timestamp::EPOCH, [1; 10]),
                invocation: InvocationId::from_parts(Timestamp::EPOCH, [1; 10]),
                kind: ArtifactKind::Result,
                name: Arc::from(format!("{size}-{n}")),
                content: content.clone(),
            };
            ours.push(time(|| drop(block_on(store.put(draft)).expect("put"))));
        }
        let (ours, floor, renamed) = (median(&mut ours), median(&mut floor), median(&mut renamed));
        println!(
            "artifact of {size} bytes, p50: {:.2} ms; raw write + fsync {:.2} ms, {:.2}x; with rename and folder sync {:.2} ms, {:.2}x",
            ours * 1e3,
            floor * 1e3,
            ours / floor,
            renamed * 1e3,
            ours / renamed
        );
    }
}

/// What one caller does.
#[derive(Clone)]
struct Driven {
    lease: Lease,
    invocation: InvocationId,
    agent: AgentName,
    model: ModelId,
}

impl Driven {
    fn new(store: &EmbeddedStore, n: u64) -> Self {
        let at = Timestamp::from_millis(n);
        let session = SessionId::from_parts(at, [1; 10]);
        let invocation = InvocationId::from_parts(at, [2; 10]);
        let (agent, model) = (
            AgentName::new("bench").expect("valid"),
            ModelId::new("m").expect("valid"),
        );
        let submission = Submission {
            invocation,
            session,
            node: Arc::from("bench"),
            ttl: Duration::from_secs(3_600),
            agent: agent.clone(),
            model: model.clone(),
            workflow: None,
            title: Arc::from("bench"),
            idempotency_key: None,
            fingerprint: None,
            entries: Vec::new(),
            durability: Durability::Relaxed,
            at,
        };
        let SubmitOutcome::Accepted(lease) = block_on(store.submit(submission)).expect("submit")
        else {
            panic!("expected the lease");
        };
        Self {
            lease,
            invocation,
            agent,
            model,
        }
    }

    fn reserve(&self, effect: u64) -> ReserveCall {
        let limits = |scope| ScopeLimits {
            scope,
            cost: Some(Limit::new(Money::MAX, ".otto/agents/bench.yml:7")),
            tokens: None,
        };
        let scopes = vec![
            limits(ScopeKey::Invocation(self.invocation)),
            limits(ScopeKey::Session(self.lease.session)),
            limits(ScopeKey::Agent(self.agent.clone())),
            limits(ScopeKey::Day),
        ];
        let price = Money::from_picodollars(3).expect("small");
        let quote = Quote {
            prompt_tokens: 1_000,
            prompt_cost: price,
            output_price: price,
            output_wanted: 1_000,
            output_floor: 1,
        };
        let id = ReservationId {
            invocation: self.invocation,
            effect: EffectId(effect),
        };
        ReserveCall {
            lease: self.lease.clone(),
            request: ReserveRequest { id, scopes, quote },
            entries: Vec::new(),
        }
    }

    fn settle(&self, effect: u64, durability: Durability) -> SettleCall {
        SettleCall {
            lease: self.lease.clone(),
            reservation: ReservationId {
                invocation: self.invocation,
                effect: EffectId(effect),
            },
            settlement: Settlement::Used {
                usage: Usage {
                    output_tokens: 10,
                    ..Usage::default()
                },
                cost: Money::ZERO,
            },
            attribution: Attribution {
                session: self.lease.session,
                agent: self.agent.clone(),
                workflow: None,
                model: self.model.clone(),
                at: Timestamp::EPOCH,
            },
            entries: Vec::new(),
            durability,
        }
    }
}

fn one_each(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).expect("open");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)")
        .expect("create");
    connection
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
