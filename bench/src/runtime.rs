//! What running agents costs beside the model: start, restart, dispatch, memory, and the start of the binary.
//!
//! The model is one in this process that never answers, or answers at once; the last figure runs the release
//! binary against a listener of its own. Prints a table with target and verdict; a verdict on a busy machine
//! says little.

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use otto::core::agent::Limit;
use otto::core::invocation::{ModelFinish, StopReason};
use otto::core::message::{Block, BlockView, ToolCallBlock, ToolCallName, ToolInput};
use otto::core::port::llm_client::{ModelCall, ModelEvent, ModelStream};
use otto::core::{ToolCallId, ToolName};
use otto::spans::{FinishedSpan, SpanSink};
use otto::{
    Admission, AgentBuilder, AgentConfig, Ceilings, Child, InvocationHandle, Listening, LlmClient,
    Money, Otto, PriceTable, RestartRule, TaskSpec, TelemetryParts, TypedTool, Usage,
};
use otto_engine::InvokeOptions;
use tokio::sync::Notify;

use crate::measure::resident_kib;
use crate::table::{self, Row};

pub(crate) const MODEL: &str = "claude-haiku-4-5";

/// The parts that run in a process of their own: what another part leaves behind in the allocator would hide what
/// they take.
pub(crate) const IDLE: &str = "idle";
pub(crate) const IN_FLIGHT: &str = "in-flight";

pub(crate) fn run() -> Result<()> {
    let mut table = Table::default();
    let [each, memory] = apart(IDLE)?;
    table.row("supervised start, 100,000 in bulk, each", each, "µs", 12.0);
    table.row("idle agent, memory", memory, "KiB", 4.0);
    let [memory] = apart(IN_FLIGHT)?;
    table.row("10,000 agents in flight, each", memory, "KiB", 39.0);
    let Alone {
        start,
        first_starts,
        dispatched,
    } = on_one_thread()?;
    table.row("supervised start, alone, p50", start, "µs", 5.0);
    table.beside(
        "the same start, the first ones of a process, which take their memory from the kernel",
        first_starts,
    );
    table.row("tool dispatch in process, p50", dispatched, "µs", 2.0);
    let rest = in_task(async {
        let mut table = Table::default();
        table.beside("the same start, several threads", start_alone().await?);
        table.beside("the same dispatch, several threads", dispatch().await?);
        restart(&mut table).await?;
        replay(&mut table).await?;
        Ok(table)
    })?;
    table.rows.extend(rest.rows);
    binary(&mut table)?;
    table::print("runtime", &table.rows);
    Ok(())
}

/// What one start and one call take by themselves. With several threads Tokio wakes another one up for each of them,
/// and what an idle processor takes to wake is many times as long.
fn on_one_thread() -> Result<Alone> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        Ok(Alone {
            first_starts: start_alone().await?,
            start: start_alone().await?,
            dispatched: dispatch().await?,
        })
    })
}

/// What was measured on one thread, in microseconds.
struct Alone {
    /// Of a process that has run as many before, as a service has: it gets its memory from the allocator.
    start: f64,
    first_starts: f64,
    dispatched: f64,
}

/// Runs it in a task of a runtime, as whoever answers a request begins an invocation; from any other thread each would
/// first have to wake a thread of the runtime.
fn in_task<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::spawn(work).await })?
}

/// Runs a part in this process and prints its figures, one a line.
pub(crate) fn part<const N: usize, F>(work: fn() -> F) -> Result<()>
where
    F: Future<Output = Result<[f64; N]>> + Send + 'static,
{
    for figure in in_task(work())? {
        println!("{figure}");
    }
    Ok(())
}

/// Runs a part in a process of its own.
fn apart<const N: usize>(part: &str) -> Result<[f64; N]> {
    let output = Command::new(std::env::current_exe().context("find the benchmark binary")?)
        .args(["runtime", part])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    match figures.try_into() {
        Ok(figures) if output.status.success() => Ok(figures),
        _ => bail!(
            "`runtime {part}` ended with {} and printed `{text}`",
            output.status
        ),
    }
}

/// The figures so far.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

impl Table {
    fn row(&mut self, what: &str, value: f64, unit: &str, target: f64) {
        let figure = format!("{value:.1} {unit}");
        let target_text = format!("at most {target} {unit}");
        self.rows
            .push(Row::alone(what, figure, &target_text, value <= target));
    }

    /// A figure that stands beside another, without a target of its own.
    fn beside(&mut self, what: &str, micros: f64) {
        self.rows
            .push(Row::alone(what, format!("{micros:.1} µs"), "", true));
    }
}

/// The middle value, in microseconds.
fn p50_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// A model in this process.
pub(crate) struct Model {
    prices: Arc<PriceTable>,
    talk: Talk,
}

pub(crate) enum Talk {
    /// Never answers.
    Silent,
    /// Calls the tool `nothing` this often, then ends.
    Calls(usize),
    /// Panics at every other call, and ends at the others.
    Panics(Arc<Deaths>),
}

/// How long it took from each panic of an AgentServer to the call of the next one.
#[derive(Default)]
pub(crate) struct Deaths {
    last: Mutex<Option<Instant>>,
    times: Mutex<Vec<Duration>>,
}

impl Deaths {
    /// Whether this call is to panic: the one before did not.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(then) = last.take() else {
            *last = Some(now);
            return true;
        };
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(now.duration_since(then));
        false
    }
}

/// Told by the tool `nothing` that it was called.
static CALLED: Notify = Notify::const_new();

impl Model {
    pub(crate) fn new(talk: Talk) -> Self {
        Self {
            prices: Arc::new(otto_anthropic::price_table()),
            talk,
        }
    }
}

impl LlmClient for Model {
    fn prices(&self) -> Arc<PriceTable> {
        self.prices.clone()
    }

    fn call(&self, call: ModelCall) -> ModelStream {
        let count = match &self.talk {
            Talk::Silent => return Box::pin(futures_util::stream::pending()),
            Talk::Calls(count) => *count,
            Talk::Panics(deaths) => {
                assert!(!deaths.is_due(), "planted");
                0
            }
        };
        let turn = call.request.history.len() / 2;
        let (view, stop) = if turn < count {
            let call = ToolCallBlock {
                id: ToolCallId(Arc::from(format!("call_{turn}"))),
                tool: ToolCallName::Known(ToolName::new("nothing").expect("a valid name")),
                input: ToolInput::Object(Arc::from(format!(r#"{{"n":{turn}}}"#))),
            };
            (BlockView::ToolCall(call), StopReason::ToolUse)
        } else {
            (BlockView::Text(Arc::from("Done.")), StopReason::EndTurn)
        };
        let block = Arc::new(Block {
            raw: Arc::from("{}"),
            view,
        });
        let usage = Usage {
            input_tokens: 100,
            output_tokens: 10,
            ..Usage::default()
        };
        let block = ModelEvent::BlockFinished { index: 0, block };
        let finished = ModelEvent::Finished(ModelFinish {
            stop,
            usage: Some(usage),
            served_by: None,
        });
        // As on a network, the end is not there yet when the block is: what is timed is the call of the tool, and
        // not the accounts of a turn that ends meanwhile.
        let is_awaited = turn < count;
        let end = async move {
            if is_awaited {
                CALLED.notified().await;
            }
            finished
        };
        Box::pin(futures_util::stream::iter([block]).chain(futures_util::stream::once(end)))
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {
    n: u64,
}

async fn open(talk: Talk, admission: Admission, telemetry: TelemetryParts) -> Result<Otto> {
    let nothing = TypedTool::looking("nothing", "Does nothing.", |input: Nothing| async move {
        CALLED.notify_one();
        Ok(input.n.to_string())
    })?;
    let agent = AgentBuilder::new("agent", MODEL)
        .system_prompt("You add numbers.")
        .tools(["nothing"])
        .budgets(otto::Budgets {
            turns: Some(Limit::new(10_000, "benchmark")),
            cost: Some(Limit::new(Money::from_dollars(1_000), "benchmark")),
            tokens: Some(Limit::new(u64::MAX / 4, "benchmark")),
            ..otto::Budgets::default()
        })
        .build()?;
    Ok(Otto::builder()
        .enabled(true)
        .client(Arc::new(Model::new(talk)))
        .tool(nothing)
        .agent(agent)
        .admission(admission)
        .telemetry(telemetry)
        .ceilings(Ceilings::daily(Limit::new(Money::MAX, "benchmark")))
        .open()
        .await?)
}

/// Agents that are started, registered, leased and supervised, and wait for a place: in bulk, and their memory.
pub(crate) async fn idle() -> Result<[f64; 2]> {
    const COUNT: usize = 100_000;
    let otto = open(
        Talk::Silent,
        Admission::new(0, COUNT),
        TelemetryParts::default(),
    )
    .await?;
    let agent = only_agent(&otto)?;
    let before = resident_kib();
    let mut handles = Vec::with_capacity(COUNT);
    let begun = Instant::now();
    for _ in 0..COUNT {
        handles.push(start(&otto, &agent, task()).await?);
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / COUNT as f64;
    let memory = resident_kib().saturating_sub(before) as f64 / COUNT as f64;
    otto.shutdown(Duration::ZERO).await;
    Ok([each, memory])
}

fn only_agent(otto: &Otto) -> Result<Arc<AgentConfig>> {
    otto.agents()
        .into_iter()
        .next()
        .context("there is an agent")
}

/// Starts an invocation that nobody watches.
async fn start(otto: &Otto, agent: &Arc<AgentConfig>, task: TaskSpec) -> Result<InvocationHandle> {
    let options = InvokeOptions {
        listening: Listening::Off,
    };
    Ok(otto.engine().invoke(agent.clone(), task, options).await?)
}

fn task() -> TaskSpec {
    TaskSpec::new("Add 2 and 40.")
}

/// Agents that wait for their model.
pub(crate) async fn in_flight() -> Result<[f64; 1]> {
    const COUNT: usize = 10_000;
    let otto = open(
        Talk::Silent,
        Admission::new(COUNT, 0),
        TelemetryParts::default(),
    )
    .await?;
    let agent = only_agent(&otto)?;
    let before = resident_kib();
    let mut handles = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        handles.push(start(&otto, &agent, task()).await?);
    }
    // Held money says that every one of them has come to its model call.
    let tracker = otto.engine().cost_tracker();
    for handle in &handles {
        let scope = otto::core::ledger::Scope::Invocation(handle.ids().invocation);
        while tracker.account(scope.clone()).await?.held_cost == Money::ZERO {
            tokio::task::yield_now().await;
        }
    }
    let memory = resident_kib().saturating_sub(before) as f64 / COUNT as f64;
    otto.shutdown(Duration::ZERO).await;
    Ok([memory])
}

/// One start after the other, each with the machine to itself.
async fn start_alone() -> Result<f64> {
    const COUNT: usize = 5_000;
    let otto = open(
        Talk::Silent,
        Admission::new(0, COUNT),
        TelemetryParts::default(),
    )
    .await?;
    let agent = only_agent(&otto)?;
    let mut times = Vec::with_capacity(COUNT);
    let mut handles = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let task = task();
        let begun = Instant::now();
        let handle = start(&otto, &agent, task).await?;
        times.push(begun.elapsed());
        handles.push(handle);
        // The new task runs to where it waits before the next is started.
        tokio::task::yield_now().await;
    }
    otto.shutdown(Duration::ZERO).await;
    Ok(p50_us(times))
}

/// From the panic of a child to the first line of its next life, without backoff.
async fn restart(table: &mut Table) -> Result<()> {
    const COUNT: u32 = 2_000;
    std::panic::set_hook(Box::new(|_| {}));
    let otto = open(
        Talk::Silent,
        Admission::new(1, 1),
        TelemetryParts::default(),
    )
    .await?;
    let rule = RestartRule {
        intensity: COUNT + 1,
        backoff: Duration::ZERO,
        ..RestartRule::INFRASTRUCTURE
    };
    let times = Arc::new(Mutex::new(Vec::with_capacity(COUNT as usize)));
    let died = Arc::new(Mutex::new(None::<Instant>));
    let (done, mut is_done) = tokio::sync::mpsc::channel(1);
    let starts = AtomicU32::new(0);
    let kept = times.clone();
    otto.engine()
        .supervisor()
        .start(Child::new("shaky", rule, move |stop| {
            let now = Instant::now();
            let mut died_at = died.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(then) = died_at.take() {
                let mut times = kept.lock().unwrap_or_else(PoisonError::into_inner);
                times.push(now.duration_since(then));
            }
            drop(died_at);
            let is_last = starts.fetch_add(1, Ordering::Relaxed) == COUNT;
            let (died, done) = (died.clone(), done.clone());
            Box::pin(async move {
                if is_last {
                    // The receiver waits for nothing else.
                    let _ = done.send(()).await;
                    return stop.cancelled().await;
                }
                *died.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                panic!("planted");
            })
        }));
    is_done.recv().await;
    drop(std::panic::take_hook());
    let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    table.row("restart after a panic, p50", p50_us(times), "µs", 10.0);
    Ok(())
}

/// From the panic of an AgentServer to the model call of the next one, which has replayed the journal and held the
/// money again.
async fn replay(table: &mut Table) -> Result<()> {
    const COUNT: usize = 500;
    std::panic::set_hook(Box::new(|_| {}));
    let deaths = Arc::new(Deaths::default());
    let otto = open(
        Talk::Panics(deaths.clone()),
        Admission::new(1, 1),
        TelemetryParts::default(),
    )
    .await?;
    for _ in 0..COUNT {
        let report = otto.agent("agent")?.invoke(task()).await?;
        if report.text() != "Done." {
            bail!("unexpected end: {}", report.outcome);
        }
    }
    drop(std::panic::take_hook());
    let mut times = deaths.times.lock().unwrap_or_else(PoisonError::into_inner);
    table.beside(
        "the same of an agent, its journal replayed and its call held for and made again",
        p50_us(std::mem::take(&mut times)),
    );
    Ok(())
}

/// The spans of tool calls.
#[derive(Default)]
struct Spans(Mutex<Vec<Duration>>);

impl SpanSink for Spans {
    fn take(&self, span: FinishedSpan) {
        if span.name.starts_with(otto::names::OPERATION_TOOL) {
            let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            spans.push(span.end.since(span.start));
        }
    }
}

/// From the decision to call a tool that does nothing to its result, as the trace has it.
async fn dispatch() -> Result<f64> {
    let spans = Arc::new(Spans::default());
    let telemetry = TelemetryParts {
        spans: Some(spans.clone()),
        ..TelemetryParts::default()
    };
    let otto = open(Talk::Calls(2_000), Admission::new(1, 0), telemetry).await?;
    let report = otto.agent("agent")?.invoke(task()).await?;
    if report.text() != "Done." {
        bail!("unexpected end: {}", report.outcome);
    }
    let times = std::mem::take(&mut *spans.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(p50_us(times))
}

/// The release binary, from its start to the first byte of its first model request.
fn binary(table: &mut Table) -> Result<()> {
    const ROUNDS: usize = 20;
    let program = sibling("otto")?;
    let folder = tempfile::tempdir()?;
    let agents = folder.path().join(".otto/agents");
    std::fs::create_dir_all(&agents)?;
    std::fs::write(
        agents.join("helper.yml"),
        format!("name: helper\nmodel: {MODEL}\n"),
    )?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let command = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(args)
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path().join("home"))
            .env("OTTO_ENABLED", "true")
            .env("ANTHROPIC_API_KEY", "sk-ant-benchmark")
            .env("ANTHROPIC_BASE_URL", &url)
            .env("OTTO_STATE_DIR", folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let (mut starts, mut floors) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        command(&["--version"]).status()?;
        let floor = begun.elapsed();
        let begun = Instant::now();
        let mut child = command(&["run", "helper", "hi"]).spawn()?;
        let (mut connection, _) = listener.accept()?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        connection.read_exact(&mut [0])?;
        let start = begun.elapsed();
        child.kill()?;
        child.wait()?;
        // The first round makes the state directory and warms the caches.
        if round > 0 {
            starts.push(start);
            floors.push(floor);
        }
    }
    let (start, floor) = (p50_us(starts) / 1e3, p50_us(floors) / 1e3);
    let what = format!(
        "start of the binary to its first model request, p50 (`otto --version`: {floor:.1} ms)"
    );
    table.row(&what, start, "ms", 10.0);
    Ok(())
}

/// A program built beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the benchmark binary")?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "`{}` is not there: build it with `cargo build --release`",
        path.display()
    )
}
