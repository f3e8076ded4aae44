//! Validation against JSON Schema (2020-12 unless the schema names another draft).
//!
//! The library does the validation; this module keeps it bounded. Nothing is fetched: a reference leads to a
//! place in the same schema. Before anything is compiled the work is counted on paper (`work.rs`), because a few
//! hundred bytes of `allOf` and `$ref` can ask for more evaluations than there are atoms. Patterns run on the
//! linear engine.
//!
//! Invariant: no type of the library leaves this module.

mod work;

use super::Node;
use crate::text::{cut, one_line};

// BOUND: memory of one compiled pattern.
const MAX_REGEX_BYTES: usize = 1024 * 1024;

// BOUND: violations reported, and bytes of each.
const MAX_VIOLATIONS: usize = 50;
const MAX_VIOLATION_BYTES: usize = 400;

/// What a validation found.
pub(crate) struct Report {
    /// One line per violation: where in the document, what is wrong, and where the schema says so.
    pub(crate) violations: Vec<String>,
    /// Whether there are more than are listed.
    pub(crate) more: bool,
}

/// Validates `document`, or says why the schema cannot be used.
pub(crate) fn validate(schema: &Node, document: &Node) -> Result<Report, String> {
    work::check(schema, document)?;
    let schema = schema.to_value();
    let patterns = jsonschema::PatternOptions::regex()
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES);
    let validator = jsonschema::options()
        .offline()
        .with_pattern_options(patterns)
        .build(&schema)
        .map_err(|error| {
            format!(
                "the schema is not valid{}: {}",
                at(error.instance_path().as_str()),
                brief(&error)
            )
        })?;
    let document = document.to_value();
    let mut errors = validator.iter_errors(&document);
    let violations: Vec<String> = errors
        .by_ref()
        .take(MAX_VIOLATIONS)
        .map(|error| {
            let place = error.instance_path().as_str();
            let place = if place.is_empty() {
                "the document"
            } else {
                place
            };
            format!(
                "{}: {} (schema: {})",
                one_line(place),
                brief(&error),
                one_line(error.schema_path().as_str())
            )
        })
        .collect();
    Ok(Report {
        more: errors.next().is_some(),
        violations,
    })
}

fn at(place: &str) -> String {
    if place.is_empty() {
        String::new()
    } else {
        format!(" at {}", crate::text::quote(place))
    }
}

fn brief(error: &impl std::fmt::Display) -> String {
    one_line(&cut(error.to_string(), MAX_VIOLATION_BYTES)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::json_text;
    use super::*;

    fn check(schema: &str, document: &str) -> Result<Vec<String>, String> {
        let schema = json_text::parse(schema)
            .map_err(|bad| bad.explain(schema))
            .unwrap();
        let document = json_text::parse(document).unwrap();
        validate(&schema, &document).map(|report| report.violations)
    }

    #[test]
    fn violations_say_where_and_why() {
        let schema = r##"{"$defs":{"port":{"type":"integer","minimum":1,"maximum":65535}},
            "type":"object","required":["name","port"],"additionalProperties":false,
            "properties":{"name":{"type":"string","pattern":"^[a-z]+$"},"port":{"$ref":"#/$defs/port"},
            "tags":{"type":"array","items":{"type":"string"},"uniqueItems":true}}}"##;
        assert_eq!(
            check(schema, r#"{"name":"web","port":80,"tags":["a"]}"#),
            Ok(vec![])
        );
        let found = check(
            schema,
            r#"{"name":"Web","port":0,"tags":["a",1],"extra":1}"#,
        )
        .unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
        for part in [
            "/name: \"Web\" does not match",
            "/port: 0 is less than the minimum of 1",
            "/tags/1: 1 is not of type \"string\"",
            "the document: Additional properties",
        ] {
            assert!(
                found.iter().any(|violation| violation.starts_with(part)),
                "{part}: {found:?}"
            );
        }
        assert!(
            check(schema, "{}")
                .unwrap()
                .iter()
                .any(|violation| violation.contains("\"name\" is a required property"))
        );
    }

    #[test]
    fn keywords_of_the_2020_draft_work() {
        for (schema, good, bad) in [
            (
                r#"{"prefixItems":[{"type":"integer"}],"items":false}"#,
                "[1]",
                "[1,2]",
            ),
            (
                r#"{"properties":{"a":true},"unevaluatedProperties":false}"#,
                r#"{"a":1}"#,
                r#"{"b":1}"#,
            ),
            (
                r#"{"dependentRequired":{"a":["b"]}}"#,
                r#"{"a":1,"b":2}"#,
                r#"{"a":1}"#,
            ),
            (
                r#"{"if":{"type":"string"},"then":{"minLength":2},"else":{"minimum":5}}"#,
                "\"ab\"",
                "4",
            ),
            (
                r##"{"type":"object","properties":{"next":{"$ref":"#"}},"required":["v"]}"##,
                r#"{"v":1,"next":{"v":2}}"#,
                r#"{"v":1,"next":{}}"#,
            ),
            (
                r##"{"$defs":{"x":{"$anchor":"here","type":"null"}},"$ref":"#here"}"##,
                "null",
                "1",
            ),
            (r#"{"const":1.0}"#, "1", "2"),
            ("false", "", "1"),
        ] {
            if !good.is_empty() {
                assert_eq!(check(schema, good), Ok(vec![]), "{schema}");
            }
            assert!(!check(schema, bad).unwrap().is_empty(), "{schema}");
        }
    }

    #[test]
    fn schemas_that_cannot_be_used_are_explained() {
        for (schema, part) in [
            ("1", "an object or a boolean"),
            (r#"{"type":"strng"}"#, "at `/type`"),
            (r#"{"pattern":"(?=x)"}"#, "at `/pattern`"),
            (
                r#"{"pattern":"(a{1000}){1000}"}"#,
                "the schema is not valid",
            ),
            (
                r#"{"$ref":"https://example.com/a.json"}"#,
                "nothing is fetched",
            ),
            (r#"{"$ref":"file:///etc/passwd"}"#, "nothing is fetched"),
            (r#"{"$ref":"other.json"}"#, "nothing is fetched"),
            (r##"{"$ref":"#/nowhere"}"##, "has no place"),
            (r##"{"$ref":"#nowhere"}"##, "has no place"),
            (r#"{"properties":{"a":{"$id":"x"}}}"#, "`$id`"),
        ] {
            let error = check(schema, "1").unwrap_err();
            assert!(error.contains(part), "{schema}: {error}");
        }
    }

    #[test]
    fn schemas_that_multiply_are_refused_before_they_run() {
        let mut defs: Vec<String> = (0..9)
            .map(|i| {
                format!(
                    r##""a{i}":{{"allOf":[{}]}}"##,
                    vec![format!(r##"{{"$ref":"#/$defs/a{}"}}"##, i + 1); 10].join(",")
                )
            })
            .collect();
        defs.push(r#""a9":{"type":"string"}"#.to_owned());
        let bomb = format!(
            r##"{{"$defs":{{{}}},"$ref":"#/$defs/a0"}}"##,
            defs.join(",")
        );
        assert!(check(&bomb, "1").unwrap_err().contains("more than"));
        let chain: Vec<String> = (0..5_000)
            .map(|i| format!(r##""a{i}":{{"$ref":"#/$defs/a{}"}}"##, i + 1))
            .collect();
        let chain = format!(
            r##"{{"$defs":{{{},"a5000":true}},"$ref":"#/$defs/a0"}}"##,
            chain.join(",")
        );
        assert!(check(&chain, "1").unwrap_err().contains("in a row"));
        // Doubling with each level of the document.
        let deep = |levels| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let twice = r##"{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}"##;
        assert_eq!(check(twice, &deep(8)), Ok(vec![]));
        assert!(check(twice, &deep(60)).unwrap_err().contains("more than"));
        // The same without doubling is fine at any depth.
        let once = r##"{"properties":{"a":{"$ref":"#"}},"type":["object","number"]}"##;
        assert_eq!(check(once, &deep(99)), Ok(vec![]));
        // Circles end.
        for circle in [
            r##"{"$ref":"#"}"##,
            r##"{"allOf":[{"$ref":"#"}]}"##,
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##,
        ] {
            assert_eq!(check(circle, "1"), Ok(vec![]), "{circle}");
        }
    }

    #[test]
    fn the_deepest_document_and_the_longest_chain_fit_the_stack() {
        let last = work::MAX_CHAIN - 2;
        let mut defs: Vec<String> = (0..last)
            .map(|i| format!(r##""a{i}":{{"$ref":"#/$defs/a{}"}}"##, i + 1))
            .collect();
        defs.push(format!(
            r##""a{last}":{{"items":{{"$ref":"#/$defs/a0"}}}}"##
        ));
        let schema = format!(
            r##"{{"$defs":{{{}}},"$ref":"#/$defs/a0"}}"##,
            defs.join(",")
        );
        let document = format!("{}1{}", "[".repeat(99), "]".repeat(99));
        // The smallest stack that a call gets: that of a blocking thread.
        let small = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let found = small
            .spawn(move || check(&schema, &document))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(found, Ok(vec![]));
    }

    #[test]
    fn many_violations_are_counted_to_a_limit() {
        let wide = format!("[{}1]", "1,".repeat(3_000));
        assert_eq!(
            check(r#"{"items":{"type":"string"}}"#, &wide)
                .unwrap()
                .len(),
            MAX_VIOLATIONS
        );
        let schema = format!("{{\"enum\":[{}1]}}", "1,".repeat(30_000));
        assert!(check(&schema, "2").unwrap_err().contains("more than"));
    }
}
