//! What `grep` costs beside the walk and search of the ripgrep crates themselves.
//!
//! `cargo run --release -p otto-tools --example grep_cost [FILES] [ROUNDS]` makes a tree of source-like files in a
//! temporary directory, searches it both ways in turn, and prints the CPU time of each round and the median ratio.
//! The other side is what a program gets from `ignore`'s sequential walker with the same engine and settings,
//! counting matches and formatting nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement prepares its tree and prints its result"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use grep_regex::RegexMatcherBuilder;
use grep_searcher::sinks::Bytes;
use grep_searcher::{BinaryDetection, SearcherBuilder};
use otto_sandbox::{Access, Dir, WorkerAnswer, WorkerCtx, WorkerRequest};
use rustix::time::{ClockId, clock_gettime};

const PATTERN: &str = r"fn needle_\w+\(";

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let files = numbers.next().transpose()?.unwrap_or(30_000);
    let rounds = numbers.next().transpose()?.unwrap_or(15);
    let base = tempfile::tempdir()?;
    let root = fs::canonicalize(base.path())?;
    plant(&root, files)?;
    let (ours_found, theirs_found) = (ours(&root)?, theirs(&root)?);
    if ours_found != theirs_found {
        return Err(format!("{ours_found} matches here, {theirs_found} there").into());
    }
    println!("{files} files, {ours_found} matches, {rounds} rounds");
    let mut ratios = Vec::new();
    for round in 0..rounds {
        // The order changes, so that neither side always finds the warmer cache.
        let (first, second) = if round % 2 == 0 {
            (cpu(|| ours(&root))?, cpu(|| theirs(&root))?)
        } else {
            let theirs = cpu(|| theirs(&root))?;
            (cpu(|| ours(&root))?, theirs)
        };
        ratios.push(first.as_secs_f64() / second.as_secs_f64());
        println!(
            "tool {first:>9.1?}   crates {second:>9.1?}   ratio {:.3}",
            ratios[ratios.len() - 1]
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.3}", ratios[ratios.len() / 2]);
    Ok(())
}

fn plant(root: &Path, files: usize) -> Result<(), Box<dyn Error>> {
    fs::write(root.join(".gitignore"), "target/\n*.log\n/build\n")?;
    fs::create_dir(root.join(".git"))?;
    for i in 0..files {
        let dir = root.join(format!("crate{}/src/part{}", i / 400, i % 400 / 20));
        if i % 20 == 0 {
            fs::create_dir_all(&dir)?;
        }
        let mut text = String::new();
        for line in 0..40 + i % 200 {
            text.push_str(&format!(
                "    let value_{line} = compute({i}, {line}) + other::helper(&input[{line}..]);\n"
            ));
        }
        if i % 500 == 0 {
            text.push_str(&format!("fn needle_{i}() {{}}\n"));
        }
        fs::write(
            dir.join(format!(
                "file{i}.{}",
                if i % 10 == 0 { "log" } else { "rs" }
            )),
            text,
        )?;
    }
    Ok(())
}

fn cpu(run: impl Fn() -> Result<usize, Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    };
    let before = now();
    run()?;
    Ok(now() - before)
}

fn ours(root: &Path) -> Result<usize, Box<dyn Error>> {
    let dir = Dir::open(root, Access::ReadOnly)?;
    let ctx = WorkerCtx {
        working_dir: Some(dir),
        ..WorkerCtx::compute(Instant::now() + Duration::from_secs(600))
    };
    let request = WorkerRequest {
        tool: "grep".to_owned(),
        input: serde_json::json!({ "pattern": PATTERN, "max_results": 5_000 }).to_string(),
        settings: None,
        max_output_bytes: 1 << 20,
        time_left: Duration::from_secs(600),
        exec: None,
    };
    match otto_tools::dispatch(&ctx, &request) {
        WorkerAnswer::Done { content } => Ok(content.lines().count() - 1),
        other => Err(format!("{other:?}").into()),
    }
}

fn theirs(root: &Path) -> Result<usize, Box<dyn Error>> {
    let matcher = RegexMatcherBuilder::new()
        .multi_line(true)
        .line_terminator(Some(b'\n'))
        .build(PATTERN)?;
    let mut searcher = SearcherBuilder::new()
        .line_number(true)
        .binary_detection(BinaryDetection::quit(0))
        .build();
    let mut matches = 0;
    for entry in ignore::WalkBuilder::new(root)
        .git_global(false)
        .parents(false)
        .build()
    {
        let entry = entry?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            searcher.search_path(
                &matcher,
                entry.path(),
                Bytes(|_, _| {
                    matches += 1;
                    Ok(true)
                }),
            )?;
        }
    }
    Ok(matches)
}
