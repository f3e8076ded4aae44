//! Leases: who may drive the invocations of a session.
//!
//! The epoch counts takeovers. A node keeps its epoch while it holds the lease, so that claiming twice is
//! one claim; whoever takes over, or claims again after giving back, gets the next one.
//!
//! Invariant: at any time at most one (node, epoch) passes [`LeaseRow::belongs_to`] for a session.

use std::sync::Arc;
use std::time::Duration;

use crate::port::store::{ClaimOutcome, Lease, Outcome, StoreError};
use crate::store_rules::Rows;
use crate::{SessionId, Timestamp};

/// The longest lease. A longer one is cut to it, so that a mistake cannot lock a session for good.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The row of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The node that holds it; `None` when it was given back.
    pub node: Option<Arc<str>>,
    /// Counts the takeovers, from 1.
    pub epoch: u64,
    /// The end of the lease on the store's clock.
    pub until: Timestamp,
    /// How long it was taken for.
    pub ttl: Duration,
}

impl LeaseRow {
    /// Whether a call under `lease` may write.
    #[must_use]
    pub fn belongs_to(&self, lease: &Lease) -> bool {
        self.epoch == lease.epoch && self.node.as_deref() == Some(&*lease.node)
    }

    /// Whether another node must wait at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.node.is_some() && now < self.until
    }

    fn lease(&self, session: SessionId, node: Arc<str>) -> Lease {
        Lease {
            session,
            node,
            epoch: self.epoch,
        }
    }
}

/// Claims a session for a node if it is free, expired or already its own.
///
/// # Errors
/// `NotFound` for a session that was never recorded; what the rows report.
pub fn claim<R: Rows>(
    rows: &mut R,
    now: Timestamp,
    session: SessionId,
    node: &Arc<str>,
    ttl: Duration,
) -> Result<ClaimOutcome, R::Error> {
    let Some(row) = rows.lease(session)? else {
        return Err(StoreError::NotFound {
            what: Arc::from(format!("session {session}")),
        }
        .into());
    };
    Ok(match take(rows, now, session, Some(row), node, ttl)? {
        Ok(lease) => ClaimOutcome::Claimed(lease),
        Err(node) => ClaimOutcome::Held { node },
    })
}

/// Extends a lease, also one that has expired but was not taken over.
///
/// # Errors
/// What the rows report.
pub fn heartbeat<R: Rows>(
    rows: &mut R,
    now: Timestamp,
    lease: &Lease,
    ttl: Duration,
) -> Result<Outcome, R::Error> {
    match rows.lease(lease.session)? {
        Some(row) if row.belongs_to(lease) => {
            let ttl = ttl.min(MAX_LEASE_TTL);
            rows.set_lease(
                lease.session,
                LeaseRow {
                    until: now.after(ttl),
                    ttl,
                    ..row
                },
            )?;
            Ok(Outcome::Done)
        }
        _ => Ok(Outcome::Fenced),
    }
}

/// Gives a lease back.
///
/// # Errors
/// What the rows report.
pub fn release<R: Rows>(rows: &mut R, lease: &Lease) -> Result<Outcome, R::Error> {
    match rows.lease(lease.session)? {
        Some(row) if row.belongs_to(lease) => {
            rows.set_lease(
                lease.session,
                LeaseRow {
                    node: None,
                    until: Timestamp::EPOCH,
                    ..row
                },
            )?;
            Ok(Outcome::Done)
        }
        Some(row) if row.epoch == lease.epoch && row.node.is_none() => Ok(Outcome::AlreadyDone),
        _ => Ok(Outcome::Fenced),
    }
}

/// Whether a call under `lease` may write.
pub(super) fn holds<R: Rows>(rows: &mut R, lease: &Lease) -> Result<bool, R::Error> {
    Ok(rows
        .lease(lease.session)?
        .is_some_and(|row| row.belongs_to(lease)))
}

/// Takes a lease that is free, expired or the node's own; else names the node that holds it.
pub(super) fn take<R: Rows>(
    rows: &mut R,
    now: Timestamp,
    session: SessionId,
    row: Option<LeaseRow>,
    node: &Arc<str>,
    ttl: Duration,
) -> Result<Result<Lease, Arc<str>>, R::Error> {
    let ttl = ttl.min(MAX_LEASE_TTL);
    let mut taken = LeaseRow {
        node: Some(node.clone()),
        epoch: 1,
        until: now.after(ttl),
        ttl,
    };
    if let Some(row) = row {
        match &row.node {
            Some(holder) if holder == node => taken.epoch = row.epoch,
            Some(holder) if row.is_live(now) => {
                // A clock that was set back has lengthened this lease: from here on it lasts as long as it
                // was taken for, so that a dead node cannot hold its session until the clock is back.
                let holder = holder.clone();
                let latest = now.after(row.ttl);
                if row.until > latest {
                    rows.set_lease(
                        session,
                        LeaseRow {
                            until: latest,
                            ..row
                        },
                    )?;
                }
                return Ok(Err(holder));
            }
            _ => taken.epoch = row.epoch.saturating_add(1),
        }
    }
    let lease = taken.lease(session, node.clone());
    rows.set_lease(session, taken)?;
    Ok(Ok(lease))
}
