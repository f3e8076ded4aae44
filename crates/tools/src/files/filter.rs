//! Globs and file types, as ripgrep understands them.
//!
//! Invariant: whatever the model writes compiles in bounded time and memory or is refused.

use ignore::overrides::{Override, OverrideBuilder};
use ignore::types::{Types, TypesBuilder};
use otto_sandbox::ToolFailure;

use crate::input::OneOrMany;
use crate::text::quote;

// BOUND: globs and types of one call, and the size of one glob.
const MAX_GLOBS: usize = 64;
const MAX_GLOB_BYTES: usize = 512;

/// Compiles globs with the meaning of `rg --glob`: a glob without a slash matches names at any depth, one that
/// starts with `!` excludes, and the last that matches wins.
pub(crate) fn globs(base: &str, globs: Option<&OneOrMany>) -> Result<Override, ToolFailure> {
    let Some(globs) = globs else {
        return Ok(Override::empty());
    };
    let mut builder = OverrideBuilder::new(base);
    for (i, glob) in globs.iter().enumerate() {
        if i >= MAX_GLOBS || glob.len() > MAX_GLOB_BYTES {
            let message = format!(
                "at most {MAX_GLOBS} globs of at most {MAX_GLOB_BYTES} bytes each are accepted"
            );
            return Err(ToolFailure::for_model(message));
        }
        builder.add(glob).map_err(|error| {
            ToolFailure::for_model(format!("the glob {} is not valid: {error}", quote(glob)))
        })?;
    }
    builder
        .build()
        .map_err(|error| ToolFailure::for_model(format!("the globs are too complex: {error}")))
}

/// Selects file types by their ripgrep names, such as `rust`, `py` or `js`.
pub(crate) fn types(names: Option<&OneOrMany>) -> Result<Types, ToolFailure> {
    let Some(names) = names else {
        return Ok(Types::empty());
    };
    let mut builder = TypesBuilder::new();
    builder.add_defaults();
    for (i, name) in names.iter().enumerate() {
        if i >= MAX_GLOBS {
            return Err(ToolFailure::for_model(format!(
                "at most {MAX_GLOBS} types are accepted"
            )));
        }
        if !builder
            .definitions()
            .iter()
            .any(|known| known.name() == name)
        {
            let message = format!(
                "there is no file type {}; types are named as in ripgrep, such as `rust`, `py`, `js`, `ts`, `elixir`, \
                 `md`, `json`, `yaml`; for anything else use `glob`, such as `*.txt`",
                quote(name),
            );
            return Err(ToolFailure::for_model(message));
        }
        builder.select(name);
    }
    builder
        .build()
        .map_err(|error| ToolFailure::for_model(format!("the types cannot be combined: {error}")))
}
