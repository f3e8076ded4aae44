//! Upkeep of a state directory: verify it, repair what can be repaired safely, back it up.
//!
//! It works beside running Otto processes and needs no provider. It repairs only what the database still has, or the
//! journal can make again, byte for byte; nothing that carries money or history is ever changed.
//!
//! Invariant: a verification without findings has read every row, every journal and every artifact.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::journal;
use otto_core::port::store::{AuditLog, Blobs, Dispatch, Journal, StoreError};
use otto_core::redact::Redactor;
use otto_core::{InvocationId, SessionId};
use otto_engine::clock::{Clock, IdSource, RandomIds, SystemClock};
use otto_store_embedded::{Cleaned, DamagedArtifact, EmbeddedStore, FindingKind, StoreConfig};

use crate::audit::Anchor;

/// Whether damage is repaired where that is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Only look. Leftovers of dead processes are cleared away all the same, as by any use of the store.
    No,
    /// Move damaged artifacts aside, and make those again that follow from the journal.
    Yes,
}

/// What a verification read and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What is wrong; empty when all is well. Bounded, see `more`.
    pub damages: Vec<Damage>,
    /// There is more damage than is listed.
    pub more: bool,
    /// Journals that were read and folded.
    pub journals: u64,
    /// How many of these are from before entries had checksums: whether one of them was changed is not known.
    pub journals_without_checksums: u64,
    /// Model calls whose sums were compared with the accounts.
    pub calls: u64,
    /// Accounts.
    pub accounts: u64,
    /// Artifacts that were read and compared with their checksums.
    pub artifacts: u64,
    /// Their bytes.
    pub artifact_bytes: u64,
    /// The end of the audit log: the anchor to keep elsewhere.
    pub audit: Anchor,
    /// The record after which the audit log begins, because its retention removed what came before; 0 if it has
    /// removed nothing.
    pub audit_begins_after: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it concerns.
    pub kind: DamageKind,
    /// What, where, and what was expected.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    /// What was done about it, if it was repaired.
    pub repaired: Option<String>,
}

/// What a damage concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// The database file.
    Database,
    /// Sums of money and tokens.
    Ledger,
    /// The journal of an invocation.
    Journal,
    /// The audit log.
    Audit,
    /// The anchor, which is too old: what it is an anchor for was removed by the retention.
    Anchor,
    /// A stored file, or the sums of all.
    Artifact,
    /// Something that is not Otto's.
    Foreign,
    /// The clock.
    Clock,
}

impl DamageKind {
    /// The word used in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Ledger => "ledger",
            Self::Journal => "journal",
            Self::Audit => "audit",
            Self::Anchor => "anchor",
            Self::Artifact => "artifact",
            Self::Foreign => "foreign",
            Self::Clock => "clock",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Database => {
                "end every Otto on this state directory, keep a copy of it, and restore a backup"
            }
            Self::Ledger => {
                "somebody changed the database from outside: keep a copy, restore a backup, and until then trust no limit"
            }
            Self::Journal => {
                "do not resume this invocation, whose journal was changed or damaged: restore a backup if it must go on, and run the task again otherwise"
            }
            Self::Audit => {
                "somebody changed the database from outside: keep a copy and compare with anchors and backups of earlier days"
            }
            Self::Anchor => {
                "compare with a later anchor, and keep one more often than `audit_retention` removes records"
            }
            Self::Artifact => {
                "`otto verify --repair` makes it again if it follows from the journal and moves it aside otherwise; or restore it from a backup"
            }
            Self::Foreign => "move it out of the state directory",
            Self::Clock => "set the clock right",
        }
    }
}

impl From<FindingKind> for DamageKind {
    fn from(kind: FindingKind) -> Self {
        match kind {
            FindingKind::File | FindingKind::Row => Self::Database,
            FindingKind::Ledger => Self::Ledger,
            FindingKind::Journal => Self::Journal,
            FindingKind::Audit => Self::Audit,
            FindingKind::Anchor => Self::Anchor,
            FindingKind::Artifacts => Self::Artifact,
            FindingKind::Clock => Self::Clock,
        }
    }
}

impl Verification {
    /// Whether nothing is wrong, or all that was is repaired.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.more && self.damages.iter().all(|damage| damage.repaired.is_some())
    }

    fn add(&mut self, kind: DamageKind, what: String, repaired: Option<String>) {
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damage {
                kind,
                what,
                advice: kind.advice().to_owned(),
                repaired,
            });
        } else {
            self.more = true;
        }
    }
}

/// BOUND: damages in a report.
const DAMAGES_MAX: usize = 1_000;

/// What is stored, at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Length of the database with its log.
    pub database_bytes: u64,
    /// Invocations that did not end and can be resumed or are running.
    pub unfinished: usize,
    /// The end of the audit log.
    pub audit: Anchor,
}

/// A backup that was made and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its length.
    pub bytes: u64,
    /// What is wrong with journals in it, as in the store: each concerns its own invocation alone.
    pub damaged_journals: Vec<String>,
    /// The end of the audit log when it was made or later: an anchor for the living store.
    pub audit: Anchor,
}

/// Reads everything below a state directory and says what is wrong.
///
/// # Errors
/// When the store cannot be opened or read at all; the error says what to do.
pub async fn verify(
    state_dir: &Path,
    anchor: Option<Anchor>,
    repair: Repair,
) -> Result<Verification, StoreError> {
    let store = open(state_dir).await?;
    let report = store.verify(anchor.map(|anchor| anchor.0)).await?;
    let mut verification = Verification {
        damages: Vec::new(),
        artifacts: 0,
        artifact_bytes: 0,
        journals: report.journals.len() as u64,
        journals_without_checksums: report.journals_without_checksums,
        calls: report.calls,
        accounts: report.accounts,
        audit: Anchor(report.audit.end),
        audit_begins_after: report.audit.begins_after.sequence,
        more: report.more,
    };
    let mut is_readable = true;
    for finding in report.findings {
        is_readable &= finding.kind != FindingKind::File;
        verification.add(finding.kind.into(), finding.detail, None);
    }
    // In a damaged file the rest would only repeat that it cannot be read.
    if is_readable {
        journals(&store, report.journals, &mut verification).await?;
        artifacts(&store, repair, &mut verification).await?;
    }
    Ok(verification)
}

/// What is stored, at a glance; `None` if nothing ever was.
///
/// # Errors
/// When the store cannot be opened; the error says what to do.
pub async fn summary(state_dir: &Path) -> Result<Option<Summary>, StoreError> {
    if !state_dir.join("otto.db").exists() {
        return Ok(None);
    }
    let store = open(state_dir).await?;
    let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    Ok(Some(Summary {
        database_bytes: length(store.path().to_owned())
            + length(store.path().with_extension("db-wal")),
        unfinished: store.unfinished().await?.len(),
        audit: Anchor(store.audit_head().await?),
    }))
}

/// Copies the database to a file that is not there yet, while it is in use, and verifies the copy.
///
/// # Errors
/// When the file exists or cannot be written, or the copy does not pass the checks; then there is no file.
pub async fn backup(state_dir: &Path, to: &Path) -> Result<Backup, StoreError> {
    let store = open(state_dir).await?;
    let copied = store.backup(to).await?;
    let audit = Anchor(store.audit_head().await?);
    Ok(Backup {
        bytes: copied.bytes,
        damaged_journals: copied.damaged_journals,
        audit,
    })
}

/// A backup without a name, to be read once: its file is gone when this ends, however it ends.
#[derive(Debug)]
pub struct UnnamedBackup {
    /// The file, from its beginning.
    pub file: File,
    /// What is in it.
    pub backup: Backup,
    /// Held: at most one of these takes room in a state directory.
    _one: File,
}

/// BOUND: one unnamed backup at a time, whose file has this name while it is written.
const UNNAMED: &str = "backup-to-send.db";

/// As [`backup`], for whoever sends the copy away instead of keeping it.
///
/// # Errors
/// As [`backup`]; `Invalid` while another one is made or sent on this state directory.
pub async fn unnamed_backup(state_dir: &Path) -> Result<UnnamedBackup, StoreError> {
    let place = state_dir.join(UNNAMED);
    let failed = |error: std::io::Error| StoreError::Unavailable {
        detail: Arc::from(format!(
            "write a backup in `{}`: {error}",
            state_dir.display()
        )),
    };
    let lock = File::create(place.with_extension("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Invalid {
                detail: Arc::from("send a backup: another one is under way; wait for its end"),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // What is there now was left by a process that died.
    for left in [&place, &place.with_extension("db.partial")] {
        match std::fs::remove_file(left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    let backup = backup(state_dir, &place).await?;
    let file = File::open(&place).map_err(failed)?;
    std::fs::remove_file(&place).map_err(failed)?;
    Ok(UnnamedBackup {
        file,
        backup,
        _one: lock,
    })
}

/// Redacts everything stored of a session again: its journal, its words and its artifacts.
///
/// It is done under a name of its own, so that a session that runs, in this process or another, is refused.
///
/// # Errors
/// `NotFound` for an unknown session, `Invalid` for one that runs; when something cannot be read or written. What
/// was cleaned before an error stays clean; calling again goes on.
pub async fn redact_session(
    state_dir: &Path,
    session: SessionId,
    redactor: Arc<Redactor>,
) -> Result<Cleaned, StoreError> {
    let store = open(state_dir).await?;
    store.redact_session(session, redactor).await
}

async fn open(state_dir: &Path) -> Result<EmbeddedStore, StoreError> {
    let node = RandomIds.session(SystemClock::start().now()).to_string();
    let config = StoreConfig::new(state_dir, node);
    // Opening reads and may migrate a file: not on the async threads.
    tokio::task::spawn_blocking(move || EmbeddedStore::open(config))
        .await
        .unwrap_or_else(|panic| {
            Err(StoreError::Unavailable {
                detail: Arc::from(panic.to_string()),
            })
        })
}

/// Folds every journal: an invocation whose journal cannot be folded cannot be resumed or shown.
async fn journals(
    store: &EmbeddedStore,
    invocations: Vec<InvocationId>,
    verification: &mut Verification,
) -> Result<(), StoreError> {
    for invocation in invocations {
        let entries = match store.read(invocation).await {
            Ok(entries) => entries,
            // A gap or an unreadable row, which the store's own check has listed.
            Err(StoreError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = journal::fold(&entries) {
            let what =
                format!("the journal of invocation {invocation} cannot be replayed: {error}");
            verification.add(DamageKind::Journal, what, None);
        }
    }
    Ok(())
}

async fn artifacts(
    store: &EmbeddedStore,
    repair: Repair,
    verification: &mut Verification,
) -> Result<(), StoreError> {
    let report = store.checkpointer().scrub().await?;
    verification.artifacts = report.checked;
    verification.artifact_bytes = report.checked_bytes;
    verification.more |= report.more;
    // Rows that cannot be read were listed with all others of the database.
    for damaged in report.damaged {
        let repaired = match repair {
            Repair::No => None,
            Repair::Yes => Some(mend(store, &damaged).await?),
        };
        let what = format!(
            "artifact `{}` of session {}: {}",
            damaged.artifact.path, damaged.artifact.session, damaged.found
        );
        verification.add(DamageKind::Artifact, what, repaired);
    }
    if repair == Repair::Yes && !verification.damages.is_empty() {
        // Writes the files that were made again.
        store.checkpointer().scrub().await?;
    }
    for foreign in report.foreign {
        verification.add(DamageKind::Foreign, foreign, None);
    }
    Ok(())
}

/// Moves a damaged artifact aside, and gives up its row unless the database gives its bytes again. Returns what
/// was done.
async fn mend(store: &EmbeddedStore, damaged: &DamagedArtifact) -> Result<String, StoreError> {
    let artifact = &damaged.artifact;
    if store.checkpointer().has_file(artifact).await {
        return Ok("it has been written meanwhile".to_owned());
    }
    let aside = store.checkpointer().set_aside(artifact).await?;
    let aside = aside.map_or_else(String::new, |path| {
        format!("moved aside to `{}`; ", path.display())
    });
    if store.get(artifact.clone()).await.is_ok() {
        return Ok(format!("{aside}made again from the journal"));
    }
    store.checkpointer().give_up(artifact).await?;
    Ok(format!(
        "{aside}it does not follow from the journal and is no longer listed; run the task again if it is needed"
    ))
}
