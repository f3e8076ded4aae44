//! The circuit breaker: calls to a provider that is down are not made.
//!
//! After a number of failures in a row it opens for a pause; then one call, the probe, may try. If the
//! provider answers the probe, the circuit closes, else the next pause is twice as long. So a hundred agents
//! that all meet an overloaded provider become one request per pause.
//!
//! The machine is pure: time comes in as a duration since any fixed origin.
//!
//! Invariant: while the circuit is not closed, at most one call is admitted per pause.

use std::time::Duration;

/// When to open and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open the circuit; at least one.
    pub failures_to_open: u32,
    /// The first pause.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

impl Default for BreakerConfig {
    /// Eight failures, one second to thirty.
    fn default() -> Self {
        Self {
            failures_to_open: 8,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// A probe that has not reported for so long does not hold up the next one.
// BOUND: longer than any connect timeout, shorter than people wait.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Allowed,
    /// Yes, and its fate decides for all. The number names the probe.
    Probe(u64),
    /// No; another try makes sense after this time.
    Refused {
        /// Above zero.
        retry_after: Duration,
    },
}

/// The state shared by all calls to one provider.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    state: State,
    /// Failures since the last reply that ended well.
    failures: u32,
    /// Pauses since the last reply that ended well.
    pauses: u32,
    probes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    Probing { probe: u64, since: Duration },
}

impl CircuitBreaker {
    /// A closed circuit.
    #[must_use]
    pub const fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            failures: 0,
            pauses: 0,
            probes: 0,
        }
    }

    /// Asks whether a call may be made now.
    pub fn admit(&mut self, now: Duration) -> Admission {
        let is_due = match self.state {
            State::Closed => return Admission::Allowed,
            State::Open { until } => now >= until,
            State::Probing { since, .. } => now >= since.saturating_add(PROBE_PATIENCE),
        };
        if is_due {
            self.probes += 1;
            self.state = State::Probing {
                probe: self.probes,
                since: now,
            };
            return Admission::Probe(self.probes);
        }
        let retry_after = match self.state {
            State::Open { until } => until.saturating_sub(now),
            State::Closed | State::Probing { .. } => self.config.first_pause,
        };
        Admission::Refused {
            retry_after: retry_after.max(Duration::from_millis(1)),
        }
    }

    /// The provider answered this call like one that is up: it began a reply or refused the request.
    pub fn answered(&mut self, admission: Admission) {
        if self.is_current_probe(admission) {
            self.state = State::Closed;
            self.failures = 0;
        }
    }

    /// The call's reply ended well.
    pub fn finished(&mut self, admission: Admission) {
        self.answered(admission);
        if self.state == State::Closed {
            self.failures = 0;
            self.pauses = 0;
        }
    }

    /// The call failed in a way that speaks against the provider.
    pub fn failed(&mut self, admission: Admission, now: Duration) {
        match self.state {
            State::Closed => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.config.failures_to_open {
                    self.open(now);
                }
            }
            State::Probing { .. } if self.is_current_probe(admission) => self.open(now),
            // Calls from before the circuit opened: what they met is known already.
            State::Open { .. } | State::Probing { .. } => {}
        }
    }

    /// The call was dropped before anything was known. If it was the probe, the next call is.
    pub fn abandoned(&mut self, admission: Admission, now: Duration) {
        if self.is_current_probe(admission) {
            self.state = State::Open { until: now };
        }
    }

    /// Failures since the last reply that ended well.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn open(&mut self, now: Duration) {
        let pause = self
            .config
            .first_pause
            .saturating_mul(1 << self.pauses.min(16));
        self.pauses = self.pauses.saturating_add(1);
        self.state = State::Open {
            until: now.saturating_add(pause.min(self.config.longest_pause)),
        };
    }

    fn is_current_probe(&self, admission: Admission) -> bool {
        matches!(
            (self.state, admission),
            (State::Probing { probe, .. }, Admission::Probe(own)) if probe == own
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn refused(millis: u64) -> Admission {
        Admission::Refused {
            retry_after: at(millis),
        }
    }

    fn opened() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(BreakerConfig::default());
        for _ in 0..8 {
            assert_eq!(breaker.admit(at(0)), Admission::Allowed);
            breaker.failed(Admission::Allowed, at(0));
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = CircuitBreaker::new(BreakerConfig::default());
        for _ in 0..100 {
            for _ in 0..7 {
                breaker.failed(Admission::Allowed, at(0));
            }
            breaker.finished(Admission::Allowed);
        }
        assert_eq!(breaker.admit(at(0)), Admission::Allowed);
        assert_eq!(opened().admit(at(999)), refused(1));
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = opened();
        let probe = breaker.admit(at(1_000));
        assert_eq!(probe, Admission::Probe(1));
        assert_eq!(breaker.admit(at(1_000)), refused(1_000), "only one");
        breaker.answered(probe);
        assert_eq!(breaker.admit(at(1_001)), Admission::Allowed);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut breaker = opened();
        let mut now = 1_000;
        for pause in [2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let probe = breaker.admit(at(now));
            assert!(matches!(probe, Admission::Probe(_)), "at {now}");
            breaker.failed(probe, at(now));
            assert_eq!(breaker.admit(at(now)), refused(pause));
            now += pause;
        }
        let probe = breaker.admit(at(now));
        breaker.finished(probe);
        for _ in 0..8 {
            breaker.failed(Admission::Allowed, at(now));
        }
        assert_eq!(
            breaker.admit(at(now)),
            refused(1_000),
            "a good end starts anew"
        );
    }

    #[test]
    fn calls_from_before_neither_close_nor_extend() {
        let mut breaker = opened();
        breaker.failed(Admission::Allowed, at(900));
        breaker.answered(Admission::Allowed);
        breaker.finished(Admission::Allowed);
        breaker.abandoned(Admission::Allowed, at(900));
        assert_eq!(breaker.admit(at(900)), refused(100));
        assert!(matches!(breaker.admit(at(1_000)), Admission::Probe(_)));
    }

    #[test]
    fn a_lost_probe_does_not_block_for_ever() {
        let mut breaker = opened();
        let dropped = breaker.admit(at(1_000));
        breaker.abandoned(dropped, at(1_100));
        let silent = breaker.admit(at(1_100));
        assert_eq!(silent, Admission::Probe(2));
        assert_eq!(breaker.admit(at(61_000)), refused(1_000));
        let next = breaker.admit(at(61_100));
        assert_eq!(next, Admission::Probe(3));
        breaker.failed(silent, at(61_200));
        breaker.answered(silent);
        breaker.abandoned(dropped, at(61_200));
        assert_eq!(
            breaker.admit(at(61_200)),
            refused(1_000),
            "old probes have no say"
        );
        breaker.answered(next);
        assert_eq!(breaker.admit(at(61_300)), Admission::Allowed);
    }

    #[test]
    fn a_hundred_agents_become_one_request_per_pause() {
        let mut breaker = CircuitBreaker::new(BreakerConfig::default());
        let mut admitted = 0;
        for now in 0..60_000u64 {
            for _ in 0..if now == 0 { 100 } else { 2 } {
                match breaker.admit(at(now)) {
                    Admission::Refused { .. } => {}
                    admission => {
                        admitted += 1;
                        breaker.failed(admission, at(now));
                    }
                }
            }
        }
        assert!(admitted <= 8 + 7, "{admitted} requests in a minute");
    }
}
