//! Reads what `cargo test` writes: the text of Rust's test harness, once per test program.

use std::collections::BTreeMap;

use super::output::{Failure, Found, Totals, place};

/// Where in the text of one test program the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    /// After `running 3 tests`: one line per test.
    Results,
    /// After the first `failures:`: what each failed test wrote. Nothing in here is believed but the headings.
    Details,
    /// After the second `failures:`: the names again.
    Names,
}

pub(super) fn read(text: &str) -> Found {
    let mut found = Found::default();
    let mut totals: Option<Totals> = None;
    let mut part = Part::Outside;
    let mut running = Totals::default();
    let mut details: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut failed: Vec<String> = Vec::new();
    for line in text.lines() {
        if part != Part::Details && is_start(line) {
            // A program that crashed has no last line; what it had reported until then counts.
            close(&mut found, &mut totals, running, &mut failed, &mut details);
            totals.get_or_insert_default();
            part = Part::Results;
            running = Totals::default();
            current = None;
            continue;
        }
        match part {
            Part::Outside => {}
            Part::Results | Part::Names => {
                if part == Part::Results {
                    result(line, &mut running, &mut failed);
                }
                if line == "failures:" {
                    part = Part::Details;
                }
                if let Some(said) = summary(line) {
                    close(&mut found, &mut totals, said, &mut failed, &mut details);
                    running = Totals::default();
                    part = Part::Outside;
                }
            }
            Part::Details => {
                if line == "failures:" {
                    part = Part::Names;
                } else if let Some(name) = heading(line) {
                    current = Some(name.to_owned());
                    details.entry(name.to_owned()).or_default();
                } else if let Some(lines) = current.as_ref().and_then(|name| details.get_mut(name))
                {
                    lines.push(line);
                }
            }
        }
    }
    close(&mut found, &mut totals, running, &mut failed, &mut details);
    found.totals = totals;
    found
}

/// Adds one test program to what was found.
fn close(
    found: &mut Found,
    totals: &mut Option<Totals>,
    one: Totals,
    failed: &mut Vec<String>,
    details: &mut BTreeMap<String, Vec<&str>>,
) {
    if let Some(all) = totals {
        all.passed += one.passed;
        all.failed += one.failed;
        all.skipped += one.skipped;
    }
    for name in failed.drain(..) {
        let lines = details.remove(&name).unwrap_or_default();
        found.push(failure(&name, &lines));
    }
    details.clear();
}

fn is_start(line: &str) -> bool {
    let number = line
        .strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn result(line: &str, running: &mut Totals, failed: &mut Vec<String>) {
    let Some((name, word)) = line
        .strip_prefix("test ")
        .and_then(|rest| rest.rsplit_once(" ... "))
    else {
        return;
    };
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    match word {
        "ok" => running.passed += 1,
        "FAILED" => {
            running.failed += 1;
            if failed.len() < super::output::MAX_KEPT_FAILURES {
                failed.push(name.to_owned());
            }
        }
        word if word.starts_with("ignored") => running.skipped += 1,
        _ => {}
    }
}

/// `test result: FAILED. 1 passed; 4 failed; 1 ignored; ...`
fn summary(line: &str) -> Option<Totals> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut totals = Totals::default();
    for part in numbers.split("; ") {
        let Some((number, word)) = part.split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match word {
            "passed" => totals.passed = number,
            "failed" => totals.failed = number,
            "ignored" => totals.skipped = number,
            _ => {}
        }
    }
    Some(totals)
}

fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?
        .strip_suffix(" ----")?
        .rsplit_once(' ')
        .map(|(name, _)| name)
}

/// What a failed test wrote, as place and message. Shared with the reader of nextest.
pub(super) fn failure(name: &str, lines: &[&str]) -> Failure {
    let mut failure = Failure::named(name);
    let panicked = lines
        .iter()
        .rposition(|line| line.starts_with("thread '") && line.contains(" panicked at "));
    if let Some(at) = panicked {
        let said = lines[at]
            .rsplit_once(" panicked at ")
            .map_or("", |(_, rest)| rest);
        failure.set_place(place(said.trim_end_matches(':')));
        for line in &lines[at + 1..] {
            if *line == "stack backtrace:" || line.starts_with("note: run with `RUST_BACKTRACE") {
                break;
            }
            failure.add_line(line);
        }
        return failure;
    }
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        if let Some((_, rest)) = line.rsplit_once(" did not panic as expected at ") {
            failure.set_place(place(rest));
        }
        failure.add_line(line);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_run_is_read() {
        let found = read(include_str!("../../tests/samples/cargo_test.txt"));
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 2,
                failed: 4,
                skipped: 1
            })
        );
        let read: Vec<_> = found
            .failures
            .iter()
            .map(|f| (f.name.as_str(), f.file.as_deref(), f.line, f.message.trim()))
            .collect();
        let lib = Some("src/lib.rs");
        assert_eq!(
            read,
            [
                (
                    "tests::breaks",
                    lib,
                    Some(9),
                    "assertion `left == right` failed: sums differ\n  left: 3\n right: 4"
                ),
                (
                    "tests::prints_and_fails",
                    lib,
                    Some(11),
                    "line one\nline two"
                ),
                (
                    "tests::should_have_panicked",
                    lib,
                    Some(13),
                    "note: test did not panic as expected at src/lib.rs:13:32"
                ),
                ("tests::returns_err", None, None, "Error: \"went wrong\""),
            ]
        );
    }

    #[test]
    fn a_program_that_crashes_keeps_what_it_reported() {
        let found = read("running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ...");
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 1,
                failed: 1,
                skipped: 0
            })
        );
        assert_eq!(found.failures, [Failure::named("b")]);
        assert_eq!(read("error: could not compile"), Found::default());
    }
}
