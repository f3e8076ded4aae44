//! `/v1/kill`: the kill switch.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::routes::json_body;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct KillView {
    thrown: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Throw {
    reason: String,
}

/// `GET /v1/kill`
pub(crate) async fn show(State(state): State<AppState>) -> Result<Json<KillView>, Problem> {
    let row = state.otto.kill_switch().await?;
    Ok(Json(KillView {
        thrown: row.is_some(),
        at_ms: row.as_ref().map(|row| row.at.millis()),
        reason: row.map(|row| row.reason.to_string()),
    }))
}

/// `PUT /v1/kill`
pub(crate) async fn throw(
    State(state): State<AppState>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let body: Throw = json_body(request).await?;
    state.otto.kill(&body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/kill`
pub(crate) async fn lift(State(state): State<AppState>) -> Result<StatusCode, Problem> {
    state.otto.lift_kill().await?;
    Ok(StatusCode::NO_CONTENT)
}
