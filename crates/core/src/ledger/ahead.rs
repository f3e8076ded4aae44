//! Money held ahead: what lets most model calls start without a sync of their own.
//!
//! The first reserve of an invocation holds somewhat more than its call needs, as a second reservation (its id
//! is [`ReservationId::ahead`]). Both are durable together. A later call of the same invocation that fits into
//! that money is *drawn* from it: the ledger moves the amount from one reservation to the other, the accounts
//! stay as they are. What a call did not use goes back to the money ahead, so a small amount lasts for many
//! calls. The end of the invocation gives the rest back.
//!
//! Why a drawn hold needs no sync: if the machine loses its last changes, the ledger stands where it stood at
//! the last durable one, and there the whole amount is held. Everything that was spent since came out of it, and
//! the sweep charges it whole. If only the process died nothing is lost, and the sweep gives the rest back.
//!
//! It never stands in anyone's way: it is taken only as far as it leaves half of every limit free, and a call
//! that would get less than it wants because of it makes its owners give it back.
//!
//! Invariant: a draw, a return and a settlement do not raise `spent + held` of any account.

use std::collections::BTreeSet;

use crate::id::ReservationId;
use crate::ledger::book::{hold, resolve};
use crate::ledger::fit::{fit, whole};
use crate::ledger::{
    Grant, Ledger, Reservation, ReservationState, ReserveOutcome, ReserveRequest, Scope,
    ScopeLimits, Settlement,
};
use crate::{InvocationId, Money, UtcDay};

/// Whether a reserve holds money ahead, and may draw on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookAhead {
    /// No: every reserve is durable by itself.
    #[default]
    None,
    /// Yes.
    Hold,
}

/// What a reserve came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The answer.
    pub outcome: ReserveOutcome,
    /// The money ahead that it was drawn from. The accounts did not change, and it need not be made durable
    /// before the call is made.
    pub drawn_from: Option<ReservationId>,
    /// Money ahead that was taken with it.
    pub taken: Option<ReservationId>,
    /// Money ahead that was given back for it.
    pub returned: Vec<ReservationId>,
}

impl Reserved {
    fn only(outcome: ReserveOutcome) -> Self {
        Self {
            outcome,
            drawn_from: None,
            taken: None,
            returned: Vec::new(),
        }
    }
}

impl Ledger {
    /// As [`reserve`](Self::reserve), with money held ahead.
    ///
    /// If less than what is wanted would be granted, all money ahead in the request's scopes is given back
    /// first, whoever holds it: what this book does not know must have been loaded before, see
    /// [`is_short`](Self::is_short).
    pub fn reserve_ahead(
        &mut self,
        today: UtcDay,
        request: &ReserveRequest,
        look_ahead: LookAhead,
    ) -> Reserved {
        if self.reservations.contains_key(&request.id) {
            return Reserved::only(self.already_reserved(&request.id));
        }
        let scopes = resolve(today, &request.scopes);
        let own = self.ahead_of(request.id.invocation);
        if look_ahead == LookAhead::Hold
            && let Some(own) = own
            && let Some(grant) = self.draw(own, scopes.clone(), request)
        {
            return Reserved {
                drawn_from: Some(own),
                ..Reserved::only(ReserveOutcome::Granted(grant))
            };
        }
        let mut returned: Vec<ReservationId> = own.into_iter().collect();
        if let Some(own) = own {
            self.give_back(own);
        }
        if self.falls_short(&scopes, request) {
            let others = self.ahead_in(&scopes);
            for other in &others {
                self.give_back(*other);
            }
            returned.extend(others);
        }
        let outcome = self.reserve(today, request);
        let taken = match &outcome {
            ReserveOutcome::Granted(grant) if look_ahead == LookAhead::Hold => {
                self.take_ahead(request.id.ahead(), scopes, *grant)
            }
            _ => None,
        };
        Reserved {
            outcome,
            drawn_from: None,
            taken,
            returned,
        }
    }

    /// As [`reserve_ahead`](Self::reserve_ahead) for what nearly every call is: one that is drawn from the money
    /// that its invocation holds ahead, or of an invocation that holds none and gets what it wants. `None` for any
    /// other, and then nothing was changed.
    pub fn reserve_undisturbed(
        &mut self,
        today: UtcDay,
        request: &ReserveRequest,
        look_ahead: LookAhead,
    ) -> Option<Reserved> {
        if self.reservations.contains_key(&request.id) {
            return Some(Reserved::only(self.already_reserved(&request.id)));
        }
        let scopes = resolve(today, &request.scopes);
        if let Some(own) = self.ahead_of(request.id.invocation) {
            if look_ahead == LookAhead::None {
                return None;
            }
            let grant = self.draw(own, scopes, request)?;
            return Some(Reserved {
                drawn_from: Some(own),
                ..Reserved::only(ReserveOutcome::Granted(grant))
            });
        }
        let grant = fit(&self.accounts, &scopes, &request.quote).ok()?;
        if grant.max_output_tokens < request.quote.output_wanted {
            return None;
        }
        hold(&mut self.accounts, &scopes, &grant);
        let for_ahead = (look_ahead == LookAhead::Hold).then(|| scopes.clone());
        let reservation = Reservation {
            grant,
            scopes,
            state: ReservationState::Open,
        };
        self.reservations.insert(request.id, reservation);
        let taken = for_ahead.and_then(|scopes| self.take_ahead(request.id.ahead(), scopes, grant));
        Some(Reserved {
            taken,
            ..Reserved::only(ReserveOutcome::Granted(grant))
        })
    }

    /// Whether a request would get less than it wants while all money ahead but its invocation's own stays.
    #[must_use]
    pub fn is_short(&self, today: UtcDay, request: &ReserveRequest) -> bool {
        if self.reservations.contains_key(&request.id) {
            return false;
        }
        let scopes = resolve(today, &request.scopes);
        match self.ahead_of(request.id.invocation) {
            None => self.falls_short(&scopes, request),
            Some(own) if self.left_after_draw(own, &scopes, request).is_some() => false,
            Some(own) => {
                // The own money is there to be used, so it is looked at as if it had been given back.
                let mut without = Self::new();
                for (scope, _) in &scopes {
                    without.load_account(scope.clone(), self.account(scope));
                }
                if let Some(reservation) = self.reservations.get(&own) {
                    for (scope, _) in &reservation.scopes {
                        without.load_account(scope.clone(), self.account(scope));
                    }
                    without.load_reservation(own, reservation.clone());
                }
                without.give_back(own);
                without.falls_short(&scopes, request)
            }
        }
    }

    /// The money that an invocation holds ahead.
    #[must_use]
    pub fn ahead_of(&self, invocation: InvocationId) -> Option<ReservationId> {
        self.reservations
            .range(ReservationId::ahead_ids(invocation))
            .find(|(_, reservation)| reservation.state == ReservationState::Open)
            .map(|(id, _)| *id)
    }

    /// Moves what a call did not use to the money that its invocation holds ahead in the same scopes; says
    /// which that is. To be called right after the settlement.
    pub fn return_unused(
        &mut self,
        id: ReservationId,
        settlement: &Settlement,
    ) -> Option<ReservationId> {
        let settled = self.reservations.get(&id)?;
        let (cost, tokens) = match settlement {
            Settlement::Used { usage, cost } => (*cost, usage.total_tokens()),
            Settlement::Released => (Money::ZERO, 0),
            Settlement::Forfeited => return None,
        };
        let unused = Grant {
            max_output_tokens: 0,
            held_cost: settled.grant.held_cost.checked_sub(cost)?,
            held_tokens: settled.grant.held_tokens.checked_sub(tokens)?,
        };
        if id.is_ahead() || settled.state != ReservationState::Settled {
            return None;
        }
        let ahead = self.ahead_of(id.invocation)?;
        if !same_scopes(&settled.scopes, &self.reservations.get(&ahead)?.scopes) {
            return None;
        }
        let Self {
            accounts,
            reservations,
        } = self;
        let ahead_of = reservations.get_mut(&ahead)?;
        hold(accounts, &ahead_of.scopes, &unused);
        ahead_of.grant.held_cost = ahead_of.grant.held_cost.saturating_add(unused.held_cost);
        ahead_of.grant.held_tokens = ahead_of
            .grant
            .held_tokens
            .saturating_add(unused.held_tokens);
        Some(ahead)
    }

    fn falls_short(&self, scopes: &[(Scope, ScopeLimits)], request: &ReserveRequest) -> bool {
        fit(&self.accounts, scopes, &request.quote).map_or(true, |grant| {
            grant.max_output_tokens < request.quote.output_wanted
        })
    }

    /// Gives the money back that was held ahead; says whether there was any.
    pub fn give_back(&mut self, id: ReservationId) -> bool {
        let Self {
            accounts,
            reservations,
        } = self;
        let Some(ahead) = reservations
            .get_mut(&id)
            .filter(|held| id.is_ahead() && held.state == ReservationState::Open)
        else {
            return false;
        };
        ahead.state = ReservationState::Settled;
        for (scope, _) in &ahead.scopes {
            if let Some(account) = accounts.get_mut(scope) {
                account.unhold(ahead.grant.held_cost, ahead.grant.held_tokens);
            }
        }
        true
    }

    /// Moves a call's whole hold out of the money ahead, if it is enough.
    fn draw(
        &mut self,
        own: ReservationId,
        scopes: Vec<(Scope, ScopeLimits)>,
        request: &ReserveRequest,
    ) -> Option<Grant> {
        let (grant, left) = self.left_after_draw(own, &scopes, request)?;
        self.reservations.get_mut(&own)?.grant = left;
        self.reservations.insert(
            request.id,
            Reservation {
                grant,
                scopes,
                state: ReservationState::Open,
            },
        );
        Some(grant)
    }

    /// What a call would hold and what would be left ahead; `None` if it is not enough, is held in other
    /// scopes, or a limit has been lowered below what is spent and held by now.
    fn left_after_draw(
        &self,
        own: ReservationId,
        scopes: &[(Scope, ScopeLimits)],
        request: &ReserveRequest,
    ) -> Option<(Grant, Grant)> {
        let grant = whole(&request.quote)?;
        let ahead = self.reservations.get(&own)?;
        let left = Grant {
            max_output_tokens: 0,
            held_cost: ahead.grant.held_cost.checked_sub(grant.held_cost)?,
            held_tokens: ahead.grant.held_tokens.checked_sub(grant.held_tokens)?,
        };
        let within_limits = scopes.iter().all(|(scope, limits)| {
            self.accounts.get(scope).is_some_and(|account| {
                let cost = account.cost_meter(limits.cost.as_ref().map(|limit| limit.value));
                let tokens = account.token_meter(limits.tokens.as_ref().map(|limit| limit.value));
                !account.latched && cost.room().is_some() && tokens.room().is_some()
            })
        });
        (within_limits && same_scopes(scopes, &ahead.scopes)).then_some((grant, left))
    }

    /// Holds money ahead, up to what the call itself holds, as far as half of every limit stays free.
    fn take_ahead(
        &mut self,
        id: ReservationId,
        scopes: Vec<(Scope, ScopeLimits)>,
        call: Grant,
    ) -> Option<ReservationId> {
        let (mut cost, mut tokens) = (call.held_cost.picodollars(), call.held_tokens);
        for (scope, limits) in &scopes {
            let account = self.account(scope);
            let of_cost = account.cost_meter(limits.cost.as_ref().map(|limit| limit.value));
            let of_tokens = account.token_meter(limits.tokens.as_ref().map(|limit| limit.value));
            cost = cost.min(of_cost.room_to_half());
            tokens = tokens.min(of_tokens.room_to_half());
        }
        let is_of_use = cost >= call.held_cost.picodollars() / LEAST_SHARE
            && tokens >= call.held_tokens / LEAST_SHARE;
        if !is_of_use || self.reservations.contains_key(&id) {
            return None;
        }
        let grant = Grant {
            max_output_tokens: 0,
            held_cost: Money::from_picodollars(cost)?,
            held_tokens: tokens,
        };
        hold(&mut self.accounts, &scopes, &grant);
        self.reservations.insert(
            id,
            Reservation {
                grant,
                scopes,
                state: ReservationState::Open,
            },
        );
        Some(id)
    }

    /// All money held ahead in any of these scopes.
    fn ahead_in(&self, scopes: &[(Scope, ScopeLimits)]) -> Vec<ReservationId> {
        let wanted: BTreeSet<&Scope> = scopes.iter().map(|(scope, _)| scope).collect();
        self.open_reservations()
            .filter(|(id, held)| {
                id.is_ahead() && held.scopes.iter().any(|(scope, _)| wanted.contains(scope))
            })
            .map(|(id, _)| *id)
            .collect()
    }
}

/// Money ahead that is less than this part of a call's hold would hardly cover the next call, which is a
/// little larger than the last one.
const LEAST_SHARE: u64 = 4;

/// Whether two requests are added up in the same accounts.
fn same_scopes(a: &[(Scope, ScopeLimits)], b: &[(Scope, ScopeLimits)]) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(scope, _)| b.iter().any(|(other, _)| other == scope))
}
