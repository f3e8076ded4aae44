//! `Settle`: replaces a hold by what was used.
//!
//! The call is made right before the next call to the store, so that both share one wake-up of the writer and
//! keep their order.
//!
//! Invariants: journal entries that ride on a settlement are durable before a `Persist` behind it is answered;
//! a settlement that failed is made again before anything behind it is written.

use std::future::Future;

use otto_core::Timestamp;
use otto_core::id::ReservationId;
use otto_core::invocation::CancelReason;
use otto_core::ledger::{SettleOutcome, Settlement};
use otto_core::model::Usage;
use otto_core::port::store::{Attribution, Durability, SettleCall, SettleReply, StoreError};

use tokio::time::Instant;

use crate::ListenerEvent;
use crate::agent_server::AgentServer;
use crate::effects::StoreFailed;

/// A settlement that waits for the next call to the store.
pub(crate) struct PendingSettle {
    call: SettleCall,
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
            settlement,
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
        self.settles.push(PendingSettle { call });
    }

    /// Makes the pending settlements, then `next`; the last of them and `next` are called together, in this
    /// order, so that one transaction can serve both.
    ///
    /// # Errors
    /// Those of `next`, and those of a settlement: it waits again, for the call after this one. What `next` writes
    /// stands on the entries of the settlements (`after`), so the store has refused it as well.
    pub(crate) async fn after_settles<T>(
        &mut self,
        operation: &'static str,
        next: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let last = self.settles.pop();
        if let Err(error) = self.make_settles().await {
            self.settles.extend(last);
            return Err(error);
        }
        let store = self.shared.store.clone();
        let asked = Instant::now();
        let answer = match last {
            None => next.await,
            Some(PendingSettle { call }) => {
                // `join` polls in the order of its arguments, and calls of one caller take effect in that
                // order.
                let (settled, answer) =
                    futures_util::future::join(store.settle(call.clone()), next).await;
                self.shared.telemetry.store_call("settle", asked.elapsed());
                self.settled(call, settled).and(answer)
            }
        };
        self.shared.telemetry.store_call(operation, asked.elapsed());
        answer
    }

    /// Makes the pending settlements durable, with the journal entries that ride on them.
    pub(crate) async fn sync_settles(&mut self) -> Result<(), StoreFailed> {
        if let Some(last) = self.settles.last_mut() {
            last.call.durability = Durability::Synced;
        }
        if let Err(error) = self.make_settles().await {
            self.store_error = Some(error.to_string());
            return Err(StoreFailed);
        }
        if self.fenced {
            self.running.request_stop(CancelReason::Fenced);
            return Err(StoreFailed);
        }
        Ok(())
    }

    /// Makes the pending settlements in their order. Those from the first that fails on wait again.
    async fn make_settles(&mut self) -> Result<(), StoreError> {
        let store = self.shared.store.clone();
        let mut pending = std::mem::take(&mut self.settles).into_iter();
        while let Some(PendingSettle { call }) = pending.next() {
            let asked = Instant::now();
            let reply = store.settle(call.clone()).await;
            self.shared.telemetry.store_call("settle", asked.elapsed());
            if let Err(error) = self.settled(call, reply) {
                self.settles.extend(pending);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What follows from the answer to a settlement. One that failed waits again: made twice it counts once.
    fn settled(
        &mut self,
        call: SettleCall,
        reply: Result<SettleReply, StoreError>,
    ) -> Result<(), StoreError> {
        let settled = match reply {
            Ok(SettleReply::Ledger(SettleOutcome::Settled(settled))) => settled,
            Ok(SettleReply::Ledger(SettleOutcome::AlreadySettled | SettleOutcome::Unknown)) => {
                return Ok(());
            }
            Ok(SettleReply::Fenced) => {
                self.fenced = true;
                return Ok(());
            }
            Err(error) => {
                self.settles.push(PendingSettle { call });
                return Err(error);
            }
        };
        self.charged = self.charged.saturating_add(settled.charged);
        let measured = match call.settlement {
            Settlement::Used { usage, .. } => Some(usage),
            Settlement::Forfeited | Settlement::Released => None,
        };
        self.watch.settled(measured.as_ref(), settled.charged);
        // A call that is not billed used nothing. Only of one whose hold is charged it is unknown.
        let usage = match call.settlement {
            Settlement::Released => Some(Usage::default()),
            Settlement::Used { .. } | Settlement::Forfeited => measured,
        };
        self.shared
            .audit
            .settled(&self.ids, usage.as_ref(), &settled);
        let spent = self.charged;
        let limit = self.agent.budgets.cost.as_ref().map(|limit| limit.value);
        self.tell(|| ListenerEvent::Settled {
            usage,
            charged: settled.charged,
            spent,
            limit,
        });
        for warning in settled.warnings {
            self.watch.budget_warning(&warning);
            self.tell(|| ListenerEvent::BudgetWarning {
                scope: warning.scope.clone(),
                limit: warning.limit,
                spent: warning.spent,
            });
        }
        if settled.overdrawn {
            self.watch.overdrawn(settled.charged);
        }
        Ok(())
    }
}
