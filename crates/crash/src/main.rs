//! `otto-crash`: kills the real store, the real library and the real command at every system call that can
//! change what is on disk, starts again, and compares with what was acknowledged and billed.
//!
//! `cargo xtask crash [--all]` runs it. Tests only; nothing of it is shipped. It touches nothing but processes
//! that it started and directories that it made.
//!
//! Invariant: what is printed as a total has been checked, and a failure is printed with what repeats it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on its outputs"
)]

mod campaign;
mod disk;
mod power;
mod said;
mod scenario;
mod tracer;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::campaign::{Injection, Job, Stage, Totals};
use crate::power::{Extent, Losses};
use crate::said::Mouth;
use crate::scenario::Scenario;

const USAGE: &str = "usage: otto-crash [--all] [--scenario NAME] [--inject KIND] [--point N] [--power] [--workers N]

  --all              every point of every scenario with every injection; without it a fixed part of them
  --scenario NAME    only this scenario
  --inject KIND      only this: kill, EIO, ENOSPC, EINTR, short
  --point N          only this point, to repeat a failure
  --power            only power losses
  --keep DIR         puts what failed into DIR: the state that a power loss left, or the directory after its check
  --workers N        runs at the same time (default 2)";

/// Set where nothing may be left out for want of a tool.
const REQUIRE_TOOLS: &str = "OTTO_TEST_REQUIRE_TOOLS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("drive") => drive(&args[1..]).map(|()| true),
        Some("nothing") => tracer::submit().map(|()| true),
        _ => Options::parse(&args).and_then(|options| campaign(&options)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The process that dies.
fn drive(args: &[String]) -> Result<()> {
    let [name, dir, said] = args else {
        bail!("usage: otto-crash drive SCENARIO DIR FACTS");
    };
    tracer::submit()?;
    let mouth = Mouth::open(Path::new(said))?;
    (scenario::find(name)?.drive)(Path::new(dir), &mouth)
}

#[derive(Debug)]
struct Options {
    all: bool,
    scenario: Option<String>,
    injection: Option<Injection>,
    point: Option<u64>,
    workers: usize,
    power: bool,
    keep: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            all: false,
            scenario: None,
            injection: None,
            point: None,
            workers: 2,
            power: false,
            keep: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--all" => options.all = true,
                "--power" => options.power = true,
                _ => {}
            }
            if matches!(arg.as_str(), "--all" | "--power") {
                continue;
            }
            let value = args
                .next()
                .with_context(|| format!("`{arg}` needs a value\n\n{USAGE}"))?;
            match arg.as_str() {
                "--scenario" => options.scenario = Some(value.clone()),
                "--inject" => options.injection = Some(Injection::parse(value)?),
                "--point" => options.point = Some(value.parse().context("--point")?),
                "--keep" => options.keep = Some(PathBuf::from(value)),
                "--workers" => options.workers = value.parse().context("--workers")?,
                other => bail!("unknown argument `{other}`\n\n{USAGE}"),
            }
        }
        ensure!(
            (1..=64).contains(&options.workers),
            "--workers: expected 1 to 64"
        );
        Ok(options)
    }
}

/// Invocations whose usage is compared with the bill.
const INVOCATIONS: u64 = 10_000;

fn compare_usage() -> Result<()> {
    let base = make_base()?;
    let sums = usage::compare(&base.path().canonicalize()?, INVOCATIONS)?;
    println!(
        "usage: `otto usage --json` equals the bill to the picodollar: {} picodollars over {} invocations, {} calls, of which {} not billed and {} without a usage record ({:.1} s)",
        sums.charged,
        sums.invocations,
        sums.calls,
        sums.not_billed,
        sums.without_record,
        sums.elapsed.as_secs_f64()
    );
    Ok(())
}

fn campaign(options: &Options) -> Result<bool> {
    if options.scenario.is_none() && options.point.is_none() && !options.power {
        compare_usage()?;
    }
    if !tracer::is_possible() {
        let notice = "crash points: left out, this machine does not let a process trace its child";
        ensure!(std::env::var_os(REQUIRE_TOOLS).is_none(), "{notice}");
        println!("{notice}");
        return Ok(true);
    }
    let begun = Instant::now();
    let scenarios: Vec<Scenario> = scenario::all()
        .into_iter()
        .filter(|scenario| {
            options
                .scenario
                .as_deref()
                .is_none_or(|name| name == scenario.name)
        })
        .collect();
    ensure!(!scenarios.is_empty(), "there is no such scenario");
    let base = make_base()?;
    let base_path = base.path().canonicalize()?;
    let stage = Stage::build(&base_path, &scenarios, options.keep.clone())?;
    let lost = match options.injection.is_some() || options.point.is_some() {
        true => Losses::default(),
        false => lose_power(&stage, &scenarios, options)?,
    };
    if options.power {
        return Ok(lost.failures.is_empty());
    }
    let mut jobs = Vec::new();
    for scenario in &scenarios {
        let points = stage
            .count(scenario)
            .with_context(|| format!("scenario {}", scenario.name))?;
        println!("{}: {points} points", scenario.name);
        jobs.extend(jobs_of(scenario, points, options));
    }
    let totals = campaign::perform(&stage, &jobs, options.workers);
    report(&totals, &scenarios, begun);
    Ok(totals.failures.is_empty() && lost.failures.is_empty())
}

/// A directory of our own, in memory where that is possible: a death does not care, and thousands of syncs do.
fn make_base() -> Result<tempfile::TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("otto-crash-");
        builder
    };
    builder()
        .tempdir_in("/dev/shm")
        .or_else(|_| builder().tempdir())
        .context("make a directory to run in")
}

/// BOUND: states of one instant, ordinarily and with `--all`.
const STATES: usize = 24;
const ALL_STATES: usize = 4_096;

fn lose_power(stage: &Stage, scenarios: &[Scenario], options: &Options) -> Result<Losses> {
    let begun = Instant::now();
    let extent = Extent {
        states: if options.all { ALL_STATES } else { STATES },
        workers: options.workers,
        keep: options.keep.clone(),
    };
    let mut losses = Losses::default();
    for scenario in scenarios.iter().filter(|scenario| scenario.loses_power) {
        let (before, failed) = (losses.states, losses.failures.len());
        power::lose(stage, scenario, &extent, &mut losses)
            .with_context(|| format!("power losses of scenario {}", scenario.name))?;
        println!("{}: {} states", scenario.name, losses.states - before);
        for failure in losses.failures[failed..].iter().take(SHOWN) {
            println!("FAILED {failure}\n");
        }
    }
    println!(
        "power losses: {} states at {} instants of {} scenarios (more than {} states at {} instants: drawn), {} failed ({:.1} s)",
        losses.states,
        losses.instants,
        losses.scenarios,
        extent.states,
        losses.sampled,
        losses.failures.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(losses)
}

/// BOUND: failures that are shown.
const SHOWN: usize = 12;

/// The runs of a scenario. An ordinary run kills at every point, or every `stride`-th, and injects each fault at
/// every 24th of them, beginning elsewhere for each.
fn jobs_of<'a>(scenario: &'a Scenario, points: u64, options: &Options) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for point in 1..=points {
        if options.point.is_some_and(|only| only != point) {
            continue;
        }
        let is_chosen = options.all || options.point.is_some();
        let mut add = |injection| {
            if options.injection.is_none_or(|only| only == injection) {
                jobs.push(Job {
                    scenario,
                    injection,
                    point,
                });
            }
        };
        if is_chosen || point % scenario.stride == 0 {
            add(Injection::Kill);
        }
        for (offset, injection) in (0..).zip(Injection::FAULTS) {
            let is_drawn = point % scenario.stride == 0
                && (point / scenario.stride + 6 * offset).is_multiple_of(24);
            if is_chosen || is_drawn {
                add(injection);
            }
        }
    }
    jobs
}

fn report(totals: &Totals, scenarios: &[Scenario], begun: Instant) {
    let sum = |wanted: fn(Injection) -> bool| -> u64 {
        totals
            .runs
            .iter()
            .filter(|((_, injection), _)| wanted(*injection))
            .map(|(_, runs)| runs)
            .sum()
    };
    for failure in totals.failures.iter().take(SHOWN) {
        println!("FAILED {failure}\n");
    }
    println!(
        "crash points: {} kill points and {} faults of {} scenarios, {} failed ({:.1} s)",
        sum(|injection| injection == Injection::Kill),
        sum(|injection| injection != Injection::Kill),
        scenarios.len(),
        totals.failures.len(),
        begun.elapsed().as_secs_f64()
    );
}
