//! What the boundary costs: every figure of the sandbox, each beside the same work without it, as one Markdown
//! table.
//!
//! It also measures what Otto's `grep` costs beside the crates it is made of, because both run in a worker.
//!
//! Invariant: floor and Otto take turns inside each series, so that both see the same machine.

mod calls;
mod grep;
mod programs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use otto_sandbox::{Booted, HostConfig, LevelChoice, WorkerHost};

use table::Table;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Enough to see that everything works.
    Brief,
    /// Enough for figures.
    Full,
}

impl Effort {
    fn of(self, full: usize) -> usize {
        match self {
            Self::Brief => (full / 20).max(3),
            Self::Full => full,
        }
    }
}

/// Where it is measured.
struct Place {
    root: PathBuf,
    effort: Effort,
    _temp: tempfile::TempDir,
}

impl Place {
    fn new(effort: Effort) -> Result<Self> {
        let temp = tempfile::tempdir()?;
        let root = temp.path().canonicalize()?;
        for dir in ["work", "scratch"] {
            fs::create_dir(root.join(dir))?;
        }
        fs::write(root.join("work/small"), text(1024))?;
        fs::write(root.join("work/large"), text(2 * 1024 * 1024))?;
        Ok(Self {
            root,
            effort,
            _temp: temp,
        })
    }

    fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    fn config(&self, level: LevelChoice) -> HostConfig {
        HostConfig {
            level,
            ..HostConfig::new(self.root.join("scratch"))
        }
    }

    async fn host(&self, booted: &Booted, level: LevelChoice) -> Result<WorkerHost> {
        let host = booted.host(self.config(level));
        host.prove().await.context("prove the sandbox")?;
        Ok(host)
    }
}

/// Lines of source-like text.
fn text(bytes: usize) -> String {
    "    let value = compute(input, 7) + other::helper(&rest);\n"
        .repeat(bytes / 50)
        .chars()
        .take(bytes)
        .collect()
}

pub(crate) fn run(booted: &Booted, effort: Effort) -> Result<()> {
    let place = Place::new(effort)?;
    let mut table = Table::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        calls::measure(booted, &place, &mut table).await?;
        programs::measure(booted, &place, &mut table).await
    })?;
    grep::measure(&place, &mut table)?;
    table.print();
    Ok(())
}

/// The path of a directory that a figure has for itself.
fn own_dir(place: &Place, name: &str) -> Result<PathBuf> {
    let dir = place.root.join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
