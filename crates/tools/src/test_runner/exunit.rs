//! Reads what `mix test` writes.

use super::output::{Failure, Found, Totals, place};

/// Where in one failure the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Place,
    Message,
    Stack,
}

pub(super) fn read(text: &str) -> Found {
    let mut found = Found::default();
    let mut current: Option<(Failure, Part)> = None;
    for line in text.lines() {
        if let Some(name) = heading(line) {
            found
                .failures
                .extend(current.take().map(|(failure, _)| failure));
            if found.failures.len() >= super::output::MAX_KEPT_FAILURES {
                break;
            }
            current = Some((Failure::named(name), Part::Place));
            continue;
        }
        if let Some(said) = totals(line) {
            found.totals = Some(said);
        }
        let Some((failure, part)) = &mut current else {
            continue;
        };
        // Everything of a failure is indented; what is not ends it.
        if !line.is_empty() && !line.starts_with("     ") {
            found
                .failures
                .extend(current.take().map(|(failure, _)| failure));
            continue;
        }
        let inner = line.trim_start();
        match part {
            Part::Place => {
                failure.set_place(place(inner));
                *part = Part::Message;
            }
            Part::Message if inner == "stacktrace:" => *part = Part::Stack,
            Part::Message => failure.add_line(line.strip_prefix("     ").unwrap_or(line)),
            Part::Stack => {
                // The line in the test itself is more exact than the line where the test begins.
                if let Some((at, "(test)")) = inner.rsplit_once(": ") {
                    failure.set_place(place(at));
                }
            }
        }
    }
    found.failures.extend(current.map(|(failure, _)| failure));
    for failure in &mut found.failures {
        failure.message = failure.message.trim_end().to_owned();
    }
    found
}

/// `  1) test adds (SampleTest)`
fn heading(line: &str) -> Option<&str> {
    let (number, name) = line.strip_prefix("  ")?.trim_start().split_once(") ")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && name.ends_with(')')).then_some(name)
}

/// `1 doctest, 4 tests, 2 failures, 1 skipped`
pub(super) fn totals(line: &str) -> Option<Totals> {
    let (mut all, mut failed, mut skipped) = (None, None, 0);
    for part in line.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number = number.parse::<u64>().ok()?;
        match word {
            "test" | "tests" | "doctest" | "doctests" | "property" | "properties" => {
                all = Some(all.unwrap_or(0) + number);
            }
            "failure" | "failures" | "invalid" => failed = Some(failed.unwrap_or(0) + number),
            "skipped" | "excluded" => skipped += number,
            _ => return None,
        }
    }
    let (all, failed) = (all?, failed?);
    Some(Totals {
        passed: all.saturating_sub(failed + skipped),
        failed,
        skipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_run_is_read() {
        let found = read(include_str!("../../tests/samples/mix_test.txt"));
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 1,
                failed: 2,
                skipped: 1
            })
        );
        let read: Vec<_> = found
            .failures
            .iter()
            .map(|f| {
                (
                    f.name.as_str(),
                    f.file.as_deref(),
                    f.line,
                    f.message.as_str(),
                )
            })
            .collect();
        let file = Some("test/sample_test.exs");
        assert_eq!(
            read,
            [
                (
                    "test breaks (SampleTest)",
                    file,
                    Some(7),
                    "Assertion with == failed\ncode:  assert Sample.add(1, 2) == 4\nleft:  3\nright: 4"
                ),
                (
                    "test group raises (SampleTest)",
                    file,
                    Some(11),
                    "** (RuntimeError) line one\nline two\ncode: raise \"line one\\nline two\""
                ),
            ]
        );
    }

    #[test]
    fn summaries() {
        assert_eq!(
            totals("1 doctest, 3 tests, 1 failure, 1 excluded"),
            Some(Totals {
                passed: 2,
                failed: 1,
                skipped: 1
            })
        );
        for line in [
            "",
            "4 tests",
            "4 tests, many failures",
            "1 apple, 2 failures",
        ] {
            assert_eq!(totals(line), None, "{line}");
        }
    }
}
