//! The book itself: accounts, reservations, and the operations on them.
//!
//! A store owns a [`Ledger`], makes each change durable and answers after that. The book holds what is in
//! use: a store may load accounts when they are first needed and drop settled reservations once their rows
//! are written. It does not know about leases, kill switches or rows.
//!
//! Invariant: a reserve either holds in every scope or changes nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::agent::Limit;
use crate::id::{EffectId, ReservationId};
use crate::ledger::account::Account;
use crate::ledger::fit::fit;
use crate::ledger::reservation::{
    Grant, Reservation, ReservationState, ReserveOutcome, ReserveRequest, SettleOutcome, Settled,
    Settlement, Warning,
};
use crate::ledger::{Amount, Resource, Scope, ScopeKey, ScopeLimits};
use crate::{InvocationId, Money, UtcDay};

/// All accounts and reservations in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    pub(super) accounts: BTreeMap<Scope, Account>,
    pub(super) reservations: BTreeMap<ReservationId, Reservation>,
}

impl Ledger {
    /// An empty book.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            accounts: BTreeMap::new(),
            reservations: BTreeMap::new(),
        }
    }

    /// A book as a store kept it. The accounts already contain what the reservations hold.
    #[must_use]
    pub fn restore(
        accounts: impl IntoIterator<Item = (Scope, Account)>,
        open: impl IntoIterator<Item = (ReservationId, Reservation)>,
    ) -> Self {
        Self {
            accounts: accounts.into_iter().collect(),
            reservations: open.into_iter().collect(),
        }
    }

    /// Holds money and tokens for one call in every scope at once, or says which limit is in the way.
    ///
    /// The output is clamped to the most tokens, from the quote's floor to what it wants, that keep
    /// `spent + held + prompt + output <= limit` for every limit of every scope. Below the floor nothing is
    /// held. (A floor above what is wanted counts as what is wanted.) `today` names the accounts of
    /// agents and days.
    ///
    /// Asking again with an id that is still known changes nothing. An id the store has told the book to
    /// [`forget`](Self::forget) is unknown here: the store answers for it from its row.
    pub fn reserve(&mut self, today: UtcDay, request: &ReserveRequest) -> ReserveOutcome {
        let Entry::Vacant(vacant) = self.reservations.entry(request.id) else {
            return self.already_reserved(&request.id);
        };
        let scopes = resolve(today, &request.scopes);
        let grant = match fit(&self.accounts, &scopes, &request.quote) {
            Ok(grant) => grant,
            Err(denial) => return ReserveOutcome::OverLimit(denial),
        };
        hold(&mut self.accounts, &scopes, &grant);
        vacant.insert(Reservation {
            grant,
            scopes,
            state: ReservationState::Open,
        });
        ReserveOutcome::Granted(grant)
    }

    /// Ends a reservation in every scope it was held in.
    ///
    /// Exactly one settlement counts. A repeated or late one changes nothing, but for one case: a usage
    /// record that arrives after a forfeit replaces the forfeited hold by the real amount. That is the only
    /// way in which what is spent can fall.
    ///
    /// A usage above the hold is booked in full and latches every scope of the reservation: the estimate
    /// was wrong, and nothing more is granted there.
    pub fn settle(&mut self, id: ReservationId, settlement: &Settlement) -> SettleOutcome {
        let Some(reservation) = self.reservations.get_mut(&id) else {
            return SettleOutcome::Unknown;
        };
        let grant = reservation.grant;
        let hold = (grant.held_cost, grant.held_tokens);
        let (charge, next) = match (reservation.state, settlement) {
            (
                ReservationState::Open | ReservationState::Forfeited,
                Settlement::Used { usage, cost },
            ) => ((*cost, usage.total_tokens()), ReservationState::Settled),
            (ReservationState::Open, Settlement::Forfeited) => (hold, ReservationState::Forfeited),
            (ReservationState::Open, Settlement::Released) => {
                ((Money::ZERO, 0), ReservationState::Settled)
            }
            (ReservationState::Forfeited, Settlement::Forfeited | Settlement::Released)
            | (ReservationState::Settled, _) => return SettleOutcome::AlreadySettled,
        };
        let overdrawn = charge.0 > hold.0 || charge.1 > hold.1;
        let corrects = reservation.state == ReservationState::Forfeited;
        reservation.state = next;
        let mut warnings = Vec::new();
        for (scope, limits) in &reservation.scopes {
            let account = match self.accounts.get_mut(scope) {
                Some(account) => account,
                None => self.accounts.entry(scope.clone()).or_default(),
            };
            if corrects {
                account.uncharge(hold.0, hold.1);
            } else {
                account.unhold(hold.0, hold.1);
            }
            account.charge(charge.0, charge.1);
            account.latched |= overdrawn;
            warn(account, scope, limits, &mut warnings);
        }
        SettleOutcome::Settled(Settled {
            charged: charge.0,
            warnings,
            overdrawn,
        })
    }

    /// The totals of a scope; zero when nothing was ever booked there.
    #[must_use]
    pub fn account(&self, scope: &Scope) -> Account {
        self.accounts.get(scope).cloned().unwrap_or_default()
    }

    /// Whether the book has an account of this scope.
    #[must_use]
    pub fn has_account(&self, scope: &Scope) -> bool {
        self.accounts.contains_key(scope)
    }

    /// All accounts in the book, in the order of their scopes.
    pub fn accounts(&self) -> impl ExactSizeIterator<Item = (&Scope, &Account)> {
        self.accounts.iter()
    }

    /// A reservation, if the book still knows it. Its `scopes` are the accounts that its grant and its
    /// settlement change.
    #[must_use]
    pub fn reservation(&self, id: &ReservationId) -> Option<&Reservation> {
        self.reservations.get(id)
    }

    /// The reservations of an invocation that the book knows, in the order of their ids.
    pub fn reservations_of(
        &self,
        invocation: InvocationId,
    ) -> impl Iterator<Item = (&ReservationId, &Reservation)> {
        let id = |effect| ReservationId {
            invocation,
            effect: EffectId(effect),
        };
        self.reservations.range(id(0)..=id(u64::MAX))
    }

    /// The reservations that hold money now, in the order of their ids.
    pub fn open_reservations(&self) -> impl Iterator<Item = (&ReservationId, &Reservation)> {
        self.reservations
            .iter()
            .filter(|(_, reservation)| reservation.state == ReservationState::Open)
    }

    /// Brings an account into the book that the store has kept outside. An account that is already here
    /// is newer and stays.
    pub fn load_account(&mut self, scope: Scope, account: Account) {
        self.accounts.entry(scope).or_insert(account);
    }

    /// Brings an open or forfeited reservation into the book that the store has kept outside. One that is
    /// already here is newer and stays.
    pub fn load_reservation(&mut self, id: ReservationId, reservation: Reservation) {
        self.reservations.entry(id).or_insert(reservation);
    }

    /// Drops a reservation that no longer holds money, once the store has its row. Says whether it was
    /// dropped: an open one stays.
    pub fn forget(&mut self, id: &ReservationId) -> bool {
        let closed = self
            .reservations
            .get(id)
            .is_some_and(|reservation| reservation.state != ReservationState::Open);
        closed && self.reservations.remove(id).is_some()
    }

    /// Drops an account that holds nothing, once the store has its row. Says whether it was dropped.
    /// The store loads it again before the next request that names its scope.
    pub fn forget_account(&mut self, scope: &Scope) -> bool {
        let idle = self
            .accounts
            .get(scope)
            .is_some_and(|account| account.held_cost == Money::ZERO && account.held_tokens == 0);
        idle && self.accounts.remove(scope).is_some()
    }

    pub(super) fn already_reserved(&self, id: &ReservationId) -> ReserveOutcome {
        match self.reservations.get(id) {
            Some(Reservation {
                grant,
                state: ReservationState::Open,
                ..
            }) => ReserveOutcome::AlreadyGranted(*grant),
            _ => ReserveOutcome::AlreadySettled,
        }
    }
}

/// Holds a grant in every scope.
pub(super) fn hold(
    accounts: &mut BTreeMap<Scope, Account>,
    scopes: &[(Scope, ScopeLimits)],
    grant: &Grant,
) {
    for (scope, _) in scopes {
        // A look-up first: the account is nearly always there, and `entry` would clone the scope.
        let account = match accounts.get_mut(scope) {
            Some(account) => account,
            None => accounts.entry(scope.clone()).or_default(),
        };
        account.hold(grant.held_cost, grant.held_tokens);
    }
}

/// The accounts of a request on that day, each once. A scope named twice gets the tighter limits of both;
/// a request that names none is added up by its day, so that no money is held outside every account.
pub(super) fn resolve(today: UtcDay, requested: &[ScopeLimits]) -> Vec<(Scope, ScopeLimits)> {
    let mut scopes: Vec<(Scope, ScopeLimits)> = Vec::with_capacity(requested.len().max(1));
    for limits in requested {
        let scope = limits.scope.on(today);
        match scopes.iter_mut().find(|(known, _)| *known == scope) {
            Some((_, known)) => {
                tighten(&mut known.cost, limits.cost.as_ref());
                tighten(&mut known.tokens, limits.tokens.as_ref());
            }
            None => scopes.push((scope, limits.clone())),
        }
    }
    if scopes.is_empty() {
        let limits = ScopeLimits {
            scope: ScopeKey::Day,
            cost: None,
            tokens: None,
        };
        scopes.push((limits.scope.on(today), limits));
    }
    scopes
}

fn tighten<T: PartialOrd + Clone>(limit: &mut Option<Limit<T>>, other: Option<&Limit<T>>) {
    if let Some(other) = other
        && limit.as_ref().is_none_or(|limit| other.value < limit.value)
    {
        *limit = Some(other.clone());
    }
}

/// Raises the 80 % warnings of one account that are due and were not raised before.
fn warn(account: &mut Account, scope: &Scope, limits: &ScopeLimits, warnings: &mut Vec<Warning>) {
    if let Some(limit) = &limits.cost
        && !account.warned_cost
        && account.cost_meter(Some(limit.value)).passed_warning()
    {
        account.warned_cost = true;
        warnings.push(Warning {
            scope: scope.clone(),
            resource: Resource::Cost,
            limit: Amount::Cost(limit.value),
            spent: Amount::Cost(account.spent_cost),
            origin: limit.origin.clone(),
        });
    }
    if let Some(limit) = &limits.tokens
        && !account.warned_tokens
        && account.token_meter(Some(limit.value)).passed_warning()
    {
        account.warned_tokens = true;
        warnings.push(Warning {
            scope: scope.clone(),
            resource: Resource::Tokens,
            limit: Amount::Tokens(limit.value),
            spent: Amount::Tokens(account.spent_tokens),
            origin: limit.origin.clone(),
        });
    }
}
