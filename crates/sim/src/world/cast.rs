//! Who appears in the world of a seed: agents, models, tools, limits, and the scopes they share.
//!
//! Limits are drawn so that, where they are tight, a few calls reach them.

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::compaction::CompactionRule;
use otto_core::invocation::{
    InvocationLimits, InvocationSpec, Repeatability, SideEffects, ToolFacts,
};
use otto_core::ledger::{ScopeKey, ScopeLimits};
use otto_core::model::{CacheUse, LongContextTier, ModelSpec, TokenPrices};
use otto_core::{
    AgentName, InvocationId, ModelId, Money, SessionId, TaskId, Timestamp, ToolName, WorkflowId,
};

use crate::chance::Draw;
use crate::faults::{FaultKind, Faults};

/// One invocation before it begins.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) spec: Arc<InvocationSpec>,
    /// When it begins, after the start of the world.
    pub(crate) begins_after: Duration,
    /// How many turns with calls the model wants to make.
    pub(crate) turns_wanted: u32,
    /// When somebody cancels it, after its begin.
    pub(crate) cancelled_after: Option<Duration>,
}

/// The tools of every agent: two that look, one of each kind that acts.
pub(crate) const TOOLS: &[(&str, SideEffects, Repeatability)] = &[
    ("fs.read", SideEffects::None, Repeatability::Repeatable),
    ("grep", SideEffects::None, Repeatability::Repeatable),
    ("fs.write", SideEffects::Some, Repeatability::Unknown),
    ("db.put", SideEffects::Some, Repeatability::Repeatable),
    ("mail.send", SideEffects::Some, Repeatability::AskPerson),
];

pub(crate) fn cast(seed: u64, now: Timestamp, count: usize, faults: &mut Faults) -> Vec<Role> {
    let mut draw = Draw::stream(seed, 2, 0);
    let shared = Shared::draw(&mut draw, now, count, faults);
    (0..count)
        .map(|number| role(seed, number, now, &shared, faults))
        .collect()
}

/// What several invocations have in common.
struct Shared {
    models: Vec<Arc<ModelSpec>>,
    sessions: Vec<(SessionId, ScopeLimits)>,
    agents: Vec<(AgentName, ScopeLimits)>,
    workflows: Vec<(WorkflowId, ScopeLimits)>,
    day: ScopeLimits,
}

impl Shared {
    fn draw(draw: &mut Draw, now: Timestamp, count: usize, faults: &mut Faults) -> Self {
        let models = models();
        let crowd = count as u64;
        let mut limits = |draw: &mut Draw, scope: ScopeKey, sharing: u64| {
            let model = Arc::clone(draw.pick(&models));
            scope_limits(draw, faults, scope, &model, 2_000, sharing)
        };
        let sessions = (0..count.div_ceil(3)).map(|_| {
            let id = SessionId::from_parts(now, draw.id_bytes());
            (id, limits(draw, ScopeKey::Session(id), 3))
        });
        let sessions = sessions.collect();
        let agents = ["reader", "writer"].map(|name| {
            let name = AgentName::new(name).expect("a valid name");
            let limits = limits(draw, ScopeKey::Agent(name.clone()), crowd.div_ceil(2));
            (name, limits)
        });
        let workflows = [(), ()].map(|()| {
            let id = WorkflowId::from_parts(now, draw.id_bytes());
            (id, limits(draw, ScopeKey::Workflow(id), crowd.div_ceil(3)))
        });
        let day = limits(draw, ScopeKey::Day, crowd);
        Self {
            sessions,
            agents: agents.into(),
            workflows: workflows.into(),
            day,
            models,
        }
    }
}

fn role(seed: u64, number: usize, now: Timestamp, shared: &Shared, faults: &mut Faults) -> Role {
    let mut draw = Draw::stream(seed, 3, number as u64);
    let draw = &mut draw;
    let model = Arc::clone(draw.pick(&shared.models));
    let invocation = InvocationId::from_parts(now, draw.id_bytes());
    let (session, session_limits) = draw.pick(&shared.sessions).clone();
    let (agent, agent_limits) = draw.pick(&shared.agents).clone();
    let workflow = draw
        .happens(600)
        .then(|| draw.pick(&shared.workflows).clone());
    let max_output_tokens = draw.between(400, 6_000);
    let mut scopes = vec![
        scope_limits(
            draw,
            faults,
            ScopeKey::Invocation(invocation),
            &model,
            max_output_tokens,
            1,
        ),
        session_limits,
        agent_limits,
    ];
    scopes.extend(workflow.iter().map(|(_, limits)| limits.clone()));
    scopes.push(shared.day.clone());
    let time = if faults.strikes(FaultKind::TightTime, draw) {
        draw.delay(500, 60_000)
    } else {
        Duration::from_secs(600)
    };
    let turns = if faults.strikes(FaultKind::TightTurns, draw) {
        draw.small(1, 5)
    } else {
        50
    };
    let letters = match draw.below(10) {
        0 => draw.between(2_000, 12_000),
        _ => draw.between(10, 900),
    };
    let tools = TOOLS
        .iter()
        .map(|(name, side_effects, repeatability)| ToolFacts {
            name: ToolName::new(name).expect("a valid name"),
            description: Arc::from("Does what its name says."),
            input_schema: Arc::from(r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#),
            side_effects: *side_effects,
            repeatability: *repeatability,
        });
    let spec = InvocationSpec {
        invocation,
        session,
        task: TaskId::from_parts(now, draw.id_bytes()),
        workflow: workflow.map(|(id, _)| id),
        agent,
        model,
        cache: *draw.pick(&[CacheUse::None, CacheUse::FiveMinutes, CacheUse::OneHour]),
        system_prompt: Arc::from("Work through the task and stop."),
        tools: tools.collect(),
        input: Arc::from("task ".repeat(usize::try_from(letters / 5).unwrap_or(1))),
        transcript_messages: 200,
        tells_limits: draw.happens(300),
        compaction: draw
            .happens(700)
            .then(|| *draw.pick(&[10, 10, 15, 30, 80, 95]))
            .and_then(CompactionRule::at_percent),
        limits: InvocationLimits {
            time: Limit::new(time, "simulated"),
            turns: Limit::new(turns, "simulated"),
            repetitions: draw.small(3, 5),
            attempts: draw.small(1, 5),
            max_output_tokens,
            floor_output_tokens: draw.between(20, 256),
            parallel_tools: draw.small(1, 5),
        },
        scopes,
        seed: draw.number(),
    };
    let cancelled = faults.strikes(FaultKind::Cancel, draw);
    let cancelled_after = draw.delay(1, 60_000);
    Role {
        spec: Arc::new(spec),
        begins_after: draw.delay(0, 60_000),
        turns_wanted: draw.small(0, 6),
        cancelled_after: cancelled.then_some(cancelled_after),
    }
}

/// Limits of one scope that `sharing` invocations of this model draw on.
fn scope_limits(
    draw: &mut Draw,
    faults: &mut Faults,
    scope: ScopeKey,
    model: &ModelSpec,
    output_tokens: u64,
    sharing: u64,
) -> ScopeLimits {
    // One call of some 3,000 prompt tokens at the dearest.
    let call_tokens = 3_000 + output_tokens;
    let price = model.prices.output.picodollars();
    let call_cost = model.prices.cache_write_1h.picodollars() * 3_000 + price * output_tokens;
    let share = |draw: &mut Draw, one: u64| one / 100 * draw.between(20, 600) * sharing;
    let cost = match (
        faults.strikes(FaultKind::TightMoney, draw),
        share(draw, call_cost),
    ) {
        (true, amount) => Some(Limit::new(
            Money::from_picodollars(amount).unwrap_or(Money::MAX),
            "tight",
        )),
        (false, _) if draw.happens(700) => Some(Limit::new(Money::from_dollars(100_000), "ample")),
        (false, _) => None,
    };
    let tokens = match (
        faults.strikes(FaultKind::TightTokens, draw),
        share(draw, call_tokens),
    ) {
        (true, amount) => Some(Limit::new(amount, "tight")),
        (false, _) if draw.happens(300) => Some(Limit::new(1_000_000_000, "ample")),
        (false, _) => None,
    };
    ScopeLimits {
        scope,
        cost,
        tokens,
    }
}

/// A cheap model, a dear one with a surcharge, one with a dearer tier within reach.
fn models() -> Vec<Arc<ModelSpec>> {
    let price = |cents: u64| Money::from_picodollars(cents * 10_000).expect("a price per token");
    let prices = |input: u64, output: u64| TokenPrices {
        input: price(input),
        output: price(output),
        cache_write_5m: price(input * 5 / 4),
        cache_write_1h: price(input * 2),
        cache_read: price(input / 10),
    };
    let model = |id: &str, window, input, output, surcharge_percent| ModelSpec {
        id: ModelId::new(id).expect("a valid id"),
        aliases: vec![ModelId::new(&format!("{id}-latest")).expect("a valid id")],
        context_window: window,
        max_output_tokens: 5_000,
        prices: prices(input, output),
        long_context: None,
        surcharge_percent,
        hidden_prompt_tokens: 340,
    };
    let tiered = ModelSpec {
        long_context: Some(LongContextTier {
            threshold_prompt_tokens: 4_000,
            prices: prices(500, 2_500),
        }),
        ..model("tiered-1", 60_000, 100, 500, 100)
    };
    vec![
        Arc::new(model("small-1", 24_000, 100, 500, 100)),
        Arc::new(model("large-1", 200_000, 1_501, 7_503, 110)),
        Arc::new(tiered),
    ]
}
