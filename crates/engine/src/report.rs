//! Outcome, artifacts and usage of an invocation that has ended.

use std::time::Duration;

use otto_core::invocation::{Outcome, Totals};
use otto_core::port::store::ArtifactRef;
use otto_core::{AgentName, Money};

use crate::Ids;

/// What an invocation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its ids.
    pub ids: Ids,
    /// The agent.
    pub agent: AgentName,
    /// How it ended.
    pub outcome: Outcome,
    /// What was stored.
    pub artifacts: Vec<ArtifactRef>,
    /// Why artifacts are missing, if they are: the invocation itself is safe in the journal.
    pub artifact_error: Option<String>,
    /// What the store said when it failed, if it did: the last steps may not be durable, and the store may not know
    /// that this invocation has ended. With a completed invocation it comes as
    /// [`InvokeError::NotStored`](crate::InvokeError::NotStored) only, so that no answer is taken for one that is kept.
    pub store_error: Option<String>,
    /// Calls and tokens.
    pub totals: Totals,
    /// Money charged, holds of unconfirmed calls included.
    pub charged: Money,
    /// Turns.
    pub turns: u32,
    /// From admission to outcome; of an invocation that was taken up again, from then on.
    pub duration: Duration,
    /// What its time limit counts: all stretches of running together, also those before it was taken up again.
    pub time_used: Duration,
}

impl Report {
    /// Whether it completed and the store does not know.
    pub(crate) const fn is_answer_unkept(&self) -> bool {
        matches!(self.outcome, Outcome::Completed { .. }) && self.store_error.is_some()
    }

    /// The agent's final text; empty if it did not complete.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.outcome {
            Outcome::Completed { text } => text,
            _ => "",
        }
    }
}
