//! `otto tools [NAME]`

use clap::Args;
use otto::config::OperatorConfig;
use otto::core::invocation::SideEffects;
use otto::limits::show_duration;
use otto::text::{visible, visible_lines, visible_start};
use otto::{DoctorReport, Permission, ToolDefinition, base_tools};
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
        let policies = operator.tool_policies();
        let narrowed = |tool: ToolDefinition| match policies.get(&tool.name) {
            Some(policy) => policy.narrowed(tool),
            None => tool,
        };
        let tools: Vec<ToolDefinition> = base_tools().into_iter().map(narrowed).collect();
        let scratch = std::env::temp_dir();
        let host = otto::worker_host(&context.booted, &operator, &scratch);
        let sandbox = context.runtime()?.block_on(host.doctor()).ok();
        let standing = |tool: &ToolDefinition| Standing::of(tool, &operator, sandbox.as_ref());
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
                context.out.json(&describe(tool, &standing(tool)));
            }
            return Ok(Code::Completed);
        }
        if self.name.is_some() {
            for tool in shown {
                let text = in_full(tool, &standing(tool));
                context.out.write(To::Answer, &text);
            }
            return Ok(Code::Completed);
        }
        let mut table = Table::new([
            "tool",
            "needs",
            "changes things",
            "enforced",
            ">time limit",
            ">output",
            "allowed by",
        ]);
        for tool in shown {
            let standing = standing(tool);
            table.row([
                tool.name.to_string(),
                tool.permissions.to_string(),
                if tool.side_effects == SideEffects::Some {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
                standing.enforced.to_owned(),
                show_duration(tool.timeout),
                bytes(tool.max_output_bytes),
                standing.allowed_by(),
            ]);
        }
        let text = table.render();
        context.out.write(To::Answer, &text);
        context.out.line(
            To::Answer,
            "`otto tools NAME` shows what a tool does and takes; an agent gets the tools it lists, if they are allowed here",
        );
        Ok(Code::Completed)
    }
}

/// What the operator and this machine make of a tool.
struct Standing {
    allowed: bool,
    /// Where the word on it was spoken.
    origin: String,
    /// How calls of it are confined: `l2`, `l1`, or `refused`.
    enforced: &'static str,
    /// Why it is refused here.
    refusal: Option<String>,
}

impl Standing {
    fn of(
        tool: &ToolDefinition,
        operator: &OperatorConfig,
        sandbox: Option<&DoctorReport>,
    ) -> Self {
        let (allowed, origin) = match &operator.tools {
            None => (true, "default: all tools".to_owned()),
            Some(tools) => (
                tools.value.contains(&tool.name),
                visible(&tools.origin.0).into_owned(),
            ),
        };
        let refusal = match sandbox {
            None => Some("the sandbox could not be examined".to_owned()),
            Some(report) if tool.permissions.contains(Permission::Exec) => report
                .refusal
                .clone()
                .or_else(|| report.exec_refusal.clone()),
            Some(report) => report.refusal.clone(),
        };
        let level = sandbox.map_or("none", |report| report.level.as_str());
        Self {
            allowed,
            origin,
            enforced: if refusal.is_some() { "refused" } else { level },
            refusal,
        }
    }

    fn allowed_by(&self) -> String {
        if self.allowed {
            self.origin.clone()
        } else {
            format!("nobody: not in `tools` ({})", self.origin)
        }
    }
}

/// `6 MiB`, `192 KiB`, `100 B`.
fn bytes(count: usize) -> String {
    const UNITS: [(usize, &str); 2] = [(1024 * 1024, "MiB"), (1024, "KiB")];
    for (unit, name) in UNITS {
        if count >= unit {
            let tenths = count * 10 / unit;
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                rest => format!("{}.{rest} {name}", tenths / 10),
            };
        }
    }
    format!("{count} B")
}

fn describe(tool: &ToolDefinition, standing: &Standing) -> Value {
    json!({
        "name": tool.name.as_str(),
        "description": &*tool.description,
        "permissions": tool.permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>(),
        "side_effects": tool.side_effects == SideEffects::Some,
        "timeout_ms": u64::try_from(tool.timeout.as_millis()).unwrap_or(u64::MAX),
        "max_output_bytes": tool.max_output_bytes,
        "input_schema": serde_json::from_str::<Value>(&tool.input_schema).unwrap_or_default(),
        "allowed": standing.allowed,
        "allowed_by": standing.origin,
        "enforced": standing.enforced,
        "refusal": standing.refusal,
    })
}

fn in_full(tool: &ToolDefinition, standing: &Standing) -> String {
    let schema: Value = serde_json::from_str(&tool.input_schema).unwrap_or_default();
    let schema = serde_json::to_string_pretty(&schema).unwrap_or_default();
    let refusal = match &standing.refusal {
        Some(refusal) => format!(": {}", visible(refusal)),
        None => String::new(),
    };
    format!(
        "{}\n\n{}\n\nneeds: {}\nenforced: {}{refusal}\ntime limit: {}\noutput: at most {} bytes\nallowed by: {}\n\ninput:\n{}\n",
        tool.name,
        visible_lines(&tool.description),
        tool.permissions,
        standing.enforced,
        show_duration(tool.timeout),
        tool.max_output_bytes,
        standing.allowed_by(),
        visible(&schema).replace("\\n", "\n"),
    )
}
