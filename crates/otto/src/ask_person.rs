//! A tool whose interrupted calls wait for a person, because the operator says so.
//!
//! Invariant: nothing but the tool's repeatability differs from the tool itself.

use std::sync::Arc;

use otto_core::ToolName;
use otto_core::invocation::Repeatability;
use otto_core::port::BoxFuture;
use otto_core::port::tool::{Tool, ToolContext, ToolDefinition, ToolError, ToolOutput};

pub(crate) struct AskPerson {
    tool: Arc<dyn Tool>,
    definition: ToolDefinition,
}

impl AskPerson {
    /// The tools, with those wrapped that are named.
    pub(crate) fn among(tools: Vec<Arc<dyn Tool>>, names: &[ToolName]) -> Vec<Arc<dyn Tool>> {
        tools
            .into_iter()
            .map(|tool| Self::where_named(tool, names))
            .collect()
    }

    fn where_named(tool: Arc<dyn Tool>, names: &[ToolName]) -> Arc<dyn Tool> {
        if !names.contains(&tool.definition().name) {
            return tool;
        }
        let definition = ToolDefinition {
            repeatability: Repeatability::AskPerson,
            ..tool.definition().clone()
        };
        Arc::new(Self { tool, definition })
    }
}

impl Tool for AskPerson {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn call<'a>(
        &'a self,
        context: &'a ToolContext,
        input: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        self.tool.call(context, input)
    }
}
