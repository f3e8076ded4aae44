//! Whether the machine has failed since the store was last used.
//!
//! A process that dies takes nothing back that it has written; a machine that fails takes back what was not
//! synced. The database remembers the start of the machine under which it was used, and a store that is opened
//! under another one first charges all money that was held ahead: what was spent of it may be unknown. It ends
//! the leases of every process that does not show that it is alive, too: the file that shows whose process is
//! dead may be gone with the power.
//!
//! Where the start of the machine cannot be told, no money is held ahead and no lease ends early.

use std::sync::mpsc;

use otto_core::port::store::{Durability, StoreError};
use otto_core::store_rules::forfeit_ahead;
use sha2::{Digest, Sha256};

use crate::queue::Queue;
use crate::writer::{Job, SqlRows, gone, job_then};

const BOOT: &str = "boot";

/// The number of a start of the machine, never 0; `None` where it has no name.
pub(crate) fn number(name: &str) -> Option<u64> {
    if name.is_empty() {
        return None;
    }
    let hash = Sha256::digest(name);
    let first: [u8; 8] = hash[..8].try_into().ok()?;
    // A column is signed.
    Some((u64::from_le_bytes(first) >> 1) | 1)
}

/// Does what is due when the machine has been started anew since the store was last used. `alive` names the nodes
/// whose process is there. Blocks.
pub(crate) fn settle_up(
    writer: &Queue<Job>,
    boot: Option<u64>,
    alive: Vec<String>,
    path: &std::path::Path,
) -> Result<(), StoreError> {
    let (reply, answer) = mpsc::channel();
    let rule = move |rows: &mut SqlRows<'_, '_>, now| {
        if rows.number(BOOT)? != boot.unwrap_or(0) {
            if boot.is_some() {
                rows.end_leases_except(&alive)?;
            }
            forfeit_ahead(rows, now)?;
            rows.set_number(BOOT, boot.unwrap_or(0))?;
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
    fn a_start_of_the_machine_has_one_number() {
        let number = super::number("a boot");
        assert_eq!(number, super::number("a boot"));
        assert_ne!(number, super::number("another"));
        assert_ne!(number, Some(0));
        assert_eq!(super::number(""), None);
    }
}
