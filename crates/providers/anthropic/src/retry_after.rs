//! How long the provider asks to wait.
//!
//! `retry-after-ms` counts first, then `retry-after` as seconds (fractions too) or as an HTTP date. What
//! makes no sense (negative, NaN, an exponent, text, nothing, two different headers) is no wish at all: the
//! caller's own backoff applies. Neither is a wait of zero, or a date that has passed. A wish for a year is
//! returned as it is: whoever has a deadline sees that it does not fit.
//!
//! Invariant: a returned wait is above zero and at most [`LONGEST`], so no arithmetic on it can overflow.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Longest wait that is told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// Longest header value that is looked at.
const MAX_VALUE_BYTES: usize = 64;

/// Reads a `retry-after` value.
///
/// `now` is the provider's own time where the response tells it, so that a wrong local clock does not matter.
///
/// # Example
/// ```
/// use std::time::Duration;
/// let now = jiff::Timestamp::UNIX_EPOCH;
/// assert_eq!(otto_anthropic::parse_retry_after("1.5", now), Some(Duration::from_millis(1_500)));
/// assert_eq!(otto_anthropic::parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now), Some(Duration::from_secs(60)));
/// assert_eq!(otto_anthropic::parse_retry_after("-1", now), None);
/// ```
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let wait = decimal(value, 1_000).or_else(|| until(value, now))?;
    (wait > Duration::ZERO).then_some(wait)
}

/// Reads a `retry-after-ms` value.
pub(crate) fn parse_retry_after_ms(value: &str) -> Option<Duration> {
    let wait = decimal(value.trim(), 1)?;
    (wait > Duration::ZERO && value.len() <= MAX_VALUE_BYTES).then_some(wait)
}

/// Reads a `date` header.
pub(crate) fn parse_http_date(value: &str) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(http_date(value)?).ok()
}

fn until(value: &str, now: Timestamp) -> Option<Duration> {
    let wait = http_date(value)?.duration_since(Offset::UTC.to_datetime(now));
    Duration::try_from(wait).ok().map(|wait| wait.min(LONGEST))
}

/// Reads the only date format that HTTP allows to be sent (RFC 9110, section 5.6.7). A civil time, since the
/// last day of the year 9999 is no instant in every time zone.
fn http_date(value: &str) -> Option<DateTime> {
    let value = value.trim();
    let parsed = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", value);
    parsed
        .and_then(|date| date.to_datetime())
        .ok()
        .filter(|_| value.len() <= MAX_VALUE_BYTES)
}

/// Reads digits, optionally with a fraction, as a number of units of `unit_millis` milliseconds.
fn decimal(value: &str, unit_millis: u64) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // More digits than a u64 holds are a wait beyond any deadline.
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let millionths: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let millionths: u64 = millionths.parse().ok()?;
    let micros = whole
        .saturating_mul(unit_millis)
        .saturating_mul(1_000)
        .saturating_add(millionths * unit_millis / 1_000);
    Some(Duration::from_micros(micros).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T12:00:00Z.
    const NOW: i64 = 1_795_348_800;

    fn check(value: &str, expected: Option<Duration>) {
        assert_eq!(
            parse_retry_after(value, Timestamp::from_second(NOW).unwrap()),
            expected,
            "{value:?}"
        );
    }

    #[test]
    fn seconds_are_read() {
        check("1", Some(Duration::from_secs(1)));
        check(" 30 ", Some(Duration::from_secs(30)));
        check("0.25", Some(Duration::from_millis(250)));
        check("1.5", Some(Duration::from_millis(1_500)));
        check("2.000", Some(Duration::from_secs(2)));
        check("86400", Some(Duration::from_secs(86_400)));
        check("0.0000019", Some(Duration::from_micros(1)));
    }

    #[test]
    fn huge_waits_stay_huge_and_do_not_overflow() {
        check("4294967295", Some(LONGEST));
        check("99999999999999999999999999999999", Some(LONGEST));
        check("18446744073709551615.999", Some(LONGEST));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(LONGEST));
    }

    #[test]
    fn nonsense_is_no_wish() {
        for value in [
            "", " ", "0", "0.0", "-1", "-0", "+1", "NaN", "inf", "1e3", "1e400", "1,5", "1.", ".5",
            "1.2.3", "0x10", "soon", "5 s", "5, 5", "5;5", "\u{661}", "1\0",
        ] {
            check(value, None);
        }
        check(&"1".repeat(65), None);
        check(&"9".repeat(100_000), None);
    }

    #[test]
    fn dates_are_read() {
        check(
            "Sun, 22 Nov 2026 12:00:30 GMT",
            Some(Duration::from_secs(30)),
        );
        check("Sun, 22 Nov 2026 11:59:59 GMT", None);
        check("Sun, 22 Nov 2026 12:00:00 GMT", None);
        check("Thu, 01 Jan 1970 00:00:00 GMT", None);
        check("Sun, 99 Nov 2026 12:00:30 GMT", None);
        check("2026-11-22T12:00:30Z", None);
    }

    #[test]
    fn milliseconds_are_read() {
        assert_eq!(
            parse_retry_after_ms("1500"),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(
            parse_retry_after_ms("0.5"),
            Some(Duration::from_micros(500))
        );
        assert_eq!(
            parse_retry_after_ms("99999999999999999999999"),
            Some(LONGEST)
        );
        for value in ["", "0", "-5", "NaN", "1e9", "x"] {
            assert_eq!(parse_retry_after_ms(value), None, "{value:?}");
        }
    }
}
