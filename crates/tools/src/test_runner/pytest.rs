//! Reads what `pytest -q --tb=short -rfE` writes.

use super::output::{Failure, Found, Totals, place};

pub(super) fn read(text: &str) -> Found {
    let mut found = Found::default();
    let mut inside = false;
    let mut current: Option<Failure> = None;
    for line in text.lines() {
        if let Some(title) = between(line, '=') {
            if let Some(done) = current.take() {
                found.push(done);
            }
            inside = matches!(title, "ERRORS" | "FAILURES");
        } else if inside && let Some(title) = between(line, '_') {
            if let Some(done) = current.take() {
                found.push(done);
            }
            let title = title.strip_prefix("ERROR ").unwrap_or(title);
            current = Some(Failure::named(title));
        } else if let Some(failure) = &mut current {
            body(line, failure);
        } else if let Some(id) = line
            .strip_prefix("FAILED ")
            .or_else(|| line.strip_prefix("ERROR "))
        {
            name(&mut found, id);
        }
        found.totals = totals(line).or(found.totals);
    }
    if let Some(done) = current {
        found.push(done);
    }
    found
}

/// The title of a line such as `=== FAILURES ===`.
fn between(line: &str, mark: char) -> Option<&str> {
    let title = line.trim_matches(mark);
    let marks = line.len() - title.len();
    (marks >= 2 && title.starts_with(' ') && title.ends_with(' ')).then(|| title.trim())
}

fn body(line: &str, failure: &mut Failure) {
    if let Some(message) = line.strip_prefix("E   ") {
        failure.add_line(message);
    } else if !line.starts_with(' ')
        && let Some((at, _)) = line.split_once(": in ")
    {
        // The last one is where it went wrong.
        failure.set_place(place(at));
    }
}

/// Gives a failure its whole name: `a.py::TestGroup::test_x - reason` belongs to `TestGroup.test_x`.
fn name(found: &mut Found, id: &str) {
    let id = id.split_once(" - ").map_or(id, |(id, _)| id);
    let Some((_, test)) = id.split_once("::") else {
        return;
    };
    let title = test.replace("::", ".");
    let is_it = |failure: &&mut Failure| {
        failure.name == title
            || failure
                .name
                .strip_prefix("at ")
                .is_some_and(|rest| rest.ends_with(&format!(" of {title}")))
    };
    if let Some(failure) = found.failures.iter_mut().find(is_it) {
        failure.name = id.to_owned();
    }
}

/// `3 failed, 2 passed, 1 skipped, 1 xfailed, 1 error in 0.20s`
pub(super) fn totals(line: &str) -> Option<Totals> {
    let line = line.trim_matches(['=', ' ']);
    let (numbers, time) = line.rsplit_once(" in ")?;
    let seconds = time.split_once(' ').map_or(time, |(seconds, _)| seconds);
    seconds.strip_suffix('s')?.parse::<f64>().ok()?;
    let mut totals = Totals::default();
    for part in numbers.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number = match (number, word) {
            ("no", "tests ran") => 0,
            _ => number.parse::<u64>().ok()?,
        };
        match word {
            "passed" | "xpassed" => totals.passed += number,
            "failed" | "error" | "errors" => totals.failed += number,
            "skipped" | "xfailed" => totals.skipped += number,
            _ => {}
        }
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_run_is_read() {
        let found = read(include_str!("../../tests/samples/pytest.txt"));
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 2,
                failed: 4,
                skipped: 2
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
        let file = Some("tests/test_sample.py");
        assert_eq!(
            read,
            [
                (
                    "tests/test_sample.py::test_error",
                    file,
                    Some(15),
                    "RuntimeError: fixture broke"
                ),
                (
                    "tests/test_sample.py::test_breaks",
                    file,
                    Some(6),
                    "AssertionError: sums differ\nassert 3 == 4\n +  where 3 = add(1, 2)"
                ),
                (
                    "tests/test_sample.py::TestGroup::test_raises",
                    file,
                    Some(9),
                    "ValueError: bad value\nsecond line"
                ),
                (
                    "tests/test_sample.py::test_param[2]",
                    file,
                    Some(18),
                    "assert 2 == 1"
                ),
            ]
        );
    }

    #[test]
    fn summaries() {
        assert_eq!(
            totals("===== 3 passed in 0.12s ====="),
            Some(Totals {
                passed: 3,
                failed: 0,
                skipped: 0
            })
        );
        assert_eq!(
            totals("1 passed, 2 warnings in 61.20s (0:01:01)"),
            Some(Totals {
                passed: 1,
                failed: 0,
                skipped: 0
            })
        );
        assert_eq!(totals("no tests ran in 0.01s"), Some(Totals::default()));
        for line in ["", "what is in 3s", "in 0.1s", "x passed in 1.0s"] {
            assert_eq!(totals(line), None, "{line}");
        }
    }
}
