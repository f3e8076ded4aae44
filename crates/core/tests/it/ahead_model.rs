//! Money held ahead, against what is really spent.
//!
//! The oracle knows what each call that was made really costs, also when nobody ever says so, and it keeps the
//! ledger as it stood at the last change that was made durable. After every operation it asks: if the machine
//! failed now, and everything that is held was charged, would any account say less than was spent? And: would
//! anyone have been given less because of money held ahead?

use std::collections::BTreeMap;

use otto_core::agent::Limit;
use otto_core::id::{EffectId, ReservationId};
use otto_core::ledger::{
    Ledger, LookAhead, Quote, ReservationState, ReserveOutcome, ReserveRequest, Reserved, Scope,
    ScopeKey, ScopeLimits, SettleOutcome, Settlement,
};
use otto_core::model::Usage;
use otto_core::{InvocationId, Money, SessionId, UtcDay};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::support::{check, search};

const CASES: u32 = 20_000;
/// Enough for a planted fault to show.
const FAULT_CASES: u32 = 3_000;
const INVOCATIONS: u8 = 3;

#[derive(Debug, Clone)]
enum Operation {
    Reserve {
        invocation: u8,
        call: Call,
        day: u32,
        look_ahead: bool,
    },
    /// Ends the oldest open call.
    Settle { invocation: u8, how: How },
    /// The invocation has ended.
    End { invocation: u8 },
    /// Everything so far is made durable.
    Sync,
    /// The machine fails: what was not durable is gone, what is held is charged.
    Failure,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    prompt: u64,
    price: u64,
    wanted: u64,
    floor: u64,
    /// What it really costs, in eighths of its hold.
    real_eighths: u64,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Used,
    Forfeited,
}

/// A fault planted in the oracle's use of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// After a failure the money ahead is given back instead of charged.
    GiveBackAfterFailure,
    /// A reserve that held new money is not made durable.
    RelaxedHold,
}

fn operation() -> impl Strategy<Value = Operation> {
    let call = (0..30u64, 0..3u64, 1..30u64, 0..10u64, 0..=8u64).prop_map(
        |(prompt, price, wanted, floor, real_eighths)| Call {
            prompt,
            price,
            wanted,
            floor,
            real_eighths,
        },
    );
    let how = prop_oneof![4 => Just(How::Used), 1 => Just(How::Forfeited)];
    prop_oneof![
        8 => (0..INVOCATIONS, call, 0..8u32, prop::bool::weighted(0.8)).prop_map(
            |(invocation, call, day, look_ahead)| Operation::Reserve {
                invocation, call, day: day / 7, look_ahead
            }
        ),
        7 => (0..INVOCATIONS, how).prop_map(|(invocation, how)| Operation::Settle { invocation, how }),
        1 => (0..INVOCATIONS).prop_map(|invocation| Operation::End { invocation }),
        1 => Just(Operation::Sync),
        1 => Just(Operation::Failure),
    ]
}

#[derive(Debug, Clone)]
struct World {
    limits: Vec<Option<u64>>,
    operations: Vec<Operation>,
}

fn world() -> impl Strategy<Value = World> {
    (
        vec(proptest::option::weighted(0.8, 20..2_000u64), 3),
        vec(operation(), 1..40),
    )
        .prop_map(|(limits, operations)| World { limits, operations })
}

fn invocation(n: u8) -> InvocationId {
    InvocationId::from_bytes([n + 1; 16])
}

fn money(picodollars: u64) -> Money {
    Money::from_picodollars(picodollars).unwrap()
}

struct Oracle {
    limits: Vec<Option<u64>>,
    ledger: Ledger,
    durable: Ledger,
    /// What was really spent, by account: money of calls that were made.
    real: BTreeMap<Scope, u64>,
    /// Real costs of calls that were made, and where.
    calls: BTreeMap<ReservationId, u64>,
    next_effect: u64,
    day: u32,
    fault: Fault,
    drawn: u64,
}

impl Oracle {
    fn new(limits: Vec<Option<u64>>, fault: Fault) -> Self {
        Self {
            limits,
            ledger: Ledger::new(),
            durable: Ledger::new(),
            real: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_effect: 1,
            day: 0,
            fault,
            drawn: 0,
        }
    }

    fn scopes(&self, n: u8) -> Vec<ScopeLimits> {
        [
            ScopeKey::Invocation(invocation(n)),
            ScopeKey::Session(SessionId::from_bytes([7; 16])),
            ScopeKey::Day,
        ]
        .into_iter()
        .zip(&self.limits)
        .map(|(scope, limit)| ScopeLimits {
            scope,
            cost: limit.map(|limit| Limit::new(money(limit), "a test")),
            tokens: None,
        })
        .collect()
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Reserve {
                invocation: n,
                call,
                day,
                look_ahead,
            } => self.reserve(*n, *call, *day, *look_ahead)?,
            Operation::Settle { invocation: n, how } => self.settle(*n, *how),
            Operation::End { invocation: n } => {
                if let Some(ahead) = self.ledger.ahead_of(invocation(*n)) {
                    prop_assert!(self.ledger.give_back(ahead));
                    self.durable = self.ledger.clone();
                }
            }
            Operation::Sync => self.durable = self.ledger.clone(),
            Operation::Failure => {
                self.ledger = self.durable.clone();
                charge_all(&mut self.ledger, self.fault);
                self.durable = self.ledger.clone();
            }
        }
        self.check()
    }

    fn reserve(
        &mut self,
        n: u8,
        call: Call,
        day: u32,
        look_ahead: bool,
    ) -> Result<(), TestCaseError> {
        self.day = self.day.max(day);
        let id = ReservationId {
            invocation: invocation(n),
            effect: EffectId(self.next_effect),
        };
        self.next_effect += 1;
        let request = ReserveRequest {
            id,
            scopes: self.scopes(n),
            quote: Quote {
                prompt_tokens: call.prompt,
                prompt_cost: money(call.prompt),
                output_price: money(call.price),
                output_wanted: call.wanted,
                output_floor: call.floor,
            },
        };
        let look_ahead = if look_ahead {
            LookAhead::Hold
        } else {
            LookAhead::None
        };
        let today = UtcDay(self.day);
        let mut plain = self.ledger.clone();
        for ahead in all_ahead(&plain) {
            plain.give_back(ahead);
        }
        let expected = plain.reserve(today, &request);
        let accounts: Vec<_> = self
            .ledger
            .accounts()
            .map(|(scope, account)| (scope.clone(), account.clone()))
            .collect();
        let mut quick = self.ledger.clone();
        let undisturbed = quick.reserve_undisturbed(today, &request, look_ahead);
        let is_short = self.ledger.is_short(today, &request);
        let before = undisturbed.is_none().then(|| self.ledger.clone());
        let reserved = self.ledger.reserve_ahead(today, &request, look_ahead);
        match undisturbed {
            Some(undisturbed) => {
                prop_assert!(!is_short, "somebody had to give money back");
                prop_assert_eq!(&undisturbed, &reserved);
                prop_assert_eq!(&quick, &self.ledger);
            }
            None => {
                prop_assert_eq!(Some(quick), before, "it changed something");
                prop_assert_eq!(reserved.drawn_from, None, "a draw disturbs nobody");
            }
        }
        let Reserved {
            outcome,
            drawn_from,
            ..
        } = reserved;
        match (&outcome, &expected) {
            (ReserveOutcome::Granted(grant), ReserveOutcome::Granted(wanted)) => {
                prop_assert_eq!(grant, wanted, "money ahead took something from a call");
            }
            (ReserveOutcome::OverLimit(_), ReserveOutcome::OverLimit(_)) => {}
            other => prop_assert!(
                false,
                "without money ahead it would be otherwise: {other:?}"
            ),
        }
        if drawn_from.is_some() {
            self.drawn += 1;
            let after: Vec<_> = self
                .ledger
                .accounts()
                .map(|(scope, account)| (scope.clone(), account.clone()))
                .collect();
            prop_assert_eq!(accounts, after, "a draw changes no account");
        } else if self.fault != Fault::RelaxedHold {
            self.durable = self.ledger.clone();
        }
        // The call is made now, and costs what it costs, whoever hears of it.
        if let ReserveOutcome::Granted(grant) = outcome {
            let real = grant.held_cost.picodollars() * call.real_eighths / 8;
            self.calls.insert(id, real);
            for limits in &request.scopes {
                *self.real.entry(limits.scope.on(today)).or_default() += real;
            }
        }
        Ok(())
    }

    fn settle(&mut self, n: u8, how: How) {
        let open = self
            .ledger
            .open_reservations()
            .map(|(id, _)| *id)
            .find(|id| id.invocation == invocation(n) && !id.is_ahead());
        let Some(id) = open else { return };
        let settlement = match how {
            How::Used => Settlement::Used {
                usage: Usage::default(),
                cost: money(self.calls[&id]),
            },
            How::Forfeited => Settlement::Forfeited,
        };
        if let SettleOutcome::Settled(_) = self.ledger.settle(id, &settlement) {
            self.ledger.return_unused(id, &settlement);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (scope, account) in self.ledger.accounts() {
            let (spent, held) = (
                account.spent_cost.picodollars(),
                account.held_cost.picodollars(),
            );
            let limit = match scope {
                Scope::Invocation(_) => self.limits[0],
                Scope::Session(_) => self.limits[1],
                _ => self.limits[2],
            };
            prop_assert!(
                limit.is_none_or(|limit| spent + held <= limit),
                "{scope}: {spent} spent and {held} held of {limit:?}"
            );
            let open: u64 = self
                .ledger
                .open_reservations()
                .filter(|(_, held)| held.scopes.iter().any(|(other, _)| other == scope))
                .map(|(_, held)| held.grant.held_cost.picodollars())
                .sum();
            prop_assert_eq!(held, open, "{}: what is held is what is open", scope);
        }
        let mut failed = self.durable.clone();
        charge_all(&mut failed, self.fault);
        for (scope, real) in &self.real {
            for (state, ledger) in [("now", &self.ledger), ("after a failure", &failed)] {
                let account = ledger.account(scope);
                let known = account.spent_cost.picodollars() + account.held_cost.picodollars();
                prop_assert!(
                    *real <= known,
                    "{scope} {state}: {real} really spent, {known} known"
                );
            }
        }
        for invocation in (0..INVOCATIONS).map(invocation) {
            let open = self
                .ledger
                .open_reservations()
                .filter(|(id, _)| id.is_ahead() && id.invocation == invocation)
                .count();
            prop_assert!(open <= 1, "money ahead is held once");
        }
        Ok(())
    }
}

fn all_ahead(ledger: &Ledger) -> Vec<ReservationId> {
    ledger
        .open_reservations()
        .map(|(id, _)| *id)
        .filter(|id| id.is_ahead())
        .collect()
}

/// What recovery does after a failure of the machine.
fn charge_all(ledger: &mut Ledger, fault: Fault) {
    let open: Vec<ReservationId> = ledger
        .open_reservations()
        .filter(|(_, held)| held.state == ReservationState::Open)
        .map(|(id, _)| *id)
        .collect();
    for id in open {
        if id.is_ahead() && fault == Fault::GiveBackAfterFailure {
            ledger.give_back(id);
        } else {
            ledger.settle(id, &Settlement::Forfeited);
        }
    }
}

fn run(world: World, fault: Fault) -> Result<u64, TestCaseError> {
    let mut oracle = Oracle::new(world.limits, fault);
    for operation in &world.operations {
        oracle.perform(operation)?;
    }
    Ok(oracle.drawn)
}

#[test]
fn no_failure_loses_money_that_was_spent_and_nobody_gets_less() {
    let drawn = std::cell::Cell::new(0);
    check(CASES, world(), |world| {
        drawn.set(drawn.get() + run(world, Fault::None)?);
        Ok(())
    });
    assert!(drawn.get() > 1_000, "only {} calls were drawn", drawn.get());
}

#[test]
fn planted_faults_are_found() {
    for fault in [Fault::GiveBackAfterFailure, Fault::RelaxedHold] {
        let found = search(FAULT_CASES, world(), |world| run(world, fault).map(drop));
        assert!(found.is_err(), "{fault:?} was not found");
    }
}
