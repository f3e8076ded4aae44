//! Feeds rows of "what happens" to a machine and compares what it wants with a short text.
//!
//! Effects are written in the order in which they must be performed, separated by `; `:
//!
//! | text | effect |
//! |---|---|
//! | `reserve` | `Reserve` |
//! | `settle used`, `settle forfeited`, `settle released` | `Settle` |
//! | `call` and what is new in the history: `call + [say, act a] + [a ok]` | `CallModel` |
//! | `call =` and the whole history, where compaction has replaced it: `call = [task, summary of 1] + [look b]` | `CallModel` |
//! | `summarize 3`: a summary of the first three messages | `CallModel` |
//! | `stop model` | `StopModel` |
//! | `run a`, `stop a` | `RunTool`, `StopTool`, by the id of the call |
//! | `timer deadline 300s` | `SetTimer`, and how long from now |
//! | `persist` | `Persist` |
//! | `finish completed` and so on | `Finish` |
//!
//! Invariant: the harness never looks into the machine; it reads effects and what is public.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Limit;
use crate::compaction;
use crate::id::{EffectId, ReservationId};
use crate::invocation::{
    Billing, CallPurpose, CancelReason, Effect, Event, Invocation, InvocationLimits,
    InvocationSpec, ModelFailure, ModelFailureKind, ModelFinish, Outcome, Repeatability,
    Resumption, SideEffects, StopReason, TimerPurpose, ToolEnding, ToolFacts, ToolResult,
    UnknownCallDecision,
};
use crate::ledger::{
    Amount, Denial, Grant, Quote, Resource, Scope, ScopeKey, ScopeLimits, Settlement,
};
use crate::message::{
    Block, BlockView, Message, ToolCallBlock, ToolCallName, ToolInput, UserBlock,
};
use crate::model::{CacheUse, ModelSpec, TokenPrices, Usage};
use crate::{
    AgentName, InvocationId, ModelId, Money, SessionId, TaskId, Timestamp, ToolCallId, ToolName,
    UtcDay,
};

/// Something that happens. Made by the functions below; ids of effects are filled in when it is fed.
pub(super) struct In(Box<dyn FnOnce(&mut Scene) -> Event>);

/// Checks a table of rows on a fresh machine.
#[track_caller]
pub(super) fn check<'a>(
    spec: InvocationSpec,
    rows: impl IntoIterator<Item = (In, &'a str)>,
) -> Scene {
    let mut scene = Scene::new(spec);
    for (row, (input, wanted)) in rows.into_iter().enumerate() {
        let shown = scene.feed(input);
        assert_eq!(shown, wanted, "row {row}; so far:\n{}", scene.told);
    }
    scene
}

/// A machine, the clock, and the names of what is open.
pub(super) struct Scene {
    pub(super) machine: Invocation,
    spec: Arc<InvocationSpec>,
    now: Timestamp,
    fed: Vec<(Timestamp, Event)>,
    told: String,
    reserve: EffectId,
    quote: Option<Quote>,
    call_model: EffectId,
    pub(super) requested_output: u64,
    tools: BTreeMap<String, EffectId>,
    timers: BTreeMap<&'static str, (EffectId, Timestamp)>,
    history: Vec<Arc<Message>>,
    /// Compactions when the history was last sent.
    compactions: u32,
    open: BTreeSet<ReservationId>,
    settled: BTreeSet<ReservationId>,
    pub(super) settlements: Vec<Settlement>,
    pub(super) finished: Option<Outcome>,
    /// The last reply was paused: the history may end with it.
    paused: bool,
}

impl Scene {
    fn new(spec: InvocationSpec) -> Self {
        Self {
            machine: Invocation::default(),
            spec: Arc::new(spec),
            now: Timestamp::from_millis(1_764_000_000_000),
            fed: Vec::new(),
            told: String::new(),
            reserve: EffectId(0),
            quote: None,
            call_model: EffectId(0),
            requested_output: 0,
            tools: BTreeMap::new(),
            timers: BTreeMap::new(),
            history: Vec::new(),
            compactions: 0,
            open: BTreeSet::new(),
            settled: BTreeSet::new(),
            settlements: Vec::new(),
            finished: None,
            paused: false,
        }
    }

    fn feed(&mut self, input: In) -> String {
        let event = (input.0)(self);
        if let Event::ReservationGranted { effect, .. } = &event {
            let reservation = self.reservation(*effect);
            if !self.settled.contains(&reservation) {
                self.open.insert(reservation);
            }
        }
        if let Event::ModelFinished { finish, .. } = &event {
            self.paused = finish.stop == StopReason::PauseTurn;
        }
        if matches!(event, Event::Resumed(_)) {
            self.finished = None;
        }
        self.fed.push((self.now, event.clone()));
        let was_over = self.finished.is_some();
        let effects = self.machine.step(self.now, event);
        assert!(
            !was_over || effects.is_empty(),
            "something follows the end: {effects:?}\n{}",
            self.told
        );
        let shown: Vec<String> = effects.iter().map(|effect| self.note(effect)).collect();
        let shown = shown.join("; ");
        writeln!(self.told, "  {shown}").unwrap();
        if self.finished.is_some() {
            assert_eq!(
                self.open,
                BTreeSet::new(),
                "granted and never settled\n{}",
                self.told
            );
            let history = self.machine.history();
            // A parked invocation keeps the calls of its last turn open.
            let is_parked = history
                .last()
                .is_some_and(|last| last.tool_calls().next().is_some());
            assert!(
                !is_parked || may_park(self.finished.as_ref()),
                "open calls at the end\n{}",
                self.told
            );
            check_history(&history[..history.len() - usize::from(is_parked)]);
        }
        assert_eq!(
            self.replayed(),
            self.machine,
            "a replay gives another machine\n{}",
            self.told
        );
        shown
    }

    fn replayed(&self) -> Invocation {
        let mut machine = Invocation::default();
        for (now, event) in &self.fed {
            machine.step(*now, event.clone());
        }
        machine
    }

    /// Writes an effect down and remembers what it opens or closes.
    fn note(&mut self, effect: &Effect) -> String {
        assert!(
            self.finished.is_none(),
            "an effect after `Finish`: {effect:?}\n{}",
            self.told
        );
        match effect {
            Effect::Reserve { id, quote } => {
                self.reserve = *id;
                self.quote = Some(*quote);
                "reserve".to_owned()
            }
            Effect::Settle {
                reservation,
                settlement,
            } => {
                // After a crash nobody knows whether the reservation was granted: it is settled anyway.
                self.open.remove(reservation);
                assert!(
                    self.settled.insert(*reservation),
                    "settled twice\n{}",
                    self.told
                );
                self.settlements.push(settlement.clone());
                match settlement {
                    Settlement::Used { .. } => "settle used".to_owned(),
                    Settlement::Forfeited => "settle forfeited".to_owned(),
                    Settlement::Released => "settle released".to_owned(),
                }
            }
            Effect::CallModel { id, request } => {
                assert!(
                    self.open.contains(&request.reservation),
                    "a call without a hold\n{}",
                    self.told
                );
                self.call_model = *id;
                self.requested_output = request.max_output_tokens;
                if request.purpose == CallPurpose::Summary {
                    return self.note_summary_call(&request.history);
                }
                let is_replaced = self.compactions < self.machine.totals().compactions;
                if is_replaced {
                    self.compactions = self.machine.totals().compactions;
                    self.history.clear();
                }
                let known = self.history.len();
                assert!(
                    request.history.len() >= known && request.history[..known] == self.history[..],
                    "the history was changed\n{}",
                    self.told
                );
                check_history(&request.history);
                let ends_with_reply = request
                    .history
                    .last()
                    .is_some_and(|last| matches!(**last, Message::Assistant(_)));
                assert!(
                    !ends_with_reply || self.paused,
                    "a request ends with a reply that was not paused\n{}",
                    self.told
                );
                self.history.clone_from(&request.history);
                let new = request.history[known..]
                    .iter()
                    .map(|message| format!(" + [{}]", show(message)));
                let new = new.collect::<String>();
                if is_replaced {
                    return format!("call ={}", &new[" +".len()..]);
                }
                format!("call{new}")
            }
            Effect::StopModel { id } => {
                assert_eq!(*id, self.call_model);
                "stop model".to_owned()
            }
            Effect::RunTool { id, request } => {
                let name = request.call.to_string();
                self.tools.insert(name.clone(), *id);
                format!("run {name}")
            }
            Effect::StopTool { id } => {
                let name = self.tools.iter().find(|(_, running)| *running == id);
                format!("stop {}", name.expect("only what runs is stopped").0)
            }
            Effect::SetTimer { id, at, purpose } => {
                let name = timer_name(*purpose);
                self.timers.insert(name, (*id, *at));
                match purpose {
                    // Jitter: only its bounds are a rule.
                    TimerPurpose::Backoff => "timer backoff".to_owned(),
                    TimerPurpose::Deadline | TimerPurpose::Contention | TimerPurpose::Grace => {
                        format!("timer {name} {:?}", at.since(self.now))
                    }
                }
            }
            Effect::Persist => "persist".to_owned(),
            Effect::Finish { outcome } => {
                self.finished = Some(outcome.clone());
                match outcome {
                    Outcome::Completed { text } if text.is_empty() => "finish completed".to_owned(),
                    Outcome::Completed { text } => format!("finish completed: {text}"),
                    other => format!("finish {}", other.kind()),
                }
            }
        }
    }

    /// The older part as it is, and the request.
    fn note_summary_call(&self, sent: &[Arc<Message>]) -> String {
        let (request, older) = sent.split_last().expect("a request is sent");
        assert_eq!(**request, compaction::summary_request());
        assert_eq!(*older, self.machine.history()[..older.len()]);
        check_history(sent);
        format!("summarize {}", older.len())
    }

    fn reservation(&self, effect: EffectId) -> ReservationId {
        ReservationId {
            invocation: self.spec.invocation,
            effect,
        }
    }

    fn tool(&self, call: &str) -> EffectId {
        *self
            .tools
            .get(call)
            .unwrap_or_else(|| panic!("call {call} was never run\n{}", self.told))
    }

    /// How long after now the timer is due.
    pub(super) fn timer_in(&self, name: &str) -> Duration {
        self.timers[name].1.since(self.now)
    }

    pub(super) fn outcome(&self) -> &Outcome {
        self.finished.as_ref().expect("it has ended")
    }

    /// The content of the result of a call, as the model sees it.
    pub(super) fn result_of(&self, call: &str) -> (&str, bool) {
        let results = self
            .machine
            .history()
            .iter()
            .flat_map(|message| match &**message {
                Message::User(blocks) => blocks.as_slice(),
                Message::Assistant(_) => &[],
            });
        let mut found = results.filter_map(|block| match block {
            UserBlock::ToolResult(result) if &*result.call.0 == call => {
                Some((&*result.content, result.is_error))
            }
            UserBlock::ToolResult(_) | UserBlock::Text(_) => None,
        });
        let result = found
            .next()
            .unwrap_or_else(|| panic!("no result of {call}"));
        assert!(found.next().is_none(), "two results of {call}");
        result
    }
}

/// Whether an invocation that ended so may leave calls open until it is resumed.
fn may_park(finished: Option<&Outcome>) -> bool {
    matches!(finished, Some(Outcome::DeadlineExceeded { .. })) || finished == Some(&AWAITING_PERSON)
}

/// What a provider checks of a history; written apart from the machine.
fn check_history(history: &[Arc<Message>]) {
    let mut ids = BTreeSet::new();
    let mut open: Vec<ToolCallId> = Vec::new();
    for (n, message) in history.iter().enumerate() {
        match &**message {
            Message::User(blocks) => {
                assert!(!blocks.is_empty(), "message {n} is empty");
                let results = blocks
                    .iter()
                    .take_while(|block| matches!(block, UserBlock::ToolResult(_)));
                let count = results.count();
                let answered: Vec<ToolCallId> = blocks
                    .iter()
                    .filter_map(|block| match block {
                        UserBlock::ToolResult(result) => Some(result.call.clone()),
                        UserBlock::Text(text) => {
                            assert!(!text.is_empty(), "message {n} has an empty text");
                            None
                        }
                    })
                    .collect();
                assert_eq!(count, answered.len(), "message {n}: results come first");
                assert_eq!(
                    answered, open,
                    "message {n}: one result for each call, in order"
                );
                open.clear();
            }
            Message::Assistant(message) => {
                assert!(n > 0, "the first message is the model's");
                assert!(open.is_empty(), "calls before message {n} have no results");
                assert!(!message.blocks.is_empty(), "message {n} is empty");
                for block in &message.blocks {
                    if let BlockView::ToolCall(call) = &block.view {
                        assert!(ids.insert(call.id.clone()), "call id {} twice", call.id);
                        open.push(call.id.clone());
                    }
                }
            }
        }
    }
    assert!(open.is_empty(), "the last calls have no results");
}

fn show(message: &Message) -> String {
    let parts: Vec<String> = match message {
        Message::User(blocks) => blocks
            .iter()
            .map(|block| match block {
                UserBlock::ToolResult(result) => {
                    format!(
                        "{} {}",
                        result.call,
                        if result.is_error { "error" } else { "ok" }
                    )
                }
                UserBlock::Text(text) if text.starts_with(compaction::LATEST_MARK) => {
                    "latest".to_owned()
                }
                UserBlock::Text(text) if compaction::replaced_replies(text).is_some() => {
                    format!("summary of {}", compaction::replaced_replies(text).unwrap())
                }
                UserBlock::Text(text) => text.split(' ').next().unwrap_or_default().to_lowercase(),
            })
            .collect(),
        Message::Assistant(message) => message
            .blocks
            .iter()
            .map(|block| match &block.view {
                BlockView::Text(_) => "say".to_owned(),
                BlockView::Thinking(_) => "think".to_owned(),
                BlockView::Opaque => "opaque".to_owned(),
                BlockView::ToolCall(call) => format!("{} {}", call.tool.as_str(), call.id),
            })
            .collect(),
    };
    parts.join(", ")
}

const fn timer_name(purpose: TimerPurpose) -> &'static str {
    match purpose {
        TimerPurpose::Deadline => "deadline",
        TimerPurpose::Backoff => "backoff",
        TimerPurpose::Contention => "contention",
        TimerPurpose::Grace => "grace",
    }
}

// What the invocation is told. -------------------------------------------------------------------------

/// An agent with one tool of each kind (`look`, `act`, `put`, `pay`), five minutes, ten turns.
pub(super) fn agent() -> InvocationSpec {
    let invocation = InvocationId::from_bytes([1; 16]);
    InvocationSpec {
        invocation,
        session: SessionId::from_bytes([2; 16]),
        task: TaskId::from_bytes([3; 16]),
        workflow: None,
        agent: AgentName::new("tester").unwrap(),
        model: Arc::new(model("vendor-model-5")),
        cache: CacheUse::FiveMinutes,
        system_prompt: Arc::from("Be exact."),
        tools: vec![
            tool("look", SideEffects::None, Repeatability::Repeatable),
            tool("act", SideEffects::Some, Repeatability::Unknown),
            tool("put", SideEffects::Some, Repeatability::Repeatable),
            tool("pay", SideEffects::Some, Repeatability::AskPerson),
        ],
        input: Arc::from("task"),
        compaction: None,
        transcript_messages: 200,
        tells_limits: false,
        limits: InvocationLimits {
            time: Limit::new(Duration::from_secs(300), "test"),
            turns: Limit::new(10, "test"),
            repetitions: 3,
            attempts: 3,
            max_output_tokens: 4_000,
            floor_output_tokens: 100,
            parallel_tools: 4,
        },
        scopes: vec![ScopeLimits {
            scope: ScopeKey::Invocation(invocation),
            cost: Some(Limit::new(Money::from_dollars(1), "test")),
            tokens: None,
        }],
        seed: 7,
    }
}

/// 3 USD per million tokens of input, 15 of output.
pub(super) fn model(id: &str) -> ModelSpec {
    let price = |dollars: u64| Money::from_picodollars(dollars * 1_000_000).unwrap();
    ModelSpec {
        id: ModelId::new(id).unwrap(),
        aliases: vec![ModelId::new("vendor-latest").unwrap()],
        context_window: 200_000,
        max_output_tokens: 64_000,
        prices: TokenPrices {
            input: price(3),
            output: price(15),
            cache_write_5m: price(4),
            cache_write_1h: price(6),
            cache_read: price(1),
        },
        long_context: None,
        surcharge_percent: 100,
        hidden_prompt_tokens: 0,
    }
}

fn tool(name: &str, side_effects: SideEffects, repeatability: Repeatability) -> ToolFacts {
    ToolFacts {
        name: ToolName::new(name).unwrap(),
        description: Arc::from(""),
        input_schema: Arc::from(r#"{"type":"object"}"#),
        side_effects,
        repeatability,
    }
}

/// `agent()` with other limits.
pub(super) fn limited(change: impl FnOnce(&mut InvocationLimits)) -> InvocationSpec {
    let mut spec = agent();
    change(&mut spec.limits);
    spec
}

pub(super) const AWAITING_PERSON: Outcome = Outcome::Cancelled {
    reason: CancelReason::AwaitingPerson,
};

pub(super) const USAGE: Usage = Usage {
    input_tokens: 1_000,
    output_tokens: 100,
    cache_read_tokens: 0,
    cache_write_5m_tokens: 0,
    cache_write_1h_tokens: 0,
    thinking_tokens: 0,
};

// What happens. ----------------------------------------------------------------------------------------

impl In {
    fn new(event: impl FnOnce(&mut Scene) -> Event + 'static) -> Self {
        Self(Box::new(event))
    }

    /// The same, `by` later.
    pub(super) fn after(self, by: Duration) -> Self {
        Self::new(move |scene| {
            scene.now = scene.now.after(by);
            (self.0)(scene)
        })
    }
}

impl In {
    /// The same, after the clock was set back.
    pub(super) fn set_back(self, by: Duration) -> Self {
        Self::new(move |scene| {
            let micros = u64::try_from(by.as_micros()).unwrap();
            scene.now = Timestamp::from_micros(scene.now.micros() - micros);
            (self.0)(scene)
        })
    }
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn start() -> In {
    In::new(|scene| Event::Started(scene.spec.clone()))
}

/// An event as it is, for answers that nobody asked for.
pub(super) fn stray(event: impl FnOnce(&Scene) -> Event + 'static) -> In {
    In::new(move |scene| event(scene))
}

pub(super) fn granted() -> In {
    In::new(|scene| {
        let wanted = scene.quote.expect("money was asked for").output_wanted;
        scene.grant(wanted)
    })
}

pub(super) fn granted_up_to(max_output_tokens: u64) -> In {
    In::new(move |scene| scene.grant(max_output_tokens))
}

impl Scene {
    fn grant(&self, max_output_tokens: u64) -> Event {
        let grant = Grant {
            max_output_tokens,
            held_cost: Money::from_dollars(1),
            held_tokens: max_output_tokens,
        };
        Event::ReservationGranted {
            effect: self.reserve,
            grant,
        }
    }

    pub(super) fn last_reserve(&self) -> EffectId {
        self.reserve
    }

    pub(super) fn last_quote(&self) -> Quote {
        self.quote.expect("money was asked for")
    }

    pub(super) fn last_call(&self) -> EffectId {
        self.call_model
    }

    /// Asks a ledger, as a store would, and returns its answer.
    pub(super) fn ask(&self, ledger: &mut crate::ledger::Ledger) -> Event {
        use crate::ledger::{ReserveOutcome, ReserveRequest};
        let effect = self.reserve;
        let request = ReserveRequest {
            id: self.reservation(effect),
            scopes: self.machine.spec().expect("started").scopes.clone(),
            quote: self.last_quote(),
        };
        match ledger.reserve(UtcDay(20_000), &request) {
            ReserveOutcome::Granted(grant) => Event::ReservationGranted { effect, grant },
            ReserveOutcome::OverLimit(denial) => Event::ReservationDenied { effect, denial },
            other => panic!("the ledger answers a new reservation with {other:?}"),
        }
    }
}

/// The store asks this ledger.
pub(super) fn asked(ledger: &Arc<std::sync::Mutex<crate::ledger::Ledger>>) -> In {
    let ledger = ledger.clone();
    In::new(move |scene| scene.ask(&mut ledger.lock().unwrap()))
}

fn denial(held: Money) -> Box<Denial> {
    Box::new(Denial {
        scope: Scope::Day(UtcDay(20_000)),
        resource: Resource::Cost,
        limit: Amount::Cost(Money::from_dollars(10)),
        spent: Amount::Cost(Money::from_dollars(2)),
        held: Amount::Cost(held),
        needed: Amount::Cost(Money::from_dollars(5)),
        origin: crate::agent::Origin::new("test"),
        latched: false,
    })
}

/// Others hold the money now.
pub(super) fn contended() -> In {
    In::new(|scene| Event::ReservationDenied {
        effect: scene.reserve,
        denial: denial(Money::from_dollars(6)),
    })
}

/// The money is spent.
pub(super) fn denied() -> In {
    In::new(|scene| {
        let mut denial = denial(Money::ZERO);
        denial.spent = Amount::Cost(Money::from_dollars(9));
        Event::ReservationDenied {
            effect: scene.reserve,
            denial,
        }
    })
}

pub(super) fn refused(reason: CancelReason) -> In {
    In::new(move |scene| Event::ReservationRefused {
        effect: scene.reserve,
        reason,
    })
}

fn received(index: u32, raw: &str, view: BlockView) -> In {
    let block = Arc::new(Block {
        raw: Arc::from(raw),
        view,
    });
    In::new(move |scene| Event::BlockReceived {
        effect: scene.call_model,
        index,
        block,
    })
}

pub(super) fn say(index: u32, text: &str) -> In {
    received(
        index,
        &format!(r#"{{"type":"text","text":"{text}"}}"#),
        BlockView::Text(Arc::from(text)),
    )
}

pub(super) fn think(index: u32) -> In {
    received(
        index,
        r#"{"type":"thinking"}"#,
        BlockView::Thinking(Arc::from("")),
    )
}

fn call(index: u32, id: &str, tool: ToolCallName, input: ToolInput) -> In {
    let view = BlockView::ToolCall(ToolCallBlock {
        id: ToolCallId(Arc::from(id)),
        tool,
        input,
    });
    received(
        index,
        &format!(r#"{{"type":"tool_use","id":"{id}"}}"#),
        view,
    )
}

/// A whole call of a known tool; `name` is the tool, `id` the call.
pub(super) fn wants(index: u32, name: &str, id: &str) -> In {
    wants_with(index, name, id, &format!(r#"{{"for":"{id}"}}"#))
}

pub(super) fn wants_with(index: u32, name: &str, id: &str, input: &str) -> In {
    call(
        index,
        id,
        ToolCallName::Known(ToolName::new(name).unwrap()),
        ToolInput::Object(Arc::from(input)),
    )
}

pub(super) fn wants_garbled(index: u32, name: &str, id: &str) -> In {
    let name = ToolCallName::Known(ToolName::new(name).unwrap());
    call(
        index,
        id,
        name,
        ToolInput::Invalid(Arc::from(r#"{"path": "#)),
    )
}

pub(super) fn wants_unknown(index: u32, name: &str, id: &str) -> In {
    call(
        index,
        id,
        ToolCallName::Unknown(Arc::from(name)),
        ToolInput::Object(Arc::from("{}")),
    )
}

/// The stream proves the call at `index` whole.
pub(super) fn whole(index: u32) -> In {
    In::new(move |scene| Event::ToolCallReceived {
        effect: scene.call_model,
        index,
    })
}

pub(super) fn ends(stop: StopReason) -> In {
    ends_with(ModelFinish {
        stop,
        usage: Some(USAGE),
        served_by: None,
    })
}

pub(super) fn ends_with(finish: ModelFinish) -> In {
    In::new(move |scene| Event::ModelFinished {
        effect: scene.call_model,
        finish,
    })
}

pub(super) fn failure(kind: ModelFailureKind) -> ModelFailure {
    ModelFailure {
        kind,
        message: Arc::from("the provider failed"),
        billing: Billing::Unknown,
        retry_after: None,
        should_retry: None,
        status: None,
        request_id: None,
    }
}

pub(super) fn breaks() -> In {
    fails(failure(ModelFailureKind::CutStream))
}

pub(super) fn fails(failure: ModelFailure) -> In {
    In::new(move |scene| Event::ModelFailed {
        effect: scene.call_model,
        failure,
    })
}

pub(super) fn done(call: &str) -> In {
    let content = format!("result of {call}");
    tool_ends(call, ToolEnding::Succeeded, &content)
}

pub(super) fn tool_ends(call: &str, ending: ToolEnding, content: &str) -> In {
    let (call, content) = (call.to_owned(), Arc::from(content));
    In::new(move |scene| Event::ToolFinished {
        effect: scene.tool(&call),
        result: ToolResult {
            content,
            ending,
            duration: Duration::ZERO,
        },
    })
}

/// The timer of that name is due; the clock moves there.
pub(super) fn due(timer: &'static str) -> In {
    In::new(move |scene| {
        let (effect, at) = *scene
            .timers
            .get(timer)
            .unwrap_or_else(|| panic!("timer {timer} is not set\n{}", scene.told));
        scene.now = scene.now.max(at);
        Event::TimerFired { effect }
    })
}

pub(super) fn cancel(reason: CancelReason) -> In {
    In::new(move |_| Event::CancelRequested(reason))
}

/// Otto is back after its death; limits as they were.
pub(super) fn back() -> In {
    back_with(|_| {})
}

/// Otto is back, with something changed.
pub(super) fn back_with(change: impl FnOnce(&mut Resumption) + 'static) -> In {
    In::new(move |scene| {
        let spec = scene.machine.spec().expect("started").clone();
        let mut resumption = Resumption {
            limits: spec.limits.clone(),
            scopes: spec.scopes.clone(),
            decision: None,
        };
        change(&mut resumption);
        // What was running died with the process.
        scene.tools.clear();
        scene.timers.clear();
        Event::Resumed(Arc::new(resumption))
    })
}

pub(super) fn back_decided(decision: UnknownCallDecision) -> In {
    back_with(move |resumption| resumption.decision = Some(decision))
}
