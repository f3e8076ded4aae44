//! `/health/live`, `/health/ready`: whether the process runs, and whether it can do its work.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Ready {
    ready: bool,
    components: Vec<Component>,
}

#[derive(Serialize)]
struct Component {
    name: Arc<str>,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
}

/// `GET /health/live`
pub(crate) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "live": true }))
}

/// `GET /health/ready`
pub(crate) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Ready>) {
    let report = state.otto.health().await;
    let ready = report.is_ready();
    let components = report
        .components
        .into_iter()
        .map(|component| Component {
            ready: component.condition.is_ready(),
            reason: component.condition.reason().cloned(),
            name: component.name,
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, components }))
}
