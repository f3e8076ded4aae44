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
use otto_core::port::store::{ArtifactRef, Entry, Finish, Outcome};
use otto_core::store_rules::artifact_name as name;
use otto_core::{InvocationId, SessionId, Timestamp};
use rusqlite::{Connection, params};

use crate::artifacts::Content;
use crate::artifacts::backlog::{Backlog, Files, Origin, Room, Unwritten};
use crate::artifacts::disk::Disk;
use crate::artifacts::durable::checksum;
use crate::artifacts::rows::{self, Bound, Known, NewRow};
use crate::error::Fault;
use crate::reader::entries_after;
use crate::writer::SqlRows;

/// BOUND: bytes of one invocation's artifacts that are taken with its end; more are stored one by one.
const TAKEN_MAX: usize = 1024 * 1024;

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
            session,
            origin: Origin::Journal(invocation),
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

/// The contents of several artifacts by path, made from the journal. Left out is what does not follow from one, or no
/// longer gives what was acknowledged.
pub(super) fn remake(connection: &Connection, wanted: &[Known]) -> Result<Vec<Content>, Fault> {
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

/// What belongs into the files of an invocation whose process is dead: from its journal, or as far as the files are
/// there.
pub(super) fn lost(
    connection: &Connection,
    disk: &Disk,
    session: SessionId,
    invocation: InvocationId,
) -> Result<Vec<Content>, Fault> {
    let of_session = rows::of_session(connection, session)?;
    let wanted: Vec<Known> = of_session
        .into_iter()
        .filter(|known| {
            known.derived > 0
                && !known.deleting
                && name::parse(&known.artifact.path).is_some_and(|(parsed, _)| parsed == invocation)
        })
        .collect();
    let mut files = remake(connection, &wanted)?;
    for Known { artifact, .. } in &wanted {
        if files.iter().all(|(path, _)| *path != artifact.path) {
            files.push((artifact.path.clone(), Arc::from(disk.read(artifact)?)));
        }
    }
    Ok(files)
}
