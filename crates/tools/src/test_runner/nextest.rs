//! Reads the JSON lines of `cargo nextest` and of Rust's test harness.

use serde::Deserialize;

use super::libtest;
use super::output::{Found, Totals};

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    event: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    stdout: Option<String>,
}

pub(super) fn read(text: &str) -> Found {
    let mut found = Found::default();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        if line.kind == "suite" {
            found.totals.get_or_insert_default();
        }
        if line.kind != "test" {
            continue;
        }
        let totals: &mut Totals = found.totals.get_or_insert_default();
        match line.event.as_str() {
            "ok" => totals.passed += 1,
            "ignored" => totals.skipped += 1,
            "failed" | "timeout" => {
                totals.failed += 1;
                let output = line.stdout.unwrap_or_default();
                let lines: Vec<&str> = output.lines().collect();
                // `crate::binary$module::test`
                let name = line
                    .name
                    .rsplit_once('$')
                    .map_or(line.name.as_str(), |(_, test)| test);
                found.push(libtest::failure(name, &lines));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_run_is_read() {
        let found = read(include_str!("../../tests/samples/nextest.jsonl"));
        assert_eq!(
            found.totals,
            Some(Totals {
                passed: 1,
                failed: 4,
                skipped: 1
            })
        );
        let mut places: Vec<_> = found
            .failures
            .iter()
            .map(|f| (f.name.as_str(), f.line))
            .collect();
        places.sort_unstable();
        assert_eq!(
            places,
            [
                ("tests::breaks", Some(9)),
                ("tests::prints_and_fails", Some(11)),
                ("tests::returns_err", None),
                ("tests::should_have_panicked", Some(13)),
            ]
        );
        assert_eq!(read("{\"type\": 5}\n{broken\ntext"), Found::default());
    }
}
