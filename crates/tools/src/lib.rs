//! What an agent can do: the base tools, run inside the boundary.
//!
//! Each tool is one file and exists twice at run time. In Otto's main process it is a [`Tool`] that checks the
//! input, adds the grant and hands the call to a [`ToolHost`]; it opens nothing. In a worker it is a
//! function behind [`dispatch`] that gets a [`WorkerCtx`] and nothing else. `docs/tools.md` documents inputs,
//! limits and output formats.
//!
//! Invariant: no code of this crate reaches a file, host or program except through a [`WorkerCtx`]
//! (`clippy.toml` bans the doors).
//!
//! [`Tool`]: otto_core::port::tool::Tool
//! [`ToolHost`]: otto_core::port::tool_host::ToolHost
//! [`WorkerCtx`]: otto_sandbox::WorkerCtx

mod base_tool;
mod catalog;
mod data;
mod dispatch;
mod documents;
mod files;
mod fs_edit;
mod fs_list;
mod fs_read;
mod fs_write;
mod grep;
mod hosted_tool;
mod http;
mod input;
mod json;
mod test_runner;
mod text;
mod tool_policy;
mod yaml;

pub use catalog::{UnknownTool, catalog, check_settings, definitions};
pub use dispatch::dispatch;
pub use tool_policy::ToolPolicy;
