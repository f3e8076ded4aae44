//! The prompt cache, as the usage fields show it.

use std::time::Duration;

use otto_scripted::{ScriptedServer, ServerOptions};
use serde_json::{Value as Json, json};

use crate::client::{clock, follow_up, post, prices, request, serve_with, with_tools};

fn marked(text: &str, ttl: &str) -> Json {
    json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}})
}

/// A request with about 1,000 tokens of marked system prompt.
fn body(system: &str, text: &str) -> Json {
    let mut body = with_tools(request(text), &["t"]);
    body["system"] = json!([marked(&system.repeat(4_000 / system.len()), "1h")]);
    body["messages"] = json!([{"role": "user", "content": [marked(text, "5m")]}]);
    body
}

/// `[uncached, read, written for 5 minutes, written for an hour]`.
async fn usage(server: &ScriptedServer, body: &Json) -> [u64; 4] {
    let usage = post(server, body).await.message()["usage"].clone();
    let tokens = |pointer: &str| usage.pointer(pointer).unwrap().as_u64().unwrap();
    let split = [
        tokens("/input_tokens"),
        tokens("/cache_read_input_tokens"),
        tokens("/cache_creation/ephemeral_5m_input_tokens"),
        tokens("/cache_creation/ephemeral_1h_input_tokens"),
    ];
    assert_eq!(tokens("/cache_creation_input_tokens"), split[2] + split[3]);
    split
}

#[tokio::test]
async fn what_is_written_is_read_until_it_expires() {
    let clock = clock();
    let server = serve_with(
        "turns: [{ text: hi }]",
        ServerOptions {
            clock: clock.clone(),
            ..ServerOptions::new(prices())
        },
    )
    .await;
    let body = body("rules ", "hello there");
    let first = usage(&server, &body).await;
    assert_eq!((first[0], first[1]), (0, 0));
    assert!(first[2] > 0 && first[3] > 1_000, "{first:?}");
    let total: u64 = first.iter().sum();
    assert_eq!(usage(&server, &body).await, [0, total, 0, 0]);
    // After ten minutes the message's entry is gone, the system's is not.
    clock.advance(Duration::from_secs(600));
    assert_eq!(usage(&server, &body).await, [0, first[3], first[2], 0]);
    clock.advance(Duration::from_secs(3_601));
    assert_eq!(usage(&server, &body).await, first);
}

#[tokio::test]
async fn each_level_is_lost_with_what_changes_it() {
    let clock = clock();
    let server = serve_with(
        "turns: [{ text: hi, repeat: forever }]",
        ServerOptions {
            clock,
            ..ServerOptions::new(prices())
        },
    )
    .await;
    let original = body("rules ", "hello there");
    let first = usage(&server, &original).await;
    let with = |field: &str, value: Json| {
        let mut changed = original.clone();
        changed[field] = value;
        changed
    };
    // `tool_choice` and thinking: the messages only.
    for changed in [
        with("tool_choice", json!({"type": "none"})),
        with("output_config", json!({"effort": "low"})),
    ] {
        assert_eq!(usage(&server, &changed).await, [0, first[3], first[2], 0]);
    }
    // Tools: everything behind them, which is all there is.
    let renamed = with_tools(original.clone(), &["other"]);
    assert_eq!(usage(&server, &renamed).await[1], 0);
    // Another system prompt, another model, another account: nothing to read.
    assert_eq!(usage(&server, &body("laws ", "hello there")).await[1], 0);
    assert_eq!(
        usage(&server, &with("model", json!("claude-haiku-5-5"))).await[1],
        0
    );
    assert_eq!(
        usage(&server, &original).await[1],
        first.iter().sum::<u64>()
    );
}

#[tokio::test]
async fn a_conversation_reads_what_it_wrote_the_turn_before() {
    let server = serve_with(
        "turns: [{ tool: { name: t }, repeat: forever }]",
        ServerOptions::new(prices()),
    )
    .await;
    let first = body("rules ", "hello there");
    let answer = post(&server, &first).await.message();
    let written: u64 = usage(&server, &first).await.iter().sum();
    let mut second = follow_up(&first, &answer, &["a result"]);
    // The marker moves to the newest message.
    second["messages"][0]["content"][0]
        .as_object_mut()
        .unwrap()
        .remove("cache_control");
    second["messages"][2]["content"][0]["cache_control"] = json!({"type": "ephemeral"});
    let split = usage(&server, &second).await;
    assert_eq!((split[0], split[1], split[3]), (0, written, 0), "{split:?}");
    assert!(split[2] > 0);
}

#[tokio::test]
async fn short_prompts_and_prompts_without_markers_are_not_cached() {
    let server = serve_with("turns: [{ text: hi }]", ServerOptions::new(prices())).await;
    let mut short = request("x");
    short["cache_control"] = json!({"type": "ephemeral"});
    let first = usage(&server, &short).await;
    assert_eq!(first[1..], [0, 0, 0]);
    assert_eq!(usage(&server, &short).await, first);
    let long = request(&"word ".repeat(1_000));
    assert_eq!(usage(&server, &long).await[1..], [0, 0, 0]);
    // The automatic marker stands on the last block.
    let mut automatic = long.clone();
    automatic["cache_control"] = json!({"type": "ephemeral"});
    let first = usage(&server, &automatic).await;
    assert_eq!((first[0], first[1], first[3]), (0, 0, 0));
    assert_eq!(usage(&server, &automatic).await, [0, first[2], 0, 0]);
}
