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

impl RetentionPolicy {
    /// Whether anything may ever go.
    #[must_use]
    pub const fn has_bound(&self) -> bool {
        self.max_age.is_some() || self.max_count.is_some() || self.max_bytes.is_some()
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
        // What has no file yet is passed over.
        self.flush().await?;
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
            AND NOT EXISTS (SELECT 1 FROM contents c WHERE c.session = a.session AND c.path = a.path)
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

#[cfg(test)]
mod tests {
    use otto_core::InvocationId;
    use otto_sim::conformance::draw::Draw;

    use super::*;
    use crate::db::schema;

    /// Random stores that are compared with the model.
    const CASES: u64 = 20_000;

    /// An artifact as the model knows it.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Kept {
        created_at: Timestamp,
        session: SessionId,
        path: String,
        size: u64,
        deleting: bool,
    }

    /// What goes, written as plainly as possible: first what was begun, then the oldest as long as a bound is
    /// passed; what is protected is passed over and counts against the bounds.
    fn expected(
        artifacts: &[Kept],
        protected: &BTreeSet<SessionId>,
        policy: &RetentionPolicy,
        now: Timestamp,
    ) -> Vec<String> {
        let mut going: Vec<String> = artifacts
            .iter()
            .filter(|artifact| artifact.deleting)
            .map(|artifact| artifact.path.clone())
            .collect();
        going.sort();
        let mut left: Vec<&Kept> = artifacts.iter().filter(|kept| !kept.deleting).collect();
        left.sort();
        loop {
            let bytes: u64 = left.iter().map(|kept| kept.size).sum();
            let oldest = left
                .iter()
                .position(|kept| !protected.contains(&kept.session));
            let Some(oldest) = oldest else { return going };
            let is_old = policy
                .max_age
                .is_some_and(|age| left[oldest].created_at.after(age) <= now);
            let are_many = policy.max_count.is_some_and(|max| left.len() as u64 > max);
            let are_large = policy.max_bytes.is_some_and(|max| bytes > max);
            if !is_old && !are_many && !are_large {
                return going;
            }
            going.push(left.remove(oldest).path.clone());
        }
    }

    #[test]
    fn what_goes_is_what_the_model_says() {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate(&connection, 0).unwrap();
        let mut passed_over = 0;
        for seed in 0..CASES {
            let mut draw = Draw::new(seed);
            connection.execute_batch("BEGIN").unwrap();
            let (artifacts, protected) = random_store(&connection, &mut draw);
            let mut maybe = |bound: u64| (draw.below(3) == 0).then(|| draw.below(bound));
            let policy = RetentionPolicy {
                max_age: maybe(50).map(Duration::from_millis),
                max_count: maybe(8),
                max_bytes: maybe(400),
            };
            let now = Timestamp::from_millis(draw.below(100));
            let mut found: Vec<String> = victims(&connection, &policy, now, &BTreeSet::new())
                .unwrap()
                .into_iter()
                .map(|victim| victim.path.to_string())
                .collect();
            let begun = artifacts.iter().filter(|kept| kept.deleting).count();
            found[..begun].sort();
            let expected = expected(&artifacts, &protected, &policy, now);
            assert_eq!(
                found, expected,
                "seed {seed}: {policy:?} at {now:?} of {artifacts:?}"
            );
            passed_over += u64::from(!protected.is_empty() && !found.is_empty());
            connection.execute_batch("ROLLBACK").unwrap();
        }
        assert!(
            passed_over > CASES / 10,
            "the cases protect too little: {passed_over}"
        );
    }

    /// Some sessions, of which some are pinned and some unfinished, and some artifacts.
    fn random_store(connection: &Connection, draw: &mut Draw) -> (Vec<Kept>, BTreeSet<SessionId>) {
        let mut protected = BTreeSet::new();
        let mut artifacts = Vec::new();
        for number in 0..1 + draw.below(4) {
            let byte = u8::try_from(number).unwrap();
            let session = SessionId::from_parts(Timestamp::EPOCH, [byte; 10]);
            let invocation = InvocationId::from_parts(Timestamp::EPOCH, [byte; 10]);
            let (pinned, finished) = (draw.below(4) == 0, draw.below(4) != 0);
            if pinned || !finished {
                protected.insert(session);
            }
            connection
                .prepare(
                    "INSERT INTO sessions (session, node, epoch, until, ttl, pinned) VALUES (?1, NULL, 1, 0, 0, ?2)",
                )
                .unwrap()
                .execute(params![session.as_bytes(), pinned])
                .unwrap();
            let end = finished.then_some((5, "completed"));
            connection
                .prepare(
                    "INSERT INTO invocations (invocation, session, agent, model, title, started_at, finished_at, outcome)
                    VALUES (?1, ?2, 'a', 'm', 't', 1, ?3, ?4)",
                )
                .unwrap()
                .execute(params![
                        invocation.as_bytes(),
                        session.as_bytes(),
                        end.map(|(at, _)| at),
                        end.map(|(_, outcome)| outcome)
                    ])
                .unwrap();
            for file in 0..draw.below(4) {
                let kept = Kept {
                    created_at: Timestamp::from_millis(draw.below(60)),
                    session,
                    path: format!("{number}-{file}"),
                    size: draw.below(120),
                    // Only what may go is ever marked.
                    deleting: !pinned && finished && draw.below(8) == 0,
                };
                connection
                    .prepare(
                        "INSERT INTO artifacts (session, path, invocation, kind, size, sha256, created_at, deleting)
                        VALUES (?1, ?2, ?3, 'result', ?4, '', ?5, ?6)",
                )
                .unwrap()
                .execute(params![
                            session.as_bytes(),
                            kept.path,
                            invocation.as_bytes(),
                            kept.size.cast_signed(),
                            crate::db::codec::time(kept.created_at),
                            kept.deleting
                        ])
                    .unwrap();
                artifacts.push(kept);
            }
        }
        (artifacts, protected)
    }
}
