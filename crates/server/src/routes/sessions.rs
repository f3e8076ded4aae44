//! `/v1/sessions`: a session's invocations, and taking it up again.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use otto::{Budgets, InvocationQuery, Limit, Money, ResumeOptions, SessionId, UnknownCallDecision};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::routes::view::{IdsView, RecordView};
use crate::routes::{id, json_body};
use crate::state::AppState;

const ORIGIN: &str = "the HTTP request";

#[derive(Serialize)]
pub(crate) struct SessionView {
    id: String,
    invocations: Vec<RecordView>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Resume {
    #[serde(default)]
    raise: RaiseBody,
    /// `run_again` or `tell_model`, for a call of unknown outcome that waits for a person.
    decision: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RaiseBody {
    time_ms: Option<u64>,
    tokens: Option<u64>,
    cost_usd: Option<String>,
    turns: Option<u32>,
}

/// `GET /v1/sessions/{id}`
pub(crate) async fn show(
    State(state): State<AppState>,
    Path(session): Path<String>,
) -> Result<Json<SessionView>, Problem> {
    let session: SessionId = id(&session)?;
    let query = InvocationQuery {
        session: Some(session),
        ..InvocationQuery::default()
    };
    let records = state.otto.invocations(query).await?;
    if records.is_empty() {
        return Err(Problem::not_found(format!("there is no session {session}")));
    }
    Ok(Json(SessionView {
        id: session.to_string(),
        invocations: records.iter().map(Into::into).collect(),
    }))
}

/// `POST /v1/sessions/{id}/resume`
pub(crate) async fn resume(
    State(state): State<AppState>,
    Path(session): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let session: SessionId = id(&session)?;
    let body: Resume = json_body(request).await?;
    let decision = match body.decision.as_deref() {
        None => None,
        Some("run_again") => Some(UnknownCallDecision::RunAgain),
        Some("tell_model") => Some(UnknownCallDecision::TellModel),
        Some(_) => {
            return Err(Problem::unprocessable(
                "decision is `run_again` or `tell_model`",
            ));
        }
    };
    let cost = body
        .raise
        .cost_usd
        .as_deref()
        .map(str::parse::<Money>)
        .transpose();
    let cost = cost.map_err(|error| Problem::unprocessable(format!("raise.cost_usd: {error}")))?;
    let raise = Budgets {
        time: body
            .raise
            .time_ms
            .map(|ms| Limit::new(Duration::from_millis(ms), ORIGIN)),
        tokens: body.raise.tokens.map(|tokens| Limit::new(tokens, ORIGIN)),
        cost: cost.map(|cost| Limit::new(cost, ORIGIN)),
        turns: body.raise.turns.map(|turns| Limit::new(turns, ORIGIN)),
    };
    let options = ResumeOptions {
        raise,
        decision,
        ..ResumeOptions::default()
    };
    let handle = state.otto.resume(session, options).await?;
    Ok((StatusCode::ACCEPTED, Json(IdsView::from(handle.ids()))).into_response())
}
