//! A turn is a draft until its stream ends.

use super::harness::*;
use crate::invocation::StopReason::{EndTurn, ToolUse};
use crate::invocation::{CancelReason, ToolEnding};

#[test]
fn a_plain_reply_completes_the_invocation() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "Done."), ""),
            (ends(EndTurn), "settle used; finish completed: Done."),
        ],
    );
}

#[test]
fn a_call_and_its_result_go_into_the_next_request() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (think(0), ""),
            (say(1, "Let me look."), ""),
            (wants(2, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (done("a"), "reserve"),
            (granted(), "call + [think, say, look a] + [a ok]"),
            (say(0, "Seen."), ""),
            (ends(EndTurn), "settle used; finish completed: Seen."),
        ],
    );
}

#[test]
fn a_broken_draft_without_started_tools_is_dropped_and_retried_under_a_new_reservation() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "I will"), ""),
            (wants(1, "act", "a"), ""),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            // Nothing of the draft is in the history.
            (granted(), "call"),
            (say(0, "Done."), ""),
            (ends(EndTurn), "settle used; finish completed: Done."),
        ],
    );
}

#[test]
fn a_draft_with_a_started_tool_is_cut_after_it_and_never_sent_again() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "First."), ""),
            (wants(1, "act", "a"), ""),
            (whole(1), "persist; run a"),
            (say(2, "And then"), ""),
            (wants(3, "act", "b"), ""),
            (breaks(), "settle forfeited"),
            (done("a"), "timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call + [say, act a] + [a ok]"),
        ],
    );
    assert_eq!(scene.machine.turns(), 1);
}

#[test]
fn a_speculative_look_is_kept_when_the_draft_breaks() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (done("a"), ""),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
        ],
    );
}

#[test]
fn what_stands_before_the_last_started_call_stays_in_a_cut_draft() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (think(0), ""),
            (wants_unknown(1, "fly", "u"), ""),
            (wants_garbled(2, "act", "g"), ""),
            (wants(3, "look", "a"), "run a"),
            (say(4, "Next"), ""),
            (breaks(), "settle forfeited"),
            (done("a"), "timer backoff"),
            (due("backoff"), "reserve"),
            (
                granted(),
                "call + [think, fly u, act g, look a] + [u error, g error, a ok]",
            ),
        ],
    );
}

#[test]
fn blocks_of_another_call_and_repeated_blocks_are_ignored() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "one"), ""),
            (say(0, "two"), ""),
            (breaks(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            // The old call is still named here: its late answers find nothing open.
            (wants(1, "look", "late"), ""),
            (ends(EndTurn), ""),
            (granted(), "call"),
            (say(0, "three"), ""),
            (say(0, "four"), ""),
            (ends(EndTurn), "settle used; finish completed: three"),
        ],
    );
}

#[test]
fn blocks_are_put_together_by_their_index() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(2, "c"), ""),
            (say(0, "a"), ""),
            (say(1, "b"), ""),
            (ends(EndTurn), "settle used; finish completed: abc"),
        ],
    );
}

#[test]
fn a_call_that_came_out_of_order_and_was_not_proven_whole_does_not_run_after_a_cut() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(1, "look", "a"), "run a"),
            (wants(0, "act", "b"), ""),
            (breaks(), "settle forfeited"),
            (done("a"), "timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call + [act b, look a] + [b error, a ok]"),
        ],
    );
    assert!(
        scene.result_of("b").0.contains("not run"),
        "{:?}",
        scene.result_of("b")
    );
}

#[test]
fn an_empty_text_block_does_not_enter_the_history() {
    // Providers make such blocks and refuse to take them back: the history would be wedged.
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, ""), ""),
            (say(1, " \n"), ""),
            (wants(2, "look", "a"), "run a"),
            (ends(ToolUse), "settle used"),
            (done("a"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
        ],
    );
}

#[test]
fn a_reply_that_breaks_again_and_again_after_started_tools_ends_the_invocation() {
    check(
        limited(|limits| limits.attempts = 2),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (breaks(), "settle forfeited"),
            (done("a"), "timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
            (wants(0, "look", "b"), "run b"),
            (breaks(), "settle forfeited; stop b; timer grace 2s"),
            (
                tool_ends("b", ToolEnding::Cancelled, "cancelled"),
                "finish provider_failed",
            ),
        ],
    );
}

#[test]
fn a_cancelled_draft_leaves_nothing_in_the_history() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "I will"), ""),
            (
                cancel(CancelReason::User),
                "stop model; settle forfeited; finish cancelled",
            ),
        ],
    );
    assert_eq!(scene.machine.history().len(), 1);
}
