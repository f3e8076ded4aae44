//! How a reply ends: well, too early, or not at all, and what it costs.
//!
//! A reply that ended as the protocol says enters the history. One that broke is dropped if none of its calls
//! was started, and cut after the last started one otherwise.
//!
//! Invariant: every reply ends with exactly one settlement of its reservation.

use std::sync::Arc;

use crate::id::{EffectId, ReservationId};
use crate::invocation::machine::{Counted, Invocation, Phase};
use crate::invocation::turn::Turn;
use crate::invocation::{
    Billing, Effect, Failure, InvocationSpec, ModelFailure, ModelFailureKind, ModelFinish, Outcome,
    StopReason, TimerPurpose,
};
use crate::ledger::Settlement;
use crate::message::Message;
use crate::model::{ModelSpec, Usage};
use crate::retry::{self, RetryDecision};
use crate::{ModelId, Timestamp};

/// How often in a row a reply is continued that was cut, paused or empty.
const MAX_CONTINUATIONS: u32 = 3;

const CONTINUE: &str = "Your reply reached the output limit. Continue exactly where it stopped.";
const EMPTY_REPLY: &str = "Your reply was empty. Finish the task or say why you cannot.";
const DROPPED_CALL: &str = "A tool call of your reply was dropped: its id was used before. Make the call again if \
     you still need it, or finish the task.";
const UNPROVEN_CALL: &str = "The call was not run: the reply ended before the call was known to be complete. \
     Send it again, with shorter input if it was long.";

impl Invocation {
    pub(super) fn model_finished(
        &mut self,
        now: Timestamp,
        effect: EffectId,
        finish: ModelFinish,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut turn) = self.take_draft(effect) else {
            return;
        };
        let Some(spec) = self.spec.clone() else {
            return;
        };
        let usage = self.settle_finished(&turn, &finish, &spec, out);
        self.failed_attempts = 0;
        if let Some(cut) = turn.summarizes {
            return self.summarized(now, cut, &turn, &finish.stop, out);
        }
        match &finish.stop {
            StopReason::Refusal {
                category,
                explanation,
            } => {
                // The refused reply does not enter the history: resending it would be refused again.
                let outcome = Outcome::Refused {
                    category: category.clone(),
                    explanation: explanation.clone(),
                };
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
                let stopped = turn.answer_unconfirmed(UNPROVEN_CALL);
                out.extend(stopped.into_iter().map(|id| Effect::StopTool { id }));
            }
        }
        self.turns += 1;
        self.paused = finish.stop == StopReason::PauseTurn;
        let text = turn.text();
        let has_calls = turn.has_calls();
        let has_blocks = turn.has_blocks();
        let has_dropped_call = turn.has_dropped_call();
        let bound = usage.map_or(turn.max_output_tokens, |usage| usage.output_tokens);
        self.enter_history(&turn, bound);
        if let Some(usage) = usage {
            self.counted = Some(Counted {
                tokens: usage.total_tokens(),
                messages: self.history.len(),
            });
        }
        self.phase = Phase::Answering(turn);
        if let StopReason::Other(reason) = finish.stop {
            // Nobody knows what the reply is worth: no further call of it is run, and there is no next turn.
            return self.stop(
                now,
                Outcome::Failed {
                    failure: Failure::UnknownStop { reason },
                },
                out,
            );
        }
        if has_calls {
            return self.advance_tools(now, out);
        }
        match finish.stop {
            StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse
                if has_dropped_call =>
            {
                let reason = Arc::from("tool_use, with call ids that were used before");
                let failure = Failure::UnknownStop { reason };
                self.continue_with(now, DROPPED_CALL, Outcome::Failed { failure }, out);
            }
            StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse if has_blocks => {
                self.stop(
                    now,
                    Outcome::Completed {
                        text: Arc::from(text),
                    },
                    out,
                );
            }
            StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse => {
                let completed = Outcome::Completed {
                    text: Arc::from(text),
                };
                self.continue_with(now, EMPTY_REPLY, completed, out);
            }
            StopReason::MaxTokens => {
                let limit = Failure::OutputLimit {
                    max_output_tokens: spec.limits.max_output_tokens,
                };
                self.continue_with(now, CONTINUE, Outcome::Failed { failure: limit }, out);
            }
            StopReason::PauseTurn => {
                let reason = Arc::from("pause_turn, too often");
                let failure = Failure::UnknownStop { reason };
                self.continue_with(now, "", Outcome::Failed { failure }, out);
            }
            StopReason::ContextWindowExceeded => {
                let failure = Failure::ContextWindow;
                let outcome = Outcome::Failed { failure };
                if self.may_compact() {
                    self.push(Message::user_text(CONTINUE));
                    self.compact_or(now, outcome, out);
                } else {
                    self.stop(now, outcome, out);
                }
            }
            StopReason::Other(_) | StopReason::Refusal { .. } => {
                debug_assert!(false, "an unknown reason and a refusal have returned above");
            }
        }
    }

    pub(super) fn model_failed(
        &mut self,
        now: Timestamp,
        effect: EffectId,
        failure: ModelFailure,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut turn) = self.take_draft(effect) else {
            return;
        };
        let Some(spec) = self.spec.clone() else {
            return;
        };
        self.settle(turn.reservation, failure.billing, out);
        let was_started = turn.has_started_calls();
        if failure.kind == ModelFailureKind::PromptTooLong && self.may_compact() && !was_started {
            return self.prompt_too_long(now, effect, turn.summarizes, out);
        }
        self.failed_attempts += 1;
        let attempts = spec.limits.attempts;
        let jitter = self.next_random();
        let decision = retry::decide(
            &failure,
            self.failed_attempts,
            attempts,
            self.time_left(now),
            jitter,
        );
        if was_started {
            // What ran has run: keep what led to it, answer it, and go on from there.
            self.keep_cut_reply(&mut turn);
            self.phase = Phase::Answering(turn);
        } else {
            self.phase = Phase::Waiting(effect);
        }
        match decision {
            RetryDecision::GiveUp => {
                self.stop(
                    now,
                    Outcome::Failed {
                        failure: Failure::Provider(failure),
                    },
                    out,
                );
            }
            RetryDecision::Wait(wait) => {
                self.not_before = now.after(wait);
                if was_started {
                    self.advance_tools(now, out);
                } else {
                    self.wait(self.not_before, TimerPurpose::Backoff, out);
                }
            }
        }
    }

    /// Goes on with one more turn after `prompt` (none if empty), a bounded number of times.
    fn continue_with(
        &mut self,
        now: Timestamp,
        prompt: &str,
        otherwise: Outcome,
        out: &mut Vec<Effect>,
    ) {
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
        let same_model = finish
            .served_by
            .as_ref()
            .is_none_or(|served| is_same_model(&spec.model, served));
        let usage = finish.usage.filter(|usage| {
            // A reply with content and no output tokens is a usage record that cannot be true.
            same_model && (usage.output_tokens > 0 || !turn.has_output())
        });
        self.settle(
            turn.reservation,
            usage.map_or(Billing::Unknown, Billing::Known),
            out,
        );
        usage
    }

    pub(super) fn settle(
        &mut self,
        reservation: ReservationId,
        billing: Billing,
        out: &mut Vec<Effect>,
    ) {
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
        out.push(Effect::Settle {
            reservation,
            settlement,
        });
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

    /// Takes a reply into the history that broke after calls of it were started: all of it up to those.
    pub(super) fn keep_cut_reply(&mut self, turn: &mut Turn) {
        turn.cut_after_last_started();
        self.turns += 1;
        self.paused = false;
        // It may have been billed for all it was allowed.
        self.enter_history(turn, turn.max_output_tokens);
    }

    /// Adds the reply of a turn to the history and remembers its call ids.
    fn enter_history(&mut self, turn: &Turn, output_tokens_bound: u64) {
        if let Some(message) = turn.assistant_message(output_tokens_bound) {
            self.seen_calls
                .extend(message.tool_calls().map(|call| call.id.clone()));
            self.push(message);
        }
    }
}

/// Whether `served` is the model that was asked, possibly by its dated name (`NAME-YYYYMMDD`).
///
/// A longer name alone is not enough: the next model of a family often begins with the name of the last.
fn is_same_model(model: &ModelSpec, served: &ModelId) -> bool {
    let is_dated = served
        .as_str()
        .strip_prefix(model.id.as_str())
        .is_some_and(|rest| {
            rest.strip_prefix('-')
                .is_some_and(|date| date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()))
        });
    is_dated || model.is_known_as(served)
}
