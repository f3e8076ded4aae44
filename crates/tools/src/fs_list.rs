//! `fs.list`: what a directory holds, to a depth, filtered by globs.
//!
//! One line per entry, sorted by path: directories end with `/`, links with `@`, files are followed by a tab and
//! their size in bytes. The last line counts.
//!
//! Invariant: an answer has at most `max_entries` lines and its note.

use std::fmt::Write;
use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::dir::EntryKind;
use otto_sandbox::{ToolFailure, WorkerCtx};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::files::{Visit, WalkOptions, failure, globs, plain, spelled, types, walk};
use crate::input::{self, OneOrMany};
use crate::text::{count, one_line, quote};

// BOUND: enough for a look at a project, small enough for a context window.
const DEFAULT_MAX_ENTRIES: usize = 1_000;

// BOUND: the setting may not go above this.
const MOST_MAX_ENTRIES: usize = 20_000;

// BOUND: levels of one listing.
const MAX_DEPTH: usize = 32;

// BOUND: 20,000 lines of paths are cut here at the latest.
const MAX_OUTPUT_BYTES: usize = 512 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "fs.list",
    description: "List what a directory holds, one entry per line, sorted: `src/` is a directory, `notes.md` followed \
                  by a tab and a number is a file with its size in bytes, `current@` is a link. Files that \
                  .gitignore excludes are left out unless `ignored` is true. Use `depth` to see more than one level \
                  and `glob` to filter.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "path": { "type": "string", "description": "Directory to list, relative to the working directory, or `@name` for a read-only root. Default `.`." },
    "depth": { "type": "integer", "minimum": 1, "maximum": 32, "description": "Levels to show. Default 1." },
    "glob": { "type": ["string", "array"], "items": { "type": "string" }, "description": "Show only files that match, such as `*.rs` or `src/**/*.md`; `!*.lock` leaves out. Implies depth 32 unless `depth` is given." },
    "hidden": { "type": "boolean", "description": "Show names that start with a dot. Default true." },
    "ignored": { "type": "boolean", "description": "Show what .gitignore excludes, and what is below .git. Default false." }
  },
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Read]),
    side_effects: SideEffects::None,
    repeatability: Repeatability::Repeatable,
    timeout: Duration::from_secs(30),
    max_output_bytes: MAX_OUTPUT_BYTES,
    check: input::check::<Input>,
    check_settings: input::check_settings::<Settings>,
    run: |ctx, request| input::run(ctx, request, run),
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    depth: Option<usize>,
    #[serde(default)]
    glob: Option<OneOrMany>,
    #[serde(default)]
    hidden: Option<bool>,
    #[serde(default)]
    ignored: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    max_entries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_entries: DEFAULT_MAX_ENTRIES,
        }
    }
}

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<String, ToolFailure> {
    let path = input.path.as_deref().unwrap_or(".");
    let max = settings.max_entries.clamp(1, MOST_MAX_ENTRIES);
    let filtered = input.glob.is_some();
    let depth = input.depth.unwrap_or(if filtered { MAX_DEPTH } else { 1 });
    if depth == 0 || depth > MAX_DEPTH {
        return Err(ToolFailure::for_model(format!(
            "`depth` is a number from 1 to {MAX_DEPTH}"
        )));
    }
    let refuse = |error| failure(ctx, "list", path, error);
    let place = ctx.place(path).map_err(refuse)?;
    let start = place.dir.open_dir(place.path).map_err(refuse)?;
    let base = plain(place.path).unwrap_or_default();
    let overrides = globs(&base, input.glob.as_ref())?;
    let types = types(None)?;
    let ignored = input.ignored.unwrap_or(false);
    let options = WalkOptions {
        hidden: input.hidden.unwrap_or(true),
        ignored,
        overrides: &overrides,
        types: &types,
        depth,
    };
    let mut listed = String::new();
    let mut entries = 0;
    let mut full = false;
    let stats = walk(ctx, place.dir, start, &base, options, |visit| {
        if filtered && visit.kind == EntryKind::Directory {
            return Ok(true);
        }
        if entries == max || listed.len() > MAX_OUTPUT_BYTES - 4096 {
            full = true;
            return Ok(false);
        }
        entries += 1;
        line(&mut listed, &visit, |below| spelled(&place, below));
        Ok(true)
    })?;
    let mut note = count(entries, "entry", "entries");
    if full {
        note.push_str(
            " shown, there are more; list a directory below, or use `glob` or less `depth`",
        );
    } else if entries == 0 && !ignored {
        let _ = write!(
            note,
            " in {} (what .gitignore excludes is not shown)",
            quote(path)
        );
    }
    if stats.unreadable > 0 {
        let _ = write!(
            note,
            "; {} could not be read",
            count(stats.unreadable, "directory", "directories")
        );
    }
    let _ = write!(listed, "[fs.list: {note}]");
    Ok(listed)
}

fn line(listed: &mut String, visit: &Visit<'_>, spell: impl Fn(&str) -> String) {
    let path = spell(&String::from_utf8_lossy(visit.path));
    let path = one_line(&path);
    let _ = match visit.kind {
        EntryKind::Directory => writeln!(listed, "{path}/"),
        EntryKind::Link => writeln!(listed, "{path}@"),
        EntryKind::Special => writeln!(listed, "{path}|"),
        EntryKind::File => match visit.dir.entry_size(visit.name) {
            Some(bytes) => writeln!(listed, "{path}\t{bytes}"),
            None => writeln!(listed, "{path}"),
        },
    };
}
