//! The machine itself: what each event leads to.
//!
//! Reading order: `step` dispatches; `begin_turn` asks for money; `granted` calls the model. How its reply ends
//! is in `reply.rs`, what becomes of the reply's calls in `calls.rs`, stopping in `stop.rs`, coming back after a
//! crash in `resume.rs`, shortening the history in `compact.rs`, the bookkeeping of one reply in `turn.rs`.
//!
//! Invariant: a step never fails and never panics, whatever the order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Limit;
use crate::id::{EffectId, ReservationId};
use crate::invocation::compact::Compaction;
use crate::invocation::note::Told;
use crate::invocation::stop::{Parked, Stopping};
use crate::invocation::turn::{OpenCall, Turn};
use crate::invocation::{
    CallPurpose, CancelReason, Effect, Event, InvocationSpec, ModelRequest, Outcome, TimerPurpose,
};
use crate::ledger::{
    Amount, Denial, Grant, Quote, Resource, Scope, Settlement, message_bound, text_bound,
    tool_definition_bound,
};
use crate::message::Message;
use crate::model::Usage;
use crate::{Money, Timestamp, ToolCallId};

/// One invocation: a value that changes only in [`Invocation::step`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invocation {
    pub(super) spec: Option<Arc<InvocationSpec>>,
    pub(super) phase: Phase,
    pub(super) history: Vec<Arc<Message>>,
    /// Token bound of each message of the history.
    pub(super) bounds: Vec<u64>,
    /// What the provider has counted of the history so far.
    pub(super) counted: Option<Counted>,
    /// Bound of system prompt, tools and envelope.
    pub(super) prefix_bound: u64,
    pub(super) compaction: Compaction,
    pub(super) last_effect: u64,
    pub(super) deadline: Option<EffectId>,
    /// When the present stretch of running began.
    pub(super) running_since: Timestamp,
    /// Time spent running before that.
    pub(super) time_used: Duration,
    pub(super) last_seen: Timestamp,
    pub(super) turns: u32,
    /// Failed attempts since the last good reply.
    pub(super) failed_attempts: u32,
    /// The next attempt is not made before this time: the wait after a failure.
    pub(super) not_before: Timestamp,
    /// Waits for contended money since the last grant.
    contended_waits: u32,
    /// Turns in a row that were asked for only to bring one reply to its end.
    pub(super) continuations: u32,
    /// The provider paused the last reply: it is sent back as it is, the history ends with it.
    pub(super) paused: bool,
    /// Ids of all calls in the history.
    pub(super) seen_calls: BTreeSet<ToolCallId>,
    /// How often the same call gave the same result, by a hash of both.
    pub(super) repetitions: BTreeMap<u64, u32>,
    random: u64,
    /// Of which limits the model was told.
    pub(super) told: Told,
    pub(super) totals: Totals,
}

/// What an invocation has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Tokens by class, as reported.
    pub usage: Usage,
    /// Money of settled calls; calls charged at their hold are in the ledger only.
    pub cost: Money,
    /// Model calls that were sent.
    pub calls: u32,
    /// Of these, calls whose hold is charged because no usage record came.
    pub unconfirmed_calls: u32,
    /// Tool calls that ran.
    pub tool_calls: u32,
    /// How often the history was compacted.
    pub compactions: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// Prompt and output tokens of the last counted reply.
    pub(super) tokens: u64,
    /// Messages of the history that they cover.
    pub(super) messages: usize,
}

/// A reservation that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reserving {
    pub(super) effect: EffectId,
    /// The call will be no turn but a summary of what stands before this position of the history.
    pub(super) summarizes: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Before `Started`.
    #[default]
    New,
    /// Money was asked for.
    Reserving(Reserving),
    /// The model answers.
    Calling(Turn),
    /// The reply is in the history; its calls are being answered.
    Answering(Turn),
    /// A timer runs before the next attempt.
    Waiting(EffectId),
    /// An end was decided; what is open is being closed.
    Stopping(Stopping),
    /// Over, with calls of unknown fate still open: they are decided on when it is resumed.
    Parked(Parked),
    /// Over.
    Ended(Outcome),
}

/// Waits for contended money: 50 ms, doubled up to 2 s.
const CONTENTION_FIRST: Duration = Duration::from_millis(50);
const CONTENTION_MAX: Duration = Duration::from_secs(2);
/// Envelope of every request (protocol reference 11.2).
const BASE_BOUND: u64 = 1_024;

impl Invocation {
    /// Takes one event and returns the effects it causes, in the order in which they must be performed.
    ///
    /// Never fails and never panics on any sequence of events. An answer to an effect that is not open, and
    /// anything but `Resumed` after the end, has no effect.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let out = &mut effects;
        if let Event::Resumed(resumption) = &event {
            self.resumed(now, resumption, out);
            return effects;
        }
        if self.outcome().is_some() {
            return effects;
        }
        self.last_seen = self.last_seen.max(now);
        match event {
            Event::Resumed(_) => {}
            Event::Started(spec) => self.started(now, spec, out),
            Event::ReservationGranted { effect, grant } => self.granted(now, effect, grant, out),
            Event::ReservationDenied { effect, denial } => self.denied(now, effect, denial, out),
            Event::ReservationRefused { effect, reason } => {
                self.reservation_refused(now, effect, reason, out)
            }
            Event::BlockReceived {
                effect,
                index,
                block,
            } => {
                let (Phase::Calling(turn), Some(spec)) = (&mut self.phase, &self.spec) else {
                    return effects;
                };
                if turn.call_model == effect {
                    let seen = &self.seen_calls;
                    turn.receive_block(index, block, spec, |id| seen.contains(id));
                    self.start_tools(out);
                }
            }
            Event::ToolCallReceived { effect, index } => {
                let Phase::Calling(turn) = &mut self.phase else {
                    return effects;
                };
                if turn.call_model == effect {
                    turn.confirm(index);
                    self.start_tools(out);
                }
            }
            Event::ModelFinished { effect, finish } => {
                self.model_finished(now, effect, finish, out)
            }
            Event::ModelFailed { effect, failure } => self.model_failed(now, effect, failure, out),
            Event::ToolFinished { effect, result } => self.tool_finished(now, effect, &result, out),
            Event::TimerFired { effect } => self.timer_fired(now, effect, out),
            Event::CancelRequested(reason) => self.stop(now, Outcome::Cancelled { reason }, out),
        }
        effects
    }

    fn started(&mut self, now: Timestamp, spec: Arc<InvocationSpec>, out: &mut Vec<Effect>) {
        if self.phase != Phase::New {
            return;
        }
        self.prefix_bound = spec.tools.iter().fold(
            BASE_BOUND
                .saturating_add(spec.model.hidden_prompt_tokens)
                .saturating_add(text_bound(&spec.system_prompt)),
            |sum, tool| {
                let bound = tool_definition_bound(
                    tool.name.as_str(),
                    &tool.description,
                    &tool.input_schema,
                );
                sum.saturating_add(bound)
            },
        );
        self.random = spec.seed;
        self.running_since = now;
        self.push(Message::user_text(&spec.input));
        self.spec = Some(spec);
        self.set_deadline(out);
        self.begin_turn(now, out);
    }

    /// Sets the timer of the time limit, as far as it is not yet used up.
    pub(super) fn set_deadline(&mut self, out: &mut Vec<Effect>) {
        let Some(limit) = self.spec.as_ref().map(|spec| spec.limits.time.value) else {
            return;
        };
        let id = self.next_effect();
        self.deadline = Some(id);
        let at = self
            .running_since
            .after(limit.saturating_sub(self.time_used));
        out.push(Effect::SetTimer {
            id,
            at,
            purpose: TimerPurpose::Deadline,
        });
    }

    /// Asks for the money of the next model call, or ends at the time or turn limit.
    pub(super) fn begin_turn(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(spec) = self.spec.clone() else {
            return;
        };
        if self.time_left(now).is_zero() {
            // The timer is late. A call made now would be dropped at once, and paid for.
            return self.stop(now, self.deadline_outcome(), out);
        }
        if self.turns >= spec.limits.turns.value {
            let denial = turn_denial(&spec, self.turns);
            return self.stop(
                now,
                Outcome::BudgetExhausted {
                    denial: Box::new(denial),
                },
                out,
            );
        }
        if let Some(cut) = self.cut_due(&spec) {
            return self.reserve_summary(&spec, cut, out);
        }
        let prompt_tokens = self.prompt_bound(self.history.len());
        let wanted = spec.limits.max_output_tokens;
        self.reserve(&spec, None, prompt_tokens, wanted, out);
    }

    /// Asks for the money of a model call with a prompt of at most `prompt_tokens`.
    pub(super) fn reserve(
        &mut self,
        spec: &InvocationSpec,
        summarizes: Option<usize>,
        prompt_tokens: u64,
        output_wanted: u64,
        out: &mut Vec<Effect>,
    ) {
        let prompt_tokens = prompt_tokens.min(spec.model.context_window);
        // An amount that does not fit is over every limit: the ledger answers with the denial.
        let worst = spec.model.worst_case(prompt_tokens, spec.cache);
        let output_wanted = output_wanted.min(spec.model.max_output_tokens);
        let quote = Quote {
            prompt_tokens,
            prompt_cost: worst.map_or(Money::MAX, |worst| worst.input),
            output_price: worst.map_or(Money::MAX, |worst| worst.output_per_token),
            output_wanted,
            output_floor: spec
                .limits
                .floor_output_tokens
                .min(spec.model.max_output_tokens),
        };
        let effect = self.next_effect();
        self.phase = Phase::Reserving(Reserving { effect, summarizes });
        out.push(Effect::Reserve { id: effect, quote });
    }

    /// Upper bound of a prompt of the first `messages` of the history: what the provider has counted, plus the
    /// bytes of what is new.
    pub(super) fn prompt_bound(&self, messages: usize) -> u64 {
        let sum = |start: u64, bounds: &[u64]| {
            bounds
                .iter()
                .fold(start, |sum, bound| sum.saturating_add(*bound))
        };
        match self.counted {
            // A part of what was counted is at most as much.
            Some(counted) if messages <= counted.messages => counted
                .tokens
                .min(sum(self.prefix_bound, &self.bounds[..messages])),
            Some(counted) => sum(counted.tokens, &self.bounds[counted.messages..messages]),
            None => sum(self.prefix_bound, &self.bounds[..messages]),
        }
    }

    fn granted(&mut self, now: Timestamp, effect: EffectId, grant: Grant, out: &mut Vec<Effect>) {
        let Some(spec) = self.spec.clone() else {
            return;
        };
        let reservation = ReservationId {
            invocation: spec.invocation,
            effect,
        };
        match &mut self.phase {
            Phase::Reserving(open) if open.effect == effect => {
                let summarizes = open.summarizes;
                let id = self.next_effect();
                self.contended_waits = 0;
                self.totals.calls += 1;
                let max_output_tokens = grant.max_output_tokens;
                let turn = Turn::new(id, reservation, max_output_tokens, summarizes);
                self.phase = Phase::Calling(turn);
                let (purpose, history) = match summarizes {
                    None => (CallPurpose::Turn, self.history.clone()),
                    Some(cut) => (CallPurpose::Summary, self.summary_prompt(cut)),
                };
                out.push(Effect::CallModel {
                    id,
                    request: ModelRequest {
                        reservation,
                        purpose,
                        history,
                        max_output_tokens,
                    },
                });
            }
            Phase::Stopping(stopping) if stopping.reserve == Some(effect) => {
                stopping.reserve = None;
                out.push(Effect::Settle {
                    reservation,
                    settlement: Settlement::Released,
                });
                self.conclude_if_closed(now, out);
            }
            _ => {}
        }
    }

    fn denied(
        &mut self,
        now: Timestamp,
        effect: EffectId,
        denial: Box<Denial>,
        out: &mut Vec<Effect>,
    ) {
        match &mut self.phase {
            Phase::Reserving(open) if open.effect == effect => {
                let summarizes = open.summarizes.is_some();
                let wait = CONTENTION_FIRST
                    .saturating_mul(1 << self.contended_waits.min(10))
                    .min(CONTENTION_MAX);
                if denial.is_contended() && wait < self.time_left(now) {
                    self.contended_waits += 1;
                    self.wait(now.after(wait), TimerPurpose::Contention, out);
                } else if summarizes && self.goes_on_without_summary() {
                    self.begin_turn(now, out);
                } else {
                    self.stop_unheld(now, effect, Outcome::BudgetExhausted { denial }, out);
                }
            }
            Phase::Stopping(stopping) if stopping.reserve == Some(effect) => {
                stopping.reserve = None;
                self.conclude_if_closed(now, out);
            }
            _ => {}
        }
    }

    fn reservation_refused(
        &mut self,
        now: Timestamp,
        effect: EffectId,
        reason: CancelReason,
        out: &mut Vec<Effect>,
    ) {
        match &mut self.phase {
            Phase::Reserving(open) if open.effect == effect => {
                self.stop_unheld(now, effect, Outcome::Cancelled { reason }, out);
            }
            Phase::Stopping(stopping) if stopping.reserve == Some(effect) => {
                stopping.reserve = None;
                self.conclude_if_closed(now, out);
            }
            _ => {}
        }
    }

    /// Ends an invocation whose reservation was just answered with no: nothing is open any more.
    fn stop_unheld(
        &mut self,
        now: Timestamp,
        answered: EffectId,
        outcome: Outcome,
        out: &mut Vec<Effect>,
    ) {
        self.phase = Phase::Waiting(answered);
        self.stop(now, outcome, out);
    }

    pub(super) fn wait(&mut self, at: Timestamp, purpose: TimerPurpose, out: &mut Vec<Effect>) {
        let id = self.next_effect();
        self.phase = Phase::Waiting(id);
        out.push(Effect::SetTimer { id, at, purpose });
    }

    fn timer_fired(&mut self, now: Timestamp, effect: EffectId, out: &mut Vec<Effect>) {
        if self.deadline == Some(effect) {
            self.deadline = None;
            return self.stop(now, self.deadline_outcome(), out);
        }
        match &self.phase {
            Phase::Waiting(timer) if *timer == effect => self.begin_turn(now, out),
            Phase::Stopping(stopping) if stopping.grace == Some(effect) => self.conclude(out),
            _ => {}
        }
    }

    pub(super) fn deadline_outcome(&self) -> Outcome {
        let limit = self.spec.as_ref().map(|spec| spec.limits.time.clone());
        Outcome::DeadlineExceeded {
            limit: limit.unwrap_or_else(|| Limit::new(Duration::ZERO, "default")),
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bounds.push(message_bound(&message));
        self.history.push(Arc::new(message));
    }

    pub(super) fn next_effect(&mut self) -> EffectId {
        self.last_effect += 1;
        EffectId(self.last_effect)
    }

    /// What the time limit counts at `now`: all stretches of running, without the time in between.
    #[must_use]
    pub fn time_used(&self, now: Timestamp) -> Duration {
        self.time_used.saturating_add(now.since(self.running_since))
    }

    /// Time left of the time limit at `now`.
    #[must_use]
    pub fn time_left(&self, now: Timestamp) -> Duration {
        let limit = self
            .spec
            .as_ref()
            .map_or(Duration::ZERO, |spec| spec.limits.time.value);
        limit.saturating_sub(self.time_used(now))
    }

    /// SplitMix64: enough for jitter, and the same on every replay.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// What it was told at its start, once started.
    #[must_use]
    pub const fn spec(&self) -> Option<&Arc<InvocationSpec>> {
        self.spec.as_ref()
    }

    /// The history as the model sees it.
    #[must_use]
    pub fn history(&self) -> &[Arc<Message>] {
        &self.history
    }

    /// How it ended, once it has.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Ended(outcome) | Phase::Parked(Parked { outcome, .. }) => Some(outcome),
            Phase::New
            | Phase::Reserving(_)
            | Phase::Calling(_)
            | Phase::Answering(_)
            | Phase::Waiting(_)
            | Phase::Stopping(_) => None,
        }
    }

    /// The calls that were started and have no result, in order. For a parked invocation: those that a
    /// person decides on.
    #[must_use]
    pub fn open_calls(&self) -> Vec<OpenCall> {
        match &self.phase {
            Phase::Calling(turn) | Phase::Answering(turn) | Phase::Parked(Parked { turn, .. }) => {
                turn.open_calls().collect()
            }
            Phase::Stopping(stopping) => stopping.turn.iter().flat_map(Turn::open_calls).collect(),
            Phase::New | Phase::Reserving(_) | Phase::Waiting(_) | Phase::Ended(_) => Vec::new(),
        }
    }

    /// What it has used so far.
    #[must_use]
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Turns that entered the history.
    #[must_use]
    pub const fn turns(&self) -> u32 {
        self.turns
    }
}

fn turn_denial(spec: &InvocationSpec, turns: u32) -> Denial {
    Denial {
        scope: Scope::Invocation(spec.invocation),
        resource: Resource::Turns,
        limit: Amount::Turns(u64::from(spec.limits.turns.value)),
        spent: Amount::Turns(u64::from(turns)),
        held: Amount::Turns(0),
        needed: Amount::Turns(1),
        origin: spec.limits.turns.origin.clone(),
        latched: false,
    }
}
