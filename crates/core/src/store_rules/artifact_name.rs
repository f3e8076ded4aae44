//! File names of artifacts: `<invocation>-<kind>-<name>`, later versions `<invocation>-<kind>~2-<name>`.
//!
//! Flat below the session's directory, so that an artifact needs one new directory per session; sorted by
//! time, since invocation ids are.
//!
//! Invariant: a name that parses is one path component without control characters, and does not begin with
//! a dot.

use std::sync::Arc;

use crate::InvocationId;
use crate::port::store::{ArtifactDraft, ArtifactKind, ArtifactRef, StoreError};

/// The longest name an artifact can be given, in bytes.
const NAME_MAX: usize = 100;

/// Most versions of one artifact.
///
/// BOUND: far above what anyone keeps; it ends the search for a free name.
pub const VERSION_MAX: u32 = 10_000;

const ID_BYTES: usize = 36;
const KINDS: [ArtifactKind; 3] = [
    ArtifactKind::Transcript,
    ArtifactKind::Result,
    ArtifactKind::Intermediate,
];

/// Checks the name that an artifact shall have.
///
/// # Errors
/// `Invalid`, with what was expected.
pub fn check(name: &str) -> Result<(), StoreError> {
    if is_valid(name) {
        return Ok(());
    }
    let shown: String = name
        .chars()
        .take(NAME_MAX)
        .flat_map(char::escape_default)
        .collect();
    let detail = format!(
        "store artifact `{shown}`: expected a file name of 1 to {NAME_MAX} letters a-z and A-Z, digits, `-`, `_` and `.` that does not begin with a dot"
    );
    Err(StoreError::Invalid {
        detail: Arc::from(detail),
    })
}

fn is_valid(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.') && name.bytes().all(letter)
}

/// The file name of a version, from 1.
#[must_use]
pub fn file_name(invocation: InvocationId, kind: ArtifactKind, version: u32, name: &str) -> String {
    match version {
        1 => format!("{invocation}-{}-{name}", kind.as_str()),
        _ => format!("{invocation}-{}~{version}-{name}", kind.as_str()),
    }
}

/// What a file name says, if it is one of an artifact.
#[must_use]
pub fn parse(file_name: &str) -> Option<(InvocationId, ArtifactKind)> {
    let (id, rest) = file_name.split_at_checked(ID_BYTES)?;
    let invocation: InvocationId = id.parse().ok()?;
    let (kind, name) = rest.strip_prefix('-')?.split_once('-')?;
    let (kind, version) = match kind.split_once('~') {
        None => (kind, 1),
        Some((kind, version)) => (
            kind,
            version
                .parse::<u32>()
                .ok()
                .filter(|v| (2..=VERSION_MAX).contains(v))?,
        ),
    };
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind)?;
    // Only the one spelling that `file_name` gives: no leading zeros, no plus sign.
    (is_valid(name) && self::file_name(invocation, kind, version, name) == file_name)
        .then_some((invocation, kind))
}

/// A checksum as references show it: lower-case hexadecimal, two digits per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The refusal when all artifacts together would have too many bytes.
#[must_use]
pub fn too_much(path: &str, size: u64, total: u64, max: u64) -> StoreError {
    let detail = format!(
        "store artifact `{path}` of {size} bytes: all artifacts together have {total} bytes, at most {max} are kept; shorten the retention, unpin sessions, or raise `artifact_bytes_max`"
    );
    StoreError::Full {
        detail: Arc::from(detail),
    }
}

/// The refusal when there are [`VERSION_MAX`] versions.
#[must_use]
pub fn too_many_versions(draft: &ArtifactDraft) -> StoreError {
    let detail = format!(
        "store artifact `{}` of invocation {}: it has {VERSION_MAX} versions already; use another name",
        draft.name, draft.invocation
    );
    StoreError::Full {
        detail: Arc::from(detail),
    }
}

/// The answer when there is no such file, or the reference names none.
#[must_use]
pub fn not_found(artifact: &ArtifactRef) -> StoreError {
    let path: String = artifact
        .path
        .chars()
        .take(200)
        .flat_map(char::escape_default)
        .collect();
    StoreError::NotFound {
        what: Arc::from(format!("artifact `{path}` of session {}", artifact.session)),
    }
}

#[cfg(test)]
mod tests {
    use crate::Timestamp;

    use super::*;

    #[test]
    fn names_round_trip() {
        let id = InvocationId::from_parts(Timestamp::from_millis(1_764_000_000_000), [7; 10]);
        for kind in KINDS {
            for version in [1, 2, 17, VERSION_MAX] {
                for name in ["a", "report.md", "x-y_z.tar.gz", &"n".repeat(NAME_MAX)] {
                    let text = file_name(id, kind, version, name);
                    assert!(text.len() < 256);
                    assert_eq!(parse(&text), Some((id, kind)), "{text}");
                }
            }
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let id = InvocationId::from_parts(Timestamp::from_millis(1), [7; 10]);
        let long = "n".repeat(NAME_MAX + 1);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\0b",
            ".hidden",
            "a b",
            "é",
            "a~2",
            "a\n",
            &long,
        ] {
            assert!(check(name).is_err(), "{name:?}");
            assert_eq!(
                parse(&file_name(id, ArtifactKind::Result, 1, name)),
                None,
                "{name:?}"
            );
        }
        for text in [
            "",
            "otto.db",
            "../x",
            ".tmp-1-2",
            "éééééééééééééééééééééééééééééééééééé-result-x",
            &format!("{id}-result"),
            &format!("{id}-result~1-x"),
            &format!("{id}-result~02-x"),
            &format!("{id}-result~+2-x"),
            &format!("{id}-other-x"),
            &format!("{id}/result-x"),
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
