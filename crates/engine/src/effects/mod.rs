//! One file per effect, one function each: from the effect to what it does, and to the event that answers it.
//!
//! Invariant: a function here performs its effect and nothing else; what follows from it is the machine's
//! decision.

mod call_model;
mod finish;
mod persist;
mod reserve;
mod run_tool;
mod settle;

pub(crate) use call_model::{OpenModelCall, next_model_event};
pub(crate) use run_tool::{EndedTool, RunningTool};
pub(crate) use settle::PendingSettle;

use otto_core::Timestamp;
use otto_core::invocation::{
    Billing, CancelReason, Effect, Event, ModelFailure, ModelFailureKind, ToolEnding, ToolResult,
};

use crate::agent_server::AgentServer;

/// The store could not keep what had to be kept: nothing after it may be performed.
pub(crate) struct StoreFailed;

impl AgentServer {
    /// Performs the effects of one step, in order.
    pub(crate) async fn perform_all(&mut self, now: Timestamp, effects: Vec<Effect>) {
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            if self.perform(now, effect).await.is_err() {
                self.inbox
                    .push_back(Event::CancelRequested(CancelReason::StoreFailed));
                for left_out in effects.by_ref() {
                    self.answer_unperformed(left_out).await;
                }
            }
        }
    }

    async fn perform(&mut self, now: Timestamp, effect: Effect) -> Result<(), StoreFailed> {
        if let Some(reason) = self.stop_ordered()
            && self.is_held_back(&effect, reason)
        {
            return Ok(());
        }
        match effect {
            Effect::Reserve { id, quote } => self.reserve(id, quote).await,
            Effect::Settle {
                reservation,
                settlement,
            } => self.settle(now, reservation, settlement),
            Effect::CallModel { id, request } => {
                self.watch.model_call_started(now, id, &request);
                self.call_model(now, id, request);
            }
            Effect::StopModel { id } => {
                self.watch.model_call_stopped(now, id);
                self.stop_model(id);
            }
            Effect::RunTool { id, request } => {
                self.watch.tool_started(now, id, &request);
                self.run_tool(now, id, request);
            }
            Effect::StopTool { id } => self.stop_tool(id),
            Effect::SetTimer { id, at, purpose } => {
                self.note_timer(now, at, purpose);
                self.timers.set(now, at, id);
            }
            Effect::Persist => return self.persist().await,
            Effect::Finish { outcome } => self.finish(now, outcome).await,
        }
        Ok(())
    }

    /// Answers what must not begin because the end was ordered (kill switch, shutdown, cancellation); the
    /// machine hears of the order next. Says whether the effect was such a beginning.
    fn is_held_back(&mut self, effect: &Effect, reason: CancelReason) -> bool {
        let answer = match effect {
            Effect::Reserve { id, .. } => Event::ReservationRefused {
                effect: *id,
                reason,
            },
            Effect::CallModel { id, .. } => Event::ModelFailed {
                effect: *id,
                failure: not_sent(),
            },
            Effect::RunTool { id, .. } => Event::ToolFinished {
                effect: *id,
                result: not_run(
                    "The call was not run: the invocation was ordered to end before it.",
                ),
            },
            Effect::Settle { .. }
            | Effect::StopModel { .. }
            | Effect::StopTool { .. }
            | Effect::SetTimer { .. }
            | Effect::Persist
            | Effect::Finish { .. } => return false,
        };
        self.inbox.push_back(answer);
        true
    }

    /// Answers an effect that must not be performed because the store failed before it.
    async fn answer_unperformed(&mut self, effect: Effect) {
        match effect {
            Effect::RunTool { id, .. } => self.inbox.push_back(Event::ToolFinished {
                effect: id,
                result: not_run("The call was not run: its intent could not be made durable."),
            }),
            Effect::Reserve { id, .. } => self.inbox.push_back(Event::ReservationRefused {
                effect: id,
                reason: CancelReason::StoreFailed,
            }),
            Effect::StopModel { id } => self.stop_model(id),
            Effect::StopTool { id } => self.stop_tool(id),
            Effect::Finish { outcome } => {
                let now = self.shared.clock.now();
                self.finish(now, outcome).await;
            }
            // A model call is never emitted behind a `Persist`; a settlement rides with `finish`; timers no
            // longer matter.
            Effect::CallModel { .. }
            | Effect::Settle { .. }
            | Effect::SetTimer { .. }
            | Effect::Persist => {}
        }
    }
}

/// The result of a call that never began.
fn not_run(content: &str) -> ToolResult {
    ToolResult {
        content: content.into(),
        ending: ToolEnding::Cancelled,
        duration: std::time::Duration::ZERO,
    }
}

/// The failure of a model call that never left: its hold is released, and a retry would wait for longer than
/// the invocation has.
fn not_sent() -> ModelFailure {
    ModelFailure {
        kind: ModelFailureKind::Interrupted,
        message: "not sent: the invocation was ordered to end before the call".into(),
        billing: Billing::NotBilled,
        retry_after: None,
        should_retry: Some(true),
        status: None,
        request_id: None,
    }
}
