//! The audit log: a chain of hashes in the same database.

use std::sync::Arc;

use otto_core::port::BoxFuture;
use otto_core::port::store::{
    AuditCheck, AuditEntry, AuditHead, AuditLog, AuditRecord, Durability, StoreError,
};
use otto_core::store_rules::{MAX_TEXT_BYTES, audit_preimage};
use rusqlite::{Connection, Row, params};
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
                let mut statement = connection
                    .prepare("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?;
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

    fn check_audit(
        &self,
        anchor: Option<AuditHead>,
    ) -> BoxFuture<'_, Result<AuditCheck, StoreError>> {
        self.inner.ask("check the audit log", move |connection| {
            crate::verify::audit_check(connection, anchor)
        })
    }
}

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
    let mut head = one(&mut statements.audit_head, params![], read_head)?.unwrap_or_default();
    for record in records {
        head = follow(&head, record);
        statements.append_audit.execute(params![
            count(head.sequence),
            time(record.at),
            &*record.text,
            head.hash
        ])?;
    }
    Ok(head)
}

/// The head after one more record.
pub(crate) fn follow(head: &AuditHead, record: &AuditRecord) -> AuditHead {
    AuditHead {
        sequence: head.sequence + 1,
        hash: Sha256::digest(audit_preimage(head, record)).into(),
    }
}

/// Records after a sequence number.
pub(crate) fn entries(
    connection: &Connection,
    after: u64,
    most: u32,
) -> Result<Vec<AuditEntry>, Fault> {
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
