//! What every base tool states about itself: one value per tool, listed in `catalog.rs`.
//!
//! Invariant: nothing has a default; a tool that forgets to state its permissions does not compile.

use std::sync::Arc;
use std::time::Duration;

use otto_core::ToolName;
use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::Permissions;
use otto_core::port::tool::ToolDefinition;
use otto_sandbox::{ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest};

/// One base tool: its description for the model and its functions for both sides of the boundary.
pub(crate) struct BaseTool {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) input_schema: &'static str,
    pub(crate) permissions: Permissions,
    pub(crate) side_effects: SideEffects,
    pub(crate) repeatability: Repeatability,
    pub(crate) timeout: Duration,
    pub(crate) max_output_bytes: usize,
    /// Checks an input without running it. Pure; runs in the main process.
    pub(crate) check: fn(&str) -> Result<(), ToolFailure>,
    /// Checks settings. Pure; runs when configuration is loaded.
    pub(crate) check_settings: fn(&str) -> Result<(), ToolFailure>,
    /// Runs a call. Runs in a worker.
    pub(crate) run: fn(&WorkerCtx, &WorkerRequest) -> WorkerAnswer,
}

impl BaseTool {
    pub(crate) fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: ToolName::new(self.name).expect("a test checks every name of the catalog"),
            description: Arc::from(self.description),
            input_schema: Arc::from(self.input_schema),
            permissions: self.permissions,
            side_effects: self.side_effects,
            repeatability: self.repeatability,
            timeout: self.timeout,
            max_output_bytes: self.max_output_bytes,
        }
    }
}
