//! `/health/live`, `/health/ready`: whether the process runs, and whether it can do its work.

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
    name: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// `GET /health/live`
pub(crate) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "live": true }))
}

/// `GET /health/ready`
pub(crate) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Ready>) {
    let component = |name, reason: Option<String>| Component {
        name,
        ready: reason.is_none(),
        reason,
    };
    let enabled = state.otto.engine().settings().enabled;
    let kill = match state.otto.kill_switch().await {
        Ok(None) => None,
        Ok(Some(row)) => Some(format!("the kill switch is thrown: {}", row.reason)),
        Err(error) => Some(error.to_string()),
    };
    let store = state
        .otto
        .engine()
        .cost_tracker()
        .today()
        .await
        .err()
        .map(|error| error.to_string());
    let components = vec![
        component("store", store),
        component(
            "enabled",
            (!enabled).then(|| "OTTO_ENABLED is not true".to_owned()),
        ),
        component("kill_switch", kill),
    ];
    let ready = components.iter().all(|component| component.ready);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, components }))
}
