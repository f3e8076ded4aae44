//! Times on the command line of `otto usage`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otto::Timestamp;

use crate::error::Failure;

/// Reads a date in UTC (its beginning) or a time of RFC 3339.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    let expected = "expected a date such as 2026-11-01 or a time such as 2026-11-01T12:00:00Z";
    let midnight = format!("{text}T00:00:00Z");
    let at: jiff::Timestamp = text
        .parse()
        .or_else(|_| midnight.parse())
        .map_err(|_| expected.to_owned())?;
    u64::try_from(at.as_microsecond())
        .map(Timestamp::from_micros)
        .map_err(|_| expected.to_owned())
}

/// The time this long before now.
pub(super) fn before_now(last: Duration) -> Result<Timestamp, Failure> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| Failure::doing("read the clock", &error))?;
    Ok(Timestamp::EPOCH.after(since.saturating_sub(last)))
}

pub(super) fn now() -> Result<Timestamp, Failure> {
    before_now(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_their_beginning_in_utc() {
        let noon = parse("2026-11-28T12:00:00Z").unwrap();
        let day = parse("2026-11-28").unwrap();
        assert_eq!(noon.since(day), Duration::from_secs(12 * 3600));
        assert_eq!(parse("2026-11-28T13:00:00+01:00").unwrap(), noon);
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "28.11.2026",
            "2026-11-28T12:00",
        ] {
            assert!(parse(text).unwrap_err().contains("2026-11-01"), "{text}");
        }
    }
}
