//! The worker: an application with an embedded Otto that keeps its agents busy until SIGTERM.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otto::core::agent::Limit;
use otto::core::ledger::Scope;
use otto::{
    AgentBuilder, AnthropicConfig, Booted, Ceilings, Money, Otto, ResumeOptions, TypedTool,
};
use otto_scripted::{Script, ScriptedServer, ServerOptions};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

const MODEL: &str = "claude-haiku-4-5";
const KEY: &str = "sk-ant-soak";
/// How often the worker looks at itself.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// How long a shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(10);

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

/// The scripted model, until SIGTERM.
pub(crate) fn model(script: &str) -> Result<()> {
    let script = Script::parse(script, "soak").map_err(|errors| anyhow::anyhow!("{errors}"))?;
    runtime()?.block_on(async {
        let options = ServerOptions::new(Arc::new(otto_anthropic::price_table()));
        let server = ScriptedServer::start(script, options).await?;
        println!("{}", json!({"listening": server.base_url()}));
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}

/// The worker, until SIGTERM.
pub(crate) fn run(booted: &Booted, url: &str, folder: &Path, agents: &str) -> Result<()> {
    let agents: u32 = agents.parse().context("the number of agents")?;
    let runtime = runtime()?;
    let fds_before = open_descriptors();
    let ended = runtime.block_on(async {
        let otto = open(booted, url, folder).await?;
        let mut term = signal(SignalKind::terminate())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut busy = tokio::task::JoinSet::new();
        for number in 0..agents {
            busy.spawn(keep_busy(otto.clone(), is_over.clone(), number));
        }
        for record in otto.unfinished().await? {
            if let Ok(handle) = otto.resume(record.session, ResumeOptions::default()).await {
                busy.spawn(async move {
                    // Its end is in the store; nobody waits for the report.
                    let _ = handle.report().await;
                });
            }
        }
        println!("{}", json!({"ready": true}));
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = ticks.tick() => println!("{}", json!({"sample": {
                    "seconds": begun.elapsed().as_secs_f64(),
                    "rss_kib": resident_kib(),
                    "fds": open_descriptors(),
                    "running": otto.engine().registry().count(),
                }})),
            }
        }
        is_over.store(true, Ordering::Release);
        let left = otto.shutdown(SHUTDOWN).await.left.len();
        while busy.join_next().await.is_some() {}
        let today = otto.engine().cost_tracker().today().await?;
        let day = otto
            .engine()
            .cost_tracker()
            .account(Scope::Day(today))
            .await?;
        let unfinished = otto.unfinished().await?.len();
        Ok::<_, anyhow::Error>((left, day.held_cost.picodollars(), unfinished))
    });
    let (left, held, unfinished) = ended?;
    // Connections and reapers of the parts end on their own; each gets a moment.
    let alive = || runtime.metrics().num_alive_tasks();
    let patience = Instant::now() + Duration::from_secs(10);
    while (alive() > 0 || open_descriptors() > fds_before) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    let tasks = alive();
    drop(runtime);
    println!(
        "{}",
        json!({"ended": {
            "tasks": tasks,
            "left": left,
            "held": held,
            "unfinished": unfinished,
            "fds_before": fds_before,
            "fds_after": open_descriptors(),
        }})
    );
    Ok(())
}

async fn open(booted: &Booted, url: &str, folder: &Path) -> Result<Otto> {
    let mut config = AnthropicConfig::new(KEY.to_owned().into());
    config.base_url = url.parse()?;
    let add = TypedTool::looking("add", "Adds two whole numbers.", |input: Add| async move {
        Ok((input.a + input.b).to_string())
    })?;
    let operator = otto::config::OperatorConfig::defaults(folder);
    let host = otto::worker_host(booted, &operator, &folder.join("tmp"));
    let agent = AgentBuilder::new("busy", MODEL)
        .system_prompt("You add numbers.")
        .tools(["add", "fs.read"])
        .working_dir(folder.join("work"))
        .build()?;
    let unlimited = Ceilings::daily(Limit::new(Money::from_dollars(1_000_000), "soak"));
    let otto = Otto::builder()
        .enabled(true)
        .anthropic(config)?
        .base_tools(Arc::new(host))
        .tool(add)
        .agent(agent)
        .ceilings(unlimited)
        .retention(Duration::from_secs(3_600))
        .state_dir(folder.join("state"))
        .open()
        .await?;
    Ok(otto)
}

/// One agent after the other, with a short rest.
async fn keep_busy(otto: Otto, is_over: Arc<AtomicBool>, number: u32) {
    let rest = Duration::from_millis(50 + u64::from(number % 10) * 20);
    while !is_over.load(Ordering::Acquire) {
        let Ok(agent) = otto.agent("busy") else {
            return;
        };
        match agent.invoke("Add 2 and 40.").await {
            Ok(report) => println!("{}", json!({"done": report.outcome.kind().as_str()})),
            Err(_refused) => {}
        }
        tokio::time::sleep(rest).await;
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn open_descriptors() -> usize {
    // The listing itself holds one.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
