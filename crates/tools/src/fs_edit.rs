//! `fs.edit`: replaces one exact piece of a text file.
//!
//! The text to replace must be there exactly once (or `all` must be set), so an edit never lands in a place
//! the model did not mean. When it is not there, the answer shows the place that comes nearest and how it
//! differs. The file is written by the same recipe as `fs.write`, and only if it is still the version that was
//! read.
//!
//! Invariant: everything outside the replaced piece stays byte for byte.

mod near;

use std::fmt::Write;
use std::io::Read;
use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::dir::WriteOptions;
use otto_sandbox::{ToolFailure, WorkerCtx};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::files::failure;
use crate::fs_read::{io_failure, refuse_binary};
use crate::fs_write::Settings;
use crate::input;
use crate::text::{count, cut, one_line, quote, size};

// BOUND: places named when a text is there more than once.
const MAX_PLACES: usize = 8;

// BOUND: lines of the changed piece that are shown, and bytes of each.
const MAX_SHOWN_LINES: usize = 12;
const MAX_LINE_BYTES: usize = 200;

// BOUND: the answer: a sentence and a few lines.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "fs.edit",
    description: "Change a part of a text file: `old` is replaced by `new`. `old` must be in the file exactly once, \
                  character for character with all spaces and line breaks; take some lines around it to make it \
                  unique, or set `all` to replace every occurrence. The old content is kept as `NAME.bak`. To create \
                  a file or replace all of it use fs.write.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "path": { "type": "string", "description": "File to change, relative to the working directory." },
    "old": { "type": "string", "minLength": 1, "description": "The text to replace, exactly as it is in the file." },
    "new": { "type": "string", "description": "The text to put in its place; empty to remove `old`." },
    "all": { "type": "boolean", "description": "Replace every occurrence. Default false: there must be exactly one." }
  },
  "required": ["path", "old", "new"],
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Read, Permission::Write]),
    side_effects: SideEffects::Some,
    // A second run of the same edit may find `old` inside what the first has put there.
    repeatability: Repeatability::Unknown,
    timeout: Duration::from_secs(30),
    max_output_bytes: MAX_OUTPUT_BYTES,
    check: input::check::<Input>,
    check_settings: input::check_settings::<Settings>,
    run: |ctx, request| input::run(ctx, request, run),
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    path: String,
    old: String,
    new: String,
    #[serde(default)]
    all: Option<bool>,
}

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<String, ToolFailure> {
    let path = &input.path;
    let fail = |message: String| {
        Err(ToolFailure::for_model(format!(
            "edit {}: {message}",
            quote(path)
        )))
    };
    if input.old.is_empty() {
        return fail(
            "`old` is empty; to create a file or to replace all of it use fs.write".to_owned(),
        );
    }
    if input.old == input.new {
        return fail("`old` and `new` are the same; nothing would change".to_owned());
    }
    let refuse = |error| failure(ctx, "edit", path, error);
    let max = settings.max_bytes();
    let place = ctx.place(path).map_err(refuse)?;
    let open = place.dir.open_file(place.path).map_err(refuse)?;
    let mut bytes = Vec::new();
    (&open.file)
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io_failure(ctx, path, &error))?;
    if bytes.len() as u64 > max {
        let found = size(open.stamp.size.max(bytes.len() as u64));
        return fail(format!(
            "the file has {found}, more than the limit of {}",
            size(max)
        ));
    }
    refuse_binary(path, &bytes)?;
    let Ok(text) = String::from_utf8(bytes) else {
        return fail("the file is not UTF-8, so it cannot be changed without damage".to_owned());
    };
    let edit = match Edit::plan(&text, &input.old, &input.new) {
        Some(edit) => edit,
        None => {
            return fail(format!(
                "`old` is not in the file{}",
                near::explain(ctx, &text, &input.old)?
            ));
        }
    };
    if edit.places.len() > 1 && input.all != Some(true) {
        return fail(format!(
            "`old` is in the file {} times, at {}; add lines around it to make it unique, or set `all` to true",
            edit.places.len(),
            edit.lines(&text),
        ));
    }
    let changed = edit.apply(&text);
    if changed.len() as u64 > max {
        return fail(format!(
            "the file would have {}, more than the limit of {}",
            size(changed.len() as u64),
            size(max)
        ));
    }
    let options = WriteOptions {
        backup: settings.backup(),
        expected: Some(&open),
    };
    let written = place
        .dir
        .write_atomic(place.path, changed.as_bytes(), options)
        .map_err(refuse)?;
    let mut report = format!(
        "edited {}: {} at {}",
        quote(path),
        count(edit.places.len(), "replacement", "replacements"),
        edit.lines(&text),
    );
    if let Some(backup) = &written.backup {
        let _ = write!(
            report,
            "; the old content is in {} beside it",
            quote(backup)
        );
    }
    if edit.crlf {
        report.push_str("; line ends were written as CRLF like the rest of the file");
    }
    report.push('\n');
    edit.show(&changed, &mut report);
    Ok(report)
}

/// Where a text is replaced by which.
struct Edit {
    old: String,
    new: String,
    /// Byte offsets of `old`, in order, not overlapping. Not empty.
    places: Vec<usize>,
    /// Whether both texts were given the line ends of the file.
    crlf: bool,
}

impl Edit {
    fn plan(text: &str, old: &str, new: &str) -> Option<Self> {
        let find = |old: &str| {
            text.match_indices(old)
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        let places = find(old);
        if !places.is_empty() {
            return Some(Self {
                old: old.to_owned(),
                new: new.to_owned(),
                places,
                crlf: false,
            });
        }
        // Models write LF; in a file with CRLF that is what they mean.
        if !old.contains('\n') || old.contains('\r') || !text.contains("\r\n") {
            return None;
        }
        let old = old.replace('\n', "\r\n");
        let places = find(&old);
        let new = new.replace("\r\n", "\n").replace('\n', "\r\n");
        (!places.is_empty()).then_some(Self {
            old,
            new,
            places,
            crlf: true,
        })
    }

    fn apply(&self, text: &str) -> String {
        let grown = self.new.len().saturating_sub(self.old.len()) * self.places.len();
        let mut changed = String::with_capacity(text.len() + grown);
        let mut from = 0;
        for at in &self.places {
            changed.push_str(&text[from..*at]);
            changed.push_str(&self.new);
            from = at + self.old.len();
        }
        changed.push_str(&text[from..]);
        changed
    }

    /// `line 7`, `lines 7, 9 and 12`, `lines 1, 2, 3, 4, 5, 6, 7, 8 and 92 more`.
    fn lines(&self, text: &str) -> String {
        let mut numbers = Vec::new();
        let (mut line, mut from) = (1, 0);
        for at in self.places.iter().take(MAX_PLACES) {
            line += text[from..*at].matches('\n').count();
            from = *at;
            numbers.push(line.to_string());
        }
        let more = self.places.len() - numbers.len();
        let last = if more > 0 {
            format!("{more} more")
        } else {
            numbers.pop().unwrap_or_default()
        };
        if numbers.is_empty() {
            return format!("line {last}");
        }
        format!("lines {} and {last}", numbers.join(", "))
    }

    /// The first changed piece with a line before and after, numbered.
    fn show(&self, changed: &str, report: &mut String) {
        let at = self.places[0];
        let first = changed[..at].matches('\n').count() + 1;
        let last = first + self.new.matches('\n').count();
        let from = first.saturating_sub(1).max(1);
        for (number, line) in changed
            .lines()
            .enumerate()
            .skip(from - 1)
            .take((last + 1) - from + 1)
            .take(MAX_SHOWN_LINES)
        {
            let _ = writeln!(report, "{}: {}", number + 1, cut_line(line));
        }
        if last + 2 - from > MAX_SHOWN_LINES {
            report.push_str("...\n");
        }
    }
}

/// One line of a file in an answer.
fn cut_line(line: &str) -> String {
    let line = cut(line.to_owned(), MAX_LINE_BYTES);
    one_line(&line).into_owned()
}
