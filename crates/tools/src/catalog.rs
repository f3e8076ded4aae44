//! The list of base tools. Adding a tool is adding a file and one line here.
//!
//! Invariant: names are unique, and every input schema accepts exactly what the tool's input type accepts
//! (both are tests).

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::ToolName;
use otto_core::port::tool::{Tool, ToolDefinition};
use otto_core::port::tool_host::ToolHost;
use otto_sandbox::ToolFailure;

use crate::base_tool::BaseTool;
use crate::hosted_tool::HostedTool;
use crate::tool_policy::ToolPolicy;
use crate::{fs_edit, fs_list, fs_read, fs_write, grep, http, json, test_runner, yaml};

pub(crate) const CATALOG: &[BaseTool] = &[
    fs_read::TOOL,
    fs_write::TOOL,
    fs_list::TOOL,
    fs_edit::TOOL,
    grep::TOOL,
    json::TOOL,
    yaml::TOOL,
    http::TOOL,
    test_runner::TOOL,
];

/// The base tools as the ToolBus sees them; each call goes to `host`, under the operator's policy for its tool.
#[must_use]
pub fn catalog(
    host: &Arc<dyn ToolHost>,
    policies: &BTreeMap<ToolName, ToolPolicy>,
) -> Vec<Arc<dyn Tool>> {
    CATALOG
        .iter()
        .map(|tool| Arc::new(HostedTool::new(tool, Arc::clone(host), policies)) as Arc<dyn Tool>)
        .collect()
}

/// What the base tools are, in the order of the catalog.
#[must_use]
pub fn definitions() -> Vec<ToolDefinition> {
    CATALOG.iter().map(BaseTool::definition).collect()
}

/// Checks settings of the tool `name` (JSON text) when configuration is loaded.
///
/// # Errors
/// [`UnknownTool`] when there is no such tool, or the reason why the settings are not valid.
pub fn check_settings(name: &str, settings: &str) -> Result<Result<(), ToolFailure>, UnknownTool> {
    find(name)
        .map(|tool| (tool.check_settings)(settings))
        .ok_or(UnknownTool)
}

/// A name that no base tool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no base tool has that name")]
pub struct UnknownTool;

pub(crate) fn find(name: &str) -> Option<&'static BaseTool> {
    CATALOG.iter().find(|tool| tool.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_unique() {
        for (i, tool) in CATALOG.iter().enumerate() {
            assert!(ToolName::new(tool.name).is_ok(), "{}", tool.name);
            assert!(
                CATALOG[..i].iter().all(|other| other.name != tool.name),
                "{} twice",
                tool.name
            );
        }
    }

    #[test]
    fn schemas_are_closed_objects_whose_properties_the_tool_knows() {
        for tool in CATALOG {
            let schema: serde_json::Value = serde_json::from_str(tool.input_schema).unwrap();
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{}: {name}", tool.name);
                // A known field of a wrong type gives another error than an unknown field.
                let error = (tool.check)(&format!("{{\"{name}\": {{\"\": []}}}}")).err();
                let unknown = error.is_some_and(|error| error.message.contains("unknown field"));
                assert!(!unknown, "{} does not know {name}", tool.name);
            }
            let error = (tool.check)("{\"no_such_field\": 1}").unwrap_err();
            assert!(
                error.message.contains("unknown field"),
                "{}: {}",
                tool.name,
                error.message
            );
        }
    }
}
