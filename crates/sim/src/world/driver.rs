//! Feeding one AgentServer: journal, step, judge, perform; and dying at any point of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use otto_core::invocation::{CancelReason, Effect, Event, ToolEnding, ToolResult};
use otto_core::journal;
use otto_core::port::store::Entry;

use crate::faults::FaultKind;
use crate::oracle::Circumstances;
use crate::planted::PlantedFault;
use crate::rule::{Broken, Held, Rule, require};
use crate::world::{From, Item, Key, Life, World};

/// How performing an effect went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Performed {
    Done,
    /// The store could not keep what had to be kept: nothing after it may be performed.
    StoreFailed,
}

/// What no seed decides: only for the planted fault that breaks determinism.
static CHANCE: AtomicU64 = AtomicU64::new(0);

/// One step in this many is compared with a fold of the journal.
const FOLD_ONE_IN: u64 = 40;

impl World {
    /// An event reaches its AgentServer, if that still is and still waits for it.
    pub(super) fn arrives(&mut self, key: Key, event: Event, from: From) -> Held {
        let Some(server) = self.servers.get_mut(&key) else {
            return Ok(());
        };
        if server.frozen_until > self.now {
            let until = server.frozen_until;
            self.queue.plan(until, Item::Deliver { key, event, from });
            return Ok(());
        }
        let is_awaited = match from {
            From::Model { call, is_stray } => {
                is_stray
                    || server.haunting.contains(&call)
                    || server.call.is_some_and(|(open, _)| open == call)
            }
            From::Tool { is_stray } => {
                is_stray
                    || matches!(event, Event::ToolFinished { effect, .. } if server.running.remove(&effect))
            }
            From::Store | From::Timer | From::Person => true,
        };
        if !is_awaited {
            return Ok(());
        }
        if let Event::ModelFinished { effect, .. } | Event::ModelFailed { effect, .. } = &event
            && let Some((open, reservation)) = server.call
            && open == *effect
        {
            server.call = None;
            self.provider.read(&reservation);
        }
        if self.stands_still(key) {
            self.queue.plan(
                self.now,
                Item::Deliver {
                    key,
                    event,
                    from: From::Person,
                },
            );
            return Ok(());
        }
        self.feed(key, event)
    }

    /// Feeds one event and performs what the machine wants then.
    pub(super) fn feed(&mut self, key: Key, event: Event) -> Held {
        let at = self.engine_time();
        let is_careless = self.plants(PlantedFault::CarelessCodec);
        let is_forgotten = matches!(
            event,
            Event::BlockReceived { .. } | Event::ToolFinished { .. }
        ) && self.plants(PlantedFault::ForgottenEntry);
        let Some(server) = self.servers.get_mut(&key) else {
            return Ok(());
        };
        if server.is_finished {
            let before = server.machine.clone();
            let effects = server.machine.step(at, event.clone());
            return require(
                effects.is_empty() && server.machine == before,
                Rule::OneFinish,
                || {
                    format!(
                        "#{} reacts to {event:?} after its end: {effects:?}",
                        key.who
                    )
                },
            );
        }
        let mut line = journal::encode(at, &event);
        if is_careless {
            let careless = line.replace("\"index\":1", "\"index\":0");
            line = Arc::from(careless.replace("result", ""));
        }
        let read = journal::decode(&line).map_err(|error| Broken {
            rule: Rule::CodecIsExact,
            detail: format!("{line}: {error}"),
        })?;
        require(read == (at, event), Rule::CodecIsExact, || line.to_string())?;
        let (_, event) = read;
        if self.plants(PlantedFault::NeedlessStop) {
            self.tell(key, Event::CancelRequested(CancelReason::User));
        }
        assert!(
            !self.plants(PlantedFault::PanickingMachine),
            "a planted panic"
        );
        let at_chance = self.plants(PlantedFault::UnstableWorld)
            && self.draw.below(2)
                == CHANCE
                    .fetch_add(1, Ordering::Relaxed)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    >> 63;
        if at_chance {
            self.trace
                .note(self.now, key.who, "what only this run sees");
        }
        self.trace.event(at, key.who, &line, &event);
        self.oracle.hears(key, at, &event);
        let Some(server) = self.servers.get_mut(&key) else {
            return Ok(());
        };
        if !is_forgotten {
            server.buffer.push(Entry {
                sequence: server.next_sequence,
                payload: line,
            });
            server.next_sequence += 1;
        }
        let mut effects = server.machine.step(at, event.clone());
        if let Some(plant) = &mut self.plant {
            effects = plant.change(key, &event, &server.machine, effects);
        }
        if self.draw.below(FOLD_ONE_IN) == 0 {
            self.fold_is_live(key)?;
        }
        self.perform_all(key, effects)
    }

    fn perform_all(&mut self, key: Key, effects: Vec<Effect>) -> Held {
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            if self.dies_before(key, &effect)? {
                return Ok(());
            }
            let at = self.circumstances(key, &effect);
            self.trace.effect(at.at, key.who, &effect);
            self.oracle.judges(key, &effect, at)?;
            if self.perform(key, effect)? == Performed::StoreFailed {
                let is_fenced = self
                    .servers
                    .get(&key)
                    .is_some_and(|server| server.is_fenced);
                let reason = if is_fenced {
                    CancelReason::Fenced
                } else {
                    CancelReason::StoreFailed
                };
                self.tell(key, Event::CancelRequested(reason));
                // As the engine does: what must not be performed is answered with no.
                for left_out in effects.by_ref() {
                    self.answer_unperformed(key, left_out)?;
                }
            }
        }
        if let Some(server) = self.servers.get_mut(&key) {
            server.is_recovering = false;
        }
        Ok(())
    }

    /// Answers an effect that must not be performed because the store failed before it.
    fn answer_unperformed(&mut self, key: Key, effect: Effect) -> Held {
        let at = self.circumstances(key, &effect);
        match effect {
            Effect::RunTool { id, .. } => {
                let result = ToolResult {
                    content: Arc::from(
                        "The call was not run: its intent could not be made durable.",
                    ),
                    ending: ToolEnding::Cancelled,
                    duration: std::time::Duration::ZERO,
                };
                self.tell(key, Event::ToolFinished { effect: id, result });
            }
            Effect::Reserve { id, .. } => {
                let reason = CancelReason::StoreFailed;
                self.oracle.judges(key, &effect, at)?;
                self.tell(key, Event::ReservationRefused { effect: id, reason });
            }
            Effect::StopModel { .. } | Effect::StopTool { .. } | Effect::Finish { .. } => {
                self.trace.effect(at.at, key.who, &effect);
                self.oracle.judges(key, &effect, at)?;
                self.perform(key, effect)?;
            }
            Effect::CallModel { .. }
            | Effect::Settle { .. }
            | Effect::SetTimer { .. }
            | Effect::Persist => {}
        }
        Ok(())
    }

    /// An event that the AgentServer makes itself: next in its inbox.
    pub(super) fn tell(&mut self, key: Key, event: Event) {
        self.queue.plan(
            self.now,
            Item::Deliver {
                key,
                event,
                from: From::Person,
            },
        );
    }

    fn circumstances(&self, key: Key, effect: &Effect) -> Circumstances {
        let server = self.servers.get(&key);
        let is_stale = server.is_some_and(|server| server.epoch != self.store.epoch(key.who));
        let is_held = match effect {
            Effect::CallModel { request, .. } => {
                let books = self.store.books();
                // A stale owner that wakes up may send a call whose hold was charged in full meanwhile.
                books.is_unsettled(&request.reservation)
                    || is_stale && books.is_charged_in_full(&request.reservation)
            }
            _ => false,
        };
        Circumstances {
            at: self.engine_time(),
            is_durable: self.store.is_durable(key.who)
                && server.is_some_and(|server| server.buffer.is_empty()),
            is_held,
            is_stale,
        }
    }

    /// Whether the AgentServer, or all of Otto, dies before it performs this effect.
    fn dies_before(&mut self, key: Key, effect: &Effect) -> Held<bool> {
        let Some(server) = self.servers.get(&key) else {
            return Ok(true);
        };
        let is_recovering = server.is_recovering;
        let actor = &self.actors[key.who];
        let is_current = actor.life == Life::Running && actor.stretch == key.stretch;
        let draw = &mut self.actors[key.who].draw;
        let crashes = self.faults.strikes(FaultKind::Crash, draw);
        let again = self
            .faults
            .strikes_if(is_recovering, FaultKind::CrashInRecovery, draw);
        let panics = self.faults.strikes_if(is_current, FaultKind::Panic, draw);
        if crashes || again {
            self.trace.note(
                self.now,
                key.who,
                format!("Otto dies before {}", name(effect)),
            );
            self.crashes()?;
            return Ok(true);
        }
        if panics {
            self.trace.note(
                self.now,
                key.who,
                format!("it panics before {}", name(effect)),
            );
            self.panics(key);
            return Ok(true);
        }
        Ok(false)
    }

    /// Folding what was journaled gives the machine as it is.
    pub(super) fn fold_is_live(&self, key: Key) -> Held {
        let Some(server) = self.servers.get(&key) else {
            return Ok(());
        };
        if server.is_fenced || server.epoch != self.store.epoch(key.who) {
            // Its journal goes on elsewhere.
            return Ok(());
        }
        let journal = self.store.journal(key.who).iter().chain(&server.buffer);
        let entries: Vec<Entry> = journal.cloned().collect();
        let folded = journal::fold(&entries).map_err(|error| Broken {
            rule: Rule::FoldIsLive,
            detail: format!("#{}: {error}", key.who),
        })?;
        require(folded == server.machine, Rule::FoldIsLive, || {
            format!(
                "#{}\nlive:   {:?}\nfolded: {folded:?}",
                key.who, server.machine
            )
        })
    }
}

const fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Reserve { .. } => "Reserve",
        Effect::Settle { .. } => "Settle",
        Effect::CallModel { .. } => "CallModel",
        Effect::StopModel { .. } => "StopModel",
        Effect::RunTool { .. } => "RunTool",
        Effect::StopTool { .. } => "StopTool",
        Effect::SetTimer { .. } => "SetTimer",
        Effect::Persist => "Persist",
        Effect::Finish { .. } => "Finish",
    }
}
