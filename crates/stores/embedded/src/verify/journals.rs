//! Whether every journal follows from its chain, and stands where the audit log saw it end.
//!
//! One finding per journal, the first: what comes after it in the chain cannot follow. Whether a journal can be
//! replayed is not asked here.

use std::collections::BTreeMap;

use otto_core::port::store::JournalHead;
use otto_core::store_rules::JournalFact;
use otto_core::{InvocationId, Timestamp};
use rusqlite::{Connection, Row, Statement, params};

use super::{FindingKind, VerifyReport, row_name};
use crate::chain::{Chain, Seal, read_seal};
use crate::db::codec::{read_count, read_hash, read_invocation};
use crate::error::Fault;

/// Where journals stood, as the audit log has it.
#[derive(Debug, Default)]
pub(super) struct KnownHeads {
    heads: BTreeMap<(InvocationId, u64), [u8; 32]>,
    /// When journals were rewritten on purpose. The fact of an end from before may come after that of the rewriting: it
    /// waits for company in the process that noted it.
    rewritten: BTreeMap<InvocationId, Timestamp>,
}

impl KnownHeads {
    /// Learns from a fact. The first word about a place holds until a rewriting takes all of them back.
    pub(super) fn learn(&mut self, fact: JournalFact) {
        match fact {
            JournalFact::Ended {
                invocation,
                head,
                at,
            } => {
                let is_replaced = self
                    .rewritten
                    .get(&invocation)
                    .is_some_and(|rewritten| at <= *rewritten);
                if !is_replaced {
                    let place = (invocation, head.sequence);
                    self.heads.entry(place).or_insert(head.hash);
                }
            }
            JournalFact::Rewritten {
                invocation,
                head,
                at,
            } => {
                self.forget(invocation);
                self.rewritten.insert(invocation, at);
                self.heads.insert((invocation, head.sequence), head.hash);
            }
        }
    }

    fn forget(&mut self, id: InvocationId) {
        while let Some((place, _)) = self.heads.range((id, 0)..=(id, u64::MAX)).next() {
            let place = *place;
            self.heads.remove(&place);
        }
    }

    /// Whether a journal is there what the log knows, if it knows anything.
    fn matches(&mut self, id: InvocationId, head: &JournalHead) -> bool {
        self.heads
            .remove(&(id, head.sequence))
            .is_none_or(|known| known == head.hash)
    }

    /// A place of the journal that was not come to.
    fn beyond(&self, id: InvocationId) -> Option<u64> {
        let (place, _) = self.heads.range((id, 0)..=(id, u64::MAX)).next()?;
        Some(place.1)
    }
}

/// Follows every journal.
pub(super) fn check(
    connection: &Connection,
    mut heads: KnownHeads,
    report: &mut VerifyReport,
) -> Result<(), Fault> {
    let mut invocations = connection.prepare(
        "SELECT hashed_from, finished_at IS NOT NULL, end_hash, invocation FROM invocations ORDER BY invocation",
    )?;
    let mut entries = connection.prepare(
        "SELECT invocation, sequence, payload, hash FROM journal WHERE invocation = ?1 ORDER BY sequence",
    )?;
    let mut rows = invocations.query(params![])?;
    while let Some(row) = rows.next()? {
        let name = || row_name("invocations", row, &[(3, "invocation")]);
        let Some(id) = report.readable(read_invocation(row, 3), name)? else {
            continue;
        };
        if let Some(seal) = report.readable(read_seal(row), name)?
            && let Some(what) = follow(&mut entries, id, seal, &mut heads, report)?
        {
            report.add(FindingKind::Journal, what);
        }
        heads.forget(id);
    }
    let mut gone: Vec<InvocationId> = heads.heads.into_keys().map(|(id, _)| id).collect();
    gone.dedup();
    for id in gone {
        report.add(
            FindingKind::Journal,
            format!("the audit log knows the end of invocation {id}, which is not there"),
        );
    }
    Ok(())
}

/// What is wrong with a journal; nothing either if a row of it cannot be read, which is a finding by itself.
fn follow(
    entries: &mut Statement<'_>,
    id: InvocationId,
    seal: Seal,
    heads: &mut KnownHeads,
    report: &mut VerifyReport,
) -> Result<Option<String>, Fault> {
    let mut chain = Chain::new(id, seal, JournalHead::default());
    let mut rows = entries.query(params![id.as_bytes()])?;
    let mut is_first = true;
    while let Some(row) = rows.next()? {
        if std::mem::take(&mut is_first) {
            report.journals.push(id);
            let has_checksums = seal.hashed_from.is_some() || seal.end_hash.is_some();
            report.journals_without_checksums += u64::from(!has_checksums);
        }
        let name = || row_name("journal", row, &[(0, "invocation"), (1, "sequence")]);
        let Some((sequence, payload, hash)) = report.readable(read_entry(row), name)? else {
            return Ok(None);
        };
        if let Err(fault) = chain.follow(sequence, payload.as_bytes(), hash) {
            return fault.into_damage().map(Some);
        }
        if !heads.matches(id, chain.head()) {
            return Ok(Some(format!(
                "entry {sequence} of the journal of invocation {id} is not the one that the audit log knows: the journal was rewritten"
            )));
        }
    }
    if let Err(fault) = chain.finish() {
        return fault.into_damage().map(Some);
    }
    Ok(heads.beyond(id).map(|known| {
        format!(
            "the journal of invocation {id} has {} entries, the audit log knows entry {known}: it was cut",
            chain.head().sequence
        )
    }))
}

fn read_entry<'r>(row: &'r Row<'_>) -> Result<(u64, &'r str, Option<[u8; 32]>), Fault> {
    let payload = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
    Ok((read_count(row, 1)?, payload, read_hash(row, 3)?))
}
