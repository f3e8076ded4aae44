//! Routes by resource, and what holds for all of them: host check, authorization, bounds, problem documents.

mod agents;
mod artifacts;
mod audit;
mod configuration;
mod events;
mod extract;
mod follow;
mod health;
mod invocations;
mod kill;
mod limits;
mod metrics;
mod plan;
mod prices;
mod redact;
mod route;
mod sessions;
mod upkeep;
mod usage;
mod view;

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

pub(crate) use route::{Access, Answer, Parameter, Route};
pub(crate) use view::ReportView;

use crate::auth;
use crate::auth::TokenScope;
use crate::openapi;
use crate::problem::Problem;
use crate::state::AppState;

const READ: Access = Access::Token(TokenScope::Read);
const INVOKE: Access = Access::Token(TokenScope::Invoke);
const ADMIN: Access = Access::Token(TokenScope::Admin);

/// All routes, in the order of the documentation.
pub(crate) fn all() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(invocations::routes());
    routes.extend(events::routes());
    routes.extend(sessions::routes());
    routes.extend(artifacts::routes());
    routes.extend(usage::routes());
    routes.extend(plan::routes());
    routes.extend(prices::routes());
    routes.extend(agents::routes());
    routes.extend(kill::routes());
    routes.extend(audit::routes());
    routes.extend(redact::routes());
    routes.extend(upkeep::routes());
    routes.extend(configuration::routes());
    routes.extend(health::routes());
    routes.extend(metrics::routes());
    routes.push(
        Route::get("/openapi.json", Access::Open, "openapi", document)
            .summary("This document")
            .answers::<serde_json::Map<String, serde_json::Value>>(StatusCode::OK, "The document."),
    );
    routes
}

/// The router of all routes.
pub(crate) fn router(state: AppState) -> Router {
    let mut router = Router::new();
    for route in all() {
        let path = route.path;
        router = router.route(path, route.handler(&state));
    }
    router
        .fallback(no_such_path)
        .layer(DefaultBodyLimit::max(extract::MAX_BODY_BYTES))
        .layer(from_fn(problem_documents))
        .layer(from_fn_with_state(state.clone(), auth::check_host))
        .layer(from_fn(catch_panics))
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

async fn document() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, openapi::DOCUMENT.as_str()).into_response()
}

async fn no_such_path() -> Problem {
    Problem::not_found("there is no such path; /openapi.json lists them")
}

/// Turns the refusals of the framework (wrong method, wrong type) into problem documents.
async fn problem_documents(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let status = response.status();
    let is_plain = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if (status.is_client_error() || status.is_server_error()) && is_plain {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = Problem::with_status(status, words(status)).into_response();
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    // What is told here is somebody's work and money: no cache keeps it, no browser guesses its type.
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn words(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "this path does not take that method; see the Allow header"
        }
        _ => "the request was refused",
    }
}

/// A bug in one request is one failed request.
async fn catch_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Problem::internal("the server made a mistake; its log says more").into_response(),
    }
}

async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    state.metrics.http_response(response.status());
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::Service;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_failed_request() {
        async fn broken() -> &'static str {
            panic!("planted")
        }
        let mut router = Router::new()
            .route("/", get(broken))
            .layer(from_fn(catch_panics));
        let response = router.call(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json");
        let text = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("planted"));
    }
}
