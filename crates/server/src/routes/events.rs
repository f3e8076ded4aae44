//! `/v1/invocations/{id}/events`: an invocation as server-sent events, from any point on.
//!
//! Events with an `id` come from the durable journal: the id is the journal's sequence, so a client that was
//! cut off (or whose server was killed) reconnects with `Last-Event-ID` or `?cursor=` and misses nothing and
//! gets nothing twice. Events named `delta` have no id: pieces of text as they stream, for the eye only.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures_util::Stream;
use otto::core::invocation::{Event, StopReason, ToolEnding};
use otto::core::journal;
use otto::core::message::{BlockView, ToolInput};
use otto::{InvocationId, ListenerEvent};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::problem::Problem;
use crate::routes::view::RecordView;
use crate::routes::{id, invocations};
use crate::state::AppState;

/// An invocation that another process drives is looked at this often.
const POLL: Duration = Duration::from_millis(250);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CursorQuery {
    cursor: Option<u64>,
}

/// `GET /v1/invocations/{id}/events`
pub(crate) async fn stream(
    State(state): State<AppState>,
    Path(invocation): Path<String>,
    headers: HeaderMap,
    query: Result<Query<CursorQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let invocation: InvocationId = id(&invocation)?;
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let last_event_id = match headers.get("last-event-id").map(|value| value.to_str()) {
        None => None,
        Some(Ok("")) => None,
        Some(text) => {
            let number = text.ok().and_then(|text| text.parse::<u64>().ok());
            Some(number.ok_or_else(|| {
                Problem::bad_request("Last-Event-ID is not one of this stream's ids")
            })?)
        }
    };
    invocations::find(&state, invocation).await?;
    let follower = Follower::new(
        state,
        invocation,
        last_event_id.or(query.cursor).unwrap_or(0),
    );
    let events = futures_util::stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Follows one invocation: what is durable, then what comes.
struct Follower {
    state: AppState,
    invocation: InvocationId,
    cursor: u64,
    ready: VecDeque<SseEvent>,
    progress: Option<watch::Receiver<u64>>,
    deltas: Option<broadcast::Receiver<ListenerEvent>>,
    is_done: bool,
}

impl Follower {
    fn new(state: AppState, invocation: InvocationId, cursor: u64) -> Self {
        let running = state.otto.engine().registry().find(invocation);
        Self {
            progress: running.as_ref().map(otto::RunningInvocation::progress),
            deltas: running
                .as_ref()
                .and_then(otto::RunningInvocation::subscribe),
            state,
            invocation,
            cursor,
            ready: VecDeque::new(),
            is_done: false,
        }
    }

    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_done {
                return None;
            }
            // Whether it has ended is read first: what the journal holds after that is all there will be.
            let record = invocations::find(&self.state, self.invocation).await.ok()?;
            let entries = self
                .state
                .otto
                .journal_after(self.invocation, self.cursor)
                .await
                .ok()?;
            for entry in entries {
                self.cursor = entry.sequence;
                if let Some((name, data)) = describe(&entry.payload) {
                    self.push(name, &data);
                }
            }
            if record.outcome.is_some() {
                self.cursor += 1;
                let data = serde_json::to_value(RecordView::from(&record)).unwrap_or_default();
                self.push("finished", &data);
                self.is_done = true;
            } else if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    fn push(&mut self, name: &'static str, data: &Value) {
        let event = SseEvent::default()
            .id(self.cursor.to_string())
            .event(name)
            .data(data.to_string());
        self.ready.push_back(event);
    }

    /// Waits until there may be more to tell.
    async fn wait(&mut self) {
        tokio::select! {
            () = progressed(&mut self.progress) => {}
            delta = next_delta(&mut self.deltas) => {
                let event = SseEvent::default().event("delta").data(json!({ "text": delta }).to_string());
                self.ready.push_back(event);
            }
        }
    }
}

async fn progressed(progress: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = progress {
        let changed = tokio::time::timeout(POLL, receiver.changed()).await;
        if !matches!(changed, Ok(Err(_))) {
            return;
        }
        *progress = None;
    }
    tokio::time::sleep(POLL).await;
}

async fn next_delta(deltas: &mut Option<broadcast::Receiver<ListenerEvent>>) -> String {
    while let Some(receiver) = deltas {
        match receiver.recv().await {
            Ok(ListenerEvent::Text(text)) => return text,
            // Deltas are for the eye: what was missed is in the block that follows.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *deltas = None,
        }
    }
    std::future::pending().await
}

/// The public form of a journaled event; `None` for steps that only the machine needs.
fn describe(line: &str) -> Option<(&'static str, Value)> {
    let (at, event) = journal::decode(line).ok()?;
    let (name, mut data) = match event {
        Event::Started(spec) => (
            "started",
            json!({ "agent": spec.agent.as_str(), "model": spec.model.id.as_str() }),
        ),
        Event::Resumed(_) => ("resumed", json!({})),
        Event::ReservationGranted { grant, .. } => (
            "reserved",
            json!({
                "held_picodollars": grant.held_cost.picodollars(),
                "max_output_tokens": grant.max_output_tokens,
            }),
        ),
        Event::ReservationDenied { denial, .. } => {
            ("denied", json!({ "detail": denial.to_string() }))
        }
        Event::BlockReceived { block, .. } => match &block.view {
            BlockView::Text(text) => ("text", json!({ "text": &**text })),
            BlockView::ToolCall(call) => {
                let input = match &call.input {
                    ToolInput::Object(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                    ToolInput::Invalid(_) => Value::Null,
                };
                (
                    "tool_call",
                    json!({ "call": &*call.id.0, "tool": call.tool.as_str(), "input": input }),
                )
            }
            BlockView::Thinking(_) | BlockView::Opaque => return None,
        },
        Event::ModelFinished { finish, .. } => {
            let stop = match finish.stop {
                StopReason::EndTurn => "end_turn",
                StopReason::ToolUse => "tool_use",
                StopReason::MaxTokens => "max_tokens",
                StopReason::StopSequence => "stop_sequence",
                StopReason::PauseTurn => "pause_turn",
                StopReason::Refusal { .. } => "refusal",
                StopReason::ContextWindowExceeded => "model_context_window_exceeded",
                StopReason::Other(_) => "other",
            };
            let tokens = finish.usage.map(|usage| usage.total_tokens());
            ("turn_finished", json!({ "stop": stop, "tokens": tokens }))
        }
        Event::ModelFailed { failure, .. } => (
            "model_failed",
            json!({ "kind": format!("{:?}", failure.kind), "detail": &*failure.message }),
        ),
        Event::ToolFinished { result, .. } => {
            let ending = match result.ending {
                ToolEnding::Succeeded => "succeeded",
                ToolEnding::Failed => "failed",
                ToolEnding::Denied => "denied",
                ToolEnding::TimedOut => "timed_out",
                ToolEnding::Cancelled => "cancelled",
                ToolEnding::OperatorFault => "operator_fault",
            };
            let millis = u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX);
            (
                "tool_result",
                json!({ "ending": ending, "content": &*result.content, "duration_ms": millis }),
            )
        }
        Event::CancelRequested(reason) => (
            "cancel_requested",
            json!({ "reason": format!("{reason:?}") }),
        ),
        Event::ReservationRefused { .. }
        | Event::ToolCallReceived { .. }
        | Event::TimerFired { .. } => {
            return None;
        }
    };
    if let Value::Object(fields) = &mut data {
        fields.insert("at_ms".to_owned(), at.millis().into());
    }
    Some((name, data))
}
