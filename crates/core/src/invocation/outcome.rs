//! How an invocation ends. Expected endings are values, not errors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ToolName;
use crate::agent::Limit;
use crate::invocation::{CancelReason, ModelFailure};
use crate::ledger::Denial;

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The agent finished; this is its final text, possibly empty.
    Completed {
        /// The text of its last turn.
        text: Arc<str>,
    },
    /// A limit on cost, tokens or turns was reached.
    BudgetExhausted {
        /// The limit, with scope and origin.
        denial: Box<Denial>,
    },
    /// The time limit was reached.
    DeadlineExceeded {
        /// The limit.
        limit: Limit<Duration>,
    },
    /// It was cancelled.
    Cancelled {
        /// By what.
        reason: CancelReason,
    },
    /// The provider's safety system refused.
    Refused {
        /// The category, if named.
        category: Option<Arc<str>>,
        /// The explanation, if given.
        explanation: Option<Arc<str>>,
    },
    /// It could not go on.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Why an invocation could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The provider failed for good, or too often.
    Provider(ModelFailure),
    /// The same call gave the same result too often.
    Repetition {
        /// The tool.
        tool: Arc<str>,
        /// How often.
        count: u32,
    },
    /// The reply did not fit the output limit, also after continuing.
    OutputLimit {
        /// Output tokens allowed per call.
        max_output_tokens: u64,
    },
    /// History and reply do not fit the model's window.
    ContextWindow,
    /// A tool failed in a way only the operator can repair.
    ToolFault {
        /// The tool.
        tool: ToolName,
        /// What it said.
        message: Arc<str>,
    },
    /// The model ended for a reason Otto does not know.
    UnknownStop {
        /// The reason.
        reason: Arc<str>,
    },
    /// A rule of the machine was broken: a defect of Otto.
    Internal {
        /// Which.
        message: Arc<str>,
    },
}

/// The outcome without its details: one word for metrics, tables and exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// `completed`
    Completed,
    /// `budget_exhausted`
    BudgetExhausted,
    /// `deadline`
    Deadline,
    /// `cancelled`
    Cancelled,
    /// `refused`
    Refused,
    /// `provider_failed`
    ProviderFailed,
    /// `failed`
    Failed,
}

impl OutcomeKind {
    /// The word used in JSON, metrics and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::ProviderFailed => "provider_failed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Outcome {
    /// Whether it waits for a person's word on a tool call of unknown outcome.
    #[must_use]
    pub const fn is_parked(&self) -> bool {
        matches!(
            self,
            Self::Cancelled {
                reason: CancelReason::AwaitingPerson
            }
        )
    }

    /// The outcome in one word.
    #[must_use]
    pub const fn kind(&self) -> OutcomeKind {
        match self {
            Self::Completed { .. } => OutcomeKind::Completed,
            Self::BudgetExhausted { .. } => OutcomeKind::BudgetExhausted,
            Self::DeadlineExceeded { .. } => OutcomeKind::Deadline,
            Self::Cancelled { .. } => OutcomeKind::Cancelled,
            Self::Refused { .. } => OutcomeKind::Refused,
            Self::Failed {
                failure: Failure::Provider(_),
            } => OutcomeKind::ProviderFailed,
            Self::Failed { .. } => OutcomeKind::Failed,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed { .. } => f.write_str("completed"),
            Self::BudgetExhausted { denial } => write!(f, "budget exhausted: {denial}"),
            Self::DeadlineExceeded { limit } => write!(
                f,
                "time limit of {:?} reached; limit set by {}",
                limit.value, limit.origin
            ),
            Self::Cancelled { reason } => f.write_str(match reason {
                CancelReason::User => "cancelled by request",
                CancelReason::KillSwitch => "cancelled by the kill switch",
                CancelReason::Shutdown => "stopped by shutdown; it can be resumed",
                CancelReason::Fenced => "stopped: another Otto process took the session over",
                CancelReason::StoreFailed => {
                    "stopped: the store failed, nothing more could be made durable"
                }
                CancelReason::AwaitingPerson => {
                    "parked: a tool call of unknown outcome needs a person's decision"
                }
            }),
            Self::Refused {
                category,
                explanation,
            } => {
                f.write_str("refused by the provider")?;
                if let Some(category) = category {
                    write!(f, " ({category})")?;
                }
                if let Some(explanation) = explanation {
                    write!(f, ": {explanation}")?;
                }
                Ok(())
            }
            Self::Failed { failure } => failure.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(failure) => {
                write!(f, "provider failed: {}", failure.message)?;
                if let Some(id) = &failure.request_id {
                    write!(f, " (request {id})")?;
                }
                Ok(())
            }
            Self::Repetition { tool, count } => {
                write!(
                    f,
                    "the same call of `{tool}` gave the same result {count} times"
                )
            }
            Self::OutputLimit { max_output_tokens } => write!(
                f,
                "the reply did not fit {max_output_tokens} output tokens; raise `max_output_tokens`"
            ),
            Self::ContextWindow => {
                f.write_str(
                    "the history no longer fits the model's context window, and nothing in it can be summarized: \
                     let the tools return less, give a shorter task, or allow compaction with `compact_at`",
                )
            }
            Self::ToolFault { tool, message } => write!(f, "tool `{tool}` cannot work: {message}"),
            Self::UnknownStop { reason } => {
                write!(f, "the model stopped for an unknown reason: {reason}")
            }
            Self::Internal { message } => write!(f, "internal error: {message}"),
        }
    }
}
