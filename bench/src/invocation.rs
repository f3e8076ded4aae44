//! The work unit: one invocation of two model turns and one tool call against the scripted server.
//!
//! The floor is the same two requests by a bare HTTP client that reads each body to its end and parses every
//! event. Otto runs it twice: with everything in memory, and with everything durable.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use otto::core::agent::Limit;
use otto::{
    AgentBuilder, AnthropicClient, AnthropicConfig, Budgets, Ceilings, Money, Otto, TypedTool,
};
use otto_scripted::{Script, ScriptedServer, ServerOptions};

use otto_store_embedded::{EmbeddedStore, StoreConfig};

use crate::measure::{Batch, Stopwatch, median, resident_kib};
use crate::table::{self, Row};

const MODEL: &str = "claude-haiku-4-5";
const KEY: &str = "sk-ant-benchmark";

/// Two turns, one call.
pub(crate) const SCRIPT: &str = r#"
turns:
  - text: I add the numbers.
    tool: { name: add, input: { a: 2, b: 40 } }
  - text: The sum is 42.
"#;

/// The same, but the first turn takes its time, so that many invocations are in flight at once.
const SLOW_SCRIPT: &str = r#"
turns:
  - delay: 20s
    text: I add the numbers.
    tool: { name: add, input: { a: 2, b: 40 } }
  - text: The sum is 42.
"#;

/// The scripted server as a process of its own; prints its address and serves until its input ends.
pub(crate) fn serve(script: &str) -> Result<()> {
    let script = Script::parse(script, "bench").map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = ServerOptions::new(Arc::new(otto_anthropic::price_table()));
        let server = ScriptedServer::start(script, options).await?;
        println!("{}", server.base_url());
        let mut line = String::new();
        tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
        Ok(())
    })
}

/// A scripted server in a process that ends with this value.
pub(crate) struct ModelProcess {
    child: Child,
    pub(crate) base_url: String,
}

impl ModelProcess {
    pub(crate) fn start(script: &str) -> Result<Self> {
        let program = std::env::current_exe().context("find the benchmark binary")?;
        let mut child = Command::new(program)
            .args(["serve", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the server process")?;
        let mut base_url = String::new();
        let stdout = child.stdout.take().context("read the server's output")?;
        BufReader::new(stdout).read_line(&mut base_url)?;
        Ok(Self {
            child,
            base_url: base_url.trim().to_owned(),
        })
    }
}

impl Drop for ModelProcess {
    fn drop(&mut self) {
        // Its input ends with the pipe; what does not end by itself is ended.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

pub(crate) async fn open(base_url: &str, store: Option<Arc<EmbeddedStore>>) -> Result<Otto> {
    let mut config = AnthropicConfig::new(KEY.to_owned().into());
    config.base_url = base_url.parse()?;
    let client = Arc::new(AnthropicClient::new(config)?);
    let add = TypedTool::looking("add", "Adds two whole numbers.", |input: Add| async move {
        Ok((input.a + input.b).to_string())
    })?;
    let agent = AgentBuilder::new("adder", MODEL)
        .system_prompt("You add numbers.")
        .tools(["add"])
        .build()?;
    let unlimited = Ceilings::daily(Limit::new(Money::MAX, "benchmark"));
    let mut builder = Otto::builder()
        .enabled(true)
        .client(client)
        .tool(add)
        .agent(otto::AgentConfig {
            budgets: Budgets::default(),
            ..agent
        })
        .ceilings(unlimited);
    if let Some(store) = store {
        builder = builder
            .store(store.clone(), Some(store.clone()))
            .audit_log(store);
    }
    Ok(builder.open().await?)
}

pub(crate) async fn otto_once(otto: &Otto) -> Result<()> {
    let report = otto.agent("adder")?.invoke("Add 2 and 40.").await?;
    if report.text() != "The sum is 42." {
        bail!("unexpected end: {}", report.outcome);
    }
    Ok(())
}

/// The floor: two requests, each read to its end, every event parsed.
struct Floor {
    client: reqwest::Client,
    url: String,
    first: Vec<u8>,
    second: Vec<u8>,
}

impl Floor {
    fn new(base_url: &str) -> Result<Self> {
        let tools = serde_json::json!([{
            "name": "add", "description": "Adds two whole numbers.",
            "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
        }]);
        let body = |messages: serde_json::Value| {
            serde_json::to_vec(&serde_json::json!({
                "model": MODEL, "max_tokens": 16_384, "stream": true, "system": "You add numbers.",
                "tools": tools, "messages": messages
            }))
        };
        let task = serde_json::json!({"role": "user", "content": "Add 2 and 40."});
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            url: format!("{}/v1/messages", base_url.trim_end_matches('/')),
            first: body(serde_json::json!([task]))?,
            second: body(serde_json::json!([
                task,
                {"role": "assistant", "content": [
                    {"type": "text", "text": "I add the numbers."},
                    {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2, "b": 40}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}]}
            ]))?,
        })
    }

    async fn once(&self) -> Result<()> {
        for body in [&self.first, &self.second] {
            let response = self
                .client
                .post(&self.url)
                .header("x-api-key", KEY)
                .header("anthropic-version", "2026-10-21")
                .header("content-type", "application/json")
                .body(body.clone())
                .send()
                .await?
                .error_for_status()?;
            let mut stream = response.bytes_stream();
            let mut buffer = Vec::new();
            while let Some(chunk) = stream.next().await {
                buffer.extend_from_slice(&chunk?);
            }
            for line in buffer.split(|byte| *byte == b'\n') {
                if let Some(data) = line.strip_prefix(b"data: ") {
                    let _event: serde_json::Value = serde_json::from_slice(data)?;
                }
            }
        }
        Ok(())
    }
}

/// One of the three things that are compared.
enum Contender {
    Floor(Floor),
    Otto(Otto),
}

impl Contender {
    async fn once(&self) -> Result<()> {
        match self {
            Self::Floor(floor) => floor.once().await,
            Self::Otto(otto) => otto_once(otto).await,
        }
    }

    /// Runs `count` units, `in_flight` at a time.
    async fn batch(&self, count: u32, in_flight: usize) -> Result<Batch> {
        let watch = Stopwatch::start();
        let mut latencies = Vec::with_capacity(count as usize);
        let mut running = FuturesUnordered::new();
        let timed = || async {
            let begun = Instant::now();
            self.once().await.map(|()| begun.elapsed())
        };
        for _ in 0..count {
            if running.len() >= in_flight
                && let Some(latency) = running.next().await
            {
                latencies.push(latency?);
            }
            running.push(timed());
        }
        while let Some(latency) = running.next().await {
            latencies.push(latency?);
        }
        let (wall, cpu) = watch.stop();
        Ok(Batch::new(count, wall, cpu, latencies))
    }
}

/// What Otto may cost beside the floor: CPU time at most, throughput at least.
struct Target {
    name: &'static str,
    cpu: f64,
    rate: f64,
}

const TARGETS: [Target; 2] = [
    Target {
        name: "in memory",
        cpu: 1.3,
        rate: 0.75,
    },
    Target {
        name: "durable",
        cpu: 2.0,
        rate: 0.55,
    },
];

/// Most syncs on the path of one invocation that only looks, alone.
const SYNCS_MAX: f64 = 3.0;

/// Most memory of an invocation in flight.
const KIB_MAX: f64 = 39.0;

pub(crate) fn run(rounds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // Memory first: what a comparison leaves behind in the allocator would hide it.
    let mut rows = vec![runtime.block_on(memory())?];
    rows.extend(runtime.block_on(compare(rounds))?);
    table::print(
        &format!(
            "work unit: system prompt, one tool, two model turns, one tool call; {rounds} rounds, medians"
        ),
        &rows,
    );
    Ok(())
}

async fn compare(rounds: u32) -> Result<Vec<Row>> {
    let server = ModelProcess::start(SCRIPT)?;
    let folder = tempfile::tempdir()?;
    let store = Arc::new(EmbeddedStore::open(StoreConfig::new(
        folder.path(),
        "bench",
    ))?);
    let floor = Contender::Floor(Floor::new(&server.base_url)?);
    let contenders = [
        floor,
        Contender::Otto(open(&server.base_url, None).await?),
        Contender::Otto(open(&server.base_url, Some(store.clone())).await?),
    ];
    let mut rows = Vec::new();
    for (in_flight, count) in [(1_usize, 200_u32), (64, 2_000), (512, 3_000)] {
        let mut batches: Vec<Vec<Batch>> = vec![Vec::new(); contenders.len()];
        let (mut syncs, mut units) = (0, 0_u32);
        for round in 0..=rounds {
            let before = store.syncs();
            for (slot, contender) in batches.iter_mut().zip(&contenders) {
                let batch = contender.batch(count, in_flight).await?;
                // The first round warms connections and caches.
                if round > 0 {
                    slot.push(batch);
                }
            }
            syncs += store.syncs() - before;
            units += count;
        }
        let of =
            |slot: &[Batch], value: fn(&Batch) -> f64| median(slot.iter().map(value).collect());
        let (floor_cpu, floor_rate) = (
            of(&batches[0], Batch::cpu_each_us),
            of(&batches[0], Batch::per_second),
        );
        rows.push(Row::alone(
            &format!("floor, {in_flight} in flight"),
            describe(&batches[0]),
            "",
            true,
        ));
        for (target, slot) in TARGETS.iter().zip(&batches[1..]) {
            let name = format!("{}, {in_flight} in flight", target.name);
            let cpu = of(slot, Batch::cpu_each_us) / floor_cpu;
            rows.push(Row::at_most(
                &format!("{name}: CPU"),
                describe(slot),
                "the floor's",
                cpu,
                target.cpu,
            ));
            if in_flight > 1 {
                let rate = of(slot, Batch::per_second);
                rows.push(Row::at_least(
                    &format!("{name}: throughput"),
                    format!("{rate:.0}/s"),
                    "the floor's",
                    rate / floor_rate,
                    target.rate,
                ));
            }
        }
        let each = f64::from(u32::try_from(syncs).unwrap_or(u32::MAX)) / f64::from(units);
        rows.push(Row::alone(
            &format!("durable, {in_flight} in flight: syncs of the log"),
            format!("{each:.2} per invocation"),
            &format!("at most {SYNCS_MAX}"),
            each <= SYNCS_MAX,
        ));
    }
    Ok(rows)
}

fn describe(slot: &[Batch]) -> String {
    let of = |value: fn(&Batch) -> f64| median(slot.iter().map(value).collect());
    format!(
        "{:.0} us CPU, p50 {:.0} us, p99 {:.0} us, {:.0}/s",
        of(Batch::cpu_each_us),
        of(|batch| batch.percentile_us(50)),
        of(|batch| batch.percentile_us(99)),
        of(Batch::per_second),
    )
}

/// Memory of invocations in flight: they all wait for their first model turn.
async fn memory() -> Result<Row> {
    const AGENTS: usize = 1_000;
    let server = ModelProcess::start(SLOW_SCRIPT)?;
    let otto = open(&server.base_url, None).await?;
    let before = resident_kib();
    let agent = otto.agent("adder")?;
    let running: FuturesUnordered<_> = (0..AGENTS).map(|_| agent.invoke("Add 2 and 40.")).collect();
    let mut running = running.fuse();
    // Long enough for every request to be sent, short enough that none is answered.
    let settle = tokio::time::sleep(Duration::from_secs(10));
    tokio::pin!(settle);
    loop {
        tokio::select! {
            () = &mut settle => break,
            Some(report) = running.next() => { report?; }
        }
    }
    let in_flight = otto.engine().registry().count();
    let each = (resident_kib().saturating_sub(before)) as f64 / in_flight.max(1) as f64;
    Ok(Row::alone(
        &format!("memory with {in_flight} in flight, connections and buffers included"),
        format!("{each:.1} KiB each"),
        &format!("at most {KIB_MAX} KiB"),
        each <= KIB_MAX,
    ))
}
