//! Artifacts that follow from a journal: acknowledged with the end of their invocation, written later.
//!
//! Their rows (name, length, checksum from memory) are part of the transaction that records the end. Since
//! the journal is durable then, so are they: whoever asks before the file is there gets the content made from
//! the journal, and what a crash leaves unwritten is written by the next process.
//!
//! Invariant: content that was made from a journal is given out only if it has the length and the checksum
//! that were acknowledged.

use std::sync::Arc;

use otto_core::derived::{self, DerivedArtifact};
use otto_core::port::store::{ArtifactRef, Durability, Entry, Finish, Outcome, StoreError};
use otto_core::store_rules::artifact_name as name;
use otto_core::{InvocationId, SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::artifacts::backlog::{Backlog, Files, Room, Unwritten};
use crate::artifacts::batch;
use crate::artifacts::disk::Disk;
use crate::artifacts::durable::checksum;
use crate::artifacts::rows::{self, Bound, Known, NewRow};
use crate::db::codec::{read_invocation, read_session};
use crate::db::open;
use crate::error::Fault;
use crate::queue::Queue;
use crate::reader::{entries_after, snapshot};
use crate::writer::{Job, SqlRows, job_then, many};

/// A path and what belongs there.
type Content = (Arc<str>, Arc<[u8]>);

/// BOUND: bytes of one invocation's artifacts that are taken with its end; more are stored one by one.
const TAKEN_MAX: usize = 1024 * 1024;

/// BOUND: invocations of dead processes that one process takes over when it opens the store, so that a short
/// command stays short.
const ADOPTED_MAX: u32 = 256;

/// Artifacts offered with an end, hashed, with room for their contents.
pub(crate) struct Offer {
    artifacts: Vec<(DerivedArtifact, Arc<str>)>,
    room: Room,
}

impl Offer {
    /// Prepares the artifacts of an end; `None` when there are none or they have to be stored by themselves.
    pub(crate) fn of(finish: &Finish, backlog: &Arc<Backlog>) -> Option<Self> {
        let bytes: usize = finish
            .artifacts
            .iter()
            .map(|artifact| artifact.content.len())
            .sum();
        if finish.artifacts.is_empty()
            || bytes > TAKEN_MAX
            || finish
                .artifacts
                .iter()
                .any(|artifact| name::check(artifact.name).is_err())
        {
            return None;
        }
        let room = backlog.room(bytes)?;
        let artifacts = finish
            .artifacts
            .iter()
            .map(|artifact| (artifact.clone(), Arc::from(checksum(&artifact.content))))
            .collect();
        Some(Self { artifacts, room })
    }

    /// The files to write once the end is recorded under these references.
    pub(crate) fn into_unwritten(
        self,
        invocation: InvocationId,
        session: SessionId,
        stored: &[ArtifactRef],
    ) -> Unwritten {
        let files = stored
            .iter()
            .zip(self.artifacts)
            .map(|(stored, (artifact, _))| (stored.path.clone(), artifact.content))
            .collect();
        Unwritten {
            invocation,
            session,
            files: Files::Known(files, self.room),
        }
    }
}

/// Records the artifacts of an end in its transaction and names them; none when there is no room for them.
///
/// `last_sequence` is the last journal entry of the invocation. An end that was recorded before is answered
/// from its rows.
pub(crate) fn record(
    rows: &mut SqlRows<'_, '_>,
    now: Timestamp,
    finish: &Finish,
    ended: Outcome,
    offer: &Offer,
    node: &str,
) -> Result<Vec<ArtifactRef>, Fault> {
    if ended == Outcome::Fenced {
        return Ok(Vec::new());
    }
    let session = finish.lease.session;
    let derived = rows.last_sequence(finish.invocation)?;
    let mut found = Vec::with_capacity(offer.artifacts.len());
    let (mut bytes, mut is_new) = (0_u64, false);
    for (artifact, sha256) in &offer.artifacts {
        let row = NewRow {
            session,
            path: Arc::from(""),
            invocation: finish.invocation,
            kind: artifact.kind,
            size: artifact.content.len() as u64,
            sha256: sha256.clone(),
            at: now,
            derived,
        };
        let Some((row, is_known)) = free_name(rows, row, artifact.name)? else {
            return Ok(Vec::new());
        };
        if !is_known {
            bytes = bytes.saturating_add(row.size);
            is_new = true;
        }
        found.push((row, is_known));
    }
    if is_new && (ended == Outcome::AlreadyDone || !rows::fits(rows, bytes)?) {
        return Ok(Vec::new());
    }
    for (row, is_known) in &found {
        if !is_known {
            rows::insert(rows, row, Bound::Applies)?;
        }
    }
    if is_new {
        rows.statements_mut().set_unwritten.execute(params![
            finish.invocation.as_bytes(),
            session.as_bytes(),
            node
        ])?;
    }
    Ok(found.iter().map(|(row, _)| row.to_ref()).collect())
}

/// The first version of a name that is free, or that has this content already.
fn free_name(
    rows: &mut SqlRows<'_, '_>,
    mut row: NewRow,
    plain: &str,
) -> Result<Option<(NewRow, bool)>, Fault> {
    for version in 1..=name::VERSION_MAX {
        row.path = Arc::from(name::file_name(row.invocation, row.kind, version, plain));
        match rows::stored(rows, row.session, &row.path)? {
            None => return Ok(Some((row, false))),
            Some(known) if !known.deleting && known.artifact == row.to_ref() => {
                return Ok(Some((row, true)));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The content of an artifact, made from the journal; `None` if it does not follow from one, or no longer
/// gives what was acknowledged.
pub(super) fn remake(
    connection: &Connection,
    artifact: &ArtifactRef,
) -> Result<Option<Arc<[u8]>>, Fault> {
    match rows::known(connection, artifact.session, &artifact.path)? {
        Some(known) if !known.deleting && known.artifact == *artifact => {
            let mut made = remake_all(connection, &[known])?;
            Ok(made.pop().map(|(_, content)| content))
        }
        _ => Ok(None),
    }
}

/// The same for several artifacts, by path; what cannot be made is left out.
fn remake_all(connection: &Connection, wanted: &[Known]) -> Result<Vec<Content>, Fault> {
    let mut made: Option<(InvocationId, u64, Vec<DerivedArtifact>)> = None;
    let mut found = Vec::new();
    for Known {
        artifact, derived, ..
    } in wanted
    {
        let Some((invocation, _)) = name::parse(&artifact.path).filter(|_| *derived > 0) else {
            continue;
        };
        let key = (invocation, *derived);
        if made.as_ref().is_none_or(|made| (made.0, made.1) != key) {
            let artifacts = of_journal(connection, invocation, *derived)?;
            made = Some((invocation, *derived, artifacts));
        }
        let Some((_, _, artifacts)) = &made else {
            continue;
        };
        let content = artifacts.iter().find(|made| {
            made.kind == artifact.kind
                && made.content.len() as u64 == artifact.size_bytes
                && checksum(&made.content) == *artifact.sha256
        });
        if let Some(made) = content {
            found.push((artifact.path.clone(), made.content.clone()));
        }
    }
    Ok(found)
}

fn of_journal(
    connection: &Connection,
    invocation: InvocationId,
    last: u64,
) -> Result<Vec<DerivedArtifact>, Fault> {
    let mut entries: Vec<Entry> = entries_after(connection, invocation, 0)?;
    entries.truncate(usize::try_from(last).unwrap_or(usize::MAX));
    derived::of_journal(&invocation, &entries).map_err(|error| {
        Fault::damaged_row(format_args!(
            "the journal of invocation {invocation} cannot be replayed: {error}"
        ))
    })
}

/// Takes over what dead processes left unwritten; returns what there is to write.
///
/// `is_alive` says whether the process of a node may still write.
pub(crate) fn adopt(
    connection: &Connection,
    node: &str,
    is_alive: impl Fn(&str) -> Result<bool, StoreError>,
) -> Result<Vec<Unwritten>, Fault> {
    let mut nodes = connection.prepare("SELECT DISTINCT node FROM unwritten")?;
    let nodes: Vec<String> = many(&mut nodes, params![], |row| Ok(row.get(0)?))?;
    let mut adopted = Vec::new();
    for dead in nodes {
        if is_alive(&dead)? {
            continue;
        }
        let mut statement = connection.prepare(
            "UPDATE unwritten SET node = ?2 WHERE invocation IN
                (SELECT invocation FROM unwritten WHERE node = ?1 ORDER BY invocation LIMIT ?3)
            RETURNING invocation, session",
        )?;
        adopted.extend(many(
            &mut statement,
            params![dead, node, ADOPTED_MAX],
            |row| {
                Ok(Unwritten {
                    invocation: read_invocation(row, 0)?,
                    session: read_session(row, 1)?,
                    files: Files::Lost,
                })
            },
        )?);
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
            // Whatever fails here stays unwritten: it is made from the journal when it is asked for.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.write(std::mem::take(&mut batch));
            }));
            batch.clear();
        }
    }

    fn write(&self, batch: Vec<Unwritten>) {
        let mut connection = None;
        let (mut jobs, mut rooms) = (Vec::with_capacity(batch.len()), Vec::new());
        for unwritten in batch {
            let files = match unwritten.files {
                Files::Known(files, room) => {
                    rooms.push(room);
                    Some(files)
                }
                Files::Lost => {
                    // What its process was writing when it died. Should that fail, the next check of the directory
                    // removes it.
                    let _ = self.disk.remove_leftovers(unwritten.session);
                    if connection.is_none() {
                        connection = open::reader(&self.path).ok();
                    }
                    connection
                        .as_ref()
                        .and_then(|open| snapshot(open, |rows| self.lost(rows, &unwritten)).ok())
                }
            };
            jobs.extend(files.map(|files| batch::Job {
                invocation: unwritten.invocation,
                session: unwritten.session,
                files,
            }));
        }
        let written = self.disk.write_batch(&jobs);
        if written.is_empty() {
            return;
        }
        let forget = job_then(
            Durability::Relaxed,
            move |rows, _| {
                written.iter().try_for_each(|invocation| {
                    rows.statements_mut()
                        .delete_unwritten
                        .execute(params![invocation.as_bytes()])?;
                    Ok(())
                })
            },
            // A row that stays is looked at once more by the next process.
            |_: Result<(), StoreError>| {},
        );
        let _ = self.writer.push_now(forget);
    }

    /// The files of an invocation whose process is dead: from its journal, or as far as they are there.
    fn lost(&self, connection: &Connection, unwritten: &Unwritten) -> Result<Vec<Content>, Fault> {
        let of_session = rows::of_session(connection, unwritten.session)?;
        let wanted: Vec<Known> = of_session
            .into_iter()
            .filter(|known| {
                known.derived > 0
                    && !known.deleting
                    && name::parse(&known.artifact.path)
                        .is_some_and(|(invocation, _)| invocation == unwritten.invocation)
            })
            .collect();
        let mut files = remake_all(connection, &wanted)?;
        for Known { artifact, .. } in &wanted {
            if files.iter().all(|(path, _)| *path != artifact.path) {
                files.push((artifact.path.clone(), Arc::from(self.disk.read(artifact)?)));
            }
        }
        Ok(files)
    }
}
