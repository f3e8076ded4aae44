//! `/v1/sessions/{id}/artifacts`: the files an invocation left, with range requests (RFC 9110, section 14).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::SessionId;
use serde_json::json;

use super::extract::{Id, id};
use super::view::ArtifactView;
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/sessions/{id}/artifacts", READ, "list_artifacts", list)
            .summary("List the artifacts of a session")
            .uuid("id", "The session.")
            .answers::<Vec<ArtifactView>>(StatusCode::OK, "The artifacts."),
        Route::get(
            "/v1/sessions/{id}/artifacts/{*path}",
            READ,
            "read_artifact",
            content,
        )
        .summary("Read an artifact, or a range of it")
        .uuid("id", "The session.")
        .text("path", "The artifact's path, as the list has it.")
        .header(
            "Range",
            "One range of bytes (RFC 9110, section 14).",
            json!({"type": "string"}),
            "bytes=0-99",
        )
        .header(
            "If-None-Match",
            "The entity tag of what is already there: the SHA-256 in quotes.",
            json!({"type": "string"}),
            "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        )
        .answers_text(StatusCode::OK, "The content.", ANY)
        .answers_text(StatusCode::PARTIAL_CONTENT, "The range.", ANY)
        .answers_nothing(StatusCode::NOT_MODIFIED, "It is already there."),
    ]
}

const ANY: &str = "*/*";

async fn list(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<Vec<ArtifactView>>, Problem> {
    let artifacts = state.otto.artifacts(session).await?;
    Ok(Json(artifacts.iter().map(Into::into).collect()))
}

async fn content(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path((session, path)) =
        path.map_err(|_| Problem::bad_request("the path is not UTF-8 text"))?;
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
    let is_known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == etag);
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let bytes = state.otto.read_artifact(artifact).await?;
    let common = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::ETAG, etag.clone()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    // A range of something else than what the client has parts of would be mixed with them.
    let is_same = headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let range = headers
        .get(header::RANGE)
        .filter(|_| is_same)
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
