//! The audit log's standing work: records beyond its retention are removed from its front, once an hour.
//!
//! Which records go is decided here, by age and count. That they go in one piece, and that the log itself says so,
//! is the store's work. Without a bound nothing ever goes, and this task is not started.

use std::sync::{Arc, Weak};
use std::time::Duration;

use otto_core::Timestamp;
use otto_core::port::store::{AuditHead, AuditLog, AuditTrim, StoreError};
use otto_engine::clock::Clock;
use otto_engine::{Child, Condition, Health, RestartRule, Ticks};

use crate::audit::RECORDS_AT_ONCE;
use crate::retention::{EVERY, FIRST};

/// The component's name.
const NAME: &str = "audit_log";
/// BOUND: records removed per transaction; a longer front goes in several pieces.
const PIECE: usize = 10_000;

/// Which records of the audit log are kept. What passes any of the bounds goes, oldest first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AuditRetention {
    /// Keep at most this long.
    pub(crate) max_age: Option<Duration>,
    /// Keep at most this many records.
    pub(crate) max_count: Option<u64>,
}

impl AuditRetention {
    /// Whether anything may ever go.
    pub(crate) const fn has_bound(&self) -> bool {
        self.max_age.is_some() || self.max_count.is_some()
    }
}

/// The supervised task.
pub(crate) fn child(
    log: Weak<dyn AuditLog>,
    keep: AuditRetention,
    clock: Arc<dyn Clock>,
    health: Health,
) -> Child {
    Child::new(NAME, RestartRule::INFRASTRUCTURE, move |stop| {
        let (log, clock, health) = (log.clone(), clock.clone(), health.clone());
        Box::pin(async move {
            let mut ticks = Ticks::after(FIRST, EVERY, log, stop);
            while let Some(log) = ticks.next().await {
                // What could not be removed is found again at the next tick.
                let trimmed = trim(&*log, keep, clock.now()).await;
                let condition = trimmed.err().map_or(Condition::Ready, |error| {
                    Condition::degraded(&format!(
                        "remove records of the audit log beyond its retention: {error}"
                    ))
                });
                health.report(NAME, condition);
            }
        })
    })
}

async fn trim(log: &dyn AuditLog, keep: AuditRetention, now: Timestamp) -> Result<(), StoreError> {
    while let Some(through) = last_to_go(log, keep, now).await? {
        match log.trim_audit(through, now).await? {
            AuditTrim::Done(_) => {}
            // Another process was faster, or the log is not what was read: `otto verify` tells which.
            AuditTrim::AlreadyDone | AuditTrim::NoSuchRecord => break,
        }
    }
    Ok(())
}

/// The last record of the next piece that goes.
async fn last_to_go(
    log: &dyn AuditLog,
    keep: AuditRetention,
    now: Timestamp,
) -> Result<Option<AuditHead>, StoreError> {
    let end = log.audit_head().await?.sequence;
    let mut surplus = None;
    let mut last: Option<AuditHead> = None;
    let mut count = 0;
    loop {
        let after = last.map_or(0, |last| last.sequence);
        let entries = log.read_audit(after, RECORDS_AT_ONCE).await?;
        for entry in &entries {
            let surplus = *surplus.get_or_insert_with(|| {
                let there = end.saturating_sub(entry.sequence).saturating_add(1);
                let max = keep.max_count.filter(|max| there > *max);
                // The record that says so is kept as well.
                max.map_or(0, |max| end.saturating_add(1).saturating_sub(max))
            });
            let is_old = keep
                .max_age
                .is_some_and(|age| entry.record.at.after(age) <= now);
            if count == PIECE || !(is_old || entry.sequence <= surplus) {
                return Ok(last);
            }
            count += 1;
            last = Some(AuditHead {
                sequence: entry.sequence,
                hash: entry.hash,
            });
        }
        if entries.len() < RECORDS_AT_ONCE as usize {
            return Ok(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use otto_core::port::store::{AuditCheck, AuditRecord, AuditSpan, Durability};
    use otto_store_memory::MemoryStore;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A log with a record each second, the last of them now.
    async fn log(records: u64) -> (MemoryStore, Timestamp) {
        let log = MemoryStore::new();
        let at = |n| Timestamp::from_millis(1_000 * n);
        let records = (1..=records).map(|n| AuditRecord {
            at: at(n),
            text: Arc::from("a page"),
        });
        let end = log
            .append_audit(records.collect(), Durability::Synced)
            .await;
        (log, at(end.unwrap().sequence))
    }

    async fn span(log: &MemoryStore) -> (u64, u64) {
        let check = log.check_audit(None).await.unwrap();
        let AuditCheck::Whole(AuditSpan { begins_after, end }) = check else {
            panic!("{check:?}");
        };
        (begins_after.sequence, end.sequence)
    }

    async fn trimmed(records: u64, keep: AuditRetention) -> (u64, u64) {
        let (log, now) = log(records).await;
        for _ in 0..3 {
            trim(&log, keep, now).await.unwrap();
        }
        span(&log).await
    }

    #[tokio::test]
    async fn what_is_kept_is_kept_by_age_and_by_count() {
        let keep = |age: Option<u32>, max_count| AuditRetention {
            max_age: age.map(|seconds| SECOND * seconds),
            max_count,
        };
        assert_eq!(trimmed(0, keep(Some(1), Some(1))).await, (0, 0));
        assert_eq!(trimmed(20, keep(None, None)).await, (0, 20));
        assert_eq!(trimmed(20, keep(Some(5), None)).await, (15, 21));
        assert_eq!(trimmed(20, keep(Some(20), None)).await, (0, 20));
        assert_eq!(trimmed(20, keep(None, Some(20))).await, (0, 20));
        assert_eq!(
            trimmed(20, keep(None, Some(8))).await,
            (13, 21),
            "eight with the one that says so, and no more of those"
        );
        assert_eq!(trimmed(20, keep(None, Some(1))).await, (20, 21));
        assert_eq!(trimmed(20, keep(Some(5), Some(12))).await, (15, 21));
        assert_eq!(trimmed(20, keep(Some(15), Some(8))).await, (13, 21));
    }

    #[tokio::test]
    async fn a_long_front_goes_in_pieces() {
        let (log, now) = log(2 * PIECE as u64 + 100).await;
        let keep = AuditRetention {
            max_age: None,
            max_count: Some(50),
        };
        trim(&log, keep, now).await.unwrap();
        let (begins_after, end) = span(&log).await;
        assert_eq!(
            end,
            2 * PIECE as u64 + 103,
            "three pieces, three records of them"
        );
        assert_eq!(end - begins_after, 50);
    }

    #[tokio::test]
    async fn what_the_clock_has_not_reached_holds_back_what_is_behind_it() {
        let (log, now) = log(3).await;
        let record = |at| AuditRecord {
            at,
            text: Arc::from("a page"),
        };
        let records = vec![record(now.after(SECOND * 1_000)), record(now)];
        log.append_audit(records, Durability::Synced).await.unwrap();
        let keep = AuditRetention {
            max_age: Some(SECOND * 10),
            max_count: None,
        };
        trim(&log, keep, now.after(SECOND * 100)).await.unwrap();
        assert_eq!(span(&log).await, (3, 6), "only whole prefixes go");
    }
}
