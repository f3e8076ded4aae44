//! Effective values with where they came from, for `otto config explain`.

use otto_core::agent::Origin;

use crate::diagnostic::Place;
use crate::limits::{show_count, show_duration};
use crate::load::{LoadedAgent, shown_path};
use crate::suggest::closest;

/// One effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Its key: `ceilings.day`, `agents.reviewer.budgets.cost`.
    pub key: String,
    /// The value as it would be written, or a word for what it stands for. Never a credential.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
    /// Values of other sources that did not count, the next best first.
    pub overridden: Vec<(String, Origin)>,
    /// What it does; empty where the agent file's documentation says it.
    pub meaning: &'static str,
}

impl Explanation {
    /// Whether it is that of a key, or of one below it.
    #[must_use]
    pub fn is_of(&self, key: &str) -> bool {
        self.key == key
            || self
                .key
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
    }
}

/// The known key closest to a mistyped one.
#[must_use]
pub fn closest_key<'a>(all: &'a [Explanation], key: &str) -> Option<&'a str> {
    closest(key, all.iter().map(|explanation| &*explanation.key))
}

/// Every effective value of an agent, by its key below `agents.NAME.`.
#[must_use]
pub fn explain_agent(agent: &LoadedAgent) -> Vec<Explanation> {
    let config = &agent.config;
    let file = &config.origin;
    let entry = |field: &crate::decode::Field, value: String| {
        let origin = agent
            .places
            .get(field.name)
            .map_or_else(|| Origin::new("default"), |place| place.origin());
        Explanation {
            key: format!("agents.{}.{}", config.name, field.name),
            value,
            origin,
            overridden: Vec::new(),
            meaning: field.meaning,
        }
    };
    let budgets = &config.budgets;
    let limits = [
        budgets
            .time
            .as_ref()
            .map(|limit| ("time", show_duration(limit.value), &limit.origin)),
        budgets
            .tokens
            .as_ref()
            .map(|limit| ("tokens", show_count(limit.value), &limit.origin)),
        budgets
            .cost
            .as_ref()
            .map(|limit| ("cost", limit.value.to_string(), &limit.origin)),
        budgets
            .turns
            .as_ref()
            .map(|limit| ("turns", limit.value.to_string(), &limit.origin)),
    ];
    let mut explained = Vec::new();
    for field in crate::load::AGENT_FIELDS {
        let list = |items: Vec<&str>| format!("[{}]", items.join(", "));
        match field.name {
            "budgets" => explained.extend(limits.iter().flatten().map(|(name, value, origin)| {
                Explanation {
                    key: format!("agents.{}.budgets.{name}", config.name),
                    value: value.clone(),
                    origin: (*origin).clone(),
                    overridden: Vec::new(),
                    meaning: crate::load::BUDGET_FIELDS
                        .iter()
                        .find(|field| field.name == *name)
                        .map_or("", |field| field.meaning),
                }
            })),
            "name" => {
                let place = agent.places.get(field.name);
                explained.push(Explanation {
                    origin: place.map_or_else(|| file.clone(), Place::origin),
                    ..entry(field, config.name.to_string())
                });
            }
            "description" => explained.push(entry(field, config.description.to_string())),
            "model" => explained.push(entry(field, config.model.to_string())),
            "system_prompt" => {
                let from_file = agent.places.get("system_prompt_file").map(Place::origin);
                let entry = entry(
                    field,
                    format!("{} characters", config.system_prompt.chars().count()),
                );
                let origin = from_file.unwrap_or_else(|| entry.origin.clone());
                explained.push(Explanation { origin, ..entry });
            }
            "tools" => explained.push(entry(
                field,
                list(
                    config
                        .tools
                        .iter()
                        .map(otto_core::ToolName::as_str)
                        .collect(),
                ),
            )),
            "working_dir" => {
                explained.push(entry(
                    field,
                    config
                        .working_dir
                        .as_deref()
                        .map_or_else(|| "none".to_owned(), shown_path),
                ));
            }
            "roots" => {
                let roots: Vec<String> = config
                    .roots
                    .iter()
                    .map(|(name, root)| format!("{name}: {}", shown_path(&root.path)))
                    .collect();
                explained.push(entry(field, format!("{{{}}}", roots.join(", "))));
            }
            "shared" => explained.push(entry(field, config.shared.to_string())),
            "max_output_tokens" => {
                explained.push(entry(field, show_count(config.max_output_tokens)))
            }
            "compact_at" => explained.push(entry(
                field,
                config.compaction.map_or_else(
                    || "never".to_owned(),
                    |rule| format!("{}%", rule.threshold_percent()),
                ),
            )),
            "tell_limits" => explained.push(entry(field, config.tell_limits.to_string())),
            "allowed_hosts" => explained.push(entry(
                field,
                list(config.allowed_hosts.iter().map(|host| &**host).collect()),
            )),
            "tool_settings" => {
                explained.push(entry(
                    field,
                    list(
                        config
                            .tool_settings
                            .keys()
                            .map(otto_core::ToolName::as_str)
                            .collect(),
                    ),
                ));
            }
            // The prompt's file is the origin of the prompt.
            _ => {}
        }
    }
    explained
}
