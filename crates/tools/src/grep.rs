//! `grep`: search in the contents of files with ripgrep's engine.
//!
//! The engine matches in time linear to the text, whatever the pattern. Files are found by the walk on
//! directory handles, so nothing outside the granted directory is ever opened, and no program is started.
//!
//! Invariant: the search ends at the deadline, at `max_results`, or at the end of the tree, whichever is first,
//! and the last line of the answer says which.

mod sink;

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use ignore::Match;
use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::dir::{EntryKind, OpenFile};
use otto_sandbox::{DirError, FailureKind, Place, ToolFailure, WorkerCtx};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::files::{WalkOptions, failure, globs, plain, spelled, types, walk};
use crate::input::{self, OneOrMany};
use crate::text::{cut, quote};
use sink::{Found, Patient, Report};

// BOUND: a pattern is written by a model for one search; larger ones cost compile time.
const MAX_PATTERN_BYTES: usize = 8 * 1024;

// BOUND: memory of the compiled pattern and of its lazy automaton.
const REGEX_BYTES: usize = 8 * 1024 * 1024;
const DFA_BYTES: usize = 32 * 1024 * 1024;

// BOUND: nesting of a pattern; the parser's stack depends on it.
const MAX_NESTING: u32 = 100;

// BOUND: the part of an error that comes from the regex parser.
const MAX_REASON_BYTES: usize = 500;

// BOUND: matching lines of one answer.
const DEFAULT_MAX_RESULTS: usize = 200;
const MOST_MAX_RESULTS: usize = 5_000;

// BOUND: lines around a match.
const MAX_CONTEXT: usize = 20;

// BOUND: memory for one line; a file with a longer one is skipped and counted.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

// BOUND: the answer; about 50,000 tokens.
const MAX_OUTPUT_BYTES: usize = 192 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "grep",
    description: "Search file contents with a regular expression (ripgrep's syntax; no look-around, no \
                  back-references, one line at a time). Searches below `path`, skipping hidden files, binary files \
                  and what .gitignore excludes. Each match is a line `path:line:text`; context lines are \
                  `path-line-text`; the last line counts matches and files. Set `fixed` to search for a text as it \
                  is.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "pattern": { "type": "string", "description": "Regular expression, such as `fn \\w+\\(`. At most 8 KiB." },
    "path": { "type": "string", "description": "File or directory to search, relative to the working directory, or `@name/...` in a read-only root. Default `.`." },
    "glob": { "type": ["string", "array"], "items": { "type": "string" }, "description": "Search only files that match, such as `*.rs` or `src/**/*.md`; `!*.lock` leaves out." },
    "type": { "type": ["string", "array"], "items": { "type": "string" }, "description": "Search only files of a type as ripgrep names it: `rust`, `py`, `js`, `elixir`, ..." },
    "fixed": { "type": "boolean", "description": "The pattern is plain text, not a regular expression. Default false." },
    "case": { "enum": ["sensitive", "insensitive", "smart"], "description": "Default `sensitive`; `smart` ignores case if the pattern has no capital letter." },
    "word": { "type": "boolean", "description": "Match whole words only. Default false." },
    "context": { "type": "integer", "minimum": 0, "maximum": 20, "description": "Lines to show before and after each match. Default 0." },
    "output": { "enum": ["lines", "files", "counts"], "description": "`lines` (default), only the paths of files with a match, or `path:count`." },
    "max_results": { "type": "integer", "minimum": 1, "maximum": 5000, "description": "Stop after this many matching lines (or files). Default 200." },
    "hidden": { "type": "boolean", "description": "Also search files and directories whose names start with a dot. Default false." },
    "ignored": { "type": "boolean", "description": "Also search what .gitignore excludes. Default false." }
  },
  "required": ["pattern"],
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Read]),
    side_effects: SideEffects::None,
    repeatability: Repeatability::Repeatable,
    timeout: Duration::from_secs(30),
    max_output_bytes: MAX_OUTPUT_BYTES,
    check: |input| input::parse::<Input>(input).and_then(|input| matcher(&input).map(drop)),
    check_settings: input::check_settings::<Settings>,
    run: |ctx, request| input::run(ctx, request, run),
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    pattern: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    glob: Option<OneOrMany>,
    #[serde(default, rename = "type")]
    types: Option<OneOrMany>,
    #[serde(default)]
    fixed: Option<bool>,
    #[serde(default)]
    case: Option<Case>,
    #[serde(default)]
    word: Option<bool>,
    #[serde(default)]
    context: Option<usize>,
    #[serde(default)]
    output: Option<Output>,
    #[serde(default)]
    max_results: Option<usize>,
    #[serde(default)]
    hidden: Option<bool>,
    #[serde(default)]
    ignored: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Case {
    Sensitive,
    Insensitive,
    Smart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Output {
    Lines,
    Files,
    Counts,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    max_results: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_results: DEFAULT_MAX_RESULTS,
        }
    }
}

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<String, ToolFailure> {
    let matcher = matcher(&input)?;
    let path = input.path.as_deref().unwrap_or(".");
    let max_results = input
        .max_results
        .unwrap_or(settings.max_results)
        .clamp(1, MOST_MAX_RESULTS);
    let mut search = Search {
        ctx,
        matcher,
        searcher: searcher(input.context.unwrap_or(0).min(MAX_CONTEXT)),
        report: Report::new(
            input.output.unwrap_or(Output::Lines),
            max_results,
            MAX_OUTPUT_BYTES - 1024,
        ),
    };
    let refuse = |error| failure(ctx, "search", path, error);
    let place = ctx.place(path).map_err(refuse)?;
    let base = plain(place.path).unwrap_or_default();
    let types = types(input.types.as_ref())?;
    let mut unreadable = 0;
    match place.dir.open_dir(place.path) {
        Ok(start) => {
            let overrides = globs(&base, input.glob.as_ref())?;
            let options = WalkOptions {
                hidden: input.hidden.unwrap_or(false),
                ignored: input.ignored.unwrap_or(false),
                overrides: &overrides,
                types: &types,
                depth: usize::MAX,
            };
            let walked = walk(ctx, place.dir, start, &base, options, |visit| {
                if visit.kind != EntryKind::File {
                    return Ok(true);
                }
                match visit.dir.open_entry(visit.name) {
                    Ok(open) => search.file(&place, visit.path, open),
                    Err(_) => {
                        search.report.unreadable += 1;
                        Ok(true)
                    }
                }
            });
            match walked {
                Ok(stats) => unreadable = stats.unreadable,
                // What was found until then is worth more than an error.
                Err(failure)
                    if failure.kind == FailureKind::TimedOut && search.report.matches > 0 =>
                {
                    search.report.timed_out = true;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(DirError::NotADirectory) => {
            let open = place.dir.open_file(place.path).map_err(refuse)?;
            let parent = base.rsplit_once('/').map_or("", |(parent, _)| parent);
            let overrides = globs(parent, input.glob.as_ref())?;
            let shown = Path::new(OsStr::from_bytes(base.as_bytes()));
            let excluded = matches!(overrides.matched(shown, false), Match::Ignore(_))
                || matches!(types.matched(shown, false), Match::Ignore(_));
            if !excluded {
                search.file(&place, base.as_bytes(), open)?;
            }
        }
        Err(error) => return Err(refuse(error)),
    }
    search.report.unreadable += unreadable;
    let all = input.hidden == Some(true) && input.ignored == Some(true);
    Ok(search.report.finish(all))
}

struct Search<'a> {
    ctx: &'a WorkerCtx,
    matcher: RegexMatcher,
    searcher: Searcher,
    report: Report,
}

impl Search<'_> {
    /// Searches one file; `false` when the report is full.
    fn file(
        &mut self,
        place: &Place<'_>,
        path: &[u8],
        open: OpenFile,
    ) -> Result<bool, ToolFailure> {
        let mut found = Found::new(&mut self.report, self.ctx, || {
            spelled(place, &String::from_utf8_lossy(path))
        });
        let reader = Patient {
            ctx: self.ctx,
            file: &open.file,
        };
        let searched = self
            .searcher
            .search_reader(&self.matcher, reader, &mut found);
        let failure = found.end();
        if let Some(failure) = failure {
            return Err(failure);
        }
        if searched.is_err() {
            self.ctx.check()?;
            self.report.unreadable += 1;
        }
        self.report.searched += 1;
        Ok(!self.report.is_full())
    }
}

fn searcher(context: usize) -> Searcher {
    SearcherBuilder::new()
        .line_number(true)
        .before_context(context)
        .after_context(context)
        .heap_limit(Some(MAX_LINE_BYTES))
        .binary_detection(BinaryDetection::quit(0))
        .build()
}

fn matcher(input: &Input) -> Result<RegexMatcher, ToolFailure> {
    let pattern = &input.pattern;
    if pattern.is_empty() {
        return Err(ToolFailure::for_model(
            "the pattern is empty, which matches every line; give a text to search for",
        ));
    }
    if pattern.len() > MAX_PATTERN_BYTES {
        let message = format!(
            "the pattern has {} bytes, more than the limit of {MAX_PATTERN_BYTES}",
            pattern.len()
        );
        return Err(ToolFailure::for_model(message));
    }
    let case = input.case.unwrap_or(Case::Sensitive);
    RegexMatcherBuilder::new()
        .multi_line(true)
        .fixed_strings(input.fixed == Some(true))
        .case_insensitive(case == Case::Insensitive)
        .case_smart(case == Case::Smart)
        .word(input.word == Some(true))
        .line_terminator(Some(b'\n'))
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(DFA_BYTES)
        .nest_limit(MAX_NESTING)
        .build(pattern)
        .map_err(|error| {
            let mut message = format!(
                "the pattern {} is not valid: {}",
                quote(pattern),
                reason(&error)
            );
            if input.fixed != Some(true) {
                message.push_str("; to search for it as plain text set `fixed` to true");
            }
            if pattern.contains('\n') || pattern.contains("\\n") {
                let _ = write!(
                    message,
                    "; a match is within one line, so search for each line alone"
                );
            }
            ToolFailure::for_model(message)
        })
}

/// What is wrong with a pattern, without the drawing that the parser makes of it.
fn reason(error: &grep_regex::Error) -> String {
    let text = error.to_string();
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("error: "));
    cut(last.unwrap_or(&text).to_owned(), MAX_REASON_BYTES)
}
