//! Whether the machine has failed since the store was last used.
//!
//! A process that dies takes nothing back that it has written; a machine that fails takes back what was not
//! synced. The database remembers the start of the machine under which it was used, and a store that is opened
//! under another one first charges all money that was held ahead: what was spent of it may be unknown.
//!
//! Where the start of the machine cannot be told, no money is held ahead.

use std::sync::mpsc;

use otto_core::port::store::{Durability, StoreError};
use otto_core::store_rules::forfeit_ahead;
use sha2::{Digest, Sha256};

use crate::queue::Queue;
use crate::writer::{Job, SqlRows, gone, job_then};

/// Source: proc(5), `/proc/sys/kernel/random/boot_id`: made anew at each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const BOOT: &str = "boot";

/// A number for this start of the machine, never 0; `None` where it cannot be told.
pub(crate) fn number() -> Option<u64> {
    let id = std::fs::read(BOOT_ID).ok().filter(|id| !id.is_empty())?;
    let hash = Sha256::digest(id);
    let first: [u8; 8] = hash[..8].try_into().ok()?;
    // A column is signed.
    Some((u64::from_le_bytes(first) >> 1) | 1)
}

/// Does what is due when the machine has been started anew since the store was last used. Blocks.
pub(crate) fn settle_up(
    writer: &Queue<Job>,
    boot: Option<u64>,
    path: &std::path::Path,
) -> Result<(), StoreError> {
    let (reply, answer) = mpsc::channel();
    let rule = move |rows: &mut SqlRows<'_, '_>, now| {
        let boot = boot.unwrap_or(0);
        if rows.number(BOOT)? != boot {
            rows.end_leases()?;
            forfeit_ahead(rows, now)?;
            rows.set_number(BOOT, boot)?;
            rows.require_sync();
        }
        Ok(())
    };
    let job = job_then(Durability::Relaxed, rule, move |result| {
        // Whoever opens the store waits for this.
        let _ = reply.send(result);
    });
    writer.push_now(job).map_err(|_| gone(path))?;
    answer.recv().map_err(|_| gone(path))?
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_start_of_the_machine_has_one_number() {
        let number = super::number();
        assert_eq!(number, super::number());
        assert_ne!(number, Some(0));
    }
}
