//! Usage as CSV (RFC 4180), with exact amounts, for spreadsheets and billing.
//!
//! Invariant: the sum of a column of money is the sum of the ledger, to the picodollar.

use std::collections::BTreeMap;

use otto_core::Money;
use otto_core::port::store::{UsageGroup, UsageSum};

use crate::tool_usage::ToolUsage;

/// Sums: the columns they were grouped by, then counts, tokens by class and money.
#[must_use]
pub fn sums(by: &[UsageGroup], rows: &[UsageSum]) -> String {
    let mut header: Vec<String> = by.iter().map(|column| column.as_str().to_owned()).collect();
    header.extend(
        [
            "calls",
            "unconfirmed_calls",
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "thinking_tokens",
            "charged_usd",
            "charged_unconfirmed_usd",
        ]
        .map(str::to_owned),
    );
    let mut csv = record(&header);
    for row in rows {
        let usage = &row.usage;
        let mut fields: Vec<String> = by
            .iter()
            .map(|column| row.key.get(column).cloned().unwrap_or_default())
            .collect();
        fields.extend(
            [
                row.calls,
                row.unconfirmed_calls,
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_5m_tokens,
                usage.cache_write_1h_tokens,
                usage.thinking_tokens,
            ]
            .map(|count| count.to_string()),
        );
        fields.push(dollars(row.cost));
        fields.push(dollars(row.unconfirmed_cost));
        csv.push_str(&record(&fields));
    }
    csv
}

/// What the answers to each tool's results cost.
#[must_use]
pub fn tools(sums: &BTreeMap<String, ToolUsage>) -> String {
    let mut csv = record(&["tool", "tool_calls", "charged_usd"].map(str::to_owned));
    for (tool, used) in sums {
        let fields = [
            tool.clone(),
            used.tool_calls.to_string(),
            dollars(used.cost),
        ];
        csv.push_str(&record(&fields));
    }
    csv
}

/// All twelve decimals: a sum of the column is the sum of the ledger.
fn dollars(money: Money) -> String {
    const PER_DOLLAR: u64 = 1_000_000_000_000;
    let picodollars = money.picodollars();
    format!(
        "{}.{:012}",
        picodollars / PER_DOLLAR,
        picodollars % PER_DOLLAR
    )
}

/// A record. A field that a spreadsheet would take for a formula is kept from being one.
fn record(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    format!("{}\n", fields.join(","))
}

fn quoted(field: &str) -> String {
    let field = if field.starts_with(['=', '+', '-', '@']) {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    let is_plain = field
        .chars()
        .all(|c| !c.is_control() && !matches!(c, ',' | '"'));
    if is_plain {
        field
    } else {
        format!("\"{}\"", field.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (field, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "'=1+1"),
            ("", ""),
        ] {
            assert_eq!(quoted(field), expected);
        }
    }

    #[test]
    fn amounts_are_exact() {
        let money = |picodollars| Money::from_picodollars(picodollars).unwrap();
        assert_eq!(dollars(money(1)), "0.000000000001");
        assert_eq!(dollars(money(12_500_000_000_000)), "12.500000000000");
    }
}
