//! The stores: reservations together, alone and in memory, artifacts, context reads, a start on what is there.
//!
//! Each durable figure stands beside a floor that takes turns with it in the same run, so that a slow moment hits
//! both: disks differ by a factor of a hundred.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use otto_core::ledger::ReserveOutcome;
use otto_core::port::store::{
    ArtifactDraft, ArtifactKind, Blobs, Durability, LedgerStore, ReserveReply,
};
use otto_core::{ContextId, InvocationId, SessionId, TaskId, Timestamp};
use otto_engine::{ContextMetadata, ContextStore};
use otto_store_embedded::{EmbeddedStore, StoreConfig};
use otto_store_memory::MemoryStore;

use crate::calls::Caller;
use crate::measure::{median, thread_cpu_ns};
use crate::start;
use crate::table::{self, Row};
use crate::together;

const CALLERS: u64 = 64;

pub(crate) fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut rows = together::rows(dir.path())?;
    rows.extend(alone(dir.path())?);
    rows.push(in_memory()?);
    rows.extend(artifacts(dir.path())?);
    rows.push(context_reads()?);
    rows.extend(start::rows(dir.path())?);
    table::print("stores, medians of interleaved rounds", &rows);
    Ok(())
}

/// Rounds of a new store: its log grows, so that each sync also records a new length.
const FRESH_ROUNDS: u64 = 300;
/// Rounds once the log has been moved into the file and is written again from its beginning, as it is from then on.
const STEADY_ROUNDS: u64 = 1_200;
/// A round takes some twelve pages of the log, which begins anew after 4,000.
const BETWEEN_ROUNDS: u64 = 200;

/// One caller, nobody else.
fn alone(dir: &Path) -> Result<Vec<Row>> {
    let runtime = runtime()?;
    let store = open(&dir.join("alone"))?;
    let caller = runtime.block_on(Caller::submit(&store, 1))?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("append"))?;
    let mut id = 0;
    let mut rounds = |count: u64| {
        let (mut floor, mut reserve, mut relaxed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            id += 1;
            floor.push(timed(|| {
                file.write_all(&[7; 4096])?;
                Ok(file.sync_data()?)
            })?);
            reserve.push(timed(|| {
                runtime.block_on(store.reserve(caller.reserve(id, 4)))?;
                Ok(())
            })?);
            relaxed.push(timed(|| {
                runtime.block_on(store.settle(caller.settle(id, Durability::Relaxed)))?;
                Ok(())
            })?);
        }
        anyhow::Ok((median(floor), median(reserve), median(relaxed)))
    };
    let (fresh_floor, fresh_reserve, _) = rounds(FRESH_ROUNDS)?;
    rounds(BETWEEN_ROUNDS)?;
    let (floor, reserve, relaxed) = rounds(STEADY_ROUNDS)?;
    let micros = |seconds: f64| format!("{:.0} us", seconds * 1e6);
    Ok(vec![
        Row::at_most(
            "durable reserve alone, p50",
            micros(reserve),
            "a synced append",
            reserve / floor,
            1.3,
        ),
        Row::alone(
            "the same while the log of a new store grows",
            format!(
                "{}, {:.2}x a synced append",
                micros(fresh_reserve),
                fresh_reserve / fresh_floor
            ),
            "",
            true,
        ),
        Row::alone("relaxed settle alone, p50", micros(relaxed), "", true),
    ])
}

/// The ledger behind a mutex: 64 agents on one scope.
fn in_memory() -> Result<Row> {
    const EACH: u64 = 2_000;
    let runtime = runtime()?;
    let mut times = Vec::new();
    for _ in 0..7 {
        let store = MemoryStore::new();
        let mut calls = Vec::new();
        for number in 0..CALLERS {
            let caller = runtime.block_on(Caller::submit(&store, number))?;
            calls.extend((1..=EACH).map(|effect| caller.reserve(effect, 1)));
        }
        let count = calls.len();
        let start = thread_cpu_ns();
        for call in calls {
            let reply = futures_util::FutureExt::now_or_never(store.reserve(call))
                .context("a store in memory answers at once")??;
            if !matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))) {
                bail!("expected a grant, got {reply:?}");
            }
        }
        times.push((thread_cpu_ns() - start) / count as f64);
    }
    let each = median(times);
    Ok(Row::alone(
        "reserve in memory, 64 agents on one scope, CPU",
        format!("{each:.0} ns"),
        "at most 1,000 ns",
        each <= 1_000.0,
    ))
}

const SHORT: usize = 10 * 1024;
const LONG: usize = 10 * 1024 * 1024;
/// Artifacts of a new store, whose log grows; and those it takes until the log is written again from its beginning.
const FRESH_ARTIFACTS: u32 = 100;
const BETWEEN_ARTIFACTS: u32 = 500;
const STEADY_ARTIFACTS: u32 = 500;
/// How many each caller of [`artifacts_together`] stores, one after the other.
const EACH: u32 = 40;

fn artifacts(dir: &Path) -> Result<Vec<Row>> {
    let runtime = runtime()?;
    let store = open(&dir.join("artifacts"))?;
    let raw = dir.join("raw");
    fs::create_dir_all(&raw)?;
    let mut number = 0;
    let mut rounds = |size: usize, count: u32| {
        let content: Arc<[u8]> = (0..=250_u8).cycle().take(size).collect();
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..count {
            number += 1;
            floor.push(timed(|| {
                let mut file = File::create(raw.join(number.to_string()))?;
                file.write_all(&content)?;
                Ok(file.sync_all()?)
            })?);
            let draft = draft(1, number, &content);
            ours.push(timed(|| {
                runtime.block_on(store.put(draft))?;
                Ok(())
            })?);
        }
        anyhow::Ok((median(ours), median(floor)))
    };
    let (fresh, fresh_floor) = rounds(SHORT, FRESH_ARTIFACTS)?;
    rounds(SHORT, BETWEEN_ARTIFACTS)?;
    let (short, short_floor) = rounds(SHORT, STEADY_ARTIFACTS)?;
    let (long, long_floor) = rounds(LONG, 15)?;
    let millis = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
    Ok(vec![
        Row::at_most(
            "artifact of 10 KiB, p50",
            millis(short),
            "raw write and fsync",
            short / short_floor,
            1.7,
        ),
        Row::alone(
            "the same while the log of a new store grows",
            format!(
                "{}, {:.2}x raw write and fsync",
                millis(fresh),
                fresh / fresh_floor
            ),
            "",
            true,
        ),
        artifacts_together(&runtime, &dir.join("artifacts-together"))?,
        Row::at_most(
            "artifact of 10 MiB with SHA-256, p50",
            millis(long),
            "raw write and fsync",
            long / long_floor,
            1.25,
        ),
    ])
}

/// Short artifacts of many callers, each in a session of its own.
fn artifacts_together(runtime: &tokio::runtime::Runtime, dir: &Path) -> Result<Row> {
    let store = Arc::new(open(dir)?);
    let content: Arc<[u8]> = vec![7; SHORT].into();
    let start = Instant::now();
    runtime.block_on(async {
        let mut set = tokio::task::JoinSet::new();
        for caller in 0..u8::try_from(CALLERS)? {
            let (store, content) = (store.clone(), content.clone());
            set.spawn(async move {
                for number in 0..EACH {
                    store.put(draft(caller, number, &content)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = set.join_next().await {
            done??;
        }
        anyhow::Ok(())
    })?;
    let each = start.elapsed().as_secs_f64() / f64::from(EACH) / CALLERS as f64;
    Ok(Row::alone(
        "artifacts of 10 KiB, 64 waiting",
        format!("{:.0}/s", 1.0 / each),
        "",
        true,
    ))
}

fn draft(session: u8, number: u32, content: &Arc<[u8]>) -> ArtifactDraft {
    ArtifactDraft {
        session: SessionId::from_parts(Timestamp::EPOCH, [session; 10]),
        invocation: InvocationId::from_parts(Timestamp::EPOCH, [session; 10]),
        kind: ArtifactKind::Intermediate,
        name: Arc::from(number.to_string()),
        content: content.clone(),
    }
}

/// Sixty-four readers of one store, each of its own context.
fn context_reads() -> Result<Row> {
    const READS: usize = 2_000;
    let runtime = runtime()?;
    let store = ContextStore::new(otto_engine::DEFAULT_MAX_BYTES);
    let ids: Vec<ContextId> = (0..64).map(|n| ContextId::from_bytes([n; 16])).collect();
    let metadata = ContextMetadata {
        task: TaskId::from_bytes([1; 16]),
        parent_workflow: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    };
    let guards: Vec<_> = ids.iter().map(|id| store.open(*id, metadata)).collect();
    for id in &ids {
        runtime.block_on(store.write(
            *id,
            "key",
            Arc::from(&[7_u8; 1_000][..]),
            Timestamp::EPOCH,
        ))?;
    }
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        let readers: Vec<_> = ids
            .iter()
            .map(|id| {
                let store = store.clone();
                scope.spawn(move || {
                    (0..READS)
                        .map(|_| {
                            let start = Instant::now();
                            let read =
                                futures_util::FutureExt::now_or_never(store.read(*id, "key"));
                            std::hint::black_box(&read);
                            start.elapsed().as_secs_f64() * 1e9
                        })
                        .collect::<Vec<f64>>()
                })
            })
            .collect();
        readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap_or_default())
            .collect()
    });
    drop(guards);
    times.sort_by(f64::total_cmp);
    let p50 = *times.get(times.len() / 2).context("some reads")?;
    Ok(Row::alone(
        "ContextStore read with 64 readers, p50",
        format!("{p50:.0} ns"),
        "at most 1,000 ns",
        p50 <= 1_000.0,
    ))
}

fn open(dir: &Path) -> Result<EmbeddedStore> {
    Ok(EmbeddedStore::open(StoreConfig::new(dir, "bench"))?)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?)
}

/// Seconds that the work took.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}
