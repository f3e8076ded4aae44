//! Faults planted on purpose between the machine and the world: each is a defect that the machine could have.
//!
//! They show that the judge is awake. A rule that no planted fault can break is a rule that nobody checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::Money;
use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{
    CallPurpose, Effect, Event, Invocation, ModelRequest, Outcome, Repeatability, SideEffects,
    TimerPurpose, ToolRequest,
};
use otto_core::ledger::{Quote, Settlement};
use otto_core::message::{
    AssistantMessage, Block, BlockView, Message, ToolCallName, ToolInput, UserBlock,
};

use crate::chance::Draw;
use crate::world::Key;

macro_rules! planted_faults {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A defect to plant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PlantedFault {
            $($(#[$doc])* $name,)+
        }

        impl PlantedFault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

planted_faults! {
    /// A settlement is left out.
    SkippedSettlement,
    /// A settlement is made twice.
    DoubledSettlement,
    /// Half of the real cost is settled.
    CheapSettlement,
    /// A hold of unknown fate is given back.
    RefundOnGuess,
    /// A denied reservation is settled.
    SettledDenial,
    /// The call is sent when the money is asked for, not when it is granted.
    UngrantedCall,
    /// A denial is taken for a grant.
    IgnoredDenial,
    /// The request asks for more output than was granted.
    GreedyRequest,
    /// The bound of the prompt is half of what it should be.
    LowQuote,
    /// The last turn is sent again.
    ResentTurn,
    /// A result is left out.
    DroppedResult,
    /// A result is given twice.
    DoubledResult,
    /// A result is not what the tool returned.
    ForgedResult,
    /// A text stands before the results.
    TextBeforeResults,
    /// An early message is changed.
    EditedHistory,
    /// A compacted history has another task.
    ForgottenTask,
    /// A compacted history holds a summary that nobody made.
    InventedSummary,
    /// A compacted history keeps the thinking of its turns.
    KeptThinking,
    /// A compacted history drops the last turn.
    ForgottenTurn,
    /// A compacted history forgets what is pinned.
    ForgottenPins,
    /// A summary is asked for of less than is replaced.
    PartialSummary,
    /// A call in a summary is run.
    RunSummary,
    /// A call with side effects starts when its block is complete.
    UnprovenCall,
    /// A call starts whose input is not an object.
    InvalidCall,
    /// A side effect begins before its intent is durable.
    ForgottenPersist,
    /// A call is run twice.
    DoubledRun,
    /// A proven call with side effects starts beside others.
    BrokenBarrier,
    /// A call of unknown outcome is run again after a crash.
    BlindRerun,
    /// Something begins after a stop.
    LateStart,
    /// The end is told twice.
    DoubledFinish,
    /// The end is not told.
    ForgottenFinish,
    /// The end is told as another.
    FalseOutcome,
    /// The time limit is not watched.
    ForgottenDeadline,
    /// An event is not journaled.
    ForgottenEntry,
    /// The journal keeps less of an event than there was.
    CarelessCodec,
    /// The machine stops without a reason.
    NeedlessStop,
    /// The machine panics.
    PanickingMachine,
    /// The ledger grants what is over a limit.
    GenerousLedger,
    /// The ledger forgets a settlement.
    LostSettlement,
    /// What happens depends on more than the seed.
    UnstableWorld,
}

/// A planted fault and what it needs to remember.
#[derive(Debug)]
pub(crate) struct Plant {
    fault: PlantedFault,
    draw: Draw,
    blocks: BTreeMap<(Key, u32), Arc<Block>>,
    /// The last call with side effects of each invocation that may not be repeated.
    acted: BTreeMap<usize, ToolRequest>,
    made: u64,
}

impl Plant {
    pub(crate) fn new(seed: u64, fault: PlantedFault) -> Self {
        Self {
            fault,
            draw: Draw::stream(seed, 9, 0),
            blocks: BTreeMap::new(),
            acted: BTreeMap::new(),
            made: 0,
        }
    }

    /// Whether this occasion is taken: a defect does not show every time.
    fn strikes(&mut self) -> bool {
        self.draw.happens(500)
    }

    /// Whether a planted fault shows now.
    pub(crate) fn shows(&mut self, fault: PlantedFault) -> bool {
        self.fault == fault && self.strikes()
    }

    /// The effects of a step, as a machine with the defect would have wished for them.
    pub(crate) fn change(
        &mut self,
        key: Key,
        event: &Event,
        machine: &Invocation,
        effects: Vec<Effect>,
    ) -> Vec<Effect> {
        if let Event::BlockReceived { index, block, .. } = event {
            self.blocks.insert((key, *index), block.clone());
        }
        let mut changed = Vec::with_capacity(effects.len() + 1);
        self.before(key, event, machine, &mut changed);
        for effect in effects {
            self.one(key, effect, machine, &mut changed);
        }
        changed
    }

    /// What is wished for before anything else.
    fn before(&mut self, key: Key, event: &Event, machine: &Invocation, out: &mut Vec<Effect>) {
        if self.fault == PlantedFault::RunSummary
            && machine.summarizing().is_some()
            && let Event::BlockReceived { block, .. } = event
            && let Some(request) = call_of(block)
                .filter(|call| call.is_object)
                .and_then(|call| call.request(machine))
        {
            return self.run(request, out);
        }
        let proven = match event {
            Event::ToolCallReceived { index, .. } => self.blocks.get(&(key, *index)).cloned(),
            _ => None,
        };
        let request = match (self.fault, event) {
            (PlantedFault::UnprovenCall, Event::BlockReceived { block, .. }) => call_of(block)
                .filter(|call| call.side_effects(machine) == SideEffects::Some && call.is_object),
            (PlantedFault::InvalidCall, Event::BlockReceived { block, .. }) => {
                call_of(block).filter(|call| !call.is_object)
            }
            (PlantedFault::BrokenBarrier, Event::ToolCallReceived { .. }) => {
                let call = proven.as_deref().and_then(call_of);
                call.filter(|call| call.side_effects(machine) == SideEffects::Some)
            }
            (PlantedFault::BlindRerun, Event::Resumed(_)) => {
                if let Some(request) = self.acted.get(&key.who).cloned() {
                    self.run(request, out);
                }
                return;
            }
            (PlantedFault::LateStart, Event::CancelRequested(_)) => {
                let id = self.new_effect();
                out.push(Effect::Reserve {
                    id,
                    quote: NO_QUOTE,
                });
                return;
            }
            (PlantedFault::SettledDenial, Event::ReservationDenied { effect, .. }) => {
                if let Some(spec) = machine.spec() {
                    let reservation = ReservationId {
                        invocation: spec.invocation,
                        effect: *effect,
                    };
                    out.push(Effect::Settle {
                        reservation,
                        settlement: Settlement::Released,
                    });
                }
                return;
            }
            _ => None,
        };
        if let Some(call) = request
            && self.strikes()
            && let Some(request) = call.request(machine)
        {
            self.run(request, out);
        }
    }

    fn run(&mut self, request: ToolRequest, out: &mut Vec<Effect>) {
        let id = self.new_effect();
        out.push(Effect::Persist);
        out.push(Effect::RunTool { id, request });
    }

    fn new_effect(&mut self) -> EffectId {
        self.made += 1;
        EffectId(1_000_000_000 + self.made)
    }

    /// One effect, changed, left out or doubled.
    fn one(&mut self, key: Key, effect: Effect, machine: &Invocation, out: &mut Vec<Effect>) {
        if let Effect::RunTool { request, .. } = &effect {
            let tool = machine
                .spec()
                .and_then(|spec| spec.tools.iter().find(|tool| tool.name == request.tool));
            if tool.is_some_and(|tool| tool.repeatability == Repeatability::Unknown) {
                self.acted.insert(key.who, request.clone());
            }
        }
        match (self.fault, effect) {
            (PlantedFault::SkippedSettlement, Effect::Settle { .. }) if self.strikes() => {}
            (PlantedFault::DoubledSettlement, effect @ Effect::Settle { .. }) if self.strikes() => {
                out.push(effect.clone());
                out.push(effect);
            }
            (
                PlantedFault::CheapSettlement,
                Effect::Settle {
                    reservation,
                    settlement: Settlement::Used { usage, cost },
                },
            ) => {
                let cost = Money::from_picodollars(cost.picodollars() / 2).unwrap_or(cost);
                out.push(Effect::Settle {
                    reservation,
                    settlement: Settlement::Used { usage, cost },
                });
            }
            (
                PlantedFault::RefundOnGuess,
                Effect::Settle {
                    reservation,
                    settlement: Settlement::Forfeited,
                },
            ) => {
                out.push(Effect::Settle {
                    reservation,
                    settlement: Settlement::Released,
                });
            }
            (PlantedFault::UngrantedCall, effect @ Effect::Reserve { .. }) => {
                let ahead = self.ungranted(&effect, machine);
                out.push(effect);
                out.extend(ahead);
            }
            (PlantedFault::LowQuote, Effect::Reserve { id, quote }) => {
                let prompt_cost = Money::from_picodollars(quote.prompt_cost.picodollars() / 2);
                let quote = Quote {
                    prompt_tokens: quote.prompt_tokens / 2,
                    prompt_cost: prompt_cost.unwrap_or(quote.prompt_cost),
                    ..quote
                };
                out.push(Effect::Reserve { id, quote });
            }
            (_, Effect::CallModel { id, mut request }) => {
                self.change_request(&mut request);
                self.change_compacted(key, &mut request);
                out.push(Effect::CallModel { id, request });
            }
            (PlantedFault::ForgottenPersist, Effect::Persist) if self.strikes() => {}
            (PlantedFault::DoubledRun, Effect::RunTool { id, request }) if self.strikes() => {
                out.push(Effect::RunTool {
                    id,
                    request: request.clone(),
                });
                self.run(request, out);
            }
            (PlantedFault::DoubledFinish, effect @ Effect::Finish { .. }) if self.strikes() => {
                out.push(effect.clone());
                out.push(effect);
            }
            (PlantedFault::ForgottenFinish, Effect::Finish { .. }) if self.strikes() => {}
            (PlantedFault::FalseOutcome, Effect::Finish { .. }) if self.strikes() => {
                out.push(Effect::Finish {
                    outcome: Outcome::Completed {
                        text: Arc::from("all is well"),
                    },
                });
            }
            (
                PlantedFault::ForgottenDeadline,
                Effect::SetTimer {
                    purpose: TimerPurpose::Deadline,
                    ..
                },
            ) => {}
            (_, effect) => out.push(effect),
        }
    }

    fn ungranted(&mut self, reserve: &Effect, machine: &Invocation) -> Option<Effect> {
        let Effect::Reserve { id, .. } = reserve else {
            return None;
        };
        let reservation = ReservationId {
            invocation: machine.spec()?.invocation,
            effect: *id,
        };
        let request = ModelRequest {
            reservation,
            purpose: CallPurpose::Turn,
            history: machine.history().to_vec(),
            max_output_tokens: 100,
        };
        Some(Effect::CallModel {
            id: self.new_effect(),
            request,
        })
    }

    /// What a careless compaction would send.
    fn change_compacted(&self, key: Key, request: &mut ModelRequest) {
        if request.purpose == CallPurpose::Summary {
            if self.fault == PlantedFault::PartialSummary && request.history.len() > 3 {
                request.history.drain(1..3);
            }
            return;
        }
        let Some(Message::User(blocks)) = request.history.first().map(|first| &**first) else {
            return;
        };
        let [
            UserBlock::Text(task),
            UserBlock::Text(summary),
            latest @ UserBlock::Text(_),
        ] = blocks.as_slice()
        else {
            return;
        };
        let first = |task: &str, summary: &str| {
            Arc::new(Message::User(vec![
                UserBlock::Text(Arc::from(task)),
                UserBlock::Text(Arc::from(summary)),
                latest.clone(),
            ]))
        };
        match self.fault {
            PlantedFault::ForgottenTask => request.history[0] = first("another task", summary),
            PlantedFault::InventedSummary => {
                let mark = summary.lines().next().unwrap_or_default();
                request.history[0] = first(task, &format!("{mark}\nAll is well."));
            }
            PlantedFault::ForgottenPins => {
                let unpinned = summary.split("\n\nCalls whose").next().unwrap_or_default();
                request.history[0] = first(task, unpinned);
            }
            PlantedFault::ForgottenTurn => {
                let blocks = blocks[..2].to_vec();
                request.history[0] = Arc::new(Message::User(blocks));
            }
            PlantedFault::KeptThinking => {
                let thinking = self.blocks.iter().find(|((of, _), block)| {
                    *of == key && matches!(block.view, BlockView::Thinking(_))
                });
                if let Some((_, block)) = thinking
                    && request.history.len() == 1
                {
                    let reply = AssistantMessage {
                        blocks: vec![block.clone()],
                        output_tokens_bound: 0,
                    };
                    request.history.push(Arc::new(Message::Assistant(reply)));
                    request.history.push(Arc::new(Message::user_text("Go on.")));
                }
            }
            _ => {}
        }
    }

    fn change_request(&mut self, request: &mut ModelRequest) {
        if self.fault == PlantedFault::GreedyRequest && self.strikes() {
            request.max_output_tokens += 1;
        }
        let last_is_results = request.history.last().is_some_and(|last| results(last) > 0);
        if self.fault == PlantedFault::ResentTurn && last_is_results {
            let kept = request.history.len() - 2;
            request.history.truncate(kept);
            return;
        }
        let at = match self.fault {
            PlantedFault::EditedHistory if request.history.len() > 1 => 0,
            PlantedFault::DroppedResult
            | PlantedFault::DoubledResult
            | PlantedFault::ForgedResult
            | PlantedFault::TextBeforeResults
                if last_is_results =>
            {
                request.history.len() - 1
            }
            _ => return,
        };
        let Message::User(blocks) = &*request.history[at] else {
            return;
        };
        let mut blocks = blocks.clone();
        match self.fault {
            PlantedFault::EditedHistory => blocks[0] = UserBlock::Text(Arc::from("another task")),
            PlantedFault::DroppedResult => drop(blocks.pop()),
            PlantedFault::DoubledResult => blocks.push(blocks[0].clone()),
            PlantedFault::TextBeforeResults => {
                blocks.insert(0, UserBlock::Text(Arc::from("Here you are.")))
            }
            PlantedFault::ForgedResult => {
                if let UserBlock::ToolResult(result) = &mut blocks[0] {
                    result.content = Arc::from("all is well");
                    result.is_error = false;
                }
            }
            _ => {}
        }
        request.history[at] = Arc::new(Message::User(blocks));
    }
}

const NO_QUOTE: Quote = Quote {
    prompt_tokens: 0,
    prompt_cost: Money::ZERO,
    output_price: Money::ZERO,
    output_wanted: 0,
    output_floor: 0,
};

struct Call<'a> {
    block: &'a Block,
    is_object: bool,
}

fn call_of(block: &Block) -> Option<Call<'_>> {
    match &block.view {
        BlockView::ToolCall(call) => Some(Call {
            block,
            is_object: matches!(call.input, ToolInput::Object(_)),
        }),
        BlockView::Text(_) | BlockView::Thinking(_) | BlockView::Opaque => None,
    }
}

impl Call<'_> {
    fn side_effects(&self, machine: &Invocation) -> SideEffects {
        self.request(machine)
            .map_or(SideEffects::None, |request| request.side_effects)
    }

    fn request(&self, machine: &Invocation) -> Option<ToolRequest> {
        let BlockView::ToolCall(call) = &self.block.view else {
            return None;
        };
        let ToolCallName::Known(name) = &call.tool else {
            return None;
        };
        let facts = machine
            .spec()?
            .tools
            .iter()
            .find(|tool| tool.name == *name)?;
        let (ToolInput::Object(input) | ToolInput::Invalid(input)) = &call.input;
        Some(ToolRequest {
            call: call.id.clone(),
            tool: name.clone(),
            input: input.clone(),
            side_effects: facts.side_effects,
        })
    }
}

fn results(message: &Message) -> usize {
    match message {
        Message::User(blocks) => blocks
            .iter()
            .filter(|block| matches!(block, UserBlock::ToolResult(_)))
            .count(),
        Message::Assistant(_) => 0,
    }
}
