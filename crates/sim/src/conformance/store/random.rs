//! Random histories against a model: three nodes, stale leases, lost processes, jumping clocks, a kill
//! switch, limits that bind.
//!
//! The model is written a second time, as plainly as possible, from the words of the port. It predicts the
//! answer of every call, and what every account and sum must be at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use otto_core::ledger::{
    LookAhead, ReserveOutcome, ReserveRequest, Scope, ScopeKey, SettleOutcome, Settlement,
};
use otto_core::port::store::{
    ClaimOutcome, Durability, KillRow, Lease, Outcome, ReserveCall, ReserveReply, SettleReply,
    SubmitOutcome,
};
use otto_core::store_rules::StoreClock;
use otto_core::{Timestamp, UtcDay};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;
use crate::conformance::draw::Draw;

pub(super) const CASES: &[Entry] = &[
    ("random history 1", |world| history(world, 1, STEPS)),
    ("random history 2", |world| history(world, 2, STEPS)),
    ("random history 3", |world| history(world, 3, STEPS)),
    ("random history 4", |world| history(world, 4, STEPS)),
];

const STEPS: u32 = 300;
const NODES: usize = 3;
const SESSIONS: u64 = 3;
const INVOCATIONS: u64 = 9;
const DAY_LIMIT: u64 = 30 * HOLD;
const SESSION_LIMIT: u64 = 12 * HOLD;

#[derive(Default)]
struct Model {
    day: u32,
    killed: bool,
    /// Session: node, epoch, end of the lease.
    sessions: BTreeMap<u8, (Option<usize>, u64, Timestamp)>,
    /// Invocation: session, entries, end (whether resumable).
    invocations: BTreeMap<u8, (u8, u64, Option<bool>)>,
    reservations: BTreeMap<(u8, u64), Held>,
}

struct Held {
    state: State,
    /// Charged: money, tokens; the hold while it is open.
    amount: (u64, u64),
    scopes: Vec<Scope>,
    day: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Forfeited,
    Settled,
    Released,
}

impl Model {
    fn holds(&self, lease: &Lease, session_number: u8, names: &[Node]) -> bool {
        self.sessions
            .get(&session_number)
            .is_some_and(|(node, epoch, _)| {
                *epoch == lease.epoch && node.is_some_and(|node| names[node].name == lease.node)
            })
    }

    fn in_scope(&self, scope: &Scope) -> (u64, u64) {
        self.reservations
            .values()
            .filter(|held| held.scopes.contains(scope))
            .fold((0, 0), |(spent, open), held| match held.state {
                State::Open => (spent, open + held.amount.0),
                State::Forfeited | State::Settled => (spent + held.amount.0, open),
                State::Released => (spent, open),
            })
    }

    fn take(&mut self, session_number: u8, node: usize, now: Timestamp) -> Result<u64, usize> {
        let taken = match self.sessions.get(&session_number) {
            None => 1,
            Some((Some(holder), epoch, _)) if *holder == node => *epoch,
            Some((Some(holder), _, until)) if now < *until => {
                let holder = *holder;
                let capped = (*until).min(now.after(TTL));
                if let Some((_, _, until)) = self.sessions.get_mut(&session_number) {
                    *until = capped;
                }
                return Err(holder);
            }
            Some((_, epoch, _)) => epoch + 1,
        };
        self.sessions
            .insert(session_number, (Some(node), taken, now.after(TTL)));
        Ok(taken)
    }
}

/// One random history of `steps` calls.
///
/// # Panics
/// When the store answers otherwise than the model; the message has the seed and the step.
pub fn history(world: &dyn World, seed: u64, steps: u32) {
    let mut draw = Draw::new(seed);
    let mut nodes: Vec<Node> = (0..NODES)
        .map(|number| open(world, &format!("node {number}")))
        .collect();
    let mut model = Model::default();
    let mut leases: Vec<(u8, Lease)> = Vec::new();
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        let node = usize::try_from(draw.below(NODES as u64)).expect("few nodes");
        let number = u8::try_from(draw.below(INVOCATIONS)).expect("few invocations");
        let session_number = number % u8::try_from(SESSIONS).expect("few sessions");
        let now = world.clock().now();
        match draw.below(100) {
            0..=9 => {
                let expected = expect_submit(&mut model, node, number, session_number, now);
                let outcome = nodes[node].submit(submission(&nodes[node], session_number, number));
                check_submit(&outcome, &expected, &nodes, &context);
                if let SubmitOutcome::Accepted(lease) = outcome {
                    leases.push((session_number, lease));
                }
            }
            10..=15 if model.sessions.contains_key(&session_number) => {
                let expected = model.take(session_number, node, now);
                match (nodes[node].claim(session_number), expected) {
                    (ClaimOutcome::Claimed(lease), Ok(epoch)) if lease.epoch == epoch => {
                        leases.push((session_number, lease))
                    }
                    (ClaimOutcome::Held { node }, Err(holder)) if node == nodes[holder].name => {}
                    (outcome, expected) => {
                        panic!("{context}: claim: {outcome:?}, expected {expected:?}")
                    }
                }
            }
            16..=75 if !leases.is_empty() => {
                // Mostly the newest lease of a session, sometimes a stale one.
                let (session_number, lease) = if draw.below(5) == 0 {
                    draw.pick(&leases).clone()
                } else {
                    let (wanted, _) = draw.pick(&leases).clone();
                    leases
                        .iter()
                        .rev()
                        .find(|(session_number, _)| *session_number == wanted)
                        .cloned()
                        .expect("it is there")
                };
                let of_session: Vec<u8> = model
                    .invocations
                    .iter()
                    .filter(|(_, (owner, _, _))| *owner == session_number)
                    .map(|(number, _)| *number)
                    .collect();
                if let Some(number) = (!of_session.is_empty()).then(|| *draw.pick(&of_session)) {
                    let holds = model.holds(&lease, session_number, &nodes);
                    let call = Call {
                        nodes: &nodes,
                        node,
                        lease,
                        session_number,
                        number,
                        holds,
                        now,
                        context: &context,
                    };
                    call.make(&mut model, &mut draw);
                }
            }
            76..=81 => {
                let expected = expect_sweep(&mut model, now);
                assert_eq!(nodes[node].sweep(), expected, "{context}: sweep");
            }
            82..=87 => {
                let seconds = *draw.pick(&[1, 10, 29, 31, 3_600, 90_000]);
                world.clock().advance(Duration::from_secs(seconds));
            }
            88 => {
                let back = *draw.pick(&[5, 40, 100_000]);
                world.clock().set(Timestamp::from_micros(
                    now.micros().saturating_sub(back * 1_000_000),
                ));
            }
            89..=92 => {
                // A process ends and another of the same name begins. A store may end the leases of a process
                // that it knows to be dead, or let them run out; they are still the name's own, and renewed.
                let name = nodes.remove(node).name;
                nodes.insert(
                    node,
                    Node {
                        store: world.open(&name),
                        name,
                    },
                );
                let own: Vec<(u8, Lease)> = leases
                    .iter()
                    .filter(|(session_number, lease)| {
                        lease.node == nodes[node].name
                            && model.holds(lease, *session_number, &nodes)
                    })
                    .cloned()
                    .collect();
                for (session_number, lease) in own {
                    assert_eq!(
                        nodes[node].heartbeat(&lease),
                        Outcome::Done,
                        "{context}: renew"
                    );
                    if let Some((_, _, until)) = model.sessions.get_mut(&session_number) {
                        *until = now.after(TTL);
                    }
                }
            }
            93..=95 => {
                model.killed = !model.killed;
                let row = model.killed.then(|| KillRow {
                    reason: std::sync::Arc::from("drawn"),
                    at: now,
                });
                block_on(nodes[node].store.set_kill(row)).expect("set the kill switch");
            }
            _ => check_totals(&model, &nodes[node], &context),
        }
    }
    check_totals(&model, &nodes[0], &format!("seed {seed}, at the end"));
}

#[derive(Debug)]
enum Submitted {
    Epoch(u64),
    Ended,
    Busy(usize),
    Killed,
}

fn expect_submit(
    model: &mut Model,
    node: usize,
    number: u8,
    session_number: u8,
    now: Timestamp,
) -> Submitted {
    if let Some((_, _, Some(_))) = model.invocations.get(&number) {
        return Submitted::Ended;
    }
    if model.killed {
        return Submitted::Killed;
    }
    match model.take(session_number, node, now) {
        Err(holder) => Submitted::Busy(holder),
        Ok(epoch) => {
            model
                .invocations
                .entry(number)
                .or_insert((session_number, 0, None));
            Submitted::Epoch(epoch)
        }
    }
}

fn check_submit(outcome: &SubmitOutcome, expected: &Submitted, nodes: &[Node], context: &str) {
    let fits = match (outcome, expected) {
        (SubmitOutcome::Accepted(lease), Submitted::Epoch(epoch)) => lease.epoch == *epoch,
        (SubmitOutcome::Duplicate(_), Submitted::Ended)
        | (SubmitOutcome::Killed(_), Submitted::Killed) => true,
        (SubmitOutcome::SessionBusy { node }, Submitted::Busy(holder)) => {
            *node == nodes[*holder].name
        }
        _ => false,
    };
    assert!(
        fits,
        "{context}: submit: {outcome:?}, expected {expected:?}"
    );
}

fn expect_sweep(model: &mut Model, now: Timestamp) -> u64 {
    for (_, _, until) in model.sessions.values_mut() {
        *until = (*until).min(now.after(TTL));
    }
    let (sessions, invocations) = (&model.sessions, &model.invocations);
    let mut count = 0;
    for ((number, _), held) in &mut model.reservations {
        let (session_number, _, end) = invocations[number];
        let lapsed = end.is_some()
            || sessions[&session_number].0.is_none()
            || sessions[&session_number].2 <= now;
        if held.state == State::Open && lapsed {
            held.state = State::Forfeited;
            count += 1;
        }
    }
    count
}

/// A call under a lease that may be stale.
struct Call<'a> {
    nodes: &'a [Node],
    node: usize,
    lease: Lease,
    session_number: u8,
    number: u8,
    holds: bool,
    now: Timestamp,
    context: &'a str,
}

impl Call<'_> {
    fn make(&self, model: &mut Model, draw: &mut Draw) {
        match draw.below(20) {
            0..=6 => self.reserve(model, draw),
            7..=12 => self.settle(model, draw),
            13..=15 => self.append(model, draw),
            16 => self.finish(model, draw),
            17..=18 => {
                let outcome = self.nodes[self.node].heartbeat(&self.lease);
                assert_eq!(
                    outcome,
                    self.done_or_fenced(),
                    "{}: heartbeat",
                    self.context
                );
                if self.holds
                    && let Some((_, _, until)) = model.sessions.get_mut(&self.session_number)
                {
                    *until = self.now.after(TTL);
                }
            }
            _ => {
                let outcome = self.nodes[self.node].release(&self.lease);
                let already = model
                    .sessions
                    .get(&self.session_number)
                    .is_some_and(|(node, epoch, _)| node.is_none() && *epoch == self.lease.epoch);
                let expected = if already {
                    Outcome::AlreadyDone
                } else {
                    self.done_or_fenced()
                };
                assert_eq!(outcome, expected, "{}: release", self.context);
                if self.holds
                    && let Some((node, _, until)) = model.sessions.get_mut(&self.session_number)
                {
                    (*node, *until) = (None, Timestamp::EPOCH);
                }
            }
        }
    }

    fn driven(&self) -> Driven {
        let node = &self.nodes[self.node];
        Driven {
            node: node.clone(),
            lease: self.lease.clone(),
            submission: submission(node, self.session_number, self.number),
        }
    }

    fn done_or_fenced(&self) -> Outcome {
        if self.holds {
            Outcome::Done
        } else {
            Outcome::Fenced
        }
    }

    fn reserve(&self, model: &mut Model, draw: &mut Draw) {
        let driven = self.driven();
        let effect = draw.below(12);
        let scopes = vec![
            limits(
                ScopeKey::Session(session(self.session_number)),
                Some(SESSION_LIMIT),
            ),
            limits(ScopeKey::Agent(agent("reviewer")), None),
            limits(ScopeKey::Day, Some(DAY_LIMIT)),
        ];
        if self.holds {
            // The store sees a day when it looks at its clock, and it looks when it may have to grant.
            model.day = model.day.max(self.now.day().0);
        }
        let day = UtcDay(model.day);
        let resolved: Vec<Scope> = scopes.iter().map(|limits| limits.scope.on(day)).collect();
        let request = ReserveRequest {
            id: driven.id(effect),
            scopes,
            quote: quote(),
        };
        let answer = driven.reserve_as(ReserveCall {
            lease: self.lease.clone(),
            request,
            after: 0,
            entries: Vec::new(),
            look_ahead: LookAhead::None,
        });
        let ended = model.invocations[&self.number].2.is_some();
        let known = model
            .reservations
            .get(&(self.number, effect))
            .map(|held| held.state);
        let fits = model
            .in_scope(&resolved[0])
            .pipe(|(spent, open)| spent + open + HOLD <= SESSION_LIMIT)
            && model
                .in_scope(&resolved[2])
                .pipe(|(spent, open)| spent + open + HOLD <= DAY_LIMIT);
        let context = self.context;
        match answer {
            Err(error) => assert!(
                self.holds && ended && known.is_none(),
                "{context}: reserve: {error}"
            ),
            Ok(ReserveReply::Fenced) => assert!(!self.holds, "{context}: reserve: fenced"),
            Ok(_) if !self.holds || (ended && known.is_none()) => {
                panic!("{context}: reserve was answered")
            }
            Ok(ReserveReply::Killed(_)) => assert!(model.killed, "{context}: reserve: killed"),
            Ok(reply) if model.killed => {
                panic!("{context}: reserve under the kill switch: {reply:?}")
            }
            Ok(ReserveReply::Ledger(outcome)) => match (outcome, known) {
                (ReserveOutcome::AlreadyGranted(_), Some(State::Open))
                | (
                    ReserveOutcome::AlreadySettled,
                    Some(State::Forfeited | State::Settled | State::Released),
                ) => {}
                (ReserveOutcome::OverLimit(_), None) if !fits => {}
                (ReserveOutcome::Granted(grant), None) if fits => {
                    assert_eq!(grant.held_cost, money(HOLD), "{context}");
                    let held = Held {
                        state: State::Open,
                        amount: (HOLD, HOLD_TOKENS),
                        scopes: resolved,
                        day: day.0,
                    };
                    model.reservations.insert((self.number, effect), held);
                }
                (outcome, _) => panic!("{context}: reserve: {outcome:?}"),
            },
        }
    }

    fn settle(&self, model: &mut Model, draw: &mut Draw) {
        let driven = self.driven();
        let open: Vec<u64> = model
            .reservations
            .iter()
            .filter(|((number, _), held)| *number == self.number && held.state != State::Settled)
            .map(|((_, effect), _)| *effect)
            .collect();
        let effect = if open.is_empty() || draw.below(4) == 0 {
            draw.below(13)
        } else {
            *draw.pick(&open)
        };
        let settlement = draw
            .pick(&[used(), used(), Settlement::Forfeited, Settlement::Released])
            .clone();
        let reply = driven.settle(effect, settlement.clone());
        let context = self.context;
        if !self.holds {
            assert_eq!(reply, SettleReply::Fenced, "{context}: settle");
            return;
        }
        let Some(held) = model.reservations.get_mut(&(self.number, effect)) else {
            assert_eq!(
                reply,
                SettleReply::Ledger(SettleOutcome::Unknown),
                "{context}: settle"
            );
            return;
        };
        let (next, charge) = match (held.state, &settlement) {
            (State::Open | State::Forfeited, Settlement::Used { .. }) => {
                (State::Settled, (COST, usage().total_tokens()))
            }
            (State::Open, Settlement::Forfeited) => (State::Forfeited, held.amount),
            (State::Open, Settlement::Released) => (State::Released, (0, 0)),
            _ => {
                assert_eq!(
                    reply,
                    SettleReply::Ledger(SettleOutcome::AlreadySettled),
                    "{context}: settle"
                );
                return;
            }
        };
        (held.state, held.amount) = (next, charge);
        match reply {
            SettleReply::Ledger(SettleOutcome::Settled(settled)) => {
                assert_eq!(settled.charged, money(charge.0), "{context}")
            }
            other => panic!("{context}: settle: {other:?}"),
        }
    }

    fn append(&self, model: &mut Model, draw: &mut Draw) {
        let (_, count, end) = model
            .invocations
            .get_mut(&self.number)
            .expect("a known invocation");
        // Sometimes from before the end, as a repeated call would be.
        let first = if *count > 0 && draw.below(3) == 0 {
            *count
        } else {
            *count + 1
        };
        let last = first + draw.below(3);
        let outcome = self
            .driven()
            .append_with(
                entries(first..=last),
                *draw.pick(&[Durability::Relaxed, Durability::Synced]),
            )
            .unwrap_or_else(|error| panic!("{}: append: {error}", self.context));
        let expected = match (self.holds, last > *count) {
            (false, _) => Outcome::Fenced,
            (true, true) => Outcome::Done,
            (true, false) => Outcome::AlreadyDone,
        };
        assert_eq!(outcome, expected, "{}: append", self.context);
        if self.holds && last > *count {
            *count = last;
            if *end == Some(true) {
                *end = None;
            }
        }
    }

    fn finish(&self, model: &mut Model, draw: &mut Draw) {
        let (_, count, end) = model
            .invocations
            .get_mut(&self.number)
            .expect("a known invocation");
        let resumable = draw.below(2) == 0;
        let last = *count + draw.below(2);
        let new = if last > *count {
            entries(last..=last)
        } else {
            Vec::new()
        };
        let outcome = self.driven().finish(new.clone(), resumable);
        let expected = match (self.holds, *end) {
            (false, _) => Outcome::Fenced,
            (true, Some(was_resumable)) if !was_resumable || new.is_empty() => Outcome::AlreadyDone,
            (true, _) => Outcome::Done,
        };
        assert_eq!(outcome, expected, "{}: finish", self.context);
        if expected == Outcome::Done {
            (*count, *end) = (last, Some(resumable));
        }
    }
}

trait Pipe: Sized {
    fn pipe<T>(self, next: impl FnOnce(Self) -> T) -> T {
        next(self)
    }
}

impl Pipe for (u64, u64) {}

/// Every account, journal, end and sum against the model.
fn check_totals(model: &Model, node: &Node, context: &str) {
    let scopes: BTreeSet<&Scope> = model
        .reservations
        .values()
        .flat_map(|held| &held.scopes)
        .collect();
    for scope in scopes {
        let (spent, open) = model.in_scope(scope);
        let account = node.account(scope.clone());
        assert_eq!(
            (account.spent_cost, account.held_cost),
            (money(spent), money(open)),
            "{context}: {scope}"
        );
    }
    let charged: Vec<&Held> = model
        .reservations
        .values()
        .filter(|held| matches!(held.state, State::Forfeited | State::Settled))
        .collect();
    let total = node.total();
    assert_eq!(total.calls, charged.len() as u64, "{context}: calls");
    assert_eq!(
        total.cost,
        money(charged.iter().map(|held| held.amount.0).sum()),
        "{context}: cost"
    );
    let forfeited = charged
        .iter()
        .filter(|held| held.state == State::Forfeited)
        .count();
    assert_eq!(
        total.unconfirmed_calls, forfeited as u64,
        "{context}: unconfirmed"
    );
    let days: BTreeSet<u32> = charged.iter().map(|held| held.day).collect();
    for day in days {
        let of_day: u64 = charged
            .iter()
            .filter(|held| held.day == day)
            .map(|held| held.amount.0)
            .sum();
        assert_eq!(
            node.account(Scope::Day(UtcDay(day))).spent_cost,
            money(of_day),
            "{context}: day {day}"
        );
    }
    let unfinished: BTreeSet<_> = node.unfinished().into_iter().collect();
    for (number, (_, count, end)) in &model.invocations {
        let expected = if *count == 0 {
            Vec::new()
        } else {
            entries(1..=*count)
        };
        assert_eq!(
            node.journal(*number),
            expected,
            "{context}: journal {number}"
        );
        assert_eq!(
            unfinished.contains(&invocation(*number)),
            end.is_none(),
            "{context}: end of {number}"
        );
    }
}
