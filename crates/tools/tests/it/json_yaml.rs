//! `json` and `yaml`: documents in and out, from texts, files and values.

use serde_json::json;

use crate::world::World;

#[test]
fn json_is_parsed_queried_generated_and_validated() {
    let world = World::with_files(&[
        ("a.json", "{\"b\": [1, 2.50, {\"c\": null}], \"a\": \"x\"}"),
        ("schema.json", r#"{"required": ["z"]}"#),
        ("schema.yaml", "properties:\n  a: {type: integer}\n"),
        ("conf.yaml", "name: x\nports: [80, 0x1BB]\n"),
    ]);
    for (input, answer) in [
        (
            json!({"action": "parse", "path": "a.json"}),
            "{\n  \"b\": [\n    1,\n    2.50,\n    {\n      \"c\": null\n    }\n  ],\n  \"a\": \"x\"\n}",
        ),
        (
            json!({"action": "generate", "path": "a.json", "compact": true}),
            r#"{"b":[1,2.50,{"c":null}],"a":"x"}"#,
        ),
        (
            json!({"action": "generate", "path": "conf.yaml", "compact": true}),
            r#"{"name":"x","ports":[80,443]}"#,
        ),
        (
            json!({"action": "query", "path": "a.json", "query": "/b/2"}),
            "{\n  \"c\": null\n}",
        ),
        (
            json!({"action": "query", "path": "a.json", "query": "$.b[?@ > 1]"}),
            "$.b[1]: 2.50\n[json: 1 result]",
        ),
        (
            json!({"action": "query", "text": "[1,2]", "query": "$[5]"}),
            "\n[json: 0 results]",
        ),
        (
            json!({"action": "query", "value": {"k": [true]}, "query": "$..*"}),
            "$.k: [true]\n$.k[0]: true\n[json: 2 results]",
        ),
        (
            json!({"action": "validate", "path": "a.json", "schema": {"type": "object"}}),
            "the document is valid",
        ),
        (
            json!({"action": "validate", "path": "a.json", "schema_path": "schema.json"}),
            "the document: \"z\" is a required property (schema: /required)\n[json: not valid: 1 violation]",
        ),
        (
            json!({"action": "validate", "path": "a.json", "schema_path": "schema.yaml"}),
            "/a: \"x\" is not of type \"integer\" (schema: /properties/a/type)\n[json: not valid: 1 violation]",
        ),
    ] {
        assert_eq!(
            world.ok("json", input.clone()).trim_start(),
            answer.trim_start(),
            "{input}"
        );
    }
    // The order of keys in a value survives the way through the call.
    let text = r#"{"action":"generate","compact":true,"value":{"z":1,"a":{"y":0.10,"b":2}}}"#;
    assert_eq!(
        world.call_text("json", text).unwrap(),
        r#"{"z":1,"a":{"y":0.10,"b":2}}"#
    );
    assert_eq!(
        world
            .call_text("yaml", &text.replace("compact\":true", "compact\":false"))
            .unwrap(),
        "z: 1\na:\n  \"y\": 0.10\n  b: 2\n"
    );
}

#[test]
fn yaml_is_parsed_queried_generated_and_validated() {
    let world = World::with_files(&[
        (
            "ci.yml",
            "on: [push]\njobs:\n  test: &t\n    steps:\n      - run: cargo test\n  again: *t\n",
        ),
        ("many.yaml", "a: 1\n---\nb: 2\n"),
        ("a.json", "{\"x\": [1, {\"y\": \"no\"}]}"),
    ]);
    for (input, answer) in [
        (
            json!({"action": "query", "path": "ci.yml", "query": "$.jobs.*.steps[*].run"}),
            "$.jobs.test.steps[0].run: \"cargo test\"\n$.jobs.again.steps[0].run: \"cargo test\"\n[yaml: 2 results]",
        ),
        (
            json!({"action": "parse", "path": "many.yaml", "compact": true}),
            "[{\"a\":1},{\"b\":2}]\n[yaml: the text has 2 documents, given as one array]",
        ),
        (
            json!({"action": "generate", "path": "a.json"}),
            "x:\n  - 1\n  - \"y\": \"no\"\n",
        ),
        (
            json!({"action": "generate", "text": "{\"a\": \"l1\\nl2\"}"}),
            "a: |-\n  l1\n  l2\n",
        ),
        (
            json!({"action": "validate", "text": "a: 1", "schema": {"properties": {"a": {"type": "string"}}}}),
            "/a: 1 is not of type \"string\" (schema: /properties/a/type)\n[yaml: not valid: 1 violation]",
        ),
        (
            json!({"action": "parse", "text": "a: !Ref x", "compact": true}),
            "{\"a\":\"x\"}\n[yaml: tags left out: !Ref]",
        ),
    ] {
        assert_eq!(world.ok("yaml", input.clone()), answer, "{input}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let world = World::with_files(&[("a.json", "[1,")]);
    for (tool, input, part) in [
        ("json", json!({"action": "parse"}), "exactly one of"),
        (
            "json",
            json!({"action": "parse", "text": "1", "path": "a.json"}),
            "exactly one of",
        ),
        (
            "json",
            json!({"action": "parse", "path": "a.json"}),
            "`a.json` is not valid JSON: line 1, column 4",
        ),
        (
            "json",
            json!({"action": "parse", "path": "../x.json"}),
            "outside",
        ),
        (
            "json",
            json!({"action": "query", "text": "1"}),
            "needs `query`",
        ),
        (
            "json",
            json!({"action": "query", "text": "1", "query": "a.b"}),
            "JSON Pointer",
        ),
        (
            "json",
            json!({"action": "validate", "text": "1"}),
            "needs one of `schema`",
        ),
        (
            "json",
            json!({"action": "validate", "text": "1", "schema": 5}),
            "an object or a boolean",
        ),
        (
            "json",
            json!({"action": "explode", "text": "1"}),
            "unknown variant",
        ),
        (
            "yaml",
            json!({"action": "parse", "text": "a: b: c"}),
            "not valid YAML",
        ),
        (
            "yaml",
            json!({"action": "parse", "text": "x".repeat(3_000_000)}),
            "more than the limit",
        ),
    ] {
        let message = world.err(tool, input);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn large_answers_are_cut_with_a_note() {
    let world = World::new();
    world.put(
        "big.json",
        format!("[{}0]", "\"some words\",".repeat(90_000)),
    );
    let answer = world.ok("json", json!({"action": "parse", "path": "big.json"}));
    assert!(
        answer.len() < 256 * 1024
            && answer.ends_with("[json: cut at 240.0 KiB; use a query for a part]")
    );
    let answer = world.ok(
        "json",
        json!({"action": "query", "path": "big.json", "query": "$[*]"}),
    );
    assert!(
        answer.len() < 256 * 1024 && answer.contains("[json: 90001 results, the first "),
        "{}",
        answer.len()
    );
    let answer = world.ok(
        "json",
        json!({"action": "query", "path": "big.json", "query": "$"}),
    );
    assert!(
        answer.len() < 10_000 && answer.contains("1 value cut to 8.0 KiB"),
        "{}",
        answer.len()
    );
    world.put("odd.json", "[\"\u{e0041}\u{202e}\"]");
    assert_eq!(
        world.ok(
            "json",
            json!({"action": "generate", "path": "odd.json", "compact": true})
        ),
        r#"["\udb40\udc41\u202e"]"#
    );
}
