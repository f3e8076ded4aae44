//! What the writer remembers of rows, so that most calls read nothing.
//!
//! Only a memory: every change is written through in the same transaction, and the whole is dropped when a
//! transaction fails or another process has committed.

use std::collections::{BTreeSet, HashMap};

use otto_core::id::ReservationId;
use otto_core::ledger::{Ledger, Scope};
use otto_core::port::store::KillRow;
use otto_core::store_rules::{InvocationRow, LeaseRow};
use otto_core::{InvocationId, SessionId, UtcDay};

use crate::writer::statements::Statements;

/// BOUND: remembered rows per kind. At the bound all of them are forgotten and read again on use.
const ROWS_MAX: usize = 20_000;

/// What the writer remembers.
#[derive(Default)]
pub(crate) struct Cache {
    pub(super) ledger: Ledger,
    /// Accounts that changed in this transaction and are not written yet.
    pub(super) dirty: BTreeSet<Scope>,
    /// Open reservations whose hold changed in this transaction and is not written yet.
    pub(super) dirty_holds: BTreeSet<ReservationId>,
    /// Whether the ledger has all money held ahead.
    pub(super) has_all_ahead: bool,
    /// Reservations that this transaction brought into the ledger or settled.
    pub(super) touched: Vec<ReservationId>,
    accounts: Vec<Scope>,
    pub(super) leases: HashMap<SessionId, LeaseRow>,
    pub(super) invocations: HashMap<InvocationId, KnownInvocation>,
    pub(super) kill: Option<Option<KillRow>>,
    pub(super) highest_day: Option<UtcDay>,
    data_version: Option<i64>,
}

/// An invocation as the writer remembers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownInvocation {
    pub(super) row: InvocationRow,
    /// The highest effect that money was held for: a higher one is new, without a look.
    pub(super) last_effect: Option<u64>,
    /// The effect of the money that it holds ahead.
    pub(super) ahead: Option<u64>,
}

impl Cache {
    /// Whether another connection has committed since the last call. Asked inside a transaction.
    pub(super) fn is_stale(&mut self, statements: &mut Statements<'_>) -> rusqlite::Result<bool> {
        let version: i64 = statements.data_version.query_row((), |row| row.get(0))?;
        let before = self.data_version.replace(version);
        Ok(before.is_some_and(|before| before != version))
    }

    /// Forgets everything but the version of the file.
    pub(super) fn reset(&mut self) {
        *self = Self {
            data_version: self.data_version,
            ..Self::default()
        };
    }

    /// Forgets all leases: their rows have changed.
    pub(super) fn forget_leases(&mut self) {
        self.leases.clear();
    }

    /// Notes that an account was brought into the ledger.
    pub(super) fn loaded(&mut self, scope: Scope) {
        self.accounts.push(scope);
    }

    /// After a commit: drops what no longer holds money, and everything above the bounds.
    pub(super) fn trim(&mut self) {
        for id in self.touched.drain(..) {
            self.ledger.forget(&id);
        }
        if self.accounts.len() > ROWS_MAX {
            let ledger = &mut self.ledger;
            self.accounts.retain(|scope| !ledger.forget_account(scope));
        }
        if self.leases.len() > ROWS_MAX {
            self.leases.clear();
        }
        if self.invocations.len() > ROWS_MAX {
            self.invocations.clear();
        }
    }
}
