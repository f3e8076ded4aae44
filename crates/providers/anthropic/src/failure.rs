//! What a failed response means.
//!
//! The error's own type decides where the vendor names one that is known, else the status does. Bodies of
//! networks in front of the API may be HTML or empty, so nothing relies on a body. Texts are matched in two
//! cases only: to tell a prompt that is too long (the caller compacts) and an account's own limit (waiting
//! does not help) from other errors of the same type.
//!
//! Invariant: a failure is called unbilled only when the request was refused for what it was (4xx), refused
//! for load (529), sent elsewhere (3xx) or never sent. Everything else may have been accepted.

use std::time::Duration;

use otto_core::invocation::{Billing, ModelFailure, ModelFailureKind};

use crate::codec::ErrorBody;
use crate::mask::Masker;

/// What the head of a response says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub status: u16,
    pub content_type: String,
    pub request_id: Option<String>,
    pub retry_after: Option<Duration>,
    pub should_retry: Option<bool>,
    pub location: Option<String>,
}

/// A failure without a response.
pub(crate) fn without_response(
    kind: ModelFailureKind,
    message: &str,
    billing: Billing,
) -> ModelFailure {
    ModelFailure {
        kind,
        message: message.into(),
        billing,
        retry_after: None,
        should_retry: None,
        status: None,
        request_id: None,
    }
}

/// The failure that a response means which is not a stream of events.
pub(crate) fn of_response(head: &ResponseHead, body: &[u8], masker: &Masker) -> ModelFailure {
    let error = ErrorBody::read(body);
    let kind = match &error {
        Some(error) => classify(head, error),
        None => by_status(head.status),
    };
    let request_id = head
        .request_id
        .as_deref()
        .or(error.as_ref().and_then(|error| error.request_id.as_deref()));
    let is_final = matches!(
        kind,
        ModelFailureKind::SpendLimit
            | ModelFailureKind::Authentication
            | ModelFailureKind::Permission
    );
    ModelFailure {
        kind,
        message: masker.clean(&describe(head, error.as_ref(), body)),
        billing: billing(head.status),
        retry_after: head.retry_after,
        // No word of the provider makes a wrong key right.
        should_retry: head.should_retry.filter(|again| !(*again && is_final)),
        status: Some(head.status),
        request_id: request_id.map(|id| masker.clean_id(id)),
    }
}

/// The class of an error event in the middle of a reply.
pub(crate) fn classify_in_stream(error: &ErrorBody) -> ModelFailureKind {
    let head = ResponseHead {
        status: 200,
        ..ResponseHead::default()
    };
    match by_type(&head, error) {
        Some(kind) => kind,
        None => ModelFailureKind::Server,
    }
}

fn classify(head: &ResponseHead, error: &ErrorBody) -> ModelFailureKind {
    by_type(head, error).unwrap_or_else(|| by_status(head.status))
}

/// The class by the error's own type; `None` for a type that is not known.
fn by_type(head: &ResponseHead, error: &ErrorBody) -> Option<ModelFailureKind> {
    let message = error.message.as_deref().unwrap_or_default();
    Some(match error.kind.as_deref()? {
        "invalid_request_error" if is_prompt_too_long(message) => ModelFailureKind::PromptTooLong,
        "invalid_request_error" if is_spend_limit(message) => ModelFailureKind::SpendLimit,
        // Some statuses share this type; 413 means the size.
        "invalid_request_error" if head.status == 413 => ModelFailureKind::PromptTooLong,
        "invalid_request_error" => ModelFailureKind::InvalidRequest,
        "authentication_error" => ModelFailureKind::Authentication,
        "billing_error" => ModelFailureKind::SpendLimit,
        "permission_error" => ModelFailureKind::Permission,
        "not_found_error" => ModelFailureKind::NotFound,
        "request_too_large" => ModelFailureKind::PromptTooLong,
        "rate_limit_error" => match error.code.as_deref() {
            Some("enforced_spend_limit_reached" | "contract_spend_limit_reached") => {
                ModelFailureKind::SpendLimit
            }
            _ if head.retry_after.is_none() && is_spend_limit(message) => {
                ModelFailureKind::SpendLimit
            }
            _ => ModelFailureKind::RateLimited,
        },
        "timeout_error" => ModelFailureKind::Timeout,
        "overloaded_error" => ModelFailureKind::Overloaded,
        "api_error" | "conflict_error" => ModelFailureKind::Server,
        _ => return None,
    })
}

fn by_status(status: u16) -> ModelFailureKind {
    match status {
        401 => ModelFailureKind::Authentication,
        402 => ModelFailureKind::SpendLimit,
        403 => ModelFailureKind::Permission,
        404 => ModelFailureKind::NotFound,
        408 | 504 => ModelFailureKind::Timeout,
        409 => ModelFailureKind::Server,
        413 => ModelFailureKind::PromptTooLong,
        429 => ModelFailureKind::RateLimited,
        529 => ModelFailureKind::Overloaded,
        300..=499 => ModelFailureKind::InvalidRequest,
        500.. => ModelFailureKind::Server,
        // A success that is no stream of events: a captive portal, a gateway that does not stream.
        0..=299 => ModelFailureKind::Protocol,
    }
}

fn billing(status: u16) -> Billing {
    match status {
        // Given up half way, perhaps by something in front of the API: the request may have been accepted.
        408 | 499 => Billing::Unknown,
        300..=499 | 529 => Billing::NotBilled,
        _ => Billing::Unknown,
    }
}

fn is_prompt_too_long(message: &str) -> bool {
    message.contains("prompt is too long") || message.contains("exceed context limit")
}

fn is_spend_limit(message: &str) -> bool {
    message.contains("API usage limits") || message.starts_with("Your credit balance is too low")
}

fn describe(head: &ResponseHead, error: Option<&ErrorBody>, body: &[u8]) -> String {
    let status = head.status;
    if let Some(error) = error {
        let kind = error.kind.as_deref().unwrap_or("error");
        let message = error.message.as_deref().unwrap_or("no message");
        return format!("the provider answered {status} {kind}: {message}");
    }
    match status {
        300..=399 => {
            let target = head.location.as_deref().unwrap_or("an unnamed place");
            format!(
                "the provider answered {status}, a redirect to {target}, which is never followed: \
                 set the base URL to where the API really is"
            )
        }
        0..=299 if body.is_empty() => format!("the provider answered {status} without a reply"),
        0..=299 => {
            let content_type = if head.content_type.is_empty() {
                "no content type"
            } else {
                &head.content_type
            };
            format!(
                "expected a stream of events (text/event-stream), got {status} with {content_type}: \
                 is the base URL that of the API?"
            )
        }
        407 => format!(
            "the proxy answered {status}: it wants a user name and password in the proxy URL"
        ),
        _ if body.is_empty() => format!("the provider answered {status} without a message"),
        _ => format!(
            "the provider answered {status}: {}",
            String::from_utf8_lossy(body)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> ModelFailure {
        let head = ResponseHead {
            status,
            ..ResponseHead::default()
        };
        of_response(
            &head,
            body.as_bytes(),
            &Masker::new("sk-ant-test-key".into()),
        )
    }

    fn json(kind: &str, message: &str, code: &str) -> String {
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}","details":{{"error_code":"{code}"}}}},"request_id":"req_1"}}"#
        )
    }

    #[test]
    fn types_decide_and_statuses_stand_in() {
        use ModelFailureKind as K;
        for (status, kind, class) in [
            (400, "invalid_request_error", K::InvalidRequest),
            (401, "authentication_error", K::Authentication),
            (402, "billing_error", K::SpendLimit),
            (403, "permission_error", K::Permission),
            (404, "not_found_error", K::NotFound),
            (408, "", K::Timeout),
            (409, "conflict_error", K::Server),
            (412, "", K::InvalidRequest),
            (413, "request_too_large", K::PromptTooLong),
            (422, "invalid_request_error", K::InvalidRequest),
            (429, "rate_limit_error", K::RateLimited),
            (431, "", K::InvalidRequest),
            (499, "", K::InvalidRequest),
            (500, "api_error", K::Server),
            (501, "", K::Server),
            (502, "", K::Server),
            (503, "", K::Server),
            (504, "timeout_error", K::Timeout),
            (520, "", K::Server),
            (524, "", K::Server),
            (529, "overloaded_error", K::Overloaded),
            (301, "", K::InvalidRequest),
            (204, "", K::Protocol),
            (200, "", K::Protocol),
        ] {
            for body in [
                json(kind, "text", ""),
                json("brand_new_error", "text", ""),
                "<html>".into(),
                String::new(),
            ] {
                assert_eq!(of(status, &body).kind, class, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_known_type_counts_more_than_the_status() {
        assert_eq!(
            of(200, &json("overloaded_error", "", "")).kind,
            ModelFailureKind::Overloaded
        );
        assert_eq!(
            of(500, &json("authentication_error", "", "")).kind,
            ModelFailureKind::Authentication
        );
    }

    #[test]
    fn own_limits_and_long_prompts_are_told_apart() {
        use ModelFailureKind as K;
        for (status, kind, message, code, class) in [
            (
                400,
                "invalid_request_error",
                "prompt is too long: 213462 tokens > 200000 maximum",
                "",
                K::PromptTooLong,
            ),
            (
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 1",
                "",
                K::PromptTooLong,
            ),
            (
                400,
                "invalid_request_error",
                "Your credit balance is too low to access",
                "",
                K::SpendLimit,
            ),
            (
                400,
                "invalid_request_error",
                "You have reached your specified API usage limits",
                "",
                K::SpendLimit,
            ),
            (
                400,
                "invalid_request_error",
                "You have reached your specified workspace API usage limits",
                "",
                K::SpendLimit,
            ),
            (
                429,
                "rate_limit_error",
                "x",
                "enforced_spend_limit_reached",
                K::SpendLimit,
            ),
            (
                429,
                "rate_limit_error",
                "x",
                "contract_spend_limit_reached",
                K::SpendLimit,
            ),
            (
                429,
                "rate_limit_error",
                "x",
                "ramp_limit_exceeded",
                K::RateLimited,
            ),
            (
                429,
                "rate_limit_error",
                "You have reached your API usage limits: until",
                "",
                K::SpendLimit,
            ),
            (
                429,
                "rate_limit_error",
                "This request would exceed the rate limit",
                "",
                K::RateLimited,
            ),
        ] {
            assert_eq!(
                of(status, &json(kind, message, code)).kind,
                class,
                "{message} {code}"
            );
        }
        let head = ResponseHead {
            status: 429,
            retry_after: Some(Duration::from_secs(1)),
            ..ResponseHead::default()
        };
        let body = json(
            "rate_limit_error",
            "You have reached your API usage limits",
            "",
        );
        let failure = of_response(&head, body.as_bytes(), &Masker::new("k".into()));
        assert_eq!(
            failure.kind,
            K::RateLimited,
            "a wait was named, so it is no monthly limit"
        );
    }

    #[test]
    fn only_refusals_are_free() {
        for status in [301, 400, 401, 404, 413, 429, 529] {
            assert_eq!(of(status, "").billing, Billing::NotBilled, "{status}");
        }
        for status in [200, 204, 408, 499, 500, 502, 503, 504, 520, 524] {
            assert_eq!(of(status, "").billing, Billing::Unknown, "{status}");
        }
    }

    #[test]
    fn the_providers_word_on_retries_is_kept_but_not_for_what_cannot_change() {
        let with = |status, should_retry| {
            let head = ResponseHead {
                status,
                should_retry,
                ..ResponseHead::default()
            };
            of_response(&head, b"", &Masker::new("k".into())).should_retry
        };
        assert_eq!(with(529, Some(true)), Some(true));
        assert_eq!(with(529, Some(false)), Some(false));
        assert_eq!(with(400, Some(true)), Some(true));
        assert_eq!(with(401, Some(true)), None);
        assert_eq!(with(402, Some(true)), None);
        assert_eq!(with(403, Some(false)), Some(false));
    }

    #[test]
    fn messages_name_status_type_and_text_without_the_key() {
        let failure = of(
            401,
            &json(
                "authentication_error",
                "invalid x-api-key sk-ant-test-key",
                "",
            ),
        );
        assert_eq!(
            &*failure.message,
            "the provider answered 401 authentication_error: invalid x-api-key [key]"
        );
        assert_eq!(failure.request_id.as_deref(), Some("req_1"));
        let failure = of(401, "who is sk-ant-test-key?\u{1b}[2J");
        assert_eq!(
            &*failure.message,
            "the provider answered 401: who is [key]?\\u{1b}[2J"
        );
        assert!(of(302, "").message.contains("redirect"));
    }
}
