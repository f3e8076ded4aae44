//! `Settle`: replaces a hold by what was used.
//!
//! The call is handed to the store at once and awaited before the next call to the store, so that both share
//! one wake-up of the writer and keep their order.

use std::future::Future;

use otto_core::Timestamp;
use otto_core::id::ReservationId;
use otto_core::ledger::{SettleOutcome, Settlement};
use otto_core::port::BoxFuture;
use otto_core::port::store::{Attribution, Durability, SettleCall, SettleReply, StoreError};

use crate::ListenerEvent;
use crate::agent_server::AgentServer;

/// A settlement whose answer has not been looked at.
pub(crate) struct PendingSettle {
    settlement: Settlement,
    reply: BoxFuture<'static, Result<SettleReply, StoreError>>,
}

impl AgentServer {
    pub(crate) fn settle(
        &mut self,
        now: Timestamp,
        reservation: ReservationId,
        settlement: Settlement,
    ) {
        let Some(spec) = self.machine.spec() else {
            return;
        };
        let call = SettleCall {
            lease: self.lease.clone(),
            reservation,
            settlement: settlement.clone(),
            attribution: Attribution {
                session: self.ids.session,
                agent: self.agent.name.clone(),
                workflow: self.ids.workflow,
                model: spec.model.id.clone(),
                at: now,
            },
            entries: self.journal.take(),
            durability: Durability::Relaxed,
        };
        let store = self.shared.store.clone();
        let reply = Box::pin(async move { store.settle(call).await });
        self.settles.push(PendingSettle { settlement, reply });
    }

    /// Waits for the pending settlements, then for `next`.
    pub(crate) async fn after_settles<T>(&mut self, next: impl Future<Output = T>) -> T {
        for pending in std::mem::take(&mut self.settles) {
            let reply = pending.reply.await;
            self.settled(&pending.settlement, reply);
        }
        next.await
    }

    fn settled(&mut self, settlement: &Settlement, reply: Result<SettleReply, StoreError>) {
        let settled = match reply {
            Ok(SettleReply::Ledger(SettleOutcome::Settled(settled))) => settled,
            Ok(SettleReply::Ledger(SettleOutcome::AlreadySettled | SettleOutcome::Unknown)) => {
                return;
            }
            Ok(SettleReply::Fenced) => {
                self.fenced = true;
                return;
            }
            Err(error) => {
                self.store_error = Some(error.to_string());
                return;
            }
        };
        self.charged = self.charged.saturating_add(settled.charged);
        let usage = match settlement {
            Settlement::Used { usage, .. } => Some(*usage),
            Settlement::Forfeited | Settlement::Released => None,
        };
        let spent = self.charged;
        let limit = self.agent.budgets.cost.as_ref().map(|limit| limit.value);
        self.tell(|| ListenerEvent::Settled {
            usage,
            charged: settled.charged,
            spent,
            limit,
        });
        for warning in settled.warnings {
            crate::telemetry::budget_warning(&self.ids, &warning);
            self.tell(|| ListenerEvent::BudgetWarning {
                scope: warning.scope.clone(),
                limit: warning.limit,
                spent: warning.spent,
            });
        }
        if settled.overdrawn {
            crate::telemetry::overdrawn(&self.ids, settled.charged);
        }
    }
}
