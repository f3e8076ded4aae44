//! Routes by resource, and what holds for all of them: host check, authorization, bounds, problem documents.

mod agents;
mod artifacts;
mod events;
mod health;
mod invocations;
mod kill;
mod metrics;
mod sessions;
mod usage;
mod view;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use crate::auth;
use crate::problem::Problem;
use crate::state::AppState;

/// BOUND: a task with its input is text; a larger body is a mistake or an attack.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// BOUND: the body of a request has to arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// All routes.
pub(crate) fn router(state: AppState) -> Router {
    let read = Router::new()
        .route("/v1/invocations", get(invocations::list))
        .route("/v1/invocations/{id}", get(invocations::show))
        .route("/v1/invocations/{id}/events", get(events::stream))
        .route(
            "/v1/invocations/{id}/transcript",
            get(invocations::transcript),
        )
        .route("/v1/sessions/{id}", get(sessions::show))
        .route("/v1/sessions/{id}/artifacts", get(artifacts::list))
        .route(
            "/v1/sessions/{id}/artifacts/{*path}",
            get(artifacts::content),
        )
        .route("/v1/usage", get(usage::query))
        .route("/v1/agents", get(agents::list))
        .route("/v1/tools", get(agents::tools))
        .route("/v1/kill", get(kill::show))
        .route("/metrics", get(metrics::text))
        .route_layer(from_fn_with_state(state.clone(), auth::needs_read));
    let invoke = Router::new()
        .route("/v1/invocations", post(invocations::create))
        .route("/v1/invocations/{id}/cancel", post(invocations::cancel))
        .route("/v1/sessions/{id}/resume", post(sessions::resume))
        .route_layer(from_fn_with_state(state.clone(), auth::needs_invoke));
    let admin = Router::new()
        .route("/v1/kill", put(kill::throw).delete(kill::lift))
        .route_layer(from_fn_with_state(state.clone(), auth::needs_admin));
    let open = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    read.merge(invoke)
        .merge(admin)
        .merge(open)
        .fallback(no_such_path)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(problem_documents))
        .layer(from_fn_with_state(state.clone(), count))
        .layer(from_fn_with_state(state.clone(), auth::check_host))
        .with_state(state)
}

async fn no_such_path() -> Problem {
    Problem::not_found("there is no such path")
}

/// Turns the refusals of the framework (wrong method, wrong type) into problem documents.
async fn problem_documents(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_plain = response
        .headers()
        .get(axum::http::header::CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if (status.is_client_error() || status.is_server_error()) && is_plain {
        let allow = response.headers().get(axum::http::header::ALLOW).cloned();
        let mut problem = Problem::with_status(status, words(status)).into_response();
        if let Some(allow) = allow {
            problem
                .headers_mut()
                .insert(axum::http::header::ALLOW, allow);
        }
        return problem;
    }
    response
}

fn words(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "this path does not take that method; see the Allow header"
        }
        StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than 4 MiB",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "send `Content-Type: application/json`",
        _ => "the request was refused",
    }
}

async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    state.metrics.http_response(response.status());
    response
}

/// Reads a JSON body within its bounds; says what was wrong with it.
pub(crate) async fn json_body<T: serde::de::DeserializeOwned>(
    request: Request,
) -> Result<T, Problem> {
    let is_json = request
        .headers()
        .get(axum::http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        });
    if !is_json {
        return Err(Problem::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            words(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ));
    }
    let reading = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES);
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            return Err(Problem::with_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                words(StatusCode::PAYLOAD_TOO_LARGE),
            ));
        }
        Err(_) => {
            return Err(Problem::with_status(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in 30 seconds",
            ));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!("the body is not what this path takes: {error}"))
    })
}

/// Reads an id from the path.
pub(crate) fn id<T: std::str::FromStr<Err = otto::InvalidId>>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: otto::InvalidId| Problem::bad_request(error.to_string()))
}
