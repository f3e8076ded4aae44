//! `/v1/sessions/{id}/artifacts`: the files an invocation left, with range requests (RFC 9110, section 14).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::SessionId;

use crate::problem::Problem;
use crate::routes::id;
use crate::routes::view::ArtifactView;
use crate::state::AppState;

/// `GET /v1/sessions/{id}/artifacts`
pub(crate) async fn list(
    State(state): State<AppState>,
    Path(session): Path<String>,
) -> Result<Json<Vec<ArtifactView>>, Problem> {
    let session: SessionId = id(&session)?;
    let artifacts = state.otto.artifacts(session).await?;
    Ok(Json(artifacts.iter().map(Into::into).collect()))
}

/// `GET /v1/sessions/{id}/artifacts/{path}`
pub(crate) async fn content(
    State(state): State<AppState>,
    Path((session, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let session: SessionId = id(&session)?;
    // The path is compared with what is listed; it never becomes a file name here.
    let artifacts = state.otto.artifacts(session).await?;
    let artifact = artifacts
        .into_iter()
        .find(|artifact| *artifact.path == *path)
        .ok_or_else(|| {
            Problem::not_found(format!("session {session} has no artifact of that path"))
        })?;
    let etag = format!("\"{}\"", artifact.sha256);
    let kind = match artifact.path.rsplit_once('.') {
        Some((_, "md")) => "text/markdown; charset=utf-8",
        Some((_, "jsonl")) => "application/x-ndjson",
        Some((_, "json")) => "application/json",
        _ => "application/octet-stream",
    };
    let bytes = state.otto.read_artifact(artifact).await?;
    let common = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::ETAG, etag),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    match range.map(|range| parse_range(range, bytes.len())) {
        None | Some(Range::Ignored) => Ok((common, bytes).into_response()),
        Some(Range::Unsatisfiable) => Err(Problem::with_status(
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("the artifact has {} bytes", bytes.len()),
        )),
        Some(Range::Bytes { first, last }) => {
            let shown = format!("bytes {first}-{last}/{}", bytes.len());
            let part = bytes.get(first..=last).unwrap_or_default().to_vec();
            let range = [(header::CONTENT_RANGE, shown)];
            Ok((StatusCode::PARTIAL_CONTENT, common, range, part).into_response())
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Not one byte range: the whole content is a correct answer.
    Ignored,
    Unsatisfiable,
    Bytes {
        first: usize,
        last: usize,
    },
}

fn parse_range(header: &str, len: usize) -> Range {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return Range::Ignored;
    };
    let number = |text: &str| -> Option<Option<usize>> {
        if text.is_empty() {
            Some(None)
        } else {
            text.parse().ok().map(Some)
        }
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => {
            let last = last.unwrap_or(usize::MAX);
            if last < first {
                Range::Ignored
            } else if first >= len {
                Range::Unsatisfiable
            } else {
                Range::Bytes {
                    first,
                    last: last.min(len - 1),
                }
            }
        }
        (Some(None), Some(Some(suffix))) if suffix > 0 && len > 0 => Range::Bytes {
            first: len.saturating_sub(suffix),
            last: len - 1,
        },
        (Some(None), Some(Some(_))) => Range::Unsatisfiable,
        _ => Range::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        for (header, expected) in [
            ("bytes=0-0", Range::Bytes { first: 0, last: 0 }),
            ("bytes=2-", Range::Bytes { first: 2, last: 9 }),
            ("bytes=2-100", Range::Bytes { first: 2, last: 9 }),
            ("bytes=-3", Range::Bytes { first: 7, last: 9 }),
            ("bytes=-30", Range::Bytes { first: 0, last: 9 }),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=5-2", Range::Ignored),
            ("bytes=0-1,3-4", Range::Ignored),
            ("bytes=x-", Range::Ignored),
            ("lines=0-1", Range::Ignored),
        ] {
            assert_eq!(parse_range(header, 10), expected, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Range::Unsatisfiable);
    }
}
