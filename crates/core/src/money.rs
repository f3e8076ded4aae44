//! Money: whole picodollars.
//!
//! One US dollar per million tokens is 10^6 picodollars per token, so every list price is an integer
//! and every cost is exact. There is no floating point and no rounding here; text is parsed digit by
//! digit.
//!
//! Invariant: an amount is never negative and never above [`Money::MAX`]; arithmetic that would leave
//! that range is `None`, never a wrapped number.

use std::fmt;
use std::str::FromStr;

/// An amount of US dollars in whole picodollars (10^-12 USD).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Money(u64);

const PICODOLLARS_PER_DOLLAR: u64 = 1_000_000_000_000;
const DECIMALS: usize = 12;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The largest amount: what a signed 64-bit database column holds, about 9.2 million USD.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// From picodollars; `None` above [`Money::MAX`].
    #[must_use]
    pub const fn from_picodollars(picodollars: u64) -> Option<Self> {
        if picodollars <= Self::MAX.0 {
            Some(Self(picodollars))
        } else {
            None
        }
    }

    /// From whole dollars; saturates at [`Money::MAX`].
    #[must_use]
    pub const fn from_dollars(dollars: u32) -> Self {
        // A u32 of dollars times 10^12 can exceed the maximum; the product fits u128 and is capped.
        let amount = dollars as u128 * PICODOLLARS_PER_DOLLAR as u128;
        if amount > Self::MAX.0 as u128 {
            Self::MAX
        } else {
            Self(dollars as u64 * PICODOLLARS_PER_DOLLAR)
        }
    }

    /// The amount in picodollars.
    #[must_use]
    pub const fn picodollars(self) -> u64 {
        self.0
    }

    /// The amount in picodollars as databases store it.
    #[must_use]
    pub const fn picodollars_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// Restores an amount from a database column; `None` when negative.
    #[must_use]
    pub const fn from_picodollars_i64(picodollars: i64) -> Option<Self> {
        if picodollars < 0 {
            None
        } else {
            Some(Self(picodollars.cast_unsigned()))
        }
    }

    /// The sum, or `None` above [`Money::MAX`].
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Self::from_picodollars(sum),
            None => None,
        }
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The amount `count` times, or `None` above [`Money::MAX`].
    #[must_use]
    pub const fn checked_mul(self, count: u64) -> Option<Self> {
        match self.0.checked_mul(count) {
            Some(product) => Self::from_picodollars(product),
            None => None,
        }
    }

    /// The sum, capped at [`Money::MAX`]. For limits and displays; a ledger uses [`Money::checked_add`].
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        self.checked_add(other).unwrap_or(Self::MAX)
    }

    /// The difference, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Money {
    /// Exact, with at least two decimals: `$0.50`, `$0.000125`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.0 / PICODOLLARS_PER_DOLLAR;
        let fraction = format!(
            "{:0width$}",
            self.0 % PICODOLLARS_PER_DOLLAR,
            width = DECIMALS
        );
        let digits = fraction.trim_end_matches('0').len().max(2);
        f.pad(&format!("${dollars}.{}", &fraction[..digits]))
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Money({self})")
    }
}

/// A text that is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not an amount of money: expected US dollars such as `$0.50` or `2`, with at most 12 decimals and below $9,000,000"
)]
pub struct InvalidMoney {
    given: String,
}

impl FromStr for Money {
    type Err = InvalidMoney;

    /// Reads `0.50`, `$0.50` or `2`. No sign, no exponent, no separators: `1e3`, `-1`, `NaN` are refused.
    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        let invalid = || InvalidMoney {
            given: text
                .chars()
                .take(40)
                .flat_map(char::escape_default)
                .collect(),
        };
        let number = text.strip_prefix('$').unwrap_or(text);
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(invalid()),
            None => (number, ""),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > DECIMALS {
            return Err(invalid());
        }
        let dollars: u64 = whole.parse().map_err(|_| invalid())?;
        let picodollars: u64 = format!("{fraction:0<DECIMALS$}")
            .parse()
            .map_err(|_| invalid())?;
        dollars
            .checked_mul(PICODOLLARS_PER_DOLLAR)
            .and_then(|amount| amount.checked_add(picodollars))
            .and_then(Self::from_picodollars)
            .ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for (text, shown) in [
            ("0", "$0.00"),
            ("0.5", "$0.50"),
            ("$0.50", "$0.50"),
            ("10", "$10.00"),
            ("0.000000000001", "$0.000000000001"),
            ("9223372.036854775807", "$9223372.036854775807"),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!(money.to_string(), shown);
            assert_eq!(shown.parse::<Money>(), Ok(money));
        }
    }

    #[test]
    fn what_is_not_money_is_refused() {
        for text in [
            "",
            "$",
            "-1",
            "+1",
            "1e3",
            "NaN",
            "inf",
            ".5",
            "5.",
            "1,000",
            " 1",
            "1 ",
            "$$1",
            "0x1",
            "0.0000000000001",
            "9223372.036854775808",
            "99999999999999999999",
            "5 parsecs",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ten_dimes_are_a_dollar() {
        let dime: Money = "0.1".parse().unwrap();
        let sum = (0..10)
            .try_fold(Money::ZERO, |sum, _| sum.checked_add(dime))
            .unwrap();
        assert_eq!(sum, Money::from_dollars(1));
    }

    #[test]
    fn arithmetic_does_not_wrap() {
        assert_eq!(Money::MAX.checked_add(Money(1)), None);
        assert_eq!(Money::MAX.checked_mul(2), None);
        assert_eq!(Money::ZERO.checked_sub(Money(1)), None);
        assert_eq!(Money::from_dollars(u32::MAX), Money::MAX);
    }
}
