//! The scrub: every artifact read and compared with its row, every file accounted for.
//!
//! It repairs what a crash leaves behind (files without rows, rows whose content the database has or whose file follows
//! from a journal, temporary files of dead processes) and reports the rest. It never removes or changes an artifact.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use otto_core::SessionId;
use otto_core::port::store::{ArtifactRef, Durability, StoreError};
use otto_core::store_rules::artifact_name;
use rusqlite::params;

use crate::artifacts::Checkpointer;
use crate::artifacts::disk::{SESSIONS, TEMP_PREFIX};
use crate::artifacts::rows;
use crate::db::codec::read_session;
use crate::writer::many;

/// What a scrub checked and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Artifacts read.
    pub checked: u64,
    /// Their bytes.
    pub checked_bytes: u64,
    /// Artifacts that are missing or differ. At most 1,000, see `more`.
    pub damaged: Vec<DamagedArtifact>,
    /// Things below `sessions/` that are not artifacts, as paths with what they are. At most 1,000.
    pub foreign: Vec<String>,
    /// Rows of artifacts that cannot be read, by name, with what is wrong. Their files stay unchecked. At most 1,000.
    pub unreadable: Vec<String>,
    /// There is more of one of these than is listed.
    pub more: bool,
    /// Files without a row that got one: their process died before it could.
    pub adopted: u64,
    /// Missing files that were written again from what the database has, above all their journals.
    pub remade: u64,
    /// Temporary files of dead processes that were removed.
    pub leftovers_removed: u64,
}

/// An artifact that is not what its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedArtifact {
    /// What it should be.
    pub artifact: ArtifactRef,
    /// What it is.
    pub found: String,
}

/// BOUND: lines of each kind in a report.
const LINES_MAX: usize = 1_000;

impl ScrubReport {
    /// Whether every artifact is as it was stored, nothing foreign was found, and every row could be read.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.foreign.is_empty() && self.unreadable.is_empty()
    }

    fn damaged(&mut self, artifact: &ArtifactRef, found: String) {
        if self.damaged.len() < LINES_MAX {
            self.damaged.push(DamagedArtifact {
                artifact: artifact.clone(),
                found,
            });
        } else {
            self.more = true;
        }
    }

    fn foreign(&mut self, what: String) {
        if self.foreign.len() < LINES_MAX {
            self.foreign.push(what);
        } else {
            self.more = true;
        }
    }

    fn unreadable(&mut self, row: String) {
        if self.unreadable.len() < LINES_MAX {
            self.unreadable.push(row);
        } else {
            self.more = true;
        }
    }
}

impl Checkpointer {
    /// Reads every artifact and compares it with its row.
    ///
    /// # Errors
    /// When the database or the directory of all sessions cannot be read. What is wrong with one session or
    /// artifact is in the report.
    pub async fn scrub(&self) -> Result<ScrubReport, StoreError> {
        let mut report = ScrubReport::default();
        // What is still to be written is not missing.
        self.flush().await?;
        let mut sessions = BTreeSet::new();
        for name in self.on_disk(|disk| disk.sessions()).await? {
            match name.parse::<SessionId>() {
                Ok(session) => {
                    sessions.insert(session);
                }
                Err(_) => report.foreign(format!(
                    "{SESSIONS}/{}: not a session",
                    name.escape_default()
                )),
            }
        }
        let with_rows = self
            .inner
            .ask("list sessions with artifacts", |connection| {
                // Another length is that of no session, and a row which the check of the database names.
                let mut statement = connection
                    .prepare("SELECT DISTINCT session FROM artifacts WHERE length(session) = 16")?;
                many(&mut statement, params![], |row| read_session(row, 0))
            })
            .await?;
        sessions.extend(with_rows);
        for session in sessions {
            self.scrub_session(session, &mut report).await?;
        }
        Ok(report)
    }

    /// Moves a damaged artifact's file into `damaged/` below the state directory; returns its new path, or
    /// `None` if there is no file. Its row stays: the artifact counts as missing until the same content is
    /// stored again, or its row is given up.
    ///
    /// # Errors
    /// When the file cannot be moved.
    pub async fn set_aside(&self, artifact: &ArtifactRef) -> Result<Option<PathBuf>, StoreError> {
        let (session, path) = (artifact.session, artifact.path.clone());
        self.on_disk(move |disk| disk.set_aside(session, &path))
            .await
    }

    /// Gives up the row of an artifact whose file is gone: it is no longer listed or counted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up(&self, artifact: &ArtifactRef) -> Result<(), StoreError> {
        // A file that is still to be written would come after its row has gone.
        self.flush().await?;
        let (session, path) = (artifact.session, artifact.path.clone());
        self.inner
            .change(Durability::Synced, move |rows, _| {
                rows::delete(rows, session, &path)
            })
            .await
    }

    async fn scrub_session(
        &self,
        session: SessionId,
        report: &mut ScrubReport,
    ) -> Result<(), StoreError> {
        let names = match self
            .on_disk(move |disk| Ok((disk.remove_leftovers(session)?, disk.names(session)?)))
            .await
        {
            Ok((removed, names)) => {
                report.leftovers_removed += removed;
                names
            }
            Err(error) => {
                report.foreign(format!("{SESSIONS}/{session}: {error}"));
                Vec::new()
            }
        };
        let (rows, unreadable) = self
            .inner
            .ask("list artifacts", move |connection| {
                rows::readable_of_session(connection, session)
            })
            .await?;
        // A file that no row names may be that of a row which cannot be read.
        let may_adopt = unreadable.is_empty();
        for row in unreadable {
            report.unreadable(row);
        }
        // What retention is removing is neither damaged nor foreign.
        for known in rows.iter().filter(|known| !known.deleting) {
            self.scrub_artifact(&known.artifact, report).await;
        }
        for name in names {
            if name.starts_with(TEMP_PREFIX)
                || rows.iter().any(|known| *known.artifact.path == *name)
            {
                continue;
            }
            if artifact_name::parse(&name).is_none() {
                report.foreign(format!(
                    "{SESSIONS}/{session}/{}: not an artifact",
                    name.escape_default()
                ));
                continue;
            }
            if !may_adopt {
                continue;
            }
            match self.adopt(session, Arc::from(name.as_str())).await {
                Ok(adopted) => report.adopted += u64::from(adopted.is_some()),
                Err(error) => report.foreign(format!("{SESSIONS}/{session}/{name}: {error}")),
            }
        }
        Ok(())
    }

    async fn scrub_artifact(&self, artifact: &ArtifactRef, report: &mut ScrubReport) {
        let (session, path) = (artifact.session, artifact.path.clone());
        report.checked += 1;
        match self.on_disk(move |disk| disk.examine(session, &path)).await {
            Ok(Some(found)) => {
                report.checked_bytes += found.size;
                if found.size != artifact.size_bytes {
                    report.damaged(
                        artifact,
                        format!(
                            "it has {} bytes, stored were {}",
                            found.size, artifact.size_bytes
                        ),
                    );
                } else if *found.sha256 != *artifact.sha256 {
                    report.damaged(
                        artifact,
                        format!(
                            "its SHA-256 is {}, stored was {}",
                            found.sha256, artifact.sha256
                        ),
                    );
                }
            }
            Ok(None) => match self.restore(artifact).await {
                Ok(true) => report.remade += 1,
                // Its file may have been written between the two looks.
                Ok(false) if self.has_file(artifact).await => {
                    report.checked_bytes += artifact.size_bytes;
                }
                Ok(false) => report.damaged(artifact, "it is missing".to_owned()),
                Err(error) => report.damaged(artifact, error.to_string()),
            },
            Err(error) => report.damaged(artifact, error.to_string()),
        }
    }

    /// Writes a missing file again if the database has what belongs into it.
    async fn restore(&self, artifact: &ArtifactRef) -> Result<bool, StoreError> {
        let Some(content) = self.remake(artifact.clone()).await? else {
            return Ok(false);
        };
        let (session, path) = (artifact.session, artifact.path.clone());
        self.on_disk(move |disk| disk.write(session, &path, &content))
            .await?;
        Ok(true)
    }
}
