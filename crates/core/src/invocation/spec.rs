//! What an invocation is told once, at its start.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Limit;
use crate::compaction::CompactionRule;
use crate::ledger::ScopeLimits;
use crate::model::{CacheUse, ModelSpec};
use crate::{AgentName, InvocationId, SessionId, TaskId, ToolName, WorkflowId};

/// Everything the machine decides by, fixed for the life of the invocation.
///
/// Journaled whole with the first event, so that a replay needs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationSpec {
    /// This invocation.
    pub invocation: InvocationId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The task it works on.
    pub task: TaskId,
    /// The workflow it belongs to, if any.
    pub workflow: Option<WorkflowId>,
    /// The agent.
    pub agent: AgentName,
    /// The model, with bounds and prices.
    pub model: Arc<ModelSpec>,
    /// Which cache markers its requests carry.
    pub cache: CacheUse,
    /// The standing instruction; may be empty.
    pub system_prompt: Arc<str>,
    /// The tools offered, in order.
    pub tools: Vec<ToolFacts>,
    /// The first user message.
    pub input: Arc<str>,
    /// When the history is compacted, if ever.
    pub compaction: Option<CompactionRule>,
    /// Messages that its transcript keeps, the last ones.
    pub transcript_messages: usize,
    /// Whether the model is told, once per limit, when four fifths of a limit of this invocation are used.
    pub tells_limits: bool,
    /// Limits of the invocation alone.
    pub limits: InvocationLimits,
    /// The scopes its model calls are held in, with their limits.
    pub scopes: Vec<ScopeLimits>,
    /// Seed of the jitter in its backoff.
    pub seed: u64,
}

/// What the machine knows of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFacts {
    /// Its name.
    pub name: ToolName,
    /// What the model reads about it.
    pub description: Arc<str>,
    /// JSON Schema of its input, as text.
    pub input_schema: Arc<str>,
    /// Whether calling it changes anything.
    pub side_effects: SideEffects,
    /// Whether it may be called again when it is unknown whether it ran.
    pub repeatability: Repeatability,
}

/// Whether a call changes anything outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideEffects {
    /// It only looks. It may start speculatively, in parallel, and its result may be thrown away.
    None,
    /// It changes something. Its intent is durable before it starts, and such calls run one at a time.
    Some,
}

/// What to do with a call that was running when Otto died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeatability {
    /// Run it again: the same call twice has the effect of one.
    Repeatable,
    /// Tell the model that the outcome is unknown.
    Unknown,
    /// Park the invocation until a person has decided.
    AskPerson,
}

/// Limits that the machine itself enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationLimits {
    /// Wall time from start to outcome.
    pub time: Limit<Duration>,
    /// Turns.
    pub turns: Limit<u32>,
    /// Identical call and result pairs.
    pub repetitions: u32,
    /// Attempts of one model call.
    pub attempts: u32,
    /// Output tokens asked for per call.
    pub max_output_tokens: u64,
    /// Below this many a call is not made.
    pub floor_output_tokens: u64,
    /// Tool calls running at the same time.
    pub parallel_tools: u32,
}
