//! Compaction: when the history is replaced, by what, and what happens when that does not work.

use std::sync::{Arc, Mutex};

use super::harness::*;
use crate::compaction::{CompactionRule, SUMMARY_OUTPUT_TOKENS};
use crate::invocation::{
    Billing, CancelReason, Failure, InvocationSpec, ModelFailureKind, ModelFinish, Outcome,
    StopReason, ToolEnding,
};
use crate::ledger::{Ledger, Settlement};
use crate::message::{Message, UserBlock};
use crate::model::{ModelSpec, Usage};
use crate::transcript::Transcript;

/// A window of 10,000 tokens, compaction at half of it.
fn small_window() -> InvocationSpec {
    let mut spec = agent();
    spec.model = Arc::new(ModelSpec {
        context_window: 10_000,
        ..model("vendor-model-5")
    });
    spec.compaction = CompactionRule::at_percent(50);
    spec
}

/// The reply ends, and its prompt took that many tokens.
fn ends_at(prompt_tokens: u64, stop: StopReason) -> In {
    ends_with(ModelFinish {
        stop,
        usage: Some(Usage {
            input_tokens: prompt_tokens,
            ..USAGE
        }),
        served_by: None,
    })
}

/// A result of some 2,000 tokens.
fn long_result(call: &str) -> In {
    tool_ends(call, ToolEnding::Succeeded, &"x".repeat(6_000))
}

/// Two turns; behind the second one the history is above the threshold.
fn grown() -> Vec<(In, &'static str)> {
    vec![
        (start(), "timer deadline 300s; reserve"),
        (granted(), "call + [task]"),
        (wants(0, "look", "a"), "run a"),
        (ends_at(1_500, StopReason::ToolUse), "settle used"),
        (long_result("a"), "reserve"),
        (granted(), "call + [look a] + [a ok]"),
        (think(0), ""),
        (wants(1, "look", "b"), "run b"),
        (ends_at(4_900, StopReason::ToolUse), "settle used"),
        (done("b"), "reserve"),
    ]
}

/// The same, and the call for the summary is out.
fn summarizing() -> Vec<(In, &'static str)> {
    let mut rows = grown();
    rows.push((granted(), "summarize 3"));
    rows
}

fn check_with<'a>(
    first: Vec<(In, &'a str)>,
    then: impl IntoIterator<Item = (In, &'a str)>,
) -> Scene {
    check(small_window(), first.into_iter().chain(then))
}

/// The second text of the first message.
fn summary(scene: &Scene) -> String {
    let Message::User(blocks) = &*scene.machine.history()[0] else {
        panic!("a user message")
    };
    match blocks.as_slice() {
        [
            UserBlock::Text(task),
            UserBlock::Text(summary),
            UserBlock::Text(latest),
        ] => {
            assert_eq!(&**task, "task");
            assert!(latest.contains("These calls have run"));
            summary.to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn prompt_too_long() -> In {
    let mut failure = failure(ModelFailureKind::PromptTooLong);
    failure.billing = Billing::NotBilled;
    fails(failure)
}

const AFTER: &str = "call = [task, summary of 2, latest]";

#[test]
fn near_the_window_the_older_turns_become_a_summary() {
    let scene = check_with(
        summarizing(),
        [
            (say(0, "Looked at a."), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), AFTER),
            (say(0, "done"), ""),
            (
                ends(StopReason::EndTurn),
                "settle used; finish completed: done",
            ),
        ],
    );
    assert!(
        summary(&scene).contains("\n\nLooked at a."),
        "{}",
        summary(&scene)
    );
    let totals = scene.machine.totals();
    assert_eq!((totals.compactions, totals.calls), (1, 4));
    // A summary is no turn.
    assert_eq!(scene.machine.turns(), 3);
}

#[test]
fn the_last_turn_is_quoted_whole_and_without_thinking() {
    let scene = check_with(
        summarizing(),
        [
            (say(0, "s"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
        ],
    );
    let [first] = scene.machine.history() else {
        panic!("one message")
    };
    let Message::User(blocks) = &**first else {
        panic!("a user message")
    };
    let [.., UserBlock::Text(latest)] = blocks.as_slice() else {
        panic!("texts")
    };
    assert!(latest.ends_with(
        "You called `look`, call `b`:\n```\n{\"for\":\"b\"}\n```\n\nCall `b` returned:\n```\nresult of b\n```"
    ));
    assert_eq!(scene.machine.last_compaction().unwrap().quoted_messages, 2);
}

#[test]
fn without_the_rule_nothing_is_compacted() {
    let mut spec = small_window();
    spec.compaction = None;
    let mut rows = grown();
    rows.push((granted(), "call + [think, look b] + [b ok]"));
    rows.push((prompt_too_long(), "settle released; finish provider_failed"));
    check(spec, rows);
}

#[test]
fn what_is_not_worth_a_call_is_left() {
    // The same size, but the older turn is short: replacing it would free next to nothing.
    check(
        small_window(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends_at(4_800, StopReason::ToolUse), "settle used"),
            (done("a"), "reserve"),
            (granted(), "call + [look a] + [a ok]"),
            (wants(0, "look", "b"), "run b"),
            (ends_at(4_900, StopReason::ToolUse), "settle used"),
            (long_result("b"), "reserve"),
            (granted(), "call + [look b] + [b ok]"),
        ],
    );
}

#[test]
fn the_summary_has_a_hold_of_its_own_that_is_bounded() {
    let scene = check_with(grown(), []);
    let quote = scene.last_quote();
    // The prefix was counted with the second reply, and the request for the summary comes on top.
    assert!(
        (1_500..6_100).contains(&quote.prompt_tokens),
        "{}",
        quote.prompt_tokens
    );
    assert_eq!(quote.output_wanted, 10_000 / 8);
    assert_eq!(quote.output_floor, 100);
    assert!(quote.output_wanted < SUMMARY_OUTPUT_TOKENS);
}

#[test]
fn a_failing_call_is_made_again_under_a_new_hold() {
    let failed = || fails(failure(ModelFailureKind::Overloaded));
    let scene = check_with(
        summarizing(),
        [
            (say(0, "half"), ""),
            (failed(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "summarize 3"),
            (failed(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "summarize 3"),
            (say(0, "whole"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), AFTER),
        ],
    );
    assert!(summary(&scene).contains("whole") && !summary(&scene).contains("half"));
}

#[test]
fn a_provider_that_fails_for_good_ends_it_as_for_a_turn() {
    let failed = || fails(failure(ModelFailureKind::Overloaded));
    check_with(
        summarizing(),
        [
            (failed(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "summarize 3"),
            (failed(), "settle forfeited; timer backoff"),
            (due("backoff"), "reserve"),
            (granted(), "summarize 3"),
            (failed(), "settle forfeited; finish provider_failed"),
        ],
    );
}

#[test]
fn after_a_failure_for_good_it_can_go_on_later() {
    let mut wrong_key = failure(ModelFailureKind::Authentication);
    wrong_key.billing = Billing::NotBilled;
    check_with(
        summarizing(),
        [
            (fails(wrong_key), "settle released; finish provider_failed"),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "summarize 3"),
            (say(0, "s"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), AFTER),
        ],
    );
}

#[test]
fn what_is_no_summary_is_done_without() {
    let refusal = StopReason::Refusal {
        category: None,
        explanation: None,
    };
    for (stop, why) in [
        (refusal, "the provider refused to write it"),
        (StopReason::EndTurn, "the reply to it was empty"),
        (StopReason::MaxTokens, "the reply to it was empty"),
    ] {
        let scene = check_with(
            summarizing(),
            [
                (think(0), ""),
                (ends(stop), "settle used; reserve"),
                (granted(), AFTER),
            ],
        );
        assert!(summary(&scene).contains(why), "{}", summary(&scene));
        assert!(!scene.machine.last_compaction().unwrap().is_summarized);
    }
    // The part to summarize does not fit either.
    let scene = check_with(
        summarizing(),
        [
            (prompt_too_long(), "settle released; reserve"),
            (granted(), AFTER),
        ],
    );
    assert!(summary(&scene).contains("was too long"));
}

#[test]
fn a_summary_at_its_output_limit_is_kept_and_marked() {
    let scene = check_with(
        summarizing(),
        [
            (say(0, "The first half"), ""),
            (ends(StopReason::MaxTokens), "settle used; reserve"),
            (granted(), AFTER),
        ],
    );
    assert!(summary(&scene).contains("The first half\n\n(The summary was cut here.)"));
    assert!(scene.machine.last_compaction().unwrap().is_summarized);
}

#[test]
fn a_call_in_a_summary_is_never_run() {
    let scene = check_with(
        summarizing(),
        [
            (wants(0, "look", "c"), ""),
            (wants(1, "act", "d"), ""),
            (whole(1), ""),
            (say(2, "s"), ""),
            (ends(StopReason::ToolUse), "settle used; reserve"),
            (granted(), AFTER),
            // Its id is not taken: it never was in a history.
            (wants(0, "look", "c"), "run c"),
        ],
    );
    assert_eq!(scene.machine.totals().tool_calls, 2);
}

#[test]
fn without_money_for_a_summary_the_turn_is_asked_for_as_it_is() {
    check_with(
        grown(),
        [
            (denied(), "reserve"),
            (granted(), "call + [think, look b] + [b ok]"),
            (wants(0, "look", "c"), "run c"),
            (ends_at(5_200, StopReason::ToolUse), "settle used"),
            // The history has grown: it is tried again.
            (done("c"), "reserve"),
            (granted(), "summarize 3"),
        ],
    );
    check_with(
        grown(),
        [(denied(), "reserve"), (denied(), "finish budget_exhausted")],
    );
}

#[test]
fn contended_money_is_waited_for() {
    check_with(
        grown(),
        [
            (contended(), "timer contention 50ms"),
            (due("contention"), "reserve"),
            (granted(), "summarize 3"),
        ],
    );
}

#[test]
fn a_crash_in_the_middle_costs_the_hold_and_nothing_else() {
    // Before the answer to the reservation.
    check_with(
        grown(),
        [
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "summarize 3"),
        ],
    );
    // While the summary is written.
    check_with(
        summarizing(),
        [
            (say(0, "half"), ""),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), "summarize 3"),
            (say(0, "s"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), AFTER),
        ],
    );
    // After it: it is not asked for again.
    check_with(
        summarizing(),
        [
            (say(0, "s"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (back(), "settle forfeited; timer deadline 300s; reserve"),
            (granted(), AFTER),
        ],
    );
}

#[test]
fn a_stop_in_the_middle_leaves_the_history_as_it_was() {
    for (stop, ending) in [
        (
            cancel(CancelReason::User),
            "stop model; settle forfeited; finish cancelled",
        ),
        (
            cancel(CancelReason::KillSwitch),
            "stop model; settle forfeited; finish cancelled",
        ),
        (
            due("deadline"),
            "stop model; settle forfeited; finish deadline",
        ),
    ] {
        let mut rows = summarizing();
        rows.push((say(0, "half"), ""));
        rows.push((stop, ending));
        let scene = check(small_window(), rows);
        assert_eq!(scene.machine.totals().compactions, 0);
        assert_eq!(scene.machine.history().len(), 5);
    }
    check_with(
        grown(),
        [
            (cancel(CancelReason::User), "timer grace 2s"),
            (granted(), "settle released; finish cancelled"),
        ],
    );
}

#[test]
fn a_prompt_that_the_provider_finds_too_long_is_compacted() {
    let mut spec = small_window();
    spec.compaction = CompactionRule::at_percent(95);
    let mut rows = grown();
    rows.extend([
        (granted(), "call + [think, look b] + [b ok]"),
        (prompt_too_long(), "settle released; reserve"),
        (granted(), "summarize 3"),
        (say(0, "s"), ""),
        (ends(StopReason::EndTurn), "settle used; reserve"),
        (granted(), AFTER),
        // The last turn alone is too long: there is nothing left to replace.
        (prompt_too_long(), "settle released; finish failed"),
    ]);
    let scene = check(spec.clone(), rows);
    assert_eq!(
        *scene.outcome(),
        Outcome::Failed {
            failure: Failure::ContextWindow
        }
    );
    // No money for the summary that is needed now: that is how it ends.
    let mut rows = grown();
    rows.extend([
        (granted(), "call + [think, look b] + [b ok]"),
        (prompt_too_long(), "settle released; reserve"),
        (denied(), "finish budget_exhausted"),
        (
            back_with(|resumption| resumption.scopes.clear()),
            "timer deadline 300s; reserve",
        ),
        (granted(), "summarize 3"),
    ]);
    check(spec, rows);
}

#[test]
fn a_task_that_does_not_fit_ends_clearly() {
    let scene = check(
        small_window(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (prompt_too_long(), "settle released; finish failed"),
        ],
    );
    assert_eq!(
        *scene.outcome(),
        Outcome::Failed {
            failure: Failure::ContextWindow
        }
    );
    assert!(scene.outcome().to_string().contains("compact_at"));
}

#[test]
fn a_reply_that_fills_the_window_goes_on_in_a_shorter_history() {
    let mut spec = small_window();
    spec.compaction = CompactionRule::at_percent(95);
    let mut rows = grown();
    rows.extend([
        (granted(), "call + [think, look b] + [b ok]"),
        (say(0, "The answer begins"), ""),
        (
            ends_at(9_000, StopReason::ContextWindowExceeded),
            "settle used; reserve",
        ),
        (granted(), "summarize 5"),
        (say(0, "s"), ""),
        (ends(StopReason::EndTurn), "settle used; reserve"),
        (granted(), "call = [task, summary of 3, latest]"),
    ]);
    check(spec, rows);
}

#[test]
fn it_happens_again_and_the_count_goes_on() {
    let scene = check_with(
        summarizing(),
        [
            (say(0, "first.\nPIN: the port is 8443"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), AFTER),
            (say(0, "PIN: use tabs"), ""),
            (wants(1, "look", "c"), "run c"),
            (ends_at(2_000, StopReason::ToolUse), "settle used"),
            (long_result("c"), "reserve"),
            (granted(), "call + [say, look c] + [c ok]"),
            (wants(0, "look", "d"), "run d"),
            (ends_at(5_000, StopReason::ToolUse), "settle used"),
            (done("d"), "reserve"),
            (granted(), "summarize 3"),
            (say(0, "second"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), "call = [task, summary of 4, latest]"),
        ],
    );
    let summary = summary(&scene);
    assert!(
        summary.contains("second") && !summary.contains("first."),
        "{summary}"
    );
    assert!(summary.contains("Pinned by you:\n- use tabs"), "{summary}");
    assert_eq!(scene.machine.totals().compactions, 2);
    // People still see all of it, in order, and what it was replaced by.
    let said: Vec<_> = scene.machine.said(0).collect();
    assert_eq!(said.len(), scene.machine.said_count());
    assert!(said.iter().map(|(number, _)| *number).eq(0..said.len()));
    let calls: Vec<String> = said
        .iter()
        .flat_map(|(_, message)| message.tool_calls())
        .map(|call| call.id.to_string())
        .collect();
    assert_eq!(calls, ["a", "b", "c", "d"]);
    let firsts = said
        .iter()
        .filter(|(_, message)| matches!(&***message, Message::User(blocks) if blocks.len() == 3));
    assert_eq!(firsts.count(), 2);
    assert_eq!(
        scene.machine.said(3).next().map(|(number, _)| number),
        Some(3)
    );
    for bound in 0..=said.len() + 1 {
        let transcript = Transcript::last(
            &scene.machine.spec().unwrap().invocation,
            &scene.machine,
            bound,
        );
        let kept = transcript.messages();
        assert!(kept.len() <= bound);
        assert_eq!(
            kept.len() + transcript.dropped(),
            said.len(),
            "bound {bound}"
        );
        if let Some(Message::User(blocks)) = kept.first().map(|first| &**first) {
            assert!(
                !matches!(blocks[0], UserBlock::ToolResult(_)),
                "bound {bound}"
            );
        }
    }
}

#[test]
fn a_transcript_never_begins_between_a_call_and_its_result() {
    let scene = check(agent(), grown());
    let id = scene.machine.spec().unwrap().invocation;
    for (bound, kept) in [(10, 5), (5, 5), (4, 4), (3, 2), (2, 2), (1, 0), (0, 0)] {
        let transcript = Transcript::last(&id, &scene.machine, bound);
        assert_eq!(transcript.messages().len(), kept, "bound {bound}");
        assert_eq!(transcript.dropped() + kept, 5);
    }
}

#[test]
fn a_call_of_unknown_outcome_stays_known() {
    let scene = check(
        small_window(),
        [
            (start(), "timer deadline 300s; reserve"),
            (granted(), "call + [task]"),
            (say(0, &"x".repeat(4_000)), ""),
            (wants(1, "act", "a"), ""),
            (
                ends_at(1_500, StopReason::ToolUse),
                "settle used; persist; run a",
            ),
            (back(), "timer deadline 300s; reserve"),
            (granted(), "call + [say, act a] + [a error]"),
            (wants(0, "look", "b"), "run b"),
            (ends_at(5_000, StopReason::ToolUse), "settle used"),
            (done("b"), "reserve"),
            (granted(), "summarize 3"),
            (say(0, "s"), ""),
            (ends(StopReason::EndTurn), "settle used; reserve"),
            (granted(), AFTER),
        ],
    );
    assert!(
        summary(&scene).ends_with("- a of `act` with {\"for\":\"a\"}"),
        "{}",
        summary(&scene)
    );
}

#[test]
fn the_ledger_never_passes_its_limit_by_it() {
    // Asked of a real ledger: the summary is held and settled like any call.
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut spec = small_window();
    spec.limits.max_output_tokens = 1_000;
    let scene = check(
        spec,
        [
            (start(), "timer deadline 300s; reserve"),
            (asked(&ledger), "call + [task]"),
            (wants(0, "look", "a"), "run a"),
            (ends_at(1_500, StopReason::ToolUse), "settle used"),
            (long_result("a"), "reserve"),
            (asked(&ledger), "call + [look a] + [a ok]"),
            (wants(0, "look", "b"), "run b"),
            (ends_at(4_900, StopReason::ToolUse), "settle used"),
            (done("b"), "reserve"),
            (asked(&ledger), "summarize 3"),
            (say(0, "s"), ""),
            (ends_at(4_000, StopReason::EndTurn), "settle used; reserve"),
            (asked(&ledger), AFTER),
        ],
    );
    let used = scene
        .settlements
        .iter()
        .filter(|settlement| matches!(settlement, Settlement::Used { .. }));
    assert_eq!(used.count(), 3);
    assert!(scene.requested_output <= 1_000);
}
