//! What can be wrong with a journal.
//!
//! Invariant: an error shows at most a short, escaped piece of the line: lines come from disk and may hold
//! anything.

use crate::id::InvalidId;

/// Why a line could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The line is longer than any that Otto writes. The journal is damaged.
    #[error("journal line of {bytes} bytes is longer than the largest event ({max} bytes)", max = super::MAX_LINE_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The line is not an event: damaged or not Otto's.
    #[error("journal line is not an event: {detail}")]
    Malformed {
        /// What was found, and where in the line.
        detail: String,
    },
    /// A newer Otto wrote the line. Read it with that version.
    #[error("journal line has version {version}, and this Otto reads versions up to {max}: use a newer Otto", max = super::VERSION)]
    UnknownVersion {
        /// The line's version.
        version: u64,
    },
    /// The version is known, the kind of event is not: damaged, or written by a changed Otto.
    #[error("journal line has the unknown event type `{kind}`")]
    UnknownType {
        /// The type, shortened and escaped.
        kind: String,
    },
    /// The line has the right shape and a value that cannot be.
    #[error("journal line holds an impossible value: {detail}")]
    Impossible {
        /// Which value.
        detail: String,
    },
}

/// Why a journal could not be turned into a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// There is nothing to fold.
    #[error("the journal is empty: there is no invocation to go on with")]
    Empty,
    /// An entry is missing, repeated or out of order.
    #[error("journal entry {expected} is missing: found entry {found} in its place")]
    Gap {
        /// The sequence number that comes next.
        expected: u64,
        /// The sequence number found.
        found: u64,
    },
    /// The first event is not the start, or a start comes later.
    #[error("journal entry {sequence} is out of place: a journal begins with its only start")]
    MisplacedStart {
        /// The entry.
        sequence: u64,
    },
    /// An entry cannot be read.
    #[error("read journal entry {sequence}")]
    Unreadable {
        /// The entry.
        sequence: u64,
        /// What is wrong with it.
        source: JournalError,
    },
}

// BOUND: enough to recognise what is wrong.
const SHOWN_CHARS: usize = 160;

/// A short piece of a text, with control characters escaped.
fn shown(text: &str) -> String {
    text.chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_default)
        .collect()
}

impl JournalError {
    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self::Malformed {
            detail: shown(&error.to_string()),
        }
    }

    pub(super) fn unknown_type(kind: &str) -> Self {
        Self::UnknownType { kind: shown(kind) }
    }

    pub(super) fn impossible(detail: &str) -> Self {
        Self::Impossible {
            detail: shown(detail),
        }
    }
}

impl From<InvalidId> for JournalError {
    fn from(error: InvalidId) -> Self {
        Self::impossible(&error.to_string())
    }
}
