//! Files of a working directory: `fs.write` replaces them and makes them, as it does in a worker.
//!
//! The tool runs in the traced process itself, without the confinement of a worker: what is looked at is the order in
//! which it changes the disk, not what it may reach.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use otto_sandbox::{Access, Dir, WorkerAnswer, WorkerCtx, WorkerRequest};

use super::{Aftermath, SAYS_IT, Scenario, no_environment};
use crate::said::{Mouth, say};

/// Replaced in every round; it is there before the first.
const REPLACED: &str = "notes.txt";

/// How often it is replaced.
const ROUNDS: usize = 3;

/// Made in the last round, with its directories.
const MADE: &str = "new/deep/made.txt";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "fs-write",
        prepare,
        drive,
        check,
        environment: no_environment,
        stride: 1,
        loses_power: true,
        reports: SAYS_IT,
    }]
}

/// A version of a file: more than two sectors, each of which says which version it is of.
fn version(number: usize) -> String {
    format!("version {number:04}\n").repeat(100)
}

fn prepare(dir: &Path) -> Result<()> {
    let work = dir.join("work");
    fs::create_dir(&work)?;
    Ok(fs::write(work.join(REPLACED), version(0))?)
}

/// One call of the tool; the words that it ends with.
fn write(dir: &Path, path: &str, content: &str) -> Result<std::result::Result<String, String>> {
    let ctx = WorkerCtx {
        working_dir: Some(Dir::open(&dir.join("work"), Access::ReadWrite)?),
        ..WorkerCtx::compute(Instant::now() + Duration::from_secs(60))
    };
    let request = WorkerRequest {
        tool: "fs.write".to_owned(),
        input: serde_json::json!({ "path": path, "content": content }).to_string(),
        settings: None,
        max_output_bytes: 64 * 1024,
        time_left: Duration::from_secs(60),
        exec: None,
        takes_files: false,
    };
    match otto_tools::dispatch(&ctx, &request) {
        WorkerAnswer::Done { content } => Ok(Ok(content)),
        WorkerAnswer::Failed(failure) => Ok(Err(failure.message)),
        other => bail!("fs.write answered {other:?}"),
    }
}

fn drive(dir: &Path, mouth: &Mouth) -> Result<()> {
    let rounds = (1..=ROUNDS).map(|number| (REPLACED, number));
    for (path, number) in rounds.chain([(MADE, 1)]) {
        say!(mouth, "writing {path} {number}");
        match write(dir, path, &version(number))? {
            Ok(_) => say!(mouth, "wrote {path} {number}"),
            Err(words) => {
                say!(mouth, "error {}", words.replace('\n', " "));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The last version of `path` of which `word` was said.
fn last(after: &Aftermath, word: &str, path: &str) -> Option<usize> {
    let said = after.facts.after(word);
    said.filter_map(|fact| fact.strip_prefix(path)?.trim().parse().ok())
        .last()
}

/// Each file holds one version whole, never one before the last that was acknowledged; what was replaced last is
/// still there, too; and the tool goes on.
fn check(dir: &Path, after: &Aftermath) -> Result<()> {
    let work = dir.join("work");
    let present = fs::read_to_string(work.join(REPLACED)).context("read the replaced file")?;
    let acknowledged = last(after, "wrote", REPLACED).unwrap_or(0);
    let begun = last(after, "writing", REPLACED).unwrap_or(0);
    let number = (acknowledged..=begun)
        .find(|number| present == version(*number))
        .with_context(|| format!("neither version {acknowledged} nor {begun}, but {present:?}"))?;
    if number > 0 {
        let replaced = version(number - 1);
        let mut beside = fs::read_dir(&work)?;
        let is_kept = beside.any(|entry| {
            entry.is_ok_and(|entry| {
                fs::read_to_string(entry.path()).is_ok_and(|text| text == replaced)
            })
        });
        ensure!(is_kept, "version {} is nowhere any more", number - 1);
    }
    if acknowledged > 0 && begun == acknowledged {
        let backup = fs::read_to_string(work.join(format!("{REPLACED}.bak")))?;
        ensure!(
            backup == version(acknowledged - 1),
            "the backup of an acknowledged write holds {backup:?}"
        );
    }
    match fs::read_to_string(work.join(MADE)) {
        Ok(made) => ensure!(made == version(1), "the new file holds {made:?}"),
        Err(_) => ensure!(
            last(after, "wrote", MADE).is_none(),
            "the new file was acknowledged and is not there"
        ),
    }
    for path in [REPLACED, MADE] {
        let next = version(ROUNDS + 1);
        let words = write(dir, path, &next)?.map_err(anyhow::Error::msg)?;
        let now = fs::read_to_string(work.join(path))?;
        ensure!(now == next, "`{words}`, and {path} holds {now:?}");
    }
    Ok(())
}
