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
use otto_core::invocation::{CancelReason, Effect, Event, ToolEnding, ToolResult};

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
        match effect {
            Effect::Reserve { id, quote } => self.reserve(id, quote).await,
            Effect::Settle {
                reservation,
                settlement,
            } => self.settle(now, reservation, settlement),
            Effect::CallModel { id, request } => self.call_model(now, id, request),
            Effect::StopModel { id } => self.stop_model(id),
            Effect::RunTool { id, request } => self.run_tool(now, id, request),
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

    /// Answers an effect that must not be performed because the store failed before it.
    async fn answer_unperformed(&mut self, effect: Effect) {
        match effect {
            Effect::RunTool { id, .. } => self.inbox.push_back(Event::ToolFinished {
                effect: id,
                result: ToolResult {
                    content: "The call was not run: its intent could not be made durable.".into(),
                    ending: ToolEnding::Cancelled,
                    duration: std::time::Duration::ZERO,
                },
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
