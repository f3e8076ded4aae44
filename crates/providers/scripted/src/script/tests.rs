//! Scripts as text: what is accepted, and every complaint about what is not.

use super::{Content, FaultKind, Repeat, Script};

#[track_caller]
fn complaints(yaml: &str) -> String {
    Script::parse(yaml, "s.yml")
        .expect_err("this script is wrong")
        .to_string()
}

#[test]
fn everything_at_once() {
    let script = Script::parse(include_str!("tests/everything.yml"), "everything.yml")
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(script.name(), "everything");
    assert_eq!(script.conversations(), 2);
    let [first, second] = script.conversations.as_slice() else {
        panic!("two conversations")
    };
    assert_eq!(first.lets.len(), 2);
    assert_eq!(first.turns.len(), 4);
    assert_eq!(first.turns[1].repeat, Repeat::Times(3));
    assert_eq!(second.turns[0].repeat, Repeat::Forever);
    assert!(matches!(second.turns[1].content, Content::Sse(_)));
    assert_eq!(first.turns[0].faults.len(), 12);
    assert!(
        first.turns[0]
            .faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Wire(_)))
    );
}

#[test]
fn all_problems_are_reported_with_their_lines() {
    let given = complaints(include_str!("tests/wrong.yml"));
    let expected = include_str!("tests/wrong.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/script/tests/wrong.txt");
        std::fs::write(path, format!("{given}\n")).unwrap();
        return;
    }
    assert_eq!(given.trim_end(), expected.trim_end());
}

#[test]
fn what_is_no_script_says_so() {
    for (yaml, hint) in [
        ("", "expected a mapping"),
        ("[]", "expected a mapping"),
        ("name: x", "a script needs `turns`"),
        ("turns: {}", "expected a list of turns"),
        ("turns: []\nconversations: []", "found both"),
        ("conversations: []", "at least one conversation"),
        ("turns: [\n", "not valid YAML"),
        ("turns: []\nturns: []", "not valid YAML"),
        ("turns: [{ text: hi }]\n---\nturns: []", "not valid YAML"),
        ("turns: [{ text: .inf }]", "non-finite"),
        (
            "turns: [{ text: hi, stop: banana }]",
            "expected one of `end_turn`",
        ),
        ("turns: [{ text: hi, stop: banana }]", "s.yml:1:27: "),
    ] {
        let given = complaints(yaml);
        assert!(given.contains(hint), "{yaml:?}: {given}");
        assert!(given.starts_with("s.yml:"), "{given}");
    }
}

#[test]
fn hostile_yaml_is_stopped() {
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\nturns: *e\n";
    assert!(complaints(bomb).contains("not valid YAML"));
    assert!(complaints(&"[".repeat(100_000)).contains("not valid YAML"));
    assert!(complaints(&"x".repeat(2 << 20)).contains("expected at most 1048576"));
    let many = format!("turns: [{}]", "{},".repeat(1_500));
    assert!(
        complaints(&many).contains("1500 turns: expected at most 1000"),
        "{}",
        complaints(&many)
    );
}

#[test]
fn the_number_of_complaints_is_bounded_and_the_origin_is_harmless() {
    let yaml = format!("turns:\n{}", "  - { txt: x }\n".repeat(500));
    let errors = Script::parse(&yaml, "a\u{1b}[31m\n").unwrap_err();
    assert_eq!(errors.errors().len(), 100);
    assert!(!errors.to_string().contains('\u{1b}'));
}

#[test]
fn the_demo_is_valid() {
    assert_eq!(crate::demo_script().name(), "demo");
}
