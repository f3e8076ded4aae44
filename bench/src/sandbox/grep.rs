//! What `grep` costs beside the walk and search of the ripgrep crates themselves, in CPU time of this process.
//!
//! The other side is what a program gets from `ignore`'s sequential walker with the same engine and settings,
//! counting matches and formatting nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use grep_regex::RegexMatcherBuilder;
use grep_searcher::sinks::Bytes;
use grep_searcher::{BinaryDetection, SearcherBuilder};
use otto_sandbox::{Access, Dir, WorkerAnswer, WorkerCtx, WorkerRequest};

use super::table::{Table, Target, ms};
use super::{Effort, Place, own_dir};
use crate::measure::{Stopwatch, median};

const PATTERN: &str = r"fn needle_\w+\(";

pub(super) fn measure(place: &Place, table: &mut Table) -> Result<()> {
    let root = own_dir(place, "tree")?;
    let files = match place.effort {
        Effort::Brief => 500,
        Effort::Full => 20_000,
    };
    plant(&root, files)?;
    let (found, expected) = (ours(&root)?, theirs(&root)?);
    ensure!(found == expected, "{found} matches here, {expected} there");
    let (mut floor, mut otto, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..place.effort.of(15) {
        // The order changes, so that neither side always finds the warmer cache.
        let (first, second) = if round % 2 == 0 {
            let first = cpu(|| ours(&root))?;
            (first, cpu(|| theirs(&root))?)
        } else {
            let second = cpu(|| theirs(&root))?;
            (cpu(|| ours(&root))?, second)
        };
        ratios.push(first / second);
        otto.push(first);
        floor.push(second);
    }
    table.add(
        &format!("`grep` over {files} files beside the ripgrep crates, CPU"),
        &ms(median(floor)),
        &ms(median(otto)),
        (median(ratios), "x"),
        Target::AtMost(1.05),
    );
    Ok(())
}

/// CPU time of this process, in milliseconds.
fn cpu(run: impl Fn() -> Result<usize>) -> Result<f64> {
    let watch = Stopwatch::start();
    run()?;
    Ok(watch.stop().1.as_secs_f64() * 1e3)
}

fn plant(root: &Path, files: usize) -> Result<()> {
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

fn ours(root: &Path) -> Result<usize> {
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
        takes_files: false,
    };
    match otto_tools::dispatch(&ctx, &request) {
        WorkerAnswer::Done { content } => Ok(content.lines().count() - 1),
        other => bail!("{other:?}"),
    }
}

fn theirs(root: &Path) -> Result<usize> {
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
