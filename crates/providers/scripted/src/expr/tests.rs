//! Expressions against small conversations.

use serde_json::{Value as Json, json};

use super::filter::NAMES;
use super::{Expr, Names, Scope, Template, Work};
use crate::history::History;
use crate::request::{Endpoint, Version, read};
use crate::script::{Content, Conversation, Turn};
use crate::{Script, limits};

const NAMES_HERE: Names<'_> = Names {
    lets: &[],
    in_for_each: false,
};

/// A conversation whose first turn called `find` (this server's id) and `other_tool` (a foreign id).
fn body() -> Json {
    json!({
        "model": "m", "max_tokens": 10, "system": "You are exact.",
        "messages": [
            {"role": "user", "content": "Find the\nTODOs"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_01t0b1i0k0_0000000000000001", "name": "grep", "input": {"pattern": "TODO", "paths": ["a", "b"]}},
                {"type": "tool_use", "id": "toolu_foreign", "name": "other_tool", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_foreign", "content": "gone", "is_error": true},
                {"type": "tool_result", "tool_use_id": "toolu_01t0b1i0k0_0000000000000001",
                 "content": [{"type": "text", "text": "src/a.rs:3:TODO x\nsrc/b.rs:9:TODO y\nsrc/a.rs:7:TODO z\n3 matches in 2 files"}]},
                {"type": "text", "text": "And now?"},
            ]},
        ],
    })
}

fn conversation() -> Conversation {
    let script = Script::parse(
        "turns: [{ text: hi, tools: [{ name: grep, as: find }, { name: other.tool }] }, { text: '{{ task }}' }]",
        "test",
    )
    .unwrap();
    script.conversations.into_iter().next().unwrap()
}

fn evaluate(text: &str) -> Result<Json, String> {
    let expr = Expr::parse(text, NAMES_HERE)?;
    let body = body();
    let request = read(&body, Endpoint::Messages, Version::New).unwrap();
    let history = History::of(&request);
    let conversation = conversation();
    let scope = Scope {
        conversation: &conversation,
        history: &history,
        turn: 1,
        played: &[0],
        item: None,
        work: &Work::new(),
    };
    expr.value(&scope).map_err(|failure| failure.0)
}

#[track_caller]
fn check(text: &str, expected: impl Into<Json>) {
    assert_eq!(evaluate(text), Ok(expected.into()), "{text}");
}

#[test]
fn values_come_from_the_conversation() {
    check("task", "Find the\nTODOs");
    check("user", "And now?");
    check("system", "You are exact.");
    check("model", "m");
    check("turn", 2);
    check(
        "input.find",
        json!({"pattern": "TODO", "paths": ["a", "b"]}),
    );
    check("failed.find", false);
    check("failed.other_tool", true);
    check("result.other_tool", "gone");
    check("results | length", 2);
    check("results[1]", "gone");
    check("results[-1]", "gone");
    check("results[9]", Json::Null);
    check("results.find | length", 1);
    check("result.nobody", Json::Null);
    check("\"a\\tb\\\"\\d\"", "a\tb\"\\d");
}

#[test]
fn every_filter_does_what_its_name_says() {
    check("result.find | line_count", 4);
    check("result.find | lines | length", 4);
    check("result.find | nth 0", "src/a.rs:3:TODO x");
    check("result.find | nth -1", "3 matches in 2 files");
    check("result.find | nth 99", Json::Null);
    check("result.find | first 2 | line_count", 2);
    check(
        "result.find | lines | skip 2 | first 1",
        json!(["src/a.rs:7:TODO z"]),
    );
    check("result.find | last 1", "3 matches in 2 files");
    check(
        "result.find | lines | capture \"^([^:]+):\"",
        json!(["src/a.rs", "src/b.rs", "src/a.rs"]),
    );
    check(
        "result.find | lines | capture \"^([^:]+):\" | unique",
        json!(["src/a.rs", "src/b.rs"]),
    );
    check(
        "result.find | lines | capture \"^([^:]+):\" | tally",
        json!(["2 src/a.rs", "1 src/b.rs"]),
    );
    check(
        "result.find | captures \":(\\d+):\"",
        json!(["3", "9", "7"]),
    );
    check("result.find | captures \":(\\d+):\" | sum", 19);
    check("result.find | capture \"^(\\d+) matches\"", "3");
    check("result.find | capture \"nothing like it\"", Json::Null);
    check("result.find | count \"TODO\"", 3);
    check("result.find | lines | count \"TODO\"", 3);
    check("result.find | keep \"b.rs\"", "src/b.rs:9:TODO y");
    check(
        "result.find | lines | drop \"TODO\"",
        json!(["3 matches in 2 files"]),
    );
    check("result.find | has \"TODO y\"", true);
    check("result.find | nth 1 | field \":\" 1", "9");
    check("result.find | nth 1 | field \":\" -1", "TODO y");
    check(
        "result.find | nth 1 | split \":\"",
        json!(["src/b.rs", "9", "TODO y"]),
    );
    check(
        "result.find | lines | field \":\" 0 | sort | reverse | first 1",
        json!(["src/b.rs"]),
    );
    check(
        "'a:9\nb:10\nc' | lines | by_number ':(\\d+)$'",
        json!(["b:10", "a:9", "c"]),
    );
    check("input.find | json \"/paths/1\"", "b");
    check("'{\"a\":[1,2]}' | json '/a/0'", 1);
    check("'not json' | json '/a'", Json::Null);
    check("inputs.find | pluck \"/pattern\"", json!(["TODO"]));
    check("input.find | json '/paths' | join ' + '", "a + b");
    check(
        "input.find | json '/paths' | prefix '- ' | suffix '!' | join ''",
        "- a!- b!",
    );
    check("result.nobody | default \"none\"", "none");
    check("result.nobody | length", 0);
    check("result.nobody | count 'x'", 0);
    check("result.nobody | lines | first 3", Json::Null);
    check("'' | default 7", 7);
    check("' x ' | trim | upper | lower", "x");
    check("'a-b-c' | replace '-' '+'", "a+b+c");
    check("'a-b' | replace '(a)' '$1'", "$1-b");
    check("'ünïcödé' | truncate 3", "ünï");
    check("'ab' | repeat 3", "ababab");
    check("'ünï' | length", 3);
    check("'a' | is 'a'", true);
    check("7 | is '7'", true);
    check("3 | above 2", true);
    check("'3' | below 2", false);
    check("'' | not", true);
    check("failed.other_tool | then 'yes'", "yes");
    check("failed.find | then 'yes'", Json::Null);
    check("results | not", false);
}

#[test]
fn what_cannot_be_right_is_refused_when_parsed() {
    for (text, hint) in [
        ("", "the expression is empty"),
        ("tsk", "did you mean `task`?"),
        ("item", "exists only in a call with `for_each`"),
        ("result", "`result.NAME`"),
        ("task.name", "has no part"),
        ("task | linse", "did you mean `lines`?"),
        ("task | first", "needs an argument"),
        ("task | first \"two\"", "must be a whole number"),
        ("task | first -1", "not negative"),
        ("task | first 1 2", "one too many"),
        ("task | split ''", "not empty"),
        ("task | capture '('", "not a regular expression"),
        ("task | json 'a'", "JSON pointer"),
        ("task lines", "expected `|`"),
        ("task |", "expected a filter"),
        ("results[x]", "whole number in brackets"),
        ("\"open", "no closing"),
        ("task ; rm", "unexpected character `;`"),
        ("99999999999999999999", "not a whole number"),
    ] {
        let problem = Expr::parse(text, NAMES_HERE).unwrap_err();
        assert!(problem.contains(hint), "{text:?}: {problem}");
    }
    let long = format!("task{}", " | trim".repeat(limits::FILTERS + 1));
    assert!(
        Expr::parse(&long, NAMES_HERE)
            .unwrap_err()
            .contains("more than 16 filters")
    );
    let huge = "x".repeat(limits::EXPRESSION_BYTES + 1);
    assert!(
        Expr::parse(&huge, NAMES_HERE)
            .unwrap_err()
            .contains("at most 2000")
    );
    assert!(Expr::parse("task | capture '(a{1000}){1000}'", NAMES_HERE).is_err());
}

#[test]
fn growth_is_bounded() {
    let problem = evaluate("'0123456789' | repeat 1000000").unwrap_err();
    assert!(problem.contains("longer than"), "{problem}");
    let problem = evaluate("'0123456789' | repeat 400000 | replace '0' '0123456789'").unwrap_err();
    assert!(problem.contains("longer than"), "{problem}");
    assert!(evaluate("'x' | repeat 9223372036854775807").is_err());
    // Each step is within its bound; together they are more than a request may make.
    let conversation = conversation();
    let body = body();
    let request = read(&body, Endpoint::Messages, Version::New).unwrap();
    let history = History::of(&request);
    let work = Work::new();
    let scope = Scope {
        conversation: &conversation,
        history: &history,
        turn: 1,
        played: &[0],
        item: None,
        work: &work,
    };
    let expr = Expr::parse(
        "'0123456789' | repeat 400000 | trim | trim | trim | trim",
        NAMES_HERE,
    )
    .unwrap();
    let failure = (0..100)
        .find_map(|_| expr.value(&scope).err())
        .expect("the work of a request is bounded");
    assert!(failure.0.contains("more than 67108864 bytes"), "{failure}");
}

#[test]
fn templates_put_values_into_text() {
    let render = |text: &str| {
        let template = Template::parse(text, NAMES_HERE)?;
        let body = body();
        let request = read(&body, Endpoint::Messages, Version::New).unwrap();
        let history = History::of(&request);
        let conversation = conversation();
        let scope = Scope {
            conversation: &conversation,
            history: &history,
            turn: 1,
            played: &[0],
            item: None,
            work: &Work::new(),
        };
        template.render(&scope).map_err(|failure| failure.0)
    };
    assert_eq!(render("plain"), Ok("plain".to_owned()));
    assert_eq!(
        render("{{ result.find | line_count }} lines, {{turn}}"),
        Ok("4 lines, 2".to_owned())
    );
    assert_eq!(render("{{ '}}' }}{{ \"{{\" }}"), Ok("}}{{".to_owned()));
    assert_eq!(render("a }} b"), Ok("a }} b".to_owned()));
    assert!(render("{{ task").unwrap_err().contains("no closing"));
    assert!(
        render("{{ result.nobody }}")
            .unwrap_err()
            .contains("has no value for this request")
    );
}

#[test]
fn the_list_of_filters_is_complete() {
    for name in NAMES {
        let problem = Expr::parse(&format!("task | {name} [",), NAMES_HERE).unwrap_err();
        assert!(!problem.contains("unknown filter"), "{problem}");
    }
}

#[test]
fn labels_belong_to_blocks() {
    let conversation = conversation();
    let turn: &Turn = &conversation.turns[0];
    assert!(matches!(turn.content, Content::Blocks(_)));
    assert_eq!(
        [turn.label(0), turn.label(1), turn.label(2), turn.label(3)],
        [None, Some("find"), Some("other_tool"), None]
    );
}
