//! The kill switch: nothing new begins, everything that runs is ended, until it is lifted.
//!
//! It is thrown when any of three places says so: the store's row (checked again in the transaction of every
//! submission and reservation), the file beside it, which carries the word to every process on the state
//! directory, or the process itself, which was started with it and keeps it for its life. The watcher brings
//! the places together; `KillSwitch::thrown` is what every start asks.
//!
//! Invariant: from the moment `thrown` answers, no invocation, model call or tool call of this process begins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use otto_core::Timestamp;
use otto_core::invocation::CancelReason;
use otto_core::port::store::{KillRow, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::ticks::Ticks;

/// Where the kill switch may be thrown, beside the store's row and [`crate::Engine::kill`].
#[derive(Debug, Clone, Default)]
pub struct KillPlaces {
    /// The process was started with the switch thrown, for this reason. Cannot be lifted but by a restart.
    pub process: Option<Arc<str>>,
    /// A file that throws it by being there. Its first line is the reason.
    pub file: Option<PathBuf>,
    /// How often the store's row is read; `None` for a store that only this process writes.
    pub row_every: Option<Duration>,
}

/// How often the file is looked for: five times in the 100 ms within which a throw must have arrived. One
/// `stat` costs a few microseconds, needs no watch that could be exhausted, and works on every file system.
const FILE_EVERY: Duration = Duration::from_millis(20);
/// BOUND: bytes of the file that are read.
const REASON_BYTES: usize = 500;

/// The kill switch of one process.
#[derive(Debug)]
pub(crate) struct KillSwitch {
    places: KillPlaces,
    thrown: watch::Sender<Option<KillRow>>,
    /// Throws under way, and how many there were: what was read before one of them is old.
    throws: Mutex<Throws>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Throws {
    under_way: u32,
    begun: u64,
}

/// A throw under way; ends with the value, also when its future is dropped.
struct Throwing<'a>(&'a KillSwitch);

impl Drop for Throwing<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

impl KillSwitch {
    /// Looks at process and file at once: what is thrown at start holds before anything is admitted.
    pub(crate) fn new(places: KillPlaces, now: Timestamp) -> Self {
        let process = places
            .process
            .clone()
            .map(|reason| KillRow { reason, at: now });
        let thrown = process.or_else(|| places.file.as_deref().and_then(read_file));
        Self {
            places,
            thrown: watch::channel(thrown).0,
            throws: Mutex::default(),
        }
    }

    fn throwing(&self) -> Throwing<'_> {
        let mut throws = self.lock();
        throws.under_way += 1;
        throws.begun += 1;
        Throwing(self)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Throws> {
        // Two numbers that are set together, so a poisoned pair is still a correct pair.
        self.throws.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing may begin; `None` when it may.
    pub(crate) fn thrown(&self) -> Option<KillRow> {
        self.thrown.borrow().clone()
    }

    /// What is thrown and lifted from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<KillRow>> {
        self.thrown.subscribe()
    }

    /// Whether nothing may begin.
    pub(crate) fn is_thrown(&self) -> bool {
        self.thrown.borrow().is_some()
    }
}

impl Shared {
    /// Holds from here on, for this process: first no start, then the end of what runs.
    fn obey(&self, row: KillRow) {
        let is_news = self.kill.thrown.send_if_modified(|thrown| {
            let is_news = thrown.is_none();
            if is_news {
                *thrown = Some(row.clone());
            }
            is_news
        });
        self.registry.stop_all(CancelReason::KillSwitch);
        if is_news {
            self.telemetry
                .kill_switch_thrown(&row, self.registry.count(), self.clock.now());
        }
    }

    /// Throws it here, for all processes, and durably, in this order: what runs stops even if the disk does not.
    pub(crate) async fn throw_kill(&self, reason: &str) -> Result<(), StoreError> {
        let row = KillRow {
            reason: Arc::from(reason),
            at: self.clock.now(),
        };
        let shown = crate::redaction::text(&self.redactor, &row.reason);
        self.audit.killed(&shown);
        let _throwing = self.kill.throwing();
        self.obey(row.clone());
        let carried = match self.kill.places.file.clone() {
            Some(file) => {
                let reason = reason.to_owned();
                let writing = tokio::task::spawn_blocking(move || throw_file(&file, &reason));
                match writing.await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(panic) => Some(panic.to_string()),
                }
            }
            None => None,
        };
        self.store.set_kill(Some(row)).await?;
        match carried {
            None => Ok(()),
            Some(error) => Err(StoreError::Unavailable {
                detail: Arc::from(format!(
                    "write the kill file, which tells other processes: {error}; the switch is thrown, and others obey when they next ask the store"
                )),
            }),
        }
    }

    /// Lifts it everywhere. What is left of it (the process was started with it) is returned.
    pub(crate) async fn lift_kill(&self) -> Result<Option<KillRow>, StoreError> {
        self.audit.kill_lifted();
        // The row first: whoever sees the file gone asks the row next.
        self.store.set_kill(None).await?;
        if let Some(file) = self.kill.places.file.clone() {
            let lifting = tokio::task::spawn_blocking(move || lift_file(&file));
            lifting
                .await
                .map_err(|panic| io::Error::other(panic.to_string()))
                .and_then(|lifted| lifted)
                .map_err(|error| StoreError::Unavailable {
                    detail: Arc::from(format!(
                        "remove the kill file: {error}; the switch stays thrown until the file is gone"
                    )),
                })?;
        }
        self.refresh_kill(None);
        Ok(self.kill.thrown())
    }

    /// What holds now, given the store's row.
    fn refresh_kill(&self, row: Option<KillRow>) {
        let process = self.kill.places.process.clone();
        if process.is_some() {
            return;
        }
        let file = self.kill.places.file.as_deref().and_then(read_file);
        match file.or(row) {
            Some(row) => self.obey(row),
            None => {
                // Whoever waits for a change hears of changes only.
                let was_thrown = self
                    .kill
                    .thrown
                    .send_if_modified(|thrown| thrown.take().is_some());
                if was_thrown {
                    self.telemetry.kill_switch_lifted();
                }
            }
        }
    }
}

/// Throws the switch by its file: atomically, so that nobody reads half a reason.
///
/// # Errors
/// When the file cannot be written.
pub fn throw_file(file: &Path, reason: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let draft = file.with_extension(format!("new-{}", std::process::id()));
    fs::write(&draft, format!("{reason}\n"))?;
    fs::rename(&draft, file)
}

/// Takes the file away; that it is not there is no error.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn lift_file(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    // A power loss must not bring it back: it would be thrown again. (A throw has the store's row for that.)
    match file.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// What the file says; `None` when it is not there. A file that cannot be read throws the switch all the same.
pub(crate) fn read_file(file: &Path) -> Option<KillRow> {
    let metadata = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => {
            return Some(KillRow {
                reason: Arc::from("the kill file cannot be looked at"),
                at: Timestamp::EPOCH,
            });
        }
    };
    let at = metadata
        .modified()
        .ok()
        .and_then(|modified| modified.duration_since(UNIX_EPOCH).ok())
        .map_or(Timestamp::EPOCH, |since| Timestamp::EPOCH.after(since));
    let text = if metadata.is_file() {
        read_start(file).unwrap_or_default()
    } else {
        String::new()
    };
    let line = text.lines().next().unwrap_or_default().trim();
    let reason = if line.is_empty() {
        format!("the file `{}` is there", file.display())
    } else {
        line.to_owned()
    };
    Some(KillRow {
        reason: Arc::from(reason),
        at,
    })
}

fn read_start(file: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(REASON_BYTES as u64)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Brings file and row together until it is stopped.
pub(crate) async fn watch(shared: Weak<Shared>, stop: CancellationToken) {
    let Some(places) = shared.upgrade().map(|shared| shared.kill.places.clone()) else {
        return;
    };
    let every = match (&places.file, places.row_every) {
        (Some(_), _) => FILE_EVERY,
        (None, Some(every)) => every,
        // Only this process can throw it, and it need not watch itself.
        (None, None) => return stop.cancelled().await,
    };
    let mut ticks = Ticks::every(every, shared, stop);
    let mut row_due = Instant::now();
    while let Some(shared) = ticks.next().await {
        let file = places.file.as_deref().and_then(read_file);
        let is_thrown = shared.kill.is_thrown();
        let row_is_due = places.row_every.is_some() && Instant::now() >= row_due;
        if let (Some(row), false) = (&file, is_thrown) {
            shared.obey(row.clone());
        } else if row_is_due || (is_thrown && file.is_none()) {
            // A throw writes the file before the row: the file alone is enough, so a missing file asks the row.
            if let Some(every) = places.row_every {
                row_due = Instant::now() + every;
            }
            let before = *shared.kill.lock();
            match shared.store.kill().await {
                Ok(row) => {
                    let is_new = before.under_way == 0 && *shared.kill.lock() == before;
                    if is_new || row.is_some() {
                        shared.refresh_kill(row);
                    }
                }
                // Asked again at the next tick; what is thrown stays thrown until the store says otherwise.
                Err(error) => shared.telemetry.store_failed("kill", &error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_throws_by_being_there_whatever_it_holds() {
        let folder = std::env::temp_dir().join(format!("otto-kill-{}", uuid::Uuid::new_v4()));
        let file = folder.join("KILL");
        assert_eq!(read_file(&file), None);
        throw_file(&file, "a drill").unwrap();
        assert_eq!(&*read_file(&file).unwrap().reason, "a drill");
        fs::write(&file, b"").unwrap();
        assert!(read_file(&file).unwrap().reason.contains("is there"));
        fs::write(&file, b"\xff\xfe\nsecond").unwrap();
        assert!(read_file(&file).is_some());
        lift_file(&file).unwrap();
        lift_file(&file).unwrap();
        assert_eq!(read_file(&file), None);
        // A directory, a link to nowhere: what somebody makes in a hurry counts.
        fs::create_dir(&file).unwrap();
        assert!(read_file(&file).is_some());
        fs::remove_dir_all(&folder).unwrap();
    }
}
