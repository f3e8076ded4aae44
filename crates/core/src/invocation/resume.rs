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
use crate::invocation::machine::{Invocation, Phase};
use crate::invocation::turn::{CallFate, Turn};
use crate::invocation::{
    Billing, CancelReason, Effect, InvocationSpec, Outcome, Repeatability, Resumption, SideEffects,
    UnknownCallDecision,
};

const OUTCOME_UNKNOWN: &str = "The outcome of this call is unknown: Otto was interrupted while it ran. It may \
     or may not have taken effect. Check before you repeat it.";

impl Invocation {
    pub(super) fn resumed(
        &mut self,
        seen_before: Timestamp,
        now: Timestamp,
        resumption: &Resumption,
        out: &mut Vec<Effect>,
    ) {
        let Some(old) = self.spec.clone() else { return };
        // The time before the interruption counts; the time in between does not.
        self.time_used = self.time_used.saturating_add(seen_before.since(self.running_since));
        self.running_since = now;
        self.failed_attempts = 0;
        let spec = Arc::new(InvocationSpec {
            limits: resumption.limits.clone(),
            scopes: resumption.scopes.clone(),
            ..InvocationSpec::clone(&old)
        });
        self.spec = Some(spec.clone());

        let turn = match std::mem::take(&mut self.phase) {
            Phase::New => return,
            Phase::Reserving(effect) => {
                let reservation = ReservationId { invocation: spec.invocation, effect };
                self.settle(reservation, Billing::Unknown, out);
                None
            }
            Phase::Waiting(_) => None,
            Phase::Calling(mut turn) => {
                self.settle(turn.reservation, Billing::Unknown, out);
                if turn.has_started_calls() {
                    turn.cut_after_last_started();
                    self.turns += 1;
                    self.enter_history(&turn, turn.max_output_tokens);
                    Some(turn)
                } else {
                    None
                }
            }
            Phase::Answering(turn) => Some(turn),
            Phase::Stopping(stopping) => {
                if let Some(effect) = stopping.reserve {
                    let reservation = ReservationId { invocation: spec.invocation, effect };
                    self.settle(reservation, Billing::Unknown, out);
                }
                stopping.turn
            }
            Phase::Ended(outcome @ (Outcome::Completed { .. } | Outcome::Refused { .. })) => {
                // Over for good; only the telling may have been lost.
                self.phase = Phase::Ended(outcome.clone());
                out.push(Effect::Finish { outcome });
                return;
            }
            Phase::Ended(_) => None,
        };
        self.set_deadline(out);
        match turn {
            Some(turn) => self.resume_turn(now, turn, resumption, &spec, out),
            None => self.begin_turn(now, out),
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
            && turn.running_tools().any(|tool| repeatability(spec, tool) == Repeatability::AskPerson);
        if needs_person {
            // Parked as it is: the running calls stay open in the journal until somebody decides.
            self.phase = Phase::Answering(turn);
            let outcome = Outcome::Cancelled { reason: CancelReason::AwaitingPerson };
            out.push(Effect::Finish { outcome });
            return;
        }
        turn.resolve_running(|tool| match (repeatability(spec, tool), resumption.decision) {
            (Repeatability::Repeatable, _)
            | (Repeatability::AskPerson, Some(UnknownCallDecision::RunAgain)) => CallFate::RunAgain,
            (Repeatability::Unknown, _)
            | (Repeatability::AskPerson, Some(UnknownCallDecision::TellModel) | None) => {
                CallFate::Answer(OUTCOME_UNKNOWN)
            }
        });
        self.phase = Phase::Answering(turn);
        self.advance_tools(now, out);
    }
}

fn repeatability(spec: &InvocationSpec, tool: &str) -> Repeatability {
    match spec.tools.iter().find(|facts| facts.name.as_str() == tool) {
        Some(facts) if facts.side_effects == SideEffects::None => Repeatability::Repeatable,
        Some(facts) => facts.repeatability,
        None => Repeatability::Unknown,
    }
}
