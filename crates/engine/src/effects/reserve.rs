//! `Reserve`: holds money, and makes everything journaled so far durable with it.

use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{CancelReason, Event};
use otto_core::ledger::{LookAhead, Quote, ReserveOutcome, ReserveRequest};
use otto_core::port::store::{ReserveCall, ReserveReply};

use crate::ListenerEvent;
use crate::agent_server::AgentServer;

impl AgentServer {
    pub(crate) async fn reserve(&mut self, effect: EffectId, quote: Quote) {
        let sequence = self.journal.last_sequence();
        let after = self.journal.handed_over();
        let entries = self.journal.take();
        let kept = entries.clone();
        let request = ReserveRequest {
            id: ReservationId {
                invocation: self.ids.invocation,
                effect,
            },
            scopes: self
                .machine
                .spec()
                .map(|spec| spec.scopes.clone())
                .unwrap_or_default(),
            quote,
        };
        let call = ReserveCall {
            lease: self.lease.clone(),
            request,
            after,
            entries,
            look_ahead: LookAhead::Hold,
        };
        let store = self.shared.store.clone();
        let reply = store.reserve(call);
        let event = match self.after_settles("reserve", reply).await {
            Ok(ReserveReply::Ledger(
                ReserveOutcome::Granted(grant) | ReserveOutcome::AlreadyGranted(grant),
            )) => {
                self.durable_up_to(sequence);
                self.shared.audit.reserved(&self.ids, &grant);
                let (held, max_output_tokens) = (grant.held_cost, grant.max_output_tokens);
                let turn = self.machine.turns() + 1;
                let summarizing = self.machine.summarizing();
                self.tell(|| match summarizing {
                    None => ListenerEvent::TurnStarted {
                        turn,
                        held,
                        max_output_tokens,
                    },
                    Some(messages) => ListenerEvent::CompactionStarted {
                        messages,
                        held,
                        max_output_tokens,
                    },
                });
                Event::ReservationGranted { effect, grant }
            }
            Ok(ReserveReply::Ledger(ReserveOutcome::OverLimit(denial))) => {
                self.shared.audit.reservation_denied(&self.ids, &denial);
                self.durable_up_to(sequence);
                if denial.is_contended() {
                    self.tell(|| ListenerEvent::WaitingForBudget {
                        denial: denial.clone(),
                    });
                }
                Event::ReservationDenied { effect, denial }
            }
            Ok(ReserveReply::Killed(_)) => Event::ReservationRefused {
                effect,
                reason: CancelReason::KillSwitch,
            },
            Ok(ReserveReply::Fenced) => {
                self.fenced = true;
                Event::ReservationRefused {
                    effect,
                    reason: CancelReason::Fenced,
                }
            }
            Ok(ReserveReply::Ledger(ReserveOutcome::AlreadySettled)) => {
                self.store_error = Some(format!(
                    "reservation {effect} was settled before it was asked for"
                ));
                Event::ReservationRefused {
                    effect,
                    reason: CancelReason::StoreFailed,
                }
            }
            Err(error) => {
                self.journal.put_back(kept);
                self.store_error = Some(error.to_string());
                Event::ReservationRefused {
                    effect,
                    reason: CancelReason::StoreFailed,
                }
            }
        };
        self.inbox.push_back(event);
    }
}
