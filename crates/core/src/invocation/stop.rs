//! Ending: whatever is open is closed before the outcome is told.
//!
//! Open are at most: one reservation that was asked for, one model call, and the running tools. The model
//! call is dropped and its hold charged; a reservation that is still granted is released; tools are ended and
//! waited for, but not for longer than a grace time.
//!
//! Invariant: `Finish` is emitted once, last, with the history complete: every call has its result.

use std::time::Duration;

use crate::Timestamp;
use crate::id::EffectId;
use crate::invocation::machine::{Invocation, Phase};
use crate::invocation::turn::Turn;
use crate::invocation::{Billing, Effect, Outcome, TimerPurpose};
use crate::message::Message;

/// How long ended tools are waited for.
const GRACE: Duration = Duration::from_secs(2);

const NOT_RUN: &str = "The call was not run: the invocation was ended.";
pub(super) const UNKNOWN: &str =
    "The invocation was ended while this call ran; its outcome is unknown.";

/// An end that waits for what is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stopping {
    pub(super) outcome: Outcome,
    /// A reservation that was asked for and not yet answered.
    pub(super) reserve: Option<EffectId>,
    /// A turn of the history whose results are not in it yet.
    pub(super) turn: Option<Turn>,
    pub(super) grace: Option<EffectId>,
}

/// An end that leaves calls of unknown fate open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) outcome: Outcome,
    /// A turn of the history whose results are not in it yet.
    pub(super) turn: Turn,
}

impl Invocation {
    /// Decides the end. Nothing happens if one was decided before.
    pub(super) fn stop(&mut self, now: Timestamp, outcome: Outcome, out: &mut Vec<Effect>) {
        let mut stopping = Stopping {
            outcome,
            reserve: None,
            turn: None,
            grace: None,
        };
        match std::mem::take(&mut self.phase) {
            Phase::New | Phase::Waiting(_) => {}
            Phase::Reserving(open) => stopping.reserve = Some(open.effect),
            Phase::Calling(mut turn) => {
                out.push(Effect::StopModel {
                    id: turn.call_model,
                });
                self.settle(turn.reservation, Billing::Unknown, out);
                if turn.has_started_calls() {
                    self.keep_cut_reply(&mut turn);
                    stopping.turn = Some(turn);
                }
            }
            Phase::Answering(turn) => {
                if turn.has_calls() {
                    stopping.turn = Some(turn);
                }
            }
            ended @ (Phase::Stopping(_) | Phase::Parked(_) | Phase::Ended(_)) => {
                self.phase = ended;
                return;
            }
        }
        if let Some(turn) = &mut stopping.turn {
            turn.answer_waiting(NOT_RUN);
            out.extend(turn.running().map(|id| Effect::StopTool { id }));
        }
        let is_open = stopping.is_open();
        if is_open {
            let id = self.next_effect();
            stopping.grace = Some(id);
            out.push(Effect::SetTimer {
                id,
                at: now.after(GRACE),
                purpose: TimerPurpose::Grace,
            });
        }
        self.phase = Phase::Stopping(stopping);
        if !is_open {
            self.conclude(out);
        }
    }

    /// Ends without the present turn, which is not in the history: its tools are ended and not waited for.
    pub(super) fn stop_without_turn(
        &mut self,
        now: Timestamp,
        outcome: Outcome,
        out: &mut Vec<Effect>,
    ) {
        if let Phase::Answering(turn) =
            std::mem::replace(&mut self.phase, Phase::Waiting(EffectId(0)))
        {
            out.extend(turn.running().map(|id| Effect::StopTool { id }));
        }
        self.stop(now, outcome, out);
    }

    pub(super) fn conclude_if_closed(&mut self, _now: Timestamp, out: &mut Vec<Effect>) {
        if matches!(&self.phase, Phase::Stopping(stopping) if !stopping.is_open()) {
            self.conclude(out);
        }
    }

    /// Ends with the calls of `turn` open: nothing can be said of them before the invocation is resumed.
    pub(super) fn park(&mut self, turn: Turn, outcome: Outcome, out: &mut Vec<Effect>) {
        self.phase = Phase::Parked(Parked {
            outcome: outcome.clone(),
            turn,
        });
        out.push(Effect::Finish { outcome });
    }

    /// Closes the history and tells the outcome.
    pub(super) fn conclude(&mut self, out: &mut Vec<Effect>) {
        let Phase::Stopping(stopping) = std::mem::take(&mut self.phase) else {
            return;
        };
        if let (Some(effect), Some(spec)) = (stopping.reserve, &self.spec) {
            // The store never answered. If it granted after all, this settles it; stores keep the order.
            let reservation = crate::id::ReservationId {
                invocation: spec.invocation,
                effect,
            };
            self.settle(reservation, Billing::NotBilled, out);
        }
        self.close_turn(stopping.turn);
        self.phase = Phase::Ended(stopping.outcome.clone());
        out.push(Effect::Finish {
            outcome: stopping.outcome,
        });
    }

    /// Adds the results of a turn to the history, answering what is still open as unknown.
    pub(super) fn close_turn(&mut self, turn: Option<Turn>) {
        if let Some(mut turn) = turn {
            turn.answer_open(UNKNOWN);
            self.push(Message::User(turn.results()));
        }
    }
}

impl Stopping {
    fn is_open(&self) -> bool {
        self.reserve.is_some() || self.turn.as_ref().is_some_and(|turn| !turn.is_answered())
    }
}
