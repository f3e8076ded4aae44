//! The filters of the expression language.
//!
//! A filter that works on text is applied to each entry when it gets a list. Nothing (an absent value) stays
//! nothing, except for `default` and for the filters that count or test.
//!
//! Invariant: every filter returns in time linear in its input and its output, and refuses to make a value
//! longer than [`limits::VALUE_BYTES`].

use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use super::Token;
use crate::limits;
use crate::script::{nearest, shown};

/// A filter with its arguments checked.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    Lines,
    LineCount,
    Split(String),
    Field(String, i64),
    Nth(i64),
    First(usize),
    Last(usize),
    Skip(usize),
    Capture(Regex),
    Captures(Regex),
    Count(Regex),
    Length,
    Sum,
    Join(String),
    Default(Json),
    Pointer(String),
    Pluck(String),
    Unique,
    Tally,
    Sort,
    ByNumber(Regex),
    Reverse,
    Keep(Regex),
    Drop(Regex),
    Has(Regex),
    Is(Json),
    Above(i64),
    Below(i64),
    Not,
    Then(Json),
    Trim,
    Upper,
    Lower,
    Replace(Regex, String),
    Prefix(String),
    Suffix(String),
    Truncate(usize),
    Repeat(usize),
}

/// The names of all filters, for messages and for the documentation test.
pub(super) const NAMES: [&str; 38] = [
    "lines",
    "line_count",
    "split",
    "field",
    "nth",
    "first",
    "last",
    "skip",
    "capture",
    "captures",
    "count",
    "length",
    "sum",
    "join",
    "default",
    "json",
    "pluck",
    "unique",
    "tally",
    "sort",
    "by_number",
    "reverse",
    "keep",
    "drop",
    "has",
    "is",
    "above",
    "below",
    "not",
    "then",
    "trim",
    "upper",
    "lower",
    "replace",
    "prefix",
    "suffix",
    "truncate",
    "repeat",
];

impl Filter {
    /// The filter of that name with these arguments.
    pub(super) fn new(name: &str, arguments: Vec<Token>) -> Result<Self, String> {
        let mut arguments = Arguments {
            name,
            list: arguments.into_iter(),
            taken: 0,
        };
        let filter = match name {
            "lines" => Self::Lines,
            "line_count" => Self::LineCount,
            "split" => Self::Split(arguments.separator()?),
            "field" => Self::Field(arguments.separator()?, arguments.number()?),
            "nth" => Self::Nth(arguments.number()?),
            "first" => Self::First(arguments.count()?),
            "last" => Self::Last(arguments.count()?),
            "skip" => Self::Skip(arguments.count()?),
            "capture" => Self::Capture(arguments.regex()?),
            "captures" => Self::Captures(arguments.regex()?),
            "count" => Self::Count(arguments.regex()?),
            "length" => Self::Length,
            "sum" => Self::Sum,
            "join" => Self::Join(arguments.text()?),
            "default" => Self::Default(arguments.literal()?),
            "json" => Self::Pointer(arguments.pointer()?),
            "pluck" => Self::Pluck(arguments.pointer()?),
            "unique" => Self::Unique,
            "tally" => Self::Tally,
            "sort" => Self::Sort,
            "by_number" => Self::ByNumber(arguments.regex()?),
            "reverse" => Self::Reverse,
            "keep" => Self::Keep(arguments.regex()?),
            "drop" => Self::Drop(arguments.regex()?),
            "has" => Self::Has(arguments.regex()?),
            "is" => Self::Is(arguments.literal()?),
            "above" => Self::Above(arguments.number()?),
            "below" => Self::Below(arguments.number()?),
            "not" => Self::Not,
            "then" => Self::Then(arguments.literal()?),
            "trim" => Self::Trim,
            "upper" => Self::Upper,
            "lower" => Self::Lower,
            "replace" => Self::Replace(arguments.regex()?, arguments.text()?),
            "prefix" => Self::Prefix(arguments.text()?),
            "suffix" => Self::Suffix(arguments.text()?),
            "truncate" => Self::Truncate(arguments.count()?),
            "repeat" => Self::Repeat(arguments.count()?),
            _ => {
                let hint = nearest(name, NAMES.into_iter()).map_or_else(
                    || format!("the filters are {}", NAMES.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(format!("unknown filter `{}`: {hint}", shown(name)));
            }
        };
        arguments.finish()?;
        Ok(filter)
    }

    /// Applies the filter.
    pub(super) fn apply(&self, value: Json) -> Result<Json, String> {
        Ok(match self {
            Self::Lines => split(value, |text| text.lines().map(Json::from).collect()),
            Self::LineCount => each(value, |text| text.lines().count().into()),
            Self::Split(separator) => split(value, |text| {
                text.split(separator.as_str()).map(Json::from).collect()
            }),
            Self::Field(separator, index) => each(value, |text| {
                nth(
                    text.split(separator.as_str()).map(Json::from).collect(),
                    *index,
                )
            }),
            Self::Nth(index) => nth(value, *index),
            Self::First(count) => part(value, |length| 0..(*count).min(length)),
            Self::Last(count) => part(value, |length| length.saturating_sub(*count)..length),
            Self::Skip(count) => part(value, |length| (*count).min(length)..length),
            Self::Capture(regex) => match each(value, |text| {
                first_capture(regex, text).map_or(Json::Null, Json::from)
            }) {
                Json::Array(list) => list.into_iter().filter(|entry| !entry.is_null()).collect(),
                single => single,
            },
            Self::Captures(regex) => split(value, |text| {
                regex
                    .captures_iter(text)
                    .filter_map(|found| captured(&found).map(Json::from))
                    .collect()
            }),
            Self::Count(regex) => texts(&value)
                .iter()
                .map(|text| regex.find_iter(text).count())
                .sum::<usize>()
                .into(),
            Self::Length => length(&value).into(),
            Self::Sum => texts(&value)
                .iter()
                .filter_map(|text| text.trim().parse::<i64>().ok())
                .fold(0_i64, i64::saturating_add)
                .into(),
            Self::Join(separator) => match value {
                Json::Array(list) => {
                    bounded(list.iter().map(to_text).collect::<Vec<_>>().join(separator))?
                }
                single => single,
            },
            Self::Default(instead) => {
                let empty = matches!(&value, Json::Null) || length(&value) == 0;
                if empty { instead.clone() } else { value }
            }
            Self::Pointer(pointer) => point(&value, pointer),
            Self::Pluck(pointer) => match value {
                Json::Array(list) => list
                    .iter()
                    .map(|entry| point(entry, pointer))
                    .filter(|found| !found.is_null())
                    .collect(),
                single => point(&single, pointer),
            },
            Self::Unique => unique(value),
            Self::Tally => tally(&value),
            Self::Sort => entries(value, |list| list.sort_by_key(to_text)),
            Self::ByNumber(regex) => entries(value, |list| {
                list.sort_by_cached_key(|entry| std::cmp::Reverse(captured_number(regex, entry)));
            }),
            Self::Reverse => entries(value, |list| list.reverse()),
            Self::Keep(regex) => keep(value, |text| regex.is_match(text)),
            Self::Drop(regex) => keep(value, |text| !regex.is_match(text)),
            Self::Has(regex) => texts(&value).iter().any(|text| regex.is_match(text)).into(),
            Self::Is(other) => (to_text(&value) == to_text(other)).into(),
            Self::Above(limit) => number(&value).is_some_and(|n| n > *limit).into(),
            Self::Below(limit) => number(&value).is_some_and(|n| n < *limit).into(),
            Self::Not => (!is_true(&value)).into(),
            Self::Then(instead) if is_true(&value) => instead.clone(),
            Self::Then(_) => Json::Null,
            Self::Trim => each(value, |text| text.trim().into()),
            Self::Upper => each(value, |text| text.to_uppercase().into()),
            Self::Lower => each(value, |text| text.to_lowercase().into()),
            Self::Replace(regex, with) => {
                grows(
                    size(&value),
                    texts(&value)
                        .iter()
                        .map(|text| regex.find_iter(text).count())
                        .sum(),
                    with.len(),
                )?;
                each(value, |text| {
                    regex
                        .replace_all(text, regex::NoExpand(with))
                        .into_owned()
                        .into()
                })
            }
            Self::Prefix(prefix) => {
                grows(size(&value), texts(&value).len(), prefix.len())?;
                each(value, |text| format!("{prefix}{text}").into())
            }
            Self::Suffix(suffix) => {
                grows(size(&value), texts(&value).len(), suffix.len())?;
                each(value, |text| format!("{text}{suffix}").into())
            }
            Self::Truncate(count) => each(value, |text| {
                text.chars().take(*count).collect::<String>().into()
            }),
            Self::Repeat(times) => {
                grows(0, *times, size(&value))?;
                each(value, |text| text.repeat(*times).into())
            }
        })
    }
}

/// The arguments of a filter, taken one by one.
struct Arguments<'a> {
    name: &'a str,
    list: std::vec::IntoIter<Token>,
    taken: usize,
}

impl Arguments<'_> {
    fn literal(&mut self) -> Result<Json, String> {
        self.taken += 1;
        match self.list.next() {
            Some(Token::Text(text)) => Ok(text.into()),
            Some(Token::Number(number)) => Ok(number.into()),
            _ => Err(format!(
                "`{}` needs an argument: a text in quotes or a whole number",
                self.name
            )),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.literal()? {
            Json::String(text) => Ok(text),
            _ => Err(format!(
                "argument {} of `{}` must be a text in quotes",
                self.taken, self.name
            )),
        }
    }

    fn separator(&mut self) -> Result<String, String> {
        let text = self.text()?;
        if text.is_empty() {
            Err(format!(
                "`{}` needs a separator that is not empty",
                self.name
            ))
        } else {
            Ok(text)
        }
    }

    fn pointer(&mut self) -> Result<String, String> {
        let text = self.text()?;
        if text.is_empty() || text.starts_with('/') {
            Ok(text)
        } else {
            Err(format!(
                "`{}` needs a JSON pointer such as \"/name\" or \"/0/name\", found \"{}\"",
                self.name,
                shown(&text)
            ))
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.literal()?;
        value.as_i64().ok_or_else(|| {
            format!(
                "argument {} of `{}` must be a whole number",
                self.taken, self.name
            )
        })
    }

    fn count(&mut self) -> Result<usize, String> {
        let number = self.number()?;
        usize::try_from(number)
            .map_err(|_| format!("`{}` needs a number that is not negative", self.name))
    }

    fn regex(&mut self) -> Result<Regex, String> {
        let text = self.text()?;
        RegexBuilder::new(&text)
            .multi_line(true)
            .size_limit(limits::REGEX_BYTES)
            .build()
            .map_err(|error| {
                let reason = error.to_string();
                let reason = reason
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                format!("\"{}\" is not a regular expression: {reason}", shown(&text))
            })
    }

    fn finish(mut self) -> Result<(), String> {
        match self.list.next() {
            None => Ok(()),
            Some(token) => Err(format!(
                "`{}` takes {} arguments: {token} is one too many",
                self.name, self.taken
            )),
        }
    }
}

/// Applies `f` to a text, or to each entry of a list.
fn each(value: Json, f: impl Fn(&str) -> Json) -> Json {
    match value {
        Json::Null => Json::Null,
        Json::String(text) => f(&text),
        Json::Array(list) => list.iter().map(|entry| f(&to_text(entry))).collect(),
        other => f(&to_text(&other)),
    }
}

/// Applies `f` to a text, or to each entry of a list, and joins the lists that come out.
fn split(value: Json, f: impl Fn(&str) -> Vec<Json>) -> Json {
    match value {
        Json::Null => Json::Null,
        Json::String(text) => f(&text).into(),
        Json::Array(list) => list.iter().flat_map(|entry| f(&to_text(entry))).collect(),
        other => f(&to_text(&other)).into(),
    }
}

/// The entries of a list, or the lines of a text, as a list to change.
fn entries(value: Json, f: impl FnOnce(&mut Vec<Json>)) -> Json {
    match value {
        Json::Null => Json::Null,
        Json::Array(mut list) => {
            f(&mut list);
            list.into()
        }
        other => {
            let mut lines: Vec<Json> = to_text(&other).lines().map(Json::from).collect();
            f(&mut lines);
            joined_lines(&lines)
        }
    }
}

/// A range of a list's entries or of a text's lines.
fn part(value: Json, range: impl FnOnce(usize) -> std::ops::Range<usize>) -> Json {
    entries(value, |list| {
        let range = range(list.len());
        list.truncate(range.end);
        list.drain(..range.start);
    })
}

/// Those entries of a list, or lines of a text, that `test` accepts.
fn keep(value: Json, test: impl Fn(&str) -> bool) -> Json {
    entries(value, |list| list.retain(|entry| test(&to_text(entry))))
}

/// Entry `index` of a list or line `index` of a text, from the end if negative; nothing if there is none.
pub(super) fn nth(value: Json, index: i64) -> Json {
    let list = match value {
        Json::Array(list) => list,
        Json::Null => return Json::Null,
        other => to_text(&other).lines().map(Json::from).collect(),
    };
    let position = if index < 0 {
        usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| list.len().checked_sub(back))
    } else {
        usize::try_from(index).ok()
    };
    position
        .and_then(|position| list.into_iter().nth(position))
        .unwrap_or(Json::Null)
}

fn captured<'t>(found: &regex::Captures<'t>) -> Option<&'t str> {
    found
        .get(1)
        .or_else(|| found.get(0))
        .map(|part| part.as_str())
}

fn first_capture<'t>(regex: &Regex, text: &'t str) -> Option<&'t str> {
    regex.captures(text).as_ref().and_then(captured)
}

/// The number a pattern finds in an entry; entries without one come last.
fn captured_number(regex: &Regex, entry: &Json) -> i64 {
    let text = to_text(entry);
    first_capture(regex, &text)
        .and_then(|number| number.parse().ok())
        .unwrap_or(i64::MIN)
}

fn point(value: &Json, pointer: &str) -> Json {
    match value {
        Json::String(text) => serde_json::from_str::<Json>(text)
            .ok()
            .and_then(|parsed| parsed.pointer(pointer).cloned()),
        other => other.pointer(pointer).cloned(),
    }
    .unwrap_or(Json::Null)
}

fn unique(value: Json) -> Json {
    let mut seen = std::collections::HashSet::new();
    entries(value, |list| {
        list.retain(|entry| seen.insert(to_text(entry)))
    })
}

/// The different entries as `COUNT ENTRY`, most frequent first, equal ones in order of appearance.
fn tally(value: &Json) -> Json {
    let mut positions = std::collections::HashMap::new();
    let mut counts: Vec<(usize, String)> = Vec::new();
    let list = match value {
        Json::Array(list) => list.iter().map(to_text).collect::<Vec<_>>(),
        Json::Null => return Json::Null,
        other => to_text(other).lines().map(str::to_owned).collect(),
    };
    for entry in list {
        let position = *positions.entry(entry.clone()).or_insert_with(|| {
            counts.push((0, entry));
            counts.len() - 1
        });
        counts[position].0 += 1;
    }
    counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counts
        .into_iter()
        .map(|(count, entry)| Json::String(format!("{count} {entry}")))
        .collect()
}

fn length(value: &Json) -> usize {
    match value {
        Json::Null => 0,
        Json::Array(list) => list.len(),
        Json::Object(map) => map.len(),
        other => to_text(other).chars().count(),
    }
}

fn number(value: &Json) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| to_text(value).trim().parse().ok())
}

/// The entries of a list, or the one value, as texts; none for nothing.
fn texts(value: &Json) -> Vec<String> {
    match value {
        Json::Null => Vec::new(),
        Json::Array(list) => list.iter().map(to_text).collect(),
        other => vec![to_text(other)],
    }
}

fn joined_lines(lines: &[Json]) -> Json {
    lines
        .iter()
        .map(to_text)
        .collect::<Vec<_>>()
        .join("\n")
        .into()
}

/// How a value looks in a text: lists one entry per line, objects as JSON.
pub(super) fn to_text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(list) => list.iter().map(to_text).collect::<Vec<_>>().join("\n"),
        Json::Bool(_) | Json::Number(_) | Json::Object(_) => value.to_string(),
    }
}

/// Whether a value counts as true.
pub(super) fn is_true(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_i64() != Some(0),
        Json::String(text) => !text.is_empty(),
        Json::Array(list) => !list.is_empty(),
        Json::Object(map) => !map.is_empty(),
    }
}

/// The bytes a value takes, about.
pub(super) fn size(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len(),
        Json::Array(list) => list
            .iter()
            .map(|entry| size(entry).saturating_add(8))
            .fold(0, usize::saturating_add),
        Json::Object(map) => map
            .iter()
            .map(|(key, entry)| key.len().saturating_add(size(entry)))
            .fold(0, usize::saturating_add),
    }
}

fn grows(base: usize, times: usize, by: usize) -> Result<(), String> {
    let total = times
        .checked_mul(by)
        .and_then(|growth| growth.checked_add(base));
    match total {
        Some(total) if total <= limits::VALUE_BYTES => Ok(()),
        _ => Err(too_long()),
    }
}

fn bounded(text: String) -> Result<Json, String> {
    if text.len() <= limits::VALUE_BYTES {
        Ok(text.into())
    } else {
        Err(too_long())
    }
}

fn too_long() -> String {
    format!(
        "the value would be longer than {} bytes",
        limits::VALUE_BYTES
    )
}
