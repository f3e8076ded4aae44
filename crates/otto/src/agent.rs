//! An agent in a few lines of Rust.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use otto_core::agent::{AgentConfig, Budgets, DEFAULTS, Limit, Origin, Root};
use otto_core::compaction::CompactionRule;
use otto_core::id::InvalidId;
use otto_core::money::InvalidMoney;
use otto_core::{AgentName, ModelId, Money, ToolName};

use crate::limits::parse_compaction;

/// Puts an [`AgentConfig`] together; every problem is told at once by [`AgentBuilder::build`].
///
/// ```
/// let agent = otto::AgentBuilder::new("greeter", "claude-haiku-4-5")
///     .system_prompt("Greet the user in one line.")
///     .cost("$0.05")
///     .build()?;
/// assert_eq!(agent.name.as_str(), "greeter");
/// # Ok::<(), otto::InvalidAgent>(())
/// ```
#[derive(Debug, Clone)]
pub struct AgentBuilder {
    name: String,
    model: String,
    description: String,
    system_prompt: String,
    tools: Vec<String>,
    working_dir: Option<std::path::PathBuf>,
    roots: BTreeMap<Arc<str>, Root>,
    cost: Option<String>,
    budgets: Budgets,
    max_output_tokens: u64,
    compact_at: Option<String>,
    tell_limits: bool,
    allowed_hosts: Vec<Arc<str>>,
}

/// What is wrong with an agent; every problem on a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent is not valid: {}", problems.join("; "))]
pub struct InvalidAgent {
    /// The problems.
    pub problems: Vec<String>,
}

impl AgentBuilder {
    /// An agent of that name on that model, with no tools and the default limits.
    #[must_use]
    pub fn new(name: &str, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: model.to_owned(),
            description: String::new(),
            system_prompt: String::new(),
            tools: Vec::new(),
            working_dir: None,
            roots: BTreeMap::new(),
            cost: None,
            budgets: Budgets::default(),
            max_output_tokens: DEFAULTS.max_output_tokens,
            compact_at: None,
            tell_limits: false,
            allowed_hosts: Vec::new(),
        }
    }

    /// What the agent is for, in a line.
    #[must_use]
    pub fn description(mut self, text: &str) -> Self {
        text.clone_into(&mut self.description);
        self
    }

    /// The standing instruction.
    #[must_use]
    pub fn system_prompt(mut self, text: &str) -> Self {
        text.clone_into(&mut self.system_prompt);
        self
    }

    /// The tools it may use.
    #[must_use]
    pub fn tools<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.tools.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// The directory it may touch; absolute.
    #[must_use]
    pub fn working_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.working_dir = Some(path.as_ref().to_owned());
        self
    }

    /// A directory it may read as `@name/...`; absolute.
    #[must_use]
    pub fn root(mut self, name: &str, path: impl AsRef<Path>) -> Self {
        self.roots.insert(
            Arc::from(name),
            Root {
                path: path.as_ref().to_owned(),
            },
        );
        self
    }

    /// The most it may cost per invocation, such as `$0.50`.
    #[must_use]
    pub fn cost(mut self, dollars: &str) -> Self {
        self.cost = Some(dollars.to_owned());
        self
    }

    /// All limits per invocation at once.
    #[must_use]
    pub fn budgets(mut self, budgets: Budgets) -> Self {
        self.budgets = budgets;
        self
    }

    /// The most output tokens of one model call.
    #[must_use]
    pub const fn max_output_tokens(mut self, tokens: u64) -> Self {
        self.max_output_tokens = tokens;
        self
    }

    /// When its history is compacted: a share of the model's window such as `60%`, or `never`. The default is
    /// `80%`.
    #[must_use]
    pub fn compact_at(mut self, share: &str) -> Self {
        self.compact_at = Some(share.to_owned());
        self
    }

    /// Tells the model when 80 % of a limit of its invocation (cost, tokens, turns, time) is used: once per limit,
    /// in a line behind the results of its tools. Off by default.
    #[must_use]
    pub const fn tell_limits(mut self) -> Self {
        self.tell_limits = true;
        self
    }

    /// A host (`host`, `*.host`, `host:port`) that its `http` tool may reach.
    #[must_use]
    pub fn allowed_host(mut self, host: &str) -> Self {
        self.allowed_hosts.push(Arc::from(host));
        self
    }

    /// The agent.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn build(mut self) -> Result<AgentConfig, InvalidAgent> {
        let mut problems = Vec::new();
        let name = keep(AgentName::new(&self.name), &mut problems);
        let model = keep(ModelId::new(&self.model), &mut problems);
        let mut tools = Vec::new();
        for tool in &self.tools {
            match ToolName::new(tool) {
                Ok(tool) if tools.contains(&tool) => {
                    problems.push(format!("tool `{tool}` is listed twice"))
                }
                Ok(tool) => tools.push(tool),
                Err(error) => problems.push(error.to_string()),
            }
        }
        if let Some(cost) = &self.cost {
            let parsed: Result<Money, InvalidMoney> = cost.parse();
            match parsed {
                Ok(cost) => self.budgets.cost = Some(Limit::new(cost, "AgentBuilder::cost")),
                Err(error) => problems.push(error.to_string()),
            }
        }
        let mut compaction = Some(CompactionRule::DEFAULT);
        if let Some(share) = &self.compact_at {
            match parse_compaction(share) {
                Ok(rule) => compaction = rule,
                Err(error) => problems.push(error.to_string()),
            }
        }
        let directories = self
            .working_dir
            .iter()
            .chain(self.roots.values().map(|root| &root.path));
        for path in directories.filter(|path| !path.is_absolute()) {
            problems.push(format!("directory `{}` is not absolute", path.display()));
        }
        if self.max_output_tokens == 0 {
            problems.push("max_output_tokens is 0; it must be at least 1".to_owned());
        }
        match (name, model) {
            (Some(name), Some(model)) if problems.is_empty() => Ok(AgentConfig {
                name,
                description: Arc::from(self.description),
                model,
                system_prompt: Arc::from(self.system_prompt),
                tools,
                working_dir: self.working_dir,
                roots: self.roots,
                budgets: self.budgets,
                max_output_tokens: self.max_output_tokens,
                compaction,
                tell_limits: self.tell_limits,
                allowed_hosts: self.allowed_hosts,
                shared: false,
                tool_settings: BTreeMap::new(),
                origin: Origin::new("AgentBuilder"),
            }),
            _ => Err(InvalidAgent { problems }),
        }
    }
}

fn keep<T>(parsed: Result<T, InvalidId>, problems: &mut Vec<String>) -> Option<T> {
    parsed
        .map_err(|error| problems.push(error.to_string()))
        .ok()
}
