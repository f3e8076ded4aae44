//! `/v1/invocations/{id}/events`: an invocation as server-sent events, from any point on.
//!
//! Events with an `id` come from the durable journal: the id is the journal's sequence, so a client that was
//! cut off (or whose server was killed) reconnects with `Last-Event-ID` or `?after=` and misses nothing and
//! gets nothing twice. Events named `delta` have no id: pieces of text as they stream, for the eye only.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use otto::InvocationId;
use otto::core::invocation::Event;
use otto::core::journal;
use otto::core::message::{BlockView, ToolInput};
use otto::text::rfc3339;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Id, Params, accepts};
use super::follow::{Cursor, Follower};
use super::{READ, Route, invocations};
use crate::problem::Problem;
use crate::state::AppState;

/// The media type of server-sent events.
pub(super) const KIND: &str = "text/event-stream";
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/invocations/{id}/events", READ, "follow_invocation", stream)
            .summary("Follow an invocation, from any point to its end")
            .uuid("id", "The invocation.")
            .header(
                "Last-Event-ID",
                "The id of the last event that was received, or nothing; it goes before `after`.",
                json!({"type": "string", "pattern": LAST_EVENT_PATTERN}),
                "1",
            )
            .query::<CursorQuery>()
            .answers_events::<EventView>(StatusCode::OK, "Server-sent events.", KIND)
            .answers_nothing(
                StatusCode::NO_CONTENT,
                "It has ended and the cursor is that of its end: there is nothing more to come back for.",
            ),
    ]
}

const CURSOR_PATTERN: &str = r"^[0-9]{1,19}(\.end)?$";
/// A browser that has received no id yet sends an empty one.
const LAST_EVENT_PATTERN: &str = r"^([0-9]{1,19}(\.end)?)?$";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CursorQuery {
    /// Only events after the one with this id.
    #[schemars(extend("pattern" = CURSOR_PATTERN))]
    after: Option<String>,
}

/// One event of the stream.
#[derive(JsonSchema)]
#[schemars(rename = "ServerSentEvent")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct EventView {
    /// The cursor from which to go on. A `delta` has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// What happened: `started`, `text`, `tool_call`, `finished` and others; more may come.
    event: String,
    /// A JSON object as a text.
    data: String,
}

async fn stream(
    State(state): State<AppState>,
    Id(invocation): Id<InvocationId>,
    headers: HeaderMap,
    Params(query): Params<CursorQuery>,
) -> Result<Response, Problem> {
    open(&state, invocation, &headers, query.after.as_deref()).await
}

/// Whether a client wants events rather than an answer.
pub(super) fn are_accepted(headers: &HeaderMap) -> bool {
    accepts(headers, KIND)
}

/// The events of an invocation after a cursor.
pub(super) async fn open(
    state: &AppState,
    invocation: InvocationId,
    headers: &HeaderMap,
    after: Option<&str>,
) -> Result<Response, Problem> {
    let parse = |text: &str| {
        Cursor::parse(text)
            .ok_or_else(|| Problem::bad_request("the cursor is not an id of this stream"))
    };
    // One that is not used has to be one all the same.
    let after = after.map(parse).transpose()?;
    let cursor = match headers.get("last-event-id") {
        // What a browser sends that has received no id yet.
        Some(value) if !value.is_empty() => parse(value.to_str().unwrap_or("?"))?,
        _ => after.unwrap_or_default(),
    };
    let record = invocations::find(state, invocation).await?;
    if cursor.sequence > 0 {
        let known = state
            .otto
            .journal_after(invocation, cursor.sequence - 1)
            .await?;
        if known.is_empty() {
            return Err(Problem::gone(format!(
                "event {} of invocation {invocation} is not there; follow it from the beginning",
                cursor.sequence
            )));
        }
        let is_over = known.len() == 1 && record.outcome.is_some();
        let is_running = state.otto.engine().registry().find(invocation).is_some();
        if cursor.knows_end && is_over && !is_running {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let follower = Follower::new(state.clone(), invocation, cursor);
    let events = futures_util::stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let place = format!("/v1/invocations/{invocation}");
    Ok(([(header::LOCATION, place)], sse).into_response())
}

/// The public form of a journaled event; `None` for steps that only the machine needs.
pub(super) fn describe(line: &str) -> Option<(&'static str, Value)> {
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
            let tokens = finish.usage.map(|usage| usage.total_tokens());
            (
                "turn_finished",
                json!({ "stop": finish.stop.as_str(), "tokens": tokens }),
            )
        }
        Event::ModelFailed { failure, .. } => (
            "model_failed",
            json!({ "kind": failure.kind.as_str(), "detail": &*failure.message }),
        ),
        Event::ToolFinished { result, .. } => {
            let millis = u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX);
            (
                "tool_result",
                json!({ "ending": result.ending.as_str(), "content": &*result.content, "duration_ms": millis }),
            )
        }
        Event::CancelRequested(reason) => {
            ("cancel_requested", json!({ "reason": reason.as_str() }))
        }
        Event::ReservationRefused { .. }
        | Event::ToolCallReceived { .. }
        | Event::TimerFired { .. } => {
            return None;
        }
    };
    let is_of_summary = journal::is_of_summary(line);
    if let Value::Object(fields) = &mut data {
        fields.insert("at".to_owned(), rfc3339(at).into());
        if is_of_summary {
            fields.insert("summary".to_owned(), true.into());
        }
    }
    // What a summary says is for the model, and no answer of the agent.
    let name = match name {
        "text" if is_of_summary => "summary",
        "turn_finished" if is_of_summary => "summary_finished",
        name => name,
    };
    Some((name, data))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use otto::Timestamp;
    use otto::core::id::EffectId;
    use otto::core::message::Block;

    use super::*;

    #[test]
    fn a_summary_is_no_answer() {
        let event = Event::BlockReceived {
            effect: EffectId(3),
            index: 0,
            block: Arc::new(Block {
                raw: "{}".into(),
                view: BlockView::Text("so far".into()),
            }),
        };
        let at = Timestamp::from_micros(1);
        let (name, data) = describe(&journal::encode(at, &event)).unwrap();
        assert_eq!((name, &data["text"]), ("text", &"so far".into()));
        assert!(data.get("summary").is_none());
        let line = journal::encode_of_summary(at, &event);
        assert_eq!(journal::decode(&line).unwrap(), (at, event));
        let (name, data) = describe(&line).unwrap();
        assert_eq!((name, &data["text"]), ("summary", &"so far".into()));
        assert_eq!(data["summary"], true);
    }

    #[test]
    fn events_are_wanted_by_their_media_type() {
        for (accept, wanted) in [
            ("text/event-stream", true),
            ("application/json, text/event-stream;q=0.9", true),
            ("*/*", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(are_accepted(&headers), wanted, "{accept}");
        }
        assert!(!are_accepted(&HeaderMap::new()));
    }
}
