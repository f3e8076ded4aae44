//! The figures for a scraper keep the rules of the text format that `promtool check metrics` checks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn the_figures_keep_the_format() {
    let world = World::new("turns: [{ text: Hello }]").await;
    let body = json!({"agent": "helper", "task": "hi", "wait": true});
    world.post("/v1/invocations", &body).await.expect(200);
    world.get("/nowhere").await.expect(404);
    let told = world.get("/metrics").await.expect(200);
    assert!(
        told.header("content-type")
            .starts_with("application/openmetrics-text; version=1.0.0"),
        "{told:?}"
    );
    let samples = check(&told.body).unwrap_or_else(|problem| panic!("{problem}\n{}", told.body));
    let sum = |name: &str| -> f64 {
        samples
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .map(|(_, value)| value)
            .sum()
    };
    let billed = world.model.billed().cost.picodollars();
    assert_eq!(
        format!("{:.0}", sum("otto_cost_picodollars_total")),
        billed.to_string()
    );
    assert!(
        samples.contains_key("otto_http_responses_total{status=\"404\"}"),
        "{samples:?}"
    );
}

#[test]
fn the_check_finds_what_is_wrong() {
    let good = "# HELP a Calls.\n# TYPE a counter\na_total{b=\"c\\\"\"} 1\n# EOF\n";
    check(good).unwrap();
    for (wrong, from, to) in [
        ("no end", "# EOF\n", ""),
        ("no type", "# TYPE a counter\n", ""),
        ("no help", "# HELP a Calls.\n", ""),
        ("a counter without total", "a_total", "a"),
        ("a label without quotes", "\"c\\\"\"", "c"),
        ("a name that is none", "a_total", "1a_total"),
        ("a value that is none", "} 1\n", "} one\n"),
        ("a series twice", "# EOF", "a_total{b=\"c\\\"\"} 2\n# EOF"),
        ("a label name that is none", "{b=", "{b-b="),
        ("a negative counter", "} 1\n", "} -1\n"),
    ] {
        assert_ne!(good.replace(from, to), good, "{wrong}");
        assert!(check(&good.replace(from, to)).is_err(), "{wrong}");
    }
    let histogram = "# HELP h Time.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# EOF\n";
    check(histogram).unwrap();
    for (wrong, from, to) in [
        ("not cumulative", "\"1\"} 1", "\"1\"} 3"),
        ("no last bucket", "h_bucket{le=\"+Inf\"} 2\n", ""),
        ("count and last bucket differ", "h_count 2", "h_count 3"),
    ] {
        assert!(check(&histogram.replace(from, to)).is_err(), "{wrong}");
    }
}

/// Checks a page of figures and gives its samples by series.
fn check(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let Some(text) = text.strip_suffix("# EOF\n") else {
        return Err("the page does not end with `# EOF`".to_owned());
    };
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped: BTreeSet<&str> = BTreeSet::new();
    let mut finished: BTreeSet<&str> = BTreeSet::new();
    let mut current = "";
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        let wrong = |why: &str| format!("{why}: `{line}`");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name, rest) = (words.next(), words.next(), words.next());
            let name = name
                .filter(|name| is_name(name))
                .ok_or_else(|| wrong("no name"))?;
            match (keyword, rest) {
                (Some("TYPE"), Some(kind)) => {
                    if !["counter", "gauge", "histogram", "info", "unknown"].contains(&kind) {
                        return Err(wrong("no such type"));
                    }
                    if kinds.insert(name, kind).is_some() {
                        return Err(wrong("a second type"));
                    }
                }
                (Some("HELP"), Some(help)) if !help.is_empty() => {
                    helped.insert(name);
                }
                (Some("UNIT"), Some(unit)) if name.ends_with(unit) => {}
                _ => return Err(wrong("no comment of this format")),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').ok_or_else(|| wrong("no value"))?;
        let value: f64 = value.parse().map_err(|_| wrong("no number"))?;
        let name = series.split('{').next().unwrap_or_default();
        if !is_name(name) {
            return Err(wrong("no name"));
        }
        check_labels(&series[name.len()..]).map_err(wrong)?;
        let (family, kind) = kinds
            .iter()
            .find(|(family, kind)| {
                suffixes(kind)
                    .iter()
                    .any(|end| name == format!("{family}{end}"))
            })
            .ok_or_else(|| wrong("it belongs to no family"))?;
        if !helped.contains(family) {
            return Err(wrong("its family has no help"));
        }
        if *family != current && !finished.insert(family) {
            return Err(wrong("its family is in two places"));
        }
        current = family;
        if *kind == "counter" && value < 0.0 {
            return Err(wrong("a counter below zero"));
        }
        if samples.insert(series.to_owned(), value).is_some() {
            return Err(wrong("a series that was there before"));
        }
    }
    for (family, kind) in &kinds {
        if *kind == "histogram" {
            check_histogram(family, text, &samples)?;
        }
    }
    Ok(samples)
}

const fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind.as_bytes() {
        b"counter" => &["_total", "_created"],
        b"histogram" => &["_bucket", "_sum", "_count", "_created"],
        b"info" => &["_info"],
        _ => &[""],
    }
}

/// Buckets grow, the last one is without a limit, and it holds everything.
fn check_histogram(
    family: &str,
    text: &str,
    samples: &BTreeMap<String, f64>,
) -> Result<(), String> {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with(&format!("{family}_bucket{{")))
    {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (rest, limit) = series
            .split_once("le=\"")
            .ok_or("a bucket without a limit")?;
        let (limit, behind) = limit.split_once('"').unwrap();
        let limit: f64 = limit.parse().map_err(|_| format!("no limit: `{line}`"))?;
        let labels = format!("{rest}{behind}");
        if let Some((earlier_limit, earlier)) = last.get(&labels)
            && (*earlier_limit >= limit || *earlier > value)
        {
            return Err(format!("buckets that do not grow: `{line}`"));
        }
        last.insert(labels, (limit, value));
    }
    for (labels, (limit, value)) in last {
        if limit.is_finite() {
            return Err(format!("{family} has no last bucket"));
        }
        let inner = labels.split_once('{').unwrap().1;
        let inner = inner.trim_end_matches('}').trim_matches(',');
        let count = match inner {
            "" => format!("{family}_count"),
            labels => format!("{family}_count{{{labels}}}"),
        };
        if samples
            .get(&count)
            .is_none_or(|count| (count - value).abs() > 0.5)
        {
            return Err(format!("{count} differs from the last bucket"));
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn check_labels(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Ok(());
    }
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let mut rest = inner.ok_or("labels without braces")?;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").ok_or("a label without quotes")?;
        if !is_name(name) {
            return Err("no name of a label");
        }
        let mut is_escaped = false;
        let end = value.find(|c: char| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let end = end.ok_or("a label without an end")?;
        rest = value[end + 1..].trim_start_matches(',');
    }
    Ok(())
}
