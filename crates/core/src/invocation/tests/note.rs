//! The note about what is used of the limits.

use super::harness::*;
use crate::Money;
use crate::agent::Limit;
use crate::invocation::InvocationSpec;
use crate::invocation::StopReason::{EndTurn, ToolUse};
use crate::message::{Message, UserBlock};

fn telling(change: impl FnOnce(&mut InvocationSpec)) -> InvocationSpec {
    let mut spec = InvocationSpec {
        tells_limits: true,
        ..agent()
    };
    change(&mut spec);
    spec
}

/// A turn with one call; what the next model call gets to see of it.
fn turn(id: &'static str, run: &'static str, call: &'static str) -> [(In, &'static str); 4] {
    [
        (wants(0, "look", id), run),
        (ends(ToolUse), "settle used"),
        (done(id), "reserve"),
        (granted(), call),
    ]
}

fn notes(scene: &Scene) -> Vec<String> {
    let texts = scene.machine.history().iter().skip(1);
    texts
        .flat_map(|message| match &**message {
            Message::User(blocks) => blocks.as_slice(),
            Message::Assistant(_) => &[],
        })
        .filter_map(|block| match block {
            UserBlock::Text(text) => Some(text.to_string()),
            UserBlock::ToolResult(_) => None,
        })
        .collect()
}

fn started() -> [(In, &'static str); 2] {
    [
        (start(), "timer deadline 300s; reserve"),
        (granted(), "call + [task]"),
    ]
}

#[test]
fn a_limit_is_told_once_behind_the_results() {
    let spec = telling(|spec| spec.limits.turns.value = 5);
    let rows = started()
        .into_iter()
        .chain(turn("a", "run a", "call + [look a] + [a ok]"))
        .chain(turn("b", "run b", "call + [look b] + [b ok]"))
        .chain(turn("c", "run c", "call + [look c] + [c ok]"))
        .chain(turn("d", "run d", "call + [look d] + [d ok, [otto:]"))
        .chain([
            (say(0, "Done."), ""),
            (ends(EndTurn), "settle used; finish completed: Done."),
        ]);
    let scene = check(spec, rows);
    assert_eq!(
        notes(&scene),
        [
            "[Otto: 80 % of the turns of this task is used (4 of 5 turns). Come to an end before the rest is used.]"
        ]
    );
}

#[test]
fn money_tokens_and_time_are_told_together() {
    // One reply of the harness uses more than the whole of either.
    let spec = telling(|spec| {
        spec.scopes[0].cost = Some(Limit::new(Money::from_picodollars(1).unwrap(), "test"));
        spec.scopes[0].tokens = Some(Limit::new(1, "test"));
    });
    let [wants, ends, done, granted] = turn("a", "run a", "call + [look a] + [a ok, [otto:]");
    let late = (done.0.after(seconds(240)), done.1);
    let scene = check(
        spec,
        started().into_iter().chain([wants, ends, late, granted]),
    );
    let [note] = &notes(&scene)[..] else {
        panic!("one note: {:?}", notes(&scene));
    };
    for part in [
        "of the money",
        "of the tokens",
        "80 % of the time of this task is used (240 of 300 seconds)",
    ] {
        assert!(note.contains(part), "{note}");
    }
    assert!(!note.contains("turns"), "{note}");
}

#[test]
fn nothing_is_told_unless_asked_for() {
    let spec = limited(|limits| limits.turns.value = 1);
    let rows = started().into_iter().chain([
        (wants(0, "look", "a"), "run a"),
        (ends(ToolUse), "settle used"),
        (done("a"), "finish budget_exhausted"),
    ]);
    assert_eq!(notes(&check(spec, rows)), [""; 0]);
}
