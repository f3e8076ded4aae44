//! Many callers that wait for one ledger at a time, beside one transaction with one sync for each of their calls.
//!
//! What the group commit spares is syncs, so the ratio follows from how long one takes. It is measured on the disk as it
//! is, and with syncs that take longer, on both sides alike.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use otto_core::port::store::{Durability, LedgerStore};
use otto_store_embedded::{EmbeddedStore, FaultPoints, StoreConfig};
use rusqlite::{Connection, Statement, params};

use crate::calls::Caller;
use crate::measure::median;
use crate::table::Row;

const CALLERS: usize = 64;
/// Calls of one invocation, as an agent with some turns makes them; then its caller goes on with another one.
const CALLS_EACH: usize = 8;
const INVOCATIONS: u64 = 16_000;
const ROUNDS: usize = 5;
const FLOOR_TIME: Duration = Duration::from_secs(1);
const OUR_TIME: Duration = Duration::from_secs(2);
/// How much longer a sync takes where it takes longer: with it as long as on a common drive.
const SLOWER: Duration = Duration::from_micros(500);

pub(crate) fn rows(dir: &Path) -> Result<Vec<Row>> {
    let plain = measure(&dir.join("together"), Duration::ZERO)?;
    let slower = measure(&dir.join("slower"), SLOWER)?;
    let beside = |what, rates: &Rates| {
        [
            Row::at_least(
                what,
                format!("{:.0} operations/s", rates.ours),
                "the same rows, one transaction each, SQLite FULL",
                rates.ours / rates.same_rows,
                15.0,
            ),
            Row::alone(
                "the same, beside one short row each",
                format!("{:.1}x", rates.ours / rates.one_row),
                "",
                true,
            ),
        ]
    };
    let mut rows = Vec::from(beside("durable reserve and settle, 64 waiting", &plain));
    rows.push(Row::alone(
        "the same, in absolute terms",
        format!("{:.0} operations/s", plain.ours),
        "at least 20,000/s",
        plain.ours >= 20_000.0,
    ));
    rows.extend(beside("the same, each sync 0.5 ms longer", &slower));
    Ok(rows)
}

/// Operations in a second: medians of rounds that take turns.
struct Rates {
    ours: f64,
    /// One transaction for the rows of each operation.
    same_rows: f64,
    /// One transaction for one short row.
    one_row: f64,
}

fn measure(dir: &Path, longer: Duration) -> Result<Rates> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut config = StoreConfig::new(dir.join("ours"), "bench");
    config.faults = Arc::new(Longer(longer));
    let store = Arc::new(EmbeddedStore::open(config)?);
    let crowd = Arc::new(Crowd {
        invocations: (0..INVOCATIONS)
            .map(|number| runtime.block_on(Caller::submit(&*store, number)))
            .collect::<Result<_>>()?,
        next: AtomicUsize::new(0),
        effect: AtomicU64::new(1),
    });
    let connection = full(&dir.join("one-row.db"))?;
    let mut one_row = OneRow::prepare(&connection)?;
    let tables = dir.join("same-rows");
    drop(EmbeddedStore::open(StoreConfig::new(&tables, "bench"))?);
    let connection = full(&tables.join("otto.db"))?;
    let mut same_rows = SameRows::prepare(&connection)?;
    let (mut ours, mut same, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(rate(longer, || one_row.insert())?);
        same.push(rate(longer, || same_rows.operate())?);
        ours.push(runtime.block_on(crowd.clone().rate(&store))?);
    }
    Ok(Rates {
        ours: median(ours),
        same_rows: median(same),
        one_row: median(one),
    })
}

/// Makes each sync of the log take longer.
struct Longer(Duration);

impl FaultPoints for Longer {
    fn reach(&self, _: &'static str) -> std::io::Result<()> {
        Ok(())
    }

    fn sync_log(&self) -> std::io::Result<()> {
        wait(self.0);
        Ok(())
    }
}

fn wait(longer: Duration) {
    if !longer.is_zero() {
        std::thread::sleep(longer);
    }
}

/// How often in a second something is done that syncs once.
fn rate(longer: Duration, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < FLOOR_TIME {
        work()?;
        wait(longer);
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// The callers of one store.
struct Crowd {
    invocations: Vec<Caller>,
    next: AtomicUsize,
    effect: AtomicU64,
}

impl Crowd {
    /// Operations in a second of all callers together.
    async fn rate(self: Arc<Self>, store: &Arc<EmbeddedStore>) -> Result<f64> {
        let start = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(self.clone().call(store.clone(), start));
        }
        let mut operations = 0;
        while let Some(done) = callers.join_next().await {
            operations += done??;
        }
        Ok(f64::from(operations) / start.elapsed().as_secs_f64())
    }

    async fn call(self: Arc<Self>, store: Arc<EmbeddedStore>, start: Instant) -> Result<u32> {
        let mut operations = 0;
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed) % self.invocations.len();
            let caller = self.invocations.get(next).context("an invocation")?;
            for _ in 0..CALLS_EACH {
                if start.elapsed() >= OUR_TIME {
                    return Ok(operations);
                }
                let effect = self.effect.fetch_add(1, Ordering::Relaxed);
                store.reserve(caller.reserve(effect, 4)).await?;
                let settle = caller.settle(effect, Durability::Synced);
                store.settle(settle).await?;
                operations += 2;
            }
        }
    }
}

/// A database that SQLite syncs with each transaction.
fn full(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; \
         PRAGMA cache_size = -8000;",
    )?;
    Ok(connection)
}

/// One short row each.
struct OneRow<'c>(Statement<'c>);

impl<'c> OneRow<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)")?;
        Ok(Self(
            connection.prepare("INSERT INTO t (a, b) VALUES (?1, ?2)")?,
        ))
    }

    fn insert(&mut self) -> Result<()> {
        self.0.execute((1, "reserve"))?;
        Ok(())
    }
}

/// The rows that Otto writes for a reserve and for a settle, in its own tables.
struct SameRows<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    reserve: Statement<'c>,
    settle: Statement<'c>,
    set_account: Statement<'c>,
    insert_account: Statement<'c>,
    operations: i64,
}

impl<'c> SameRows<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            reserve: connection.prepare(
                "INSERT INTO calls
                    (invocation, effect, state, day, max_output_tokens, held_cost, held_tokens, scopes)
                VALUES (?1, ?2, 0, 20000, 1000, 0, 2000, ?3)",
            )?,
            settle: connection.prepare(
                "UPDATE calls SET state = 2, scopes = ?3, at = 0, session = ?1, agent = 'bench', model = 'm',
                    input_tokens = 0, output_tokens = 10, cache_read_tokens = 0, cache_write_5m_tokens = 0,
                    cache_write_1h_tokens = 0, thinking_tokens = 0, cost = 0
                WHERE invocation = ?1 AND effect = ?2",
            )?,
            set_account: connection
                .prepare("UPDATE accounts SET spent_tokens = ?2, held_tokens = ?2 WHERE scope = ?1")?,
            insert_account: connection.prepare(
                "INSERT INTO accounts
                    (scope, spent_cost, held_cost, spent_tokens, held_tokens, warned_cost, warned_tokens, latched)
                VALUES (?1, 0, 0, ?2, ?2, 0, 0, 0)",
            )?,
            operations: 0,
        })
    }

    /// A reserve or the settle of the one before.
    fn operate(&mut self) -> Result<()> {
        let call = self.operations / 2;
        let invocation = call / i64::try_from(CALLS_EACH)?;
        let mut id = [2_u8; 16];
        id[..8].copy_from_slice(&invocation.to_be_bytes());
        let limit = r#"[9223372036854775807,"bench.yml:7"]"#;
        self.begin.execute(())?;
        let changed = if self.operations % 2 == 0 {
            let scopes = ["day", "invocation", "session", "agent"]
                .map(|kind| format!(r#"["{kind}",null,{limit},null]"#))
                .join(",");
            self.reserve.execute(params![id, call, scopes])?
        } else {
            let scopes = ["day", "invocation", "session", "agent"]
                .map(|kind| format!(r#"["{kind}",null,null,null]"#))
                .join(",");
            self.settle.execute(params![id, call, scopes])?
        };
        ensure!(changed == 1, "an operation changed {changed} calls");
        for scope in [
            "day 2026-11-28".to_owned(),
            format!("invocation 01900000-0000-7000-8000-{invocation:012}"),
            format!("session 01900000-0000-7000-8000-{invocation:012}"),
            "agent bench on 2026-11-28".to_owned(),
        ] {
            let row = params![scope, self.operations];
            if self.set_account.execute(row)? == 0 {
                self.insert_account.execute(row)?;
            }
        }
        self.commit.execute(())?;
        self.operations += 1;
        Ok(())
    }
}
