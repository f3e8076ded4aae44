//! `/v1/invocations`: start, list, look, cancel.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::{
    AgentName, Budgets, InvocationId, InvocationQuery, InvocationRecord, InvokeError, Limit, Money,
    SessionId, TaskSpec, WorkflowId,
};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::routes::view::{IdsView, RecordView, ReportView};
use crate::routes::{id, json_body};
use crate::state::AppState;

/// BOUND: an idempotency key is an id, not a document.
const MAX_KEY_CHARS: usize = 128;
/// BOUND: rows of one list.
const MAX_ROWS: u32 = 1_000;
/// Where a limit of a request was set, as messages name it.
const ORIGIN: &str = "the HTTP request";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    agent: String,
    task: String,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    workflow: Option<String>,
    #[serde(default)]
    budgets: BudgetsBody,
    /// Answer when the invocation has ended, not when it has begun.
    #[serde(default)]
    wait: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BudgetsBody {
    time_ms: Option<u64>,
    tokens: Option<u64>,
    cost_usd: Option<String>,
    turns: Option<u32>,
}

#[derive(Serialize)]
struct Accepted {
    #[serde(flatten)]
    ids: IdsView,
    events: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    session: Option<String>,
    agent: Option<String>,
    limit: Option<u32>,
}

/// `POST /v1/invocations`
pub(crate) async fn create(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?;
    let body: Create = json_body(request).await?;
    let agent = state
        .otto
        .agent(&body.agent)
        .map_err(|error| Problem::not_found(error.to_string()))?;
    let task = TaskSpec {
        input: Arc::from(body.task),
        budgets: budgets(&body.budgets)?,
        session: body.session.as_deref().map(id::<SessionId>).transpose()?,
        workflow: body.workflow.as_deref().map(id::<WorkflowId>).transpose()?,
        idempotency_key: key,
    };
    let handle = match agent.invoke_followed(task).await {
        Ok(handle) => handle,
        // Submitting twice with one key is one invocation: the answer is the one it already has.
        Err(InvokeError::Duplicate(earlier)) => return already_there(&state, earlier).await,
        Err(error) => return Err(error.into()),
    };
    let ids = handle.ids();
    if body.wait {
        let report = handle.report().await?;
        return Ok(Json(ReportView::from(&report)).into_response());
    }
    let place = format!("/v1/invocations/{}", ids.invocation);
    let accepted = Accepted {
        ids: ids.into(),
        events: format!("{place}/events"),
    };
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

async fn already_there(state: &AppState, invocation: InvocationId) -> Result<Response, Problem> {
    let record = find(state, invocation).await?;
    Ok(Json(RecordView::from(&record)).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| Problem::bad_request("the Idempotency-Key is not plain text"))?;
    if text.is_empty() || text.chars().count() > MAX_KEY_CHARS {
        return Err(Problem::bad_request(
            "the Idempotency-Key has 1 to 128 characters",
        ));
    }
    Ok(Some(Arc::from(text)))
}

fn budgets(body: &BudgetsBody) -> Result<Budgets, Problem> {
    let positive = |name: &str, value: Option<u64>| match value {
        Some(0) => Err(Problem::unprocessable(format!(
            "budgets.{name} is 0; it must be at least 1"
        ))),
        other => Ok(other),
    };
    let cost = body
        .cost_usd
        .as_deref()
        .map(str::parse::<Money>)
        .transpose();
    let cost =
        cost.map_err(|error| Problem::unprocessable(format!("budgets.cost_usd: {error}")))?;
    let turns = positive("turns", body.turns.map(u64::from))?;
    Ok(Budgets {
        time: positive("time_ms", body.time_ms)?
            .map(|ms| Limit::new(Duration::from_millis(ms), ORIGIN)),
        tokens: positive("tokens", body.tokens)?.map(|tokens| Limit::new(tokens, ORIGIN)),
        cost: cost.map(|cost| Limit::new(cost, ORIGIN)),
        turns: turns
            .and_then(|turns| u32::try_from(turns).ok())
            .map(|turns| Limit::new(turns, ORIGIN)),
    })
}

/// `GET /v1/invocations`
pub(crate) async fn list(
    State(state): State<AppState>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<RecordView>>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let agent = query.agent.as_deref().map(id::<AgentName>).transpose()?;
    let query = InvocationQuery {
        invocation: None,
        session: query.session.as_deref().map(id::<SessionId>).transpose()?,
        agent,
        limit: Some(query.limit.unwrap_or(100).min(MAX_ROWS)),
    };
    let records = state.otto.invocations(query).await?;
    Ok(Json(records.iter().map(Into::into).collect()))
}

/// `GET /v1/invocations/{id}`
pub(crate) async fn show(
    State(state): State<AppState>,
    Path(invocation): Path<String>,
) -> Result<Json<RecordView>, Problem> {
    let record = find(&state, id(&invocation)?).await?;
    Ok(Json(RecordView::from(&record)))
}

/// `GET /v1/invocations/{id}/transcript`
pub(crate) async fn transcript(
    State(state): State<AppState>,
    Path(invocation): Path<String>,
) -> Result<Response, Problem> {
    let invocation: InvocationId = id(&invocation)?;
    find(&state, invocation).await?;
    let text = state.otto.transcript(invocation).await?.to_jsonl();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// `POST /v1/invocations/{id}/cancel`
pub(crate) async fn cancel(
    State(state): State<AppState>,
    Path(invocation): Path<String>,
) -> Result<StatusCode, Problem> {
    let invocation: InvocationId = id(&invocation)?;
    match state.otto.engine().registry().find(invocation) {
        Some(running) => {
            running.cancel();
            Ok(StatusCode::ACCEPTED)
        }
        None => {
            let record = find(&state, invocation).await?;
            let state = record
                .outcome
                .map_or("not running in this process", otto::OutcomeKind::as_str);
            Err(Problem::conflict(format!(
                "invocation {invocation} cannot be canceled: {state}"
            )))
        }
    }
}

pub(crate) async fn find(
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
