//! What somebody who watches an invocation gets to see.
//!
//! Listener events are for people and programs that watch; nothing is decided by them and nothing is lost when
//! a slow listener misses some. They carry redacted text only.

use std::sync::Arc;
use std::time::Duration;

use otto_core::invocation::{ModelFailureKind, Outcome, ToolEnding};
use otto_core::ledger::{Amount, Denial, Scope};
use otto_core::model::Usage;
use otto_core::policy::RefusedBy;
use otto_core::{Money, ToolCallId};

/// Whether an invocation's events are wanted. Not listening costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listening {
    /// Nobody watches.
    #[default]
    Off,
    /// A listener may be up to [`LISTENER_CAPACITY`] events behind.
    On,
    /// A listener may be up to this many events behind; at least one.
    UpTo(usize),
}

impl Listening {
    pub(crate) fn capacity(self) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::On => Some(LISTENER_CAPACITY),
            Self::UpTo(events) => Some(events.clamp(1, LISTENER_CAPACITY)),
        }
    }
}

/// BOUND: a listener that is further behind loses the oldest events and is told how many.
pub const LISTENER_CAPACITY: usize = 1_024;

/// Something that happened in an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerEvent {
    /// A model call is about to be made.
    TurnStarted {
        /// Counted from 1.
        turn: u32,
        /// Held for the call.
        held: Money,
        /// The call's output limit.
        max_output_tokens: u64,
    },
    /// The history nears the model's window: a summary of its older part is about to be asked for.
    CompactionStarted {
        /// Messages that are to be replaced.
        messages: usize,
        /// Held for the call.
        held: Money,
        /// The call's output limit.
        max_output_tokens: u64,
    },
    /// The older part of the history was replaced. The journal keeps what was said.
    Compacted {
        /// The model wrote a summary; otherwise the older turns were dropped without one.
        summarized: bool,
        /// Replies of the model that the new beginning stands for.
        replaced_replies: u32,
        /// Messages, the latest ones, that are quoted word for word.
        quoted_messages: usize,
    },
    /// A piece of the model's text.
    Text(String),
    /// A piece of the model's thinking.
    Thinking(String),
    /// The model has begun to write a tool call.
    ToolCallStarted {
        /// The call.
        call: ToolCallId,
        /// The tool.
        tool: Arc<str>,
    },
    /// A tool call runs.
    ToolStarted {
        /// The call.
        call: ToolCallId,
        /// The tool.
        tool: Arc<str>,
        /// Its input: a JSON object as text, redacted.
        input: Arc<str>,
        /// Whether the model's reply was still streaming.
        during_stream: bool,
    },
    /// A tool call ended; also one that was never run, such as of a tool that the agent does not have.
    ToolFinished {
        /// The call.
        call: ToolCallId,
        /// The tool.
        tool: Arc<str>,
        /// How.
        ending: ToolEnding,
        /// Which fence refused it, if it was refused.
        refused_by: Option<RefusedBy>,
        /// What the model reads, redacted.
        content: Arc<str>,
        /// How long it took.
        duration: Duration,
    },
    /// A model call was settled.
    Settled {
        /// What it used, nothing if it was not billed; `None` if its hold was charged.
        usage: Option<Usage>,
        /// What was charged for it.
        charged: Money,
        /// Charged in this invocation so far.
        spent: Money,
        /// The invocation's own cost limit, if it has one.
        limit: Option<Money>,
    },
    /// A scope passed 80 % of a limit.
    BudgetWarning {
        /// The scope.
        scope: Scope,
        /// The limit.
        limit: Amount,
        /// Spent in it.
        spent: Amount,
    },
    /// A model call failed; it is tried again.
    Retrying {
        /// Class of the failure.
        kind: ModelFailureKind,
        /// What happened.
        message: Arc<str>,
        /// When it is tried again, from now.
        wait: Duration,
    },
    /// A model call failed; tools of its turn had run, so their results go on in a new turn.
    TurnCut {
        /// What happened.
        message: Arc<str>,
    },
    /// Money others hold is waited for.
    WaitingForBudget {
        /// The limit in the way.
        denial: Box<Denial>,
    },
    /// Policy would have refused this call; audit mode let it pass.
    WouldDeny {
        /// The tool.
        tool: Arc<str>,
        /// The missing permissions, such as `write+exec`, or a host on no list, such as `example.com:443`.
        missing: String,
    },
    /// Its AgentServer panicked and was restarted from the journal.
    Restarted,
    /// It ended. The last event. Whether the store knows it as well, the report tells.
    Finished(Outcome),
}
