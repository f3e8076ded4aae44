//! What the HTTP server adds to an invocation: the same invocations, at the same pace, by a call of the library and
//! by a request that waits for the report.
//!
//! Both are sent at fixed times, whether or not earlier ones have ended, and timed from when they were due: a server
//! that falls behind shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use otto::Otto;
use otto_server::{Server, ServerConfig, Surroundings};
use otto_store_embedded::{EmbeddedStore, StoreConfig};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::invocation::{ModelProcess, SCRIPT, open, otto_once};
use crate::measure::{Batch, Stopwatch, median};

/// Requests in a second, as the figure in the design has it.
const PER_SECOND: u32 = 200;
/// Requests of a batch.
const COUNT: u32 = 1_000;

#[derive(Clone)]
enum Caller {
    Library(Otto),
    Http {
        client: reqwest::Client,
        url: Arc<str>,
    },
    /// A request that does nothing, for the part of it that is HTTP alone.
    Health {
        client: reqwest::Client,
        url: Arc<str>,
    },
}

impl Caller {
    async fn once(&self) -> Result<()> {
        match self {
            Self::Library(otto) => otto_once(otto).await,
            Self::Http { client, url } => {
                let body = json!({"agent": "adder", "task": "Add 2 and 40.", "wait": true});
                let request = client.post(format!("{url}/v1/invocations")).json(&body);
                let report: Value = request.send().await?.error_for_status()?.json().await?;
                if report["text"] != "The sum is 42." {
                    bail!("unexpected end: {report}");
                }
                Ok(())
            }
            Self::Health { client, url } => {
                let request = client.get(format!("{url}/health/live"));
                request.send().await?.error_for_status()?.bytes().await?;
                Ok(())
            }
        }
    }

    async fn batch(&self) -> Result<Batch> {
        let watch = Stopwatch::start();
        let begun = tokio::time::Instant::now();
        let mut running: FuturesUnordered<_> = (0..COUNT)
            .map(|number| {
                let caller = self.clone();
                let due = begun + Duration::from_secs(1) / PER_SECOND * number;
                tokio::spawn(async move {
                    tokio::time::sleep_until(due).await;
                    // The timer's own lateness (up to a millisecond) is not the caller's.
                    let begun = Instant::now();
                    caller.once().await.map(|()| begun.elapsed())
                })
            })
            .collect();
        let mut latencies = Vec::with_capacity(COUNT as usize);
        while let Some(latency) = running.next().await {
            latencies.push(latency??);
        }
        let (wall, cpu) = watch.stop();
        Ok(Batch::new(COUNT, wall, cpu, latencies))
    }
}

pub(crate) fn run(rounds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare(rounds))
}

async fn compare(rounds: u32) -> Result<()> {
    let model = ModelProcess::start(SCRIPT)?;
    let folder = tempfile::tempdir()?;
    let store = EmbeddedStore::open(StoreConfig::new(folder.path(), "bench"))?;
    let otto = open(&model.base_url, Some(Arc::new(store))).await?;
    let server = Server::bind(ServerConfig::new("127.0.0.1:0".parse()?))?;
    let url: Arc<str> = Arc::from(format!("http://{}", server.local_addr()?));
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(server.serve(otto.clone(), Surroundings::default(), stopping));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let callers = [
        ("library", Caller::Library(otto)),
        (
            "http",
            Caller::Http {
                client: client.clone(),
                url: url.clone(),
            },
        ),
        ("http alone", Caller::Health { client, url }),
    ];
    println!(
        "server: invocations at {PER_SECOND} in a second, durable, {COUNT} in a batch; {rounds} rounds, medians"
    );
    println!(
        "{:>10} {:>11} {:>9} {:>9}",
        "", "CPU us each", "p50 us", "p99 us"
    );
    let mut batches: Vec<Vec<Batch>> = vec![Vec::new(); callers.len()];
    for round in 0..=rounds {
        for (slot, (_, caller)) in batches.iter_mut().zip(&callers) {
            let batch = caller.batch().await?;
            // The first round warms connections and caches.
            if round > 0 {
                slot.push(batch);
            }
        }
    }
    let of = |slot: &[Batch], value: fn(&Batch) -> f64| median(slot.iter().map(value).collect());
    for ((name, _), slot) in callers.iter().zip(&batches) {
        println!(
            "{name:>10} {:>11.0} {:>9.0} {:>9.0}",
            of(slot, Batch::cpu_each_us),
            of(slot, |batch| batch.percentile_us(50)),
            of(slot, |batch| batch.percentile_us(99)),
        );
    }
    // Batch by batch: what the machine did to one round it did to both.
    let added = |percent: usize| {
        let pairs = batches[1].iter().zip(&batches[0]);
        median(
            pairs
                .map(|(http, library)| http.percentile_us(percent) - library.percentile_us(percent))
                .collect(),
        )
    };
    println!(
        "the server adds {:.0} us to the median and {:.0} us to the 99th percentile (aim: at most 1000)",
        added(50),
        added(99)
    );
    stop.send_replace(true);
    serving.await??;
    Ok(())
}
