//! What the vendor says was used: exports of its console and answers of its Usage and Cost API, as rows by day
//! and model.
//!
//! Accepted are, by the vendor's documents of 2026-11:
//! - the JSON of `GET /v1/organizations/usage_report/messages`: tokens by class, in buckets of a day or less;
//! - the JSON of `GET /v1/organizations/cost_report`, grouped by description: amounts in cents;
//! - an array of such answers, for reports of several pages;
//! - CSV with a header: the console's exports, and what `otto usage --by day,model --csv` writes.
//!
//! It reads text and compares nothing.
//!
//! Invariant: a row or field that is not understood is an error with its place, never a smaller sum.

use std::collections::BTreeMap;

use otto_core::Money;
use otto_core::model::Usage;
use serde_json::Value;

/// What was used on one day with one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Tokens by class, if the export tells tokens.
    pub usage: Option<Usage>,
    /// Money, if the export tells money.
    pub cost: Option<Money>,
    /// By how much `cost` may be off because its parts were rounded.
    pub rounding: Money,
}

/// An export: day (`2026-11-28`) and model to what was used.
pub type Export = BTreeMap<(String, String), Exported>;

/// Why an export cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ExportError {
    /// Where: a line, or a path into the JSON.
    pub place: String,
    /// What was found, and what was expected.
    pub problem: String,
}

fn error(place: impl Into<String>, problem: impl Into<String>) -> ExportError {
    ExportError {
        place: place.into(),
        problem: problem.into(),
    }
}

/// The form in which an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// Answers of the Usage and Cost API.
    Json,
    /// A table with a header.
    Csv,
}

impl ExportForm {
    /// The form that a text has by its looks, for whoever was not told.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = text.trim_start_matches(BYTE_ORDER_MARK).trim_start();
        if text.starts_with(['{', '[']) {
            Self::Json
        } else {
            Self::Csv
        }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads an export of one of the accepted forms.
///
/// # Errors
/// When it has another form, or a part of it cannot be understood.
pub fn read_export(text: &str, form: ExportForm) -> Result<Export, ExportError> {
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    if text.trim_start().is_empty() {
        return Err(error("the file", "is empty; expected JSON or CSV"));
    }
    match form {
        ExportForm::Json => {
            let json: Value = serde_json::from_str(text)
                .map_err(|problem| error("the file", format!("is not JSON: {problem}")))?;
            of_json(&json)
        }
        ExportForm::Csv => of_csv(text),
    }
}

fn add(export: &mut Export, day: &str, model: &str, part: Exported) {
    let row = export
        .entry((day.to_owned(), model.to_owned()))
        .or_default();
    if let Some(usage) = part.usage {
        row.usage = Some(row.usage.unwrap_or_default().plus(&usage));
    }
    if let Some(cost) = part.cost {
        row.cost = Some(row.cost.unwrap_or_default().saturating_add(cost));
    }
    row.rounding = row.rounding.saturating_add(part.rounding);
}

/// Costs that belong to no model, such as web searches.
pub const NO_MODEL: &str = "(no model)";

fn of_json(json: &Value) -> Result<Export, ExportError> {
    let pages: Vec<&Value> = match json {
        Value::Array(pages) => pages.iter().collect(),
        page => vec![page],
    };
    if pages.is_empty() {
        return Err(error(
            "the file",
            "has no page; expected answers of the Usage and Cost API",
        ));
    }
    let mut export = Export::new();
    for (number, page) in pages.iter().enumerate() {
        let place = format!("page {}", number + 1);
        let buckets = page["data"].as_array().ok_or_else(|| {
            error(
                &*place,
                "has no `data`; expected an answer of the Usage and Cost API",
            )
        })?;
        let is_last = number + 1 == pages.len();
        if is_last && page["has_more"] == true {
            return Err(error(
                place,
                "says `has_more`; put all pages into one JSON array, or ask for a shorter time",
            ));
        }
        for (index, bucket) in buckets.iter().enumerate() {
            let place = format!("{place}, data[{index}]");
            let day = day_of(&bucket["starting_at"], &place)?;
            let results = bucket["results"]
                .as_array()
                .ok_or_else(|| error(&*place, "has no `results`"))?;
            for (index, result) in results.iter().enumerate() {
                let place = format!("{place}.results[{index}]");
                let model = result["model"].as_str();
                let part = if result.get("amount").is_some() {
                    of_cost(result, &place)?
                } else {
                    of_tokens(result, &place)?
                };
                if model.is_none() && part.usage.is_some() {
                    return Err(error(place, "has no `model`; group the report by model"));
                }
                add(&mut export, &day, model.unwrap_or(NO_MODEL), part);
            }
        }
    }
    Ok(export)
}

fn of_cost(result: &Value, place: &str) -> Result<Exported, ExportError> {
    if result["currency"] != "USD" {
        return Err(error(place, "is not in US dollars"));
    }
    // A decimal string in cents: "123.45" is $1.2345.
    let text = result["amount"].as_str().unwrap_or_default();
    let (cents, rounding) = decimal(text, 10).ok_or_else(|| {
        error(
            place,
            "`amount` is no decimal string of cents, such as \"123.45\"",
        )
    })?;
    Ok(Exported {
        usage: None,
        cost: Some(cents),
        rounding,
    })
}

fn of_tokens(result: &Value, place: &str) -> Result<Exported, ExportError> {
    let count = |value: &Value, name: &str| match value {
        Value::Null => Ok(0),
        value => value
            .as_u64()
            .ok_or_else(|| error(place, format!("`{name}` is no whole number"))),
    };
    if result.get("output_tokens").is_none() {
        return Err(error(place, "has neither `amount` nor `output_tokens`"));
    }
    let created = &result["cache_creation"];
    let usage = Usage {
        input_tokens: count(&result["uncached_input_tokens"], "uncached_input_tokens")?,
        output_tokens: count(&result["output_tokens"], "output_tokens")?,
        cache_read_tokens: count(
            &result["cache_read_input_tokens"],
            "cache_read_input_tokens",
        )?,
        cache_write_5m_tokens: count(
            &created["ephemeral_5m_input_tokens"],
            "ephemeral_5m_input_tokens",
        )?,
        cache_write_1h_tokens: count(
            &created["ephemeral_1h_input_tokens"],
            "ephemeral_1h_input_tokens",
        )?,
        thinking_tokens: 0,
    };
    Ok(Exported {
        usage: Some(usage),
        cost: None,
        rounding: Money::ZERO,
    })
}

fn day_of(value: &Value, place: &str) -> Result<String, ExportError> {
    value.as_str().and_then(as_day).ok_or_else(|| {
        error(
            place,
            "`starting_at` is no time such as 2026-11-28T00:00:00Z",
        )
    })
}

/// The date of a date or of a time in UTC.
fn as_day(text: &str) -> Option<String> {
    let date = text.get(..10)?;
    let rest = &text[10..];
    let shape = date.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    // A time of another zone could belong to another day.
    let in_utc = rest.is_empty()
        || (rest.starts_with(['T', ' '])
            && (rest.ends_with('Z') || rest.ends_with("+00:00") || !rest.contains(['+', '-'])));
    let exists = || {
        let number = |part: std::ops::Range<usize>| date[part].parse::<u32>().unwrap_or(0);
        let (year, month) = (number(0..4), number(5..7));
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 => 28 + u32::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        (1..=last).contains(&number(8..10))
    };
    (shape && in_utc && exists()).then(|| date.to_owned())
}

/// A decimal number of dollars divided by ten to the power of `12 - scale`, exactly, with half the
/// value of its last digit, rounded up. Digits beyond a picodollar are cut off.
fn decimal(text: &str, scale: u32) -> Option<(Money, Money)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let places = fraction.len().min(scale as usize);
    let unit = 10_u64.checked_pow(scale - u32::try_from(places).ok()?)?;
    let number: u64 = format!("{whole}{}", &fraction[..places]).parse().ok()?;
    Some((
        Money::from_picodollars(number.checked_mul(unit)?)?,
        Money::from_picodollars(unit.div_ceil(2))?,
    ))
}

/// The columns of a CSV export, each under the names it has been given.
const DAY: &[&str] = &["day", "date", "usage_date_utc"];
const MODEL: &[&str] = &["model", "model_version"];
const INPUT: &[&str] = &[
    "input_tokens",
    "uncached_input_tokens",
    "usage_input_tokens_no_cache",
];
const OUTPUT: &[&str] = &["output_tokens", "usage_output_tokens"];
const CACHE_READ: &[&str] = &[
    "cache_read_tokens",
    "cache_read_input_tokens",
    "usage_input_tokens_cache_read",
];
const WRITE_5M: &[&str] = &["cache_write_5m_tokens", "usage_input_tokens_cache_write_5m"];
const WRITE_1H: &[&str] = &["cache_write_1h_tokens", "usage_input_tokens_cache_write_1h"];
const COST: &[&str] = &["charged_usd", "cost_usd", "amount_usd"];

/// Where the columns of a CSV export are.
struct Columns {
    day: usize,
    model: usize,
    /// Input and output; a sum without one of them would be too small.
    tokens: Option<(usize, usize)>,
    cache_read: Option<usize>,
    write_5m: Option<usize>,
    write_1h: Option<usize>,
    cost: Option<usize>,
}

impl Columns {
    /// Finds them in the header, or says which are missing.
    fn find(header: &[String]) -> Result<Self, ExportError> {
        let column = |names: &[&str]| {
            header.iter().position(|name| {
                names
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(name.trim()))
            })
        };
        let (day, model, cost) = (column(DAY), column(MODEL), column(COST));
        let (input, output) = (column(INPUT), column(OUTPUT));
        let mut missing: Vec<String> = [(day, DAY), (model, MODEL)]
            .into_iter()
            .filter(|(found, _)| found.is_none())
            .map(|(_, names)| any_of(names))
            .collect();
        match (cost, input, output) {
            (Some(_), ..) | (None, Some(_), Some(_)) => {}
            (None, Some(_), None) => missing.push(any_of(OUTPUT)),
            (None, None, Some(_)) => missing.push(any_of(INPUT)),
            (None, None, None) => missing.push(format!(
                "{}, or both {} and {}",
                any_of(COST),
                any_of(INPUT),
                any_of(OUTPUT)
            )),
        }
        let (Some(day), Some(model), true) = (day, model, missing.is_empty()) else {
            let problem = format!("lacks the columns {}", missing.join("; "));
            return Err(error("line 1", problem));
        };
        Ok(Self {
            day,
            model,
            tokens: input.zip(output),
            cache_read: column(CACHE_READ),
            write_5m: column(WRITE_5M),
            write_1h: column(WRITE_1H),
            cost,
        })
    }
}

/// The names of one column: "`model` or `model_version`".
fn any_of(names: &[&str]) -> String {
    format!("`{}`", names.join("` or `"))
}

fn of_csv(text: &str) -> Result<Export, ExportError> {
    let mut records = csv_records(text)?.into_iter();
    let (_, header) = records
        .next()
        .ok_or_else(|| error("the file", "has no header"))?;
    let columns = Columns::find(&header)?;
    let mut export = Export::new();
    for (line, record) in records {
        let place = format!("line {line}");
        if record.len() != header.len() {
            let (fields, expected) = (record.len(), header.len());
            let problem = format!("has {fields} fields, expected {expected} as in the header");
            return Err(error(place, problem));
        }
        let field = |index: usize| record[index].trim();
        let count = |index: Option<usize>| match index.map(field) {
            None | Some("") => Ok(0),
            Some(text) => text
                .replace(',', "")
                .parse::<u64>()
                .map_err(|_| error(&*place, format!("`{text}` is no whole number of tokens"))),
        };
        let day = as_day(field(columns.day)).ok_or_else(|| {
            error(
                &*place,
                format!(
                    "`{}` is no date; expected one that exists, such as 2026-11-28, in UTC",
                    field(columns.day).escape_default()
                ),
            )
        })?;
        let usage = match columns.tokens {
            None => None,
            Some((input, output)) => Some(Usage {
                input_tokens: count(Some(input))?,
                output_tokens: count(Some(output))?,
                cache_read_tokens: count(columns.cache_read)?,
                cache_write_5m_tokens: count(columns.write_5m)?,
                cache_write_1h_tokens: count(columns.write_1h)?,
                thinking_tokens: 0,
            }),
        };
        let no_amount = || error(&*place, "has no amount such as 1.2345");
        let (cost, rounding) = match columns.cost.map(field) {
            None | Some("") if usage.is_none() => return Err(no_amount()),
            None | Some("") => (None, Money::ZERO),
            Some(text) => {
                let text = text.trim_start_matches('$').replace(',', "");
                let (amount, rounding) = decimal(&text, 12).ok_or_else(no_amount)?;
                (Some(amount), rounding)
            }
        };
        let model = match field(columns.model) {
            "" => NO_MODEL,
            name => name,
        };
        let part = Exported {
            usage,
            cost,
            rounding,
        };
        add(&mut export, &day, model, part);
    }
    Ok(export)
}

/// Records of a CSV text (RFC 4180) with the line each begins on. Empty lines are left out.
fn csv_records(text: &str) -> Result<Vec<(usize, Vec<String>)>, ExportError> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut field = String::new();
    let (mut line, mut began) = (1, 1);
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                line += 1;
                record.push(std::mem::take(&mut field).trim_end_matches('\r').to_owned());
                end_record(&mut records, &mut record, began);
                began = line;
            }
            other => {
                line += usize::from(other == '\n');
                field.push(other);
            }
        }
    }
    if quoted {
        return Err(error(format!("line {began}"), "a quote is never closed"));
    }
    record.push(field);
    end_record(&mut records, &mut record, began);
    Ok(records)
}

fn end_record(records: &mut Vec<(usize, Vec<String>)>, record: &mut Vec<String>, began: usize) {
    let record = std::mem::take(record);
    if record.iter().any(|field| !field.trim().is_empty()) {
        records.push((began, record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picodollars(count: u64) -> Money {
        Money::from_picodollars(count).unwrap()
    }

    fn read(text: &str) -> Result<Export, ExportError> {
        read_export(text, ExportForm::of(text))
    }

    fn row(export: &Export, day: &str, model: &str) -> Exported {
        export[&(day.to_owned(), model.to_owned())]
    }

    #[test]
    fn a_usage_report_gives_tokens_by_class() {
        let text = r#"{"data": [
            {"starting_at": "2026-11-27T00:00:00Z", "ending_at": "2026-11-28T00:00:00Z", "results": [
                {"model": "claude-haiku-4-5", "uncached_input_tokens": 1500, "output_tokens": 500,
                 "cache_read_input_tokens": 200, "server_tool_use": {"web_search_requests": 0},
                 "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 4}},
                {"model": "claude-haiku-4-5", "uncached_input_tokens": 1, "output_tokens": 2}]},
            {"starting_at": "2026-11-28T00:00:00Z", "results": []}], "has_more": false}"#;
        let export = read(text).unwrap();
        assert_eq!(export.len(), 1);
        let usage = row(&export, "2026-11-27", "claude-haiku-4-5")
            .usage
            .unwrap();
        assert_eq!(
            (
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens
            ),
            (1501, 502, 200)
        );
        assert_eq!(
            (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens),
            (30, 4)
        );
    }

    #[test]
    fn a_cost_report_is_in_cents() {
        let text = r#"[{"data": [{"starting_at": "2026-11-27T00:00:00Z", "results": [
                {"amount": "123.45", "currency": "USD", "model": "claude-haiku-4-5", "cost_type": "tokens"},
                {"amount": "7", "currency": "USD", "model": null, "cost_type": "web_search"}]}], "has_more": true},
            {"data": [{"starting_at": "2026-11-27T00:00:00Z", "results": [
                {"amount": "0.55", "currency": "USD", "model": "claude-haiku-4-5"}]}], "has_more": false}]"#;
        let export = read(text).unwrap();
        let haiku = row(&export, "2026-11-27", "claude-haiku-4-5");
        assert_eq!(haiku.cost, Some(picodollars(1_240_000_000_000)));
        assert_eq!(haiku.rounding, picodollars(100_000_000));
        assert_eq!(
            row(&export, "2026-11-27", NO_MODEL).cost,
            Some(picodollars(70_000_000_000))
        );
    }

    #[test]
    fn csv_is_read_under_the_names_of_console_and_of_otto() {
        let console = "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_read,usage_output_tokens\r\n2026-11-27,claude-haiku-4-5,\"key, \"\"a\"\"\",\"1,000\",5,6,7\r\n";
        let usage = row(&read(console).unwrap(), "2026-11-27", "claude-haiku-4-5")
            .usage
            .unwrap();
        assert_eq!(
            (
                usage.input_tokens,
                usage.cache_write_5m_tokens,
                usage.cache_read_tokens,
                usage.output_tokens
            ),
            (1000, 5, 6, 7)
        );
        let own = "day,model,output_tokens,charged_usd\n2026-11-27,m,1,0.000000000012\n\n2026-11-27,m,2,1.5\n";
        let found = row(&read(own).unwrap(), "2026-11-27", "m");
        assert_eq!(found.cost, Some(picodollars(1_500_000_000_012)));
        assert_eq!(found.rounding, picodollars(50_000_000_001));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (text, place, problem) in [
            ("", "the file", "is empty"),
            ("{", "the file", "is not JSON"),
            ("[]", "the file", "has no page"),
            ("{}", "page 1", "has no `data`"),
            (r#"{"data": [], "has_more": true}"#, "page 1", "has_more"),
            (
                r#"{"data": [{"starting_at": "yesterday", "results": []}]}"#,
                "page 1, data[0]",
                "no time",
            ),
            (
                r#"{"data": [{"starting_at": "2026-11-27T23:00:00-05:00", "results": []}]}"#,
                "page 1, data[0]",
                "no time",
            ),
            (
                r#"{"data": [{"starting_at": "2026-11-27", "results": [{"output_tokens": -1, "model": "m"}]}]}"#,
                "page 1, data[0].results[0]",
                "no whole number",
            ),
            (
                r#"{"data": [{"starting_at": "2026-11-27", "results": [{"output_tokens": 1}]}]}"#,
                "page 1, data[0].results[0]",
                "group the report by model",
            ),
            (
                r#"{"data": [{"starting_at": "2026-11-27", "results": [{"amount": "1", "currency": "EUR"}]}]}"#,
                "page 1, data[0].results[0]",
                "US dollars",
            ),
            ("day,model,cost_usd\n2026-11-27,m,\n", "line 2", "no amount"),
            (
                "day,model,cost_usd\n2026-11-27,m\n",
                "line 2",
                "has 2 fields, expected 3",
            ),
            (
                "day,model,cost_usd\n2026-11-27,m,1,000\n",
                "line 2",
                "has 4 fields, expected 3",
            ),
            ("day,model,cost_usd\nx,m,1\n", "line 2", "no date"),
            (
                "day,model,cost_usd\n2024-02-29,m,1\n2026-11-31,m,1\n",
                "line 3",
                "`2026-11-31` is no date",
            ),
            ("day,model,cost_usd\n2026-02-29,m,1\n", "line 2", "no date"),
            ("day,model,cost_usd\n2026-13-01,m,1\n", "line 2", "no date"),
            ("day,model,cost_usd\n2026-11-00,m,1\n", "line 2", "no date"),
            (
                "day,model,cost_usd\n2026-11-27,m,-1\n",
                "line 2",
                "no amount",
            ),
            (
                "day,model,input_tokens,output_tokens\n2026-11-27,m,1,1.5\n",
                "line 2",
                "no whole number",
            ),
            (
                "day,model,cost_usd\n\"2026-11-27,m,1\n",
                "line 2",
                "never closed",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.place, place, "{text}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn every_missing_column_is_named() {
        let day = "`day` or `date` or `usage_date_utc`";
        let model = "`model` or `model_version`";
        let cost = "`charged_usd` or `cost_usd` or `amount_usd`, or both `input_tokens` or";
        for (header, missing, there) in [
            ("[]", vec![day, model, cost], vec![]),
            ("who,what", vec![day, model, cost], vec![]),
            ("date,cost_usd", vec![model], vec![day, cost]),
            ("day,model", vec![cost], vec![day, model]),
            (
                "model,output_tokens",
                vec![day, "`input_tokens` or"],
                vec![model, "`output_tokens`"],
            ),
            (
                "day,model,input_tokens",
                vec!["`output_tokens` or"],
                vec![day, "`input_tokens`"],
            ),
        ] {
            let error = read_export(header, ExportForm::Csv).unwrap_err();
            assert_eq!(error.place, "line 1", "{header}");
            for name in missing {
                assert!(error.problem.contains(name), "{header}: {error}");
            }
            for name in there {
                assert!(!error.problem.contains(name), "{header}: {error}");
            }
        }
        let nothing_used = "day,model,cost_usd\n";
        assert_eq!(
            read_export(nothing_used, ExportForm::Csv),
            Ok(Export::new())
        );
    }
}
