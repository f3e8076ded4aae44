//! The end of an invocation, for people: how it ended, what it used of its limits, what was stored.

use std::time::Duration;

use otto::core::invocation::Totals;
use otto::limits::{show_count, show_duration};
use otto::text::visible;
use otto::{ArtifactRef, Budgets, Money, Report, Usage};

use super::events::{seconds, size};
use super::money::show_money;
use super::style::{Painter, Style};
use super::table::Table;

/// Tokens with separators: `1,234,567`.
pub(crate) fn show_tokens(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// The report as text of several lines. `budgets` are the limits that were in force.
pub(crate) fn show_report(report: &Report, budgets: &Budgets, painter: Painter) -> String {
    let (word, style) = match report.outcome.kind() {
        otto::OutcomeKind::Completed if report.store_error.is_some() => {
            ("completed, but its end is not stored,", Style::Warn)
        }
        otto::OutcomeKind::Completed => ("completed", Style::Good),
        _ if report.outcome.is_parked() => ("parked", Style::Warn),
        _ => ("ended", Style::Bad),
    };
    let mut text = format!(
        "\n{} after {}, {}, {}\n",
        painter.paint(style, word),
        took(report.duration, report.time_used),
        counted(u64::from(report.turns), "turn"),
        counted(u64::from(report.totals.tool_calls), "tool call"),
    );
    if report.outcome.kind() != otto::OutcomeKind::Completed {
        text.push_str(&format!("  {}\n", visible(&report.outcome.to_string())));
    }
    text.push('\n');
    text.push_str(&usage_table(&report.totals, report.charged));
    text.push('\n');
    text.push_str(&limits_table(report, budgets));
    if !report.artifacts.is_empty() {
        text.push('\n');
        text.push_str(&show_artifacts(&report.artifacts));
    }
    for problem in [&report.artifact_error, &report.store_error]
        .into_iter()
        .flatten()
    {
        text.push_str(&format!(
            "\n{} {}\n",
            painter.paint(Style::Warn, "note:"),
            visible(problem)
        ));
    }
    text
}

/// How long it took: the whole, and what of it was since it was taken up again.
fn took(duration: Duration, time_used: Duration) -> String {
    let (now, whole) = (seconds(duration), seconds(time_used));
    // Waiting for a place is no time of running, so the whole can also be less.
    if time_used > duration && whole != now {
        format!("{whole} ({now} since it was taken up again)")
    } else {
        now
    }
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

fn usage_table(totals: &Totals, charged: Money) -> String {
    let usage = &totals.usage;
    let mut table = Table::new([
        ">model calls",
        ">input",
        ">cache read",
        ">cache write",
        ">output",
        ">charged",
    ]);
    table.row([
        totals.calls.to_string(),
        show_tokens(usage.input_tokens),
        show_tokens(usage.cache_read_tokens),
        show_tokens(cache_writes(usage)),
        show_tokens(usage.output_tokens),
        show_money(charged),
    ]);
    let mut text = table.render();
    if totals.unconfirmed_calls > 0 {
        text.push_str(&format!(
            "  of these, {} charged in full because no usage record came\n",
            totals.unconfirmed_calls
        ));
    }
    text
}

pub(super) const fn cache_writes(usage: &Usage) -> u64 {
    usage
        .cache_write_5m_tokens
        .saturating_add(usage.cache_write_1h_tokens)
}

fn limits_table(report: &Report, budgets: &Budgets) -> String {
    let mut table = Table::new(["limit", ">used", ">of", "set by"]);
    let mut row = |name: &str, used: String, limit: Option<(String, String)>| {
        if let Some((of, origin)) = limit {
            table.row([name.to_owned(), used, of, visible(&origin).into_owned()]);
        }
    };
    let tokens = report.totals.usage.total_tokens();
    row(
        "cost",
        show_money(report.charged),
        budgets
            .cost
            .as_ref()
            .map(|limit| (limit.value.to_string(), limit.origin.to_string())),
    );
    row(
        "tokens",
        show_tokens(tokens),
        budgets
            .tokens
            .as_ref()
            .map(|limit| (show_count(limit.value), limit.origin.to_string())),
    );
    row(
        "turns",
        report.turns.to_string(),
        budgets
            .turns
            .as_ref()
            .map(|limit| (limit.value.to_string(), limit.origin.to_string())),
    );
    row(
        "time",
        seconds(report.time_used),
        budgets
            .time
            .as_ref()
            .map(|limit| (time(limit.value), limit.origin.to_string())),
    );
    table.render()
}

fn time(limit: Duration) -> String {
    show_duration(limit)
}

/// The artifacts as a table, with full checksums.
pub(crate) fn show_artifacts(artifacts: &[ArtifactRef]) -> String {
    let mut table = Table::new(["artifact", "kind", ">size", "sha-256"]);
    for artifact in artifacts {
        let bytes = usize::try_from(artifact.size_bytes).unwrap_or(usize::MAX);
        table.row([
            visible(&artifact.path).into_owned(),
            artifact.kind.as_str().to_owned(),
            size(bytes),
            visible(&artifact.sha256).into_owned(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_resumption_the_whole_time_is_told() {
        let [short, long] = [300, 5_200].map(Duration::from_millis);
        assert_eq!(took(short, short), "0.3s");
        assert_eq!(took(short, long), "5.2s (0.3s since it was taken up again)");
        assert_eq!(took(long, short), "5.2s", "it has waited for a place");
    }
}
