//! Runs scenarios to their death, point by point, and checks what is left.
//!
//! A point is the n-th call of a run that can change what is on disk. A scenario is first run to its end to
//! count its points; then it is run once per point and dies there (or is told an error, or writes half). What
//! a failure needs to be repeated is printed: scenario, point, kind.
//!
//! Invariant: a point is counted only if the process died at it, a restart followed, and the check ran.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::said::Facts;
use crate::scenario::{Aftermath, Scenario};
use crate::tracer::{self, Call, Ended, Judge, Verdict};

/// What is done to a run at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Injection {
    /// The process dies.
    Kill,
    /// The call fails with an I/O error.
    InputOutput,
    /// The call fails because the disk is full.
    NoSpace,
    /// The call is interrupted.
    Interrupted,
    /// The call does half of what it was asked for.
    Short,
}

impl Injection {
    pub(crate) const FAULTS: [Self; 4] = [
        Self::InputOutput,
        Self::NoSpace,
        Self::Interrupted,
        Self::Short,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::InputOutput => "EIO",
            Self::NoSpace => "ENOSPC",
            Self::Interrupted => "EINTR",
            Self::Short => "short",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        [Self::Kill]
            .into_iter()
            .chain(Self::FAULTS)
            .find(|injection| injection.name() == name)
            .with_context(|| format!("there is no injection `{name}`"))
    }

    /// What becomes of this call, if it is one that can end like that.
    fn verdict(self, call: &Call) -> Verdict {
        let moves_data = matches!(call.name, "write" | "pwrite64");
        match self {
            Self::Kill => Verdict::Kill,
            Self::InputOutput => Verdict::Fail(nix::libc::EIO),
            // A sync, a removal or a cut needs no room.
            Self::NoSpace if !matches!(call.name, "unlink" | "unlinkat" | "rmdir") => {
                Verdict::Fail(nix::libc::ENOSPC)
            }
            Self::Interrupted if moves_data => Verdict::Fail(nix::libc::EINTR),
            Self::Short if moves_data => Verdict::Short,
            _ => Verdict::Go,
        }
    }
}

/// One run: scenario, injection, point.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) injection: Injection,
    pub(crate) point: u64,
}

/// What the runs came to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Runs by scenario and injection.
    pub(crate) runs: BTreeMap<(&'static str, Injection), u64>,
    /// What went wrong, with what is needed to repeat it.
    pub(crate) failures: Vec<String>,
}

/// Counts the calls and does something at one of them.
struct At {
    point: u64,
    injection: Injection,
    count: u64,
    reached: Option<&'static str>,
}

impl Judge for At {
    fn begins(&mut self, call: &Call) -> Result<Verdict> {
        self.count += 1;
        if self.count != self.point {
            return Ok(Verdict::Go);
        }
        let verdict = self.injection.verdict(call);
        if verdict != Verdict::Go {
            self.reached = Some(call.name);
        }
        Ok(verdict)
    }
}

/// A directory to run in, and a template that every run begins with.
pub(crate) struct Stage {
    base: PathBuf,
    /// Where the directory of a run goes whose check failed.
    keep: Option<PathBuf>,
}

impl Stage {
    /// Makes a stage in `base` and prepares the templates of the scenarios.
    pub(crate) fn build(
        base: &Path,
        scenarios: &[Scenario],
        keep: Option<PathBuf>,
    ) -> Result<Self> {
        let stage = Self {
            base: base.to_owned(),
            keep,
        };
        for scenario in scenarios {
            let template = stage.template(scenario);
            fs::create_dir_all(&template)?;
            (scenario.prepare)(&template)
                .with_context(|| format!("prepare scenario {}", scenario.name))?;
        }
        Ok(stage)
    }

    fn template(&self, scenario: &Scenario) -> PathBuf {
        self.base.join("templates").join(scenario.name)
    }

    /// A fresh directory with what the scenario begins with, and the file of facts beside it.
    pub(crate) fn set(&self, scenario: &Scenario, worker: usize) -> Result<(PathBuf, PathBuf)> {
        let (dir, said) = self.clear(worker)?;
        copy_tree(&self.template(scenario), &dir)?;
        Ok((dir, said))
    }

    /// The directory of a worker, which is not there yet, and its file of facts.
    pub(crate) fn clear(&self, worker: usize) -> Result<(PathBuf, PathBuf)> {
        let dir = self.base.join(format!("worker-{worker}")).join("run");
        let said = dir.with_file_name("said");
        for old in [&dir, &said] {
            if old.is_dir() {
                fs::remove_dir_all(old)?;
            } else if old.exists() {
                fs::remove_file(old)?;
            }
        }
        Ok((dir, said))
    }

    /// Counts the points of a scenario by running it to its end, and checks that end.
    pub(crate) fn count(&self, scenario: &Scenario) -> Result<u64> {
        let (dir, said) = self.set(scenario, 0)?;
        let mut judge = At {
            point: 0,
            injection: Injection::Kill,
            count: 0,
            reached: None,
        };
        let ended = tracer::run(driver(scenario, &dir, &said)?, &dir, &mut judge)?;
        ensure!(ended == Ended::Exited(0), "without a fault it {ended:?}");
        let after = Aftermath::read(&said)?;
        ensure!(
            after.facts.after("error").next().is_none(),
            "without a fault it says {:?}",
            after.facts
        );
        (scenario.check)(&dir, &after)?;
        Ok(judge.count)
    }

    /// Does one run. Says whether its point was reached.
    pub(crate) fn run(&self, job: Job<'_>, worker: usize) -> Result<bool> {
        let (dir, said) = self.set(job.scenario, worker)?;
        let mut judge = At {
            point: job.point,
            injection: job.injection,
            count: 0,
            reached: None,
        };
        let ended = tracer::run(driver(job.scenario, &dir, &said)?, &dir, &mut judge)?;
        let Some(name) = judge.reached else {
            return Ok(false);
        };
        let facts = Facts::read(&said)?;
        let about = || format!("at `{name}`, having said {:?}", facts.lines());
        match ended {
            Ended::Signaled(Signal::SIGKILL) if job.injection == Injection::Kill => {}
            // A kill may hit a child: a worker of the sandbox, whose end the command reports.
            Ended::Exited(code) if job.scenario.reports.contains(&code) => {}
            other => anyhow::bail!("{other:?} {}", about()),
        }
        let checked = (job.scenario.check)(&dir, &Aftermath::read(&said)?).with_context(about);
        if let (Err(_), Some(keep)) = (&checked, &self.keep) {
            let name = format!(
                "{}-{}-{}",
                job.scenario.name,
                job.injection.name(),
                job.point
            );
            copy_tree(&dir, &keep.join(name))?;
        }
        checked.map(|()| true)
    }
}

/// The command whose process dies.
pub(crate) fn driver(scenario: &Scenario, dir: &Path, said: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["drive", scenario.name])
        .args([dir, said])
        .envs((scenario.environment)());
    Ok(command)
}

/// Runs all jobs on `workers` threads.
pub(crate) fn perform(stage: &Stage, jobs: &[Job<'_>], workers: usize) -> Totals {
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for worker in 1..=workers {
            let (next, totals) = (&next, &totals);
            scope.spawn(move || {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = stage.run(*job, worker);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(false) => {}
                        Ok(true) => {
                            *totals
                                .runs
                                .entry((job.scenario.name, job.injection))
                                .or_default() += 1;
                        }
                        Err(error) => totals.failures.push(format!(
                            "--scenario {} --inject {} --point {}: {error:#}",
                            job.scenario.name,
                            job.injection.name(),
                            job.point
                        )),
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Copies a directory with everything in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create `{}`", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("copy `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}
