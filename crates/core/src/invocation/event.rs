//! Events: facts that have happened, given to the machine.

use std::sync::Arc;
use std::time::Duration;

use crate::ModelId;
use crate::id::EffectId;
use crate::invocation::{InvocationLimits, InvocationSpec};
use crate::ledger::{Denial, Grant, ScopeLimits};
use crate::message::Block;
use crate::model::Usage;

/// A fact. Those that answer an effect carry its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The invocation begins. The first event of every journal.
    Started(Arc<InvocationSpec>),
    /// Otto came back after its end, or a stopped invocation is given another chance; whatever was open is
    /// of unknown fate.
    Resumed(Arc<Resumption>),
    /// The hold stands, durably.
    ReservationGranted {
        /// The `Reserve` effect.
        effect: EffectId,
        /// What was held.
        grant: Grant,
    },
    /// Nothing was held: a limit is in the way.
    ReservationDenied {
        /// The `Reserve` effect.
        effect: EffectId,
        /// The limit.
        denial: Box<Denial>,
    },
    /// The store refused to hold anything: the invocation has to end.
    ReservationRefused {
        /// The `Reserve` effect.
        effect: EffectId,
        /// Why.
        reason: CancelReason,
    },
    /// A block of the reply is complete (for a tool call: its bytes are, its wholeness is not yet proven).
    BlockReceived {
        /// The `CallModel` effect.
        effect: EffectId,
        /// Position in the reply.
        index: u32,
        /// The block.
        block: Arc<Block>,
    },
    /// The stream has proven that the tool call at this position was not cut off.
    ToolCallReceived {
        /// The `CallModel` effect.
        effect: EffectId,
        /// Position of its block.
        index: u32,
    },
    /// The reply ended as the protocol says.
    ModelFinished {
        /// The `CallModel` effect.
        effect: EffectId,
        /// How and at what cost.
        finish: ModelFinish,
    },
    /// The call failed, before or in the middle of its reply.
    ModelFailed {
        /// The `CallModel` effect.
        effect: EffectId,
        /// Why.
        failure: ModelFailure,
    },
    /// A tool call ended.
    ToolFinished {
        /// The `RunTool` effect.
        effect: EffectId,
        /// How.
        result: ToolResult,
    },
    /// A timer is due.
    TimerFired {
        /// The `SetTimer` effect.
        effect: EffectId,
    },
    /// Somebody or something wants the invocation to end.
    CancelRequested(CancelReason),
}

impl Event {
    /// Whether it tells of a model call or of the money for one.
    #[must_use]
    pub const fn is_of_model_call(&self) -> bool {
        matches!(
            self,
            Self::ReservationGranted { .. }
                | Self::ReservationDenied { .. }
                | Self::BlockReceived { .. }
                | Self::ToolCallReceived { .. }
                | Self::ModelFinished { .. }
                | Self::ModelFailed { .. }
        )
    }
}

/// What holds from a resumption on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumption {
    /// Limits of the invocation; raised or as they were.
    pub limits: InvocationLimits,
    /// The scopes of its model calls with their limits; raised or as they were.
    pub scopes: Vec<ScopeLimits>,
    /// What becomes of calls that were running and may not be repeated without a person's word.
    pub decision: Option<UnknownCallDecision>,
}

/// A person's word on a call of unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnknownCallDecision {
    /// Run it again.
    RunAgain,
    /// Do not; tell the model that the outcome is unknown.
    TellModel,
    /// Do not; a person has seen that it took effect, and the model is told so.
    Done,
    /// Do not; a person has seen that it did not take effect, and the model is told so.
    NotDone,
}

/// How a reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFinish {
    /// Why the model stopped.
    pub stop: StopReason,
    /// The usage record, if one came.
    pub usage: Option<Usage>,
    /// The model that answered, as it named itself.
    pub served_by: Option<ModelId>,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It was done.
    EndTurn,
    /// It waits for tool results.
    ToolUse,
    /// It reached the output limit of the call.
    MaxTokens,
    /// It reached a stop sequence.
    StopSequence,
    /// The provider paused the turn and wants it sent back.
    PauseTurn,
    /// The provider's safety system stopped it.
    Refusal {
        /// The category, if named.
        category: Option<Arc<str>>,
        /// The explanation, if given.
        explanation: Option<Arc<str>>,
    },
    /// Prompt and reply filled the window.
    ContextWindowExceeded,
    /// A reason Otto does not know.
    Other(Arc<str>),
}

impl StopReason {
    /// `end_turn`, `tool_use`, `max_tokens`, `stop_sequence`, `pause_turn`, `refusal`, `context_window_exceeded` or
    /// `other`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::ToolUse => "tool_use",
            Self::MaxTokens => "max_tokens",
            Self::StopSequence => "stop_sequence",
            Self::PauseTurn => "pause_turn",
            Self::Refusal { .. } => "refusal",
            Self::ContextWindowExceeded => "context_window_exceeded",
            Self::Other(_) => "other",
        }
    }
}

/// Why a model call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFailure {
    /// The class, which decides whether to try again.
    pub kind: ModelFailureKind,
    /// What happened, in words, without secrets.
    pub message: Arc<str>,
    /// What the provider will charge for it.
    pub billing: Billing,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
    /// The provider's own word on whether to try again.
    pub should_retry: Option<bool>,
    /// HTTP status, if one came.
    pub status: Option<u16>,
    /// The provider's id of the request, if one came.
    pub request_id: Option<Arc<str>>,
}

/// Classes of failure. A class exists because somebody acts differently on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelFailureKind {
    /// The key is missing or wrong.
    Authentication,
    /// The key may not do this.
    Permission,
    /// No such model or path.
    NotFound,
    /// The request itself is wrong.
    InvalidRequest,
    /// The prompt does not fit the model's window.
    PromptTooLong,
    /// Too many requests or tokens per minute.
    RateLimited,
    /// The account's own spending limit or credit is used up.
    SpendLimit,
    /// The provider is overloaded.
    Overloaded,
    /// The provider failed.
    Server,
    /// No connection could be made.
    Unreachable,
    /// No answer or no progress in time.
    Timeout,
    /// The reply broke off.
    CutStream,
    /// The reply was not what the protocol allows.
    Protocol,
    /// Otto stopped in the middle of the call.
    Interrupted,
    /// Calls to this provider are suspended after too many failures.
    CircuitOpen,
}

impl ModelFailureKind {
    /// The word used in JSON, logs and metrics: `authentication`, `rate_limited` and so on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::InvalidRequest => "invalid_request",
            Self::PromptTooLong => "prompt_too_long",
            Self::RateLimited => "rate_limited",
            Self::SpendLimit => "spend_limit",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::CutStream => "cut_stream",
            Self::Protocol => "protocol",
            Self::Interrupted => "interrupted",
            Self::CircuitOpen => "circuit_open",
        }
    }
}

/// What a failed call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// The provider bills nothing: the request was refused or never arrived.
    NotBilled,
    /// Nobody knows: the hold is charged.
    Unknown,
    /// A usage record came before the failure.
    Known(Usage),
}

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// What the model reads; already bounded and redacted.
    pub content: Arc<str>,
    /// How it ended.
    pub ending: ToolEnding,
    /// How long it took.
    pub duration: Duration,
}

/// The kinds of ending of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolEnding {
    /// It did what was asked.
    Succeeded,
    /// It failed in a way the model can act on.
    Failed,
    /// Policy or the kernel refused it.
    Denied,
    /// It took too long and was ended.
    TimedOut,
    /// It was ended because the invocation ends.
    Cancelled,
    /// It failed in a way only the operator can repair: the invocation ends.
    OperatorFault,
}

impl ToolEnding {
    /// `succeeded`, `failed`, `denied`, `timed_out`, `cancelled` or `operator_fault`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::OperatorFault => "operator_fault",
        }
    }
}

/// Why an invocation is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// A person or program asked.
    User,
    /// The kill switch was thrown.
    KillSwitch,
    /// Otto shuts down; the invocation can be resumed.
    Shutdown,
    /// Its lease was lost to another process, which drives it now.
    Fenced,
    /// Its store failed: nothing more can be made durable.
    StoreFailed,
    /// A tool call of unknown outcome needs a person's word before anything goes on.
    AwaitingPerson,
}

impl CancelReason {
    /// `user`, `kill_switch`, `shutdown`, `fenced`, `store_failed` or `awaiting_person`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::KillSwitch => "kill_switch",
            Self::Shutdown => "shutdown",
            Self::Fenced => "fenced",
            Self::StoreFailed => "store_failed",
            Self::AwaitingPerson => "awaiting_person",
        }
    }
}
