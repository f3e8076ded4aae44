//! Failed model calls: which are tried again, when, and how often.

use std::time::Duration;

use super::harness::*;
use crate::invocation::ModelFailureKind::{
    Authentication, CircuitOpen, CutStream, Interrupted, InvalidRequest, NotFound, Overloaded,
    Permission, PromptTooLong, Protocol, RateLimited, Server, SpendLimit, Timeout, Unreachable,
};
use crate::invocation::{Billing, Failure, ModelFailure, Outcome};

#[test]
fn what_may_pass_is_tried_again_under_a_new_reservation() {
    for kind in [
        RateLimited,
        Overloaded,
        Server,
        Unreachable,
        Timeout,
        CutStream,
        Protocol,
        Interrupted,
        CircuitOpen,
    ] {
        check(
            agent(),
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (fails(failure(kind)), "settle forfeited; timer backoff"),
                (due("backoff"), "reserve"),
                (granted(), "call"),
            ],
        );
    }
}

#[test]
fn what_will_not_pass_ends_the_invocation_at_once() {
    for kind in [
        Authentication,
        Permission,
        NotFound,
        InvalidRequest,
        PromptTooLong,
        SpendLimit,
    ] {
        let failure = ModelFailure {
            billing: Billing::NotBilled,
            ..failure(kind)
        };
        let scene = check(
            agent(),
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (fails(failure), "settle released; finish provider_failed"),
            ],
        );
        let Outcome::Failed {
            failure: Failure::Provider(told),
        } = scene.outcome()
        else {
            panic!()
        };
        assert_eq!(told.kind, kind);
    }
}

#[test]
fn attempts_are_bounded() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call"),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call"),
            (breaks(), "settle forfeited; finish provider_failed"),
        ],
    );
}

#[test]
fn a_good_reply_starts_the_count_anew() {
    check(
        limited(|limits| limits.attempts = 2),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call"),
            (wants(0, "look", "a"), "run a"),
            (ends(crate::invocation::StopReason::ToolUse), "settle used"),
            (done("a"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
            (breaks(), "settle forfeited; timer backoff"),
        ],
    );
}

#[test]
fn a_wait_the_provider_asked_for_is_kept() {
    let failure = ModelFailure {
        retry_after: Some(seconds(20)),
        ..failure(RateLimited)
    };
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (fails(failure), "settle forfeited; timer backoff"),
        ],
    );
    let wait = scene.timer_in("backoff");
    assert!(wait >= seconds(20) && wait <= seconds(21), "{wait:?}");
}

#[test]
fn a_wait_that_does_not_fit_the_time_limit_ends_the_invocation_at_once() {
    for asked in [seconds(300), seconds(86_400), Duration::MAX] {
        let failure = ModelFailure {
            retry_after: Some(asked),
            ..failure(RateLimited)
        };
        check(
            agent(),
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (fails(failure), "settle forfeited; finish provider_failed"),
            ],
        );
    }
}

#[test]
fn the_providers_word_on_trying_again_counts() {
    let no = ModelFailure {
        should_retry: Some(false),
        ..failure(Overloaded)
    };
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (fails(no), "settle forfeited; finish provider_failed"),
        ],
    );
    let yes = ModelFailure {
        should_retry: Some(true),
        ..failure(InvalidRequest)
    };
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (fails(yes), "settle forfeited; timer backoff"),
        ],
    );
}

#[test]
fn the_wait_is_kept_also_after_a_cut_turn() {
    let overloaded = ModelFailure {
        retry_after: Some(seconds(30)),
        ..failure(Overloaded)
    };
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (fails(overloaded), "settle forfeited"),
            // The tool took a second of the wait.
            (done("a").after(seconds(1)), "timer backoff"),
        ],
    );
    let wait = scene.timer_in("backoff");
    assert!(wait >= seconds(29) && wait <= seconds(30), "{wait:?}");
}

#[test]
fn a_wait_that_has_passed_while_tools_ran_is_not_waited_again() {
    let overloaded = ModelFailure {
        retry_after: Some(seconds(2)),
        ..failure(Overloaded)
    };
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (fails(overloaded), "settle forfeited"),
            (done("a").after(seconds(60)), "reserve"),
        ],
    );
}

#[test]
fn a_failure_after_a_started_tool_that_will_not_pass_ends_the_invocation_when_the_tool_is_done() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (
                fails(failure(SpendLimit)),
                "settle forfeited; stop a; timer grace 2s",
            ),
            (done("a"), "finish provider_failed"),
        ],
    );
    assert_eq!(scene.result_of("a"), ("result of a", false));
}
