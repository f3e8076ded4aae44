//! `otto agents`

use clap::Args;
use otto::ToolName;
use otto::limits::show_duration;
use otto::text::{visible, visible_start};
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::Code;
use crate::output::{Table, To, money_json};

/// Arguments of `otto agents`.
#[derive(Debug, Args)]
pub(crate) struct Agents {}

impl Agents {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let agents = context.agents(&operator)?;
        context.out.warnings(agents.warnings());
        if context.out.is_json() {
            for agent in agents.iter() {
                let config = &agent.config;
                context.out.json(&json!({
                    "name": config.name.as_str(),
                    "description": &*config.description,
                    "model": config.model.as_str(),
                    "tools": config.tools.iter().map(ToolName::as_str).collect::<Vec<_>>(),
                    "working_dir": config.working_dir.as_ref().map(|dir| dir.to_string_lossy()),
                    "roots": config.roots.iter().map(|(name, root)| (name.to_string(), root.path.to_string_lossy().into())).collect::<serde_json::Map<_, _>>(),
                    "limits": {
                        "time_ms": config.budgets.time.as_ref().map(|limit| u64::try_from(limit.value.as_millis()).unwrap_or(u64::MAX)),
                        "tokens": config.budgets.tokens.as_ref().map(|limit| limit.value),
                        "cost": config.budgets.cost.as_ref().map(|limit| money_json(limit.value)),
                        "turns": config.budgets.turns.as_ref().map(|limit| limit.value),
                    },
                    "level": agent.level.as_str(),
                    "file": &*config.origin.0,
                }));
            }
            return Ok(Code::Completed);
        }
        if agents.iter().next().is_none() {
            context.out.line(
                To::Progress,
                "no agents yet; `otto init` writes a first one",
            );
            return Ok(Code::Completed);
        }
        let mut table = Table::new([
            "agent",
            "model",
            ">cost",
            ">time",
            "tools",
            "file",
            "description",
        ]);
        for agent in agents.iter() {
            let config = &agent.config;
            let tools: Vec<&str> = config.tools.iter().map(ToolName::as_str).collect();
            table.row([
                config.name.to_string(),
                config.model.to_string(),
                config
                    .budgets
                    .cost
                    .as_ref()
                    .map_or_else(String::new, |limit| limit.value.to_string()),
                config
                    .budgets
                    .time
                    .as_ref()
                    .map_or_else(String::new, |limit| show_duration(limit.value)),
                tools.join(" "),
                visible(&config.origin.0).into_owned(),
                visible_start(&config.description, 60),
            ]);
        }
        let text = table.render();
        context.out.write(To::Answer, &text);
        for agent in agents.iter() {
            if let Some(hidden) = &agent.hides {
                let line = format!(
                    "note: `{}` of the project is used in place of {}",
                    agent.config.name,
                    visible(&hidden.to_string_lossy())
                );
                context.out.line(To::Progress, &line);
            }
        }
        Ok(Code::Completed)
    }
}
