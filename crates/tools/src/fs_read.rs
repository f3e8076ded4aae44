//! `fs.read`: the text of a file, whole or in part.
//!
//! A whole file is returned byte for byte as far as it is text. Whatever the tool has to say itself is one
//! last line in brackets. A part is asked for by line numbers and is read without holding the file in memory.
//!
//! Invariant: at most `max_bytes` of a file reach the answer, whatever the file does meanwhile.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::dir::OpenFile;
use otto_sandbox::{DirError, ToolFailure, WorkerAnswer, WorkerCtx};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::files::failure;
use crate::input;
use crate::text::{count, floor, quote, reveal, size};

// Requirement 2: "configurable size limits (default 2MB)".
const DEFAULT_MAX_BYTES: u64 = 2 * 1024 * 1024;

// BOUND: the setting may not go above this; an answer is one message to a model.
const MOST_MAX_BYTES: u64 = 6 * 1024 * 1024;

// BOUND: room for notes and for characters that are written out, beside the text itself.
const NOTE_BYTES: usize = 64 * 1024;

// BOUND: below this length sending the text costs no more than sending a handle.
const HAND_OVER_FROM_BYTES: u64 = 128 * 1024;

// BOUND: how far a file is looked at to tell text from other things; what git and ripgrep do.
const SNIFF_BYTES: usize = 8 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "fs.read",
    description: "Read a text file. Paths are relative to the working directory; `@name/...` reads from a read-only \
                  root. Without `offset` and `limit` the whole file is returned exactly as it is (up to 2 MiB by \
                  default); for a larger file, or to look at one place, ask for a range of lines. A last line in \
                  brackets, if there is one, is a note of the tool and not part of the file.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "path": { "type": "string", "description": "File to read, such as `src/main.rs` or `@docs/intro.md`." },
    "offset": { "type": "integer", "minimum": 1, "description": "First line to return, counted from 1. Default 1." },
    "limit": { "type": "integer", "minimum": 1, "description": "Most lines to return. Default: up to the end of the file." }
  },
  "required": ["path"],
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Read]),
    side_effects: SideEffects::None,
    repeatability: Repeatability::Repeatable,
    timeout: Duration::from_secs(30),
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a constant of a few megabytes"
    )]
    max_output_bytes: MOST_MAX_BYTES as usize + NOTE_BYTES,
    check: input::check::<Input>,
    check_settings: input::check_settings::<Settings>,
    run: |ctx, request| input::run(ctx, request, run),
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    path: String,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    limit: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Largest file that is returned whole, and most bytes of a range.
    max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<WorkerAnswer, ToolFailure> {
    if input.offset == Some(0) || input.limit == Some(0) {
        return Err(ToolFailure::for_model(
            "`offset` counts lines from 1, and `limit` is at least 1",
        ));
    }
    let max = settings.max_bytes.clamp(1, MOST_MAX_BYTES);
    let refuse = |error| failure(ctx, "read", &input.path, error);
    let place = ctx.place(&input.path).map_err(refuse)?;
    let open = place.dir.open_file(place.path).map_err(refuse)?;
    if input.offset.is_none() && input.limit.is_none() {
        if ctx.takes_files && (HAND_OVER_FROM_BYTES..=max).contains(&open.stamp.size) {
            return Ok(WorkerAnswer::HandedOver {
                file: open.file,
                most_bytes: max,
            });
        }
        return whole(ctx, &input.path, open, max).map(WorkerAnswer::from);
    }
    range(
        ctx,
        &input.path,
        open,
        input.offset.unwrap_or(1),
        input.limit.unwrap_or(u64::MAX),
        max,
    )
    .map(WorkerAnswer::from)
}

fn whole(ctx: &WorkerCtx, path: &str, open: OpenFile, max: u64) -> Result<String, ToolFailure> {
    let too_large = |bytes: u64| {
        let message = format!(
            "read {}: the file has {}, more than the {} that are returned at once; ask for a range of lines with \
             `offset` and `limit`, or search it with grep",
            quote(path),
            size(bytes),
            size(max),
        );
        Err(ToolFailure::for_model(message))
    };
    if open.stamp.size > max {
        return too_large(open.stamp.size);
    }
    let expected = usize::try_from(open.stamp.size).unwrap_or(0);
    let mut bytes = Vec::with_capacity(expected + 1);
    // One byte more than allowed, so that a file that grows meanwhile is noticed.
    open.file
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io_failure(ctx, path, &error))?;
    if bytes.len() as u64 > max {
        return too_large(bytes.len() as u64);
    }
    refuse_binary(path, &bytes)?;
    if bytes.is_empty() {
        return Ok("[fs.read: the file is empty]".to_owned());
    }
    Ok(Text::from(bytes).finish(None))
}

fn range(
    ctx: &WorkerCtx,
    path: &str,
    open: OpenFile,
    offset: u64,
    limit: u64,
    max: u64,
) -> Result<String, ToolFailure> {
    let io = |error: std::io::Error| io_failure(ctx, path, &error);
    let mut reader = BufReader::with_capacity(64 * 1024, open.file);
    let first = reader.fill_buf().map_err(io)?;
    refuse_binary(path, &first[..first.len().min(SNIFF_BYTES)])?;
    let skipped = skip_lines(ctx, path, &mut reader, offset - 1)?;
    if skipped < offset - 1 || reader.fill_buf().map_err(io)?.is_empty() {
        let message = format!(
            "read {}: `offset` is {offset}, but the file has only {}",
            quote(path),
            count(
                usize::try_from(skipped).unwrap_or(usize::MAX),
                "line",
                "lines"
            ),
        );
        return Err(ToolFailure::for_model(message));
    }
    let mut bytes: Vec<u8> = Vec::new();
    let mut lines = 0;
    let mut cut = false;
    while lines < limit {
        ctx.check()?;
        let room = max.saturating_sub(bytes.len() as u64);
        let before = bytes.len();
        let got = reader
            .by_ref()
            .take(room + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(io)?;
        if got == 0 {
            break;
        }
        if bytes.len() as u64 > max {
            // A line that does not fit is left for the next range, unless it is the only one.
            bytes.truncate(if lines == 0 {
                usize::try_from(max).unwrap_or(usize::MAX)
            } else {
                before
            });
            lines += u64::from(lines == 0);
            cut = true;
            break;
        }
        lines += 1;
    }
    refuse_binary(path, &bytes[..bytes.len().min(SNIFF_BYTES)])?;
    let last = offset + lines - 1;
    let ended = !cut && reader.fill_buf().map_err(io)?.is_empty();
    let mut note = format!("lines {offset}-{last}");
    if ended {
        note.push_str(", end of file");
    } else {
        if cut {
            let _ = write!(note, ", cut at {}", size(max));
        }
        let _ = write!(note, "; continue with offset {}", last + 1);
    }
    Ok(Text::from(bytes).finish(Some(note)))
}

/// Skips up to `lines` lines and says how many there were.
fn skip_lines(
    ctx: &WorkerCtx,
    path: &str,
    reader: &mut impl BufRead,
    lines: u64,
) -> Result<u64, ToolFailure> {
    let mut skipped = 0;
    let mut inside = false;
    while skipped < lines {
        ctx.check()?;
        let chunk = reader
            .fill_buf()
            .map_err(|error| io_failure(ctx, path, &error))?;
        if chunk.is_empty() {
            return Ok(skipped + u64::from(inside));
        }
        let mut used = 0;
        while skipped < lines {
            match chunk[used..].iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    used += at + 1;
                    skipped += 1;
                    inside = false;
                }
                None => {
                    inside = used < chunk.len();
                    used = chunk.len();
                    break;
                }
            }
        }
        reader.consume(used);
    }
    Ok(skipped)
}

/// Text for the model and what has to be said about it.
struct Text {
    text: String,
    notes: Vec<String>,
}

impl Text {
    fn from(bytes: Vec<u8>) -> Self {
        let mut notes = Vec::new();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let bytes = error.into_bytes();
                let broken = bytes
                    .utf8_chunks()
                    .filter(|chunk| !chunk.invalid().is_empty())
                    .count();
                notes.push(format!(
                    "{} not UTF-8, shown as U+FFFD",
                    count(broken, "place is", "places are")
                ));
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        let (shown, hidden) = reveal(&text);
        if hidden == 0 {
            return Self { text, notes };
        }
        notes.push(format!(
            "{} written out as \\u{{...}}",
            count(hidden, "hidden character", "hidden characters")
        ));
        Self {
            text: shown.into_owned(),
            notes,
        }
    }

    fn finish(mut self, range: Option<String>) -> String {
        // Characters that are written out grow; the answer must not.
        let most = usize::try_from(MOST_MAX_BYTES).unwrap_or(usize::MAX) + NOTE_BYTES / 2;
        if self.text.len() > most {
            self.text.truncate(floor(&self.text, most));
            self.notes
                .push("the rest is cut; ask for fewer lines".to_owned());
        }
        let notes: Vec<String> = range.into_iter().chain(self.notes).collect();
        if !notes.is_empty() {
            if !self.text.ends_with('\n') {
                self.text.push('\n');
            }
            let _ = write!(self.text, "[fs.read: {}]", notes.join("; "));
        }
        self.text
    }
}

/// Refuses what is not text, with a guess what it is.
pub(crate) fn refuse_binary(path: &str, bytes: &[u8]) -> Result<(), ToolFailure> {
    let start = &bytes[..bytes.len().min(SNIFF_BYTES)];
    if !start.contains(&0) {
        return Ok(());
    }
    let kind = match start {
        [0x7f, b'E', b'L', b'F', ..] => "a program (ELF)",
        [0x89, b'P', b'N', b'G', ..] => "an image (PNG)",
        [0xff, 0xd8, 0xff, ..] => "an image (JPEG)",
        [b'G', b'I', b'F', b'8', ..] => "an image (GIF)",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [b'P', b'K', 3, 4, ..] => "an archive or office document (ZIP)",
        [0x1f, 0x8b, ..] => "compressed data (gzip)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "compressed data (zstd)",
        [b'S', b'Q', b'L', b'i', b't', b'e', ..] => "a SQLite database",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "text in UTF-16, which is not supported",
        _ => "binary data",
    };
    Err(ToolFailure::for_model(format!(
        "read {}: the file is not text but {kind}",
        quote(path)
    )))
}

pub(crate) fn io_failure(ctx: &WorkerCtx, path: &str, error: &std::io::Error) -> ToolFailure {
    failure(ctx, "read", path, DirError::of_io(error))
}
