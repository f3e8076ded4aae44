//! The first machine: one invocation, from its first event to its outcome.
//!
//! `step(now, event) -> effects`, no other input. Events are facts, effects are wishes. Each answer
//! carries the id of the effect it answers; an answer whose effect is not open is ignored. The engine
//! performs effects in the order given; [`Effect::Persist`] means that everything before it must be
//! durable before anything after it begins.
//!
//! Invariants, checked by the simulator after every step:
//! - every reservation that was granted is settled exactly once;
//! - every tool call in the history has exactly one result, in the next user message, results first;
//! - a turn whose tools ran is never sent again;
//! - no side-effecting tool starts from an unfinished, invalid or unconfirmed call;
//! - the history only grows, until compaction replaces it as a whole;
//! - folding the journal gives the same state.

mod calls;
mod compact;
mod effect;
mod event;
mod machine;
mod note;
mod outcome;
mod reply;
mod resume;
mod spec;
mod stop;
#[cfg(test)]
mod tests;
mod turn;

pub use compact::{EARLIER_MESSAGES, LastCompaction};
pub use effect::{CallPurpose, Effect, ModelRequest, TimerPurpose, ToolRequest};
pub use event::{
    Billing, CancelReason, Event, ModelFailure, ModelFailureKind, ModelFinish, Resumption,
    StopReason, ToolEnding, ToolResult, UnknownCallDecision,
};
pub use machine::{Invocation, Totals};
pub use outcome::{Failure, Outcome, OutcomeKind};
pub use spec::{InvocationLimits, InvocationSpec, Repeatability, SideEffects, ToolFacts};
pub use turn::OpenCall;
