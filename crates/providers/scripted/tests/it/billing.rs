//! The truth about what was spent.

use otto_core::Money;
use otto_core::model::Usage;
use otto_scripted::{BilledEnding, ServerOptions, Tokenizer};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::client::{Client, HEADERS, post, prices, request, serve, serve_with, with_tools};

#[tokio::test]
async fn the_bill_is_exact() {
    let server = serve("turns: [{ text: 'twelve bytes', usage: { input_tokens: 100, cache_read_tokens: 1000, cache_write_5m_tokens: 10, cache_write_1h_tokens: 1 } }]").await;
    let mut body = request("x");
    body["metadata"] = json!({"user_id": "somebody"});
    let answer = post(&server, &body).await;
    server.idle().await;
    let billed = server.billed();
    let usage = Usage {
        input_tokens: 100,
        output_tokens: 3,
        cache_read_tokens: 1_000,
        cache_write_5m_tokens: 10,
        cache_write_1h_tokens: 1,
        thinking_tokens: 0,
    };
    assert_eq!(billed.usage, usage);
    // 100 at 2, 3 at 10, 1,000 at 0.1, 10 at 2.5, 1 at 4 USD per million tokens.
    assert_eq!(billed.cost, "0.000359".parse::<Money>().unwrap());
    assert_eq!(billed.requests.len(), 1);
    let request = &billed.requests[0];
    assert_eq!(
        Some(request.request_id.as_str()),
        answer.header("request-id")
    );
    assert_eq!(
        (
            request.model.as_str(),
            request.user_id.as_deref(),
            request.ending
        ),
        ("claude-opus-5", Some("somebody"), BilledEnding::Complete)
    );
    assert_eq!(answer.message()["usage"]["input_tokens"], 100);
}

#[tokio::test]
async fn settings_that_cost_more_are_billed_so() {
    let cost = |changes: serde_json::Value| async move {
        let server =
            serve("turns: [{ text: x, usage: { input_tokens: 1000000, output_tokens: 0 } }]").await;
        let mut body = request("x");
        for (field, value) in changes.as_object().unwrap() {
            body[field] = value.clone();
        }
        let message = post(&server, &body).await.message();
        server.idle().await;
        (server.billed().cost.to_string(), message["usage"].clone())
    };
    assert_eq!(cost(json!({})).await.0, "$2.00");
    let (us, usage) = cost(json!({"inference_geo": "us"})).await;
    assert_eq!(
        (us.as_str(), &usage["inference_geo"]),
        ("$2.20", &json!("us"))
    );
    let (fast, usage) = cost(json!({"speed": "fast"})).await;
    assert_eq!((fast.as_str(), &usage["speed"]), ("$4.00", &json!("fast")));
    assert_eq!(
        cost(json!({"speed": "fast", "inference_geo": "us"}))
            .await
            .0,
        "$4.40"
    );
    // Above the threshold of this model every token is dearer.
    assert_eq!(cost(json!({"model": "claude-haiku-5-5"})).await.0, "$10.00");
}

#[tokio::test]
async fn refusals_and_errors_cost_nothing() {
    let server = serve("turns: [{ stop: refusal }]").await;
    assert_eq!(
        post(&server, &request("x")).await.message()["stop_reason"],
        "refusal"
    );
    server.idle().await;
    assert_eq!(
        (server.billed().calls, server.billed().cost),
        (1, Money::ZERO)
    );
    let server =
        serve("turns: [{ text: hi, faults: [{ status: 529 }, { attempt: 2, status: 500 }] }]")
            .await;
    for _ in 0..2 {
        post(&server, &request("x")).await;
    }
    let mut bad = request("x");
    bad["model"] = json!("unknown");
    post(&server, &bad).await;
    server.idle().await;
    assert_eq!(server.billed().cost, Money::ZERO);
    assert_eq!(server.stats().refused, 1);
}

#[tokio::test]
async fn a_stream_nobody_reads_to_the_end_is_billed_as_far_as_it_came() {
    // Ten words of two tokens, a long wait, ten more.
    let yaml = r#"
turns:
  - blocks:
      - { text: "{{ 'seven.. ' | repeat 10 }}", chunk: words }
      - { text: "{{ 'seven.. ' | repeat 10 }}", delay: 1h }
"#;
    let yaml = &yaml.replace("1h", "60m");
    let server = serve(yaml).await;
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("content_block_stop") {
        client.stream.read_buf(&mut received).await.unwrap();
    }
    assert_eq!(server.stats().open, 1);
    drop(client);
    server.idle().await;
    let billed = server.billed();
    assert_eq!(billed.requests[0].ending, BilledEnding::Aborted);
    assert_eq!(billed.usage.output_tokens, 20, "{billed:?}");
    assert!(billed.usage.input_tokens > 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_pays_the_prompt() {
    let server = serve("turns: [{ text: hi, delay: 60m }]").await;
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    server.asked(1).await;
    drop(client);
    server.idle().await;
    let billed = server.billed();
    assert_eq!(
        (billed.requests[0].ending, billed.usage.output_tokens),
        (BilledEnding::Aborted, 0)
    );
    assert!(billed.usage.input_tokens > 0);
}

#[tokio::test]
async fn a_broken_answer_is_billed_by_the_rule_of_its_fault() {
    let bill = |fault: &'static str| async move {
        let server = serve(&format!(
            "turns: [{{ text: \"{{{{ 'word' | repeat 100 }}}}\", chunk: 4, faults: [{fault}] }}]"
        ))
        .await;
        let answer = post(&server, &request("x")).await;
        assert!(!answer.whole);
        server.idle().await;
        let billed = server.billed();
        assert_eq!(billed.requests[0].ending, BilledEnding::Faulted);
        billed.usage
    };
    let sent = bill("{ cut: { event: 13 } }").await;
    // message_start, content_block_start, ping, then one token in each event.
    assert_eq!(sent.output_tokens, 10);
    assert_eq!(
        bill("{ cut: { event: 13 }, bill: whole }").await,
        Usage {
            output_tokens: 100,
            ..sent
        }
    );
    assert_eq!(
        bill("{ cut: { event: 13 }, bill: nothing }").await,
        Usage::default()
    );
}

#[tokio::test]
async fn no_prompt_is_billed_above_the_bound_that_clients_compute() {
    use otto_core::ledger::{text_bound, tool_definition_bound};
    let texts = [
        "",
        "plain words",
        "Grüße aus Köln",
        "\u{FDFA}\u{FDFA}",
        "🦦",
        "{\"a\": [1, 2, 3]}",
    ];
    let options = ServerOptions {
        tokenizer: Tokenizer::WorstCase,
        ..ServerOptions::new(prices())
    };
    let server = serve_with("turns: [{ text: hi, repeat: forever }]", options).await;
    for text in texts {
        let text = format!("x{text}");
        let body = with_tools(request(&text), &["a_tool"]);
        let tokens = post(&server, &body).await.message()["usage"]["input_tokens"]
            .as_u64()
            .unwrap();
        let tool = &body["tools"][0];
        let bound = 1_024
            + 1_024
            + 16
            + 16
            + text_bound(&text)
            + tool_definition_bound("a_tool", "A tool.", &tool["input_schema"].to_string());
        assert!(tokens <= bound, "{text:?}: {tokens} > {bound}");
        assert!(
            tokens >= text.len() as u64,
            "the worst case counts every byte"
        );
    }
}
