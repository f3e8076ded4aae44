//! How Otto runs.
//!
//! The machines of `otto-core` decide; this crate feeds them events and performs their effects. One Tokio task
//! per invocation (the [`AgentServer`]) owns one machine; everything it shares with others stands behind a
//! port. This crate knows no vendor, no database and no kernel mechanism.
//!
//! Invariant: an effect is performed only after everything the machine put before it, and nothing leaves Otto
//! that the journal does not know.

mod admission;
mod agent_server;
mod agent_supervisor;
mod artifacts;
mod audit;
mod cancel;
pub mod clock;
mod context_store;
mod cost_tracker;
mod effects;
mod engine;
mod error;
mod few;
mod fingerprint;
mod handle;
pub mod health;
pub mod kill_switch;
mod leases;
mod listener;
pub mod metrics;
pub mod names;
mod preview;
mod recovery;
mod redaction;
mod registry;
mod report;
mod restarts;
mod running;
mod scopes;
mod shutdown;
pub mod spans;
mod supervisor;
mod sweeper;
mod telemetry;
mod ticks;
mod timers;
mod tool_bus;

pub use admission::Admission;
pub use agent_server::AgentServer;
pub use cancel::{CancelError, Cancelling};
pub use context_store::{ContextGuard, ContextMetadata, ContextStore, DEFAULT_MAX_BYTES};
pub use cost_tracker::{CostTracker, UsageReport};
pub use engine::{Engine, EngineParts, EngineSettings, InvokeOptions, ResumeOptions, WeakEngine};
pub use error::InvokeError;
pub use handle::{Ids, InvocationHandle};
pub use health::{Component, Condition, Health, HealthReport};
pub use kill_switch::KillPlaces;
pub use listener::{LISTENER_CAPACITY, ListenerEvent, Listening};
pub use preview::Preview;
pub use registry::{Registry, RunningInvocation};
pub use report::Report;
pub use restarts::{Restart, RestartRule};
pub use running::Progress;
pub use scopes::{Ceilings, SharedBudget};
pub use shutdown::{LeftForResume, ShutdownReport};
pub use supervisor::{Child, Supervisor};
pub use telemetry::TelemetryParts;
pub use ticks::Ticks;
pub use tool_bus::{ToolBus, ToolBusError, ToolSnapshot};
