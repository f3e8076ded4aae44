//! Power losses: a run is recorded, and every state that a disk may be left in is restored and checked.
//!
//! What was acknowledged before the instant of the loss must hold in each of them, with the same checks as
//! after a death. The database is not simulated: its own writes and syncs are what was recorded.
//!
//! Invariant: a state is counted only if a restart on it followed and the check ran.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;

use crate::campaign::{Stage, driver};
use crate::disk::{Covered, Disk, State};
use crate::said::Facts;
use crate::scenario::{Aftermath, Scenario};
use crate::tracer::{self, Call, Ended, Judge, Verdict};

/// What the power losses of some scenarios came to.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Scenarios.
    pub(crate) scenarios: usize,
    /// Instants at which the power was cut.
    pub(crate) instants: usize,
    /// States that were restored and checked.
    pub(crate) states: usize,
    /// Instants that have more states than the bound; the rest was drawn from a seed.
    pub(crate) sampled: usize,
    /// What went wrong, with what is needed to repeat it.
    pub(crate) failures: Vec<String>,
}

/// A state at an instant, and what had been said by then.
struct Moment {
    instant: usize,
    state: State,
    said: String,
}

/// How much of the states is checked.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// Most states of one instant.
    pub(crate) states: usize,
    /// Checks at the same time.
    pub(crate) workers: usize,
    /// Where the state of a failure is put.
    pub(crate) keep: Option<PathBuf>,
}

/// Records a run and checks the states of a power loss at each of its instants.
pub(crate) fn lose(
    stage: &Stage,
    scenario: &Scenario,
    extent: &Extent,
    losses: &mut Losses,
) -> Result<()> {
    let (dir, said) = stage.set(scenario, 0)?;
    let mut cutter = Cutter::new(Disk::holding(&dir)?, extent.states);
    let mut recorder = Recorder {
        said_file: said.clone(),
        operations: Vec::new(),
    };
    let watched = dir.parent().context("a run has a directory")?.to_owned();
    let ended = tracer::run(driver(scenario, &dir, &said)?, &watched, &mut recorder)?;
    ensure!(ended == Ended::Exited(0), "without a fault it {ended:?}");
    let checked = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let (sender, receiver) = mpsc::sync_channel::<Moment>(64);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for worker in 1..=extent.workers {
            let (checked, failures, receiver, dir) = (&checked, &failures, &receiver, &dir);
            scope.spawn(move || {
                loop {
                    let next = receiver
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    let Ok(moment) = next else { return };
                    match check(stage, scenario, &moment, dir, worker) {
                        Ok(()) => {
                            checked.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            if let Some(keep) = &extent.keep {
                                // To be looked at; the check has changed what it ran on.
                                let _ = moment.state.restore(dir, keep);
                            }
                            failures
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(format!(
                                    "--power --scenario {}, instant {}: {error:#}",
                                    scenario.name, moment.instant
                                ));
                        }
                    }
                }
            });
        }
        cutter.replay(recorder.operations, &sender);
        drop(sender);
    });
    losses.scenarios += 1;
    losses.instants += cutter.instant;
    losses.sampled += cutter.sampled;
    losses.states += checked.into_inner();
    losses.failures.extend(
        failures
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    );
    Ok(())
}

fn check(
    stage: &Stage,
    scenario: &Scenario,
    moment: &Moment,
    recorded: &Path,
    worker: usize,
) -> Result<()> {
    let (dir, said) = stage.clear(worker)?;
    moment.state.restore(recorded, &dir)?;
    std::fs::write(&said, &moment.said)?;
    let after = Aftermath {
        facts: Facts::of(&moment.said),
        said,
        boot: "the boot after the loss",
    };
    (scenario.check)(&dir, &after).with_context(|| format!("having said {:?}", after.facts.lines()))
}

/// What a run did to the disk and said to the world.
enum Operation {
    Said(String),
    Create(PathBuf),
    Write(PathBuf, Option<u64>, Vec<u8>),
    Length(PathBuf, u64),
    MakeDir(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, bool),
    Exchange(PathBuf, PathBuf),
    /// A thread begins a sync of one path, or of everything: the worst instant, where everything is written and nothing
    /// is synced. What is written from here on is no part of it.
    Syncing(Pid, Option<PathBuf>),
    Synced(Pid),
}

/// Notes what a run does.
struct Recorder {
    said_file: PathBuf,
    operations: Vec<Operation>,
}

impl Judge for Recorder {
    fn begins(&mut self, call: &Call) -> Result<Verdict> {
        let (path, args) = (call.path.clone(), call.args());
        let operation = match call.name {
            "write" if path == self.said_file => Operation::Said(String::from_utf8(call.data()?)?),
            _ if path == self.said_file => return Ok(Verdict::Go),
            "fsync" | "fdatasync" => {
                self.operations
                    .push(Operation::Syncing(call.task(), Some(path)));
                return Ok(Verdict::GoAndTell);
            }
            "syncfs" => {
                self.operations.push(Operation::Syncing(call.task(), None));
                return Ok(Verdict::GoAndTell);
            }
            "write" => Operation::Write(path, call.position()?, call.data()?),
            "pwrite64" => Operation::Write(path, Some(args[3]), call.data()?),
            "ftruncate" => Operation::Length(path, args[1]),
            "open" | "openat" | "openat2" => {
                self.operations.push(Operation::Create(path.clone()));
                if !call.cuts() {
                    return Ok(Verdict::Go);
                }
                Operation::Length(path, 0)
            }
            "mkdir" | "mkdirat" => Operation::MakeDir(path),
            "unlink" | "unlinkat" | "rmdir" => Operation::Remove(path),
            "rename" | "renameat" | "renameat2" => {
                let to = call.to.clone().context("a rename has a new name")?;
                let asks = |flag: u32| call.name == "renameat2" && args[4] & u64::from(flag) != 0;
                if asks(nix::libc::RENAME_EXCHANGE) {
                    Operation::Exchange(path, to)
                } else {
                    Operation::Rename(path, to, !asks(nix::libc::RENAME_NOREPLACE))
                }
            }
            other => anyhow::bail!("the model of the disk does not know `{other}`"),
        };
        self.operations.push(operation);
        Ok(Verdict::Go)
    }

    fn ended(&mut self, call: &Call) {
        self.operations.push(Operation::Synced(call.task()));
    }
}

/// Replays a run and cuts the power at each instant.
struct Cutter {
    disk: Disk,
    /// Syncs that have begun, by the thread that waits for them.
    syncs: HashMap<Pid, Covered>,
    said: String,
    seen: BTreeSet<(u64, usize)>,
    instant: usize,
    sampled: usize,
    most: usize,
}

impl Cutter {
    fn new(disk: Disk, most: usize) -> Self {
        Self {
            disk,
            syncs: HashMap::new(),
            said: String::new(),
            seen: BTreeSet::new(),
            instant: 0,
            sampled: 0,
            most,
        }
    }

    fn replay(&mut self, operations: Vec<Operation>, to: &SyncSender<Moment>) {
        for operation in operations {
            match operation {
                Operation::Said(text) => {
                    // Whoever hears it has it, whatever becomes of this disk.
                    self.said.push_str(&text);
                    self.cut(to);
                }
                Operation::Syncing(task, path) => {
                    let covered = match path {
                        Some(path) => self.disk.begin_sync(&path),
                        None => self.disk.begin_sync_all(),
                    };
                    self.syncs.insert(task, covered);
                    self.cut(to);
                }
                Operation::Create(path) => self.disk.create(&path),
                Operation::Write(path, at, data) => self.disk.write(&path, at, data),
                Operation::Length(path, length) => self.disk.set_length(&path, length),
                Operation::MakeDir(path) => self.disk.make_dir(&path),
                Operation::Remove(path) => {
                    self.disk.remove(&path);
                    self.cut(to);
                }
                Operation::Rename(from, into, replaces) => {
                    self.disk.rename(&from, &into, replaces);
                    self.cut(to);
                }
                Operation::Exchange(one, other) => {
                    self.disk.exchange(&one, &other);
                    self.cut(to);
                }
                Operation::Synced(task) => {
                    let covered = self.syncs.remove(&task).unwrap_or_default();
                    self.disk.end_sync(covered);
                }
            }
        }
        self.cut(to);
    }

    /// The power goes now.
    fn cut(&mut self, to: &SyncSender<Moment>) {
        self.instant += 1;
        let (states, all) = self.disk.states(self.most, self.instant as u64);
        self.sampled += usize::from(!all);
        for state in states {
            // The same state with the same acknowledgements is checked once.
            if self.seen.insert((state.fingerprint(), self.said.len())) {
                let moment = Moment {
                    instant: self.instant,
                    state,
                    said: self.said.clone(),
                };
                // The workers outlive this: they end when the channel does.
                let _ = to.send(moment);
            }
        }
    }
}
