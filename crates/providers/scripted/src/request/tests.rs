//! What the vendor refuses, with its texts.

use serde_json::{Value as Json, json};

use super::{Endpoint, ToolChoice, Version, read};

/// A valid request with `change` applied: a value at a pointer, or `null` to remove the member.
fn request(changes: &[(&str, Json)]) -> Json {
    let mut body = json!({"model": "claude-opus-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    for (pointer, value) in changes {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(member);
        } else {
            parent.insert(member.to_owned(), value.clone());
        }
    }
    body
}

#[track_caller]
fn refused(changes: &[(&str, Json)]) -> String {
    let body = request(changes);
    let error = read(&body, Endpoint::Messages, Version::New).expect_err("this request is wrong");
    assert_eq!((error.status, error.kind), (400, "invalid_request_error"));
    error.message
}

fn messages(messages: Json) -> String {
    refused(&[("/messages", messages)])
}

fn call(id: &str) -> Json {
    json!({"type": "tool_use", "id": id, "name": "t", "input": {}})
}

fn result(id: &str) -> Json {
    json!({"type": "tool_result", "tool_use_id": id, "content": "ok"})
}

fn user(content: impl Into<Json>) -> Json {
    json!({"role": "user", "content": content.into()})
}

fn assistant(content: impl Into<Json>) -> Json {
    json!({"role": "assistant", "content": content.into()})
}

#[test]
fn fields_are_required_typed_and_known() {
    for (changes, text) in [
        (
            vec![("/max_tokens", Json::Null)],
            "max_tokens: Field required",
        ),
        (vec![("/model", Json::Null)], "model: Field required"),
        (vec![("/messages", Json::Null)], "messages: Field required"),
        (
            vec![("/model", json!(5))],
            "model: Input should be a valid string",
        ),
        (
            vec![("/max_tokens", json!("5"))],
            "max_tokens: Input should be a valid integer",
        ),
        (
            vec![("/max_tokens", json!(1.5))],
            "max_tokens: Input should be a valid integer",
        ),
        (
            vec![("/max_tokens", json!(-1))],
            "max_tokens: Input should be greater than or equal to 0",
        ),
        (
            vec![("/max_tokens", json!(0)), ("/stream", json!(true))],
            "max_tokens: Input should be greater than or equal to 1",
        ),
        (
            vec![("/stream", json!("yes"))],
            "stream: Input should be a valid boolean",
        ),
        (
            vec![("/messages", json!({}))],
            "messages: Input should be a valid list",
        ),
        (
            vec![("/messages", json!([]))],
            "messages: at least one message is required",
        ),
        (
            vec![("/max_token", json!(1))],
            "max_token: Extra inputs are not permitted",
        ),
        (
            vec![("/temperature", json!(1))],
            "temperature: Extra inputs are not permitted",
        ),
        (
            vec![("/metadata", json!({"user": "x"}))],
            "metadata.user: Extra inputs are not permitted",
        ),
        (
            vec![("/service_tier", json!("fast"))],
            "service_tier: Input should be 'auto' or 'standard_only'",
        ),
        (
            vec![("/stop_sequences", json!(["  "]))],
            "stop_sequences: each stop sequence must contain non-whitespace",
        ),
        (
            vec![(
                "/thinking",
                json!({"type": "enabled", "budget_tokens": 1000}),
            )],
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            vec![("/thinking", json!({"type": "enabled"}))],
            "thinking.enabled.budget_tokens: Field required",
        ),
        (
            vec![("/thinking", json!({"type": "adaptive", "budget_tokens": 5}))],
            "thinking.adaptive.budget_tokens: Extra inputs are not permitted",
        ),
        (
            vec![("/output_config", json!({"effort": "huge"}))],
            "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        (
            vec![("/system", json!([{"type": "image"}]))],
            "system.0.type: Input should be 'text'",
        ),
        (
            vec![("/system", json!([{"type": "text", "text": ""}]))],
            "system: text content blocks must be non-empty",
        ),
        (
            vec![(
                "/system",
                json!([{"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}]),
            )],
            "system.0: cache_control cannot be set for empty text blocks",
        ),
    ] {
        assert_eq!(refused(&changes), text);
    }
    let not_an_object = read(&json!([]), Endpoint::Messages, Version::New).unwrap_err();
    assert!(
        not_an_object.message.contains("valid dictionary"),
        "{}",
        not_an_object.message
    );
}

#[test]
fn the_old_version_still_takes_sampling() {
    let body = request(&[("/temperature", json!(0.5))]);
    assert!(
        read(&body, Endpoint::Messages, Version::Old)
            .unwrap()
            .sampling
    );
    let body = request(&[("/top_p", json!("much"))]);
    assert_eq!(
        read(&body, Endpoint::Messages, Version::Old)
            .unwrap_err()
            .message,
        "top_p: Input should be a valid number"
    );
}

#[test]
fn counting_takes_fewer_fields() {
    let body = request(&[("/max_tokens", Json::Null)]);
    assert_eq!(
        read(&body, Endpoint::CountTokens, Version::New)
            .unwrap()
            .max_tokens,
        0
    );
    let error = read(&request(&[]), Endpoint::CountTokens, Version::New).unwrap_err();
    assert_eq!(error.message, "max_tokens: Extra inputs are not permitted");
}

#[test]
fn blocks_are_known_typed_and_in_their_place() {
    for (list, text) in [
        (
            json!([user("")]),
            "messages.0: all messages must have non-empty content except for the optional final assistant message",
        ),
        (
            json!([user(json!([]))]),
            "messages.0: all messages must have non-empty content except for the optional final assistant message",
        ),
        (
            json!([user("  ")]),
            "messages: text content blocks must be non-empty",
        ),
        (
            json!([user(json!([{"type": "text", "text": ""}]))]),
            "messages: text content blocks must be non-empty",
        ),
        (
            json!([{"role": "tool", "content": "x"}]),
            "messages.0.role: Input should be 'user', 'assistant' or 'system'",
        ),
        (
            json!([{"role": "user", "content": "x", "name": "y"}]),
            "messages.0.name: Extra inputs are not permitted",
        ),
        (
            json!([user(json!([{"type": "text", "text": "x", "id": 1}]))]),
            "messages.0.content.0.text.id: Extra inputs are not permitted",
        ),
        (
            json!([user(
                json!([{"type": "text", "text": "x", "citations": []}])
            )]),
            "messages.0.content.0.text.citations: Extra inputs are not permitted",
        ),
        (
            json!([user(json!([{"type": "video"}]))]),
            "messages.0.content.0: Input tag 'video' found using 'type' does not match any of the expected tags: 'text', 'image', 'document', 'search_result', 'tool_use', 'tool_result', 'thinking', 'redacted_thinking', 'server_tool_use', 'web_search_tool_result', 'container_upload'",
        ),
        (
            json!([user(json!([call("a")]))]),
            "messages.0: `tool_use` blocks can only be in `assistant` messages",
        ),
        (
            json!([user("x"), assistant(json!([result("a")]))]),
            "messages.1: `tool_result` blocks can only be in `user` messages",
        ),
        (
            json!([user(
                json!([{"type": "thinking", "thinking": "", "signature": ""}])
            )]),
            "messages.0: `thinking` blocks can only be in `assistant` messages",
        ),
        (
            json!([
                user("x"),
                assistant(json!([{"type": "document", "source": {}}]))
            ]),
            "messages.1: `document` blocks can only be in `user` messages",
        ),
        (
            json!([
                user("x"),
                assistant(json!([call("a b")])),
                user(json!([result("a b")]))
            ]),
            "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        ),
        (
            json!([
                user("x"),
                assistant(json!([{"type": "tool_use", "id": "a", "name": "t", "input": []}]))
            ]),
            "messages.1.content.0.tool_use.input: Input should be an object",
        ),
        (
            json!([
                user("x"),
                assistant(
                    json!([{"type": "thinking", "thinking": "", "signature": "", "cache_control": {"type": "ephemeral"}}])
                )
            ]),
            "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted",
        ),
        (
            json!([user(
                json!([{"type": "text", "text": "x", "cache_control": {"type": "forever"}}])
            )]),
            "messages.0.content.0.text.cache_control.type: Input should be 'ephemeral'",
        ),
        (
            json!([user(
                json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "2h"}}])
            )]),
            "messages.0.content.0.text.cache_control.ephemeral.ttl: Input should be '5m' or '1h'",
        ),
    ] {
        assert_eq!(messages(list), text);
    }
}

#[test]
fn calls_and_results_are_paired() {
    let missing = |at: usize, ids: &str| {
        format!(
            "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block \
             must have a corresponding `tool_result` block in the next message."
        )
    };
    let unexpected = |at: &str, id: &str| {
        format!(
            "messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
             corresponding `tool_use` block in the previous message."
        )
    };
    let text = json!({"type": "text", "text": "x"});
    for (list, expected) in [
        (json!([user("x"), assistant(json!([call("a"), call("b")]))]), missing(1, "a, b")),
        (json!([user("x"), assistant(json!([call("a"), call("b")])), user(json!([result("b")]))]), missing(1, "a")),
        (json!([user("x"), assistant(json!([call("a")])), user("y")]), missing(1, "a")),
        // A result behind a text does not count.
        (json!([user("x"), assistant(json!([call("a")])), user(json!([text, result("a")]))]), missing(1, "a")),
        (json!([user(json!([result("a")]))]), unexpected("0.content.0", "a")),
        (json!([user("x"), assistant(json!([call("a")])), user(json!([result("a")])), assistant("y"), user(json!([text, result("a")]))]), unexpected("4.content.1", "a")),
        (json!([user("x"), assistant(json!([call("a")])), user(json!([result("a"), result("a")]))]), "messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with id: a".to_owned()),
        (json!([user("x"), assistant(json!([call("a"), call("a")])), user(json!([result("a")]))]), "messages.1.content.1: `tool_use` ids must be unique".to_owned()),
        (json!([assistant("x")]), "messages: first message must use the \"user\" role".to_owned()),
    ] {
        assert_eq!(messages(list), expected);
    }
    // Order is free, a text may follow, consecutive entries of a role are one turn.
    let fine = request(&[(
        "/messages",
        json!([
            user("x"),
            assistant(json!([call("a")])),
            assistant(json!([call("b")])),
            user(json!([result("b")])),
            user(json!([result("a"), text])),
        ]),
    )]);
    assert_eq!(
        read(&fine, Endpoint::Messages, Version::New)
            .unwrap()
            .entries
            .len(),
        5
    );
}

#[test]
fn an_open_server_tool_allows_only_results() {
    let open = json!([{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}, call("a")]);
    let text = json!({"type": "text", "text": "x"});
    assert_eq!(
        messages(json!([
            user("x"),
            assistant(open.clone()),
            user(json!([result("a"), text]))
        ])),
        "`web_search` tool use with id `srvtoolu_1` was found without a corresponding `web_search_tool_result` block"
    );
    let fine = request(&[(
        "/messages",
        json!([user("x"), assistant(open), user(json!([result("a")]))]),
    )]);
    assert!(read(&fine, Endpoint::Messages, Version::New).is_ok());
}

#[test]
fn system_entries_have_their_place() {
    let system = json!({"role": "system", "content": "now"});
    assert_eq!(
        messages(json!([system])),
        "messages: first message must use the \"user\" role"
    );
    assert_eq!(
        messages(json!([user("x"), assistant("y"), system])),
        "messages.2: a `system` message must directly follow a `user` message or a server tool result"
    );
    assert_eq!(
        messages(json!([user("x"), system, user("y")])),
        "messages.1: a `system` message must be last or be followed by an `assistant` message"
    );
    let fine = request(&[(
        "/messages",
        json!([user("x"), system, system, assistant("y"), user("z")]),
    )]);
    assert!(read(&fine, Endpoint::Messages, Version::New).is_ok());
}

#[test]
fn tools_are_checked() {
    let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
    for (tools, choice, text) in [
        (
            json!([tool("a b")]),
            Json::Null,
            "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        (
            json!([tool("fs.read")]),
            Json::Null,
            "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        (
            json!([tool("a"), tool("a")]),
            Json::Null,
            "tools: Tool names must be unique.",
        ),
        (
            json!([{"name": "a"}]),
            Json::Null,
            "tools.0.custom.input_schema: Field required",
        ),
        (
            json!([{"name": "a", "input_schema": {}}]),
            Json::Null,
            "tools.0.custom.input_schema.type: Field required",
        ),
        (
            json!([{"name": "a", "input_schema": {"type": "string"}}]),
            Json::Null,
            "tools.0.custom.input_schema.type: Input should be 'object'",
        ),
        (
            json!([{"name": "a", "input_schema": {"type": "object"}, "parameters": {}}]),
            Json::Null,
            "tools.0.custom.parameters: Extra inputs are not permitted",
        ),
        (
            json!([{"type": "function", "name": "a"}]),
            Json::Null,
            "tools.0: Input tag 'function' found using 'type' does not match any of the expected tags",
        ),
        (
            json!([tool("a")]),
            json!({"type": "tool", "name": "b"}),
            "Tool 'b' not found in provided tools",
        ),
        (
            json!([tool("a")]),
            json!({"type": "some"}),
            "tool_choice: Input tag 'some' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'",
        ),
        (
            json!([tool("a")]),
            json!({"type": "none", "disable_parallel_tool_use": true}),
            "tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted",
        ),
        (
            json!([]),
            json!({"type": "auto"}),
            "tool_choice: tool_choice may only be specified while providing tools",
        ),
    ] {
        assert_eq!(
            refused(&[("/tools", tools), ("/tool_choice", choice)]),
            text
        );
    }
    let body = request(&[(
        "/tools",
        json!([tool("a"), {"type": "web_search_20260318", "name": "web_search"}]),
    )]);
    assert_eq!(
        read(&body, Endpoint::Messages, Version::New)
            .unwrap()
            .tool_choice,
        ToolChoice::Auto { parallel: true }
    );
}

#[test]
fn cache_markers_are_few_and_in_order() {
    let marker = |ttl: &str| json!({"type": "ephemeral", "ttl": ttl});
    let text = |ttl: &str| json!({"type": "text", "text": "x", "cache_control": marker(ttl)});
    let five = json!([text("5m"), text("5m"), text("5m"), text("5m")]);
    assert_eq!(
        refused(&[
            ("/messages", json!([user(five)])),
            ("/cache_control", marker("5m"))
        ]),
        "A maximum of 4 blocks with cache_control may be provided. Found 5."
    );
    assert_eq!(
        refused(&[
            ("/system", json!([text("5m")])),
            ("/messages", json!([user(json!([text("1h")]))]))
        ]),
        "messages.0.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. \
         Note that blocks are processed in the following order: `tools`, `system`, `messages`."
    );
}
