//! Owner of the ledger as the rest of Otto sees it: answers what was spent, by scope and time.
//!
//! Reservations and settlements go from the AgentServer to the store, which applies the core ledger in the same
//! transaction as everything that rides on them; this component reads.

use std::sync::Arc;

use otto_core::UtcDay;
use otto_core::ledger::{Account, Scope};
use otto_core::port::store::{Store, StoreError, UsageQuery, UsageSum};

/// Answers usage questions.
#[derive(Clone)]
pub struct CostTracker {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for CostTracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CostTracker")
    }
}

/// The sums of a usage query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    /// One row per group, in the order of the groups.
    pub rows: Vec<UsageSum>,
}

impl CostTracker {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Sums of what was charged. The sum of all rows equals the sum of all settlements, to the picodollar.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usage(&self, query: UsageQuery) -> Result<UsageReport, StoreError> {
        Ok(UsageReport {
            rows: self.store.usage(query).await?,
        })
    }

    /// What is spent and held in one scope now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn account(&self, scope: Scope) -> Result<Account, StoreError> {
        self.store.account(scope).await
    }

    /// The UTC day money is booked on now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn today(&self) -> Result<UtcDay, StoreError> {
        self.store.today().await
    }
}
