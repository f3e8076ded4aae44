//! `cargo xtask tidy`: rules that a reviewer should not have to remember.
//!
//! Layering (which crate may depend on which), purity of `core`, headers, words that do not belong. Text is read
//! line by line; nothing is parsed beyond that, so a rule that needs more is a lint's job.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{docs, examples, shell};

/// Which of our crates each crate may name as a normal dependency. A line here is a design decision.
const LAYERS: &[(&str, &[&str])] = &[
    ("otto-core", &[]),
    ("otto-sandbox", &["otto-core"]),
    ("otto-tools", &["otto-core", "otto-sandbox"]),
    ("otto-anthropic", &["otto-core"]),
    ("otto-scripted", &["otto-core"]),
    ("otto-store-embedded", &["otto-core"]),
    ("otto-store-memory", &["otto-core"]),
    ("otto-engine", &["otto-core"]),
    (
        "otto",
        &[
            "otto-core",
            "otto-engine",
            "otto-sandbox",
            "otto-tools",
            "otto-anthropic",
            "otto-scripted",
            "otto-store-embedded",
            "otto-store-memory",
        ],
    ),
    ("otto-server", &["otto"]),
    ("otto-cli", &["otto", "otto-server", "otto-scripted"]),
    (
        "otto-sim",
        &[
            "otto-core",
            "otto-engine",
            "otto-store-memory",
            "otto-store-embedded",
        ],
    ),
    (
        "otto-bench",
        &[
            "otto",
            "otto-core",
            "otto-scripted",
            "otto-server",
            "otto-store-embedded",
            "otto-store-memory",
            "otto-sandbox",
            "otto-tools",
            "otto-engine",
            "otto-anthropic",
        ],
    ),
    (
        "otto-crash",
        &[
            "otto",
            "otto-sandbox",
            "otto-scripted",
            "otto-sim",
            "otto-store-embedded",
            "otto-tools",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that `core` may use: pure, small, well known.
const CORE_DEPENDENCIES: &[&str] = &[
    "aho-corasick",
    "futures-core",
    "regex",
    "regex-automata",
    "regex-syntax",
    "serde",
    "serde_json",
    "thiserror",
    "unicode-normalization",
    "uuid",
];

/// BOUND: a file longer than this knows too much.
const MAX_LINES: usize = 1_000;

pub(crate) fn run() -> Result<()> {
    let mut problems = Vec::new();
    check_layers(&mut problems)?;
    for file in source_files()? {
        check_file(&file, &mut problems)?;
    }
    examples::check(&mut problems)?;
    docs::check(&mut problems)?;
    if problems.is_empty() {
        println!("tidy: clean");
        return Ok(());
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    bail!("{} tidy problem(s)", problems.len());
}

fn check_layers(problems: &mut Vec<String>) -> Result<()> {
    let metadata = shell::cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_slice(&metadata).context("read cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let normal = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str());
        let allowed = LAYERS
            .iter()
            .find(|(layer, _)| *layer == name)
            .map(|(_, allowed)| *allowed);
        for dependency in normal {
            let is_ours = LAYERS.iter().any(|(layer, _)| *layer == dependency);
            if is_ours
                && let Some(allowed) = allowed
                && !allowed.contains(&dependency)
            {
                problems.push(format!(
                    "{name} must not depend on {dependency}: dependencies point down"
                ));
            }
            if name == "otto-core" && !CORE_DEPENDENCIES.contains(&dependency) {
                problems.push(format!(
                    "otto-core must not depend on {dependency}: core is pure"
                ));
            }
        }
        let text = fs::read_to_string(manifest).with_context(|| format!("read {manifest}"))?;
        if !text.contains("[lints") {
            problems.push(format!("{manifest}: opts into no lints"));
        }
    }
    Ok(())
}

pub(crate) fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for top in ["crates", "xtask", "examples", "bench"] {
        collect(&shell::root().join(top), &mut files)?;
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(file: &Path, problems: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let shown = file
        .strip_prefix(shell::root())
        .unwrap_or(file)
        .display()
        .to_string();
    let is_rules_file = shown == "xtask/src/tidy.rs";
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    if !first.starts_with("//!") && !first.starts_with("#!") {
        problems.push(format!("{shown}: begins without a `//!` header"));
    }
    let lines = text.lines().count();
    // A table of test cases is one list; it may be long.
    if lines > MAX_LINES && !shown.contains("/tests/") {
        problems.push(format!("{shown}: {lines} lines; split what it knows"));
    }
    let in_sandbox = shown.starts_with("crates/sandbox/");
    let checkout = shell::root().display().to_string();
    for (number, line) in text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
    {
        if is_rules_file {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        if !in_sandbox && code.contains("unsafe ") && code.contains('{') && !code.contains('"') {
            problems.push(format!(
                "{shown}:{number}: unsafe code outside crates/sandbox"
            ));
        }
        if (line.contains("TODO") || line.contains("FIXME"))
            && line.trim_start().starts_with("//")
            && !line.contains('#')
        {
            problems.push(format!("{shown}:{number}: a to-do without an issue number"));
        }
        if line.contains(&checkout) {
            problems.push(format!("{shown}:{number}: a path of somebody's machine"));
        }
    }
    Ok(())
}
