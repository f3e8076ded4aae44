//! What each effect does in this world, and which event answers it when.

use std::sync::Arc;
use std::time::Duration;

use otto_core::Timestamp;
use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{
    CallPurpose, CancelReason, Effect, Event, ModelRequest, Outcome, ToolEnding, ToolRequest,
    ToolResult,
};
use otto_core::ledger::{Grant, Quote, ReserveOutcome, ReserveRequest, Settlement};

use crate::chance::Draw;
use crate::faults::FaultKind;
use crate::planted::PlantedFault;
use crate::provider::{LONG_LETTER, Timed};
use crate::rule::Held;
use crate::world::driver::Performed;
use crate::world::store::{Change, Reply, What};
use crate::world::{From, Item, Key, World};

impl World {
    pub(super) fn perform(&mut self, key: Key, effect: Effect) -> Held<Performed> {
        match effect {
            Effect::Reserve { id, quote } => self.reserve(key, id, quote)?,
            Effect::Settle {
                reservation,
                settlement,
            } => self.settle(key, reservation, settlement)?,
            Effect::CallModel { id, request } => self.call_model(key, id, &request)?,
            Effect::StopModel { id } => self.stop_model(key, id),
            Effect::RunTool { id, request } => self.run_tool(key, id, &request),
            Effect::StopTool { id } => self.stop_tool(key, id),
            Effect::SetTimer { id, at, .. } => self.set_timer(key, id, at),
            Effect::Persist => return self.persist(key),
            Effect::Finish { outcome } => self.finish(key, outcome)?,
        }
        Ok(Performed::Done)
    }

    /// A change of the store with everything that is not yet journaled.
    fn change(&mut self, key: Key, what: What) -> Change {
        let server = self
            .servers
            .get_mut(&key)
            .expect("only a living AgentServer performs effects");
        let entries = std::mem::take(&mut server.buffer);
        Change {
            who: key.who,
            epoch: server.epoch,
            entries,
            what,
        }
    }

    /// Whether a planted fault shows now.
    pub(super) fn plants(&mut self, fault: PlantedFault) -> bool {
        self.plant.as_mut().is_some_and(|plant| plant.shows(fault))
    }

    fn note_reply(&mut self, key: Key, reply: &Reply) -> bool {
        let is_fenced = *reply == Reply::Fenced;
        if let Some(server) = self.servers.get_mut(&key) {
            server.is_fenced |= is_fenced;
        }
        is_fenced
    }

    fn reserve(&mut self, key: Key, effect: EffectId, quote: Quote) -> Held {
        let actor = &mut self.actors[key.who];
        let scopes = self.servers[&key]
            .machine
            .spec()
            .map(|spec| spec.scopes.clone())
            .unwrap_or_default();
        let draw = &mut actor.draw;
        let fails = self.faults.strikes(FaultKind::StoreFails, draw);
        let is_slow = self.faults.strikes(FaultKind::SlowStore, draw);
        let is_silent = self.faults.strikes(FaultKind::SilentStore, draw);
        let is_repeated = self.faults.strikes(FaultKind::RepeatedAnswer, draw);
        let delay = if is_slow {
            draw.delay(500, 9_000)
        } else {
            draw.delay(0, 20)
        };
        let again_after = draw.delay(0, 5_000);
        let event = if fails {
            Event::ReservationRefused {
                effect,
                reason: CancelReason::StoreFailed,
            }
        } else {
            let id = ReservationId {
                invocation: actor.spec.invocation,
                effect,
            };
            let request = ReserveRequest { id, scopes, quote };
            let today = self.today();
            let killed = self.is_killed;
            let is_generous = self.plants(PlantedFault::GenerousLedger);
            let change = self.change(
                key,
                What::Reserve {
                    request,
                    today,
                    killed,
                    is_generous,
                },
            );
            let reply = self.store.synced(change)?;
            self.note_reply(key, &reply);
            self.reserve_answer(effect, quote, reply)
        };
        if is_silent {
            return Ok(());
        }
        let at = self.now.after(delay);
        if is_repeated {
            let event = event.clone();
            self.queue.plan(
                at.after(again_after),
                Item::Deliver {
                    key,
                    event,
                    from: From::Store,
                },
            );
        }
        self.queue.plan(
            at,
            Item::Deliver {
                key,
                event,
                from: From::Store,
            },
        );
        Ok(())
    }

    fn reserve_answer(&mut self, effect: EffectId, quote: Quote, reply: Reply) -> Event {
        let refused = |reason| Event::ReservationRefused { effect, reason };
        match reply {
            Reply::Reserved(
                ReserveOutcome::Granted(grant) | ReserveOutcome::AlreadyGranted(grant),
            ) => Event::ReservationGranted { effect, grant },
            Reply::Reserved(ReserveOutcome::OverLimit(denial)) => {
                if self.plants(PlantedFault::IgnoredDenial) {
                    let grant = Grant {
                        max_output_tokens: quote.output_wanted,
                        held_cost: quote.prompt_cost,
                        held_tokens: quote.prompt_tokens,
                    };
                    return Event::ReservationGranted { effect, grant };
                }
                Event::ReservationDenied { effect, denial }
            }
            Reply::Killed => refused(CancelReason::KillSwitch),
            Reply::Fenced => refused(CancelReason::Fenced),
            Reply::Done | Reply::Settled(_) | Reply::Reserved(ReserveOutcome::AlreadySettled) => {
                refused(CancelReason::StoreFailed)
            }
        }
    }

    fn settle(&mut self, key: Key, reservation: ReservationId, settlement: Settlement) -> Held {
        let is_lost = self.plants(PlantedFault::LostSettlement);
        let change = self.change(
            key,
            What::Settle {
                reservation,
                settlement,
                is_lost,
            },
        );
        let reply = self.store.relaxed(change)?;
        self.note_reply(key, &reply);
        self.covers(&reservation)
    }

    fn call_model(&mut self, key: Key, effect: EffectId, request: &ModelRequest) -> Held {
        let actor = &self.actors[key.who];
        let (spec, wanted) = (actor.spec.clone(), actor.role.turns_wanted);
        let answer =
            self.provider
                .call(key.who, effect, &spec, wanted, request, &mut self.faults)?;
        if request.purpose == CallPurpose::Turn {
            self.oracle.offered(key.who, &answer.calls);
        }
        for Timed {
            after,
            event,
            is_stray,
        } in answer.events
        {
            let from = From::Model {
                call: effect,
                is_stray,
            };
            self.queue
                .plan(self.now.after(after), Item::Deliver { key, event, from });
        }
        if let Some(server) = self.servers.get_mut(&key) {
            server.call = Some((effect, request.reservation));
        }
        self.covers(&request.reservation)
    }

    fn stop_model(&mut self, key: Key, effect: EffectId) {
        let draw = &mut self.actors[key.who].draw;
        let goes_on = self.faults.strikes(FaultKind::LateAnswer, draw);
        let Some(server) = self.servers.get_mut(&key) else {
            return;
        };
        if let Some((_, reservation)) = server.call.take_if(|(open, _)| *open == effect) {
            self.provider.dropped(&reservation, draw);
        }
        if goes_on {
            server.haunting.insert(effect);
        }
    }

    fn run_tool(&mut self, key: Key, effect: EffectId, request: &ToolRequest) {
        let draw = &mut self.actors[key.who].draw;
        let result = |content: String, ending| ToolResult {
            content: Arc::from(content),
            ending,
            duration: Duration::ZERO,
        };
        let is_stuck = self.faults.strikes(FaultKind::ToolStuck, draw);
        let ending = self.tool_ending(key.who);
        let draw = &mut self.actors[key.who].draw;
        let mut answer = content(request, ending, draw);
        let letters = draw.between(2_000, 20_000);
        if self.faults.strikes(FaultKind::LongResult, draw) {
            answer.extend(std::iter::repeat_n(
                'x',
                usize::try_from(letters).unwrap_or(0),
            ));
        }
        let delay = if is_stuck {
            Duration::from_secs(86_400)
        } else {
            draw.delay(1, 6_000)
        };
        let repeated = self.faults.strikes(FaultKind::RepeatedResult, draw);
        let again_after = draw.delay(0, 3_000);
        if let Some(server) = self.servers.get_mut(&key) {
            server.running.insert(effect);
        }
        let at = self.now.after(delay);
        let event = Event::ToolFinished {
            effect,
            result: result(answer, ending),
        };
        self.queue.plan(
            at,
            Item::Deliver {
                key,
                event,
                from: From::Tool { is_stray: false },
            },
        );
        if repeated {
            let event = Event::ToolFinished {
                effect,
                result: result("Once more.".to_owned(), ToolEnding::Succeeded),
            };
            self.queue.plan(
                at.after(again_after),
                Item::Deliver {
                    key,
                    event,
                    from: From::Tool { is_stray: true },
                },
            );
        }
    }

    fn tool_ending(&mut self, who: usize) -> ToolEnding {
        let draw = &mut self.actors[who].draw;
        let fails = self.faults.strikes(FaultKind::ToolFails, draw);
        let faulty = self.faults.strikes(FaultKind::OperatorFault, draw);
        let failure = *draw.pick(&[ToolEnding::Failed, ToolEnding::Denied, ToolEnding::TimedOut]);
        match (faulty, fails) {
            (true, _) => ToolEnding::OperatorFault,
            (false, true) => failure,
            (false, false) => ToolEnding::Succeeded,
        }
    }

    fn stop_tool(&mut self, key: Key, effect: EffectId) {
        let draw = &mut self.actors[key.who].draw;
        let is_stuck = self.faults.strikes(FaultKind::ToolStuck, draw);
        let delay = if is_stuck {
            draw.delay(1_500, 10_000)
        } else {
            draw.delay(0, 400)
        };
        let result = ToolResult {
            content: Arc::from("It was cancelled."),
            ending: ToolEnding::Cancelled,
            duration: Duration::ZERO,
        };
        let event = Event::ToolFinished { effect, result };
        self.queue.plan(
            self.now.after(delay),
            Item::Deliver {
                key,
                event,
                from: From::Tool { is_stray: false },
            },
        );
    }

    fn set_timer(&mut self, key: Key, effect: EffectId, at: Timestamp) {
        let at = Timestamp::from_micros(at.micros().saturating_sub(self.clock)).max(self.now);
        self.queue.plan(
            at,
            Item::Deliver {
                key,
                event: Event::TimerFired { effect },
                from: From::Timer,
            },
        );
    }

    fn persist(&mut self, key: Key) -> Held<Performed> {
        if self
            .faults
            .strikes(FaultKind::StoreFails, &mut self.actors[key.who].draw)
        {
            return Ok(Performed::StoreFailed);
        }
        let change = self.change(key, What::Append);
        let reply = self.store.synced(change)?;
        let is_fenced = self.note_reply(key, &reply);
        Ok(if is_fenced {
            Performed::StoreFailed
        } else {
            Performed::Done
        })
    }

    fn finish(&mut self, key: Key, outcome: Outcome) -> Held {
        self.fold_is_live(key)?;
        *self.outcomes.entry(outcome.kind()).or_insert(0) += 1;
        let fails = self
            .faults
            .strikes(FaultKind::StoreFails, &mut self.actors[key.who].draw);
        let mut is_kept = false;
        if !fails {
            let change = self.change(key, What::Finish);
            let reply = self.store.synced(change)?;
            is_kept = !self.note_reply(key, &reply);
        }
        let is_current = self.actors[key.who].stretch == key.stretch;
        if let Some(server) = self.servers.get_mut(&key) {
            server.is_finished = true;
            // The engine closes what is open when it lets an AgentServer go.
            if let Some((_, reservation)) = server.call.take() {
                self.provider.dropped(&reservation, &mut self.draw);
            }
        }
        if is_current {
            self.has_ended(key.who, outcome, is_kept);
        }
        Ok(())
    }
}

/// What a tool returns: all different, but for the call that is made again and again.
fn content(request: &ToolRequest, ending: ToolEnding, draw: &mut Draw) -> String {
    let mut text = match ending {
        ToolEnding::Succeeded if &*request.input == r#"{"n":0}"# => {
            return "the same as ever".to_owned();
        }
        ToolEnding::Succeeded => format!(
            "{} of {}: {}",
            request.tool,
            request.call,
            draw.below(1_000_000)
        ),
        other => format!("{} of {} ended as {other:?}", request.tool, request.call),
    };
    if draw.happens(30) {
        text.extend(std::iter::repeat_n(LONG_LETTER, 40));
    }
    text
}
