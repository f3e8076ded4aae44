//! Where matches go: lines for the model, counted and bounded.
//!
//! Invariant: no line of the answer holds a line break or a hidden character of a file, and the answer never
//! grows past its limit by more than one line.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};

use grep_searcher::{Searcher, Sink, SinkContext, SinkContextKind, SinkFinish, SinkMatch};
use otto_sandbox::{ToolFailure, WorkerCtx};

use super::Output;
use crate::text::{count, floor, one_line};

// BOUND: one line of a file in the answer; minified code has lines of megabytes.
const MAX_SHOWN_BYTES: usize = 500;

/// A file that stops giving bytes when the call is to end.
pub(super) struct Patient<'a> {
    pub(super) ctx: &'a WorkerCtx,
    pub(super) file: &'a File,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ctx.check().map_err(io::Error::other)?;
        self.file.read(buffer)
    }
}

/// All matches of one search.
pub(super) struct Report {
    text: String,
    output: Output,
    max_results: usize,
    max_bytes: usize,
    /// Matching lines.
    pub(super) matches: usize,
    /// Files with a match.
    pub(super) files: usize,
    /// Files looked at.
    pub(super) searched: usize,
    /// Files and directories that could not be read.
    pub(super) unreadable: usize,
    /// Files left out because they are not text.
    binary: usize,
    cut_lines: usize,
    pub(super) timed_out: bool,
    more: bool,
}

impl Report {
    pub(super) fn new(output: Output, max_results: usize, max_bytes: usize) -> Self {
        Self {
            text: String::new(),
            output,
            max_results,
            max_bytes,
            matches: 0,
            files: 0,
            searched: 0,
            unreadable: 0,
            binary: 0,
            cut_lines: 0,
            timed_out: false,
            more: false,
        }
    }

    /// Whether nothing more may be added.
    pub(super) const fn is_full(&self) -> bool {
        self.more
    }

    /// Whether one more result would be too many; remembers that there was one.
    fn refuse_more(&mut self) -> bool {
        let results = if self.output == Output::Lines {
            self.matches
        } else {
            self.files
        };
        self.more = results >= self.max_results || self.text.len() >= self.max_bytes;
        self.more
    }

    pub(super) fn finish(mut self, searched_all: bool) -> String {
        let mut note = format!(
            "{} in {}",
            count(self.matches, "match", "matches"),
            count(self.files, "file", "files"),
        );
        if self.more {
            note.push_str(", stopped there: there are more; narrow the pattern, `path` or `glob`, or raise `max_results`");
        }
        if self.timed_out {
            note.push_str(", stopped there: the time is up; search a smaller part");
        }
        if self.matches == 0 {
            let _ = write!(note, "; {} searched", count(self.searched, "file", "files"));
            if !searched_all {
                note.push_str(
                    " (hidden files and what .gitignore excludes are skipped unless asked for)",
                );
            }
        }
        if self.cut_lines > 0 {
            let _ = write!(
                note,
                "; {} cut to {MAX_SHOWN_BYTES} bytes",
                count(self.cut_lines, "long line", "long lines")
            );
        }
        if self.binary > 0 {
            let _ = write!(
                note,
                "; {} not searched to the end",
                count(self.binary, "binary file", "binary files")
            );
        }
        if self.unreadable > 0 {
            let _ = write!(
                note,
                "; {} could not be read",
                count(self.unreadable, "file or directory", "files or directories")
            );
        }
        let _ = write!(self.text, "[grep: {note}]");
        self.text
    }
}

/// The matches of one file.
pub(super) struct Found<'a, F> {
    report: &'a mut Report,
    ctx: &'a WorkerCtx,
    spell: F,
    path: String,
    matches: usize,
    binary: bool,
    /// Where the context before the next match starts, in case that match is not shown.
    before: Option<usize>,
    failure: Option<ToolFailure>,
}

impl<'a, F: Fn() -> String> Found<'a, F> {
    pub(super) const fn new(report: &'a mut Report, ctx: &'a WorkerCtx, spell: F) -> Self {
        Self {
            report,
            ctx,
            spell,
            path: String::new(),
            matches: 0,
            binary: false,
            before: None,
            failure: None,
        }
    }

    /// Closes the file; a failure ends the whole search.
    pub(super) fn end(self) -> Option<ToolFailure> {
        if self.binary {
            self.report.binary += 1;
        }
        if self.matches > 0 {
            match self.report.output {
                Output::Lines => {}
                Output::Files => {
                    let _ = writeln!(self.report.text, "{}", self.path);
                }
                Output::Counts => {
                    let _ = writeln!(self.report.text, "{}:{}", self.path, self.matches);
                }
            }
        }
        self.failure
    }

    fn line(&mut self, mark: char, number: Option<u64>, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        // A little more than is shown, so that a character at the border is whole.
        let start = &bytes[..bytes.len().min(MAX_SHOWN_BYTES + 4)];
        let text = String::from_utf8_lossy(start);
        let cut = bytes.len() > MAX_SHOWN_BYTES;
        let text = if cut {
            &text[..floor(&text, MAX_SHOWN_BYTES)]
        } else {
            &text
        };
        let text = crate::text::reveal(text).0;
        let _ = write!(
            self.report.text,
            "{}{mark}{}{mark}{text}",
            self.path,
            number.unwrap_or(0)
        );
        if cut {
            self.report.cut_lines += 1;
            self.report.text.push_str(" [cut]");
        }
        self.report.text.push('\n');
    }
}

impl<F: Fn() -> String> Sink for Found<'_, F> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        if let Err(failure) = self.ctx.check() {
            self.failure = Some(failure);
            return Ok(false);
        }
        let counts_files = self.report.output != Output::Lines;
        if (self.matches == 0 || !counts_files) && self.report.refuse_more() {
            if let Some(start) = self.before {
                self.report.text.truncate(start);
            }
            return Ok(false);
        }
        self.before = None;
        if self.matches == 0 {
            self.path = one_line(&(self.spell)()).into_owned();
            self.report.files += 1;
        }
        self.matches += 1;
        self.report.matches += 1;
        if self.report.output == Output::Lines {
            self.line(':', found.line_number(), found.bytes());
        }
        Ok(self.report.output != Output::Files)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        if self.report.output == Output::Lines {
            if self.path.is_empty() {
                self.path = one_line(&(self.spell)()).into_owned();
            }
            if *context.kind() == SinkContextKind::Before {
                self.before.get_or_insert(self.report.text.len());
            }
            self.line('-', context.line_number(), context.bytes());
        }
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if self.report.output == Output::Lines {
            self.before.get_or_insert(self.report.text.len());
            self.report.text.push_str("--\n");
        }
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> io::Result<bool> {
        self.binary = true;
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, _: &SinkFinish) -> io::Result<()> {
        Ok(())
    }
}
