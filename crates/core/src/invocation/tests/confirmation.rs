//! When a call may start during the stream, and which calls never do.

use super::harness::*;
use crate::invocation::StopReason::{self, EndTurn, MaxTokens, Refusal, ToolUse};
use crate::invocation::{Failure, Outcome, ToolEnding};

#[test]
fn a_look_starts_when_its_block_is_complete() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
        ],
    );
}

#[test]
fn an_act_starts_only_when_the_stream_proves_it_whole() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (done("a"), ""),
            (ends(ToolUse), "settle used; reserve"),
            (granted(), "call + [act a] + [a ok]"),
        ],
    );
}

#[test]
fn the_stop_reason_proves_all_calls_whole() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (done("a"), "reserve"),
        ],
    );
}

#[test]
fn a_proof_that_comes_before_its_block_proves_nothing() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (whole(0), ""),
            (wants(0, "act", "a"), ""),
            (ends(EndTurn), "settle used; reserve"),
            (granted(), "call + [act a] + [a error]"),
        ],
    );
}

#[test]
fn a_call_cut_by_the_output_limit_is_answered_and_not_run() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (wants(1, "act", "b"), ""),
            (ends(MaxTokens), "settle used"),
            (done("a"), "reserve"),
            (granted(), "call + [act a, act b] + [a ok, b error]"),
        ],
    );
    assert!(scene.result_of("b").0.contains("not run"));
}

#[test]
fn a_look_cut_by_the_output_limit_is_stopped_and_its_result_thrown_away() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends(MaxTokens), "settle used; stop a; reserve"),
            (done("a"), ""),
            (granted(), "call + [look a] + [a error]"),
        ],
    );
    assert!(scene.result_of("a").0.contains("not run"));
}

#[test]
fn garbled_input_is_answered_with_what_arrived() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants_garbled(0, "act", "a"), ""),
            (whole(0), ""),
            (ends(ToolUse), "settle used; reserve"),
            (granted(), "call + [act a] + [a error]"),
        ],
    );
    assert!(
        scene
            .result_of("a")
            .0
            .contains(r#"INVALID_JSON: {"path": "#),
        "{:?}",
        scene.result_of("a")
    );
}

#[test]
fn an_unknown_tool_is_answered_with_the_tools_there_are() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants_unknown(0, "fly", "a"), ""),
            (ends(ToolUse), "settle used; reserve"),
            (granted(), "call + [fly a] + [a error]"),
        ],
    );
    assert_eq!(
        scene.result_of("a").0,
        "There is no tool `fly` here. Tools you can call: look, act, put, pay."
    );
}

#[test]
fn the_second_call_of_an_id_is_dropped_within_a_reply() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "act", "a"), ""),
            (ends(ToolUse), "settle used"),
            (done("a"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
        ],
    );
}

#[test]
fn a_reply_whose_only_call_repeats_an_old_id_is_asked_for_again() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (ends(ToolUse), "settle used; persist; run a"),
            (done("a"), "reserve"),
            (granted(), "call + [act a] + [a ok]"),
            (say(0, "Once more."), ""),
            (wants(1, "act", "a"), ""),
            // It must neither run again nor be taken for the end of the work.
            (ends(ToolUse), "settle used; reserve"),
            (granted(), "call + [say] + [a]"),
        ],
    );
}

#[test]
fn a_refused_reply_runs_nothing_more_and_stays_out_of_the_history() {
    let refusal = Refusal {
        category: Some("cyber".into()),
        explanation: None,
    };
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (wants(1, "act", "b"), ""),
            (ends(refusal), "settle used; stop a; finish refused"),
        ],
    );
    assert_eq!(scene.machine.history().len(), 1);
}

#[test]
fn a_reply_that_ended_for_an_unknown_reason_starts_nothing_more_and_ends_the_invocation() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "act", "a"), ""),
            (whole(0), "persist; run a"),
            (wants(1, "act", "b"), ""),
            (whole(1), ""),
            (
                ends(StopReason::Other("novelty".into())),
                "settle used; stop a; timer grace 2s",
            ),
            (
                tool_ends("a", ToolEnding::Succeeded, "just done"),
                "finish failed",
            ),
        ],
    );
    let Outcome::Failed {
        failure: Failure::UnknownStop { reason },
    } = scene.outcome()
    else {
        panic!()
    };
    assert_eq!(&**reason, "novelty");
    assert_eq!(scene.result_of("a"), ("just done", false));
    assert!(scene.result_of("b").1);
}
