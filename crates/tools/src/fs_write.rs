//! `fs.write`: a file as a whole, atomically, with a backup of what it replaces.
//!
//! The recipe is [`otto_sandbox::Dir::write_atomic`]; this file says what the model sees of it.
//!
//! Invariant: a call that fails has left the old content in place.

use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::dir::{Backup, WriteOptions, Written};
use otto_sandbox::{ToolFailure, WorkerCtx};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::files::failure;
use crate::input;
use crate::text::{count, quote, size};

const DEFAULT_MAX_BYTES: u64 = 2 * 1024 * 1024;

// BOUND: the setting may not go above this; content arrives as one message from a model.
const MOST_MAX_BYTES: u64 = 8 * 1024 * 1024;

// BOUND: the answer is two lines and a path.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "fs.write",
    description: "Write a text file: create it, or replace all of it. The path is relative to the working directory; \
                  missing directories are created. What was there before is kept as `NAME.bak` beside it. The file \
                  has either the old or the new content at any moment. To change a part of a file use fs.edit.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "path": { "type": "string", "description": "File to write, such as `report.md` or `notes/today.md`." },
    "content": { "type": "string", "description": "The whole new content. At most 2 MiB by default." }
  },
  "required": ["path", "content"],
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Write]),
    side_effects: SideEffects::Some,
    // The same content again changes nothing: not the file and not its backup.
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
    path: String,
    content: String,
}

/// Shared with `fs.edit`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Largest content.
    max_bytes: u64,
    /// What happens to the content that is replaced.
    backup: BackupSetting,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_BYTES,
            backup: BackupSetting::Last,
        }
    }
}

impl Settings {
    pub(crate) fn max_bytes(self) -> u64 {
        self.max_bytes.clamp(1, MOST_MAX_BYTES)
    }

    pub(crate) const fn backup(self) -> Backup {
        match self.backup {
            BackupSetting::Last => Backup::Last,
            BackupSetting::Numbered => Backup::Numbered,
            BackupSetting::Off => Backup::Off,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BackupSetting {
    Last,
    Numbered,
    Off,
}

fn run(ctx: &WorkerCtx, input: Input, settings: Settings) -> Result<String, ToolFailure> {
    let max = settings.max_bytes();
    let bytes = input.content.len() as u64;
    if bytes > max {
        let message = format!(
            "write {}: the content has {}, more than the limit of {}; write several files",
            quote(&input.path),
            size(bytes),
            size(max),
        );
        return Err(ToolFailure::for_model(message));
    }
    let refuse = |error| failure(ctx, "write", &input.path, error);
    let place = ctx.place(&input.path).map_err(refuse)?;
    let options = WriteOptions {
        backup: settings.backup(),
        expected: None,
    };
    let written = place
        .dir
        .write_atomic(place.path, input.content.as_bytes(), options)
        .map_err(refuse)?;
    Ok(report(&input.path, bytes, &written))
}

fn report(path: &str, bytes: u64, written: &Written) -> String {
    let path = quote(path);
    let bytes = if bytes == 1 {
        "1 byte".to_owned()
    } else {
        format!("{bytes} bytes")
    };
    match written {
        Written {
            unchanged: true, ..
        } => format!("{path} already has exactly this content ({bytes}); nothing was changed"),
        Written {
            replaced: true,
            backup: Some(backup),
            ..
        } => {
            format!(
                "replaced {path} with {bytes}; the old content is in {} beside it",
                quote(backup)
            )
        }
        Written {
            replaced: true,
            backup: None,
            ..
        } => format!("replaced {path} with {bytes}; no backup was kept"),
        Written {
            created_dirs: 0, ..
        } => format!("created {path} with {bytes}"),
        Written { created_dirs, .. } => {
            format!(
                "created {path} with {bytes}, and {}",
                count(*created_dirs, "directory", "directories")
            )
        }
    }
}
