//! Requests that are refused on their way in: headers, paths, models, sizes.

use otto_scripted::{AcceptedKeys, ServerOptions, UnknownModels};
use serde_json::{Value as Json, json};

use crate::client::{Client, HEADERS, ask, post, prices, request, serve, serve_with, with_tools};

const HI: &str = "turns: [{ text: hi, repeat: forever }]";

fn error(status: u16, kind: &str, message: &str) -> (u16, String, String) {
    (status, kind.to_owned(), message.to_owned())
}

#[tokio::test]
async fn keys_come_in_either_form() {
    let options = ServerOptions {
        keys: AcceptedKeys::Only("right".to_owned()),
        ..ServerOptions::new(prices())
    };
    let server = serve_with(HI, options).await;
    let body = request("x").to_string();
    let with = |headers: &'static [(&'static str, &'static str)]| {
        ask(&server, "POST", "/v1/messages", headers, &body)
    };
    let version = ("anthropic-version", "2023-06-01");
    let missing = error(401, "authentication_error", "x-api-key header is required");
    assert_eq!(
        with(&[("anthropic-version", "2023-06-01")]).await.error(),
        missing
    );
    assert_eq!(
        with(&[("x-api-key", ""), ("anthropic-version", "2023-06-01")])
            .await
            .error(),
        missing
    );
    assert_eq!(
        with(&[
            ("authorization", "Basic right"),
            ("anthropic-version", "2023-06-01")
        ])
        .await
        .error(),
        missing
    );
    let wrong = error(401, "authentication_error", "invalid x-api-key");
    assert_eq!(
        with(&[("x-api-key", "wrong"), ("anthropic-version", "2023-06-01")])
            .await
            .error(),
        wrong
    );
    assert_eq!(
        with(&[("x-api-key", "right"), ("anthropic-version", "2023-06-01")])
            .await
            .status,
        200
    );
    assert_eq!(
        with(&[
            ("authorization", "bearer right"),
            ("anthropic-version", "2026-10-21")
        ])
        .await
        .status,
        200
    );
    let shown = format!("{:?}", AcceptedKeys::Only("right".to_owned()));
    assert!(!shown.contains("right"), "{shown} {version:?}");
}

#[tokio::test]
async fn versions_and_betas_are_checked() {
    let server = serve(HI).await;
    let body = request("x").to_string();
    let with = |name: &'static str, value: &'static str| {
        let headers = [
            ("x-api-key", "k"),
            ("anthropic-version", "2026-10-21"),
            (name, value),
        ];
        let body = body.clone();
        let server = &server;
        async move { ask(server, "POST", "/v1/messages", &headers, &body).await }
    };
    let none = ask(
        &server,
        "POST",
        "/v1/messages",
        &[("x-api-key", "k")],
        &body,
    )
    .await;
    assert_eq!(
        none.error(),
        error(
            400,
            "invalid_request_error",
            "anthropic-version: header is required"
        )
    );
    let odd = ask(
        &server,
        "POST",
        "/v1/messages",
        &[("x-api-key", "k"), ("anthropic-version", "1999")],
        &body,
    )
    .await;
    assert_eq!(
        odd.error(),
        error(
            400,
            "invalid_request_error",
            "anthropic-version: \"1999\" is not a valid version"
        )
    );
    assert_eq!(
        with("anthropic-beta", "fast-mode-2026-02-01,compact-2026-09-04")
            .await
            .status,
        200
    );
    for unknown in [
        "",
        "fast-mode",
        "time-travel-2026-01-01",
        "fast-mode-2026-02-01,",
        "fast-mode-2026-02-0x",
    ] {
        let (status, _, text) = with("anthropic-beta", unknown).await.error();
        assert_eq!(status, 400);
        assert!(text.starts_with("Unexpected value(s) `"), "{text}");
    }
    let (status, _, _) = with("content-encoding", "zstd").await.error();
    assert_eq!(status, 400);
}

#[tokio::test]
async fn paths_methods_and_models_must_exist() {
    let server = serve(HI).await;
    let get = |path: &'static str| ask(&server, "GET", path, &HEADERS, "");
    assert_eq!(
        get("/").await.error(),
        error(404, "not_found_error", "Not found")
    );
    assert_eq!(get("/v1/messages").await.error().0, 405);
    assert_eq!(
        get("/v1/models/unheard-of").await.error(),
        error(404, "not_found_error", "model: unheard-of")
    );
    let mut body = request("x");
    body["model"] = json!("claude-2");
    assert_eq!(
        post(&server, &body).await.error(),
        error(404, "not_found_error", "model: claude-2")
    );
    let unknown = UnknownModels::As(prices().models().next().unwrap().clone());
    let lenient = serve_with(
        HI,
        ServerOptions {
            unknown_models: unknown,
            ..ServerOptions::new(prices())
        },
    )
    .await;
    assert_eq!(post(&lenient, &body).await.message()["model"], "claude-2");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_located() {
    let server = serve(HI).await;
    for (body, place) in [
        ("", "line 1 column 0 (char 0)"),
        ("{\"a\":1,}", "line 1 column 8 (char 7)"),
        ("{\n \"a\": \"\\ud800\"}", "line 2 column"),
    ] {
        let (status, _, text) = ask(&server, "POST", "/v1/messages", &HEADERS, body)
            .await
            .error();
        assert_eq!(status, 400);
        assert!(
            text.starts_with("The request body is not valid JSON: ") && text.contains(place),
            "{text}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(
        ask(&server, "POST", "/v1/messages", &HEADERS, &deep)
            .await
            .error()
            .2
            .contains("recursion limit")
    );
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let server = serve(HI).await;
    let mut client = Client::connect(&server).await;
    let length = (33_u64 << 20).to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: test\r\nx-api-key: k\r\ncontent-length: {length}\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut client.stream, head.as_bytes())
        .await
        .unwrap();
    let answer = client.receive().await.unwrap();
    assert_eq!(
        answer.error(),
        error(413, "request_too_large", "Request exceeds the maximum size")
    );
}

#[tokio::test]
async fn models_have_their_own_rules() {
    let server = serve(HI).await;
    let change = |model: &str, changes: &[(&str, Json)]| {
        let mut body = request("x");
        body["model"] = json!(model);
        for (field, value) in changes {
            body[*field] = value.clone();
        }
        body
    };
    let prefill = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y "}]);
    let tools = with_tools(request("x"), &["t"])["tools"].clone();
    let enabled = json!({"type": "enabled", "budget_tokens": 2_000});
    for (body, text) in [
        (
            change("claude-opus-5", &[("max_tokens", json!(200_000))]),
            "max_tokens: 200000 > 128000, which is the maximum allowed number of output tokens for claude-opus-5",
        ),
        (
            change("claude-opus-5", &[("thinking", enabled.clone())]),
            "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \"output_config.effort\" to control thinking behavior.",
        ),
        (
            change(
                "claude-sonnet-5-5",
                &[("thinking", json!({"type": "disabled"}))],
            ),
            "\"thinking.type.disabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \"output_config.effort\" to control thinking behavior.",
        ),
        (
            change(
                "claude-sonnet-4-5",
                &[("thinking", json!({"type": "adaptive"}))],
            ),
            "adaptive thinking is not supported on this model",
        ),
        (
            change("claude-sonnet-4-5", &[("thinking", enabled.clone())]),
            "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at docs.claude.com for the limits of extended thinking.",
        ),
        (
            change(
                "claude-sonnet-4-5",
                &[("output_config", json!({"effort": "high"}))],
            ),
            "output_config.effort: 'high' is not supported for this model",
        ),
        (
            change(
                "claude-opus-4-6",
                &[("output_config", json!({"effort": "xhigh"}))],
            ),
            "output_config.effort: 'xhigh' is not supported for this model",
        ),
        (
            change(
                "claude-sonnet-5-5",
                &[
                    ("tools", tools.clone()),
                    ("tool_choice", json!({"type": "any"})),
                ],
            ),
            "tool_choice: types `any` and `tool` are not supported for this model.",
        ),
        (
            change("claude-opus-5", &[("messages", prefill.clone())]),
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ),
        (
            change("claude-sonnet-4-5", &[("messages", prefill)]),
            "messages: final assistant content cannot end with trailing whitespace",
        ),
        (
            change("claude-sonnet-5-5", &[("speed", json!("fast"))]),
            "speed: 'fast' is not supported for this model",
        ),
        (
            change("claude-sonnet-4-5", &[("inference_geo", json!("us"))]),
            "inference_geo: not supported for this model",
        ),
        (
            change(
                "claude-opus-4-6",
                &[(
                    "messages",
                    json!([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]),
                )],
            ),
            "messages.1: role `system` is not supported for this model",
        ),
        (
            change(
                "tiny",
                &[(
                    "messages",
                    json!([{"role": "user", "content": "x".repeat(20_000)}]),
                )],
            ),
            "prompt is too long: 5004 tokens > 3000 maximum",
        ),
    ] {
        assert_eq!(
            post(&server, &body).await.error(),
            error(400, "invalid_request_error", text)
        );
    }
    let paused = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}]},
    ]);
    assert_eq!(
        post(&server, &change("claude-opus-5", &[("messages", paused)]))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_full_window_ends_the_reply() {
    let server = serve("turns: [{ text: '{{ \"word \" | repeat 500 }}' }]").await;
    let mut body = request(&"x".repeat(10_000));
    body["model"] = json!("tiny");
    let message = post(&server, &body).await.message();
    assert_eq!(message["stop_reason"], "model_context_window_exceeded");
    let usage = &message["usage"];
    assert_eq!(
        usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap(),
        3_000
    );
}

#[tokio::test]
async fn only_loopback_is_served() {
    let script = otto_scripted::Script::parse(HI, "x").unwrap();
    let options = ServerOptions {
        address: "0.0.0.0:0".parse().unwrap(),
        ..ServerOptions::new(prices())
    };
    let error = otto_scripted::ScriptedServer::start(script, options)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("expected a loopback address"),
        "{error}"
    );
}
