//! `otto tools [NAME]`

use clap::Args;
use otto::core::invocation::SideEffects;
use otto::limits::show_duration;
use otto::text::{visible, visible_lines, visible_start};
use otto::{ToolDefinition, base_tools};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::output::{Table, To};

/// Arguments of `otto tools`.
#[derive(Debug, Args)]
pub(crate) struct Tools {
    /// Show one tool in full, with the schema of its input
    name: Option<String>,
}

impl Tools {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let tools = base_tools();
        let is_allowed = |tool: &ToolDefinition| {
            operator
                .tools
                .as_ref()
                .is_none_or(|allowed| allowed.value.contains(&tool.name))
        };
        let shown: Vec<&ToolDefinition> = match &self.name {
            None => tools.iter().collect(),
            Some(name) => vec![
                tools
                    .iter()
                    .find(|tool| tool.name.as_str() == name)
                    .ok_or_else(|| {
                        Failure::usage(format!("there is no tool `{}`", visible_start(name, 60)))
                            .hint("`otto tools` lists them")
                    })?,
            ],
        };
        if context.out.is_json() {
            for tool in shown {
                context.out.json(&describe(tool, is_allowed(tool)));
            }
            return Ok(Code::Completed);
        }
        if self.name.is_some() {
            for tool in shown {
                context
                    .out
                    .write(To::Answer, &in_full(tool, is_allowed(tool)));
            }
            return Ok(Code::Completed);
        }
        let mut table = Table::new([
            "tool",
            "needs",
            "changes things",
            ">time limit",
            "what it does",
        ]);
        for tool in shown {
            let first_sentence = tool
                .description
                .split_inclusive(". ")
                .next()
                .unwrap_or_default();
            let note = if is_allowed(tool) {
                ""
            } else {
                " (not on the operator's allowlist)"
            };
            table.row([
                tool.name.to_string(),
                tool.permissions.to_string(),
                if tool.side_effects == SideEffects::Some {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
                show_duration(tool.timeout),
                format!("{}{note}", visible_start(first_sentence.trim(), 90)),
            ]);
        }
        let text = table.render();
        context.out.write(To::Answer, &text);
        Ok(Code::Completed)
    }
}

fn describe(tool: &ToolDefinition, allowed: bool) -> Value {
    json!({
        "name": tool.name.as_str(),
        "description": &*tool.description,
        "permissions": tool.permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>(),
        "side_effects": tool.side_effects == SideEffects::Some,
        "timeout_ms": u64::try_from(tool.timeout.as_millis()).unwrap_or(u64::MAX),
        "max_output_bytes": tool.max_output_bytes,
        "input_schema": serde_json::from_str::<Value>(&tool.input_schema).unwrap_or_default(),
        "allowed": allowed,
    })
}

fn in_full(tool: &ToolDefinition, allowed: bool) -> String {
    let schema: Value = serde_json::from_str(&tool.input_schema).unwrap_or_default();
    let schema = serde_json::to_string_pretty(&schema).unwrap_or_default();
    format!(
        "{}\n\n{}\n\nneeds: {}\ntime limit: {}\noutput: at most {} bytes\non the operator's allowlist: {}\n\ninput:\n{}\n",
        tool.name,
        visible_lines(&tool.description),
        tool.permissions,
        show_duration(tool.timeout),
        tool.max_output_bytes,
        if allowed { "yes" } else { "no" },
        visible(&schema).replace("\\n", "\n"),
    )
}
