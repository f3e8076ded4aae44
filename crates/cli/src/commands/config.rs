//! `otto config explain [KEY]`, `otto config schema`, `otto config env`

use clap::{Args, Subcommand};
use otto::config::{Explanation, agent_schema, closest_key, explain_agent};
use otto::env::VARIABLES;
use otto::load::OPEN_PREFIX;
use otto::text::{visible, visible_start};
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::output::{Style, Table, To};

/// Arguments of `otto config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    question: Question,
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum Question {
    /// Every effective value and where it was set; or those of one key, such as `ceilings.day` or `agents.reviewer`
    Explain {
        /// The key or its beginning
        key: Option<String>,
    },
    /// The JSON Schema of the agent file, for editors
    Schema,
    /// The environment variables that Otto reads
    Env,
}

impl Config {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        match self.question {
            Question::Explain { key } => explain(context, key.as_deref()),
            Question::Schema => {
                let schema = agent_schema();
                let text = if context.out.is_json() {
                    schema.to_string()
                } else {
                    format!("{schema:#}")
                };
                context.out.line(To::Answer, &text);
                Ok(Code::Completed)
            }
            Question::Env => Ok(env(context)),
        }
    }
}

fn explain(context: &mut Context, key: Option<&str>) -> Performed {
    let operator = context.operator()?;
    let agents = context.agents(&operator)?;
    let all: Vec<Explanation> = operator
        .explanations()
        .iter()
        .cloned()
        .chain(agents.iter().flat_map(explain_agent))
        .collect();
    let wanted = |explanation: &&Explanation| key.is_none_or(|key| explanation.is_of(key));
    let shown: Vec<&Explanation> = all.iter().filter(wanted).collect();
    if shown.is_empty() {
        let given = key.unwrap_or_default();
        let hint = match closest_key(&all, given) {
            Some(close) => format!("did you mean `{}`?", visible(close)),
            None => "`otto config explain` lists them all".to_owned(),
        };
        let key = visible_start(given, 80);
        return Err(Failure::usage(format!("there is no key `{key}`")).hint(hint));
    }
    if context.out.is_json() {
        for explanation in shown {
            context.out.json(&json!({
                "key": explanation.key,
                "value": explanation.value,
                "origin": &*explanation.origin.0,
                "overridden": explanation.overridden.iter().map(|(value, origin)| json!({"value": value, "origin": &*origin.0})).collect::<Vec<_>>(),
                "meaning": explanation.meaning,
            }));
        }
        return Ok(Code::Completed);
    }
    if let [one] = shown[..] {
        let painter = context.out.painter(To::Answer);
        let mut text = format!(
            "{} = {}\n  set by {}\n",
            painter.paint(Style::Strong, &one.key),
            visible(&one.value),
            visible(&one.origin.0)
        );
        for (value, origin) in &one.overridden {
            text.push_str(&format!(
                "  in place of {} from {}\n",
                visible(value),
                visible(&origin.0)
            ));
        }
        text.push_str(&format!("  {}\n", one.meaning));
        context.out.write(To::Answer, &text);
        return Ok(Code::Completed);
    }
    let mut table = Table::new(["key", "value", "set by"]);
    for explanation in shown {
        table.row([
            explanation.key.clone(),
            visible_start(&explanation.value, 60),
            visible(&explanation.origin.0).into_owned(),
        ]);
    }
    let text = table.render();
    context.out.write(To::Answer, &text);
    Ok(Code::Completed)
}

fn env(context: &mut Context) -> Code {
    if context.out.is_json() {
        for variable in VARIABLES {
            context.out.json(&json!({"name": variable.name, "meaning": variable.meaning, "default": variable.default}));
        }
        return Code::Completed;
    }
    for variable in VARIABLES {
        let painter = context.out.painter(To::Answer);
        let name = painter.paint(Style::Strong, variable.name);
        context.out.line(
            To::Answer,
            &format!(
                "{name}\n  {}\n  default: {}",
                variable.meaning, variable.default
            ),
        );
    }
    let line = format!(
        "{OPEN_PREFIX}...\n  Variables that agent files may insert as ${{{OPEN_PREFIX}NAME}}."
    );
    context.out.line(To::Answer, &line);
    Code::Completed
}
