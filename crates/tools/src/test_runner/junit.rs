//! Reads JUnit XML, the report that most test tools can write.
//!
//! Entities that a document defines itself are never expanded, and nothing is fetched.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::output::{Failure, Found, Totals};

// BOUND: elements inside each other.
const MAX_DEPTH: usize = 64;

/// A test case that is being read.
struct Case {
    failure: Failure,
    failed: bool,
    skipped: bool,
    /// Whether text belongs to the failure.
    in_failure: bool,
    text: String,
}

pub(super) fn read(text: &str) -> Found {
    let mut found = Found::default();
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut case: Option<Case> = None;
    let mut depth: usize = 0;
    // A report that is cut short still says something.
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    break;
                }
                open(&element, &mut found, &mut case);
            }
            Event::Empty(element) => {
                open(&element, &mut found, &mut case);
                shut(element.name().as_ref(), &mut found, &mut case);
            }
            Event::End(element) => {
                depth = depth.saturating_sub(1);
                shut(element.name().as_ref(), &mut found, &mut case);
            }
            Event::Text(said) => add(&mut case, &said),
            Event::CData(said) => add(&mut case, &said),
            Event::GeneralRef(entity) => {
                let c = match entity.resolve_char_ref() {
                    Ok(Some(c)) => Some(c),
                    _ => predefined(&entity),
                };
                if let Some(c) = c {
                    add(&mut case, c.encode_utf8(&mut [0; 4]));
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    found
}

fn predefined(name: &str) -> Option<char> {
    Some(match name.trim_matches(['&', ';']) {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

fn add(case: &mut Option<Case>, text: &str) {
    // BOUND: a message is cut later; here it must not grow without end.
    const MAX_TEXT_BYTES: usize = 64 * 1024;
    if let Some(case) = case
        .as_mut()
        .filter(|case| case.in_failure && case.text.len() < MAX_TEXT_BYTES)
    {
        case.text.push_str(text);
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok().flatten()?;
    attribute
        .normalized_value(XmlVersion::Implicit1_0)
        .ok()
        .map(|value| value.into_owned())
}

fn open(element: &BytesStart<'_>, found: &mut Found, case: &mut Option<Case>) {
    match element.name().as_ref() {
        "testsuite" | "testsuites" => {
            found.totals.get_or_insert_default();
        }
        "testcase" => {
            let name = attribute(element, "name").unwrap_or_default();
            let class = attribute(element, "classname").filter(|class| !class.is_empty());
            let mut failure = Failure::named(
                &class.map_or_else(|| name.clone(), |class| format!("{class}.{name}")),
            );
            failure.file = attribute(element, "file");
            failure.line = attribute(element, "line").and_then(|line| line.parse().ok());
            *case = Some(Case {
                failure,
                failed: false,
                skipped: false,
                in_failure: false,
                text: String::new(),
            });
        }
        "failure" | "error" => {
            if let Some(case) = case {
                case.failed = true;
                case.in_failure = true;
                if let Some(message) =
                    attribute(element, "message").filter(|message| !message.is_empty())
                {
                    case.failure.add_line(&message);
                }
            }
        }
        "skipped" => {
            if let Some(case) = case {
                case.skipped = true;
            }
        }
        _ => {}
    }
}

fn shut(name: &str, found: &mut Found, case: &mut Option<Case>) {
    match name {
        "failure" | "error" => {
            if let Some(case) = case {
                case.in_failure = false;
            }
        }
        "testcase" => {
            let Some(mut done) = case.take() else { return };
            let totals: &mut Totals = found.totals.get_or_insert_default();
            if done.failed {
                totals.failed += 1;
                if done.failure.message.is_empty() {
                    done.failure.add_line(done.text.trim());
                }
                if done.failure.line.is_none()
                    && let Some((file, line)) = last_place(&done.text)
                {
                    done.failure.file = Some(file.to_owned());
                    done.failure.line = Some(line);
                }
                found.push(done.failure);
            } else if done.skipped {
                totals.skipped += 1;
            } else {
                totals.passed += 1;
            }
        }
        _ => {}
    }
}

/// The last `file.ext:line` in a text.
fn last_place(text: &str) -> Option<(&str, u64)> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '"' | '\''))
        .rev()
        .filter_map(|word| super::output::place(word.trim_end_matches(':')))
        .find(|(file, _)| file.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_run_is_read() {
        let found = read(include_str!("../../tests/samples/pytest_junit.xml"));
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
            .map(|f| (f.name.as_str(), f.file.as_deref(), f.line))
            .collect();
        let file = Some("tests/test_sample.py");
        assert_eq!(
            read,
            [
                ("tests.test_sample.test_breaks", file, Some(6)),
                ("tests.test_sample.TestGroup.test_raises", file, Some(9)),
                ("tests.test_sample.test_error", file, Some(15)),
                ("tests.test_sample.test_param[2]", file, Some(18)),
            ]
        );
        assert_eq!(
            found.failures[0].message,
            "AssertionError: sums differ\nassert 3 == 4\n +  where 3 = add(1, 2)"
        );
    }

    #[test]
    fn hostile_reports_end() {
        let laughs = r#"<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><testsuite><testcase name="t"><failure>&b;&lt;x&#33;</failure></testcase></testsuite>"#;
        let found = read(laughs);
        assert_eq!(found.failures[0].message, "<x!");
        read(&"<testsuite>".repeat(100_000));
        let cut = read(
            "<testsuite><testcase name=\"a\"/><testcase name=\"b\"><failure message=\"no\"/></testcase><testca",
        );
        assert_eq!(
            cut.totals,
            Some(Totals {
                passed: 1,
                failed: 1,
                skipped: 0
            })
        );
        for text in ["", "<", "<a", "</a>", "<testcase/>", "\u{0}"] {
            read(text);
        }
    }
}
