//! The audit log: a chain of hashes in the same database.

use std::sync::Arc;

use otto_core::Timestamp;
use otto_core::port::BoxFuture;
use otto_core::port::store::{
    AuditCheck, AuditEntry, AuditHead, AuditLog, AuditRecord, AuditTrim, Durability, StoreError,
};
use otto_core::store_rules::{AuditWalk, MAX_TEXT_BYTES, audit_preimage, audit_trimmed};
use rusqlite::{Connection, Row, Statement, params};
use sha2::{Digest, Sha256};

use crate::db::codec::{count, read_count, read_text, read_time, time};
use crate::error::{Fault, invalid};
use crate::store::EmbeddedStore;
use crate::writer::{SqlRows, many, one};

impl AuditLog for EmbeddedStore {
    fn append_audit(
        &self,
        records: Vec<AuditRecord>,
        durability: Durability,
    ) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
        self.inner
            .change(durability, move |rows, _| append(rows, &records))
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
        self.inner
            .ask("read the end of the audit log", |connection| {
                let mut statement = connection.prepare(AUDIT_HEAD)?;
                Ok(one(&mut statement, params![], read_head)?.unwrap_or_default())
            })
    }

    fn read_audit(
        &self,
        after: u64,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>> {
        self.inner.ask("read the audit log", move |connection| {
            entries(connection, after, most)
        })
    }

    fn trim_audit(
        &self,
        through: AuditHead,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<AuditTrim, StoreError>> {
        // Synced: whoever hears that records are gone hears no more of them after a power loss either.
        self.inner
            .change(Durability::Synced, move |rows, _| trim(rows, &through, at))
    }

    fn check_audit(
        &self,
        anchor: Option<AuditHead>,
    ) -> BoxFuture<'_, Result<AuditCheck, StoreError>> {
        self.inner.ask("check the audit log", move |connection| {
            check(connection, anchor, |_| {})
        })
    }
}

/// The last record, or, where nothing is left, the last one that was removed.
pub(crate) const AUDIT_HEAD: &str = "SELECT sequence, hash FROM audit
    UNION ALL SELECT sequence, hash FROM audit_start
    ORDER BY sequence DESC LIMIT 1";

pub(crate) const APPEND_AUDIT: &str =
    "INSERT INTO audit (sequence, at, record, hash) VALUES (?1, ?2, ?3, ?4)";

/// BOUND: audit records read at once.
const CHUNK: u32 = 1_000;

fn append(rows: &mut SqlRows<'_, '_>, records: &[AuditRecord]) -> Result<AuditHead, Fault> {
    if let Some(long) = records
        .iter()
        .find(|record| record.text.len() > MAX_TEXT_BYTES)
    {
        let detail = format!(
            "append an audit record of {} bytes: at most {MAX_TEXT_BYTES} are kept",
            long.text.len()
        );
        return Err(invalid(Arc::from(detail)).into());
    }
    let statements = rows.statements_mut();
    chain(
        &mut statements.audit_head,
        &mut statements.append_audit,
        records,
    )
}

/// Appends records inside a transaction of this connection, which is not the writer's.
pub(crate) fn append_within(connection: &Connection, records: &[AuditRecord]) -> Result<(), Fault> {
    let mut head = connection.prepare(AUDIT_HEAD)?;
    let mut insert = connection.prepare(APPEND_AUDIT)?;
    chain(&mut head, &mut insert, records).map(drop)
}

fn chain(
    head: &mut Statement<'_>,
    insert: &mut Statement<'_>,
    records: &[AuditRecord],
) -> Result<AuditHead, Fault> {
    let mut head = one(head, params![], read_head)?.unwrap_or_default();
    for record in records {
        head = AuditHead {
            sequence: head.sequence + 1,
            hash: hash_of(&audit_preimage(&head, record)),
        };
        insert.execute(params![
            count(head.sequence),
            time(record.at),
            &*record.text,
            head.hash
        ])?;
    }
    Ok(head)
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn trim(
    rows: &mut SqlRows<'_, '_>,
    through: &AuditHead,
    at: Timestamp,
) -> Result<AuditTrim, Fault> {
    let statements = rows.statements_mut();
    let start = one(&mut statements.audit_start, params![], read_head)?.unwrap_or_default();
    if through.sequence <= start.sequence {
        return Ok(AuditTrim::AlreadyDone);
    }
    let sequence = count(through.sequence);
    let found = one(&mut statements.audit_place, params![sequence], read_head)?;
    if found != Some(*through) {
        return Ok(AuditTrim::NoSuchRecord);
    }
    statements.trim_audit.execute(params![sequence])?;
    statements
        .set_audit_start
        .execute(params![sequence, through.hash])?;
    append(rows, &[audit_trimmed(through, at)]).map(AuditTrim::Done)
}

/// Follows the chain from its beginning, and shows every record that follows.
pub(crate) fn check(
    connection: &Connection,
    anchor: Option<AuditHead>,
    mut show: impl FnMut(&AuditRecord),
) -> Result<AuditCheck, Fault> {
    let mut statement = connection.prepare("SELECT sequence, hash FROM audit_start")?;
    let start = one(&mut statement, params![], read_head)?.unwrap_or_default();
    let mut walk = AuditWalk::new(start, anchor);
    // From the first record that is there, so that one before the start is seen as well.
    let mut after = 0;
    loop {
        let entries = entries(connection, after, CHUNK)?;
        for entry in &entries {
            if let Err(broken) = walk.follow(entry, hash_of) {
                return Ok(broken);
            }
            show(&entry.record);
            after = entry.sequence;
        }
        if entries.len() < CHUNK as usize {
            return Ok(walk.finish());
        }
    }
}

/// Records after a sequence number.
fn entries(connection: &Connection, after: u64, most: u32) -> Result<Vec<AuditEntry>, Fault> {
    let mut statement =
        connection.prepare("SELECT sequence, hash, at, record FROM audit WHERE sequence > ?1 ORDER BY sequence LIMIT ?2")?;
    many(
        &mut statement,
        params![count(after), i64::from(most)],
        |row| {
            let head = read_head(row)?;
            let record = AuditRecord {
                at: read_time(row, 2)?,
                text: read_text(row, 3)?,
            };
            Ok(AuditEntry {
                sequence: head.sequence,
                record,
                hash: head.hash,
            })
        },
    )
}

fn read_head(row: &Row<'_>) -> Result<AuditHead, Fault> {
    let hash: [u8; 32] = row.get(1)?;
    Ok(AuditHead {
        sequence: read_count(row, 0)?,
        hash,
    })
}
