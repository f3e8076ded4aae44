//! "Did you mean": names near a missing one.
//!
//! It looks only into the deepest directory of the path that exists, and only at a bounded number of names.

use otto_sandbox::dir::{EntryKind, ScanBuffer};
use otto_sandbox::{Place, WorkerCtx};

use super::spelled;
use crate::text::quote;

// BOUND: names looked at; a directory with more gets suggestions from its first ones.
const MAX_NAMES: usize = 20_000;

// BOUND: names offered.
const MAX_OFFERED: usize = 3;

// BOUND: longer names are not compared letter by letter.
const MAX_COMPARED_CHARS: usize = 128;

/// `; did you mean ...?` or what the deepest existing directory is, or nothing.
pub(super) fn near(place: &Place<'_>) -> String {
    let mut known = String::new();
    for (i, component) in place.path.split('/').enumerate() {
        if component.is_empty() || component == "." {
            continue;
        }
        if component == ".." {
            return String::new();
        }
        let next = if known.is_empty() {
            component.to_owned()
        } else {
            format!("{known}/{component}")
        };
        if place.dir.open_dir(&next).is_err() {
            let is_file = place.dir.open_file(&next).is_ok();
            if is_file {
                return format!("; {} is a file", quote(&spelled(place, &next)));
            }
            let last = place
                .path
                .split('/')
                .skip(i + 1)
                .all(|rest| rest.is_empty() || rest == ".");
            return offer(place, &known, component, last);
        }
        known = next;
    }
    String::new()
}

fn offer(place: &Place<'_>, within: &str, missing: &str, last: bool) -> String {
    let mut near: Vec<(usize, String)> = Vec::new();
    let mut seen = 0;
    let scanned = place
        .dir
        .open_dir(if within.is_empty() { "." } else { within })
        .and_then(|dir| {
            dir.scan(&mut ScanBuffer::new(), |entry| {
                seen += 1;
                let wanted =
                    last || entry.kind == EntryKind::Directory || entry.kind == EntryKind::Link;
                if let (Ok(name), true) = (entry.name.to_str(), wanted)
                    && let Some(distance) = distance(missing, name)
                {
                    near.push((distance, name.to_owned()));
                }
                seen < MAX_NAMES
            })
        });
    let here = if within.is_empty() {
        "the directory".to_owned()
    } else {
        quote(&spelled(place, within))
    };
    if scanned.is_err() {
        return String::new();
    }
    if near.is_empty() {
        return format!("; {here} has nothing of that name (use fs.list to see what it has)");
    }
    near.sort();
    near.truncate(MAX_OFFERED);
    let names: Vec<String> = near
        .iter()
        .map(|(_, name)| {
            if within.is_empty() {
                name.clone()
            } else {
                format!("{within}/{name}")
            }
        })
        .map(|path| quote(&spelled(place, &path)))
        .collect();
    format!("; did you mean {}?", names.join(" or "))
}

/// The names of the read-only roots.
pub(super) fn roots(ctx: &WorkerCtx) -> String {
    if ctx.roots.is_empty() {
        return "; a file whose name starts with `@` is written `./@name`".to_owned();
    }
    let names: Vec<String> = ctx
        .roots
        .iter()
        .take(20)
        .map(|(name, _)| format!("`@{name}`"))
        .collect();
    format!("; the read-only roots are {}", names.join(", "))
}

/// How far apart two names are, or `None` when they are too different to be a slip.
fn distance(wanted: &str, found: &str) -> Option<usize> {
    if wanted.eq_ignore_ascii_case(found) {
        return Some(0);
    }
    let wanted_stem = wanted.rsplit_once('.').map_or(wanted, |(stem, _)| stem);
    let found_stem = found.rsplit_once('.').map_or(found, |(stem, _)| stem);
    if !wanted_stem.is_empty() && wanted_stem.eq_ignore_ascii_case(found_stem) {
        return Some(1);
    }
    let a: Vec<char> = wanted
        .chars()
        .flat_map(char::to_lowercase)
        .take(MAX_COMPARED_CHARS)
        .collect();
    let b: Vec<char> = found
        .chars()
        .flat_map(char::to_lowercase)
        .take(MAX_COMPARED_CHARS)
        .collect();
    let allowed = (a.len().max(b.len()) / 3).clamp(1, 4);
    if a.len().abs_diff(b.len()) > allowed {
        return None;
    }
    let distance = edits(&a, &b);
    (distance <= allowed).then_some(distance + 1)
}

/// Insertions, deletions, replacements and swaps of neighbors (optimal string alignment).
fn edits(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_names_are_not() {
        for (wanted, found) in [
            ("mian.rs", "main.rs"),
            ("README", "readme.md"),
            ("Cargo.tml", "Cargo.toml"),
            ("a.js", "a.ts"),
        ] {
            assert!(distance(wanted, found).is_some(), "{wanted} {found}");
        }
        for (wanted, found) in [
            ("main.rs", "Cargo.toml"),
            ("a", "bcdef"),
            ("lib.rs", "tests"),
        ] {
            assert!(distance(wanted, found).is_none(), "{wanted} {found}");
        }
    }
}
