//! The calls of a reply: started, answered, and closed with one message of results.
//!
//! Invariant: a call with side effects is started only behind a `Persist`, and a turn is closed only when
//! every call has its result.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::id::EffectId;
use crate::invocation::machine::{Invocation, Phase};
use crate::invocation::{
    Effect, Failure, Outcome, SideEffects, TimerPurpose, ToolEnding, ToolResult,
};
use crate::message::{Message, UserBlock};
use crate::{Timestamp, ToolName};

impl Invocation {
    pub(super) fn tool_finished(
        &mut self,
        now: Timestamp,
        effect: EffectId,
        result: &ToolResult,
        out: &mut Vec<Effect>,
    ) {
        let turn = match &mut self.phase {
            Phase::Calling(turn) | Phase::Answering(turn) => turn,
            Phase::Stopping(stopping) => match &mut stopping.turn {
                Some(turn) => turn,
                None => return,
            },
            Phase::New
            | Phase::Reserving(_)
            | Phase::Waiting(_)
            | Phase::Parked(_)
            | Phase::Ended(_) => return,
        };
        let Some(tool) = turn.finish_call(effect, result) else {
            return;
        };
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
        let Some(parallel) = self.spec.as_ref().map(|spec| spec.limits.parallel_tools) else {
            return;
        };
        loop {
            let id = EffectId(self.last_effect + 1);
            let (Phase::Calling(turn) | Phase::Answering(turn)) = &mut self.phase else {
                return;
            };
            let Some(request) = turn.start_next(parallel, id) else {
                return;
            };
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
        let Phase::Answering(turn) = &self.phase else {
            return;
        };
        if !turn.is_answered() {
            return;
        }
        let mut blocks = turn.results();
        blocks.extend(self.limit_note(now).map(UserBlock::Text));
        let repeated = self.count_repetitions();
        // The results are in the history from here on; a stop must not add them again.
        self.phase = Phase::Waiting(EffectId(0));
        self.push(Message::User(blocks));
        if let Some(failure) = repeated {
            return self.stop(now, Outcome::Failed { failure }, out);
        }
        self.continuations = 0;
        if now < self.not_before {
            // The reply had broken off: what is left of the wait after a failure.
            return self.wait(self.not_before, TimerPurpose::Backoff, out);
        }
        self.begin_turn(now, out);
    }

    /// Counts identical calls with identical results; `Some` when one has come too often.
    fn count_repetitions(&mut self) -> Option<Failure> {
        let Phase::Answering(turn) = &self.phase else {
            return None;
        };
        let allowed = self.spec.as_ref()?.limits.repetitions;
        for call in turn.answered() {
            let mut hasher = DefaultHasher::new();
            (call.tool, call.input, call.content, call.is_error).hash(&mut hasher);
            let count = self.repetitions.entry(hasher.finish()).or_insert(0);
            *count += 1;
            if *count >= allowed {
                return Some(Failure::Repetition {
                    tool: call.tool.clone(),
                    count: *count,
                });
            }
        }
        None
    }
}
