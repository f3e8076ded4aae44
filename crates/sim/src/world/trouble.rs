//! Troubles and what comes after them: crashes, panics, frozen owners, takeovers, kill switch, shutdown; and
//! the ways an invocation begins, is taken up again, or is given up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::invocation::{
    CancelReason, Event, Invocation, InvocationSpec, Outcome, Resumption, UnknownCallDecision,
};
use otto_core::ledger::{Amount, ScopeLimits};
use otto_core::{Money, Timestamp, journal};

use crate::faults::FaultKind;
use crate::rule::{Broken, Held, Rule};
use crate::world::store::{Change, What};
use crate::world::{From, Item, Key, Life, Server, World};

impl World {
    /// Troubles that come from outside, each at most a few times.
    pub(super) fn plan_troubles(&mut self) {
        let start = self.now;
        for (kind, item) in [
            (FaultKind::KillSwitch, Trouble::Kill),
            (FaultKind::Shutdown, Trouble::Shutdown),
        ] {
            for _ in 0..3 {
                let strikes = self.faults.strikes(kind, &mut self.draw);
                let at = start.after(self.draw.delay(0, 240_000));
                let lifted = at.after(self.draw.delay(100, 60_000));
                match (strikes, &item) {
                    (false, _) => {}
                    (true, Trouble::Kill) => {
                        self.queue.plan(at, Item::Kill);
                        self.queue.plan(lifted, Item::Lift);
                    }
                    (true, Trouble::Shutdown) => self.queue.plan(at, Item::Shutdown),
                }
            }
        }
        let end = start.after(self.draw.delay(120_000, 1_200_000));
        self.queue.plan(end, Item::FaultsEnd);
    }

    pub(super) fn begins(&mut self, who: usize) -> Held {
        if self.is_killed {
            self.queue
                .plan(self.now.after(Duration::from_secs(20)), Item::Begin(who));
            return Ok(());
        }
        let spec = self.actors[who].spec.clone();
        let key = self.serve(who, Invocation::default(), 1, spec.clone(), None);
        self.feed(key, Event::Started(spec))
    }

    /// A new AgentServer for an invocation.
    fn serve(
        &mut self,
        who: usize,
        machine: Invocation,
        next_sequence: u64,
        spec: Arc<InvocationSpec>,
        decision: Option<UnknownCallDecision>,
    ) -> Key {
        let actor = &mut self.actors[who];
        actor.stretch += 1;
        actor.life = Life::Running;
        let key = Key {
            who,
            stretch: actor.stretch,
        };
        let server = Server {
            machine,
            epoch: self.store.epoch(who),
            buffer: Vec::new(),
            next_sequence,
            call: None,
            haunting: BTreeSet::new(),
            running: BTreeSet::new(),
            frozen_until: Timestamp::EPOCH,
            is_fenced: false,
            is_finished: false,
            is_recovering: next_sequence > 1,
        };
        self.servers.insert(key, server);
        let at = self.engine_time();
        self.oracle.begins(key, at, spec, decision);
        key
    }

    /// An invocation whose process died, or that has ended, goes on from its journal.
    pub(super) fn is_taken_up(&mut self, who: usize, ticket: u32) -> Held {
        if self.actors[who].ticket != ticket {
            return Ok(());
        }
        if self.is_killed {
            self.plan_take_up(who, Duration::from_secs(20));
            return Ok(());
        }
        let entries = self.store.journal(who).to_vec();
        if entries.is_empty() {
            // It had not begun: nothing was paid and nothing was done.
            self.actors[who].life = Life::Lost;
            return Ok(());
        }
        let machine = journal::fold(&entries).map_err(|error| Broken {
            rule: Rule::FoldIsLive,
            detail: format!("#{who} cannot be folded: {error}"),
        })?;
        let Some(old) = machine.spec().cloned() else {
            return Ok(());
        };
        let epoch = self.store.epoch(who);
        self.store.synced(Change {
            who,
            epoch,
            entries: Vec::new(),
            what: What::Claim,
        })?;
        let awaits_person = machine.outcome()
            == Some(&Outcome::Cancelled {
                reason: CancelReason::AwaitingPerson,
            });
        let actor = &mut self.actors[who];
        let decision = match actor.draw.below(4) {
            0 if !awaits_person => Some(UnknownCallDecision::TellModel),
            1 if awaits_person => Some(UnknownCallDecision::TellModel),
            _ if awaits_person => Some(UnknownCallDecision::RunAgain),
            _ => None,
        };
        let spec = Arc::new(raised(
            &old,
            actor.outcome.take().as_ref(),
            actor.draw.between(1, 4),
        ));
        actor.spec = spec.clone();
        let last = entries.last().map_or(0, |entry| entry.sequence);
        let resumption = Resumption {
            limits: spec.limits.clone(),
            scopes: spec.scopes.clone(),
            decision,
        };
        let key = self.serve(who, machine, last + 1, spec, decision);
        self.feed(key, Event::Resumed(Arc::new(resumption)))
    }

    pub(super) fn plan_take_up(&mut self, who: usize, after: Duration) {
        let actor = &mut self.actors[who];
        actor.ticket += 1;
        let ticket = actor.ticket;
        self.queue
            .plan(self.now.after(after), Item::TakeUp { who, ticket });
    }

    /// An AgentServer has told its end; `is_kept` says that the store has it, too.
    pub(super) fn has_ended(&mut self, who: usize, outcome: Outcome, is_kept: bool) {
        let actor = &mut self.actors[who];
        actor.life = Life::Over;
        actor.outcome = Some(outcome.clone());
        let raises = self.faults.strikes(FaultKind::Raise, &mut actor.draw);
        let after = actor.draw.delay(100, 90_000);
        if !is_kept {
            // For the store it runs: the next start finds it.
            actor.life = Life::Down;
            actor.outcome = None;
            self.plan_take_up(who, after);
            return;
        }
        let goes_on = match outcome {
            // Only the telling is repeated.
            Outcome::Completed { .. } | Outcome::Refused { .. } => actor.draw.happens(20),
            Outcome::Cancelled { reason } => match reason {
                CancelReason::Shutdown
                | CancelReason::KillSwitch
                | CancelReason::StoreFailed
                | CancelReason::AwaitingPerson => actor.draw.happens(850),
                CancelReason::User => raises,
                CancelReason::Fenced => false,
            },
            Outcome::BudgetExhausted { .. }
            | Outcome::DeadlineExceeded { .. }
            | Outcome::Failed { .. } => raises,
        };
        if goes_on && actor.resumptions_left > 0 {
            actor.resumptions_left -= 1;
            self.plan_take_up(who, after);
        }
    }

    /// Otto dies: every AgentServer, every connection, every tool, and what was not synced.
    pub(super) fn crashes(&mut self) -> Held {
        for (key, server) in std::mem::take(&mut self.servers) {
            self.drops(key, &server);
        }
        self.store.crash(&mut self.draw)?;
        if self.faults.strikes(FaultKind::ClockJump, &mut self.draw) {
            let jump = self.draw.between(0, 7_200_000_000);
            self.clock = self.clock + 3_600_000_000 - jump;
        }
        let downtime = self.draw.delay(200, 60_000);
        for who in 0..self.actors.len() {
            if !matches!(self.actors[who].life, Life::Running | Life::Down) {
                continue;
            }
            let actor = &mut self.actors[who];
            actor.life = Life::Down;
            if self.faults.strikes(FaultKind::Abandon, &mut actor.draw) {
                actor.life = Life::Lost;
                actor.ticket += 1;
                continue;
            }
            let is_swept = actor.draw.happens(300);
            let after = downtime + actor.draw.delay(0, 500);
            if is_swept {
                self.queue
                    .plan(self.now.after(downtime / 2), Item::Sweep { who });
            }
            self.plan_take_up(who, after);
        }
        self.truth_is_covered()
    }

    /// One AgentServer dies and is restarted; the store lives on.
    pub(super) fn panics(&mut self, key: Key) {
        if let Some(server) = self.servers.remove(&key) {
            self.drops(key, &server);
        }
        let actor = &mut self.actors[key.who];
        actor.life = Life::Down;
        let after = actor.draw.delay(0, 50);
        self.plan_take_up(key.who, after);
    }

    fn drops(&mut self, key: Key, server: &Server) {
        if let Some((_, reservation)) = server.call {
            self.provider.dropped(&reservation, &mut self.draw);
        }
        self.oracle.ends(key);
    }

    /// Whether the AgentServer stands still now, taken for dead or even replaced by another.
    pub(super) fn stands_still(&mut self, key: Key) -> bool {
        let actor = &mut self.actors[key.who];
        let freezes = self.faults.strikes(FaultKind::Freeze, &mut actor.draw);
        let is_replaced = self.faults.strikes(FaultKind::Takeover, &mut actor.draw);
        let time = actor.draw.delay(5_000, 120_000);
        let Some(server) = self.servers.get_mut(&key) else {
            return false;
        };
        if !(freezes || is_replaced)
            || server.is_finished
            || actor.stretch != key.stretch
            || actor.life != Life::Running
        {
            return false;
        }
        server.frozen_until = self.now.after(time);
        self.trace
            .note(self.now, key.who, format!("it stands still for {time:?}"));
        self.oracle.stands_still(key, time);
        self.queue
            .plan(self.now.after(time / 4), Item::Sweep { who: key.who });
        if is_replaced {
            self.plan_take_up(key.who, time / 2);
        }
        true
    }

    /// Somebody takes the owner of these reservations for dead: their holds are charged.
    pub(super) fn sweeps(&mut self, who: usize) -> Held {
        let invocation = self.actors[who].spec.invocation;
        let open = self
            .store
            .books()
            .open()
            .filter(|id| id.invocation == invocation);
        let open: Vec<_> = open.copied().collect();
        if open.is_empty() {
            return Ok(());
        }
        self.trace.note(self.now, who, format!("swept: {open:?}"));
        let epoch = self.store.epoch(who);
        self.store.synced(Change {
            who,
            epoch,
            entries: Vec::new(),
            what: What::Sweep(open),
        })?;
        self.truth_is_covered()
    }

    pub(super) fn is_cancelled(&mut self, who: usize, reason: CancelReason) -> Held {
        let key = Key {
            who,
            stretch: self.actors[who].stretch,
        };
        self.arrives(key, Event::CancelRequested(reason), From::Person)
    }

    pub(super) fn is_killed_by_all_means(&mut self) -> Held {
        self.is_killed = true;
        self.all_are_told(CancelReason::KillSwitch)
    }

    pub(super) fn shuts_down(&mut self) -> Held {
        self.all_are_told(CancelReason::Shutdown)
    }

    fn all_are_told(&mut self, reason: CancelReason) -> Held {
        for who in 0..self.actors.len() {
            if self.actors[who].life == Life::Running {
                self.is_cancelled(who, reason)?;
            }
        }
        Ok(())
    }
}

enum Trouble {
    Kill,
    Shutdown,
}

/// The specification with the limit raised that was in the way.
fn raised(spec: &InvocationSpec, outcome: Option<&Outcome>, factor: u64) -> InvocationSpec {
    let mut spec = spec.clone();
    let small = u32::try_from(factor).unwrap_or(1);
    match outcome {
        Some(Outcome::BudgetExhausted { denial }) => match denial.limit {
            Amount::Turns(_) => {
                spec.limits.turns = Limit::new(spec.limits.turns.value * small, "raised")
            }
            Amount::Cost(_) | Amount::Tokens(_) => {
                for limits in &mut spec.scopes {
                    raise(limits, factor);
                }
            }
        },
        Some(Outcome::DeadlineExceeded { .. }) => {
            spec.limits.time = Limit::new(spec.limits.time.value * small, "raised");
        }
        Some(Outcome::Failed { .. }) => spec.limits.max_output_tokens *= factor,
        Some(Outcome::Completed { .. } | Outcome::Cancelled { .. } | Outcome::Refused { .. })
        | None => {}
    }
    spec
}

fn raise(limits: &mut ScopeLimits, factor: u64) {
    if let Some(cost) = &mut limits.cost {
        let raised = cost.value.checked_mul(factor).unwrap_or(Money::MAX);
        *cost = Limit::new(raised, "raised");
    }
    if let Some(tokens) = &mut limits.tokens {
        *tokens = Limit::new(tokens.value.saturating_mul(factor), "raised");
    }
}
