//! What Otto decides.
//!
//! Everything in this crate is a function of its arguments: no clock, no file, no environment, no
//! randomness, no thread, no `async`. The engine feeds events in and performs the effects that come
//! out; the simulator does the same with a made-up world. That is why money, permissions and the
//! life of an invocation can be tested by the million.
//!
//! Invariant: nothing here performs I/O or reads a clock (`clippy.toml` bans the doors).

pub mod agent;
pub mod audit;
pub mod compaction;
pub mod derived;
pub mod id;
pub mod invocation;
pub mod journal;
pub mod ledger;
pub mod message;
pub mod model;
pub mod money;
pub mod policy;
pub mod port;
pub mod redact;
pub mod retry;
pub mod store_rules;
pub mod task;
pub mod time;
pub mod transcript;

pub use id::{
    AgentName, BudgetName, ContextId, EffectId, InvocationId, ModelId, SessionId, TaskId,
    ToolCallId, ToolName, WorkflowId,
};
pub use money::Money;
pub use time::{Timestamp, UtcDay};
