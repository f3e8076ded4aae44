//! Requests to end an invocation that another process drives.
//!
//! A request is a file in a folder of the state directory, named after the invocation: like the kill file it needs
//! no database, and every process on the state directory sees it. Whoever drives the invocation ends it; one that
//! nobody drives is ended by whoever takes it up.
//!
//! Invariant: a request stays until its invocation has ended, or until somebody resumes it on purpose. A process
//! that dies while it obeys leaves it to the next one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use otto_core::InvocationId;
use otto_core::invocation::{CancelReason, OutcomeKind};
use otto_core::port::store::{InvocationQuery, InvocationRecord, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::engine::Shared;
use crate::running::Running;
use crate::ticks::Ticks;

/// How often requests are looked for: a person waits for it, and a look costs a few microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a request is compared with the record of its invocation: to remove what is left of one that has ended.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

/// How an invocation was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelling {
    /// It runs in this process and was told.
    Told,
    /// It does not run in this process: the process that drives it is told within a tenth of a second, or whoever
    /// takes it up next.
    Requested,
}

/// Why an invocation was not asked to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CancelError {
    /// There is none.
    #[error("there is no invocation {0}")]
    Unknown(InvocationId),
    /// It needs no end.
    #[error("invocation {invocation} has ended: {outcome}")]
    Ended {
        /// The invocation.
        invocation: InvocationId,
        /// How.
        outcome: OutcomeKind,
    },
    /// It does not run here, and nothing carries the word.
    #[error(
        "invocation {0} does not run in this process, and without a state directory no word reaches another; cancel it where it runs"
    )]
    OutOfReach(InvocationId),
    /// The request could not be written.
    #[error("write a request to cancel invocation {invocation}")]
    Request {
        /// The invocation.
        invocation: InvocationId,
        /// Why.
        source: io::Error,
    },
    /// The store does not answer.
    #[error("look up the invocation")]
    Store(#[from] StoreError),
}

/// Where requests are left; nowhere, for a store without a directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelRequests {
    folder: Option<PathBuf>,
}

impl CancelRequests {
    pub(crate) const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    pub(crate) fn is_requested(&self, invocation: InvocationId) -> bool {
        self.file(invocation)
            .is_some_and(|file| file.symlink_metadata().is_ok())
    }

    /// Takes a request back; that there is none is no error, and one that cannot be removed is obeyed.
    pub(crate) fn withdraw(&self, invocation: InvocationId) {
        if let Some(file) = self.file(invocation) {
            let _ = fs::remove_file(file);
        }
    }

    fn file(&self, invocation: InvocationId) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.join(invocation.to_string()))
    }

    /// All requests; none while the folder cannot be read.
    fn all(&self) -> Vec<InvocationId> {
        let Some(entries) = self
            .folder
            .as_ref()
            .and_then(|folder| fs::read_dir(folder).ok())
        else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect()
    }
}

impl Engine {
    /// Asks an invocation to end, wherever it runs. It has ended when its record says so.
    ///
    /// # Errors
    /// When there is no such invocation, it has ended, or it cannot be reached.
    pub async fn cancel(&self, invocation: InvocationId) -> Result<Cancelling, CancelError> {
        let shared = self.shared();
        if let Some(running) = shared.registry.find(invocation) {
            running.cancel();
            return Ok(Cancelling::Told);
        }
        let record = find(shared, invocation).await?;
        let record = record.ok_or(CancelError::Unknown(invocation))?;
        if let Some(outcome) = record.outcome {
            return Err(CancelError::Ended {
                invocation,
                outcome,
            });
        }
        let file = shared.cancels.file(invocation);
        let file = file.ok_or(CancelError::OutOfReach(invocation))?;
        tokio::task::spawn_blocking(move || write(&file))
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(|source| CancelError::Request { invocation, source })?;
        Ok(Cancelling::Requested)
    }
}

/// Durable when it returns: who has asked may rely on it.
fn write(file: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder)?;
    File::create(file)?.sync_all()?;
    File::open(folder)?.sync_all()
}

async fn find(
    shared: &Shared,
    invocation: InvocationId,
) -> Result<Option<InvocationRecord>, StoreError> {
    let query = InvocationQuery {
        invocation: Some(invocation),
        ..InvocationQuery::default()
    };
    Ok(shared.store.invocations(query).await?.into_iter().next())
}

/// Obeys requests until it is stopped.
pub(crate) async fn watch(shared: Weak<Shared>, stop: CancellationToken) {
    let has_folder = |shared: &Shared| shared.cancels.folder.is_some();
    if !shared.upgrade().is_some_and(|shared| has_folder(&shared)) {
        return stop.cancelled().await;
    }
    let mut ticks = Ticks::every(LOOK_EVERY, shared, stop);
    // Requests that are another's: looked up now and then, and left to it.
    let mut of_others = BTreeSet::new();
    let mut looked_up = Instant::now();
    while let Some(shared) = ticks.next().await {
        let requests = shared.cancels.all();
        if looked_up.elapsed() > LOOK_UP_EVERY {
            of_others.clear();
            looked_up = Instant::now();
        }
        for invocation in requests {
            if let Some(running) = shared.registry.find(invocation) {
                running.cancel();
                of_others.remove(&invocation);
                continue;
            }
            if !of_others.insert(invocation) {
                continue;
            }
            match find(&shared, invocation).await {
                Ok(Some(record)) if record.outcome.is_none() => {}
                // It has ended, here or elsewhere.
                Ok(_) => shared.cancels.withdraw(invocation),
                // Asked again at the next tick.
                Err(error) => {
                    of_others.remove(&invocation);
                    shared.telemetry.store_failed("cancel", &error);
                }
            }
        }
    }
}

impl Shared {
    /// Obeys a request that was left for an invocation that is taken up now.
    pub(crate) fn obey_cancel_request(&self, running: &Running) {
        if self.cancels.is_requested(running.ids.invocation) {
            running.request_stop(CancelReason::User);
        }
    }
}
