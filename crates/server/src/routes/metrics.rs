//! `/metrics`: figures in the OpenMetrics text format.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;
use crate::state::AppState;

/// `GET /metrics`
pub(crate) async fn text(State(state): State<AppState>) -> Result<Response, Problem> {
    let text = state.metrics.render(&state.otto).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
