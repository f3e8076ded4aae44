//! Retention: which artifacts go, and going so that a crash leaves nothing half done.
//!
//! Never touched: artifacts of a pinned session, of a session with an unfinished invocation, which may still
//! refer to them, and those whose files are still to be written. A row is marked (durably) before its file is removed, and removed after it; whatever
//! a crash leaves marked is finished by the next sweep.
//!
//! Invariant: a row that is not marked has its file, or gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use otto_core::port::store::{ArtifactRef, Durability, StoreError};
use otto_core::{SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::artifacts::Checkpointer;
use crate::artifacts::rows;
use crate::db::codec::{read_count, read_session, read_text, read_time};
use crate::error::Fault;
use crate::writer::{SqlRows, many};

/// Which artifacts are kept. What passes any of the bounds goes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Keep at most this long. Default: 7 days.
    pub max_age: Option<Duration>,
    /// Keep at most this many.
    pub max_count: Option<u64>,
    /// Keep at most this many bytes.
    pub max_bytes: Option<u64>,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            max_age: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            max_count: None,
            max_bytes: None,
        }
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Default)]
pub struct RetentionReport {
    /// Artifacts removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Sessions whose files could not be removed, and why; the next sweep tries again.
    pub failures: Vec<(SessionId, StoreError)>,
}

/// BOUND: artifacts removed per transaction.
const CHUNK: usize = 5_000;

#[derive(Debug, Clone)]
struct Victim {
    session: SessionId,
    path: Arc<str>,
    size: u64,
}

impl Checkpointer {
    /// Removes what the policy does not keep.
    ///
    /// Cancel safety: dropped before it is done, the rest is done by the next sweep.
    ///
    /// # Errors
    /// When the database fails. What fails for one session is in the report and does not stop the others.
    pub async fn sweep(&self, policy: &RetentionPolicy) -> Result<RetentionReport, StoreError> {
        let mut report = RetentionReport::default();
        loop {
            let failed: BTreeSet<SessionId> = report
                .failures
                .iter()
                .map(|(session, _)| *session)
                .collect();
            let (policy, now) = (policy.clone(), self.inner.clock.now());
            let found = self
                .inner
                .ask("look for expired artifacts", move |connection| {
                    victims(connection, &policy, now, &failed)
                })
                .await?;
            // Durable before the first file goes: else a power loss could leave rows whose files are gone.
            let marked = self
                .inner
                .change(Durability::Synced, move |rows, _| mark(rows, found))
                .await?;
            if marked.is_empty() {
                return Ok(report);
            }
            for (session, victims) in marked {
                let removed = self.remove(session, victims).await;
                match removed {
                    Ok((count, bytes)) => {
                        report.removed += count;
                        report.removed_bytes += bytes;
                    }
                    Err(error) => report.failures.push((session, error)),
                }
            }
        }
    }

    /// Keeps the artifacts of a session whatever the policy says. Synced.
    ///
    /// # Errors
    /// `NotFound` for a session that was never recorded; when the database fails.
    pub async fn pin(&self, session: SessionId) -> Result<(), StoreError> {
        self.set_pin(session, 1).await
    }

    /// Lets the policy decide about a session again. Synced.
    ///
    /// # Errors
    /// As [`pin`](Self::pin).
    pub async fn unpin(&self, session: SessionId) -> Result<(), StoreError> {
        self.set_pin(session, 0).await
    }

    async fn set_pin(&self, session: SessionId, pinned: i64) -> Result<(), StoreError> {
        let change = move |rows: &mut SqlRows<'_, '_>, _| {
            if rows
                .statements_mut()
                .pin
                .execute(params![session.as_bytes(), pinned])?
                == 0
            {
                return Err(StoreError::NotFound {
                    what: Arc::from(format!("session {session}")),
                }
                .into());
            }
            Ok(())
        };
        self.inner.change(Durability::Synced, change).await
    }

    /// Ends what was begun by marking rows as `deleting`: files first, then their rows.
    pub(crate) async fn remove_marked(
        &self,
        session: SessionId,
        artifacts: Vec<ArtifactRef>,
    ) -> Result<(), StoreError> {
        let victims = artifacts.into_iter().map(|artifact| Victim {
            session,
            path: artifact.path,
            size: artifact.size_bytes,
        });
        self.remove(session, victims.collect()).await.map(drop)
    }

    async fn remove(
        &self,
        session: SessionId,
        victims: Vec<Victim>,
    ) -> Result<(u64, u64), StoreError> {
        let paths: Vec<Arc<str>> = victims.iter().map(|victim| victim.path.clone()).collect();
        self.on_disk(move |disk| disk.remove_all(session, &paths))
            .await?;
        let sum = (
            victims.len() as u64,
            victims.iter().map(|victim| victim.size).sum(),
        );
        let change = move |rows: &mut SqlRows<'_, '_>, _| {
            victims
                .iter()
                .try_for_each(|victim| rows::delete(rows, victim.session, &victim.path))
        };
        self.inner.change(Durability::Relaxed, change).await?;
        Ok(sum)
    }
}

/// What an earlier sweep has begun, then what the policy does not keep, oldest first.
fn victims(
    connection: &Connection,
    policy: &RetentionPolicy,
    now: Timestamp,
    failed: &BTreeSet<SessionId>,
) -> Result<Vec<Victim>, Fault> {
    let mut statement =
        connection.prepare("SELECT session, path, size FROM artifacts WHERE deleting = 1")?;
    let begun = many(&mut statement, params![], read_victim)?;
    let mut found: Vec<Victim> = begun
        .into_iter()
        .filter(|victim| !failed.contains(&victim.session))
        .take(CHUNK)
        .collect();
    let (mut left, mut left_bytes) = connection.query_row(
        "SELECT count(*), coalesce(sum(size), 0) FROM artifacts WHERE deleting = 0",
        (),
        |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get::<_, i64>(1)?.cast_unsigned(),
            ))
        },
    )?;
    let mut statement = connection.prepare(
        "SELECT a.session, a.path, a.size, a.created_at FROM artifacts a
        WHERE a.deleting = 0
            AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session = a.session AND s.pinned = 1)
            AND NOT EXISTS (SELECT 1 FROM invocations i WHERE i.session = a.session AND i.finished_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM unwritten u WHERE u.invocation = a.invocation)
        ORDER BY a.created_at, a.session, a.path",
    )?;
    let mut rows = statement.query(params![])?;
    while found.len() < CHUNK
        && let Some(row) = rows.next()?
    {
        let created_at = read_time(row, 3)?;
        let expired = policy
            .max_age
            .is_some_and(|age| created_at.after(age) <= now)
            || policy.max_count.is_some_and(|max| left > max)
            || policy.max_bytes.is_some_and(|max| left_bytes > max);
        if !expired {
            break;
        }
        let victim = read_victim(row)?;
        if !failed.contains(&victim.session) {
            left -= 1;
            left_bytes = left_bytes.saturating_sub(victim.size);
            found.push(victim);
        }
    }
    Ok(found)
}

fn read_victim(row: &rusqlite::Row<'_>) -> Result<Victim, Fault> {
    Ok(Victim {
        session: read_session(row, 0)?,
        path: read_text(row, 1)?,
        size: read_count(row, 2)?,
    })
}

/// Marks what may still go: an invocation may have begun, or a session been pinned, since it was looked up.
fn mark(
    rows: &mut SqlRows<'_, '_>,
    found: Vec<Victim>,
) -> Result<BTreeMap<SessionId, Vec<Victim>>, Fault> {
    let mut marked: BTreeMap<SessionId, Vec<Victim>> = BTreeMap::new();
    for victim in found {
        if rows
            .statements_mut()
            .mark_deleting
            .execute(params![victim.session.as_bytes(), &*victim.path])?
            > 0
        {
            marked.entry(victim.session).or_default().push(victim);
        }
    }
    Ok(marked)
}
