//! Whole invocations of the library: the real engine, store and journal, a tool whose effect can be counted,
//! and a provider whose bill is the file of facts.
//!
//! Invariant checked: after any number of deaths an answer that is in the journal is never asked for again,
//! a tool that may not be repeated has at most one effect, and the ledger covers the bill.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use otto::core::invocation::{Event, ModelFinish, StopReason};
use otto::core::journal;
use otto::core::message::{Block, BlockView, Message, ToolCallBlock, ToolCallName, ToolInput};
use otto::core::model::TokenPrices;
use otto::core::port::llm_client::{ModelCall, ModelEvent, ModelStream};
use otto::core::{ToolCallId, ToolName};
use otto::{
    AgentBuilder, AgentConfig, Budgets, InvocationId, InvocationQuery, InvokeError, Limit,
    LlmClient, ModelId, ModelSpec, Money, Otto, Outcome, PriceTable, Repeatability, ResumeOptions,
    TypedTool, UnknownCallDecision, Usage, UsageQuery,
};
use otto_store_embedded::{EmbeddedStore, StoreConfig};

use super::{Aftermath, BOOT, SAYS_IT, Scenario, is_whole, no_environment, nothing, state_dir};
use crate::campaign::copy_tree;
use crate::said::{Facts, Mouth, say};

/// Calls with an effect before the model is done.
const ACTS: usize = 3;
/// What an invocation may cost: enough for all turns and some that are paid twice.
const PLENTY: &str = "$1.00";
/// What the invocation may cost whose limit is raised: two turns, not three.
const LOW: &str = "$0.016";
const MODEL: &str = "scenario-1";
pub(crate) const AGENT: &str = "worker";

pub(super) fn scenarios() -> Vec<Scenario> {
    let scenario = |name, drive, check| Scenario {
        name,
        prepare: nothing,
        drive,
        check,
        environment: no_environment,
        // A restart runs a whole engine.
        stride: 4,
        loses_power: true,
        reports: SAYS_IT,
    };
    vec![
        scenario("agent-tools", drive_one, check_ends_well),
        Scenario {
            prepare: prepare_resume,
            ..scenario("agent-resume", drive_resume, check_ends_well)
        },
        scenario("agent-budget", drive_budget, check_budget),
        scenario("agent-reload", drive_reload, check_ends_well),
    ]
}

/// What the traced process and whoever comes after it run on.
struct World {
    otto: Otto,
    agent: AgentConfig,
}

async fn open(dir: &Path, mouth: &Mouth, cost: &str, snapshot: Option<PathBuf>) -> Result<World> {
    open_in(dir, mouth, cost, snapshot, BOOT).await
}

async fn open_in(
    dir: &Path,
    mouth: &Mouth,
    cost: &str,
    snapshot: Option<PathBuf>,
    boot: &str,
) -> Result<World> {
    let agent = agent(cost)?;
    // A name of its own for every start, as the library gives.
    let node = format!("{}-{boot}-{:?}", std::process::id(), Instant::now());
    let mut config = StoreConfig::new(state_dir(dir), node.clone());
    config.boot = Arc::from(boot);
    let store = Arc::new(EmbeddedStore::open(config)?);
    let otto = Otto::builder()
        .enabled(true)
        .node(node)
        .store(store.clone(), Some(store))
        .client(provider(mouth))
        .tool(act(dir, mouth, snapshot)?)
        .agent(agent.clone())
        .open()
        .await?;
    Ok(World { otto, agent })
}

/// The provider, whose bill is what it says.
pub(super) fn provider(mouth: &Mouth) -> Arc<dyn LlmClient> {
    Arc::new(Provider {
        mouth: mouth.clone(),
        prices: Arc::new(PriceTable::new("scenario", [model()])),
    })
}

fn agent(cost: &str) -> Result<AgentConfig> {
    Ok(builder(cost).tools(["act"]).build()?)
}

/// An agent that only talks.
pub(crate) fn agent_without_tools(cost: &str) -> Result<AgentConfig> {
    Ok(builder(cost).build()?)
}

fn builder(cost: &str) -> AgentBuilder {
    AgentBuilder::new(AGENT, MODEL)
        .system_prompt("Work.")
        .cost(cost)
        .max_output_tokens(200)
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Act {
    /// Which of the calls this is.
    n: u64,
}

/// The tool whose effects are lines of a file. It may not be repeated.
fn act(dir: &Path, mouth: &Mouth, snapshot: Option<PathBuf>) -> Result<TypedTool> {
    let (dir, mouth) = (dir.to_owned(), mouth.clone());
    let function = move |input: Act| {
        let done = (|| -> std::io::Result<()> {
            if let Some(to) = snapshot.as_deref().filter(|_| input.n == 2) {
                // What a death at this instruction would leave.
                copy_tree(&state_dir(&dir), to).map_err(std::io::Error::other)?;
            }
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(dir.join("effects"))?;
            file.write_all(format!("effect {}\n", input.n).as_bytes())
        })();
        say!(mouth, "acted {}", input.n);
        async move {
            done.map(|()| format!("done {}", input.n))
                .map_err(|error| otto::ToolError::for_model(error.to_string()))
        }
    };
    Ok(TypedTool::changing(
        "act",
        "Does it.",
        Repeatability::Unknown,
        function,
    )?)
}

/// A model that costs about what models cost.
pub(crate) fn model() -> ModelSpec {
    let price = |dollars: u64| Money::from_picodollars(dollars * 1_000_000).expect("a small price");
    ModelSpec {
        id: ModelId::new(MODEL).expect("a valid id"),
        aliases: Vec::new(),
        context_window: 200_000,
        max_output_tokens: 8_000,
        prices: TokenPrices {
            input: price(3),
            output: price(15),
            cache_write_5m: price(4),
            cache_write_1h: price(6),
            cache_read: price(1),
        },
        long_context: None,
        surcharge_percent: 100,
        hidden_prompt_tokens: 300,
    }
}

/// A provider that calls the tool [`ACTS`] times and is done. Which turn is asked for follows from the history.
struct Provider {
    mouth: Mouth,
    prices: Arc<PriceTable>,
}

impl LlmClient for Provider {
    fn prices(&self) -> Arc<PriceTable> {
        self.prices.clone()
    }

    fn call(&self, call: ModelCall) -> ModelStream {
        let history = &call.request.history;
        let turn = history
            .iter()
            .filter(|message| matches!(&***message, Message::Assistant(_)))
            .count();
        let usage = Usage {
            // Each message counts the same, as at a real provider: the next estimate builds on it.
            input_tokens: 400 + 12 * history.len() as u64,
            output_tokens: 20,
            ..Usage::default()
        };
        let cost = call
            .conversation
            .model
            .cost(&usage)
            .expect("a small amount");
        let invocation = call.request.reservation.invocation;
        let (view, stop) = if turn < ACTS {
            let call = ToolCallBlock {
                id: ToolCallId(Arc::from(format!("call_{turn}"))),
                tool: ToolCallName::Known(ToolName::new("act").expect("a valid name")),
                input: ToolInput::Object(Arc::from(format!("{{\"n\":{}}}", turn + 1))),
            };
            (BlockView::ToolCall(call), StopReason::ToolUse)
        } else {
            (BlockView::Text(Arc::from("Done.")), StopReason::EndTurn)
        };
        let events = [
            ModelEvent::BlockFinished {
                index: 0,
                block: Arc::new(Block {
                    raw: Arc::from(format!("{{\"turn\":{turn}}}")),
                    view,
                }),
            },
            ModelEvent::Finished(ModelFinish {
                stop,
                usage: Some(usage),
                served_by: None,
            }),
        ];
        let mouth = self.mouth.clone();
        Box::pin(futures_util::stream::iter(events).inspect(move |event| {
            // On the bill before the caller hears anything of it.
            if matches!(event, ModelEvent::BlockFinished { .. }) {
                say!(mouth, "billed {} {invocation} {turn}", cost.picodollars());
            }
        }))
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// How long an orderly end may take.
const GRACE: Duration = Duration::from_secs(5);

fn drive_one(dir: &Path, mouth: &Mouth) -> Result<()> {
    runtime()?.block_on(async {
        let Some(world) = opened(open(dir, mouth, PLENTY, None).await, mouth)? else {
            return Ok(());
        };
        invoke(&world, mouth).await;
        world.otto.shutdown(GRACE).await;
        Ok(())
    })
}

/// Injected faults may already be met at the opening: then the error must say what to do.
fn opened(result: Result<World>, mouth: &Mouth) -> Result<Option<World>> {
    match result {
        Ok(world) => Ok(Some(world)),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(
                text.contains(';'),
                "the error does not say what to do: {text}"
            );
            say!(mouth, "error {}", text.replace('\n', " "));
            Ok(None)
        }
    }
}

async fn invoke(world: &World, mouth: &Mouth) {
    let agent = world.otto.agent(AGENT).expect("it is configured");
    match agent.invoke("Act three times.").await {
        Ok(report) => tell(&report, mouth),
        Err(error) => say!(mouth, "error {error}"),
    }
}

fn tell(report: &otto::Report, mouth: &Mouth) {
    say!(
        mouth,
        "ended {} {}",
        report.ids.invocation,
        report.outcome.kind().as_str()
    );
    for artifact in &report.artifacts {
        say!(mouth, "artifact {} {}", artifact.path, artifact.sha256);
    }
}

/// A state whose process died while the second call was running.
fn prepare_resume(dir: &Path) -> Result<()> {
    let source = dir.join("source");
    std::fs::create_dir(&source)?;
    let mouth = Mouth::open(&dir.join("said-before"))?;
    runtime()?.block_on(async {
        let world = open(&source, &mouth, PLENTY, Some(state_dir(dir))).await?;
        invoke(&world, &mouth).await;
        world.otto.shutdown(GRACE).await;
        anyhow::Ok(())
    })?;
    std::fs::remove_dir_all(&source)?;
    // Of what was said, only what came before that instruction, with the one effect it had had.
    let before: String = Facts::read(&dir.join("said-before"))?
        .lines()
        .iter()
        .take_while(|line| *line != "acted 2")
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(dir.join("said-before"), before)?;
    std::fs::write(dir.join("effects"), "effect 1\n")?;
    Ok(())
}

fn drive_resume(dir: &Path, mouth: &Mouth) -> Result<()> {
    runtime()?.block_on(async {
        let Some(world) = opened(open(dir, mouth, PLENTY, None).await, mouth)? else {
            return Ok(());
        };
        match resume_all(&world, mouth, &Budgets::default()).await {
            Ok(()) => {}
            Err(error) => say!(mouth, "error {error:#}"),
        }
        world.otto.shutdown(GRACE).await;
        Ok(())
    })
}

/// Takes up whatever can be, to its end.
async fn resume_all(world: &World, mouth: &Mouth, raise: &Budgets) -> Result<()> {
    for record in world.otto.invocations(InvocationQuery::default()).await? {
        if record.outcome.is_some() && !record.resumable {
            continue;
        }
        let options = ResumeOptions {
            decision: Some(UnknownCallDecision::TellModel),
            raise: raise.clone(),
            ..ResumeOptions::default()
        };
        match world.otto.resume(record.session, options).await {
            Ok(handle) => tell(&handle.report().await?, mouth),
            // It was recorded and nothing more: then nothing was billed for it, which is checked.
            Err(InvokeError::NotResumable { .. })
                if world.otto.journal(record.invocation).await?.is_empty() => {}
            Err(error) => return Err(error).context("resume"),
        }
    }
    Ok(())
}

fn drive_budget(dir: &Path, mouth: &Mouth) -> Result<()> {
    runtime()?.block_on(async {
        let Some(world) = opened(open(dir, mouth, LOW, None).await, mouth)? else {
            return Ok(());
        };
        invoke(&world, mouth).await;
        say!(mouth, "raising");
        match resume_all(&world, mouth, &raised()?).await {
            Ok(()) => {}
            Err(error) => say!(mouth, "error {error:#}"),
        }
        world.otto.shutdown(GRACE).await;
        Ok(())
    })
}

fn raised() -> Result<Budgets> {
    Ok(Budgets {
        cost: Some(Limit::new(PLENTY.parse()?, "a scenario")),
        ..Budgets::default()
    })
}

/// The configuration is exchanged between two invocations.
fn drive_reload(dir: &Path, mouth: &Mouth) -> Result<()> {
    runtime()?.block_on(async {
        let Some(world) = opened(open(dir, mouth, PLENTY, None).await, mouth)? else {
            return Ok(());
        };
        let agent = world.otto.agent(AGENT)?;
        let handle = agent.invoke_stream("Act three times.").await;
        // The running one keeps the configuration it began with.
        let mut next = world.agent.clone();
        next.system_prompt = Arc::from("Work otherwise.");
        world.otto.replace_agents([next]);
        match handle {
            Ok(handle) => match handle.report().await {
                Ok(report) => tell(&report, mouth),
                Err(error) => say!(mouth, "error {error}"),
            },
            Err(error) => say!(mouth, "error {error}"),
        }
        world.otto.shutdown(GRACE).await;
        Ok(())
    })
}

fn check_ends_well(dir: &Path, after: &Aftermath) -> Result<()> {
    check(dir, after, PLENTY.parse()?)
}

fn check_budget(dir: &Path, after: &Aftermath) -> Result<()> {
    let limit: Money = if after.facts.has("raising") {
        PLENTY.parse()?
    } else {
        LOW.parse()?
    };
    let billed: u64 = bills(&after.facts)?.values().flatten().sum();
    ensure!(
        billed <= limit.picodollars(),
        "billed were {billed} before the limit of {limit} was raised"
    );
    check(dir, after, PLENTY.parse()?)
}

/// What was billed, by invocation and turn.
fn bills(facts: &Facts) -> Result<BTreeMap<(String, usize), Vec<u64>>> {
    let mut bills: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for fact in facts.after("billed") {
        let mut words = fact.split(' ');
        let mut word = || words.next().context("a bill has three words");
        let cost = word()?.parse()?;
        let invocation = word()?.to_owned();
        bills
            .entry((invocation, word()?.parse()?))
            .or_default()
            .push(cost);
    }
    Ok(bills)
}

fn check(dir: &Path, after: &Aftermath, limit: Money) -> Result<()> {
    let mut facts = Facts::read(&dir.join("said-before"))?;
    facts.extend(&after.facts);
    let mouth = Mouth::open(&after.said)?;
    let journaled = runtime()?.block_on(async {
        let world = open_in(dir, &mouth, PLENTY, None, after.boot)
            .await
            .context("open after the crash")?;
        let journaled = journaled(&world.otto).await?;
        acknowledged_ends_stand(&world.otto, &facts).await?;
        resume_all(&world, &mouth, &raised()?).await?;
        all_have_ended(&world.otto, &mouth).await?;
        world.otto.shutdown(GRACE).await;
        anyhow::Ok(journaled)
    })?;
    let mut later = Facts::read(&dir.join("said-before"))?;
    later.extend(&Facts::read(&after.said)?);
    let (before, in_the_end) = (bills(&facts)?, bills(&later)?);
    for ((invocation, turn), costs) in &in_the_end {
        let turns = journaled.get(invocation).copied().unwrap_or(0);
        let earlier = before.get(&(invocation.clone(), *turn)).map_or(0, Vec::len);
        ensure!(
            *turn >= turns || costs.len() == earlier,
            "{invocation}: the answer of turn {turn} was journaled and paid for again"
        );
    }
    let effects = std::fs::read_to_string(dir.join("effects")).unwrap_or_default();
    let mut lines: Vec<&str> = effects.lines().collect();
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    ensure!(
        lines.len() == count,
        "an effect happened twice: {effects:?}"
    );
    covers(dir, &in_the_end, limit)
}

/// The ledger and the usage rows cover the bill, and no limit was passed.
fn covers(dir: &Path, bills: &BTreeMap<(String, usize), Vec<u64>>, limit: Money) -> Result<()> {
    let store = EmbeddedStore::open(StoreConfig::new(state_dir(dir), "auditor"))?;
    is_whole(&store)?;
    let query = UsageQuery {
        group_by: vec![otto::UsageGroup::Invocation],
        ..UsageQuery::default()
    };
    let usage = super::block_on(otto::core::port::store::UsageStore::usage(&store, query))?;
    let mut billed: BTreeMap<&str, u64> = BTreeMap::new();
    for ((invocation, _), costs) in bills {
        *billed.entry(invocation).or_default() += costs.iter().sum::<u64>();
    }
    for (invocation, billed) in billed {
        let spent: u64 = usage
            .iter()
            .filter(|sum| sum.key.values().any(|key| key == invocation))
            .map(|sum| sum.cost.picodollars())
            .sum();
        ensure!(
            billed <= spent && spent <= limit.picodollars(),
            "{invocation}: billed were {billed}, {spent} is spent, the limit is {limit}"
        );
    }
    Ok(())
}

/// How many answers are in the journal of each invocation.
async fn journaled(otto: &Otto) -> Result<BTreeMap<String, usize>> {
    let mut journaled = BTreeMap::new();
    for record in otto.invocations(InvocationQuery::default()).await? {
        let mut turns = 0;
        for line in otto.journal(record.invocation).await? {
            let (_, event) = journal::decode(&line)?;
            turns += usize::from(matches!(event, Event::ModelFinished { .. }));
        }
        journaled.insert(record.invocation.to_string(), turns);
    }
    Ok(journaled)
}

async fn acknowledged_ends_stand(otto: &Otto, facts: &Facts) -> Result<()> {
    let records = otto.invocations(InvocationQuery::default()).await?;
    for fact in facts.after("ended") {
        let (invocation, outcome) = fact.split_once(' ').context("an end has two words")?;
        let invocation: InvocationId = invocation.parse()?;
        let record = records
            .iter()
            .find(|record| record.invocation == invocation)
            .context("an invocation whose end was acknowledged is gone")?;
        let stands = record.outcome.is_some_and(|kind| kind.as_str() == outcome);
        // A stopped one may have been taken up again.
        ensure!(
            stands
                || outcome
                    != Outcome::Completed {
                        text: Arc::from("")
                    }
                    .kind()
                    .as_str(),
            "{invocation} had ended as {outcome}, it is {:?}",
            record.outcome
        );
        for artifact in facts.after("artifact") {
            let listed = otto.artifacts(record.session).await?;
            ensure!(
                facts.after("ended").count() > 1
                    || listed
                        .iter()
                        .any(|known| artifact == format!("{} {}", known.path, known.sha256)),
                "the artifact `{artifact}` was acknowledged and is gone"
            );
        }
    }
    Ok(())
}

async fn all_have_ended(otto: &Otto, mouth: &Mouth) -> Result<()> {
    for record in otto.invocations(InvocationQuery::default()).await? {
        let has_begun = !otto.journal(record.invocation).await?.is_empty();
        ensure!(
            !has_begun || record.outcome == Some(otto::OutcomeKind::Completed),
            "{} ended as {:?}: {}",
            record.invocation,
            record.outcome,
            record.summary
        );
    }
    say!(mouth, "all ended");
    Ok(())
}
