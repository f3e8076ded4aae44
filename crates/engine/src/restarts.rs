//! Restart rules as data: whether a child that ended is started again, and after how long.
//!
//! Invariant: within the rule's time a child is started again at most `intensity` times.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends: what has to be there all the time.
    Always,
    /// When it panicked.
    OnFailure,
    /// Never: it does its work once.
    Never,
}

/// How a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartRule {
    /// When.
    pub restart: Restart,
    /// How often within [`RestartRule::within`]; once more, and it is given up.
    pub intensity: u32,
    /// The time in which restarts are counted.
    pub within: Duration,
    /// The wait before the second restart in that time; it doubles with each. The first does not wait.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl RestartRule {
    /// Infrastructure: always, up to ten times in a minute.
    pub const INFRASTRUCTURE: Self = Self {
        restart: Restart::Always,
        intensity: 10,
        within: Duration::from_secs(60),
        backoff: Duration::from_millis(10),
        backoff_max: Duration::from_secs(2),
    };

    /// An agent: after a panic, by replay of its journal, up to three times.
    pub const AGENT: Self = Self {
        restart: Restart::OnFailure,
        intensity: 3,
        // BOUND: longer than any invocation is useful, so the three are three in all.
        within: Duration::from_secs(86_400),
        backoff: Duration::from_millis(50),
        backoff_max: Duration::from_secs(1),
    };

    /// Work that is done once.
    pub const ONCE: Self = Self {
        restart: Restart::Never,
        intensity: 0,
        within: Duration::ZERO,
        backoff: Duration::ZERO,
        backoff_max: Duration::ZERO,
    };
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Returned,
    Panicked,
}

/// What becomes of a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after this wait.
    Again(Duration),
    /// It was not meant to go on.
    Done,
    /// It was to go on, and ends too often.
    GivenUp,
}

/// The restarts of one child so far.
#[derive(Debug)]
pub(crate) struct Restarts {
    rule: RestartRule,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub(crate) const fn new(rule: RestartRule) -> Self {
        Self {
            rule,
            recent: VecDeque::new(),
        }
    }

    /// Decides on a child that ended now.
    pub(crate) fn decide(&mut self, now: Instant, ending: Ending) -> Verdict {
        match (self.rule.restart, ending) {
            (Restart::Always, _) | (Restart::OnFailure, Ending::Panicked) => {}
            (Restart::OnFailure, Ending::Returned) | (Restart::Never, Ending::Returned) => {
                return Verdict::Done;
            }
            (Restart::Never, Ending::Panicked) => return Verdict::GivenUp,
        }
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) >= self.rule.within)
        {
            self.recent.pop_front();
        }
        let made = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if made >= self.rule.intensity {
            return Verdict::GivenUp;
        }
        self.recent.push_back(now);
        let wait = match made.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                let wait = self.rule.backoff.saturating_mul(factor);
                wait.min(self.rule.backoff_max)
            }
        };
        Verdict::Again(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RestartRule = RestartRule {
        restart: Restart::Always,
        intensity: 4,
        within: Duration::from_secs(10),
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_millis(250),
    };

    #[test]
    fn the_first_restart_is_at_once_and_the_waits_grow_to_their_bound() {
        let start = Instant::now();
        let mut restarts = Restarts::new(RULE);
        let waits: Vec<_> = (0..5)
            .map(|_| restarts.decide(start, Ending::Panicked))
            .collect();
        let after = |millis| Verdict::Again(Duration::from_millis(millis));
        assert_eq!(
            waits,
            [
                after(0),
                after(100),
                after(200),
                after(250),
                Verdict::GivenUp
            ]
        );
        // Restarts of long ago do not count.
        let later = start + RULE.within;
        assert_eq!(restarts.decide(later, Ending::Returned), after(0));
    }

    #[test]
    fn what_ends_by_itself_is_started_again_only_if_it_must_be_there() {
        let now = Instant::now();
        let decide =
            |restart, ending| Restarts::new(RestartRule { restart, ..RULE }).decide(now, ending);
        let again = Verdict::Again(Duration::ZERO);
        assert_eq!(decide(Restart::Always, Ending::Returned), again);
        assert_eq!(decide(Restart::OnFailure, Ending::Returned), Verdict::Done);
        assert_eq!(decide(Restart::OnFailure, Ending::Panicked), again);
        assert_eq!(decide(Restart::Never, Ending::Returned), Verdict::Done);
        assert_eq!(decide(Restart::Never, Ending::Panicked), Verdict::GivenUp);
    }
}
