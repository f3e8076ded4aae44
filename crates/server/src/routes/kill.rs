//! `/v1/kill`: the kill switch.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::text::rfc3339;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::Body;
use super::{ADMIN, READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/kill", READ, "show_kill_switch", show)
            .summary("Whether the kill switch is thrown")
            .answers::<KillView>(StatusCode::OK, "The kill switch."),
        Route::put("/v1/kill", ADMIN, "throw_kill_switch", throw)
            .summary("Throw the kill switch: everything that runs ends, nothing new begins")
            .takes::<Throw>()
            .answers_nothing(StatusCode::NO_CONTENT, "It is thrown."),
        Route::delete("/v1/kill", ADMIN, "lift_kill_switch", lift)
            .summary("Lift the kill switch")
            .answers_nothing(StatusCode::NO_CONTENT, "It is lifted."),
    ]
}

/// The kill switch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KillSwitch")]
struct KillView {
    thrown: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// Why it is thrown.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Throw {
    /// For whoever finds it thrown; at most 1,000 characters.
    #[schemars(length(min = 1, max = 1000))]
    reason: String,
}

/// BOUND: a reason is read in a line.
const MAX_REASON_CHARS: usize = 1_000;

async fn show(State(state): State<AppState>) -> Result<Json<KillView>, Problem> {
    let row = state.otto.kill_switch().await?;
    Ok(Json(KillView {
        thrown: row.is_some(),
        at: row.as_ref().map(|row| rfc3339(row.at)),
        reason: row.map(|row| row.reason.to_string()),
    }))
}

async fn throw(
    State(state): State<AppState>,
    Body(body): Body<Throw>,
) -> Result<StatusCode, Problem> {
    let chars = body.reason.chars().count();
    if chars == 0 || chars > MAX_REASON_CHARS {
        return Err(Problem::unprocessable("reason has 1 to 1,000 characters"));
    }
    state.otto.kill(&body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn lift(State(state): State<AppState>) -> Result<StatusCode, Problem> {
    match state.otto.lift_kill().await? {
        None => Ok(StatusCode::NO_CONTENT),
        Some(row) => Err(Problem::conflict(format!(
            "this process was started with the kill switch thrown ({}) and keeps it until it is started without",
            row.reason
        ))),
    }
}
