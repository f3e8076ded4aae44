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
    if wait >= time_left { RetryDecision::GiveUp } else { RetryDecision::Wait(wait) }
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
