//! Thinking: shown or omitted, signed, bound to its prefix.

use otto_scripted::ScriptedServer;
use serde_json::{Value as Json, json};

use crate::client::{follow_up, post, request, serve, with_tools};

const SCRIPT: &str = r#"
turns:
  - blocks:
      - thinking: "First I look."
      - tool: { name: t, input: { n: 1 } }
      - thinking: { text: "Then again.", tokens: 500 }
      - tool: { name: t, input: { n: 2 } }
  - thinking: "Now I know."
    text: Done
  - text: Still here
"#;

fn ask(model: &str) -> Json {
    let mut body = with_tools(request("hi"), &["t"]);
    body["model"] = json!(model);
    body["system"] = json!("Be brief.");
    body["thinking"] = json!({"type": "adaptive"});
    body
}

/// The first two requests of a conversation, and what the model said to the first.
async fn begun(server: &ScriptedServer, model: &str) -> (Json, Json) {
    let first = ask(model);
    let message = post(server, &first).await.message();
    (follow_up(&first, &message, &["one", "two"]), message)
}

#[tokio::test]
async fn thinking_is_omitted_or_shown_as_asked() {
    let server = serve(SCRIPT).await;
    let mut body = ask("claude-sonnet-5-5");
    let message = post(&server, &body).await.message();
    assert_eq!(message["content"][0]["thinking"], "");
    assert!(message["content"][0]["signature"].as_str().unwrap().len() > 40);
    assert_eq!(
        message["usage"]["output_tokens_details"]["thinking_tokens"],
        504
    );
    body["thinking"] = json!({"type": "adaptive", "display": "summarized"});
    let shown = post(&server, &body).await.message();
    assert_eq!(shown["content"][0]["thinking"], "First I look.");
    assert_eq!(
        shown["usage"]["output_tokens"], message["usage"]["output_tokens"],
        "billed alike"
    );
    // A model that may be told not to think does not.
    let mut body = ask("claude-opus-5");
    body["thinking"] = json!({"type": "disabled"});
    let message = post(&server, &body).await.message();
    assert_eq!(message["content"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn thinking_that_comes_back_unchanged_is_accepted_and_billed() {
    for model in ["claude-sonnet-5-5", "claude-opus-5"] {
        let server = serve(SCRIPT).await;
        let (second, message) = begun(&server, model).await;
        let answer = post(&server, &second).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let reply = answer.message();
        // The omitted thinking is part of the prompt with all of its tokens.
        let output = message["usage"]["output_tokens"].as_u64().unwrap();
        let before = message["usage"]["input_tokens"].as_u64().unwrap();
        assert!(
            reply["usage"]["input_tokens"].as_u64().unwrap() > before + output - 40,
            "{reply}"
        );
        // Markers, null fields and the form of a text do not matter.
        let mut third = follow_up(&second, &reply, &[]);
        third["messages"][4]["content"] = json!("go on");
        third["messages"][0]["content"] =
            json!([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]);
        third["system"] = json!([{"type": "text", "text": "Be brief."}]);
        third["messages"][1]["content"][1]
            .as_object_mut()
            .unwrap()
            .remove("caller");
        let answer = post(&server, &third).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// What is changed, how, and what the server says to it.
type Change = (&'static str, fn(&mut Json), String);

#[tokio::test]
async fn a_changed_prefix_is_refused_by_models_that_bind() {
    let server = serve(SCRIPT).await;
    let (second, _) = begun(&server, "claude-sonnet-5-5").await;
    let bound = |at: &str| {
        format!(
            "{at}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block, or \
             set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\"."
        )
    };
    let changes: [Change; 6] = [
        ("system", |body| body["system"] = json!("Be long."), bound("messages.1.content.0")),
        ("tools", |body| body["tools"][0]["description"] = json!("Another."), bound("messages.1.content.0")),
        ("task", |body| body["messages"][0]["content"] = json!("ho"), bound("messages.1.content.0")),
        ("input", |body| body["messages"][1]["content"][1]["input"]["n"] = json!(9), bound("messages.1.content.2")),
        (
            "text",
            |body| body["messages"][1]["content"][0]["thinking"] = json!("I was never here."),
            "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. \
             These blocks must remain as they were in the original response."
                .to_owned(),
        ),
        (
            "signature",
            |body| body["messages"][1]["content"][0]["signature"] = json!("EqOttoxxxx"),
            "messages.1.content.0: Invalid `signature` in `thinking` block".to_owned(),
        ),
    ];
    for (name, change, text) in changes {
        let mut changed = second.clone();
        change(&mut changed);
        let (status, kind, message) = post(&server, &changed).await.error();
        assert_eq!(
            (status, kind.as_str(), message),
            (400, "invalid_request_error", text),
            "{name}"
        );
    }
}

#[tokio::test]
async fn thinking_may_not_be_left_out_in_a_tool_loop() {
    let server = serve(SCRIPT).await;
    let (second, _) = begun(&server, "claude-opus-5").await;
    let mut without = second.clone();
    without["messages"][1]["content"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    let (_, _, text) = post(&server, &without).await.error();
    assert_eq!(
        text,
        "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These \
         blocks must remain as they were in the original response."
    );
    // Once the loop is over, all of it may go.
    let reply = post(&server, &second).await.message();
    let mut third = follow_up(&second, &reply, &[]);
    third["messages"][4]["content"] = json!("go on");
    for at in [1, 3] {
        third["messages"][at]["content"]
            .as_array_mut()
            .unwrap()
            .retain(|block| block["type"] != "thinking");
    }
    assert_eq!(
        post(&server, &third).await.message()["content"][0]["text"],
        "Still here"
    );
}

#[tokio::test]
async fn a_model_that_does_not_bind_lets_the_prefix_change() {
    let server = serve(SCRIPT).await;
    let (mut second, _) = begun(&server, "claude-opus-5").await;
    second["system"] = json!("Be long.");
    assert_eq!(post(&server, &second).await.status, 200);
}

#[tokio::test]
async fn another_models_thinking_is_dropped() {
    let server = serve(SCRIPT).await;
    let (mut second, _) = begun(&server, "claude-sonnet-5-5").await;
    second["model"] = json!("claude-haiku-5-5");
    second["system"] = json!("Be long.");
    let answer = post(&server, &second).await.message();
    assert!(
        answer["usage"]["input_tokens"].as_u64().unwrap() < 600,
        "500 hidden tokens are not billed: {answer}"
    );
}

#[tokio::test]
async fn manual_thinking_starts_the_turn() {
    let server = serve("turns: [{ thinking: hm, tool: { name: t } }, { text: ok }]").await;
    let mut first = ask("claude-sonnet-4-5");
    first["max_tokens"] = json!(5_000);
    first["thinking"] = json!({"type": "enabled", "budget_tokens": 1_024});
    let message = post(&server, &first).await.message();
    assert_eq!(
        message["content"][0]["thinking"], "hm",
        "summarized by default on this model"
    );
    let second = follow_up(&first, &message, &["x"]);
    assert_eq!(post(&server, &second).await.status, 200);
    let mut without = second;
    without["messages"][1]["content"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    let (_, _, text) = post(&server, &without).await.error();
    assert!(text.starts_with("messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."), "{text}");
}

#[tokio::test]
async fn redacted_thinking_comes_whole_and_is_checked_too() {
    let server = serve("turns: [{ blocks: [{ thinking: { text: secret, redacted: true } }, { tool: { name: t } }] }, { text: ok }]").await;
    let first = ask("claude-sonnet-5-5");
    let answer = post(&server, &first).await;
    assert!(!answer.text().contains("secret"));
    let message = answer.message();
    assert_eq!(message["content"][0]["type"], "redacted_thinking");
    let mut second = follow_up(&first, &message, &["x"]);
    assert_eq!(post(&server, &second).await.status, 200);
    second["messages"][1]["content"][0]["data"] = json!("EmwKAhgB");
    assert_eq!(
        post(&server, &second).await.error().2,
        "messages.1.content.0: Invalid `signature` in `redacted_thinking` block"
    );
}
