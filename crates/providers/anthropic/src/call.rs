//! One call: from the first poll to the last event. One attempt, no retries.
//!
//! First the request is made and the circuit breaker asked, then it is sent, then the response is looked at:
//! a stream of events becomes a [`ReplyStream`], everything else a failure.
//!
//! Invariant: every path ends with exactly one last event, and before the request leaves nothing is billed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use otto_core::invocation::{Billing, ModelFailure, ModelFailureKind};
use otto_core::port::llm_client::{ModelCall, ModelEvent};
use reqwest::header::{self, HeaderMap};
use reqwest::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::client::{Shared, Ticket};
use crate::codec::{DecodeContext, Decoder, EncodeError, WireTools, encode};
use crate::failure::{ResponseHead, of_response, without_response};
use crate::http::chain;
use crate::mask::Masker;
use crate::retry_after::{parse_http_date, parse_retry_after, parse_retry_after_ms};
use crate::stream::{ReplyStream, speaks_against_provider};
use crate::watchdog::{Watchdog, WatchdogLimits};

/// Most bytes read of a response that is not a stream of events.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Longest time to read them.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// Longest attempt, whatever the caller says; so that adding it to a time cannot overflow.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A call as a stream of events.
pub(crate) struct Call(State);

enum State {
    Unsent(Option<(Arc<Shared>, ModelCall)>),
    Opening(Pin<Box<dyn Future<Output = Result<Box<ReplyStream>, ModelFailure>> + Send>>),
    Replying(Box<ReplyStream>),
    Ended,
}

impl Call {
    pub(crate) fn new(shared: Arc<Shared>, call: ModelCall) -> Self {
        Self(State::Unsent(Some((shared, call))))
    }
}

impl Stream for Call {
    type Item = ModelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        loop {
            self.0 = match &mut self.0 {
                State::Unsent(start) => match start.take() {
                    Some((shared, call)) => State::Opening(Box::pin(open(shared, call))),
                    None => State::Ended,
                },
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(reply) => State::Replying(reply),
                    Err(failure) => {
                        self.0 = State::Ended;
                        return Poll::Ready(Some(ModelEvent::Failed(failure)));
                    }
                },
                State::Replying(reply) => match ready!(reply.poll_event(cx)) {
                    Some(event) => return Poll::Ready(Some(event)),
                    None => State::Ended,
                },
                State::Ended => return Poll::Ready(None),
            };
        }
    }
}

/// Sends the request and looks at the response.
async fn open(shared: Arc<Shared>, call: ModelCall) -> Result<Box<ReplyStream>, ModelFailure> {
    let now = Instant::now();
    let deadline = now + call.time_left.min(LONGEST_ATTEMPT);
    if now >= deadline {
        return Err(without_response(
            ModelFailureKind::Timeout,
            "no time is left for a model call",
            Billing::NotBilled,
        ));
    }
    let tools = shared
        .wire_tools(&call.conversation.tools)
        .map_err(|error| not_sent(&error))?;
    let body = encode(&call.conversation, &call.request, &tools, shared.options)
        .map_err(|error| not_sent(&error))?;
    let client = shared.http.client(&shared.masker).await?;
    let ticket = shared
        .breaker
        .admit()
        .map_err(|(retry_after, failures)| circuit_open(retry_after, failures))?;

    let mut request = Request::new(Method::POST, shared.endpoint.clone());
    *request.headers_mut() = shared.headers.clone();
    *request.body_mut() = Some(body.into());
    let patience = deadline.min(Instant::now() + shared.idle_timeout);
    let response = match timeout_at(patience, client.execute(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let failure = unanswered(&error, &shared.masker);
            if speaks_against_provider(failure.kind) {
                ticket.failed();
            }
            return Err(failure);
        }
        Err(_) if patience == deadline => {
            return Err(timed_out("the time for this attempt is over"));
        }
        Err(_) => {
            ticket.failed();
            return Err(timed_out(&format!(
                "no answer for {:?}",
                shared.idle_timeout
            )));
        }
    };
    let head = head(&response);
    if let Err(what) = expect_events(&response, &head) {
        return Err(refused(response, head, what, deadline, ticket, &shared.masker).await);
    }
    Ok(Box::new(reply(
        response, &head, &shared, &call, tools, ticket, deadline,
    )))
}

/// The reply that a good response carries.
fn reply(
    response: Response,
    head: &ResponseHead,
    shared: &Shared,
    call: &ModelCall,
    tools: Arc<WireTools>,
    ticket: Ticket,
    deadline: Instant,
) -> ReplyStream {
    let decoder = Decoder::new(DecodeContext {
        tools,
        max_output_tokens: call.request.max_output_tokens,
        request_id: head
            .request_id
            .as_deref()
            .map(|id| shared.masker.clean_id(id)),
        surcharged: call.conversation.model.surcharge_percent > 100,
    });
    let limits = WatchdogLimits {
        idle: shared.idle_timeout,
        thinking: shared.thinking_timeout,
        deadline,
    };
    let watchdog = Watchdog::new(limits, Instant::now());
    let body = Box::pin(
        response
            .bytes_stream()
            .map_err(|error| chain(&error.without_url())),
    );
    ReplyStream::new(body, decoder, watchdog, shared.masker.clone(), ticket)
}

/// What is wrong with a response that should carry events.
enum Unexpected {
    /// It says so itself, by status or content type.
    NoEvents,
    /// It is compressed, although that was not asked for.
    Encoded,
}

fn expect_events(response: &Response, head: &ResponseHead) -> Result<(), Unexpected> {
    let media_type = head
        .content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if head.status != 200 || !media_type.eq_ignore_ascii_case("text/event-stream") {
        return Err(Unexpected::NoEvents);
    }
    match response.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Unexpected::Encoded)
        }
        _ => Ok(()),
    }
}

/// The failure that a response without events means.
async fn refused(
    response: Response,
    head: ResponseHead,
    what: Unexpected,
    deadline: Instant,
    ticket: Ticket,
    masker: &Masker,
) -> ModelFailure {
    let failure = match what {
        Unexpected::NoEvents => {
            let body = error_body(response, deadline).await;
            of_response(&head, &body, masker)
        }
        Unexpected::Encoded => ModelFailure {
            status: Some(head.status),
            request_id: head.request_id.as_deref().map(|id| masker.clean_id(id)),
            ..without_response(
                ModelFailureKind::Protocol,
                "the reply is compressed, which was not asked for",
                Billing::Unknown,
            )
        },
    };
    if speaks_against_provider(failure.kind) {
        ticket.failed();
    } else {
        ticket.answered();
    }
    failure
}

/// The beginning of a body, as much as comes in time.
async fn error_body(mut response: Response, deadline: Instant) -> Vec<u8> {
    let deadline = deadline.min(Instant::now() + ERROR_TIME);
    let mut body = Vec::new();
    while let Ok(Ok(Some(bytes))) = timeout_at(deadline, response.chunk()).await {
        let room = MAX_ERROR_BYTES - body.len();
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() == MAX_ERROR_BYTES {
            break;
        }
    }
    body
}

fn head(response: &Response) -> ResponseHead {
    let headers = response.headers();
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    ResponseHead {
        status: response.status().as_u16(),
        content_type: text("content-type").unwrap_or_default(),
        request_id: text("request-id"),
        retry_after: retry_after(headers),
        should_retry: match text("x-should-retry").as_deref() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        },
        location: text("location"),
    }
}

/// The wait that the headers ask for. Two different wishes are none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let single = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values
            .all(|other| other.as_bytes() == first.as_bytes())
            .then_some(first)
    };
    if let Some(wait) = single("retry-after-ms").and_then(parse_retry_after_ms) {
        return Some(wait);
    }
    let now = single("date")
        .and_then(parse_http_date)
        .unwrap_or_else(jiff::Timestamp::now);
    parse_retry_after(single("retry-after")?, now)
}

fn not_sent(error: &EncodeError) -> ModelFailure {
    let kind = match error {
        EncodeError::TooLarge { .. } => ModelFailureKind::PromptTooLong,
        EncodeError::ToolNameClash { .. }
        | EncodeError::InvalidSchema { .. }
        | EncodeError::UserIdTooLong { .. }
        | EncodeError::EmptyHistory
        | EncodeError::NoOutputTokens => ModelFailureKind::InvalidRequest,
    };
    without_response(kind, &error.to_string(), Billing::NotBilled)
}

fn circuit_open(retry_after: Duration, failures: u32) -> ModelFailure {
    let message = format!(
        "calls to the provider are suspended for {retry_after:.1?} after {failures} failures in a row"
    );
    ModelFailure {
        retry_after: Some(retry_after),
        ..without_response(ModelFailureKind::CircuitOpen, &message, Billing::NotBilled)
    }
}

fn timed_out(what: &str) -> ModelFailure {
    let message = format!("the call was given up before the reply began: {what}");
    without_response(ModelFailureKind::Timeout, &message, Billing::Unknown)
}

/// A request that got no response.
fn unanswered(error: &reqwest::Error, masker: &Masker) -> ModelFailure {
    let (kind, what, billing) = if error.is_connect() {
        (
            ModelFailureKind::Unreachable,
            "cannot connect to the provider",
            Billing::NotBilled,
        )
    } else if error.is_builder() {
        (
            ModelFailureKind::InvalidRequest,
            "the request cannot be sent",
            Billing::NotBilled,
        )
    } else {
        (
            ModelFailureKind::CutStream,
            "the connection broke before the reply began",
            Billing::Unknown,
        )
    };
    let mut causes = chain(error);
    if let Some(url) = error.url() {
        causes = causes.replace(&format!(" for url ({url})"), "");
    }
    without_response(kind, &masker.clean(&format!("{what}: {causes}")), billing)
}
