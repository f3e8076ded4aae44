//! Who calls and in which version: the request headers.
//!
//! Source: protocol reference, sections 2.1, 3.12 and 15 (2026-11-22).

use hyper::HeaderMap;

use super::options::AcceptedKeys;
use crate::digest::hash_number;
use crate::error::ApiError;
use crate::request::Version;

/// What the headers say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// A number for the key: caches are kept apart by it.
    pub(super) account: u64,
    pub(super) version: Version,
}

/// Beta names without their date. The vendor refuses unknown ones; many old ones have no effect any more.
const BETAS: &[&str] = &[
    "fast-mode",
    "thinking-binding-controls",
    "mid-conversation-tool-changes",
    "inline-tools",
    "mid-conversation-output-config",
    "thinking-display-updates",
    "thinking-token-count",
    "compact",
    "context-management",
    "output-300k",
    "server-side-fallback",
    "task-budgets",
    "oauth",
    "prompt-caching",
    "extended-cache-ttl",
    "token-counting",
    "pdfs",
    "interleaved-thinking",
    "fine-grained-tool-streaming",
    "context-1m",
    "structured-outputs",
    "model-context-window-exceeded",
    "message-batches",
    "computer-use",
    "token-efficient-tools",
    "output-128k",
    "files-api",
    "mcp-client",
    "code-execution",
    "skills",
    "web-fetch",
    "advanced-tool-use",
    "effort",
    "tool-search",
];

impl Caller {
    /// Checks the headers in the vendor's order: key, version, betas, encoding.
    pub(super) fn read(headers: &HeaderMap, keys: &AcceptedKeys) -> Result<Self, ApiError> {
        let key =
            key(headers).ok_or_else(|| ApiError::authentication("x-api-key header is required"))?;
        if let AcceptedKeys::Only(accepted) = keys
            && accepted != key
        {
            return Err(ApiError::authentication("invalid x-api-key"));
        }
        let version = match headers
            .get("anthropic-version")
            .map(|value| value.to_str().unwrap_or_default())
        {
            Some("2026-10-21") => Version::New,
            Some("2023-06-01") => Version::Old,
            Some(other) => {
                let other: String = other.chars().take(40).collect();
                return Err(ApiError::invalid(format!(
                    "anthropic-version: \"{other}\" is not a valid version"
                )));
            }
            None => return Err(ApiError::invalid("anthropic-version: header is required")),
        };
        check_betas(headers)?;
        check_encoding(headers)?;
        Ok(Self {
            account: hash_number(key.as_bytes()),
            version,
        })
    }
}

/// The key of either form of authentication.
fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    bearer
        .or_else(|| text("x-api-key"))
        .map(str::trim)
        .filter(|key| !key.is_empty())
}

fn check_betas(headers: &HeaderMap) -> Result<(), ApiError> {
    for value in headers.get_all("anthropic-beta") {
        for name in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            if !is_known_beta(name) {
                let name: String = name.chars().take(80).collect();
                return Err(ApiError::invalid(format!(
                    "Unexpected value(s) `{name}` for the `anthropic-beta` header. Please consult our documentation at \
                     docs.anthropic.com or try again without the header."
                )));
            }
        }
    }
    Ok(())
}

fn is_known_beta(name: &str) -> bool {
    // A date of the form -2026-02-01 ends each name.
    let Some((family, date)) = name
        .len()
        .checked_sub(11)
        .and_then(|at| name.split_at_checked(at))
    else {
        return false;
    };
    let is_date = date
        .bytes()
        .enumerate()
        .all(|(at, byte)| date_byte(at, byte));
    is_date && BETAS.contains(&family)
}

const fn date_byte(at: usize, byte: u8) -> bool {
    if matches!(at, 0 | 5 | 8) {
        byte == b'-'
    } else {
        byte.is_ascii_digit()
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get("content-encoding").map(|value| value.to_str().unwrap_or("?")) {
        None | Some("identity") => Ok(()),
        Some(_) => Err(ApiError::invalid("The request body encoding is not supported by this server. Send the body uncompressed.")
            .with_code("request_body_encoding_unsupported")),
    }
}
