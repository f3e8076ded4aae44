//! Coming back: after a crash, a shutdown, or with a raised limit.
//!
//! The state has been folded from the journal, so it is exactly what was durable. Whatever was open then is
//! of unknown fate: an open reservation or model call is charged at its hold; an open tool call runs again
//! only if its tool says that it may.
//!
//! Invariant: nothing that was answered is asked again, and no side effect is repeated that its tool did not
//! declare repeatable (or a person allowed).

use std::sync::Arc;

use crate::Timestamp;
use crate::id::ReservationId;
use crate::invocation::machine::{Invocation, Phase, Reserving};
use crate::invocation::note::Told;
use crate::invocation::stop::Parked;
use crate::invocation::turn::{CallFate, Turn};
use crate::invocation::{
    Billing, CancelReason, Effect, InvocationSpec, Outcome, Repeatability, Resumption, SideEffects,
    UnknownCallDecision,
};
use crate::ledger::Settlement;
use crate::message::Message;

pub(super) const OUTCOME_UNKNOWN: &str = "The outcome of this call is unknown: Otto was interrupted while it ran. It may \
     or may not have taken effect. Check before you repeat it.";
const DONE: &str = "A person has checked this call, which was interrupted: it took effect. What it returned is \
     not known. Do not repeat it.";
const NOT_DONE: &str =
    "A person has checked this call, which was interrupted: it did not take effect.";
const CONTINUE: &str = "Your reply was interrupted. Continue where it stopped.";

impl Invocation {
    pub(super) fn resumed(
        &mut self,
        now: Timestamp,
        resumption: &Resumption,
        out: &mut Vec<Effect>,
    ) {
        let Some(old) = self.spec.clone() else { return };
        // The time before the interruption counts; the time in between does not. The clock may have been set
        // back meanwhile, so what was seen of it before says nothing about the time from now on.
        if self.outcome().is_none_or(|outcome| !is_final(outcome)) {
            self.time_used = self
                .time_used
                .saturating_add(self.last_seen.since(self.running_since));
            self.running_since = now;
            self.last_seen = now;
        }
        self.failed_attempts = 0;
        // The limits may be others now.
        self.told = Told::default();
        self.continuations = 0;
        self.not_before = Timestamp::EPOCH;
        let spec = Arc::new(InvocationSpec {
            limits: resumption.limits.clone(),
            scopes: resumption.scopes.clone(),
            ..InvocationSpec::clone(&old)
        });
        self.spec = Some(spec.clone());
        let reservation = |effect| ReservationId {
            invocation: spec.invocation,
            effect,
        };

        let turn = match std::mem::take(&mut self.phase) {
            Phase::New => return,
            Phase::Reserving(Reserving { effect, .. }) => {
                // It may have been granted, and the request may have gone out: the hold, if any, is charged.
                let settlement = Settlement::Forfeited;
                out.push(Effect::Settle {
                    reservation: reservation(effect),
                    settlement,
                });
                None
            }
            Phase::Waiting(_) => None,
            Phase::Calling(mut turn) => {
                self.settle(turn.reservation, Billing::Unknown, out);
                if turn.has_started_calls() {
                    self.keep_cut_reply(&mut turn);
                    Some(turn)
                } else {
                    None
                }
            }
            Phase::Answering(turn) | Phase::Parked(Parked { turn, .. }) => Some(turn),
            Phase::Stopping(stopping) => {
                if let Some(effect) = stopping.reserve {
                    // The stop was decided before the grant was seen: no request can have gone out under it.
                    let settlement = Settlement::Released;
                    out.push(Effect::Settle {
                        reservation: reservation(effect),
                        settlement,
                    });
                }
                stopping.turn
            }
            Phase::Ended(outcome) if is_final(&outcome) => {
                // Over for good; only the telling may have been lost.
                self.phase = Phase::Ended(outcome.clone());
                out.push(Effect::Finish { outcome });
                return;
            }
            Phase::Ended(_) => None,
        };
        match turn {
            Some(turn) => self.resume_turn(now, turn, resumption, &spec, out),
            None => {
                let ends_with_reply = self
                    .history
                    .last()
                    .is_some_and(|last| matches!(**last, Message::Assistant(_)));
                if ends_with_reply && !self.paused {
                    // It had failed for that reply. A request must not end with the model's own words.
                    self.push(Message::user_text(CONTINUE));
                }
                self.set_deadline(out);
                self.begin_turn(now, out);
            }
        }
    }

    fn resume_turn(
        &mut self,
        now: Timestamp,
        mut turn: Turn,
        resumption: &Resumption,
        spec: &InvocationSpec,
        out: &mut Vec<Effect>,
    ) {
        let needs_person = resumption.decision.is_none()
            && turn
                .running_tools()
                .any(|tool| repeatability(spec, tool) == Repeatability::AskPerson);
        if needs_person {
            // The running calls stay open in the journal until somebody decides.
            return self.park(
                turn,
                Outcome::Cancelled {
                    reason: CancelReason::AwaitingPerson,
                },
                out,
            );
        }
        if self.time_left(now).is_zero() {
            // Nothing may begin, and calls that could be repeated keep their chance.
            return self.park(turn, self.deadline_outcome(), out);
        }
        self.set_deadline(out);
        turn.resolve_running(
            |tool| match (repeatability(spec, tool), resumption.decision) {
                (Repeatability::Repeatable, _)
                | (Repeatability::AskPerson, Some(UnknownCallDecision::RunAgain)) => {
                    CallFate::RunAgain
                }
                (Repeatability::Unknown, _)
                | (Repeatability::AskPerson, Some(UnknownCallDecision::TellModel) | None) => {
                    CallFate::Answer(OUTCOME_UNKNOWN)
                }
                (Repeatability::AskPerson, Some(UnknownCallDecision::Done)) => {
                    CallFate::Succeeded(DONE)
                }
                (Repeatability::AskPerson, Some(UnknownCallDecision::NotDone)) => {
                    CallFate::Answer(NOT_DONE)
                }
            },
        );
        self.phase = Phase::Answering(turn);
        self.advance_tools(now, out);
    }
}

/// Whether an invocation that ended so is over for good.
const fn is_final(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Completed { .. } | Outcome::Refused { .. } => true,
        Outcome::BudgetExhausted { .. }
        | Outcome::DeadlineExceeded { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Failed { .. } => false,
    }
}

fn repeatability(spec: &InvocationSpec, tool: &str) -> Repeatability {
    match spec.tools.iter().find(|facts| facts.name.as_str() == tool) {
        Some(facts) if facts.side_effects == SideEffects::None => Repeatability::Repeatable,
        Some(facts) => facts.repeatability,
        None => Repeatability::Unknown,
    }
}
