//! `/metrics`: figures in the OpenMetrics text format.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/metrics", READ, "metrics", text)
            .summary("Figures for a scraper")
            .answers_text(StatusCode::OK, "OpenMetrics text.", KIND),
    ]
}

async fn text(State(state): State<AppState>) -> Result<Response, Problem> {
    let text = state.metrics.render(&state.otto).await?;
    Ok(([(header::CONTENT_TYPE, KIND)], text).into_response())
}
