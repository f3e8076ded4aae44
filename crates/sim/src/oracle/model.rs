//! Rules of model calls: what they are held under, what they send, and what is settled for them.

use std::sync::Arc;

use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{Billing, CallPurpose, ModelRequest};
use otto_core::ledger::Settlement;
use otto_core::message::{Message, UserBlock};

use crate::oracle::{CallEnding, Circumstances, Known, OpenCall, Sight, history};
use crate::provider::invoice;
use crate::rule::{Held, Rule, require};

impl Sight {
    pub(super) fn calls_model(
        &mut self,
        known: &mut Known,
        effect: EffectId,
        request: &ModelRequest,
        at: Circumstances,
    ) -> Held {
        let reservation = request.reservation;
        let granted = self.granted.get(&reservation.effect).copied();
        require(self.call.is_none(), Rule::CallIsHeld, || {
            format!("call {effect} beside another")
        })?;
        require(at.is_held && granted.is_some(), Rule::CallIsHeld, || {
            format!("call {effect} under {reservation}, which is not granted or not open")
        })?;
        require(known.used.insert(reservation), Rule::CallIsHeld, || {
            format!("call {effect} is the second under {reservation}")
        })?;
        require(
            Some(request.max_output_tokens) <= granted,
            Rule::OutputWithinGrant,
            || {
                format!(
                    "call {effect} asks for {} tokens of {granted:?}",
                    request.max_output_tokens
                )
            },
        )?;
        history::check(&request.history, &known.paused)?;
        if !at.is_stale {
            // What a stale owner still says cannot be kept, and the new owner's history goes its own way.
            match request.purpose {
                CallPurpose::Summary => known.asks_for_summary(&request.history)?,
                CallPurpose::Turn if known.is_replaced(&request.history) => {
                    known.becomes(
                        &self.spec.input,
                        &request.history,
                        &self.accepted,
                        &self.started,
                    )?;
                }
                CallPurpose::Turn => known.grows_to(&request.history)?,
            }
        }
        if !at.is_stale && request.purpose == CallPurpose::Turn {
            self.contains_what_ran(known)?;
            self.tells_what_was_answered(known)?;
        }
        self.call = Some(OpenCall {
            effect,
            reservation,
            purpose: request.purpose,
            blocks: std::collections::BTreeMap::new(),
        });
        Ok(())
    }

    /// No turn is sent again whose calls have run: they are all in the history, and so is what led to them.
    fn contains_what_ran(&self, known: &Known) -> Held {
        let lost = known
            .executed
            .keys()
            .chain(&self.started)
            .find(|id| !known.history_calls.contains(*id));
        require(lost.is_none(), Rule::NeverResent, || {
            format!(
                "call {} has run, and the request does not know of it",
                lost.expect("there is one")
            )
        })
    }

    fn tells_what_was_answered(&self, known: &Known) -> Held {
        let results = known.history.iter().flat_map(|message| match &**message {
            Message::User(blocks) => blocks.as_slice(),
            Message::Assistant(_) => &[],
        });
        for block in results {
            let UserBlock::ToolResult(result) = block else {
                continue;
            };
            let told = (&result.content, result.is_error);
            let is_true = match self.accepted.get(&result.call) {
                Some((content, is_error)) => told == (content, *is_error),
                // Answered in an earlier stretch, or not run at all.
                None => {
                    let answers = known.answers.get(&result.call);
                    result.is_error
                        || answers.is_some_and(|answers| answers.contains(&result.content))
                }
            };
            require(is_true, Rule::TrueResult, || {
                format!(
                    "call {}: `{}` is not what it returned",
                    result.call, result.content
                )
            })?;
        }
        Ok(())
    }

    pub(super) fn settles(
        &mut self,
        known: &Known,
        reservation: ReservationId,
        settlement: &Settlement,
    ) -> Held {
        let is_own = reservation.invocation == self.spec.invocation;
        require(is_own, Rule::SettledOnce, || {
            format!("{reservation} belongs to another invocation")
        })?;
        require(
            !self.denied.contains(&reservation.effect),
            Rule::SettledOnce,
            || format!("{reservation} is settled and was never granted"),
        )?;
        let reported = match self.endings.get(&reservation) {
            Some(CallEnding::Finished(finish)) => finish.usage,
            Some(CallEnding::Failed(failure)) => match failure.billing {
                Billing::Known(usage) => Some(usage),
                Billing::NotBilled | Billing::Unknown => None,
            },
            None => None,
        };
        let is_true = match settlement {
            Settlement::Used { usage, cost } => {
                reported == Some(*usage)
                    && u128::from(cost.picodollars()) == invoice(&self.spec.model, usage)
                    && self.is_answered_by_its_model(&reservation)
            }
            // Only what certainly cost nothing: a call that was never made, or that the provider refused.
            Settlement::Released => match self.endings.get(&reservation) {
                None => !known.used.contains(&reservation),
                Some(CallEnding::Failed(failure)) => failure.billing == Billing::NotBilled,
                Some(CallEnding::Finished(_)) => false,
            },
            Settlement::Forfeited => {
                reported.is_none_or(|usage| usage.output_tokens == 0)
                    || !self.is_answered_by_its_model(&reservation)
            }
        };
        require(is_true, Rule::TrueSettlement, || {
            format!(
                "{reservation} is settled as {settlement:?} after {:?}",
                self.endings.get(&reservation)
            )
        })
    }

    fn is_answered_by_its_model(&self, reservation: &ReservationId) -> bool {
        let Some(CallEnding::Finished(finish)) = self.endings.get(reservation) else {
            return true;
        };
        let id = self.spec.model.id.as_str();
        finish.served_by.as_ref().is_none_or(|served| {
            // The names under which the provider of this world serves the same model.
            served.as_str() == id
                || served.as_str() == format!("{id}-latest")
                || served.as_str() == format!("{id}-20260930")
        })
    }
}

impl Known {
    /// The history only grows.
    fn grows_to(&mut self, history: &[Arc<Message>]) -> Held {
        let before = self.history.len();
        let grows = history.len() >= before
            && self
                .history
                .iter()
                .zip(history)
                .all(|(old, new)| Arc::ptr_eq(old, new) || old == new);
        require(grows, Rule::AppendOnly, || {
            let changed = self
                .history
                .iter()
                .zip(history)
                .position(|(old, new)| old != new);
            format!(
                "{before} messages became {}, the first change is at {changed:?}",
                history.len()
            )
        })?;
        for message in &history[before..] {
            self.history_calls
                .extend(message.tool_calls().map(|call| call.id.clone()));
        }
        self.history.extend_from_slice(&history[before..]);
        Ok(())
    }
}
