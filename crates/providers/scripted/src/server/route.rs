//! Requests to responses: paths, headers, the waits of a plan.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::response::Builder;
use hyper::{Method, Request, Response};

use super::State;
use super::accept::{count, parse};
use super::body::{Player, ResponseBody};
use super::connection::{Control, Farewell};
use super::model_list;
use super::plan::{Outcome, Plan, plan};
use crate::error::{ApiError, error_body};
use crate::limits;
use crate::script::{Answer, AnswerBody};

/// Answers one request; an error ends the connection without an answer.
pub(super) async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    control: Arc<Control>,
) -> io::Result<Response<ResponseBody>> {
    state.counts.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let request_id = state.ids.request();
    let body = match collect(body).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => return Ok(refusal(&state, &ApiError::too_large(), &request_id)),
        Err(Unread::Broken(error)) => return Err(error),
    };
    state.requests.add(&head, &body, &request_id);
    match dispatch(&state, &head, &body, &request_id) {
        Ok(Dispatched::Json(json)) => Ok(respond(
            head_of(200, &request_id, "application/json"),
            ResponseBody::whole(json.into()),
        )),
        Ok(Dispatched::Plan(plan)) => perform(*plan, &state, &control, &request_id).await,
        Err(error) => Ok(refusal(&state, &error, &request_id)),
    }
}

enum Unread {
    TooLarge,
    Broken(io::Error),
}

async fn collect(body: Incoming) -> Result<Bytes, Unread> {
    if body.size_hint().lower() > limits::REQUEST_BYTES as u64 {
        return Err(Unread::TooLarge);
    }
    match Limited::new(body, limits::REQUEST_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(error) => Err(Unread::Broken(io::Error::other(error))),
    }
}

enum Dispatched {
    Json(String),
    Plan(Box<Plan>),
}

fn dispatch(
    state: &Arc<State>,
    head: &Parts,
    body: &[u8],
    request_id: &str,
) -> Result<Dispatched, ApiError> {
    // The query, such as `?beta=true`, changes nothing; the model list reads its own.
    let path = head.uri.path();
    let method = |expected: &Method| {
        if head.method == *expected {
            Ok(())
        } else {
            Err(ApiError::method_not_allowed())
        }
    };
    match path {
        "/v1/messages" => {
            method(&Method::POST)?;
            let body = parse(body)?;
            plan(state, &head.headers, &body, request_id)
                .map(|plan| Dispatched::Plan(Box::new(plan)))
        }
        "/v1/messages/count_tokens" => {
            method(&Method::POST)?;
            let body = parse(body)?;
            let tokens = count(state, &head.headers, &body)?;
            Ok(Dispatched::Json(format!(r#"{{"input_tokens":{tokens}}}"#)))
        }
        "/v1/models" => {
            method(&Method::GET)?;
            model_list::list(state, &head.headers, head.uri.query().unwrap_or_default())
                .map(Dispatched::Json)
        }
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) => {
                method(&Method::GET)?;
                model_list::one(state, &head.headers, id).map(Dispatched::Json)
            }
            None => Err(ApiError::not_found("Not found")),
        },
    }
}

/// Carries out a plan.
async fn perform(
    plan: Plan,
    state: &State,
    control: &Arc<Control>,
    request_id: &str,
) -> io::Result<Response<ResponseBody>> {
    let Plan {
        delay,
        outcome,
        mut bill,
        cache,
    } = plan;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let now = state.options.clock.now();
    state.cache.write(&cache.positions, cache.min_tokens, now);
    let gone = || io::Error::other("the script ends the connection here");
    match outcome {
        Outcome::Stream {
            playback,
            content_type,
            headers,
        } => {
            let content_type = content_type
                .as_deref()
                .unwrap_or("text/event-stream; charset=utf-8");
            let mut head = limited(head_of(200, request_id, content_type), now)
                .header("cache-control", "no-cache");
            for (name, value) in &headers {
                head = head.header(name, value);
            }
            Ok(respond(
                head,
                ResponseBody::Played(Player::stream(playback, Arc::clone(control), bill)),
            ))
        }
        Outcome::Message { playback, length } => {
            let head = limited(head_of(200, request_id, "application/json"), now);
            Ok(respond(
                head,
                ResponseBody::Played(Player::sized(playback, length, Arc::clone(control), bill)),
            ))
        }
        Outcome::Answer(answer) => {
            bill.faulted();
            Ok(faulted_answer(answer, request_id, now))
        }
        Outcome::Reset => {
            bill.faulted();
            control.end_with(Farewell::Reset);
            Err(gone())
        }
        Outcome::Wire(bytes) => {
            bill.faulted();
            control.end_with(Farewell::Write(bytes));
            Err(gone())
        }
        Outcome::Stall => {
            bill.faulted();
            tokio::time::sleep(limits::WAIT).await;
            Err(gone())
        }
    }
}

fn head_of(status: u16, request_id: &str, content_type: &str) -> Builder {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("request-id", request_id)
        .header(
            "anthropic-organization-id",
            "00000000-0000-7000-8000-000000000000",
        )
}

/// Adds the rate-limit headers: limits so high that nothing is ever near them.
fn limited(mut head: Builder, now: otto_core::Timestamp) -> Builder {
    let reset = rfc3339(now);
    let reset =
        HeaderValue::from_str(&reset).unwrap_or(HeaderValue::from_static("1970-01-01T00:00:00Z"));
    for (names, limit, remaining) in LIMITS {
        head = head
            .header(
                HeaderName::from_static(names[0]),
                HeaderValue::from_static(limit),
            )
            .header(
                HeaderName::from_static(names[1]),
                HeaderValue::from_static(remaining),
            )
            .header(HeaderName::from_static(names[2]), reset.clone());
    }
    head
}

type LimitHeaders = ([&'static str; 3], &'static str, &'static str);

const LIMITS: [LimitHeaders; 4] = [
    (
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        "1000000",
        "999999",
    ),
    (
        [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        "2000000000",
        "2000000000",
    ),
    (
        [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
        "1000000000",
        "1000000000",
    ),
    (
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
        "1000000000",
        "1000000000",
    ),
];

/// `2026-11-23T10:20:30Z`.
fn rfc3339(now: otto_core::Timestamp) -> String {
    let second = now.millis() / 1_000 % 86_400;
    format!(
        "{}T{:02}:{:02}:{:02}Z",
        now.day(),
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

fn refusal(state: &State, error: &ApiError, request_id: &str) -> Response<ResponseBody> {
    state.counts.refused.fetch_add(1, Ordering::Relaxed);
    let mut head = head_of(error.status, request_id, "application/json");
    if let Some(retry) = error.should_retry {
        head = head.header("x-should-retry", if retry { "true" } else { "false" });
    }
    respond(head, ResponseBody::whole(error.body(request_id).into()))
}

/// The answer a fault put in place of the turn.
fn faulted_answer(
    answer: Answer,
    request_id: &str,
    now: otto_core::Timestamp,
) -> Response<ResponseBody> {
    let mut head = Response::builder()
        .status(answer.status)
        .header("request-id", request_id);
    if answer.status == 429 {
        head = limited(head, now);
    }
    for (name, value) in &answer.headers {
        head = head.header(name, value);
    }
    let text = match answer.body {
        AnswerBody::Text(text) => text,
        AnswerBody::Error {
            kind,
            message,
            details,
        } => error_body(&kind, &message, details.as_ref(), request_id),
    };
    let blanks = answer.pad.saturating_sub(text.len() as u64);
    let body = if blanks == 0 {
        ResponseBody::whole(text.into())
    } else {
        ResponseBody::Padded {
            text: Some(text.into()),
            blanks,
        }
    };
    respond(head, body)
}

fn respond(head: Builder, body: ResponseBody) -> Response<ResponseBody> {
    // Header names and values were checked when the script was parsed, or are written here.
    head.body(body)
        .expect("every header of a response is valid")
}
