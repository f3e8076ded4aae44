//! Otto: a runtime for AI agents that keeps three promises.
//!
//! - **Bounded money.** No invocation, session, agent, workflow or day costs more than its limit. Money is held
//!   before it can be spent.
//! - **Bounded power.** A tool touches what its agent was granted; the kernel refuses the rest.
//! - **Nothing lost, nothing twice.** Every step is journaled; after a crash an invocation goes on where it was.
//!
//! Begin with the [`guide`]; the folder `examples` of the repository holds programs to start from.
//!
//! This crate is what an application depends on. It loads agents from YAML ([`load`]), puts the parts together
//! ([`Otto::builder`]) and invokes. It decides nothing itself: decisions are in the pure machines below it.
//!
//! ```no_run
//! use otto::{AgentBuilder, AnthropicConfig, Otto};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let otto = Otto::builder()
//!     .enabled(true)
//!     .anthropic(AnthropicConfig::new(std::env::var("ANTHROPIC_API_KEY")?.into()))?
//!     .agent(AgentBuilder::new("greeter", "claude-haiku-4-5").cost("$0.05").build()?)
//!     .open()
//!     .await?;
//! let report = otto.agent("greeter")?.invoke("Say hello to the reader.").await?;
//! println!("{} ({} charged)", report.text(), report.charged);
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: nothing of an implementation crate is needed to use Otto; what appears in a signature here is
//! re-exported here.

pub mod config;
#[cfg(feature = "testing")]
pub mod testing;
#[doc = include_str!("guide.md")]
pub mod guide {}
pub mod env;
pub mod limits;
pub mod load;
pub mod reconcile;
pub mod redacted;
pub mod text;
pub mod tool_usage;
pub mod upkeep;
pub mod usage_csv;

mod agent;
mod ask_person;
mod audit;
mod audit_retention;
mod boot;
mod builder;
mod decode;
mod diagnostic;
mod lock;
mod narrowed;
#[cfg(feature = "otel")]
pub mod otlp;
mod otto;
mod plan;
mod reload;
mod retention;
mod sessions;
mod suggest;
mod typed_tool;
mod user;
mod wiring;
mod yaml;

pub use crate::agent::{AgentBuilder, InvalidAgent};
pub use crate::audit::{
    Anchor, Audit, AuditFact, AuditFilter, AuditPage, InvalidAnchor, Passed, WouldDenyReport,
};
pub use crate::boot::{Booted, boot, worker_host};
pub use crate::builder::{Builder, KILL_FILE, OpenError};
pub use crate::decode::Field;
pub use crate::diagnostic::{ConfigErrors, Diagnostic, Place, Position, Severity};
pub use crate::lock::lock_config;
pub use crate::narrowed::{NotGranted, not_granted};
pub use crate::otto::{Agent, Otto, Pin, Recovery, UnknownAgent, Verified};
pub use crate::plan::{BoundBy, Plan};
pub use crate::reload::{ConfigWatch, MakeHost, Reloaded};
pub use crate::sessions::{SessionSummary, is_parked, standing};
pub use crate::typed_tool::TypedTool;
pub use crate::wiring::{prices, redactor};

pub use otto_anthropic::{AnthropicClient, AnthropicConfig, ExportError, ExportForm, read_export};
pub use otto_core as core;
pub use otto_core::agent::{AgentConfig, Budgets, Limit, Origin};
pub use otto_core::audit::{AuditKind, UnknownAuditKind};
pub use otto_core::id::InvalidId;
pub use otto_core::invocation::{
    Outcome, OutcomeKind, Repeatability, SideEffects, UnknownCallDecision,
};
pub use otto_core::model::{ModelSpec, PriceTable, Usage};
pub use otto_core::policy::{Permission, Permissions};
pub use otto_core::port::contexts::{ContextChange, ContextData, ContextError};
pub use otto_core::port::llm_client::LlmClient;
pub use otto_core::port::store::{
    ArtifactKind, ArtifactRef, AuditCheck, AuditHead, InvocationQuery, InvocationRecord, KillRow,
    Store, StoreError, UsageGroup, UsageQuery, UsageSum,
};
pub use otto_core::port::tool::{
    Tool, ToolContext, ToolDefinition, ToolError, ToolErrorKind, ToolOutput,
};
pub use otto_core::port::tool_host::{Enforcement, ToolHost};
pub use otto_core::redact::Redactor;
pub use otto_core::task::TaskSpec;
pub use otto_core::transcript::Transcript;
pub use otto_core::{
    AgentName, BudgetName, ContextId, InvocationId, ModelId, Money, SessionId, TaskId, Timestamp,
    ToolName, WorkflowId,
};
pub use otto_engine::{
    Admission, CancelError, Cancelling, Ceilings, Child, Component, Condition, ContextGuard,
    ContextMetadata, ContextStore, HealthReport, Ids, InvocationHandle, InvokeError, LeftForResume,
    ListenerEvent, Listening, Progress, Report, RestartRule, ResumeOptions, RunningInvocation,
    SharedBudget, ShutdownReport, TelemetryParts, ToolBus, UsageReport, kill_switch, metrics,
    names, spans,
};
pub use otto_sandbox::{
    Connections, DoctorReport, LockConfig, LockError, MainLock, WorkerHost, lock_main,
};
pub use otto_store_embedded::{Cleaned, Finding, FindingKind, ScrubReport, VerifyReport};
pub use otto_tools::definitions as base_tools;

/// The README's example is compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
