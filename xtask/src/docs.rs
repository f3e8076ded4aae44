//! Checks of `docs/`: what they quote and point to exists.
//!
//! `troubleshooting.md` has a heading for each message, in backticks; `...` stands for what differs from case to
//! case. Each part between must stand in the source, so a message that was changed is found here and not by the
//! person who looks for it.
//!
//! Invariant: a check writes nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{shell, tidy};

/// A part of a message that is shorter says nothing.
const MIN_PART: usize = 4;

pub(crate) fn check(problems: &mut Vec<String>) -> Result<()> {
    check_messages(problems)?;
    check_links(problems)
}

/// Writes what is generated from the code. A test of `otto` fails while it is stale.
pub(crate) fn write() -> Result<()> {
    let page = shell::cargo_output(&[
        "run",
        "--quiet",
        "--package",
        "otto",
        "--example",
        "configuration-reference",
    ])?;
    let path = shell::root().join("docs/configuration-reference.md");
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

fn check_messages(problems: &mut Vec<String>) -> Result<()> {
    let page = read(&shell::root().join("docs/troubleshooting.md"))?;
    let mut source = String::new();
    for file in tidy::source_files()? {
        if !file.components().any(|part| part.as_os_str() == "tests") {
            source.push_str(&read(&file)?);
        }
    }
    let source = plain(&source);
    let mut messages = 0;
    for message in page
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
    {
        messages += 1;
        for part in message
            .split("...")
            .map(str::trim)
            .filter(|part| part.len() >= MIN_PART)
        {
            if !source.contains(&plain(part)) {
                problems.push(format!(
                    "docs/troubleshooting.md: `{message}`: no source says `{part}` any more"
                ));
            }
        }
    }
    if messages == 0 {
        problems.push("docs/troubleshooting.md: quotes no message".to_owned());
    }
    Ok(())
}

/// Links between pages, and from pages to files, lead somewhere.
fn check_links(problems: &mut Vec<String>) -> Result<()> {
    let root = shell::root();
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    for entry in fs::read_dir(root.join("docs")).context("list docs")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    for page in pages {
        let text = read(&page)?;
        let folder = page.parent().unwrap_or(&root);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            let is_elsewhere = file.is_empty() || file.contains("://") || file.contains(' ');
            if !is_elsewhere && !folder.join(file).exists() {
                let shown = page.strip_prefix(&root).unwrap_or(&page).display();
                problems.push(format!("{shown}: the link to `{target}` leads nowhere"));
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Without what differs between a literal in the source and the text it makes: line continuations, escapes and
/// runs of blanks.
fn plain(text: &str) -> String {
    let text = text.replace("\\\n", " ").replace("\\\"", "\"");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
