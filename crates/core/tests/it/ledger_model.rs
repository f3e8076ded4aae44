//! The ledger against a model that is too simple to be wrong.
//!
//! The model keeps a list of what happened and adds it up again for every question; grants are found by
//! trying one output token less at a time. Both see the same random operations on a handful of scopes whose
//! limits are nearly always in reach. After each operation all answers and all accounts are compared, and
//! the invariants of `otto_core::ledger` are checked on the accounts alone.
//!
//! The model can also be broken on purpose. Each planted fault must be found, or the comparison is worth
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use otto_core::agent::Limit;
use otto_core::id::{EffectId, ReservationId};
use otto_core::ledger::{
    Account, Amount, Denial, Grant, Ledger, Quote, ReservationState, ReserveOutcome,
    ReserveRequest, Resource, Scope, ScopeKey, ScopeLimits, SettleOutcome, Settlement,
};
use otto_core::model::Usage;
use otto_core::{AgentName, InvocationId, Money, SessionId, UtcDay, WorkflowId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::support::{check, search};

/// The requirement is 20,000 cases; each is up to 40 operations.
const CASES: u32 = 20_000;
/// Enough for a planted fault to show; those that hide longest need some hundreds.
const FAULT_CASES: u32 = 5_000;

const SCOPES: usize = 5;
const IDS: u64 = 8;

fn scope_key(index: usize) -> ScopeKey {
    match index {
        0 => ScopeKey::Invocation(InvocationId::from_bytes([1; 16])),
        1 => ScopeKey::Session(SessionId::from_bytes([2; 16])),
        2 => ScopeKey::Agent(AgentName::new("reviewer").unwrap()),
        3 => ScopeKey::Workflow(WorkflowId::from_bytes([4; 16])),
        _ => ScopeKey::Day,
    }
}

fn reservation_id(slot: u64) -> ReservationId {
    ReservationId {
        invocation: InvocationId::from_bytes([9; 16]),
        effect: EffectId(slot),
    }
}

fn money(picodollars: u64) -> Money {
    Money::from_picodollars(picodollars).unwrap()
}

/// A world: fixed limits and what happens in it.
#[derive(Debug, Clone)]
struct World {
    /// Everything about money is multiplied by this, to come near the largest amount.
    cost_unit: u64,
    token_unit: u64,
    /// Limits of cost and tokens by scope, in units.
    limits: Vec<(Option<u64>, Option<u64>)>,
    operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
enum Operation {
    Reserve {
        slot: u64,
        scopes: Vec<usize>,
        call: Call,
        day: u32,
    },
    Settle {
        slot: u64,
        how: How,
    },
    Forget {
        slot: u64,
    },
}

/// The size of a call, in units.
#[derive(Debug, Clone, Copy)]
struct Call {
    prompt_tokens: u64,
    prompt_cost: u64,
    price: u64,
    wanted: u64,
    floor: u64,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// These shares of the hold, in eighths.
    Used {
        cost_eighths: u64,
        token_eighths: u64,
    },
    /// The hold and this much more.
    Overdrawn {
        cost: u64,
        tokens: u64,
    },
    Forfeited,
    Released,
}

fn operation() -> impl Strategy<Value = Operation> {
    let call = (0..20u64, 0..40u64, 0..4u64, 0..25u64, 0..12u64).prop_map(
        |(prompt_tokens, prompt_cost, price, wanted, floor)| Call {
            prompt_tokens,
            prompt_cost,
            price,
            wanted,
            floor,
        },
    );
    let how = prop_oneof![
        6 => (0..=8u64, 0..=8u64).prop_map(|(cost_eighths, token_eighths)| How::Used { cost_eighths, token_eighths }),
        1 => (0..3u64, 0..3u64).prop_map(|(cost, tokens)| How::Overdrawn { cost, tokens }),
        3 => Just(How::Forfeited),
        1 => Just(How::Released),
    ];
    prop_oneof![
        5 => (0..IDS, vec(0..SCOPES, 1..=SCOPES), call, 0..2u32)
            .prop_map(|(slot, scopes, call, day)| Operation::Reserve { slot, scopes, call, day }),
        5 => (0..IDS, how).prop_map(|(slot, how)| Operation::Settle { slot, how }),
        1 => (0..IDS).prop_map(|slot| Operation::Forget { slot }),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let limit = |most: u64| proptest::option::weighted(0.7, 0..most);
    let unit = prop_oneof![4 => Just(1), 1 => Just((i64::MAX as u64) / 160)];
    (
        unit.clone(),
        unit,
        vec((limit(150), limit(150)), SCOPES),
        vec(operation(), 1..40),
    )
        .prop_map(|(cost_unit, token_unit, limits, operations)| World {
            cost_unit,
            token_unit,
            limits,
            operations,
        })
}

impl World {
    fn limits_of(&self, index: usize) -> ScopeLimits {
        let (cost, tokens) = self.limits[index];
        ScopeLimits {
            scope: scope_key(index),
            cost: cost.map(|cost| Limit::new(money(cost * self.cost_unit), "world")),
            tokens: tokens.map(|tokens| Limit::new(tokens * self.token_unit, "world")),
        }
    }

    fn request(&self, slot: u64, scopes: &[usize], call: &Call) -> ReserveRequest {
        ReserveRequest {
            id: reservation_id(slot),
            scopes: scopes.iter().map(|index| self.limits_of(*index)).collect(),
            quote: Quote {
                prompt_tokens: call.prompt_tokens * self.token_unit,
                prompt_cost: money(call.prompt_cost * self.cost_unit),
                output_price: money(call.price * self.cost_unit),
                output_wanted: call.wanted,
                output_floor: call.floor,
            },
        }
    }

    /// What a provider reports for a call of that hold.
    fn settlement(&self, how: How, grant: Option<Grant>) -> Settlement {
        let hold = grant.unwrap_or(Grant {
            max_output_tokens: 1,
            held_cost: money(8),
            held_tokens: 8,
        });
        let (cost, tokens) = (hold.held_cost.picodollars(), hold.held_tokens);
        let used = |cost: u64, tokens: u64| Settlement::Used {
            usage: Usage {
                input_tokens: tokens / 2,
                output_tokens: tokens - tokens / 2,
                ..Usage::default()
            },
            cost: money(cost),
        };
        match how {
            How::Used {
                cost_eighths,
                token_eighths,
            } => used(cost / 8 * cost_eighths, tokens / 8 * token_eighths),
            // Near the largest amount an overdraft would leave the range that the model can add up in.
            How::Overdrawn { .. } if self.cost_unit > 1 || self.token_unit > 1 => {
                used(cost, tokens)
            }
            How::Overdrawn {
                cost: more,
                tokens: more_tokens,
            } => used(cost + more, tokens + more_tokens),
            How::Forfeited => Settlement::Forfeited,
            How::Released => Settlement::Released,
        }
    }
}

/// What is compared: the ledger, the model, and the model with a fault.
trait Book {
    fn reserve(&mut self, today: UtcDay, request: &ReserveRequest) -> ReserveOutcome;
    fn settle(&mut self, id: ReservationId, settlement: &Settlement) -> SettleOutcome;
    fn forget(&mut self, id: &ReservationId);
    fn account(&self, scope: &Scope) -> Account;
}

impl Book for Ledger {
    fn reserve(&mut self, today: UtcDay, request: &ReserveRequest) -> ReserveOutcome {
        Ledger::reserve(self, today, request)
    }
    fn settle(&mut self, id: ReservationId, settlement: &Settlement) -> SettleOutcome {
        Ledger::settle(self, id, settlement)
    }
    fn forget(&mut self, id: &ReservationId) {
        Ledger::forget(self, id);
    }
    fn account(&self, scope: &Scope) -> Account {
        Ledger::account(self, scope)
    }
}

/// The ways in which a ledger can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Checks first and holds in a second step, after other callers had their turn.
    ChecksThenHolds,
    /// Leaves the last scope out of the check.
    ForgetsAScope,
    /// Compares with what is spent, not with what is held.
    IgnoresHolds,
    /// Allows one unit above the limit.
    OffByOne,
    /// Grants less output than fits.
    ClampsTooMuch,
    /// A forfeit costs nothing.
    RefundsForfeits,
    /// A late usage record is added to the forfeit.
    AddsLateUsage,
    /// A second settlement is booked again.
    SettlesTwice,
    /// A usage above the hold is booked as the hold.
    CutsOverdrafts,
    /// A usage above the hold is booked, and life goes on.
    NeverLatches,
    /// Warns with every settlement above the mark.
    WarnsAgain,
    /// Books on the day of the last request.
    MovesDays,
    /// A repeated request holds again.
    HoldsTwice,
}

/// The model: a list of reservations, added up anew for each question.
#[derive(Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    warned: BTreeSet<(Scope, Resource)>,
    forgotten: BTreeSet<ReservationId>,
    fault: Option<Fault>,
    /// For [`Fault::ChecksThenHolds`]: granted, not yet held.
    pending: Vec<Entry>,
    last_day: u32,
}

#[derive(Debug, Clone)]
struct Entry {
    id: ReservationId,
    scopes: Vec<(Scope, ScopeLimits)>,
    grant: Grant,
    state: ReservationState,
    charged: (u128, u128),
    overdrawn: bool,
}

impl Model {
    fn faulty(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Spent cost, spent tokens, held cost, held tokens, latched.
    fn sums(&self, scope: &Scope) -> ([u128; 4], bool) {
        let mut sums = [0; 4];
        let mut latched = false;
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.scopes.iter().any(|(known, _)| known == scope))
        {
            sums[0] += entry.charged.0;
            sums[1] += entry.charged.1;
            if entry.state == ReservationState::Open {
                sums[2] += u128::from(entry.grant.held_cost.picodollars());
                sums[3] += u128::from(entry.grant.held_tokens);
            }
            latched |= entry.overdrawn;
        }
        (sums, latched)
    }

    fn fits(&self, scopes: &[(Scope, ScopeLimits)], quote: &Quote, output: u64) -> bool {
        let most = u128::from(i64::MAX as u64);
        let cost = u128::from(quote.prompt_cost.picodollars())
            + u128::from(quote.output_price.picodollars()) * u128::from(output);
        let tokens = u128::from(quote.prompt_tokens) + u128::from(output);
        let scopes = if self.has(Fault::ForgetsAScope) {
            &scopes[..scopes.len() - 1]
        } else {
            scopes
        };
        scopes.iter().all(|(scope, limits)| {
            let (mut sums, latched) = self.sums(scope);
            if self.has(Fault::IgnoresHolds) {
                (sums[2], sums[3]) = (0, 0);
            }
            let extra = u128::from(self.has(Fault::OffByOne));
            let cost_limit = limits
                .cost
                .as_ref()
                .map_or(most, |limit| u128::from(limit.value.picodollars()) + extra);
            let token_limit = limits
                .tokens
                .as_ref()
                .map_or(most, |limit| u128::from(limit.value));
            (!latched || self.has(Fault::NeverLatches))
                && sums[0] + sums[2] + cost <= cost_limit
                && sums[1] + sums[3] + tokens <= token_limit
        })
    }

    fn resolve(today: UtcDay, request: &ReserveRequest) -> Vec<(Scope, ScopeLimits)> {
        let mut scopes = BTreeMap::new();
        for limits in &request.scopes {
            scopes.insert(limits.scope.on(today), limits.clone());
        }
        if scopes.is_empty() {
            let none = ScopeLimits {
                scope: ScopeKey::Day,
                cost: None,
                tokens: None,
            };
            scopes.insert(Scope::Day(today), none);
        }
        scopes.into_iter().collect()
    }

    /// Stands for any denial: those of the ledger are judged by `check_denial`.
    fn any_denial(scopes: &[(Scope, ScopeLimits)]) -> Box<Denial> {
        Box::new(Denial {
            scope: scopes[0].0.clone(),
            resource: Resource::Cost,
            limit: Amount::Turns(0),
            spent: Amount::Turns(0),
            held: Amount::Turns(0),
            needed: Amount::Turns(0),
            origin: otto_core::agent::Origin::new("model"),
            latched: false,
        })
    }

    fn warnings(&mut self, index: usize) -> Vec<(Scope, Resource)> {
        let mut raised = Vec::new();
        for (scope, limits) in self.entries[index].scopes.clone() {
            let (sums, _) = self.sums(&scope);
            let marks = [
                (
                    Resource::Cost,
                    sums[0],
                    limits
                        .cost
                        .map(|limit| u128::from(limit.value.picodollars())),
                ),
                (
                    Resource::Tokens,
                    sums[1],
                    limits.tokens.map(|limit| u128::from(limit.value)),
                ),
            ];
            for (resource, spent, limit) in marks {
                let due = limit.is_some_and(|limit| spent * 100 >= limit * 80);
                if due
                    && (self.warned.insert((scope.clone(), resource))
                        || self.has(Fault::WarnsAgain))
                {
                    raised.push((scope.clone(), resource));
                }
            }
        }
        raised
    }
}

impl Book for Model {
    fn reserve(&mut self, today: UtcDay, request: &ReserveRequest) -> ReserveOutcome {
        self.last_day = today.0;
        if let Some(entry) = self
            .entries
            .iter()
            .chain(&self.pending)
            .find(|entry| entry.id == request.id)
            && !self.forgotten.contains(&request.id)
            && !self.has(Fault::HoldsTwice)
        {
            return match entry.state {
                ReservationState::Open => ReserveOutcome::AlreadyGranted(entry.grant),
                ReservationState::Forfeited | ReservationState::Settled => {
                    ReserveOutcome::AlreadySettled
                }
            };
        }
        let scopes = Self::resolve(today, request);
        let quote = &request.quote;
        let floor = quote.output_floor.min(quote.output_wanted);
        let Some(mut output) = (floor..=quote.output_wanted)
            .rev()
            .find(|output| self.fits(&scopes, quote, *output))
        else {
            self.entries.append(&mut self.pending);
            return ReserveOutcome::OverLimit(Self::any_denial(&scopes));
        };
        if self.has(Fault::ClampsTooMuch) && output < quote.output_wanted {
            output = floor;
        }
        let grant = Grant {
            max_output_tokens: output,
            held_cost: quote
                .output_price
                .checked_mul(output)
                .unwrap()
                .checked_add(quote.prompt_cost)
                .unwrap(),
            held_tokens: quote.prompt_tokens + output,
        };
        // A forgotten reservation keeps its charge; only its name is free again.
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.id == request.id)
        {
            entry.id = reservation_id(u64::MAX);
        }
        self.forgotten.remove(&request.id);
        self.entries.append(&mut self.pending);
        let entry = Entry {
            id: request.id,
            scopes,
            grant,
            state: ReservationState::Open,
            charged: (0, 0),
            overdrawn: false,
        };
        if self.has(Fault::ChecksThenHolds) {
            self.pending.push(entry);
        } else {
            self.entries.push(entry);
        }
        ReserveOutcome::Granted(grant)
    }

    fn settle(&mut self, id: ReservationId, settlement: &Settlement) -> SettleOutcome {
        self.entries.append(&mut self.pending);
        let known = !self.forgotten.contains(&id);
        let Some(index) = self
            .entries
            .iter()
            .position(|entry| entry.id == id && known)
        else {
            return SettleOutcome::Unknown;
        };
        let (cuts, refunds) = (
            self.has(Fault::CutsOverdrafts),
            self.has(Fault::RefundsForfeits),
        );
        let (adds, twice) = (
            self.has(Fault::AddsLateUsage),
            self.has(Fault::SettlesTwice),
        );
        let last_day = UtcDay(self.last_day);
        let moves = self.has(Fault::MovesDays);
        let entry = &mut self.entries[index];
        let hold = (
            u128::from(entry.grant.held_cost.picodollars()),
            u128::from(entry.grant.held_tokens),
        );
        let before = entry.charged;
        match (entry.state, settlement) {
            (ReservationState::Settled, Settlement::Used { usage, cost }) if twice => {
                entry.charged.0 += u128::from(cost.picodollars());
                entry.charged.1 += u128::from(usage.total_tokens());
            }
            (ReservationState::Settled, _)
            | (ReservationState::Forfeited, Settlement::Forfeited | Settlement::Released) => {
                return SettleOutcome::AlreadySettled;
            }
            (
                ReservationState::Open | ReservationState::Forfeited,
                Settlement::Used { usage, cost },
            ) => {
                entry.charged = (
                    u128::from(cost.picodollars()),
                    u128::from(usage.total_tokens()),
                );
                if cuts {
                    entry.charged = (entry.charged.0.min(hold.0), entry.charged.1.min(hold.1));
                }
                if adds {
                    entry.charged.0 += before.0;
                }
                entry.state = ReservationState::Settled;
            }
            (ReservationState::Open, Settlement::Forfeited) => {
                entry.charged = if refunds { (0, 0) } else { hold };
                entry.state = ReservationState::Forfeited;
            }
            (ReservationState::Open, Settlement::Released) => {
                entry.state = ReservationState::Settled
            }
        }
        entry.overdrawn = entry.charged.0 > hold.0 || entry.charged.1 > hold.1;
        if moves {
            for (scope, limits) in &mut entry.scopes {
                *scope = limits.scope.on(last_day);
            }
        }
        let (charged, overdrawn) = (entry.charged.0, entry.overdrawn);
        let warnings = self.warnings(index);
        SettleOutcome::Settled(otto_core::ledger::Settled {
            charged: money(u64::try_from(charged).unwrap()),
            warnings: warnings
                .into_iter()
                .map(|(scope, resource)| otto_core::ledger::Warning {
                    limit: Amount::Turns(0),
                    spent: Amount::Turns(0),
                    origin: otto_core::agent::Origin::new("model"),
                    scope,
                    resource,
                })
                .collect(),
            overdrawn,
        })
    }

    fn forget(&mut self, id: &ReservationId) {
        if self
            .entries
            .iter()
            .any(|entry| entry.id == *id && entry.state != ReservationState::Open)
        {
            self.forgotten.insert(*id);
        }
    }

    fn account(&self, scope: &Scope) -> Account {
        let (sums, latched) = self.sums(scope);
        let small = |sum: u128| u64::try_from(sum).unwrap();
        Account {
            spent_cost: money(small(sums[0])),
            held_cost: money(small(sums[2])),
            spent_tokens: small(sums[1]),
            held_tokens: small(sums[3]),
            warned_cost: self.warned.contains(&(scope.clone(), Resource::Cost)),
            warned_tokens: self.warned.contains(&(scope.clone(), Resource::Tokens)),
            latched,
        }
    }
}

/// Plays a world in both books and compares everything that can be seen.
fn compare(world: &World, book: &mut dyn Book) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut spent_before = BTreeMap::new();
    for operation in &world.operations {
        let mut corrects = false;
        match operation {
            Operation::Reserve {
                slot,
                scopes,
                call,
                day,
            } => {
                let (today, request) = (UtcDay(*day), world.request(*slot, scopes, call));
                match (
                    book.reserve(today, &request),
                    model.reserve(today, &request),
                ) {
                    // A faulty model must be found by what it does, not by how it words a denial.
                    (ReserveOutcome::OverLimit(denial), ReserveOutcome::OverLimit(own))
                        if denial == own => {}
                    (ReserveOutcome::OverLimit(denial), ReserveOutcome::OverLimit(_)) => {
                        check_denial(
                            &denial,
                            &model,
                            &Model::resolve(today, &request),
                            &request.quote,
                        )?;
                    }
                    (got, expected) => prop_assert_eq!(got, expected),
                }
            }
            Operation::Settle { slot, how } => {
                let id = reservation_id(*slot);
                let entry = model.entries.iter().find(|entry| entry.id == id);
                let settlement = world.settlement(*how, entry.map(|entry| entry.grant));
                corrects = entry.is_some_and(|entry| entry.state == ReservationState::Forfeited);
                match (book.settle(id, &settlement), model.settle(id, &settlement)) {
                    (SettleOutcome::Settled(got), SettleOutcome::Settled(expected)) => {
                        prop_assert_eq!(got.charged, expected.charged);
                        prop_assert_eq!(got.overdrawn, expected.overdrawn);
                        let names = |warnings: &[otto_core::ledger::Warning]| -> BTreeSet<_> {
                            warnings
                                .iter()
                                .map(|warning| (warning.scope.clone(), warning.resource))
                                .collect()
                        };
                        prop_assert_eq!(got.warnings.len(), expected.warnings.len());
                        prop_assert_eq!(names(&got.warnings), names(&expected.warnings));
                    }
                    (got, expected) => prop_assert_eq!(got, expected),
                }
            }
            Operation::Forget { slot } => {
                book.forget(&reservation_id(*slot));
                model.forget(&reservation_id(*slot));
            }
        }
        for index in 0..SCOPES {
            for day in [UtcDay(0), UtcDay(1)] {
                let scope = scope_key(index).on(day);
                let account = book.account(&scope);
                check_invariants(world, index, &account, &mut spent_before, &scope, corrects)?;
                prop_assert_eq!(account, model.account(&scope), "account of {}", scope);
            }
        }
    }
    Ok(())
}

/// What must hold whatever the model says.
fn check_invariants(
    world: &World,
    index: usize,
    account: &Account,
    spent_before: &mut BTreeMap<Scope, (Money, u64)>,
    scope: &Scope,
    corrects: bool,
) -> Result<(), TestCaseError> {
    let limits = world.limits_of(index);
    if !account.latched {
        if let Some(limit) = limits.cost {
            let sum = account.spent_cost.picodollars() + account.held_cost.picodollars();
            prop_assert!(
                sum <= limit.value.picodollars(),
                "cost limit of {} passed",
                scope
            );
        }
        if let Some(limit) = limits.tokens {
            prop_assert!(
                account.spent_tokens + account.held_tokens <= limit.value,
                "token limit of {} passed",
                scope
            );
        }
    }
    let now = (account.spent_cost, account.spent_tokens);
    let before = spent_before.insert(scope.clone(), now).unwrap_or_default();
    prop_assert!(
        corrects || (now.0 >= before.0 && now.1 >= before.1),
        "spent fell in {}",
        scope
    );
    Ok(())
}

/// A denial must be true, and contended only if every other limit in the way is contended too.
fn check_denial(
    denial: &Denial,
    model: &Model,
    scopes: &[(Scope, ScopeLimits)],
    quote: &Quote,
) -> Result<(), TestCaseError> {
    let floor = quote.output_floor.min(quote.output_wanted);
    let most = u128::from(i64::MAX as u64);
    let cost = u128::from(quote.prompt_cost.picodollars())
        + u128::from(quote.output_price.picodollars()) * u128::from(floor);
    let tokens = u128::from(quote.prompt_tokens) + u128::from(floor);
    let (limits, (sums, latched)) = scopes
        .iter()
        .find(|(scope, _)| *scope == denial.scope)
        .map(|(scope, limits)| (limits, model.sums(scope)))
        .ok_or_else(|| TestCaseError::fail("the denial names a scope of the request"))?;
    let value = |amount: Amount| match amount {
        Amount::Cost(money) => u128::from(money.picodollars()),
        Amount::Tokens(count) | Amount::Turns(count) => u128::from(count),
    };
    prop_assert_eq!(denial.latched, latched);
    let (spent, held, needed, limit) = match denial.resource {
        Resource::Cost => (
            sums[0],
            sums[2],
            cost,
            limits
                .cost
                .as_ref()
                .map(|limit| u128::from(limit.value.picodollars())),
        ),
        Resource::Tokens => (
            sums[1],
            sums[3],
            tokens,
            limits.tokens.as_ref().map(|limit| u128::from(limit.value)),
        ),
        Resource::Turns => return Err(TestCaseError::fail("the ledger knows no turns")),
    };
    prop_assert_eq!((value(denial.spent), value(denial.held)), (spent, held));
    prop_assert_eq!(
        value(denial.needed),
        needed.min(if denial.resource == Resource::Cost {
            most
        } else {
            needed
        })
    );
    if !latched {
        prop_assert!(
            spent + held + needed > limit.unwrap_or(most),
            "the limit named is not in the way"
        );
        prop_assert_eq!(value(denial.limit), limit.unwrap_or(most));
    }
    if denial.is_contended() {
        for (scope, limits) in scopes {
            let (sums, latched) = model.sums(scope);
            prop_assert!(!latched, "a latch hides behind a contended denial");
            let cost_limit = limits
                .cost
                .as_ref()
                .map_or(most, |limit| u128::from(limit.value.picodollars()));
            let token_limit = limits
                .tokens
                .as_ref()
                .map_or(most, |limit| u128::from(limit.value));
            prop_assert!(
                sums[0] + cost <= cost_limit,
                "waiting for {} is in vain",
                scope
            );
            prop_assert!(
                sums[1] + tokens <= token_limit,
                "waiting for {} is in vain",
                scope
            );
        }
    }
    Ok(())
}

#[test]
fn the_ledger_does_what_the_model_does() {
    check(CASES, world(), |world| compare(&world, &mut Ledger::new()));
}

#[test]
fn the_model_agrees_with_itself() {
    check(200, world(), |world| compare(&world, &mut Model::default()));
}

#[test]
fn a_ledger_that_is_wrong_is_found() {
    for fault in [
        Fault::ChecksThenHolds,
        Fault::ForgetsAScope,
        Fault::IgnoresHolds,
        Fault::OffByOne,
        Fault::ClampsTooMuch,
        Fault::RefundsForfeits,
        Fault::AddsLateUsage,
        Fault::SettlesTwice,
        Fault::CutsOverdrafts,
        Fault::NeverLatches,
        Fault::WarnsAgain,
        Fault::MovesDays,
        Fault::HoldsTwice,
    ] {
        let found = search(FAULT_CASES, world(), |world| {
            compare(&world, &mut Model::faulty(fault))
        });
        assert!(
            found.is_err(),
            "{fault:?} was not found in {FAULT_CASES} cases"
        );
    }
}

/// The invariant alone, without a model to compare with: a ledger that checks and holds in two steps passes
/// a limit as soon as two callers meet between them, and the real one does not under the same schedule.
#[test]
fn checking_and_holding_in_two_steps_passes_the_limit() {
    let limit = ScopeLimits {
        scope: ScopeKey::Day,
        cost: Some(Limit::new(money(100), "test")),
        tokens: None,
    };
    let quote = Quote {
        prompt_tokens: 1,
        prompt_cost: money(60),
        output_price: money(1),
        output_wanted: 10,
        output_floor: 1,
    };
    let day = Scope::Day(UtcDay(0));
    let play = |book: &mut dyn Book| {
        for slot in 0..3 {
            let request = ReserveRequest {
                id: reservation_id(slot),
                scopes: vec![limit.clone()],
                quote,
            };
            book.reserve(UtcDay(0), &request);
        }
        book.settle(reservation_id(9), &Settlement::Released);
        book.account(&day).held_cost
    };
    assert_eq!(play(&mut Ledger::new()), money(70));
    assert_eq!(play(&mut Model::default()), money(70));
    assert!(play(&mut Model::faulty(Fault::ChecksThenHolds)) > money(100));
}
