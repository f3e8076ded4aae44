//! Money for people: at most six decimals, never rounded down.

use otto::Money;

/// An amount with two to six decimals. What is cut off is rounded up, so that nothing looks cheaper than it was.
pub(crate) fn show_money(money: Money) -> String {
    const PICODOLLARS_PER_MICRODOLLAR: u64 = 1_000_000;
    let micros = money.picodollars().div_ceil(PICODOLLARS_PER_MICRODOLLAR);
    let fraction = format!("{:06}", micros % 1_000_000);
    let digits = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", micros / 1_000_000, &fraction[..digits])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_never_too_low() {
        for (text, shown) in [
            ("0", "$0.00"),
            ("0.5", "$0.50"),
            ("12.3456", "$12.3456"),
            ("0.000000000001", "$0.000001"),
            ("0.1234561", "$0.123457"),
            ("0.9999999", "$1.00"),
        ] {
            assert_eq!(show_money(text.parse().unwrap()), shown);
        }
    }
}
