//! The thread that writes the files of artifacts which are durable in the database already, and what it takes over from
//! dead processes.
//!
//! What cannot be written is given out from the database meanwhile and tried again; a process that ends leaves it to the
//! next one.
//!
//! Invariant: what the database has of an artifact is given up only after its file is durable.

use std::sync::Arc;

use otto_core::SessionId;
use otto_core::port::store::{Durability, StoreError};
use rusqlite::{Connection, params};

use crate::artifacts::backlog::{Backlog, Files, Origin, Unwritten};
use crate::artifacts::disk::Disk;
use crate::artifacts::{Content, batch, derived, short};
use crate::db::codec::{read_invocation, read_session, read_text};
use crate::db::open;
use crate::error::Fault;
use crate::queue::Queue;
use crate::reader::snapshot;
use crate::writer::{Job, SqlRows, job_then, many};

/// BOUND: how much of each dead process one takes over when it opens the store, of each kind, so that a short command
/// stays short.
const ADOPTED_MAX: u32 = 256;

/// Takes over what dead processes left unwritten; returns what there is to write.
///
/// `is_alive` says whether the process of a node may still write.
pub(crate) fn adopt(
    connection: &Connection,
    node: &str,
    is_alive: impl Fn(&str) -> Result<bool, StoreError>,
) -> Result<Vec<Unwritten>, Fault> {
    let mut nodes = connection
        .prepare("SELECT DISTINCT node FROM unwritten UNION SELECT DISTINCT node FROM contents")?;
    let nodes: Vec<String> = many(&mut nodes, params![], |row| Ok(row.get(0)?))?;
    let mut adopted = Vec::new();
    for dead in nodes {
        if is_alive(&dead)? {
            continue;
        }
        let mut journals = connection.prepare(
            "UPDATE unwritten SET node = ?2 WHERE invocation IN
                (SELECT invocation FROM unwritten WHERE node = ?1 ORDER BY invocation LIMIT ?3)
            RETURNING session, invocation",
        )?;
        let mut contents = connection.prepare(
            "UPDATE contents SET node = ?2 WHERE (session, path) IN
                (SELECT session, path FROM contents WHERE node = ?1 ORDER BY session, path LIMIT ?3)
            RETURNING session, path",
        )?;
        let whose = params![dead, node, ADOPTED_MAX];
        adopted.extend(many(&mut journals, whose, |row| {
            Ok(Unwritten {
                session: read_session(row, 0)?,
                origin: Origin::Journal(read_invocation(row, 1)?),
                files: Files::Lost,
            })
        })?);
        adopted.extend(many(&mut contents, whose, |row| {
            Ok(Unwritten {
                session: read_session(row, 0)?,
                origin: Origin::Content(read_text(row, 1)?),
                files: Files::Lost,
            })
        })?);
    }
    Ok(adopted)
}

/// The thread that writes the files.
pub(crate) struct FileWriter {
    pub(super) backlog: Arc<Backlog>,
    pub(super) disk: Arc<Disk>,
    pub(super) writer: Arc<Queue<Job>>,
    pub(super) path: std::path::PathBuf,
}

impl FileWriter {
    /// Writes until the backlog is closed and empty.
    pub(crate) fn run(self) {
        let mut batch = Vec::new();
        while self.backlog.take(&mut batch) {
            let count = batch.len();
            // What a panic leaves unwritten is as what fails.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.write(std::mem::take(&mut batch));
            }));
            batch.clear();
            self.backlog.done(count);
        }
    }

    fn write(&self, batch: Vec<Unwritten>) {
        let mut connection = None;
        let (mut jobs, mut rooms) = (Vec::with_capacity(batch.len()), Vec::new());
        for unwritten in batch {
            let Unwritten {
                session,
                origin,
                files,
            } = unwritten;
            let (files, room) = match files {
                Files::Known(files, room) => (files, Some(room)),
                Files::Lost => {
                    if connection.is_none() {
                        connection = open::reader(&self.path).ok();
                    }
                    let Some(files) = self.lost(connection.as_ref(), session, &origin) else {
                        continue;
                    };
                    (files, None)
                }
            };
            rooms.push(room);
            jobs.push(batch::Job {
                session,
                origin,
                files,
            });
        }
        let on_disk = self.disk.write_batch(&jobs);
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for ((job, room), is_written) in jobs.into_iter().zip(rooms).zip(on_disk) {
            if is_written {
                written.push(job);
                continue;
            }
            let batch::Job {
                session,
                origin,
                files,
            } = job;
            failed.push(Unwritten {
                session,
                origin,
                files: room.map_or(Files::Lost, |room| Files::Known(files, room)),
            });
        }
        self.backlog.retry(failed);
        if !written.is_empty() {
            let forget_all = job_then(
                Durability::Relaxed,
                move |rows, _| written.iter().try_for_each(|job| forget(rows, job)),
                // A row that stays is looked at once more by the next process.
                |_: Result<(), StoreError>| {},
            );
            let _ = self.writer.push_now(forget_all);
        }
    }

    /// What a dead process has not written; `None` when that cannot be told. Trying again would not help: what is damaged
    /// stays for the next process, which may find it repaired.
    fn lost(
        &self,
        connection: Option<&Connection>,
        session: SessionId,
        origin: &Origin,
    ) -> Option<Vec<Content>> {
        // What it was writing when it died. Should that fail, the next check of the directory removes it.
        let _ = self.disk.remove_leftovers(session);
        snapshot(connection?, |rows| match origin {
            Origin::Journal(invocation) => derived::lost(rows, &self.disk, session, *invocation),
            Origin::Content(path) => short::lost(rows, session, path),
        })
        .ok()
    }
}

/// Has the database let go of what is durable under its names. Of a content that is another by now it does not.
fn forget(rows: &mut SqlRows<'_, '_>, job: &batch::Job) -> Result<(), Fault> {
    let statements = rows.statements_mut();
    match &job.origin {
        Origin::Journal(invocation) => statements
            .delete_unwritten
            .execute(params![invocation.as_bytes()])?,
        Origin::Content(path) => {
            let content = job.files.first().map(|(_, content)| &**content);
            statements.delete_written_content.execute(params![
                job.session.as_bytes(),
                &**path,
                content
            ])?
        }
    };
    Ok(())
}
