//! The machine itself: what each event leads to.
//!
//! Reading order: `step` dispatches; `begin_turn` asks for money; `granted` calls the model; `model_finished`
//! and `model_failed` end a draft; `advance_tools` runs calls and closes the turn. Stopping is in `stop.rs`,
//! coming back after a crash in `resume.rs`, the bookkeeping of one reply in `turn.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Limit;
use crate::id::{EffectId, ReservationId};
use crate::invocation::stop::Stopping;
use crate::invocation::turn::Turn;
use crate::invocation::{
    Billing, CancelReason, Effect, Event, Failure, InvocationSpec, ModelFailure, ModelFinish, ModelRequest,
    Outcome, SideEffects, StopReason, TimerPurpose, ToolEnding, ToolResult,
};
use crate::ledger::{
    Amount, Denial, Grant, Quote, Resource, Scope, Settlement, message_bound, text_bound,
    tool_definition_bound,
};
use crate::message::Message;
use crate::model::Usage;
use crate::retry::{self, RetryDecision};
use crate::{Money, Timestamp, ToolCallId, ToolName};

/// One invocation: a value that changes only in [`Invocation::step`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invocation {
    pub(super) spec: Option<Arc<InvocationSpec>>,
    pub(super) phase: Phase,
    pub(super) history: Vec<Arc<Message>>,
    /// Token bound of each message of the history.
    bounds: Vec<u64>,
    /// What the provider has counted of the history so far.
    counted: Option<Counted>,
    /// Bound of system prompt, tools and envelope.
    prefix_bound: u64,
    last_effect: u64,
    pub(super) deadline: Option<EffectId>,
    /// When the present stretch of running began.
    pub(super) running_since: Timestamp,
    /// Time spent running before that.
    pub(super) time_used: Duration,
    pub(super) last_seen: Timestamp,
    pub(super) turns: u32,
    /// Failed attempts since the last good reply.
    pub(super) failed_attempts: u32,
    /// Waits for contended money since the last grant.
    contended_waits: u32,
    continuations: u32,
    seen_calls: BTreeSet<ToolCallId>,
    repetitions: BTreeMap<u64, u32>,
    random: u64,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    /// Prompt and output tokens of the last counted reply.
    tokens: u64,
    /// Messages of the history that they cover.
    messages: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Before `Started`.
    #[default]
    New,
    /// Money was asked for.
    Reserving(EffectId),
    /// The model answers.
    Calling(Turn),
    /// The reply is in the history; its calls are being answered.
    Answering(Turn),
    /// A timer runs before the next attempt.
    Waiting(EffectId),
    /// An end was decided; what is open is being closed.
    Stopping(Stopping),
    /// Over.
    Ended(Outcome),
}

/// How often a reply that was cut by its output limit is continued.
const MAX_CONTINUATIONS: u32 = 3;
/// Waits for contended money: 50 ms, doubled up to 2 s.
const CONTENTION_FIRST: Duration = Duration::from_millis(50);
const CONTENTION_MAX: Duration = Duration::from_secs(2);
/// Envelope of every request (protocol reference 11.2).
const BASE_BOUND: u64 = 1_024;

const CONTINUE: &str = "Your reply reached the output limit. Continue exactly where it stopped.";
const EMPTY_REPLY: &str = "Your reply was empty. Finish the task or say why you cannot.";

impl Invocation {
    /// Takes one event and returns the effects it causes, in the order in which they must be performed.
    ///
    /// Never fails and never panics on any sequence of events; an answer to an effect that is not open, and
    /// anything after the end, has no effect.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let seen_before = self.last_seen;
        self.last_seen = self.last_seen.max(now);
        let out = &mut effects;
        match event {
            Event::Started(spec) => self.started(now, spec, out),
            Event::Resumed(resumption) => self.resumed(seen_before, now, &resumption, out),
            Event::ReservationGranted { effect, grant } => self.granted(now, effect, grant, out),
            Event::ReservationDenied { effect, denial } => self.denied(now, effect, denial, out),
            Event::ReservationRefused { effect, reason } => self.reservation_refused(now, effect, reason, out),
            Event::BlockReceived { effect, index, block } => {
                let (Phase::Calling(turn), Some(spec)) = (&mut self.phase, &self.spec) else { return effects };
                if turn.call_model == effect {
                    let seen = &self.seen_calls;
                    turn.receive_block(index, block, spec, |id| seen.contains(id));
                    self.start_tools(out);
                }
            }
            Event::ToolCallReceived { effect, index } => {
                let Phase::Calling(turn) = &mut self.phase else { return effects };
                if turn.call_model == effect {
                    turn.confirm(index);
                    self.start_tools(out);
                }
            }
            Event::ModelFinished { effect, finish } => self.model_finished(now, effect, finish, out),
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
                let bound =
                    tool_definition_bound(tool.name.as_str(), &tool.description, &tool.input_schema);
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
        let Some(limit) = self.spec.as_ref().map(|spec| spec.limits.time.value) else { return };
        let id = self.next_effect();
        self.deadline = Some(id);
        let at = self.running_since.after(limit.saturating_sub(self.time_used));
        out.push(Effect::SetTimer { id, at, purpose: TimerPurpose::Deadline });
    }

    /// Asks for the money of the next model call, or ends at the turn limit.
    pub(super) fn begin_turn(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(spec) = self.spec.clone() else { return };
        if self.turns >= spec.limits.turns.value {
            let denial = turn_denial(&spec, self.turns);
            return self.stop(now, Outcome::BudgetExhausted { denial: Box::new(denial) }, out);
        }
        let prompt_tokens = self.prompt_bound(&spec);
        // An amount that does not fit is over every limit: the ledger answers with the denial.
        let worst = spec.model.worst_case(prompt_tokens, spec.cache);
        let quote = Quote {
            prompt_tokens,
            prompt_cost: worst.map_or(Money::MAX, |worst| worst.input),
            output_price: worst.map_or(Money::MAX, |worst| worst.output_per_token),
            output_wanted: spec.limits.max_output_tokens.min(spec.model.max_output_tokens),
            output_floor: spec.limits.floor_output_tokens.min(spec.model.max_output_tokens),
        };
        let id = self.next_effect();
        self.phase = Phase::Reserving(id);
        out.push(Effect::Reserve { id, quote });
    }

    /// Upper bound of the next prompt: what the provider has counted, plus the bytes of what is new.
    fn prompt_bound(&self, spec: &InvocationSpec) -> u64 {
        let (start, counted) = match self.counted {
            Some(counted) => (counted.messages, counted.tokens),
            None => (0, self.prefix_bound),
        };
        let bound = self.bounds[start..].iter().fold(counted, |sum, bound| sum.saturating_add(*bound));
        bound.min(spec.model.context_window)
    }

    fn granted(&mut self, now: Timestamp, effect: EffectId, grant: Grant, out: &mut Vec<Effect>) {
        let Some(spec) = self.spec.clone() else { return };
        let reservation = ReservationId { invocation: spec.invocation, effect };
        match &mut self.phase {
            Phase::Reserving(open) if *open == effect => {
                let id = self.next_effect();
                self.contended_waits = 0;
                self.totals.calls += 1;
                self.phase = Phase::Calling(Turn::new(id, reservation, grant.max_output_tokens));
                out.push(Effect::CallModel {
                    id,
                    request: ModelRequest {
                        reservation,
                        history: self.history.clone(),
                        max_output_tokens: grant.max_output_tokens,
                    },
                });
            }
            Phase::Stopping(stopping) if stopping.reserve == Some(effect) => {
                stopping.reserve = None;
                out.push(Effect::Settle { reservation, settlement: Settlement::Released });
                self.conclude_if_closed(now, out);
            }
            _ => {}
        }
    }

    fn denied(&mut self, now: Timestamp, effect: EffectId, denial: Box<Denial>, out: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Reserving(open) if *open == effect => {
                let wait = CONTENTION_FIRST
                    .saturating_mul(1 << self.contended_waits.min(10))
                    .min(CONTENTION_MAX);
                if denial.is_contended() && wait < self.time_left(now) {
                    self.contended_waits += 1;
                    self.wait(now.after(wait), TimerPurpose::Contention, out);
                } else {
                    self.stop(now, Outcome::BudgetExhausted { denial }, out);
                }
            }
            Phase::Stopping(stopping) if stopping.reserve == Some(effect) => {
                stopping.reserve = None;
                self.conclude_if_closed(now, out);
            }
            _ => {}
        }
    }

    fn reservation_refused(&mut self, now: Timestamp, effect: EffectId, reason: CancelReason, out: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Reserving(open) if *open == effect => {
                // Nothing was held: the effect is answered before the stop looks for what is open.
                self.phase = Phase::Waiting(effect);
                self.stop(now, Outcome::Cancelled { reason }, out);
            }
            Phase::Stopping(stopping) if stopping.reserve == Some(effect) => {
                stopping.reserve = None;
                self.conclude_if_closed(now, out);
            }
            _ => {}
        }
    }

    fn model_finished(&mut self, now: Timestamp, effect: EffectId, finish: ModelFinish, out: &mut Vec<Effect>) {
        let Some(mut turn) = self.take_draft(effect) else { return };
        let Some(spec) = self.spec.clone() else { return };
        let usage = self.settle_finished(&turn, &finish, &spec, out);
        self.failed_attempts = 0;
        match &finish.stop {
            StopReason::Refusal { category, explanation } => {
                // The refused reply does not enter the history: resending it would be refused again.
                let outcome =
                    Outcome::Refused { category: category.clone(), explanation: explanation.clone() };
                self.phase = Phase::Answering(turn);
                return self.stop_without_turn(now, outcome, out);
            }
            StopReason::ToolUse => turn.confirm_all(),
            StopReason::EndTurn
            | StopReason::MaxTokens
            | StopReason::StopSequence
            | StopReason::PauseTurn
            | StopReason::ContextWindowExceeded
            | StopReason::Other(_) => {
                let stopped = turn.answer_unconfirmed(
                    "The call was not run: the reply ended before the call was known to be complete. \
                     Send it again, with shorter input if it was long.",
                );
                out.extend(stopped.into_iter().map(|id| Effect::StopTool { id }));
            }
        }
        self.turns += 1;
        let text = turn.text();
        let has_calls = turn.has_calls();
        let has_blocks = turn.has_blocks();
        let bound = usage.map_or(turn.max_output_tokens, |usage| usage.output_tokens);
        self.enter_history(&turn, bound);
        if let Some(usage) = usage {
            self.counted = Some(Counted { tokens: usage.total_tokens(), messages: self.history.len() });
        }
        self.phase = Phase::Answering(turn);
        if has_calls {
            return self.advance_tools(now, out);
        }
        match finish.stop {
            StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse if has_blocks => {
                self.stop(now, Outcome::Completed { text: Arc::from(text) }, out);
            }
            StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse => {
                let completed = Outcome::Completed { text: Arc::from(text) };
                self.continue_with(now, EMPTY_REPLY, completed, out);
            }
            StopReason::MaxTokens => {
                let limit = Failure::OutputLimit { max_output_tokens: spec.limits.max_output_tokens };
                self.continue_with(now, CONTINUE, Outcome::Failed { failure: limit }, out);
            }
            StopReason::PauseTurn => {
                let reason = Arc::from("pause_turn, too often");
                let failure = Failure::UnknownStop { reason };
                self.continue_with(now, "", Outcome::Failed { failure }, out);
            }
            StopReason::ContextWindowExceeded => {
                self.stop(now, Outcome::Failed { failure: Failure::ContextWindow }, out);
            }
            StopReason::Other(reason) => {
                self.stop(now, Outcome::Failed { failure: Failure::UnknownStop { reason } }, out);
            }
            StopReason::Refusal { .. } => {
                debug_assert!(false, "a refusal has returned above");
            }
        }
    }

    /// Goes on with one more turn after `prompt` (none if empty), a bounded number of times.
    fn continue_with(&mut self, now: Timestamp, prompt: &str, otherwise: Outcome, out: &mut Vec<Effect>) {
        if self.continuations >= MAX_CONTINUATIONS {
            return self.stop(now, otherwise, out);
        }
        self.continuations += 1;
        if !prompt.is_empty() {
            self.push(Message::user_text(prompt));
        }
        self.begin_turn(now, out);
    }

    /// Books the end of a good reply. Without a trustworthy usage record the hold is charged.
    fn settle_finished(
        &mut self,
        turn: &Turn,
        finish: &ModelFinish,
        spec: &InvocationSpec,
        out: &mut Vec<Effect>,
    ) -> Option<Usage> {
        let same_model = finish.served_by.as_ref().is_none_or(|served| {
            spec.model.is_known_as(served) || served.as_str().starts_with(spec.model.id.as_str())
        });
        let usage = finish.usage.filter(|usage| {
            // A reply with content and no output tokens is a usage record that cannot be true.
            same_model && (usage.output_tokens > 0 || !turn.has_blocks())
        });
        self.settle(turn.reservation, usage.map_or(Billing::Unknown, Billing::Known), out);
        usage
    }

    pub(super) fn settle(&mut self, reservation: ReservationId, billing: Billing, out: &mut Vec<Effect>) {
        let priced = match billing {
            Billing::Known(usage) => {
                let cost = self.spec.as_ref().and_then(|spec| spec.model.cost(&usage));
                cost.map(|cost| (usage, cost))
            }
            Billing::Unknown | Billing::NotBilled => None,
        };
        let settlement = match (billing, priced) {
            (_, Some((usage, cost))) => {
                self.totals.usage = self.totals.usage.plus(&usage);
                self.totals.cost = self.totals.cost.saturating_add(cost);
                Settlement::Used { usage, cost }
            }
            (Billing::NotBilled, None) => Settlement::Released,
            (Billing::Unknown | Billing::Known(_), None) => {
                self.totals.unconfirmed_calls += 1;
                Settlement::Forfeited
            }
        };
        out.push(Effect::Settle { reservation, settlement });
    }

    fn model_failed(&mut self, now: Timestamp, effect: EffectId, failure: ModelFailure, out: &mut Vec<Effect>) {
        let Some(mut turn) = self.take_draft(effect) else { return };
        let Some(spec) = self.spec.clone() else { return };
        self.settle(turn.reservation, failure.billing, out);
        self.failed_attempts += 1;
        if turn.has_started_calls() {
            // What ran has run: keep what led to it, answer it, and go on from there.
            turn.cut_after_last_started();
            self.turns += 1;
            self.enter_history(&turn, turn.max_output_tokens);
            self.phase = Phase::Answering(turn);
            if self.failed_attempts >= spec.limits.attempts {
                let failure = Failure::Provider(failure);
                return self.stop(now, Outcome::Failed { failure }, out);
            }
            return self.advance_tools(now, out);
        }
        let jitter = self.next_random();
        match retry::decide(&failure, self.failed_attempts, spec.limits.attempts, self.time_left(now), jitter) {
            RetryDecision::Wait(wait) => self.wait(now.after(wait), TimerPurpose::Backoff, out),
            RetryDecision::GiveUp => {
                self.phase = Phase::Waiting(effect);
                self.stop(now, Outcome::Failed { failure: Failure::Provider(failure) }, out);
            }
        }
    }

    fn wait(&mut self, at: Timestamp, purpose: TimerPurpose, out: &mut Vec<Effect>) {
        let id = self.next_effect();
        self.phase = Phase::Waiting(id);
        out.push(Effect::SetTimer { id, at, purpose });
    }

    fn tool_finished(&mut self, now: Timestamp, effect: EffectId, result: &ToolResult, out: &mut Vec<Effect>) {
        let turn = match &mut self.phase {
            Phase::Calling(turn) | Phase::Answering(turn) => turn,
            Phase::Stopping(stopping) => match &mut stopping.turn {
                Some(turn) => turn,
                None => return,
            },
            Phase::New | Phase::Reserving(_) | Phase::Waiting(_) | Phase::Ended(_) => return,
        };
        let Some(tool) = turn.finish_call(effect, result) else { return };
        self.totals.tool_calls += 1;
        if matches!(self.phase, Phase::Stopping(_)) {
            return self.conclude_if_closed(now, out);
        }
        if result.ending == ToolEnding::OperatorFault {
            let failure = Failure::ToolFault {
                tool: ToolName::new(&tool).expect("only tools of the spec are run"),
                message: result.content.clone(),
            };
            return self.stop(now, Outcome::Failed { failure }, out);
        }
        match self.phase {
            Phase::Answering(_) => self.advance_tools(now, out),
            _ => self.start_tools(out),
        }
    }

    /// Starts every call that may start now.
    pub(super) fn start_tools(&mut self, out: &mut Vec<Effect>) {
        let Some(parallel) = self.spec.as_ref().map(|spec| spec.limits.parallel_tools) else { return };
        loop {
            let id = EffectId(self.last_effect + 1);
            let (Phase::Calling(turn) | Phase::Answering(turn)) = &mut self.phase else { return };
            let Some(request) = turn.start_next(parallel, id) else { return };
            self.last_effect = id.0;
            if request.side_effects == SideEffects::Some {
                out.push(Effect::Persist);
            }
            out.push(Effect::RunTool { id, request });
        }
    }

    /// Starts what may start; when every call is answered, closes the turn and begins the next.
    pub(super) fn advance_tools(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.start_tools(out);
        let Phase::Answering(turn) = &self.phase else { return };
        if !turn.is_answered() {
            return;
        }
        let message = turn.results_message();
        let repeated = self.count_repetitions();
        // The results are in the history from here on; a stop must not add them again.
        self.phase = Phase::Waiting(EffectId(0));
        self.push(message);
        if let Some(failure) = repeated {
            return self.stop(now, Outcome::Failed { failure }, out);
        }
        self.begin_turn(now, out);
    }

    /// Counts identical calls with identical results; `Some` when one has come too often.
    fn count_repetitions(&mut self) -> Option<Failure> {
        let Phase::Answering(turn) = &self.phase else { return None };
        let allowed = self.spec.as_ref()?.limits.repetitions;
        for call in turn.answered() {
            let mut hasher = DefaultHasher::new();
            (call.tool, call.input, call.content, call.is_error).hash(&mut hasher);
            let count = self.repetitions.entry(hasher.finish()).or_insert(0);
            *count += 1;
            if *count >= allowed {
                return Some(Failure::Repetition { tool: call.tool.clone(), count: *count });
            }
        }
        None
    }

    fn timer_fired(&mut self, now: Timestamp, effect: EffectId, out: &mut Vec<Effect>) {
        if self.deadline == Some(effect) {
            self.deadline = None;
            let limit = self.spec.as_ref().map(|spec| spec.limits.time.clone());
            let limit = limit.unwrap_or_else(|| Limit::new(Duration::ZERO, "default"));
            return self.stop(now, Outcome::DeadlineExceeded { limit }, out);
        }
        match &self.phase {
            Phase::Waiting(timer) if *timer == effect => self.begin_turn(now, out),
            Phase::Stopping(stopping) if stopping.grace == Some(effect) => self.conclude(out),
            _ => {}
        }
    }

    /// Takes the draft out if the model call `effect` is open.
    fn take_draft(&mut self, effect: EffectId) -> Option<Turn> {
        match &self.phase {
            Phase::Calling(turn) if turn.call_model == effect => {}
            _ => return None,
        }
        match std::mem::replace(&mut self.phase, Phase::Waiting(EffectId(0))) {
            Phase::Calling(turn) => Some(turn),
            _ => None,
        }
    }

    /// Adds the reply of a turn to the history and remembers its call ids.
    pub(super) fn enter_history(&mut self, turn: &Turn, output_tokens_bound: u64) {
        if let Some(message) = turn.assistant_message(output_tokens_bound) {
            self.seen_calls.extend(message.tool_calls().map(|call| call.id.clone()));
            self.push(message);
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

    pub(super) fn time_left(&self, now: Timestamp) -> Duration {
        let limit = self.spec.as_ref().map_or(Duration::ZERO, |spec| spec.limits.time.value);
        limit.saturating_sub(self.time_used).saturating_sub(now.since(self.running_since))
    }

    /// SplitMix64: enough for jitter, and the same on every replay.
    fn next_random(&mut self) -> u64 {
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
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
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
