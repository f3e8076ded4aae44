//! `CallModel`, `StopModel`: one attempt of one model call, and the translation of its stream into events.

use std::time::Duration;

use futures_util::StreamExt;
use otto_core::Timestamp;
use otto_core::id::EffectId;
use otto_core::invocation::{
    Billing, CallPurpose, Event, ModelFailure, ModelFailureKind, ModelRequest,
};
use otto_core::port::llm_client::{ModelCall, ModelEvent, ModelStream};

use crate::ListenerEvent;
use crate::agent_server::AgentServer;
use crate::redaction::DeltaRedactor;

/// The time limit of an invocation is announced by the machine's own timer, as a deadline. The provider's limit
/// is a second fence behind it: without the slack both would race, and a deadline could look like a failure of
/// the provider.
const PROVIDER_SLACK: Duration = Duration::from_secs(1);

/// A model call in flight.
pub(crate) struct OpenModelCall {
    pub(crate) id: EffectId,
    purpose: CallPurpose,
    stream: ModelStream,
    text: DeltaRedactor,
}

impl AgentServer {
    pub(crate) fn call_model(&mut self, now: Timestamp, id: EffectId, request: ModelRequest) {
        let purpose = request.purpose;
        let call = ModelCall {
            conversation: self.conversation.clone(),
            request,
            time_left: self.machine.time_left(now) + PROVIDER_SLACK,
        };
        // What a summary says is for the model: listeners hear that there is one.
        let is_shown = self.events.is_some() && purpose == CallPurpose::Turn;
        let text = DeltaRedactor::new(&self.shared.redactor, is_shown);
        self.model = Some(OpenModelCall {
            id,
            purpose,
            stream: self.shared.client.call(call),
            text,
        });
    }

    pub(crate) fn stop_model(&mut self, id: EffectId) {
        if self.model.as_ref().is_some_and(|call| call.id == id) {
            self.model = None;
        }
    }

    /// Translates one model event; `None` when it is for listeners only.
    pub(crate) fn model_event(&mut self, id: EffectId, event: Option<ModelEvent>) -> Option<Event> {
        let event = match event {
            Some(ModelEvent::Started { .. }) => return None,
            Some(ModelEvent::TextDelta { index, text }) => {
                if let Some(shown) = self
                    .model
                    .as_mut()
                    .and_then(|call| call.text.text(index, &text))
                {
                    self.tell(|| ListenerEvent::Text(shown));
                }
                return None;
            }
            Some(ModelEvent::ThinkingDelta { index, text }) => {
                if let Some(shown) = self
                    .model
                    .as_mut()
                    .and_then(|call| call.text.thinking(index, &text))
                {
                    self.tell(|| ListenerEvent::Thinking(shown));
                }
                return None;
            }
            Some(ModelEvent::ToolCallStarted { id, tool, .. }) => {
                if self.is_turn() {
                    self.tell(|| ListenerEvent::ToolCallStarted { call: id, tool });
                }
                return None;
            }
            Some(ModelEvent::BlockFinished { index, block }) => {
                self.flush_deltas();
                let block = crate::redaction::block(&self.shared.redactor, block);
                return Some(Event::BlockReceived {
                    effect: id,
                    index,
                    block,
                });
            }
            Some(ModelEvent::ToolCallConfirmed { index }) => {
                return Some(Event::ToolCallReceived { effect: id, index });
            }
            Some(ModelEvent::Finished(finish)) => Event::ModelFinished { effect: id, finish },
            Some(ModelEvent::Failed(failure)) => Event::ModelFailed {
                effect: id,
                failure,
            },
            None => Event::ModelFailed {
                effect: id,
                failure: ModelFailure {
                    kind: ModelFailureKind::CutStream,
                    message: "the provider's stream ended without an ending".into(),
                    billing: Billing::Unknown,
                    retry_after: None,
                    should_retry: None,
                    status: None,
                    request_id: None,
                },
            },
        };
        self.flush_deltas();
        self.model = None;
        Some(event)
    }

    /// Whether the open call is a turn, and not a summary.
    fn is_turn(&self) -> bool {
        self.model
            .as_ref()
            .is_some_and(|call| call.purpose == CallPurpose::Turn)
    }

    fn flush_deltas(&mut self) {
        let Some(call) = &mut self.model else { return };
        let (text, thinking) = call.text.flush();
        if let Some(text) = text {
            self.tell(|| ListenerEvent::Text(text));
        }
        if let Some(thinking) = thinking {
            self.tell(|| ListenerEvent::Thinking(thinking));
        }
    }
}

/// The next event of the open model call; never resolves when none is open. Cancel safe.
pub(crate) async fn next_model_event(
    call: &mut Option<OpenModelCall>,
) -> (EffectId, Option<ModelEvent>) {
    match call {
        Some(call) => (call.id, call.stream.next().await),
        None => std::future::pending().await,
    }
}
