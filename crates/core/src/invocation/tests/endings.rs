//! Replies that end otherwise than by `end_turn` or `tool_use`.

use super::harness::*;
use crate::invocation::StopReason::{
    self, ContextWindowExceeded, EndTurn, MaxTokens, PauseTurn, StopSequence, ToolUse,
};
use crate::invocation::{Failure, Outcome};

#[test]
fn a_stop_sequence_completes() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "Done"), ""),
            (ends(StopSequence), "settle used; finish completed: Done"),
        ],
    );
}

#[test]
fn a_reply_cut_by_the_output_limit_is_continued_a_bounded_number_of_times() {
    let scene = check(
        agent(),
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
        ],
    );
    assert_eq!(
        scene.outcome().to_string(),
        "the reply did not fit 4000 output tokens; raise `max_output_tokens`"
    );
}

#[test]
fn continuations_are_counted_for_each_reply_apart() {
    let cut_and_continued = |id: &'static str, run: &'static str, call: &'static str| {
        [
            (say(0, "long"), ""),
            (ends(MaxTokens), "settle used; reserve"),
            (granted(), "call + [say] + [your]"),
            (wants(0, "look", id), run),
            (ends(ToolUse), "settle used"),
            (done(id), "reserve"),
            (granted(), call),
        ]
    };
    let rows = [
        (start(), "timer deadline 300s; reserve"),
        (granted(), "call + [task]"),
    ]
    .into_iter()
    .chain(cut_and_continued("a", "run a", "call + [look a] + [a ok]"))
    .chain(cut_and_continued("b", "run b", "call + [look b] + [b ok]"))
    .chain(cut_and_continued("c", "run c", "call + [look c] + [c ok]"))
    .chain(cut_and_continued("d", "run d", "call + [look d] + [d ok]"));
    check(limited(|limits| limits.turns.value = 20), rows);
}

#[test]
fn a_paused_reply_is_sent_back_as_it_is_a_bounded_number_of_times() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "1"), ""),
            (ends(PauseTurn), "settle used; reserve"),
            (granted(), "call + [say]"),
            (say(0, "2"), ""),
            (ends(PauseTurn), "settle used; reserve"),
            (granted(), "call + [say]"),
            (say(0, "3"), ""),
            (ends(PauseTurn), "settle used; reserve"),
            (granted(), "call + [say]"),
            (say(0, "4"), ""),
            (ends(PauseTurn), "settle used; finish failed"),
        ],
    );
    assert!(matches!(
        scene.outcome(),
        Outcome::Failed {
            failure: Failure::UnknownStop { .. }
        }
    ));
}

#[test]
fn a_paused_reply_may_go_on_to_its_end() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "1"), ""),
            (ends(PauseTurn), "settle used; reserve"),
            (granted(), "call + [say]"),
            (say(0, "2"), ""),
            (ends(EndTurn), "settle used; finish completed: 2"),
        ],
    );
}

#[test]
fn an_empty_reply_is_asked_again_and_then_taken_as_the_end() {
    check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (ends(EndTurn), "settle used; reserve"),
            (granted(), "call + [your]"),
            (say(0, "  "), ""),
            (ends(EndTurn), "settle used; reserve"),
            (granted(), "call + [your]"),
            (ends(ToolUse), "settle used; reserve"),
            (granted(), "call + [your]"),
            (ends(EndTurn), "settle used; finish completed"),
        ],
    );
}

#[test]
fn a_full_window_ends_the_invocation() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "very long"), ""),
            (ends(ContextWindowExceeded), "settle used; finish failed"),
        ],
    );
    assert!(matches!(
        scene.outcome(),
        Outcome::Failed {
            failure: Failure::ContextWindow
        }
    ));
}

#[test]
fn an_unknown_reason_is_told() {
    let scene = check(
        agent(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, "hm"), ""),
            (
                ends(StopReason::Other("novelty".into())),
                "settle used; finish failed",
            ),
        ],
    );
    assert_eq!(
        scene.outcome().to_string(),
        "the model stopped for an unknown reason: novelty"
    );
}
