//! Running calls: side by side, one at a time, and what their ends lead to.

use super::harness::*;
use crate::invocation::StopReason::{EndTurn, ToolUse};
use crate::invocation::{Failure, Outcome, ToolEnding};

#[test]
fn looks_run_side_by_side_and_answers_keep_the_order_of_the_calls() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "look", "b"), "run b"),
            (wants(2, "look", "c"), "run c"),
            (done("c"), ""),
            (ends(ToolUse), "settle used"),
            (done("a"), ""),
            (done("b"), "reserve"),
            (
                granted(),
                "call + [look a, look b, look c] + [a ok, b ok, c ok]",
            ),
        ],
    );
}

#[test]
fn no_more_run_at_once_than_allowed() {
    check(
        limited(|limits| limits.parallel_tools = 2),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "look", "b"), "run b"),
            (wants(2, "look", "c"), ""),
            (ends(ToolUse), "settle used"),
            (done("b"), "run c"),
            (done("a"), ""),
            (done("c"), "reserve"),
        ],
    );
}

#[test]
fn a_limit_of_no_tools_at_once_means_one() {
    check(
        limited(|limits| limits.parallel_tools = 0),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "look", "b"), ""),
            (done("a"), "run b"),
        ],
    );
}

#[test]
fn an_act_is_a_barrier() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "act", "b"), ""),
            (wants(2, "look", "c"), ""),
            (wants(3, "act", "d"), ""),
            (ends(ToolUse), "settle used"),
            // It waits for what stands before it, and what stands behind it waits for it.
            (done("a"), "persist; run b"),
            (done("b"), "run c"),
            (done("c"), "persist; run d"),
            (done("d"), "reserve"),
            (
                granted(),
                "call + [look a, act b, look c, act d] + [a ok, b ok, c ok, d ok]",
            ),
        ],
    );
}

#[test]
fn a_call_behind_an_unproven_act_waits_too() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (wants(1, "look", "b"), ""),
            (whole(0), "persist; run a"),
            (done("a"), "run b"),
        ],
    );
}

#[test]
fn an_act_runs_alone_also_when_blocks_come_out_of_order() {
    // Found by the simulator, seed 156.
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(3, "look", "d"), "run d"),
            (wants(2, "act", "c"), ""),
            (whole(2), ""),
            (done("d"), "persist; run c"),
            (wants(1, "look", "b"), ""),
            (done("c"), "run b"),
        ],
    );
}

#[test]
fn failures_go_back_to_the_model() {
    for ending in [
        ToolEnding::Failed,
        ToolEnding::Denied,
        ToolEnding::TimedOut,
        ToolEnding::Cancelled,
    ] {
        let scene = check(
            agent(),
            [
                (start(), "timer deadline 300s; reserve"),
                (granted(), "call + [task]"),
                (wants(0, "act", "a"), ""),
                (ends(ToolUse), "settle used; persist; run a"),
                (tool_ends("a", ending, "it did not work"), "reserve"),
                (granted(), "call + [act a] + [a error]"),
            ],
        );
        assert_eq!(
            scene.result_of("a"),
            ("it did not work", true),
            "{ending:?}"
        );
    }
}

#[test]
fn a_fault_only_the_operator_can_repair_ends_the_invocation() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "look", "b"), "run b"),
            (ends(ToolUse), "settle used"),
            (
                tool_ends("a", ToolEnding::OperatorFault, "no such device"),
                "stop b; timer grace 2s",
            ),
            (
                tool_ends("b", ToolEnding::Cancelled, "cancelled"),
                "finish failed",
            ),
        ],
    );
    let Outcome::Failed {
        failure: Failure::ToolFault { tool, message },
    } = scene.outcome()
    else {
        panic!()
    };
    assert_eq!((tool.as_str(), &**message), ("look", "no such device"));
}

#[test]
fn an_operators_fault_during_the_stream_ends_the_model_call_too() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (
                tool_ends("a", ToolEnding::OperatorFault, "no"),
                "stop model; settle forfeited; finish failed",
            ),
        ],
    );
}

#[test]
fn a_repeated_result_changes_nothing() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "look", "b"), "run b"),
            (ends(ToolUse), "settle used"),
            (tool_ends("a", ToolEnding::Succeeded, "first"), ""),
            (tool_ends("a", ToolEnding::Succeeded, "second"), ""),
            (done("b"), "reserve"),
            (tool_ends("a", ToolEnding::Succeeded, "third"), ""),
            (granted(), "call + [look a, look b] + [a ok, b ok]"),
        ],
    );
    assert_eq!(scene.result_of("a").0, "first");
    assert_eq!(scene.machine.totals().tool_calls, 2);
}

#[test]
fn the_same_call_with_the_same_result_too_often_ends_the_invocation() {
    let again = |index, id| wants_with(index, "look", id, r#"{"path":"x"}"#);
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (again(0, "a"), "run a"),
            (again(1, "b"), "run b"),
            (ends(ToolUse), "settle used"),
            (tool_ends("a", ToolEnding::Succeeded, "same"), ""),
            (tool_ends("b", ToolEnding::Succeeded, "same"), "reserve"),
            (granted(), "call + [look a, look b] + [a ok, b ok]"),
            (again(0, "c"), "run c"),
            (ends(ToolUse), "settle used"),
            (
                tool_ends("c", ToolEnding::Succeeded, "same"),
                "finish failed",
            ),
        ],
    );
    let Outcome::Failed {
        failure: Failure::Repetition { tool, count },
    } = scene.outcome()
    else {
        panic!()
    };
    assert_eq!((&**tool, *count), ("look", 3));
    assert_eq!(scene.result_of("c").0, "same");
}

#[test]
fn another_result_of_the_same_call_is_no_repetition() {
    let again = |id| wants_with(0, "look", id, r#"{"path":"x"}"#);
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (again("a"), "run a"),
            (ends(ToolUse), "settle used"),
            (tool_ends("a", ToolEnding::Succeeded, "1"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
            (again("b"), "run b"),
            (ends(ToolUse), "settle used"),
            (tool_ends("b", ToolEnding::Succeeded, "2"), "reserve"),
            (granted(), "call + [look b] + [b ok]"),
            (again("c"), "run c"),
            (ends(ToolUse), "settle used"),
            (tool_ends("c", ToolEnding::Failed, "1"), "reserve"),
        ],
    );
}

#[test]
fn the_turn_limit_ends_the_invocation_before_the_next_call() {
    let scene = check(
        limited(|limits| limits.turns.value = 1),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (done("a"), "finish budget_exhausted"),
        ],
    );
    assert_eq!(
        scene.outcome().to_string(),
        "budget exhausted: turn limit of 1 turns reached in invocation 01010101-0101-0101-0101-010101010101: \
         1 turns spent, 0 turns held, 1 turns needed for the next call; limit set by test"
    );
}

#[test]
fn an_end_with_calls_runs_those_that_were_proven_and_goes_on() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (wants(1, "act", "b"), ""),
            (whole(1), ""),
            (wants(2, "act", "c"), ""),
            (ends(EndTurn), "settle used"),
            (done("a"), "persist; run b"),
            (done("b"), "reserve"),
            (
                granted(),
                "call + [act a, act b, act c] + [a ok, b ok, c error]",
            ),
        ],
    );
}
