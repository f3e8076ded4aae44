//! Limits as people write them: `5m`, `1h30m`, `200k`, `1.5M`, `$0.50`.
//!
//! Whole numbers only inside: text is read digit by digit, nothing is rounded silently, and what does not fit
//! is an error. Money is parsed by [`Money`] itself.
//!
//! Invariant: a limit read here is above zero and at most the maximum of its kind.

use std::fmt::Write as _;
use std::time::Duration;

use otto_core::Money;
use otto_core::compaction::CompactionRule;

/// The longest duration that can be configured: 366 days.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// The most tokens or turns that can be configured: 10^12.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// The form of a duration, for messages and the schema.
pub const DURATION_FORM: &str = "a number with a unit (`d`, `h`, `m`, `s`, `ms`), largest unit first, such as `5m`, `90s` or `1h30m`; at most 366d";

/// The form of a count of tokens, for messages and the schema.
pub const COUNT_FORM: &str = "a whole number above zero, also with `k` or `M`, such as `50000`, `200k` or `1.5M`; at most 1000000M";

/// The form of an amount of money, for messages and the schema.
pub const MONEY_FORM: &str = "US dollars above zero, such as `$0.50` or `2`, below $9,000,000";

/// The form of a number of turns, for messages and the schema.
pub const TURNS_FORM: &str = "a whole number above zero, such as 30";

/// The form of a moment of compaction, for messages and the schema.
pub const COMPACTION_FORM: &str =
    "a share of the model's window from 10% to 95%, such as `80%`, or `never`";

/// A text that is not a limit of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}", describe(.given, .problem))]
pub struct InvalidLimit {
    given: String,
    problem: Problem,
    expected: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Form(&'static str),
    Zero,
    TooLarge,
}

fn describe(given: &str, problem: &Problem) -> String {
    match problem {
        Problem::Form(what) => format!("{given} is not {what}"),
        Problem::Zero => format!("{given} would forbid everything"),
        Problem::TooLarge => format!("{given} is too large"),
    }
}

impl InvalidLimit {
    fn new(text: &str, problem: Problem, expected: &'static str) -> Self {
        Self {
            given: crate::diagnostic::quoted(text),
            problem,
            expected,
        }
    }

    /// What is wrong, without what was expected.
    #[must_use]
    pub fn problem(&self) -> String {
        describe(&self.given, &self.problem)
    }

    /// What was expected.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }
}

/// Reads a duration: units `d`, `h`, `m`, `s`, `ms`, each at most once, the largest first.
///
/// # Errors
/// When the text has another form, is zero or is longer than [`MAX_DURATION`].
///
/// # Example
/// ```
/// use std::time::Duration;
/// assert_eq!(otto::limits::parse_duration("1h30m")?, Duration::from_secs(5_400));
/// assert!(otto::limits::parse_duration("5 parsecs").is_err());
/// # Ok::<(), otto::limits::InvalidLimit>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, InvalidLimit> {
    let invalid = |problem| InvalidLimit::new(text, problem, DURATION_FORM);
    let form = || invalid(Problem::Form("a duration"));
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut total_ms: u64 = 0;
    let mut next_unit = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(form());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let position = UNITS[next_unit..]
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(form)?
            + next_unit;
        if number.is_empty() {
            return Err(form());
        }
        // All digits: the only way to fail is a number that is too large.
        let number: u64 = number.parse().map_err(|_| invalid(Problem::TooLarge))?;
        total_ms = number
            .checked_mul(UNITS[position].1)
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(|| invalid(Problem::TooLarge))?;
        next_unit = position + 1;
        rest = &rest[digits + letters..];
    }
    match Duration::from_millis(total_ms) {
        Duration::ZERO => Err(invalid(Problem::Zero)),
        duration if duration > MAX_DURATION => Err(invalid(Problem::TooLarge)),
        duration => Ok(duration),
    }
}

/// Reads a count of tokens: digits, optionally with a fraction and `k` (thousand) or `M` (million).
///
/// # Errors
/// When the text has another form, is not a whole number in the end, is zero or above [`MAX_COUNT`].
///
/// # Example
/// ```
/// assert_eq!(otto::limits::parse_count("1.5M")?, 1_500_000);
/// assert!(otto::limits::parse_count("1.5").is_err());
/// # Ok::<(), otto::limits::InvalidLimit>(())
/// ```
pub fn parse_count(text: &str) -> Result<u64, InvalidLimit> {
    let invalid = |problem| InvalidLimit::new(text, problem, COUNT_FORM);
    let form = || invalid(Problem::Form("a count"));
    let (number, zeros) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 3),
        None => text
            .strip_suffix('M')
            .map_or((text, 0), |number| (number, 6)),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(form()),
        None => (number, ""),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > zeros {
        return Err(form());
    }
    let count: u64 = format!("{whole}{fraction:0<zeros$}")
        .parse()
        .map_err(|_| invalid(Problem::TooLarge))?;
    match count {
        0 => Err(invalid(Problem::Zero)),
        count if count > MAX_COUNT => Err(invalid(Problem::TooLarge)),
        count => Ok(count),
    }
}

/// Reads when a history is compacted: a share of the window in percent, or `never` (`None`).
///
/// # Errors
/// When the text is neither, or the share is outside [`CompactionRule::RANGE`].
///
/// # Example
/// ```
/// let rule = otto::limits::parse_compaction("80%")?.expect("not `never`");
/// assert_eq!(rule.threshold_percent(), 80);
/// assert_eq!(otto::limits::parse_compaction("never")?, None);
/// assert!(otto::limits::parse_compaction("100%").is_err());
/// # Ok::<(), otto::limits::InvalidLimit>(())
/// ```
pub fn parse_compaction(text: &str) -> Result<Option<CompactionRule>, InvalidLimit> {
    if text == "never" {
        return Ok(None);
    }
    let rule = text
        .strip_suffix('%')
        .filter(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .and_then(CompactionRule::at_percent);
    rule.map(Some)
        .ok_or_else(|| InvalidLimit::new(text, Problem::Form("such a share"), COMPACTION_FORM))
}

/// Reads a number of turns: digits only.
///
/// # Errors
/// When the text is not a whole number, is zero or above `u32::MAX`.
pub fn parse_turns(text: &str) -> Result<u32, InvalidLimit> {
    let invalid = |problem| InvalidLimit::new(text, problem, TURNS_FORM);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(Problem::Form("a number of turns")));
    }
    match text.parse::<u32>() {
        Ok(0) => Err(invalid(Problem::Zero)),
        Ok(turns) => Ok(turns),
        Err(_) => Err(invalid(Problem::TooLarge)),
    }
}

/// Reads an amount of money that limits something.
///
/// # Errors
/// When the text is not an amount or is zero.
pub fn parse_money(text: &str) -> Result<Money, InvalidLimit> {
    let invalid = |problem| InvalidLimit::new(text, problem, MONEY_FORM);
    match text.parse::<Money>() {
        Ok(Money::ZERO) => Err(invalid(Problem::Zero)),
        Ok(money) => Ok(money),
        Err(_) => Err(invalid(Problem::Form("an amount of money"))),
    }
}

/// A duration as [`parse_duration`] reads it, down to milliseconds: `1h30m`, `90ms`, `0s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut shown = String::new();
    for (unit, ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        let count = rest_ms / ms;
        rest_ms %= ms;
        if count > 0 {
            write!(shown, "{count}{unit}").expect("writing to a string cannot fail");
        }
    }
    if shown.is_empty() {
        "0s".to_owned()
    } else {
        shown
    }
}

/// A count as [`parse_count`] reads it, short where that is exact: `200k`, `1.5M`, `1234`.
#[must_use]
pub fn show_count(count: u64) -> String {
    let short = |unit: u64, name: &str| {
        let (whole, rest) = (count / unit, count % unit);
        let tenth = unit / 10;
        (whole > 0 && rest % tenth == 0).then(|| match rest / tenth {
            0 => format!("{whole}{name}"),
            tenths => format!("{whole}.{tenths}{name}"),
        })
    };
    short(1_000_000, "M")
        .or_else(|| short(1_000, "k"))
        .unwrap_or_else(|| count.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, ms, shown) in [
            ("5m", 300_000, "5m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("500ms", 500, "500ms"),
            ("1m500ms", 60_500, "1m500ms"),
            ("7d", 604_800_000, "7d"),
            ("0m1s", 1_000, "1s"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(ms), "{text}");
            assert_eq!(show_duration(duration), shown);
            assert_eq!(parse_duration(shown).unwrap(), duration);
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_its_reason() {
        let form = |text: &str| format!("`{text}` is not a duration");
        for text in [
            "",
            "-1",
            "5",
            "5 parsecs",
            "m",
            "5m5m",
            "5s5m",
            "1.5h",
            "5M",
            " 5m",
            "5m ",
            "+5m",
            "5µs",
            "٥m",
        ] {
            assert_eq!(parse_duration(text).unwrap_err().problem(), form(text));
        }
        for text in ["0s", "0h0m"] {
            assert_eq!(
                parse_duration(text).unwrap_err().problem(),
                format!("`{text}` would forbid everything")
            );
        }
        for text in [
            "367d",
            "99999999999999999999s",
            "18446744073709551615d",
            "1h99999999999999999ms",
        ] {
            assert_eq!(
                parse_duration(text).unwrap_err().problem(),
                format!("`{text}` is too large"),
                "{text}"
            );
        }
    }

    #[test]
    fn counts_round_trip() {
        for (text, count, shown) in [
            ("1", 1, "1"),
            ("200k", 200_000, "200k"),
            ("200K", 200_000, "200k"),
            ("1.5M", 1_500_000, "1.5M"),
            ("0.001k", 1, "1"),
            ("1234", 1_234, "1234"),
            ("12500", 12_500, "12.5k"),
            ("1000000M", MAX_COUNT, "1000000M"),
        ] {
            assert_eq!(parse_count(text), Ok(count));
            assert_eq!(show_count(count), shown);
            assert_eq!(parse_count(shown), Ok(count));
        }
    }

    #[test]
    fn what_is_not_a_count_is_refused() {
        for text in [
            "", "k", "-1", "1.5", "1.0001k", "1e6", "1_000", "1,000", "200 k", "200m", "200kk",
            ".5k", "5.k", "0x10", "inf",
        ] {
            assert_eq!(
                parse_count(text).unwrap_err().problem(),
                format!("`{text}` is not a count")
            );
        }
        assert_eq!(
            parse_count("0k").unwrap_err().problem(),
            "`0k` would forbid everything"
        );
        for text in ["1000001M", "18446744073709551616", "99999999999999999999M"] {
            assert_eq!(
                parse_count(text).unwrap_err().problem(),
                format!("`{text}` is too large")
            );
        }
    }

    #[test]
    fn money_limits_are_above_zero() {
        assert_eq!(parse_money("$0.50").unwrap().to_string(), "$0.50");
        assert!(parse_money("$0").is_err());
        assert!(parse_money("0.5 EUR").is_err());
        assert_eq!(
            parse_money("-1").unwrap_err().to_string(),
            format!("`-1` is not an amount of money: expected {MONEY_FORM}")
        );
    }
}
