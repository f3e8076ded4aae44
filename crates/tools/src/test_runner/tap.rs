//! Reads TAP (versions 13 and 14), with the nested tests and the YAML details that node writes.
//!
//! Only the innermost tests count: a group that fails because a test in it fails is not a second failure.

use super::output::{Failure, Found, Totals, place};

/// A test point and the details below it.
struct Point {
    failure: Failure,
    indent: usize,
    failed: bool,
    skipped: bool,
    /// Whether it is a group of tests that were read before it.
    is_group: bool,
}

pub(super) fn read(text: &str) -> Found {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line);
    }
    reader.close();
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Found,
    point: Option<Point>,
    /// Indent of the point before the current one, to tell groups.
    before: usize,
    /// The key of the details that is being read, and the indent of the details.
    details: Option<Details>,
}

struct Details {
    indent: usize,
    /// Whether the lines of a block belong to the message.
    in_message: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        if self.details.is_some() {
            self.detail(content, indent);
            return;
        }
        if content == "---"
            && self
                .point
                .as_ref()
                .is_some_and(|point| indent > point.indent)
        {
            self.details = Some(Details {
                indent,
                in_message: false,
            });
            return;
        }
        if let Some((failed, rest)) = result(content) {
            self.close();
            let (name, directive) = split_directive(rest);
            let skipped = directive.is_some();
            self.point = Some(Point {
                failure: Failure::named(name),
                indent,
                failed: failed && !skipped,
                skipped,
                is_group: indent < self.before,
            });
            self.before = indent;
        } else if let Some(reason) = content.strip_prefix("Bail out!") {
            self.close();
            let mut failure = Failure::named("Bail out!");
            failure.add_line(reason.trim());
            self.found.totals.get_or_insert_default().failed += 1;
            self.found.push(failure);
        } else if content.starts_with("1..0") {
            self.found.totals.get_or_insert_default();
        }
    }

    fn detail(&mut self, content: &str, indent: usize) {
        let (Some(details), Some(point)) = (&mut self.details, &mut self.point) else {
            return;
        };
        if content == "..." && indent <= details.indent {
            self.details = None;
            return;
        }
        if indent > details.indent {
            if details.in_message {
                point.failure.add_line(content);
            }
            return;
        }
        details.in_message = false;
        let Some((key, value)) = content.split_once(':') else {
            return;
        };
        let value = value.trim();
        let plain = value.trim_matches(['\'', '"']);
        match key {
            "error" | "message" if point.failure.message.is_empty() => {
                details.in_message = value.starts_with(['|', '>']);
                if !details.in_message {
                    point.failure.add_line(plain);
                }
            }
            "location" | "at" => {
                let at = plain
                    .rsplit_once('(')
                    .map_or(plain, |(_, at)| at.trim_end_matches(')'));
                point
                    .failure
                    .set_place(place(at.strip_prefix("file://").unwrap_or(at)));
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        self.details = None;
        let Some(point) = self.point.take() else {
            return;
        };
        if point.is_group {
            return;
        }
        let totals: &mut Totals = self.found.totals.get_or_insert_default();
        if point.skipped {
            totals.skipped += 1;
        } else if point.failed {
            totals.failed += 1;
            let mut failure = point.failure;
            failure.message = failure.message.trim_end().to_owned();
            self.found.push(failure);
        } else {
            totals.passed += 1;
        }
    }
}

/// Whether it failed, and the description.
fn result(content: &str) -> Option<(bool, &str)> {
    let (failed, rest) = match content.strip_prefix("not ok") {
        Some(rest) => (true, rest),
        None => (false, content.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest
        .trim_start()
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    Some((failed, rest.strip_prefix("- ").unwrap_or(rest)))
}

/// `name # SKIP reason` and `name # TODO reason`.
fn split_directive(text: &str) -> (&str, Option<&str>) {
    let Some((name, directive)) = text.rsplit_once('#') else {
        return (text.trim_end(), None);
    };
    let word = directive.trim_start().get(..4).unwrap_or_default();
    if word.eq_ignore_ascii_case("skip") || word.eq_ignore_ascii_case("todo") {
        (name.trim_end(), Some(directive))
    } else {
        (text.trim_end(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_run_is_read() {
        let found = read(include_str!("../../tests/samples/node_tap.txt"));
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 2,
                failed: 2,
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
        let file = Some("/project/test/sample.test.js");
        assert_eq!(
            read,
            [
                ("breaks", file, Some(4), "sums differ\n\n3 !== 4"),
                ("inner bad", file, Some(7), "line one\nline two")
            ]
        );
    }

    #[test]
    fn plain_tap_is_read() {
        let found = read(
            "1..4\nok\nnot ok 2 the second\n  ---\n  message: 'no'\n  at: f (a.js:3:4)\n  ...\nok 3 # skip\nnot ok 4 - x # TODO later\nBail out! disk\n",
        );
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 1,
                failed: 2,
                skipped: 2
            })
        );
        assert_eq!(
            (found.failures[0].file.as_deref(), found.failures[0].line),
            (Some("a.js"), Some(3))
        );
        assert_eq!(read("okay\nnot okay\n"), Found::default());
    }
}
