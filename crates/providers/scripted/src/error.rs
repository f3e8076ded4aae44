//! The errors of the protocol: status, type, text, and the JSON body that carries them.
//!
//! Source: protocol reference, section 7 (2026-11-22).

use std::fmt::Write as _;

use serde_json::Value as Json;

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Json>,
    /// The `x-should-retry` header, where the vendor sends one.
    pub(crate) should_retry: Option<bool>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            details: None,
            should_retry: None,
        }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(400, "invalid_request_error", message)
        }
    }

    /// No key, or the wrong one.
    pub(crate) fn authentication(message: &str) -> Self {
        Self::new(401, "authentication_error", message)
    }

    /// No such path or model.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "not_found_error", message)
    }

    /// No model of that name.
    pub(crate) fn no_model(name: &str) -> Self {
        // BOUND: the name is the client's; this much of it is enough to recognize it.
        Self::not_found(format!(
            "model: {}",
            name.chars().take(128).collect::<String>()
        ))
    }

    /// A known path with the wrong method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "invalid_request_error", "Method Not Allowed")
    }

    /// A body above the limit.
    pub(crate) fn too_large() -> Self {
        Self::new(413, "request_too_large", "Request exceeds the maximum size")
    }

    /// The script has no answer to this request. Retrying cannot help, and says so.
    pub(crate) fn script(problem: &str) -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(500, "api_error", format!("scripted model: {problem}"))
        }
    }

    /// With an error code in `details`.
    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.details = Some(serde_json::json!({ "error_code": code }));
        self
    }

    /// The JSON body.
    pub(crate) fn body(&self, request_id: &str) -> String {
        error_body(self.kind, &self.message, self.details.as_ref(), request_id)
    }
}

/// The body of an error answer, which is also the data of an `error` event.
pub(crate) fn error_body(
    kind: &str,
    message: &str,
    details: Option<&Json>,
    request_id: &str,
) -> String {
    let mut body = String::with_capacity(160 + message.len());
    write!(
        body,
        r#"{{"type":"error","error":{{"details":{},"type":{},"message":{}}},"request_id":{}}}"#,
        details.unwrap_or(&Json::Null),
        Json::from(kind),
        Json::from(message),
        Json::from(request_id),
    )
    .expect("writing to a String cannot fail");
    body
}

/// The type and text the vendor sends with a status.
pub(crate) const fn default_for(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your account has a billing problem"),
        403 => (
            "permission_error",
            "Your API key does not have permission to use the specified resource",
        ),
        404 => ("not_found_error", "Not found"),
        409 => ("conflict_error", "Conflict"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => (
            "rate_limit_error",
            "This request would exceed the rate limit for your organization",
        ),
        504 => ("timeout_error", "Request timed out"),
        529 => ("overloaded_error", "Overloaded"),
        500.. => ("api_error", "Internal server error"),
        _ => ("invalid_request_error", "Invalid request"),
    }
}
