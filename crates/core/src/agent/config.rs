//! The validated agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::{Budgets, Limit, Origin};
use crate::compaction::CompactionRule;
use crate::{AgentName, ModelId, Money, ToolName};

/// A named, configured role: model, prompt, tools, limits. Data, not a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Unique name.
    pub name: AgentName,
    /// What the agent is for, in a line; may be empty.
    pub description: Arc<str>,
    /// The model it calls.
    pub model: ModelId,
    /// The standing instruction; may be empty.
    pub system_prompt: Arc<str>,
    /// The tools it may use, in the order they are offered. No duplicates.
    pub tools: Vec<ToolName>,
    /// The directory it may touch; absolute. `None`: no file tools.
    pub working_dir: Option<PathBuf>,
    /// Named read-only roots, addressed as `@name/...`; absolute.
    pub roots: BTreeMap<Arc<str>, Root>,
    /// Limits; every field is set after loading.
    pub budgets: Budgets,
    /// Most output tokens of one model call.
    pub max_output_tokens: u64,
    /// When its history is compacted; `None`: never, and a history that outgrows the window ends the invocation.
    pub compaction: Option<CompactionRule>,
    /// Whether the model is told, once per limit, when four fifths of a limit of its invocation are used.
    pub tell_limits: bool,
    /// Hosts (with optional port, `host` or `*.host` or `host:port`) the `http` tool may reach.
    pub allowed_hosts: Vec<Arc<str>>,
    /// Whether other agents may share the working directory.
    pub shared: bool,
    /// Settings of single tools as JSON text, by tool name.
    pub tool_settings: BTreeMap<ToolName, Arc<str>>,
    /// The file it was read from.
    pub origin: Origin,
}

/// A named read-only directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Absolute path.
    pub path: PathBuf,
}

/// Values that hold where nothing else is said.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Requirement 4: five minutes.
    pub time: Duration,
    /// Tokens of an invocation.
    pub tokens: u64,
    /// Cost of an invocation.
    pub cost: Money,
    /// Turns of an invocation.
    pub turns: u32,
    /// Output tokens of one call.
    pub max_output_tokens: u64,
    /// Below this many output tokens a call is not worth making.
    pub floor_output_tokens: u64,
    /// Tool calls of one turn that run at the same time.
    pub parallel_tools: u32,
    /// Identical call and result pairs before the invocation is stopped.
    pub repetitions: u32,
    /// Attempts of one model call, the first included.
    pub attempts: u32,
    /// Requirement "Guardrails": 10 USD for everything on one UTC day.
    pub daily_cost: Money,
}

impl Defaults {
    /// The limits of an invocation for which nobody sets others.
    #[must_use]
    pub fn budgets(&self) -> Budgets {
        fn limit<T>(value: T) -> Option<Limit<T>> {
            Some(Limit::new(value, "default"))
        }
        Budgets {
            time: limit(self.time),
            tokens: limit(self.tokens),
            cost: limit(self.cost),
            turns: limit(self.turns),
        }
    }
}

/// The defaults of Otto.
pub const DEFAULTS: Defaults = Defaults {
    time: Duration::from_secs(5 * 60),
    tokens: 1_000_000,
    cost: Money::from_dollars(1),
    turns: 50,
    max_output_tokens: 16_384,
    floor_output_tokens: 256,
    parallel_tools: 8,
    repetitions: 4,
    attempts: 5,
    daily_cost: Money::from_dollars(10),
};
