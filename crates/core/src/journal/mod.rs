//! The journal's codec: one event, one line of JSON; and the way back from a journal to a machine.
//!
//! A line is `{"v":1,"at":MICROSECONDS,"type":"...","event":{...}}`; one of a call that makes a summary has
//! `"summary":true` behind that. The format belongs to this module
//! alone: core types have no serializer of their own, so that renaming a field cannot change what is on
//! disk. Each version has its records in a module of its own (`v1`), frozen by golden files in
//! `tests/golden/`; old versions stay readable for ever.
//!
//! This module does not write, order or deduplicate entries: that is the store's part.
//!
//! Invariant: `decode(encode(at, event))` is `(at, event)` for every event, provider blocks byte for byte;
//! and no text, however hostile, makes `decode` panic or recurse.

mod error;
mod fold;
mod v1;

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use error::{FoldError, JournalError};
pub use fold::{everything_said, fold, replay};

use crate::Timestamp;
use crate::invocation::Event;

/// The version that [`encode`] writes.
pub const VERSION: u64 = 1;

/// Longer lines are refused by [`decode`].
// BOUND: far above the largest event (a task with its system prompt and tool schemas, or one block of a
// reply), far below what would hurt.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// One event as a line of JSON, without a line break.
#[must_use]
pub fn encode(at: Timestamp, event: &Event) -> Arc<str> {
    written(|line| v1::encode(line, at, event))
}

/// As [`encode`], for an event of a model call that makes a summary: with a mark for readers of the journal, who
/// would have to fold it to know. The machine finds out by itself, and older versions pass the mark over.
#[must_use]
pub fn encode_of_summary(at: Timestamp, event: &Event) -> Arc<str> {
    written(|line| {
        v1::encode(line, at, event);
        // Its last brace.
        line.pop();
        line.extend_from_slice(br#","summary":true}"#);
    })
}

/// A longer line does not stay in the buffer.
const KEPT_BYTES: usize = 64 * 1024;

/// What `write` writes. Each thread writes into a buffer that it keeps: a line is allocated once, with its length.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Arc<str> {
    thread_local! {
        static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut line = LINE.take();
    line.clear();
    write(&mut line);
    let written = str::from_utf8(&line).expect("JSON is made of texts");
    let written = Arc::from(written);
    if line.capacity() <= KEPT_BYTES {
        LINE.set(line);
    }
    written
}

/// Whether a line is marked as one of a summary.
#[must_use]
pub fn is_of_summary(line: &str) -> bool {
    serde_json::from_str::<Mark>(line).is_ok_and(|mark| mark.summary)
}

/// Reads a line that [`encode`] of this or an earlier version of Otto has written.
///
/// # Errors
/// When the line is not such a line: the error says what is wrong with it, and whether a newer Otto wrote it.
pub fn decode(line: &str) -> Result<(Timestamp, Event), JournalError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(JournalError::TooLong { bytes: line.len() });
    }
    let header: Header<'_> = match serde_json::from_str(line) {
        Ok(header) => header,
        Err(error) => {
            // A newer version may have another shape altogether; then that is the error to report.
            return Err(match serde_json::from_str::<VersionOnly>(line) {
                Ok(VersionOnly { v }) if v != VERSION => {
                    JournalError::UnknownVersion { version: v }
                }
                _ => JournalError::malformed(&error),
            });
        }
    };
    match header.v {
        VERSION => Ok((
            Timestamp::from_micros(header.at),
            v1::decode(&header.kind, header.event)?,
        )),
        version => Err(JournalError::UnknownVersion { version }),
    }
}

/// What every line has in common.
#[derive(Deserialize)]
struct Header<'a> {
    v: u64,
    at: u64,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
}

#[derive(Deserialize)]
struct Mark {
    #[serde(default)]
    summary: bool,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u64,
}

/// A line to write.
#[derive(Serialize)]
struct Line<'a, R> {
    v: u64,
    at: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    event: &'a R,
}

/// Serialises straight to text, without a tree in between: encoding is on the path of every step.
fn write_line<R: Serialize>(line: &mut Vec<u8>, at: Timestamp, kind: &'static str, record: &R) {
    serde_json::to_writer(
        line,
        &Line {
            v: VERSION,
            at: at.micros(),
            kind,
            event: record,
        },
    )
    .expect("records have text keys and no fallible serializer, and a buffer takes all");
}
