//! Time as data.
//!
//! A [`Timestamp`] is microseconds since 1970-01-01 UTC on the *engine's* clock: read once from the
//! wall at start, then moved by a monotonic clock, so that a jump of the wall clock neither lengthens
//! nor shortens a deadline. Which UTC day money belongs to is decided by the store's own clock.
//!
//! Invariant: arithmetic saturates; no time value can overflow into the past.

use std::fmt;
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The first instant.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// This time plus a duration; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The UTC day this instant falls on.
    #[must_use]
    pub fn day(self) -> UtcDay {
        const MICROS_PER_DAY: u64 = 86_400 * 1_000_000;
        UtcDay(u32::try_from(self.0 / MICROS_PER_DAY).unwrap_or(u32::MAX))
    }
}

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UtcDay(pub u32);

impl UtcDay {
    /// Year, month (1 to 12) and day (1 to 31) in the proleptic Gregorian calendar.
    #[must_use]
    pub fn civil(self) -> (u64, u32, u32) {
        // Days are grouped into 400-year eras of 146,097 days that begin on March 1st, so that the
        // leap day is the last day of its year and needs no special case.
        let days = u64::from(self.0) + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let small = |n: u64| u32::try_from(n).expect("a month or a day of the month is at most 31");
        (year, small(month), small(day))
    }
}

impl fmt::Display for UtcDay {
    /// `2026-11-23`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_names() {
        for (seconds, name) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_391_999, "2026-11-22"),
            (1_795_392_000, "2026-11-23"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(
                Timestamp::from_millis(seconds * 1_000).day().to_string(),
                name
            );
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(
            Timestamp::from_micros(u64::MAX)
                .after(Duration::MAX)
                .micros(),
            u64::MAX
        );
        assert_eq!(
            Timestamp::EPOCH.since(Timestamp::from_millis(5)),
            Duration::ZERO
        );
    }
}
