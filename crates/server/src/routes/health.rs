//! `/health/live`, `/health/ready`: whether the process runs, and whether it can do its work.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Access, Route};
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/health/live", Access::Open, "live", live)
            .summary("Whether the process runs")
            .answers::<Live>(StatusCode::OK, "It runs."),
        Route::get("/health/ready", Access::Open, "ready", ready)
            .summary("Whether it can do its work, by component")
            .answers::<Ready>(StatusCode::OK, "It can.")
            .answers::<Ready>(StatusCode::SERVICE_UNAVAILABLE, "It cannot, and why."),
    ]
}

/// The process runs.
#[derive(Serialize, JsonSchema)]
struct Live {
    live: bool,
}

/// Whether it can do its work.
#[derive(Serialize, JsonSchema)]
struct Ready {
    ready: bool,
    components: Vec<Component>,
}

/// A part of it.
#[derive(Serialize, JsonSchema)]
struct Component {
    name: String,
    ready: bool,
    /// What is wrong, also with a part that does its work all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn live() -> Json<Live> {
    Json(Live { live: true })
}

async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Ready>) {
    let report = state.otto.health().await;
    let ready = report.is_ready();
    let components = report
        .components
        .into_iter()
        .map(|component| Component {
            ready: component.condition.is_ready(),
            reason: component.condition.reason().map(ToString::to_string),
            name: component.name.to_string(),
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, components }))
}
