//! Retry as data: whether to try a model call again, and after how long.
//!
//! There is one owner of retries in Otto, the invocation machine. Every attempt runs under a reservation of
//! its own.
//!
//! Invariant: a wait never goes past the deadline, and attempts are bounded.

use std::time::Duration;

use crate::invocation::{ModelFailure, ModelFailureKind};

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again after this wait.
    Wait(Duration),
    /// Give up.
    GiveUp,
}

/// First wait of the exponential backoff, before jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait of the backoff.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Decides on the attempt after `attempts_made` failed ones.
///
/// `jitter` is a uniform random number; full jitter takes a wait between zero and the backoff. A wait the
/// provider asked for is kept as a minimum; if it does not fit into `time_left`, waiting is pointless.
#[must_use]
pub fn decide(
    failure: &ModelFailure,
    attempts_made: u32,
    attempts_allowed: u32,
    time_left: Duration,
    jitter: u64,
) -> RetryDecision {
    if attempts_made >= attempts_allowed || !is_transient(failure) {
        return RetryDecision::GiveUp;
    }
    let exponent = attempts_made.saturating_sub(1).min(16);
    let ceiling = BACKOFF_FIRST.saturating_mul(1 << exponent).min(BACKOFF_MAX);
    let ceiling_micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    let backoff = Duration::from_micros(jitter % (ceiling_micros + 1));
    let wait = match failure.retry_after {
        // The provider's wait, plus a tenth of jitter so that a crowd does not return at one instant.
        Some(asked) => asked.saturating_add(backoff / 10),
        None => backoff,
    };
    if wait >= time_left {
        RetryDecision::GiveUp
    } else {
        RetryDecision::Wait(wait)
    }
}

/// Whether the same request may succeed later.
#[must_use]
pub fn is_transient(failure: &ModelFailure) -> bool {
    if let Some(word) = failure.should_retry {
        return word;
    }
    match failure.kind {
        ModelFailureKind::RateLimited
        | ModelFailureKind::Overloaded
        | ModelFailureKind::Server
        | ModelFailureKind::Unreachable
        | ModelFailureKind::Timeout
        | ModelFailureKind::CutStream
        | ModelFailureKind::Protocol
        | ModelFailureKind::Interrupted
        | ModelFailureKind::CircuitOpen => true,
        ModelFailureKind::Authentication
        | ModelFailureKind::Permission
        | ModelFailureKind::NotFound
        | ModelFailureKind::InvalidRequest
        | ModelFailureKind::PromptTooLong
        | ModelFailureKind::SpendLimit => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::invocation::Billing;

    fn failure(kind: ModelFailureKind) -> ModelFailure {
        ModelFailure {
            kind,
            message: Arc::from("test"),
            billing: Billing::NotBilled,
            retry_after: None,
            should_retry: None,
            status: None,
            request_id: None,
        }
    }

    const LONG: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn every_kind_is_transient_or_final() {
        use ModelFailureKind as Kind;
        for (kind, transient) in [
            (Kind::Authentication, false),
            (Kind::Permission, false),
            (Kind::NotFound, false),
            (Kind::InvalidRequest, false),
            (Kind::PromptTooLong, false),
            (Kind::SpendLimit, false),
            (Kind::RateLimited, true),
            (Kind::Overloaded, true),
            (Kind::Server, true),
            (Kind::Unreachable, true),
            (Kind::Timeout, true),
            (Kind::CutStream, true),
            (Kind::Protocol, true),
            (Kind::Interrupted, true),
            (Kind::CircuitOpen, true),
        ] {
            let mut failure = failure(kind);
            assert_eq!(is_transient(&failure), transient, "{kind:?}");
            let retried = matches!(decide(&failure, 1, 5, LONG, 7), RetryDecision::Wait(_));
            assert_eq!(retried, transient, "{kind:?}");
            // The provider's own word counts more, in both directions.
            for word in [true, false] {
                failure.should_retry = Some(word);
                assert_eq!(is_transient(&failure), word, "{kind:?}");
            }
        }
    }

    #[test]
    fn attempts_are_bounded_even_where_the_provider_asks_for_more() {
        let mut failure = failure(ModelFailureKind::Overloaded);
        failure.should_retry = Some(true);
        for (made, allowed, retried) in [
            (1, 5, true),
            (4, 5, true),
            (5, 5, false),
            (6, 5, false),
            (0, 0, false),
            (1, 1, false),
        ] {
            let decision = decide(&failure, made, allowed, LONG, 0);
            assert_eq!(
                matches!(decision, RetryDecision::Wait(_)),
                retried,
                "{made} of {allowed}"
            );
        }
    }

    #[test]
    fn the_backoff_doubles_up_to_its_maximum_and_jitter_stays_below() {
        let failure = failure(ModelFailureKind::Server);
        for (made, ceiling) in [
            (0, BACKOFF_FIRST),
            (1, BACKOFF_FIRST),
            (2, BACKOFF_FIRST * 2),
            (3, BACKOFF_FIRST * 4),
            (7, BACKOFF_MAX),
            (40, BACKOFF_MAX),
            (u32::MAX - 1, BACKOFF_MAX),
        ] {
            let micros = u64::try_from(ceiling.as_micros()).unwrap();
            let wait = |jitter| decide(&failure, made, u32::MAX, LONG, jitter);
            assert_eq!(wait(0), RetryDecision::Wait(Duration::ZERO), "after {made}");
            assert_eq!(wait(micros), RetryDecision::Wait(ceiling), "after {made}");
            assert_eq!(
                wait(micros + 1),
                RetryDecision::Wait(Duration::ZERO),
                "after {made}"
            );
            let RetryDecision::Wait(any) = wait(u64::MAX) else {
                panic!("after {made}")
            };
            assert!(any <= ceiling);
        }
    }

    #[test]
    fn a_wait_the_provider_asks_for_is_a_minimum() {
        let mut failure = failure(ModelFailureKind::RateLimited);
        failure.retry_after = Some(Duration::from_secs(20));
        assert_eq!(
            decide(&failure, 1, 5, LONG, 0),
            RetryDecision::Wait(Duration::from_secs(20))
        );
        let RetryDecision::Wait(wait) = decide(&failure, 1, 5, LONG, 500_000) else {
            panic!("retried")
        };
        assert_eq!(
            wait,
            Duration::from_millis(20_050),
            "and a tenth of the jitter"
        );
    }

    #[test]
    fn no_wait_goes_past_the_deadline_or_overflows() {
        let mut failure = failure(ModelFailureKind::RateLimited);
        for (asked, left, retried) in [
            (Duration::from_secs(20), Duration::from_secs(21), true),
            (Duration::from_secs(20), Duration::from_secs(20), false),
            (Duration::from_secs(20), Duration::ZERO, false),
            (Duration::MAX, LONG, false),
            (Duration::MAX, Duration::MAX, false),
            (Duration::ZERO, Duration::ZERO, false),
            (Duration::ZERO, Duration::from_micros(1), true),
        ] {
            failure.retry_after = Some(asked);
            let decision = decide(&failure, 1, 5, left, 0);
            assert_eq!(
                matches!(decision, RetryDecision::Wait(_)),
                retried,
                "{asked:?} in {left:?}"
            );
        }
        failure.retry_after = Some(Duration::MAX);
        assert_eq!(
            decide(&failure, 1, 5, Duration::MAX, u64::MAX),
            RetryDecision::GiveUp
        );
    }
}
