//! `cargo xtask soak`: a worker with a hundred agents against the scripted model, under random faults, for a
//! while; then: has memory grown, is anything left over?
//!
//! Processes are real: the model is one, the worker (`worker.rs`) is one. The provider overloads, cuts and
//! stalls by its script; this process stops both now and then (SIGSTOP) and kills the worker once (SIGKILL), so
//! that a second one takes up what it left. The verdict (`verdict.rs`) is a regression over the samples.
//!
//! Invariant: only processes that this one has started are signaled, and all of them have ended when it ends.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the soak prints its verdict"
)]

mod process;
mod verdict;
mod worker;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::Process;
use crate::verdict::{Sample, Verdict};

const USAGE: &str = "usage: otto-soak [--seconds N] [--agents N] [--seed N]\n";

/// What the model says, and how it fails. Each turn may be overloaded, cut or slow.
const SCRIPT: &str = r#"
turns:
  - text: I look into it.
    tool: { name: add, input: { a: 2, b: 40 } }
    faults:
      - { chance: 3%, status: 529 }
      - { chance: 3%, cut: { event: 4 } }
  - text: I look at the file.
    tool: { name: fs.read, input: { path: notes.txt } }
    faults:
      - { chance: 3%, status: 500 }
  - text: "The sum is 42."
    delay: 20ms
    faults:
      - { chance: 2%, cut: { event: 2 } }
"#;

/// BOUND: how long a worker may take to come up, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // The worker's sandbox launcher is this binary started once more.
    let booted = otto::boot();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["model"] => worker::model(SCRIPT),
        ["worker", url, folder, agents] => worker::run(&booted, url, Path::new(folder), agents),
        options => Plan::of(options).and_then(|plan| soak(&plan)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How long, how many, and which faults.
struct Plan {
    seconds: u64,
    agents: u32,
    chance: Chance,
}

impl Plan {
    fn of(options: &[&str]) -> Result<Self> {
        let (mut seconds, mut agents, mut seed) = (60, 100, 1);
        for pair in options.chunks(2) {
            match pair {
                ["--seconds", number] => seconds = number.parse().context("--seconds")?,
                ["--agents", number] => agents = number.parse().context("--agents")?,
                ["--seed", number] => seed = number.parse().context("--seed")?,
                _ => bail!("{USAGE}"),
            }
        }
        if seconds < 6 || agents == 0 {
            bail!("at least 6 seconds and one agent are needed to say anything");
        }
        Ok(Self {
            seconds,
            agents,
            chance: Chance(seed),
        })
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn soak(plan: &Plan) -> Result<()> {
    let seed = plan.chance.0;
    println!(
        "soak: {} agents, {} s, seed {seed}",
        plan.agents, plan.seconds
    );
    // Whoever loses its parent becomes ours, so that nothing can be left behind unseen.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("become the reaper of orphans")?;
    let folder = tempfile::tempdir()?;
    let temp = folder.path().join("tmp");
    for name in ["tmp", "work"] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    std::fs::write(folder.path().join("work/notes.txt"), "buy milk\n")?;

    let mut chance = Chance(seed);
    let model = Process::start(&["model"], &temp)?;
    let url = model.wait_for("listening", PATIENCE)?;
    let url = url.as_str().context("the model tells its address")?;
    let shown = folder.path().to_string_lossy().into_owned();
    let agents = plan.agents.to_string();
    let start_worker = || -> Result<Process> {
        let worker = Process::start(&["worker", url, &shown, &agents], &temp)?;
        worker.wait_for("ready", PATIENCE)?;
        Ok(worker)
    };

    // A quarter of the time for the first life, which ends by SIGKILL.
    let first = start_worker()?;
    trouble(&model, &first, plan.seconds / 4, &mut chance)?;
    first.signal(Signal::KILL)?;
    let first_life = first.end(PATIENCE)?;
    let second = start_worker()?;
    trouble(
        &model,
        &second,
        plan.seconds - plan.seconds / 4,
        &mut chance,
    )?;
    second.signal(Signal::TERM)?;
    let second_life = second.end(PATIENCE)?;
    model.signal(Signal::TERM)?;
    model.end(PATIENCE)?;

    let samples: Vec<Sample> = second_life.lines.iter().filter_map(Sample::of).collect();
    let done = |life: &process::Life| {
        life.lines
            .iter()
            .filter(|line| line["done"].is_string())
            .count()
    };
    println!(
        "{} invocations completed before the kill, {} after it",
        done(&first_life),
        done(&second_life)
    );
    let mut verdict = Verdict::of(&samples);
    verdict.ended(&second_life);
    verdict.orphans(&process::children_left(Duration::from_secs(10))?);
    verdict.files(&temp, &folder.path().join("state"))?;
    print!("{}", verdict.table());
    if verdict.is_good() {
        return Ok(());
    }
    bail!("the soak found something; run it again with --seed {seed}")
}

/// Stops one of both for a moment, again and again, until the time is over.
fn trouble(model: &Process, worker: &Process, seconds: u64, chance: &mut Chance) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let pause = Duration::from_millis(500 + chance.below(1_500));
        std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
        let victim = if chance.below(2) == 0 { model } else { worker };
        victim.signal(Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(100 + chance.below(400)));
        victim.signal(Signal::CONT)?;
    }
    Ok(())
}
