//! Ending early: by request or by the clock, in every phase.

use super::harness::*;
use crate::invocation::StopReason::ToolUse;
use crate::invocation::{CancelReason, Event, ModelFinish, Outcome, StopReason, ToolEnding};

#[test]
fn cancelled_while_money_is_asked_for() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (cancel(CancelReason::User), "timer grace 2s"),
            // It was granted after all: nothing was sent, so nothing is charged.
            (granted(), "settle released; finish cancelled"),
        ],
    );
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (cancel(CancelReason::User), "timer grace 2s"),
            (denied(), "finish cancelled"),
        ],
    );
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (cancel(CancelReason::User), "timer grace 2s"),
            (refused(CancelReason::KillSwitch), "finish cancelled"),
        ],
    );
}

#[test]
fn a_store_that_never_answers_does_not_hold_up_the_end() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (cancel(CancelReason::User), "timer grace 2s"),
            (due("grace"), "settle released; finish cancelled"),
            (granted(), ""),
        ],
    );
}

#[test]
fn cancelled_before_anything_came() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (
                cancel(CancelReason::KillSwitch),
                "stop model; settle forfeited; finish cancelled",
            ),
        ],
    );
}

#[test]
fn cancelled_while_the_model_answers_and_a_tool_runs() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "First."), ""),
            (wants(1, "act", "a"), ""),
            (whole(1), "persist; run a"),
            (wants(2, "act", "b"), ""),
            (
                cancel(CancelReason::User),
                "stop model; settle forfeited; stop a; timer grace 2s",
            ),
            (
                tool_ends("a", ToolEnding::Cancelled, "half done"),
                "finish cancelled",
            ),
        ],
    );
    // What ran is told, what did not run is not in the history.
    assert_eq!(scene.result_of("a"), ("half done", true));
    assert_eq!(scene.machine.history().len(), 3);
}

#[test]
fn cancelled_while_tools_run() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (wants(1, "act", "b"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (cancel(CancelReason::Shutdown), "stop a; timer grace 2s"),
            (done("a"), "finish cancelled"),
        ],
    );
    assert_eq!(scene.result_of("a"), ("result of a", false));
    assert_eq!(
        scene.result_of("b"),
        ("The call was not run: the invocation was ended.", true)
    );
}

#[test]
fn a_tool_that_does_not_end_is_left_behind_after_the_grace_time() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (cancel(CancelReason::User), "stop a; timer grace 2s"),
            (due("grace"), "finish cancelled"),
            (done("a"), ""),
        ],
    );
    let (told, is_error) = scene.result_of("a");
    assert!(is_error && told.contains("outcome is unknown"), "{told}");
}

#[test]
fn cancelled_while_waiting() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (breaks(), "settle forfeited; timer backoff"),
            (cancel(CancelReason::User), "finish cancelled"),
            (due("backoff"), ""),
        ],
    );
}

#[test]
fn the_first_reason_to_end_counts() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (cancel(CancelReason::Shutdown), "timer grace 2s"),
            (cancel(CancelReason::User), ""),
            (due("deadline"), ""),
            (denied(), "finish cancelled"),
            (cancel(CancelReason::User), ""),
        ],
    );
    assert!(matches!(
        scene.outcome(),
        Outcome::Cancelled {
            reason: CancelReason::Shutdown
        }
    ));
}

#[test]
fn a_refused_reservation_ends_with_its_reason() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (refused(CancelReason::StoreFailed), "finish cancelled"),
        ],
    );
    assert!(matches!(
        scene.outcome(),
        Outcome::Cancelled {
            reason: CancelReason::StoreFailed
        }
    ));
}

#[test]
fn the_deadline_in_each_phase() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (due("deadline"), "timer grace 2s"),
            (granted(), "settle released; finish deadline"),
        ],
    );
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "I"), ""),
            (
                due("deadline"),
                "stop model; settle forfeited; finish deadline",
            ),
        ],
    );
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (due("deadline"), "stop a; timer grace 2s"),
            (
                tool_ends("a", ToolEnding::Cancelled, "cancelled"),
                "finish deadline",
            ),
        ],
    );
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (contended(), "timer contention 50ms"),
            (due("deadline"), "finish deadline"),
        ],
    );
    assert_eq!(
        scene.outcome().to_string(),
        "time limit of 300s reached; limit set by test"
    );
}

#[test]
fn nothing_begins_after_the_deadline_has_passed() {
    // The result comes before the timer, which is late.
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (done("a").after(seconds(301)), "finish deadline"),
        ],
    );
}

#[test]
fn anything_after_the_end_changes_nothing() {
    let late: [fn(&Scene) -> Event; 5] = [
        |scene| Event::TimerFired {
            effect: scene.last_reserve(),
        },
        |_| Event::CancelRequested(CancelReason::User),
        |scene| Event::ModelFailed {
            effect: scene.last_call(),
            failure: failure(crate::invocation::ModelFailureKind::Server),
        },
        |scene| Event::ModelFinished {
            effect: scene.last_call(),
            finish: ModelFinish {
                stop: StopReason::EndTurn,
                usage: Some(USAGE),
                served_by: None,
            },
        },
        |scene| Event::Started(scene.machine.spec().unwrap().clone()),
    ];
    for late in late {
        let ended = || {
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (say(0, "Done"), ""),
                (
                    ends(StopReason::EndTurn),
                    "settle used; finish completed: Done",
                ),
            ]
        };
        let before = check(agent(), ended()).machine;
        let rows = ended()
            .into_iter()
            .chain([(stray(late).after(seconds(3_600)), "")]);
        assert_eq!(check(agent(), rows).machine, before);
    }
}
