//! Coming back after a crash in every phase, with raised limits, and with a person's word.

use super::harness::*;
use crate::invocation::StopReason::{EndTurn, MaxTokens, PauseTurn, ToolUse};
use crate::invocation::UnknownCallDecision::{RunAgain, TellModel};
use crate::invocation::{CancelReason, ToolEnding};

#[test]
fn while_money_was_asked_for_the_hold_is_charged() {
    // It may have been granted, and the call may have gone out.
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
        ],
    );
}

#[test]
fn while_the_model_answered_the_call_is_charged_and_made_again() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "I"), ""),
            (wants(1, "act", "a"), ""),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "call"),
        ],
    );
}

#[test]
fn a_call_of_unknown_outcome_is_told_and_not_repeated() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (wants(1, "act", "b"), ""),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "call + [act a] + [a error]"),
        ],
    );
    assert!(
        scene
            .result_of("a")
            .0
            .contains("outcome of this call is unknown")
    );
}

#[test]
fn what_only_looks_and_what_may_be_repeated_runs_again() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "put", "b"), ""),
            (ends(ToolUse), "settle used"),
            (back(), "timer deadline 300s; run a"),
            (done("a"), "persist; run b"),
            (back(), "timer deadline 300s; persist; run b"),
            (done("b"), "reserve"),
            (granted(), "call + [look a, put b] + [a ok, b ok]"),
        ],
    );
}

#[test]
fn what_was_answered_is_not_asked_again() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (wants(1, "act", "b"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (done("a"), "persist; run b"),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call + [act a, act b] + [a ok, b error]"),
        ],
    );
    assert_eq!(scene.result_of("a"), ("result of a", false));
}

#[test]
fn a_call_that_needs_a_person_parks_the_invocation_until_one_decides() {
    for (decision, then, call) in [
        (
            RunAgain,
            "timer deadline 300s; persist; run a",
            "call + [pay a] + [a ok]",
        ),
        (
            TellModel,
            "timer deadline 300s; reserve",
            "call + [pay a] + [a error]",
        ),
    ] {
        let mut rows = vec![
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "pay", "a"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (back(), "finish cancelled"),
            // Not decided yet: it stays parked, as often as Otto comes back.
            (back(), "finish cancelled"),
            (back_decided(decision).after(seconds(86_400)), then),
        ];
        if decision == RunAgain {
            rows.push((done("a"), "reserve"));
        }
        rows.push((granted(), call));
        check(agent(), rows);
    }
}

#[test]
fn a_parked_invocation_is_over_until_it_is_taken_up_again() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "pay", "a"), ""),
            (whole(0), "persist; run a"),
            (back(), "settle forfeited; finish cancelled"),
            (cancel(CancelReason::User), ""),
        ],
    );
    assert_eq!(scene.machine.outcome(), Some(&AWAITING_PERSON));
}

#[test]
fn during_an_ordered_stop() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (wants(1, "act", "b"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (cancel(CancelReason::Shutdown), "stop a; timer grace 2s"),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call + [act a, act b] + [a error, b error]"),
        ],
    );
    assert!(scene.result_of("a").0.contains("unknown"));
    assert!(scene.result_of("b").0.contains("not run"));
}

#[test]
fn a_hold_that_was_granted_to_a_stopping_invocation_is_given_back() {
    // The journal shows that the stop came before the grant: nothing can have been sent.
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (cancel(CancelReason::Shutdown), "timer grace 2s"),
            (back(), "settle released; timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
        ],
    );
}

#[test]
fn after_a_wait_the_call_is_made_at_once() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (breaks(), "settle forfeited; timer backoff"),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call"),
        ],
    );
}

#[test]
fn a_shutdown_is_taken_up_where_it_was() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (cancel(CancelReason::Shutdown), "stop a; timer grace 2s"),
            (done("a"), "finish cancelled"),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call + [act a] + [a ok]"),
            (say(0, "Done"), ""),
            (ends(EndTurn), "settle used; finish completed: Done"),
        ],
    );
}

#[test]
fn only_the_telling_of_a_completed_invocation_is_repeated() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "Done"), ""),
            (ends(EndTurn), "settle used; finish completed: Done"),
            (back(), "finish completed: Done"),
        ],
    );
}

#[test]
fn a_raised_limit_goes_on() {
    check(
        limited(|limits| limits.turns.value = 1),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (done("a"), "finish budget_exhausted"),
            (back(), "timer deadline 300s; finish budget_exhausted"),
            (
                back_with(|changed| changed.limits.turns.value = 2),
                "timer deadline 300s; reserve",
            ),
            (granted(), "call + [look a] + [a ok]"),
        ],
    );
}

#[test]
fn time_counts_while_it_runs_and_not_in_between() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted().after(seconds(100)), "call + [task]"),
            (
                back().after(seconds(50_000)),
                "settle forfeited; timer deadline 200s; reserve",
            ),
            (granted().after(seconds(150)), "call"),
            (
                cancel(CancelReason::Shutdown),
                "stop model; settle forfeited; finish cancelled",
            ),
            // What comes after the end is not time that it ran.
            (cancel(CancelReason::User).after(seconds(1_000)), ""),
            (back().after(seconds(50_000)), "timer deadline 50s; reserve"),
        ],
    );
}

#[test]
fn a_clock_that_was_set_back_costs_no_time() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted().after(seconds(10)), "call + [task]"),
            (
                back().set_back(seconds(3_600)),
                "settle forfeited; timer deadline 290s; reserve",
            ),
            (granted().after(seconds(10)), "call"),
            (back(), "settle forfeited; timer deadline 280s; reserve"),
        ],
    );
}

#[test]
fn a_used_up_time_limit_ends_again_before_anything_is_paid() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (
                due("deadline"),
                "stop model; settle forfeited; finish deadline",
            ),
            (back(), "timer deadline 0ns; finish deadline"),
            (
                back_with(|changed| changed.limits.time.value = seconds(400)),
                "timer deadline 100s; reserve",
            ),
        ],
    );
}

#[test]
fn calls_that_may_be_repeated_keep_their_chance_when_no_time_is_left() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "put", "a"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (
                cancel(CancelReason::Shutdown).after(seconds(300)),
                "stop a; timer grace 2s",
            ),
            (back(), "finish deadline"),
            (back(), "finish deadline"),
            (
                back_with(|changed| changed.limits.time.value = seconds(400)),
                "timer deadline 100s; persist; run a",
            ),
            (done("a"), "reserve"),
            (granted(), "call + [put a] + [a ok]"),
        ],
    );
    assert_eq!(scene.result_of("a"), ("result of a", false));
}

#[test]
fn a_reply_that_did_not_fit_is_continued_with_a_raised_limit() {
    // Without a word of the user the request would end with the model's own message.
    let scene = check(
        limited(|limits| limits.max_output_tokens = 100),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "1"), ""),
            (ends(MaxTokens), "settle used; reserve"),
            (granted(), "call + [say] + [your]"),
            (say(0, "2"), ""),
            (ends(MaxTokens), "settle used; reserve"),
            (granted(), "call + [say] + [your]"),
            (say(0, "3"), ""),
            (ends(MaxTokens), "settle used; reserve"),
            (granted(), "call + [say] + [your]"),
            (say(0, "4"), ""),
            (ends(MaxTokens), "settle used; finish failed"),
            (
                back_with(|changed| changed.limits.max_output_tokens = 5_000),
                "timer deadline 300s; reserve",
            ),
            (granted(), "call + [say] + [your]"),
            // And it may be continued again.
            (say(0, "5"), ""),
            (ends(MaxTokens), "settle used; reserve"),
        ],
    );
    assert_eq!(scene.requested_output, 5_000);
}

#[test]
fn a_paused_reply_is_sent_back_also_after_a_crash_or_an_end() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "1"), ""),
            (ends(PauseTurn), "settle used; reserve"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (denied(), "finish budget_exhausted"),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call + [say]"),
        ],
    );
}

#[test]
fn the_answers_of_the_dead_process_are_ignored() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (say(0, "late"), ""),
            (ends(EndTurn), ""),
            (breaks(), ""),
            (granted(), "call"),
        ],
    );
}

#[test]
fn a_crash_during_the_way_back_changes_nothing() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "call + [act a] + [a error]"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "call"),
        ],
    );
}

#[test]
fn a_cancelled_tool_stays_cancelled() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (cancel(CancelReason::Shutdown), "stop a; timer grace 2s"),
            (
                tool_ends("a", ToolEnding::Cancelled, "cancelled"),
                "finish cancelled",
            ),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call + [look a] + [a error]"),
        ],
    );
    assert_eq!(scene.result_of("a").0, "cancelled");
}
