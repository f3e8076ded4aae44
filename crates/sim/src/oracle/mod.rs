//! The judge: it hears every event and every effect, remembers what it needs, and says when a rule is broken.
//!
//! It is written from the rules, not from the machine: it never looks into the machine's state, and what it
//! knows of calls and bills comes from those who made them up.
//!
//! Invariant: it changes nothing in the world.

mod compaction;
mod ending;
mod history;
mod model;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{
    CallPurpose, CancelReason, Effect, Event, InvocationSpec, ModelFailure, ModelFinish,
    StopReason, TimerPurpose, ToolEnding, UnknownCallDecision,
};
use otto_core::ledger::Denial;
use otto_core::message::{Block, BlockView, Message, ToolInput};
use otto_core::{Timestamp, ToolCallId};

use crate::provider::CallFacts;
use crate::rule::{Held, Rule, require};
use crate::world::Key;

/// What the judge knows.
#[derive(Debug)]
pub(crate) struct Oracle {
    known: Vec<Known>,
    sights: BTreeMap<Key, Sight>,
    /// Nothing goes wrong in this world.
    is_calm: bool,
}

/// What is true of an invocation, whoever drives it.
#[derive(Debug, Default)]
struct Known {
    /// Every call that was ever offered, by id and input.
    calls: BTreeMap<(ToolCallId, Arc<str>), CallFacts>,
    /// Calls that the stream has proven whole.
    proven: BTreeSet<(ToolCallId, Arc<str>)>,
    /// How often each call with side effects has begun.
    executed: BTreeMap<ToolCallId, u32>,
    /// Everything a tool has ever answered.
    answers: BTreeMap<ToolCallId, BTreeSet<Arc<str>>>,
    /// The history of the last request.
    history: Vec<Arc<Message>>,
    history_calls: BTreeSet<ToolCallId>,
    /// Reservations that a call was made under.
    used: BTreeSet<ReservationId>,
    /// Raw blocks of replies that were paused: a history may end with them.
    paused: BTreeSet<Arc<str>>,
    /// Texts of replies that an invocation can have completed with. It may be told again after a crash.
    last_words: BTreeSet<String>,
    /// Every summary that the model has given.
    summaries: BTreeSet<String>,
    refused: bool,
    /// Running time of all stretches.
    ran: Duration,
}

/// What happened in one stretch of one AgentServer.
#[derive(Debug)]
struct Sight {
    spec: Arc<InvocationSpec>,
    began: Timestamp,
    last: Timestamp,
    /// How long it stood still.
    frozen: Duration,
    decision: Option<UnknownCallDecision>,
    deadline: Option<EffectId>,
    reserving: Option<EffectId>,
    granted: BTreeMap<EffectId, u64>,
    denied: BTreeSet<EffectId>,
    call: Option<OpenCall>,
    /// What the provider has said about each reservation's call.
    endings: BTreeMap<ReservationId, CallEnding>,
    /// Running calls, by effect.
    running: BTreeMap<EffectId, Running>,
    started: BTreeSet<ToolCallId>,
    /// What was answered while it was still wanted, and must be in the history.
    accepted: BTreeMap<ToolCallId, (Arc<str>, bool)>,
    heard: Heard,
    stopped: bool,
    finished: bool,
}

#[derive(Debug)]
struct OpenCall {
    effect: EffectId,
    reservation: ReservationId,
    purpose: CallPurpose,
    blocks: BTreeMap<u32, Arc<Block>>,
}

#[derive(Debug, Clone, PartialEq)]
enum CallEnding {
    Finished(ModelFinish),
    Failed(ModelFailure),
}

#[derive(Debug)]
struct Running {
    call: ToolCallId,
    has_side_effects: bool,
    is_stopped: bool,
}

/// What an outcome may refer to.
#[derive(Debug, Default)]
struct Heard {
    denial: Option<Box<Denial>>,
    failures: Vec<ModelFailure>,
    stops: Vec<StopReason>,
    text: String,
    cancels: Vec<CancelReason>,
    operator_fault: bool,
}

/// What the world knows when an effect is wished for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) at: Timestamp,
    /// Everything that led here is durable.
    pub(crate) is_durable: bool,
    /// The reservation of a call is open.
    pub(crate) is_held: bool,
    /// The session was taken over: this owner goes on for a while without knowing it.
    pub(crate) is_stale: bool,
}

impl Oracle {
    pub(crate) fn new(invocations: usize, is_calm: bool) -> Self {
        let known = (0..invocations).map(|_| Known::default()).collect();
        Self {
            known,
            sights: BTreeMap::new(),
            is_calm,
        }
    }

    /// A stretch begins.
    pub(crate) fn begins(
        &mut self,
        key: Key,
        at: Timestamp,
        spec: Arc<InvocationSpec>,
        decision: Option<UnknownCallDecision>,
    ) {
        let sight = Sight {
            spec,
            began: at,
            last: at,
            frozen: Duration::ZERO,
            decision,
            deadline: None,
            reserving: None,
            granted: BTreeMap::new(),
            denied: BTreeSet::new(),
            call: None,
            endings: BTreeMap::new(),
            running: BTreeMap::new(),
            started: BTreeSet::new(),
            accepted: BTreeMap::new(),
            heard: Heard::default(),
            stopped: false,
            finished: false,
        };
        self.sights.insert(key, sight);
    }

    /// A stretch is over: it has finished, or its process is dead.
    pub(crate) fn ends(&mut self, key: Key) {
        if let Some(sight) = self.sights.remove(&key) {
            self.known[key.who].ran += sight.last.since(sight.began);
        }
    }

    pub(crate) fn stands_still(&mut self, key: Key, time: Duration) {
        if let Some(sight) = self.sights.get_mut(&key) {
            sight.frozen += time;
        }
    }

    /// The provider has made up calls.
    pub(crate) fn offered(&mut self, who: usize, calls: &[CallFacts]) {
        for facts in calls {
            let id = (facts.id.clone(), facts.input.clone());
            self.known[who]
                .calls
                .entry(id)
                .or_insert_with(|| facts.clone());
        }
    }

    /// An event, before the machine sees it.
    pub(crate) fn hears(&mut self, key: Key, at: Timestamp, event: &Event) {
        let Some(sight) = self.sights.get_mut(&key) else {
            return;
        };
        let known = &mut self.known[key.who];
        sight.last = sight.last.max(at);
        match event {
            Event::Started(_) | Event::Resumed(_) => {}
            Event::ReservationGranted { effect, grant } => {
                if sight.reserving == Some(*effect) {
                    sight.reserving = None;
                    sight.granted.insert(*effect, grant.max_output_tokens);
                }
            }
            Event::ReservationDenied { effect, denial } => {
                if sight.reserving == Some(*effect) {
                    sight.reserving = None;
                    sight.denied.insert(*effect);
                    sight.heard.denial = Some(denial.clone());
                }
            }
            Event::ReservationRefused { effect, reason } => {
                if sight.reserving == Some(*effect) {
                    sight.reserving = None;
                    sight.denied.insert(*effect);
                    sight.heard.cancels.push(*reason);
                    sight.stopped = true;
                }
            }
            Event::BlockReceived {
                effect,
                index,
                block,
            } => {
                if let Some(call) = sight.open_call(*effect) {
                    call.blocks.entry(*index).or_insert_with(|| block.clone());
                }
            }
            Event::ToolCallReceived { effect, index } => {
                let view = sight
                    .open_call(*effect)
                    .filter(|call| call.purpose == CallPurpose::Turn)
                    .and_then(|call| call.blocks.get(index));
                known.proven.extend(view.and_then(|block| call_of(block)));
            }
            Event::ModelFinished { effect, finish } => {
                let Some(call) = sight.call.take_if(|call| call.effect == *effect) else {
                    return;
                };
                let text: String = call
                    .blocks
                    .values()
                    .filter_map(|block| text_of(block))
                    .collect();
                sight
                    .endings
                    .insert(call.reservation, CallEnding::Finished(finish.clone()));
                if call.purpose == CallPurpose::Summary {
                    // It is said to the machine only: nothing of it is run, and nothing ends with it.
                    if !text.trim().is_empty() {
                        known.summaries.insert(text.trim().to_owned());
                    }
                    return;
                }
                if finish.stop == StopReason::ToolUse {
                    known
                        .proven
                        .extend(call.blocks.values().filter_map(|block| call_of(block)));
                }
                if finish.stop == StopReason::PauseTurn {
                    known
                        .paused
                        .extend(call.blocks.values().map(|block| block.raw.clone()));
                }
                sight.heard.text = text;
                sight.heard.stops.push(finish.stop.clone());
                if ending::is_end(&finish.stop) {
                    known.last_words.insert(sight.heard.text.clone());
                }
                if let StopReason::Refusal { .. } = finish.stop {
                    sight.stopped = true;
                    known.refused = true;
                }
            }
            Event::ModelFailed { effect, failure } => {
                let Some(call) = sight.call.take_if(|call| call.effect == *effect) else {
                    return;
                };
                sight.heard.failures.push(failure.clone());
                sight
                    .endings
                    .insert(call.reservation, CallEnding::Failed(failure.clone()));
            }
            Event::ToolFinished { effect, result } => {
                let Some(running) = sight.running.remove(effect) else {
                    return;
                };
                let answers = known.answers.entry(running.call.clone()).or_default();
                answers.insert(result.content.clone());
                let is_error = result.ending != ToolEnding::Succeeded;
                if !running.is_stopped {
                    sight
                        .accepted
                        .insert(running.call, (result.content.clone(), is_error));
                    if result.ending == ToolEnding::OperatorFault {
                        sight.heard.operator_fault = true;
                        sight.stopped = true;
                    }
                }
            }
            Event::TimerFired { effect } => {
                if sight.deadline == Some(*effect) {
                    sight.stopped = true;
                }
            }
            Event::CancelRequested(reason) => {
                sight.heard.cancels.push(*reason);
                sight.stopped = true;
            }
        }
    }

    /// An effect, before it is performed.
    pub(crate) fn judges(&mut self, key: Key, effect: &Effect, at: Circumstances) -> Held {
        let elsewhere = self.ran_elsewhere(key);
        let Some(sight) = self.sights.get_mut(&key) else {
            return Ok(());
        };
        let known = &mut self.known[key.who];
        require(!sight.finished, Rule::OneFinish, || {
            format!("{effect:?} after the end")
        })?;
        let begins = matches!(
            effect,
            Effect::Reserve { .. } | Effect::CallModel { .. } | Effect::RunTool { .. }
        );
        require(!(begins && sight.stopped), Rule::NothingAfterStop, || {
            format!("{effect:?} after a stop")
        })?;
        match effect {
            Effect::Reserve { id, .. } => {
                require(sight.reserving.is_none(), Rule::CallIsHeld, || {
                    format!("reservation {id} beside another")
                })?;
                sight.reserving = Some(*id);
                Ok(())
            }
            // The store turns a stale owner's settlement away.
            Effect::Settle { .. } if at.is_stale => Ok(()),
            Effect::Settle {
                reservation,
                settlement,
            } => sight.settles(known, *reservation, settlement),
            Effect::CallModel { id, request } => sight.calls_model(known, *id, request, at),
            Effect::StopModel { id } => {
                sight.call.take_if(|call| call.effect == *id);
                Ok(())
            }
            Effect::RunTool { id, request } => sight.runs_tool(known, *id, request, at),
            Effect::StopTool { id } => {
                if let Some(running) = sight.running.get_mut(id) {
                    running.is_stopped = true;
                }
                Ok(())
            }
            Effect::SetTimer { id, purpose, .. } => {
                if *purpose == TimerPurpose::Deadline {
                    sight.deadline = Some(*id);
                }
                Ok(())
            }
            Effect::Persist => Ok(()),
            Effect::Finish { outcome } => {
                sight.finished = true;
                sight.finishes(known, outcome, at, elsewhere, self.is_calm)
            }
        }
    }

    /// Running time of the other stretches of an invocation, those that were replaced included.
    fn ran_elsewhere(&self, key: Key) -> Duration {
        let others = self
            .sights
            .iter()
            .filter(|(other, _)| other.who == key.who && **other != key);
        others.fold(self.known[key.who].ran, |sum, (_, sight)| {
            sum + sight.last.since(sight.began)
        })
    }

    /// Every stretch that has not ended by now never will.
    pub(crate) fn everything_ended(&self) -> Held {
        for (key, sight) in &self.sights {
            require(sight.finished, Rule::EndsInTime, || {
                format!("#{} never ended", key.who)
            })?;
        }
        Ok(())
    }

    /// How often each call with side effects has begun.
    pub(crate) fn executions(&self) -> u64 {
        self.known
            .iter()
            .flat_map(|known| known.executed.values())
            .map(|count| u64::from(*count))
            .sum()
    }
}

impl Sight {
    fn open_call(&mut self, effect: EffectId) -> Option<&mut OpenCall> {
        self.call.as_mut().filter(|call| call.effect == effect)
    }
}

fn call_of(block: &Block) -> Option<(ToolCallId, Arc<str>)> {
    match &block.view {
        BlockView::ToolCall(call) => {
            let (ToolInput::Object(input) | ToolInput::Invalid(input)) = &call.input;
            Some((call.id.clone(), input.clone()))
        }
        BlockView::Text(_) | BlockView::Thinking(_) | BlockView::Opaque => None,
    }
}

fn text_of(block: &Block) -> Option<&str> {
    match &block.view {
        BlockView::Text(text) if !text.trim().is_empty() => Some(text),
        BlockView::Text(_)
        | BlockView::ToolCall(_)
        | BlockView::Thinking(_)
        | BlockView::Opaque => None,
    }
}
