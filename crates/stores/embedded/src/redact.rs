//! Cleaning a session that was stored before somebody knew what is a secret.
//!
//! Journal entries, the words of its invocations and its artifacts are redacted again with the patterns of now.
//! Redaction keeps JSON as JSON, so the journal folds as before; that is tried before anything is written. What
//! is replaced is overwritten in the database's pages and in its log as well.
//!
//! The chain of a rewritten journal is made anew. The audit log, which holds no content, is only added to: in the same
//! transaction it learns where the journal stands now, so that `verify` knows the old end as replaced.
//!
//! It changes no number of the ledger, no time and no id.
//!
//! Invariant: at no instant is an artifact gone: the clean one is durable before the old one is removed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use otto_core::audit::AuditKind;
use otto_core::port::store::{
    ArtifactDraft, ArtifactRef, AuditRecord, Blobs, ClaimOutcome, Dispatch, Entry, InvocationQuery,
    JournalHead, StoreError,
};
use otto_core::redact::Redactor;
use otto_core::store_rules::{artifact_name, journal_rewritten};
use otto_core::{InvocationId, SessionId, Timestamp, journal};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::audit;
use crate::chain;
use crate::db::codec::{count, read_text};
use crate::db::open;
use crate::error::{Fault, invalid, unavailable};
use crate::reader;
use crate::store::EmbeddedStore;
use crate::writer::many;

/// What a cleaning has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Invocations that were looked at.
    pub invocations: u64,
    /// Journal entries that held something to mask.
    pub entries: u64,
    /// Artifacts that did.
    pub artifacts: u64,
}

/// How long the session is kept from others meanwhile.
const LEASE_TTL: Duration = Duration::from_secs(300);

impl EmbeddedStore {
    /// Redacts everything stored of a session again.
    ///
    /// # Errors
    /// `Invalid` when the session is running, or its journal would no longer fold; `NotFound` for an unknown
    /// one. What was cleaned before an error stays clean; calling again goes on.
    pub async fn redact_session(
        &self,
        session: SessionId,
        redactor: Arc<Redactor>,
    ) -> Result<Cleaned, StoreError> {
        let query = InvocationQuery {
            session: Some(session),
            ..InvocationQuery::default()
        };
        let now = self.inner.clock.now();
        let found = self
            .inner
            .ask("list invocations", move |connection| {
                reader::invocations(connection, &query, now)
            })
            .await?;
        if found.is_empty() {
            return Err(StoreError::NotFound {
                what: Arc::from(format!("session {session}")),
            });
        }
        let claimed = self.claim(session, self.node().clone(), LEASE_TTL).await?;
        let ClaimOutcome::Claimed(lease) = claimed else {
            let detail =
                format!("redact session {session}: it is running; wait for its end or cancel it");
            return Err(invalid(Arc::from(detail)));
        };
        let invocations: Vec<InvocationId> = found.iter().map(|record| record.invocation).collect();
        let cleaned = self.clean(session, invocations, redactor).await;
        // A lease that cannot be given back runs out by itself.
        let _ = self.release(lease).await;
        cleaned
    }

    async fn clean(
        &self,
        session: SessionId,
        invocations: Vec<InvocationId>,
        redactor: Arc<Redactor>,
    ) -> Result<Cleaned, StoreError> {
        let mut cleaned = Cleaned {
            invocations: invocations.len() as u64,
            ..Cleaned::default()
        };
        // Contents first: one that is not written yet is made from the journal as it was.
        self.checkpointer().flush().await?;
        let mut old = Vec::new();
        for artifact in self.list(session).await? {
            let content = self.get(artifact.clone()).await?;
            let Some((clean, (invocation, kind))) =
                redact_file(&redactor, &content).zip(artifact_name::parse(&artifact.path))
            else {
                continue;
            };
            let mark = format!("-{}-", kind.as_str());
            let name = artifact
                .path
                .split_once(&mark)
                .map_or("clean", |(_, name)| name);
            let draft = ArtifactDraft {
                session,
                invocation,
                kind,
                name: Arc::from(name),
                content: Arc::from(clean),
            };
            self.checkpointer().put_file(draft).await?;
            old.push(artifact);
        }
        cleaned.artifacts = old.len() as u64;
        let (path, marked) = (self.inner.path.clone(), old.clone());
        let at = self.inner.clock.now();
        let (entries, log_is_cut) = self
            .checkpointer()
            .blocking(move || {
                let work = Rewriting {
                    session,
                    invocations: &invocations,
                    replaced: &marked,
                    redactor: &redactor,
                    at,
                };
                work.perform(&path)
                    .map_err(|fault| fault.into_store_error("redact a session", &path))
            })
            .await?;
        cleaned.entries = entries;
        self.checkpointer().remove_marked(session, old).await?;
        if log_is_cut {
            return Ok(cleaned);
        }
        let detail = format!(
            "redact session {session}: it is clean, but somebody reads all the time, so that the database's log still holds what was replaced; run it again"
        );
        Err(unavailable(Arc::from(detail)))
    }
}

/// The text of a file with its secrets masked; `None` if there are none, or it is no text.
fn redact_file(redactor: &Redactor, content: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content).ok()?;
    // A line that is JSON stays JSON: a transcript is read back.
    let clean: Vec<String> = text
        .split('\n')
        .map(|line| {
            if line.starts_with('{') {
                redactor.redact_json(line).into_owned()
            } else {
                line.to_owned()
            }
        })
        .collect();
    let clean = redactor.redact(&clean.join("\n")).into_owned();
    (clean != text).then(|| clean.into_bytes())
}

/// What is rewritten in one transaction.
struct Rewriting<'a> {
    session: SessionId,
    invocations: &'a [InvocationId],
    /// Artifacts whose clean versions are there.
    replaced: &'a [ArtifactRef],
    redactor: &'a Redactor,
    at: Timestamp,
}

impl Rewriting<'_> {
    /// Rewrites rows on a connection of its own. Returns how many entries have changed, and whether the log was cut,
    /// which holds the old pages until then.
    fn perform(&self, path: &Path) -> Result<(u64, bool), Fault> {
        let mut connection = open::writer(path)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut changed, mut facts) = (0, Vec::new());
        for invocation in self.invocations {
            let unwritten: i64 = transaction.query_row(
                "SELECT (SELECT count(*) FROM unwritten WHERE invocation = ?1)
                    + (SELECT count(*) FROM contents WHERE session = ?2)",
                params![invocation.as_bytes(), self.session.as_bytes()],
                |row| row.get(0),
            )?;
            if unwritten > 0 {
                let detail = format!(
                    "redact invocation {invocation}: its files are still being written; try again in a moment"
                );
                return Err(unavailable(Arc::from(detail)).into());
            }
            if let Some(rewritten) = rewrite_journal(&transaction, *invocation, self.redactor)? {
                changed += rewritten.entries;
                let Rewritten { before, head, .. } = rewritten;
                let fact = journal_rewritten(self.session, *invocation, &before, &head, self.at);
                facts.push(fact);
            }
            rewrite_words(&transaction, *invocation, self.redactor)?;
        }
        for artifact in self.replaced {
            // From here on retention removes it, should this process end before it does.
            transaction.execute(
                "UPDATE artifacts SET deleting = 1 WHERE session = ?1 AND path = ?2",
                params![artifact.session.as_bytes(), &*artifact.path],
            )?;
        }
        facts.push(self.fact(changed));
        audit::append_within(&transaction, &facts)?;
        transaction.commit()?;
        let busy: i64 =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
        Ok((changed, busy == 0))
    }

    fn fact(&self, entries: u64) -> AuditRecord {
        let fact = serde_json::json!({
            "at_us": self.at.micros(),
            "what": AuditKind::SessionRedacted.as_str(),
            "session": self.session.to_string(),
            "entries": entries,
            "artifacts": self.replaced.len(),
        });
        AuditRecord {
            at: self.at,
            text: Arc::from(fact.to_string()),
        }
    }
}

/// A journal of which entries were rewritten.
struct Rewritten {
    entries: u64,
    before: JournalHead,
    head: JournalHead,
}

/// Rewrites a journal and its chain; `None` if it held nothing to mask. One that does not follow from its chain is
/// refused: rewritten, it would look whole.
fn rewrite_journal(
    connection: &Connection,
    invocation: InvocationId,
    redactor: &Redactor,
) -> Result<Option<Rewritten>, Fault> {
    let (before, head_before) = reader::journal(connection, invocation)?;
    let after: Vec<Entry> = before
        .iter()
        .map(|entry| Entry {
            sequence: entry.sequence,
            payload: Arc::from(redactor.redact_json(&entry.payload)),
        })
        .collect();
    if before == after {
        return Ok(None);
    }
    if journal::fold(&before).is_ok()
        && let Err(error) = journal::fold(&after)
    {
        let detail = format!(
            "redact the journal of invocation {invocation}: it could no longer be read ({error}); a pattern masks more than content"
        );
        return Err(invalid(Arc::from(detail)).into());
    }
    // An entry that had no hash of its own gets none: the one after them covers it.
    let mut update = connection.prepare(
        "UPDATE journal SET payload = ?3, hash = CASE WHEN hash IS NULL THEN NULL ELSE ?4 END
        WHERE invocation = ?1 AND sequence = ?2",
    )?;
    let mut entries = 0;
    let mut head = JournalHead::default();
    for (before, after) in before.iter().zip(&after) {
        head = chain::next(&head, invocation, after.payload.as_bytes());
        entries += u64::from(before.payload != after.payload);
        if entries > 0 {
            update.execute(params![
                invocation.as_bytes(),
                count(after.sequence),
                &*after.payload,
                head.hash
            ])?;
        }
    }
    connection.execute(
        "UPDATE invocations SET end_hash = ?2 WHERE invocation = ?1 AND end_hash IS NOT NULL",
        params![invocation.as_bytes(), head.hash],
    )?;
    Ok(Some(Rewritten {
        entries,
        before: head_before,
        head,
    }))
}

/// The title, the summary and the result of an invocation.
fn rewrite_words(
    connection: &Connection,
    invocation: InvocationId,
    redactor: &Redactor,
) -> Result<(), Fault> {
    let mut statement = connection
        .prepare("SELECT title, summary, result FROM invocations WHERE invocation = ?1")?;
    let words = many(&mut statement, params![invocation.as_bytes()], |row| {
        Ok([read_text(row, 0)?, read_text(row, 1)?, read_text(row, 2)?])
    })?;
    for [title, summary, result] in words {
        connection.execute(
            "UPDATE invocations SET title = ?2, summary = ?3, result = ?4 WHERE invocation = ?1",
            params![
                invocation.as_bytes(),
                &*redactor.redact(&title),
                &*redactor.redact(&summary),
                &*redactor.redact(&result),
            ],
        )?;
    }
    Ok(())
}
