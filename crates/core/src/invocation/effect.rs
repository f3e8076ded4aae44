//! Effects: things the machine wants done; data until the engine performs them.

use std::sync::Arc;

use crate::id::{EffectId, ReservationId};
use crate::invocation::{Outcome, SideEffects};
use crate::ledger::{Quote, Settlement};
use crate::message::Message;
use crate::{Timestamp, ToolCallId, ToolName};

/// A wish of the machine. Performed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Hold money for a model call. Answered by `ReservationGranted` or `ReservationDenied`.
    Reserve {
        /// Names the answer.
        id: EffectId,
        /// What the call can use at most.
        quote: Quote,
    },
    /// Replace a hold by what was used. Not answered.
    Settle {
        /// The hold.
        reservation: ReservationId,
        /// How it ends.
        settlement: Settlement,
    },
    /// Send a request to the model. Answered by blocks, then `ModelFinished` or `ModelFailed`.
    CallModel {
        /// Names the answers.
        id: EffectId,
        /// The request.
        request: ModelRequest,
    },
    /// Drop the connection of a model call. Not answered; later answers are ignored.
    StopModel {
        /// The `CallModel` effect.
        id: EffectId,
    },
    /// Run a tool. Answered by `ToolFinished`, always.
    RunTool {
        /// Names the answer.
        id: EffectId,
        /// The call.
        request: ToolRequest,
    },
    /// End a tool call early. Its `ToolFinished` still comes.
    StopTool {
        /// The `RunTool` effect.
        id: EffectId,
    },
    /// Wake the machine. Answered by `TimerFired`.
    SetTimer {
        /// Names the answer.
        id: EffectId,
        /// When; a time in the past is due at once.
        at: Timestamp,
        /// What for; for people and traces.
        purpose: TimerPurpose,
    },
    /// Everything before this must be durable before anything after it begins.
    Persist,
    /// The invocation has ended. Always the last effect; durable before anyone is told.
    Finish {
        /// How.
        outcome: Outcome,
    },
}

/// A request to the model. System prompt and tools are those of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// The hold it runs under.
    pub reservation: ReservationId,
    /// What it is made for.
    pub purpose: CallPurpose,
    /// The whole history, oldest first; for a summary, what is to be replaced and the request for it.
    pub history: Vec<Arc<Message>>,
    /// Output limit of this call, granted by the ledger.
    pub max_output_tokens: u64,
}

/// What a model call is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallPurpose {
    /// The next turn.
    Turn,
    /// A summary that replaces the older part of the history. Calls in its reply are never run.
    Summary,
}

/// A tool call to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRequest {
    /// The provider's id of the call.
    pub call: ToolCallId,
    /// The tool.
    pub tool: ToolName,
    /// Its input: a JSON object as text.
    pub input: Arc<str>,
    /// As the spec says of the tool.
    pub side_effects: SideEffects,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimerPurpose {
    /// The time limit of the invocation.
    Deadline,
    /// Waiting before the next attempt.
    Backoff,
    /// Waiting for money that others hold.
    Contention,
    /// Waiting for cancelled tools to end.
    Grace,
}
