//! The world of a seed: a clock that jumps from event to event, a store, a provider, tools, and invocations
//! that the real machines drive.
//!
//! It does what the engine does, without threads and without time: feeds events, performs effects, loses what
//! a crash would lose. What goes wrong is drawn from the seed; whether a rule was broken says the oracle.
//!
//! Invariant: nothing here depends on anything but the seed and the options.

mod books;
mod cast;
mod driver;
mod effects;
mod queue;
mod store;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{
    CancelReason, Event, Invocation, InvocationSpec, Outcome, OutcomeKind,
};
use otto_core::port::store::Entry;
use otto_core::{Timestamp, UtcDay};

use crate::chance::Draw;
use crate::faults::{FaultKind, Faults};
use crate::oracle::Oracle;
use crate::planted::{Plant, PlantedFault};
use crate::provider::Provider;
use crate::rule::{Held, Rule, require};
use crate::trace::Trace;
use crate::world::queue::Queue;
use crate::world::store::Store;

pub(crate) use cast::TOOLS;

/// One stretch of an invocation: the invocation, and how often it had been taken up before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) who: usize,
    pub(crate) stretch: u32,
}

/// What makes a world, beside its seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) planted: Option<PlantedFault>,
    pub(crate) without: BTreeSet<FaultKind>,
    pub(crate) invocations: Option<usize>,
}

pub(crate) struct World {
    seed: u64,
    now: Timestamp,
    /// What the engine's clock shows, minus `now`, in microseconds.
    clock: u64,
    /// The same of the store's clock.
    store_clock: u64,
    queue: Queue<Item>,
    pub(crate) store: Store,
    provider: Provider,
    pub(crate) faults: Faults,
    actors: Vec<Actor>,
    servers: BTreeMap<Key, Server>,
    oracle: Oracle,
    plant: Option<Plant>,
    pub(crate) trace: Trace,
    draw: Draw,
    is_killed: bool,
    /// How often each kind of outcome was told.
    pub(crate) outcomes: BTreeMap<OutcomeKind, u64>,
}

/// One invocation over all its stretches.
struct Actor {
    role: cast::Role,
    /// As it stands after raised limits.
    spec: Arc<InvocationSpec>,
    stretch: u32,
    life: Life,
    /// Counts plans to take it up; only the newest counts.
    ticket: u32,
    /// How often it may still be taken up after an end.
    resumptions_left: u32,
    outcome: Option<Outcome>,
    draw: Draw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It has not begun.
    Unborn,
    /// An AgentServer drives it.
    Running,
    /// Its process is dead, and it will be taken up again.
    Down,
    /// It has ended.
    Over,
    /// Its process is dead for good.
    Lost,
}

/// One AgentServer.
struct Server {
    machine: Invocation,
    epoch: u32,
    buffer: Vec<Entry>,
    next_sequence: u64,
    call: Option<(EffectId, ReservationId)>,
    /// Calls whose answers go on although they were dropped.
    haunting: BTreeSet<EffectId>,
    running: BTreeSet<EffectId>,
    frozen_until: Timestamp,
    is_fenced: bool,
    is_finished: bool,
    is_recovering: bool,
}

/// What is to come.
#[derive(Debug)]
enum Item {
    Begin(usize),
    TakeUp { who: usize, ticket: u32 },
    Deliver { key: Key, event: Event, from: From },
    Cancel { who: usize, reason: CancelReason },
    Kill,
    Lift,
    Shutdown,
    Sweep { who: usize },
    FaultsEnd,
}

/// Where an event comes from, and whether it arrives also when nobody waits for it.
#[derive(Debug, Clone, Copy)]
enum From {
    Store,
    Model { call: EffectId, is_stray: bool },
    Tool { is_stray: bool },
    Timer,
    Person,
}

/// BOUND: more steps than this for each invocation, and the world does not come to rest.
const MAX_STEPS_EACH: u64 = 20_000;
/// After this many steps for each invocation nothing goes wrong any more.
const FAULTY_STEPS_EACH: u64 = 250;

impl World {
    pub(crate) fn new(seed: u64, plan: &Plan) -> Self {
        let mut faults = Faults::draw(seed, &plan.without);
        let mut draw = Draw::stream(seed, 10, 0);
        let count = usize::try_from(*draw.pick(&[1, 3, 8, 16, 24, 32])).unwrap_or(1);
        let count = plan.invocations.unwrap_or(count);
        let now = Timestamp::EPOCH;
        let day = u64::from(UtcDay(20_780).0) * 86_400_000_000;
        let to_midnight = draw.between(1, 90) * 1_000_000;
        let clock = if faults.strikes(FaultKind::DayRollover, &mut draw) {
            day - to_midnight
        } else {
            day + 3_600_000_000
        };
        let roles = cast::cast(seed, Timestamp::from_micros(clock), count, &mut faults);
        let mut world = Self {
            seed,
            now,
            clock,
            store_clock: clock,
            queue: Queue::new(),
            store: Store::new(count),
            provider: Provider::new(seed),
            oracle: Oracle::new(count, faults.is_calm()),
            faults,
            actors: Vec::with_capacity(count),
            servers: BTreeMap::new(),
            plant: plan.planted.map(|fault| Plant::new(seed, fault)),
            trace: Trace::new(),
            draw,
            is_killed: false,
            outcomes: BTreeMap::new(),
        };
        for (who, role) in roles.into_iter().enumerate() {
            world.enters(who, role);
        }
        world.plan_troubles();
        world
    }

    fn enters(&mut self, who: usize, role: cast::Role) {
        let begins = self.now.after(role.begins_after);
        self.queue.plan(begins, Item::Begin(who));
        if let Some(after) = role.cancelled_after {
            let reason = CancelReason::User;
            self.queue
                .plan(begins.after(after), Item::Cancel { who, reason });
        }
        self.actors.push(Actor {
            spec: role.spec.clone(),
            role,
            stretch: 0,
            life: Life::Unborn,
            ticket: 0,
            resumptions_left: 4,
            outcome: None,
            draw: Draw::stream(self.seed, 11, who as u64),
        });
    }

    /// Lets everything happen that will happen.
    pub(crate) fn run(&mut self) -> Held {
        let most = MAX_STEPS_EACH * self.actors.len() as u64;
        let faulty = FAULTY_STEPS_EACH * self.actors.len() as u64;
        while let Some((at, item)) = self.queue.next() {
            self.now = self.now.max(at);
            self.happens(item)?;
            require(self.trace.steps() < most, Rule::EndsInTime, || {
                format!("{most} steps and no rest")
            })?;
            if self.trace.steps() > faulty && self.faults.are_active() {
                self.faults.stop();
            }
        }
        self.has_come_to_rest()
    }

    fn happens(&mut self, item: Item) -> Held {
        match item {
            Item::Begin(who) => self.begins(who),
            Item::TakeUp { who, ticket } => self.is_taken_up(who, ticket),
            Item::Deliver { key, event, from } => self.arrives(key, event, from),
            Item::Cancel { who, reason } => self.is_cancelled(who, reason),
            Item::Kill => self.is_killed_by_all_means(),
            Item::Lift => {
                self.is_killed = false;
                Ok(())
            }
            Item::Shutdown => self.shuts_down(),
            Item::Sweep { who } => self.sweeps(who),
            Item::FaultsEnd => {
                self.faults.stop();
                Ok(())
            }
        }
    }

    /// What holds when nothing happens any more.
    fn has_come_to_rest(&mut self) -> Held {
        self.oracle.everything_ended()?;
        for (who, actor) in self.actors.iter().enumerate() {
            let is_at_rest = matches!(actor.life, Life::Over | Life::Lost);
            require(is_at_rest, Rule::EndsInTime, || {
                format!("#{who} is left {:?}", actor.life)
            })?;
        }
        let lost = |id: &ReservationId| {
            let owner = self
                .actors
                .iter()
                .find(|actor| actor.spec.invocation == id.invocation);
            owner.is_some_and(|actor| actor.life == Life::Lost)
        };
        let forgotten = self.store.books().open().find(|id| !lost(id));
        require(forgotten.is_none(), Rule::SettledOnce, || {
            format!("{forgotten:?} was never settled")
        })?;
        for who in 0..self.actors.len() {
            self.sweeps(who)?;
        }
        let held = self.store.books().held().next();
        require(held.is_none(), Rule::IdleHoldsNothing, || {
            format!("{held:?}")
        })?;
        self.truth_is_covered()
    }

    /// What the engine's clock shows.
    fn engine_time(&self) -> Timestamp {
        self.now.after(Duration::from_micros(self.clock))
    }

    /// The day of the store's clock.
    fn today(&self) -> UtcDay {
        self.now
            .after(Duration::from_micros(self.store_clock))
            .day()
    }

    /// Every bill of the provider is covered by what is held or charged.
    fn truth_is_covered(&self) -> Held {
        self.provider
            .bills()
            .try_for_each(|(id, bill)| self.is_covered(id, bill))
    }

    fn covers(&self, id: &ReservationId) -> Held {
        self.provider
            .bill(id)
            .map_or(Ok(()), |bill| self.is_covered(id, bill))
    }

    fn is_covered(&self, id: &ReservationId, bill: &crate::provider::Bill) -> Held {
        let covered = self.store.books().covered(id);
        let holds = bill.is_disobedient
            || bill.picodollars <= covered.picodollars && bill.tokens <= covered.tokens;
        require(holds, Rule::TruthCovered, || {
            format!("{id}: {bill:?} is billed, {covered:?} is covered")
        })
    }

    /// Calls with side effects that have begun.
    pub(crate) fn executions(&self) -> u64 {
        self.oracle.executions()
    }

    pub(crate) fn invocations(&self) -> usize {
        self.actors.len()
    }
}
