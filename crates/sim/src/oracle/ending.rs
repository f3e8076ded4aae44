//! Rules of the end: an outcome names what happened, and comes in time.

use std::time::Duration;

use otto_core::invocation::{CancelReason, Failure, ModelFailureKind, Outcome, StopReason};
use otto_core::ledger::Resource;

use crate::oracle::{Circumstances, Known, Sight};
use crate::rule::{Held, Rule, require};

/// How long an invocation may take to end after its time limit: the grace time of its tools.
const GRACE: Duration = Duration::from_secs(2);

impl Sight {
    pub(super) fn finishes(
        &mut self,
        known: &Known,
        outcome: &Outcome,
        at: Circumstances,
        elsewhere: Duration,
        is_calm: bool,
    ) -> Held {
        let ran = at.at.since(self.began);
        let limit = self.spec.limits.time.value;
        require(ran <= limit + GRACE + self.frozen, Rule::EndsInTime, || {
            format!("after {ran:?} of {limit:?}: {outcome}")
        })?;
        require(
            !is_calm || matches!(outcome, Outcome::Completed { .. }),
            Rule::CalmCompletes,
            || outcome.to_string(),
        )?;
        let is_true = match outcome {
            Outcome::Completed { text } => {
                let is_said =
                    self.heard.text == **text && self.heard.stops.last().is_some_and(is_end);
                let is_retold = self.heard.stops.is_empty() && known.last_words.contains(&**text);
                is_said || is_retold
            }
            Outcome::BudgetExhausted { denial } if denial.resource == Resource::Turns => true,
            Outcome::BudgetExhausted { denial } => self.heard.denial.as_ref() == Some(denial),
            // Never too early, over all stretches. Time that a crash has lost counts as well.
            Outcome::DeadlineExceeded { .. } => elsewhere + ran >= limit,
            Outcome::Cancelled {
                reason: CancelReason::AwaitingPerson,
            } => self.decision.is_none(),
            Outcome::Cancelled { reason } => self.heard.cancels.contains(reason),
            Outcome::Refused { .. } => known.refused,
            Outcome::Failed { failure } => self.has_failed(failure),
        };
        require(is_true, Rule::TrueOutcome, || {
            format!("{outcome:?} after {:?}", self.heard)
        })
    }

    fn has_failed(&self, failure: &Failure) -> bool {
        let stopped = |wanted: fn(&StopReason) -> bool| self.heard.stops.last().is_some_and(wanted);
        match failure {
            Failure::Provider(failure) => self.heard.failures.last() == Some(failure),
            Failure::Repetition { count, .. } => *count >= self.spec.limits.repetitions,
            Failure::OutputLimit { .. } => stopped(|stop| *stop == StopReason::MaxTokens),
            Failure::ContextWindow => {
                stopped(|stop| *stop == StopReason::ContextWindowExceeded)
                    || self
                        .heard
                        .failures
                        .last()
                        .is_some_and(|failure| failure.kind == ModelFailureKind::PromptTooLong)
            }
            Failure::ToolFault { .. } => self.heard.operator_fault,
            Failure::UnknownStop { .. } => stopped(|stop| {
                matches!(stop, StopReason::Other(_) | StopReason::PauseTurn) || is_end(stop)
            }),
            Failure::Internal { .. } => false,
        }
    }
}

/// Whether a reply that stopped so can be the last.
pub(super) const fn is_end(stop: &StopReason) -> bool {
    match stop {
        StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse => true,
        StopReason::MaxTokens
        | StopReason::PauseTurn
        | StopReason::Refusal { .. }
        | StopReason::ContextWindowExceeded
        | StopReason::Other(_) => false,
    }
}
