//! What comes nearest to a text that is not in a file, and how it differs.
//!
//! Compares line by line with white space folded: nearly every miss is an indentation, a tab, a changed line
//! or a text remembered from before the last edit.

use otto_sandbox::{ToolFailure, WorkerCtx};

use super::cut_line;

// BOUND: line comparisons of one explanation; beyond it the search for a near place stops.
const MAX_COMPARISONS: usize = 4_000_000;

// BOUND: lines of `old` that are compared.
const MAX_OLD_LINES: usize = 400;

/// `; the nearest place is ...` or what to do if nothing is near.
pub(super) fn explain(ctx: &WorkerCtx, text: &str, old: &str) -> Result<String, ToolFailure> {
    let wanted: Vec<&str> = old.trim_matches('\n').lines().take(MAX_OLD_LINES).collect();
    let folded_wanted: Vec<String> = wanted.iter().map(|line| fold(line)).collect();
    let lines: Vec<&str> = text.lines().collect();
    let folded: Vec<String> = lines.iter().map(|line| fold(line)).collect();
    let Some((start, alike)) = best(ctx, &folded, &folded_wanted)? else {
        return Ok("; nothing in it comes near, so read it again".to_owned());
    };
    let end = start + wanted.len();
    let place = if wanted.len() == 1 {
        format!("line {}", start + 1)
    } else {
        format!("lines {}-{end}", start + 1)
    };
    let whole = alike == wanted.len();
    for (offset, line) in wanted.iter().enumerate() {
        let Some(found) = lines.get(start + offset) else {
            break;
        };
        if found == line || is_partial(offset, wanted.len()) && found.contains(line) {
            continue;
        }
        let what = if whole {
            "differs only in white space or case"
        } else {
            "comes nearest"
        };
        return Ok(format!(
            "; {place} {what}, and the first difference is in line {}:\n  file: {}\n  old:  {}",
            start + offset + 1,
            visible(found),
            visible(line),
        ));
    }
    Ok(format!(
        "; {place} comes nearest, and the difference is in the line breaks at its ends"
    ))
}

/// The first and the last line of a piece may be parts of lines.
const fn is_partial(offset: usize, lines: usize) -> bool {
    offset == 0 || offset + 1 == lines
}

/// The start of the window with the most lines alike, if at least half of them are.
fn best(
    ctx: &WorkerCtx,
    lines: &[String],
    wanted: &[String],
) -> Result<Option<(usize, usize)>, ToolFailure> {
    let mut best: Option<(usize, usize)> = None;
    let mut compared = 0;
    let last_start = lines.len().saturating_sub(wanted.len());
    for start in 0..=last_start {
        if start % 1024 == 0 {
            ctx.check()?;
        }
        compared += wanted.len();
        if compared > MAX_COMPARISONS {
            break;
        }
        let alike = wanted
            .iter()
            .zip(&lines[start..])
            .enumerate()
            .filter(|(offset, (wanted_line, line))| {
                wanted_line == line
                    || is_partial(*offset, wanted.len())
                        && !wanted_line.is_empty()
                        && line.contains(wanted_line.as_str())
            })
            .count();
        if alike > 0 && best.is_none_or(|(_, most)| alike > most) {
            best = Some((start, alike));
        }
    }
    Ok(best.filter(|(_, alike)| alike * 2 >= wanted.len()))
}

/// A line with runs of white space as one space and none at its ends, in lower case.
fn fold(line: &str) -> String {
    line.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

/// A line with its tabs and the spaces at its ends visible.
fn visible(line: &str) -> String {
    let shown = cut_line(line);
    format!("`{shown}`")
}
