//! The ledger's books, kept a second time and in another way: what was granted and what became of it.
//!
//! It takes the answers of the real ledger as facts and adds them up again, without looking at the ledger's
//! own sums; then both are compared.
//!
//! Invariant: nothing here calls the ledger's arithmetic.

use std::collections::BTreeMap;

use otto_core::UtcDay;
use otto_core::id::ReservationId;
use otto_core::ledger::{Grant, Ledger, ReserveRequest, Scope, Settlement};

use crate::rule::{Held, Rule, require};

/// Money and tokens, in plain units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amounts {
    pub(crate) picodollars: u128,
    pub(crate) tokens: u128,
}

/// All reservations and what they add up to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    booked: BTreeMap<ReservationId, Booked>,
    sums: BTreeMap<Scope, Sum>,
}

#[derive(Debug, Clone)]
struct Booked {
    scopes: Vec<Scope>,
    hold: Amounts,
    charged: Amounts,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Taken for dead: charged at the hold until its owner says otherwise.
    Swept,
    Settled,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    spent: Amounts,
    held: Amounts,
    /// The highest limits that anything was granted under.
    cost_limit: Option<u128>,
    token_limit: Option<u128>,
    /// The provider billed more than was held: nothing more may be granted.
    overdrawn: bool,
}

impl Books {
    pub(crate) fn granted(
        &mut self,
        ledger: &Ledger,
        today: UtcDay,
        request: &ReserveRequest,
        grant: &Grant,
    ) -> Held {
        let hold = Amounts {
            picodollars: u128::from(grant.held_cost.picodollars()),
            tokens: u128::from(grant.held_tokens),
        };
        let quote = &request.quote;
        let needed = u128::from(quote.prompt_cost.picodollars())
            + u128::from(quote.output_price.picodollars()) * u128::from(grant.max_output_tokens);
        require(hold.picodollars >= needed, Rule::TruthCovered, || {
            format!(
                "{} was granted {} output tokens and holds less than they cost",
                request.id, grant.max_output_tokens
            )
        })?;
        let mut scopes: Vec<Scope> = Vec::new();
        for limits in &request.scopes {
            let scope = limits.scope.on(today);
            let sum = self.sums.entry(scope.clone()).or_default();
            require(!sum.overdrawn, Rule::WithinLimit, || {
                format!("{} was granted in the overdrawn {scope}", request.id)
            })?;
            if scopes.contains(&scope) {
                continue;
            }
            sum.held.picodollars += hold.picodollars;
            sum.held.tokens += hold.tokens;
            if let Some(limit) = &limits.cost {
                let limit = u128::from(limit.value.picodollars());
                let total = sum.spent.picodollars + sum.held.picodollars;
                require(total <= limit, Rule::WithinLimit, || {
                    format!("{total} of {limit} picodollars in {scope}")
                })?;
                sum.cost_limit = sum.cost_limit.max(Some(limit));
            }
            if let Some(limit) = &limits.tokens {
                let limit = u128::from(limit.value);
                let total = sum.spent.tokens + sum.held.tokens;
                require(total <= limit, Rule::WithinLimit, || {
                    format!("{total} of {limit} tokens in {scope}")
                })?;
                sum.token_limit = sum.token_limit.max(Some(limit));
            }
            scopes.push(scope);
        }
        let booked = Booked {
            scopes,
            hold,
            charged: Amounts::default(),
            state: State::Open,
        };
        let known = self.booked.insert(request.id, booked);
        require(known.is_none(), Rule::SettledOnce, || {
            format!("{} was granted twice", request.id)
        })?;
        self.compare(ledger, request.id)
    }

    pub(crate) fn settled(
        &mut self,
        ledger: &Ledger,
        id: ReservationId,
        settlement: &Settlement,
    ) -> Held {
        let Some(booked) = self.booked.get_mut(&id) else {
            // Nobody knows after a crash whether a reservation was granted: it is settled anyway.
            return Ok(());
        };
        require(booked.state != State::Settled, Rule::SettledOnce, || {
            format!("{id} was settled twice")
        })?;
        let was_swept = booked.state == State::Swept;
        let charge = match settlement {
            Settlement::Used { usage, cost } => Amounts {
                picodollars: u128::from(cost.picodollars()),
                tokens: u128::from(usage.prompt_tokens()) + u128::from(usage.output_tokens),
            },
            // What was charged to the dead stays charged: nothing is refunded on a guess.
            Settlement::Forfeited | Settlement::Released if was_swept => booked.hold,
            Settlement::Forfeited => booked.hold,
            Settlement::Released => Amounts::default(),
        };
        booked.state = State::Settled;
        self.charge(id, was_swept, charge);
        self.compare(ledger, id)
    }

    pub(crate) fn swept(&mut self, ledger: &Ledger, id: ReservationId) -> Held {
        let Some(booked) = self.booked.get_mut(&id) else {
            return Ok(());
        };
        if booked.state != State::Open {
            return Ok(());
        }
        booked.state = State::Swept;
        let hold = booked.hold;
        self.charge(id, false, hold);
        self.compare(ledger, id)
    }

    fn charge(&mut self, id: ReservationId, was_swept: bool, charge: Amounts) {
        let Some(booked) = self.booked.get_mut(&id) else {
            return;
        };
        let hold = booked.hold;
        booked.charged = charge;
        let is_overdrawn = charge.picodollars > hold.picodollars || charge.tokens > hold.tokens;
        for scope in &booked.scopes {
            let sum = self.sums.entry(scope.clone()).or_default();
            let from = if was_swept {
                &mut sum.spent
            } else {
                &mut sum.held
            };
            from.picodollars -= hold.picodollars;
            from.tokens -= hold.tokens;
            sum.spent.picodollars += charge.picodollars;
            sum.spent.tokens += charge.tokens;
            sum.overdrawn |= is_overdrawn;
        }
    }

    /// The sums of the scopes of a reservation: as the ledger has them, and within every limit.
    fn compare(&self, ledger: &Ledger, id: ReservationId) -> Held {
        let scopes = self
            .booked
            .get(&id)
            .map_or(&[][..], |booked| &booked.scopes);
        for scope in scopes {
            let sum = &self.sums[scope];
            let account = ledger.account(scope);
            let same = sum.spent.picodollars == u128::from(account.spent_cost.picodollars())
                && sum.held.picodollars == u128::from(account.held_cost.picodollars())
                && sum.spent.tokens == u128::from(account.spent_tokens)
                && sum.held.tokens == u128::from(account.held_tokens);
            require(same, Rule::BooksAgree, || {
                format!("{scope}: {sum:?}, and the ledger says {account:?}")
            })?;
            let within =
                |limit: Option<u128>, total: u128| limit.is_none_or(|limit| total <= limit);
            let obeys = sum.overdrawn
                || within(sum.cost_limit, sum.spent.picodollars + sum.held.picodollars)
                    && within(sum.token_limit, sum.spent.tokens + sum.held.tokens);
            require(obeys, Rule::WithinLimit, || format!("{scope}: {sum:?}"))?;
        }
        Ok(())
    }

    /// What is held or charged for a reservation.
    pub(crate) fn covered(&self, id: &ReservationId) -> Amounts {
        match self.booked.get(id) {
            None => Amounts::default(),
            Some(booked) if booked.state == State::Open => booked.hold,
            Some(booked) => booked.charged,
        }
    }

    /// Whether a reservation can carry a call: its money is set aside, and nobody has settled it.
    pub(crate) fn is_unsettled(&self, id: &ReservationId) -> bool {
        self.booked
            .get(id)
            .is_some_and(|booked| booked.state != State::Settled)
    }

    /// Whether a reservation was settled at its hold: whatever its call costs is paid for.
    pub(crate) fn is_charged_in_full(&self, id: &ReservationId) -> bool {
        self.booked
            .get(id)
            .is_some_and(|booked| booked.state == State::Settled && booked.charged == booked.hold)
    }

    /// The reservations that hold money.
    pub(crate) fn open(&self) -> impl Iterator<Item = &ReservationId> {
        self.booked
            .iter()
            .filter(|(_, booked)| booked.state == State::Open)
            .map(|(id, _)| id)
    }

    /// Everything that is held anywhere.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&Scope, Amounts)> {
        self.sums
            .iter()
            .map(|(scope, sum)| (scope, sum.held))
            .filter(|(_, held)| *held != Amounts::default())
    }
}
