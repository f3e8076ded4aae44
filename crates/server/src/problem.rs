//! Problem documents (RFC 9457, "Problem Details for HTTP APIs").
//!
//! `type` is a stable word below `urn:otto:problem:`, `detail` says what was wrong and what would work.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::{CancelError, InvokeError, Report, StoreError, UnknownAgent};
use schemars::JsonSchema;
use serde::Serialize;

use crate::routes::ReportView;

/// A response that is not a success.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    retry_after_seconds: Option<u64>,
    /// An answer that is nowhere else.
    report: Option<Arc<Report>>,
}

/// A problem document.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document<'a> {
    /// `urn:otto:problem:` and a stable word.
    r#type: String,
    /// The status in words.
    title: &'a str,
    /// The status.
    status: u16,
    /// What was wrong, and what would work.
    detail: &'a str,
    /// With `not-stored`: the report with the answer, which is paid for and nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<ReportView>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            retry_after_seconds: None,
            report: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", detail)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// What is asked for is kept in a state directory, and there is none.
    pub(crate) fn no_state_dir() -> Self {
        Self::not_found("this server keeps its state in memory: there is no state directory")
    }

    pub(crate) fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "cursor-expired", detail)
    }

    /// The server stops and the invocation goes on with the next one.
    pub(crate) fn interrupted(invocation: otto::InvocationId) -> Self {
        let detail = format!(
            "the server is shutting down; invocation {invocation} goes on when it is back, see its events"
        );
        Self {
            retry_after_seconds: Some(5),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", detail)
        }
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub(crate) fn with_status(status: StatusCode, detail: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
            StatusCode::PAYLOAD_TOO_LARGE => "payload-too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported-media-type",
            StatusCode::RANGE_NOT_SATISFIABLE => "range-not-satisfiable",
            StatusCode::REQUEST_TIMEOUT => "request-timeout",
            _ => "refused",
        };
        Self::new(status, kind, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:otto:problem:{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            report: self.report.as_deref().map(ReportView::from),
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<InvokeError> for Problem {
    fn from(error: InvokeError) -> Self {
        let detail = chain(&error);
        match error {
            InvokeError::NotEnabled => Self::new(StatusCode::FORBIDDEN, "not-enabled", detail),
            InvokeError::Killed { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "killed", detail)
            }
            InvokeError::ShuttingDown => Self {
                retry_after_seconds: Some(5),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", detail)
            },
            InvokeError::Busy { retry_after, .. } => Self {
                retry_after_seconds: Some(retry_after.as_secs().max(1)),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail)
            },
            InvokeError::SessionBusy { .. } => {
                Self::new(StatusCode::CONFLICT, "session-busy", detail)
            }
            InvokeError::Duplicate(_) => Self::new(StatusCode::CONFLICT, "duplicate", detail),
            InvokeError::KeyReused(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail)
            }
            InvokeError::NotResumable { .. } => {
                Self::new(StatusCode::CONFLICT, "not-resumable", detail)
            }
            InvokeError::EmptyTask { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "empty-task", detail)
            }
            InvokeError::UnknownModel { .. }
            | InvokeError::UnknownTool { .. }
            | InvokeError::ToolNotAllowed { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-agent", detail)
            }
            InvokeError::Store { source, .. } => Self {
                detail,
                ..Self::from(source)
            },
            InvokeError::NotStored(report) => Self {
                report: Some(Arc::from(report)),
                ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not-stored", detail)
            },
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail),
        }
    }
}

impl From<UnknownAgent> for Problem {
    fn from(error: UnknownAgent) -> Self {
        Self::not_found(error.to_string())
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        let detail = chain(&error);
        match error {
            CancelError::Unknown(_) => Self::not_found(detail),
            CancelError::Ended { .. } | CancelError::OutOfReach(_) => Self::conflict(detail),
            CancelError::Store(source) => Self {
                detail,
                ..Self::from(source)
            },
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = chain(&error);
        match error {
            StoreError::NotFound { .. } => Self::not_found(detail),
            StoreError::Invalid { .. } => Self::conflict(detail),
            StoreError::Full { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "store-full", detail)
            }
            StoreError::Unavailable { .. } => Self {
                retry_after_seconds: Some(1),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail)
            },
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail),
        }
    }
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
