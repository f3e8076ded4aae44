//! `Persist`: everything before it is durable before anything after it begins. And what is handed to the store
//! without being asked for: the results of calls with side effects, while the model may talk on for minutes.
//!
//! Invariant: an entry that the store did not keep is handed over again with the next ones.

use otto_core::invocation::CancelReason;
use otto_core::port::store::{Durability, Outcome, StoreError};

use crate::agent_server::AgentServer;
use crate::effects::StoreFailed;

impl AgentServer {
    pub(crate) async fn persist(&mut self) -> Result<(), StoreFailed> {
        let sequence = self.journal.last_sequence();
        if self.journal.handed_over() == sequence {
            // They ride on a settlement of the same step.
            self.sync_settles().await?;
            self.durable_up_to(sequence);
            return Ok(());
        }
        match self.append(Durability::Synced).await {
            Ok(Outcome::Done | Outcome::AlreadyDone) => {
                self.durable_up_to(sequence);
                Ok(())
            }
            Ok(Outcome::Fenced) => Err(StoreFailed),
            Err(error) => {
                self.store_error = Some(error.to_string());
                Err(StoreFailed)
            }
        }
    }

    /// Hands over what is journaled, to be read by whoever comes after the death of this process. Nothing waits
    /// for a sync; where the store fails, the next call meets the same failure and tells of it.
    pub(crate) async fn hand_over(&mut self) {
        let is_pending = self.journal.handed_over() < self.journal.last_sequence();
        if is_pending && self.report.is_none() {
            let _ = self.append(Durability::Relaxed).await;
        }
    }

    /// Appends what is journaled and not with the store yet. Whoever is fenced is told to end.
    async fn append(&mut self, durability: Durability) -> Result<Outcome, StoreError> {
        let entries = self.journal.take();
        let kept = entries.clone();
        let store = self.shared.store.clone();
        let append = store.append(self.lease.clone(), self.ids.invocation, entries, durability);
        let appended = self.after_settles("append", append).await;
        match &appended {
            Ok(Outcome::Done | Outcome::AlreadyDone) => {}
            Ok(Outcome::Fenced) => {
                self.fenced = true;
                self.running.request_stop(CancelReason::Fenced);
            }
            Err(_) => self.journal.put_back(kept),
        }
        appended
    }
}
