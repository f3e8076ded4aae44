//! Figures for a scraper, in the OpenMetrics text format (version 1.0.0), read when they are asked for.
//!
//! The engine's numbers are rendered as they are; what is counted here is only what HTTP adds.
//!
//! Invariant: a label value cannot end its line or its quotes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use otto::Otto;
use otto::metrics::{Classes, Family, FamilyKind, Sample, SampleValue, Unit};

use crate::problem::Problem;

/// Counters of this server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Responses by status.
    responses: Mutex<BTreeMap<StatusCode, u64>>,
}

impl Metrics {
    pub(crate) fn http_response(&self, status: StatusCode) {
        *self.lock().entry(status).or_default() += 1;
    }

    pub(crate) async fn render(&self, otto: &Otto) -> Result<String, Problem> {
        let mut text = String::new();
        for family in otto.metrics().await? {
            write_family(&mut text, &family);
        }
        write_head(
            &mut text,
            "otto_http_responses",
            "counter",
            "Responses by status",
        );
        for (status, count) in self.lock().iter() {
            line(
                &mut text,
                "otto_http_responses_total",
                &[("status", status.as_str())],
                count,
            );
        }
        text.push_str("# EOF\n");
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StatusCode, u64>> {
        // Counts are changed whole, so a poisoned map is still a correct map.
        self.responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_family(text: &mut String, family: &Family) {
    let kind = match family.kind {
        FamilyKind::Counter => "counter",
        FamilyKind::Gauge => "gauge",
        FamilyKind::Histogram => "histogram",
    };
    write_head(text, family.name, kind, family.help);
    for Sample { labels, value } in &family.samples {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        match value {
            SampleValue::Number(number) if family.kind == FamilyKind::Counter => {
                line(text, &format!("{}_total", family.name), &labels, number);
            }
            SampleValue::Number(number) => line(text, family.name, &labels, number),
            SampleValue::Classes(classes) => {
                write_histogram(text, family.name, &labels, classes);
            }
        }
    }
}

/// Buckets are cumulative in the format, and durations are told in seconds.
fn write_histogram(text: &mut String, name: &str, labels: &[(&str, &str)], classes: &Classes) {
    let told = |amount: u64| match classes.unit {
        Unit::Microseconds => seconds(amount),
        Unit::Tokens => amount.to_string(),
    };
    let bucket = format!("{name}_bucket");
    let mut count = 0;
    for (index, class) in classes.counts.iter().enumerate() {
        count += class;
        let bound = classes
            .bounds
            .get(index)
            .map_or_else(|| "+Inf".to_owned(), |bound| told(*bound));
        let mut labels = labels.to_vec();
        labels.push(("le", &bound));
        line(text, &bucket, &labels, count);
    }
    line(text, &format!("{name}_sum"), labels, told(classes.sum));
    line(text, &format!("{name}_count"), labels, count);
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn write_head(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}")
        .expect("writing to a string cannot fail");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    text.push_str(name);
    for (index, (label, value)) in labels.iter().enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        let value = value
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('"', "\\\"");
        write!(text, "{label}=\"{value}\"").expect("writing to a string cannot fail");
    }
    if !labels.is_empty() {
        text.push('}');
    }
    writeln!(text, " {value}").expect("writing to a string cannot fail");
}
