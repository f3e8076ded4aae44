//! CSV (RFC 4180) of usage, with exact amounts, for spreadsheets and billing.

use otto::{Money, UsageSum};

use super::Column;
use crate::output::{Out, To};

/// Prints sums: the columns asked for, then counts, tokens by class and money.
pub(super) fn sums(out: &mut Out, by: &[Column], rows: &[UsageSum]) {
    let mut header: Vec<String> = by.iter().map(|column| column.name().to_owned()).collect();
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
    record(out, &header);
    for row in rows {
        let usage = &row.usage;
        let mut fields: Vec<String> = by
            .iter()
            .map(|column| column.of(row).cloned().unwrap_or_default())
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
        record(out, &fields);
    }
}

/// All twelve decimals: a sum of the column is the sum of the ledger.
pub(super) fn dollars(money: Money) -> String {
    const PER_DOLLAR: u64 = 1_000_000_000_000;
    let picodollars = money.picodollars();
    format!(
        "{}.{:012}",
        picodollars / PER_DOLLAR,
        picodollars % PER_DOLLAR
    )
}

/// Prints a record. A field that a spreadsheet would take for a formula is kept from being one.
pub(super) fn record(out: &mut Out, fields: &[String]) {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    out.line(To::Answer, &fields.join(","));
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
