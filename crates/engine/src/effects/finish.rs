//! `Finish`: the outcome is durable before anyone is told, then artifacts, then the report.
//!
//! A handover is no end: the journal is made durable and the invocation stays unfinished, so that the next
//! Otto finds it where it finds those of a crash.

use std::sync::Arc;

use otto_core::Timestamp;
use otto_core::derived::{self, DerivedArtifact};
use otto_core::invocation::{CancelReason, Outcome};
use otto_core::port::store::{self, Durability, FinishReply, StoreError};

use crate::agent_server::AgentServer;
use crate::{ListenerEvent, Report};

impl AgentServer {
    pub(crate) async fn finish(&mut self, now: Timestamp, outcome: Outcome) {
        let sequence = self.journal.last_sequence();
        let (written, mut left) = if is_shutdown(&outcome) && self.shared.hands_over() {
            (self.put_down().await, Vec::new())
        } else {
            self.record_end(now, &outcome).await
        };
        let mut artifacts = Vec::new();
        let mut head = None;
        match written {
            Ok(FinishReply {
                outcome: store::Outcome::Done | store::Outcome::AlreadyDone,
                artifacts: taken,
                journal,
            }) => {
                head = journal;
                self.durable_up_to(sequence);
                left.drain(..taken.len().min(left.len()));
                artifacts = taken;
            }
            Ok(FinishReply {
                outcome: store::Outcome::Fenced,
                ..
            }) => self.fenced = true,
            Err(error) => self.store_error = Some(error.to_string()),
        }
        // A fenced AgentServer writes nothing: the invocation goes on elsewhere.
        let artifact_error = if self.fenced {
            None
        } else {
            self.store_artifacts(left, &mut artifacts).await
        };
        let ended = self.shared.clock.now();
        self.watch
            .ended(self.running.since, ended, &outcome, self.charged);
        self.shared
            .audit
            .ended(&self.ids, &outcome, self.charged, head);
        self.tell(|| ListenerEvent::Finished(outcome.clone()));
        self.report = Some(Report {
            ids: self.ids,
            agent: self.agent.name.clone(),
            outcome,
            artifacts,
            artifact_error,
            store_error: self.store_error.take(),
            totals: *self.machine.totals(),
            charged: self.charged,
            turns: self.machine.turns(),
            duration: ended.since(self.running.since),
            time_used: self.machine.time_used(ended),
        });
    }

    /// Records the end; also gives the artifacts that belong to it.
    async fn record_end(
        &mut self,
        now: Timestamp,
        outcome: &Outcome,
    ) -> (Result<FinishReply, StoreError>, Vec<DerivedArtifact>) {
        let finish = store::Finish {
            lease: self.lease.clone(),
            invocation: self.ids.invocation,
            outcome: outcome.kind(),
            summary: Arc::from(outcome.to_string()),
            result: match outcome {
                Outcome::Completed { text } => text.clone(),
                _ => Arc::from(""),
            },
            after: self.journal.handed_over(),
            entries: self.journal.take(),
            artifacts: match &self.shared.blobs {
                Some(_) => derived::of(&self.ids.invocation, &self.machine, outcome),
                None => Vec::new(),
            },
            resumable: is_resumable(outcome),
            at: now,
        };
        let artifacts = finish.artifacts.clone();
        let store = self.shared.store.clone();
        let first = self.after_settles("finish", store.finish(finish.clone()));
        let written = match first.await {
            // The answer is paid for and nowhere but here, and the store may have opened its files again: made
            // twice, the calls count once.
            Err(_) => self.after_settles("finish", store.finish(finish)).await,
            written => written,
        };
        (written, artifacts)
    }

    /// Makes what happened durable, and leaves the invocation without an end.
    async fn put_down(&mut self) -> Result<FinishReply, StoreError> {
        let entries = self.journal.take();
        let (lease, invocation) = (self.lease.clone(), self.ids.invocation);
        let store = self.shared.store.clone();
        let append = store.append(lease, invocation, entries, Durability::Synced);
        let outcome = self.after_settles("append", append).await?;
        Ok(FinishReply {
            outcome,
            artifacts: Vec::new(),
            journal: None,
        })
    }
}

const fn is_shutdown(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Cancelled {
            reason: CancelReason::Shutdown
        }
    )
}

/// Whether the same invocation may be taken up again, as it is or with a raised limit.
fn is_resumable(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Completed { .. } | Outcome::Refused { .. } => false,
        Outcome::BudgetExhausted { .. }
        | Outcome::DeadlineExceeded { .. }
        | Outcome::Failed { .. } => true,
        Outcome::Cancelled { reason } => match reason {
            CancelReason::User
            | CancelReason::KillSwitch
            | CancelReason::Shutdown
            | CancelReason::StoreFailed
            | CancelReason::AwaitingPerson => true,
            CancelReason::Fenced => false,
        },
    }
}
