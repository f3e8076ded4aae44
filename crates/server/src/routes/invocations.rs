//! `/v1/invocations`: start, list, look, cancel.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::core::invocation::{CancelReason, Outcome};
use otto::{
    AgentName, InvocationId, InvocationQuery, InvocationRecord, InvokeError, SessionId, TaskSpec,
    WorkflowId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::extract::{Body, Id, Params, id, object};
use super::limits::LimitsBody;
use super::view::{IdsView, LimitsView, NotGrantedView, RecordView, ReportView};
use super::{INVOKE, READ, Route, events};
use crate::problem::Problem;
use crate::state::AppState;

/// BOUND: an idempotency key is an id, not a document.
const MAX_KEY_CHARS: usize = 128;
/// BOUND: rows of one list.
pub(super) const MAX_ROWS: u32 = 1_000;
const DEFAULT_ROWS: u32 = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/invocations", INVOKE, "create_invocation", create)
            .summary("Invoke an agent on a task")
            .header(
                "Idempotency-Key",
                "Asking twice with the same key is one invocation. The same key with another body is refused.",
                json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}),
                "order-17",
            )
            .takes::<Create>()
            .answers::<Accepted>(StatusCode::ACCEPTED, "It runs. It is recorded and survives a crash.")
            .answers::<CreatedView>(StatusCode::OK, "The report, with `wait`; or the invocation that this key was used for; or its events, when they are accepted.")
            .answers_events::<events::EventView>(StatusCode::OK, "", events::KIND),
        Route::get("/v1/invocations", READ, "list_invocations", list)
            .summary("List invocations, newest first")
            .query::<ListQuery>()
            .answers::<Vec<RecordView>>(StatusCode::OK, "The invocations."),
        Route::get("/v1/invocations/{id}", READ, "show_invocation", show)
            .summary("Show an invocation")
            .uuid("id", "The invocation.")
            .answers::<RecordView>(StatusCode::OK, "The invocation."),
        Route::get("/v1/invocations/{id}/transcript", READ, "show_transcript", transcript)
            .summary("The transcript so far, one message per line")
            .uuid("id", "The invocation.")
            .query::<TranscriptQuery>()
            .answers_text(StatusCode::OK, "JSON lines.", "application/x-ndjson"),
        Route::get("/v1/invocations/{id}/open_calls", READ, "list_open_calls", open_calls)
            .summary("The tool calls that were started and have no result; of a parked invocation, those that wait for a person's word")
            .uuid("id", "The invocation.")
            .answers::<Vec<OpenCallView>>(StatusCode::OK, "The calls."),
        Route::post("/v1/invocations/{id}/cancel", INVOKE, "cancel_invocation", cancel)
            .summary("Ask an invocation to end, in whichever process on the state directory it runs")
            .uuid("id", "The invocation.")
            .answers_nothing(StatusCode::ACCEPTED, "It was asked; its events tell when it has ended. One that nobody drives ends when it is taken up."),
    ]
}

/// What is to be done.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    /// The agent's name.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    agent: String,
    /// The task in words.
    #[schemars(length(min = 1))]
    task: String,
    /// Join this session instead of beginning a new one.
    #[schemars(extend("format" = "uuid"))]
    session: Option<String>,
    /// Draw on the budget of this workflow.
    #[schemars(extend("format" = "uuid"))]
    workflow: Option<String>,
    /// Limits that narrow the agent's.
    #[serde(default, deserialize_with = "object")]
    budgets: LimitsBody,
    /// Answer when it has ended, with its report, not when it has begun.
    #[serde(default)]
    wait: bool,
}

/// An invocation that has begun.
#[derive(Serialize, JsonSchema)]
struct Accepted {
    #[serde(flatten)]
    ids: IdsView,
    /// Where its events are.
    events: String,
    /// The limits that it is under.
    limits: LimitsView,
    /// What of the limits in the request is not in force.
    not_granted: Vec<NotGrantedView>,
}

/// A report, or the invocation that an idempotency key was used for before.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum CreatedView {
    Report(ReportView),
    Earlier(RecordView),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this session.
    #[schemars(extend("format" = "uuid"))]
    session: Option<String>,
    /// Only this agent.
    #[schemars(extend("pattern" = r"^[A-Za-z0-9_-]{1,64}$"))]
    agent: Option<String>,
    /// At most this many; 100 when it is not said, and never more than 1,000.
    #[schemars(extend("maximum" = u32::MAX))]
    limit: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TranscriptQuery {
    /// Also what compaction has replaced, each time followed by what it was replaced by.
    #[serde(default)]
    full: bool,
}

/// A tool call that was started and has no result.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenCall")]
struct OpenCallView {
    call: String,
    tool: String,
    /// Exactly as the model wrote it.
    input: String,
}

async fn create(
    State(state): State<AppState>,
    headers: HeaderMap,
    Body(body): Body<Create>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let agent = state.otto.agent(&body.agent)?;
    let task = TaskSpec {
        input: Arc::from(body.task),
        budgets: body.budgets.budgets("budgets")?,
        session: body.session.as_deref().map(id::<SessionId>).transpose()?,
        workflow: body.workflow.as_deref().map(id::<WorkflowId>).transpose()?,
        idempotency_key: key,
    };
    let asked = task.budgets.clone();
    let wants_events = events::are_accepted(&headers);
    let mut handle = match agent.invoke_followed(task).await {
        Ok(handle) => handle,
        // Submitting twice with one key is one invocation: the answer is the one it already has.
        Err(InvokeError::Duplicate(earlier)) if wants_events => {
            return events::open(&state, earlier, &headers, None).await;
        }
        Err(InvokeError::Duplicate(earlier)) => {
            let record = find(&state, earlier).await?;
            return Ok(Json(RecordView::from(&record)).into_response());
        }
        Err(error) => return Err(error.into()),
    };
    let ids = handle.ids();
    if wants_events {
        return events::open(&state, ids.invocation, &HeaderMap::new(), None).await;
    }
    if body.wait {
        let report = handle.report().await?;
        if is_interrupted(&report.outcome) {
            return Err(Problem::interrupted(ids.invocation));
        }
        return Ok(Json(ReportView::from(&report)).into_response());
    }
    // Whoever is told of it may rely on it.
    handle.durable().await;
    let place = format!("/v1/invocations/{}", ids.invocation);
    let limits = agent.limits_for(&asked);
    let accepted = Accepted {
        ids: ids.into(),
        events: format!("{place}/events"),
        limits: (&limits).into(),
        not_granted: otto::not_granted(&asked, &limits)
            .into_iter()
            .map(Into::into)
            .collect(),
    };
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

const fn is_interrupted(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Cancelled {
            reason: CancelReason::Shutdown
        }
    )
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let is_key = |text: &&str| {
        (1..=MAX_KEY_CHARS).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
    };
    match value.to_str().ok().filter(is_key) {
        Some(key) => Ok(Some(Arc::from(key))),
        None => Err(Problem::bad_request(
            "the Idempotency-Key has 1 to 128 letters, digits and signs of ASCII, without spaces",
        )),
    }
}

async fn list(
    State(state): State<AppState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Vec<RecordView>>, Problem> {
    let query = InvocationQuery {
        invocation: None,
        session: query.session.as_deref().map(id::<SessionId>).transpose()?,
        agent: query.agent.as_deref().map(id::<AgentName>).transpose()?,
        limit: Some(query.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS)),
    };
    let records = state.otto.invocations(query).await?;
    Ok(Json(records.iter().map(Into::into).collect()))
}

async fn show(
    State(state): State<AppState>,
    Id(invocation): Id<InvocationId>,
) -> Result<Json<RecordView>, Problem> {
    let record = find(&state, invocation).await?;
    Ok(Json(RecordView::from(&record)))
}

async fn transcript(
    State(state): State<AppState>,
    Id(invocation): Id<InvocationId>,
    Params(query): Params<TranscriptQuery>,
) -> Result<Response, Problem> {
    find(&state, invocation).await?;
    let transcript = if query.full {
        state.otto.full_transcript(invocation).await?
    } else {
        state.otto.transcript(invocation).await?
    };
    let text = transcript.to_jsonl();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

async fn open_calls(
    State(state): State<AppState>,
    Id(invocation): Id<InvocationId>,
) -> Result<Json<Vec<OpenCallView>>, Problem> {
    find(&state, invocation).await?;
    let calls = state.otto.open_calls(invocation).await?;
    Ok(Json(
        calls
            .into_iter()
            .map(|call| OpenCallView {
                call: call.call.0.to_string(),
                tool: call.tool.to_string(),
                input: call.input.to_string(),
            })
            .collect(),
    ))
}

async fn cancel(
    State(state): State<AppState>,
    Id(invocation): Id<InvocationId>,
) -> Result<StatusCode, Problem> {
    state.otto.cancel(invocation).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn find(
    state: &AppState,
    invocation: InvocationId,
) -> Result<InvocationRecord, Problem> {
    let query = InvocationQuery {
        invocation: Some(invocation),
        ..InvocationQuery::default()
    };
    let records = state.otto.invocations(query).await?;
    records
        .into_iter()
        .next()
        .ok_or_else(|| Problem::not_found(format!("there is no invocation {invocation}")))
}
