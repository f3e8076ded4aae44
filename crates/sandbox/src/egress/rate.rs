//! How often one host may be connected to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

// BOUND: hosts that are remembered; an allowlist with wildcards has no end. Beyond it, the one that was asked
// for longest ago is forgotten, which can only be one whose allowance is long full again or one of very many.
const MAX_HOSTS: usize = 1024;

/// How often one host may be connected to by one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectRate {
    /// Connections at once before the rate begins to count.
    pub burst: u32,
    /// Connections per minute after that.
    pub per_minute: u32,
}

impl Default for ConnectRate {
    fn default() -> Self {
        Self {
            burst: 20,
            per_minute: 120,
        }
    }
}

impl ConnectRate {
    /// The share of one of `parts` processes, so that all of them together stay below the whole.
    pub(crate) fn share(self, parts: usize) -> Self {
        let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
        Self {
            burst: (self.burst / parts).max(1),
            per_minute: (self.per_minute / parts).max(1),
        }
    }
}

/// The allowances of all hosts.
#[derive(Debug)]
pub(super) struct Rates {
    rate: ConnectRate,
    hosts: BTreeMap<String, Allowance>,
}

/// What is left of a burst at some moment, in thousandths of a connection.
#[derive(Debug)]
struct Allowance {
    left: u64,
    at: Instant,
}

const WHOLE: u64 = 1000;

impl Rates {
    pub(super) fn new(rate: ConnectRate) -> Self {
        Self {
            rate,
            hosts: BTreeMap::new(),
        }
    }

    /// Takes one connection to `host`, or says how long to wait for one.
    pub(super) fn take(&mut self, host: &str, now: Instant) -> Result<(), Duration> {
        let full = u64::from(self.rate.burst.max(1)) * WHOLE;
        let per_minute = u64::from(self.rate.per_minute.max(1)) * WHOLE;
        if !self.hosts.contains_key(host) && self.hosts.len() >= MAX_HOSTS {
            let oldest = self
                .hosts
                .iter()
                .min_by_key(|(_, allowance)| allowance.at)
                .map(|(host, _)| host.clone());
            oldest.map(|host| self.hosts.remove(&host));
        }
        let allowance = self.hosts.entry(host.to_owned()).or_insert(Allowance {
            left: full,
            at: now,
        });
        let passed = u64::try_from(now.saturating_duration_since(allowance.at).as_millis())
            .unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(per_minute) / 60_000;
        if gained > 0 {
            allowance.left = allowance.left.saturating_add(gained).min(full);
            allowance.at = now;
        }
        if allowance.left >= WHOLE {
            allowance.left -= WHOLE;
            return Ok(());
        }
        let missing = WHOLE - allowance.left;
        Err(Duration::from_millis(
            (missing * 60_000).div_ceil(per_minute),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut rates = Rates::new(ConnectRate {
            burst: 3,
            per_minute: 60,
        });
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(rates.take("a", start), Ok(()));
        }
        assert_eq!(rates.take("a", start), Err(Duration::from_secs(1)));
        assert_eq!(
            rates.take("b", start),
            Ok(()),
            "another host has its own allowance"
        );
        assert_eq!(rates.take("a", start + Duration::from_secs(1)), Ok(()));
        assert!(rates.take("a", start + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn asking_often_does_not_lose_time() {
        let mut rates = Rates::new(ConnectRate {
            burst: 1,
            per_minute: 60,
        });
        let start = Instant::now();
        let granted = (0..10_000)
            .filter(|ms| rates.take("a", start + Duration::from_millis(*ms)).is_ok())
            .count();
        assert!((10..=11).contains(&granted), "{granted} in ten seconds");
    }

    #[test]
    fn the_number_of_hosts_is_bounded() {
        let mut rates = Rates::new(ConnectRate::default());
        let start = Instant::now();
        for number in 0..3000_u64 {
            assert_eq!(
                rates.take(&number.to_string(), start + Duration::from_millis(number)),
                Ok(())
            );
        }
        assert_eq!(rates.hosts.len(), MAX_HOSTS);
    }

    #[test]
    fn shares_stay_below_the_whole() {
        let share = ConnectRate {
            burst: 20,
            per_minute: 120,
        }
        .share(4);
        assert_eq!(
            share,
            ConnectRate {
                burst: 5,
                per_minute: 30
            }
        );
        assert_eq!(
            ConnectRate {
                burst: 1,
                per_minute: 1
            }
            .share(100),
            ConnectRate {
                burst: 1,
                per_minute: 1
            }
        );
    }
}
