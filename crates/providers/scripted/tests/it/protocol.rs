//! The answers of a healthy server: events, their order, their fields; messages; headers; connections.

use serde_json::{Value as Json, json};

use crate::client::{Client, HEADERS, ask, follow_up, post, request, serve, with_tools};

const TWO_TURNS: &str = r#"
turns:
  - thinking: Let me see.
    text: "Reading two files."
    tools:
      - { name: fs.read, as: first, input: { path: "ä.txt", number: 7 } }
      - { name: fs.list, input: {} }
  - text: "The first says {{ result.first }}."
"#;

#[tokio::test]
async fn a_stream_has_the_events_of_the_protocol_in_order() {
    let server = serve(TWO_TURNS).await;
    let answer = post(&server, &with_tools(request("hi"), &["fs_read", "fs_list"])).await;
    assert!(answer.whole);
    assert_eq!(answer.status, 200);
    let events = answer.events();
    let kinds: Vec<String> = events
        .iter()
        .map(|(name, data)| {
            // The name of the event and the type of its data are always the same.
            assert_eq!(data["type"], name.as_str());
            match data["delta"]["type"].as_str() {
                Some(delta) => format!("{}:{delta}", data["index"]),
                None => name.clone(),
            }
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "ping",
            "0:signature_delta",
            "content_block_stop",
            "content_block_start",
            "1:text_delta",
            "content_block_stop",
            "content_block_start",
            "2:input_json_delta",
            "2:input_json_delta",
            "content_block_stop",
            "content_block_start",
            "3:input_json_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    // The vendor's ping has a blank, and the first fragment of an input is empty.
    assert!(
        answer
            .text()
            .contains("event: ping\ndata: {\"type\": \"ping\"}\n\n")
    );
    assert_eq!(events[9].1["delta"]["partial_json"], "");
    let start = &events[0].1["message"];
    assert_eq!(start["usage"]["output_tokens"], 1);
    assert_eq!(
        (&start["stop_reason"], &start["content"]),
        (&Json::Null, &json!([]))
    );
    assert!(start["id"].as_str().unwrap().starts_with("msg_01"));
    assert_eq!(
        events[8].1["content_block"]["caller"],
        json!({"type": "direct"})
    );
    assert_eq!(events[8].1["content_block"]["input"], json!({}));
    let end = &events[15].1;
    assert_eq!(
        end["delta"],
        json!({"stop_reason": "tool_use", "stop_sequence": null, "stop_details": null})
    );
    assert!(end["usage"]["output_tokens"].as_u64().unwrap() > 20);
    assert_eq!(end["usage"]["input_tokens"], start["usage"]["input_tokens"]);
}

#[tokio::test]
async fn a_conversation_goes_on_from_its_results_alone() {
    let server = serve(TWO_TURNS).await;
    let first = with_tools(request("hi"), &["fs_read", "fs_list"]);
    let message = post(&server, &first).await.message();
    assert_eq!(message["content"][2]["name"], "fs_read");
    assert_eq!(
        message["content"][2]["input"],
        json!({"path": "ä.txt", "number": 7})
    );
    // Another server with the same script can go on: nothing is remembered.
    let other = serve(TWO_TURNS).await;
    let last = post(
        &other,
        &follow_up(&first, &message, &["forty-two", "nothing"]),
    )
    .await
    .message();
    assert_eq!(last["content"][0]["text"], "The first says forty-two.");
    assert_eq!(last["stop_reason"], "end_turn");
    let beyond = follow_up(
        &follow_up(&first, &message, &["forty-two", "nothing"]),
        &last,
        &[],
    );
    let mut beyond = beyond;
    beyond["messages"][4]["content"] = json!("and now?");
    let (status, kind, text) = post(&server, &beyond).await.error();
    assert_eq!((status, kind.as_str()), (500, "api_error"));
    assert!(
        text.contains("has no turn for message 3 of this conversation"),
        "{text}"
    );
}

#[tokio::test]
async fn the_same_reply_without_streaming() {
    let server = serve(TWO_TURNS).await;
    let mut body = with_tools(request("hi"), &["fs_read", "fs_list"]);
    let streamed = post(&server, &body).await.message();
    body["stream"] = json!(false);
    let answer = post(&server, &body).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer
            .header("content-length")
            .unwrap()
            .parse::<usize>()
            .unwrap(),
        answer.body.len()
    );
    let mut whole = answer.json();
    for (at, block) in streamed["content"].as_array().unwrap().iter().enumerate() {
        // Ids are new for each answer.
        let mut block = block.clone();
        if block["id"].is_string() {
            assert_ne!(block["id"], whole["content"][at]["id"]);
            block["id"] = whole["content"][at]["id"].clone();
        }
        assert_eq!(whole["content"][at], block);
    }
    assert_eq!(
        whole["usage"]["output_tokens"],
        streamed["usage"]["output_tokens"]
    );
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(whole["type"].take(), "message");
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let server = serve("turns: [{ text: hi, repeat: forever }]").await;
    let answer = post(&server, &request("x")).await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(answer.header("request-id").unwrap().starts_with("req_"));
    for limit in ["requests", "tokens", "input-tokens", "output-tokens"] {
        for suffix in ["limit", "remaining"] {
            assert!(
                answer
                    .header(&format!("anthropic-ratelimit-{limit}-{suffix}"))
                    .unwrap()
                    .parse::<u64>()
                    .is_ok()
            );
        }
        assert!(
            answer
                .header(&format!("anthropic-ratelimit-{limit}-reset"))
                .unwrap()
                .ends_with('Z')
        );
    }
    let refusal = ask(&server, "GET", "/nowhere", &HEADERS, "").await;
    assert!(refusal.header("request-id").unwrap().starts_with("req_"));
    assert_ne!(refusal.header("request-id"), answer.header("request-id"));
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = serve("turns: [{ text: 'You said {{ task }}', repeat: forever }]").await;
    let mut client = Client::connect(&server).await;
    for number in 0..20 {
        let mut body = request(&number.to_string());
        body["stream"] = json!(number % 2 == 0);
        client
            .send(
                "POST",
                "/v1/messages?beta=true",
                &HEADERS,
                &body.to_string(),
            )
            .await;
        let answer = client.receive().await.unwrap();
        let message = if number % 2 == 0 {
            answer.message()
        } else {
            answer.json()
        };
        assert_eq!(message["content"][0]["text"], format!("You said {number}"));
    }
    assert_eq!(server.stats().connections, 1);
    assert_eq!(server.stats().requests, 20);
}

#[tokio::test]
async fn deltas_and_packets_are_cut_as_the_script_says() {
    let yaml = r#"
turns:
  - blocks:
      - { text: "Grüße 🦦", chunk: 1 }
      - { tool: { name: t, input: { text: "ü🦦" }, ascii: true }, chunk: 1 }
    packet: 1
"#;
    let server = serve(yaml).await;
    let answer = post(&server, &with_tools(request("x"), &["t"])).await;
    let deltas: Vec<String> = answer
        .events()
        .iter()
        .filter_map(|(_, data)| data["delta"]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(deltas, ["G", "r", "ü", "ß", "e", " ", "🦦"]);
    // Fragments cut escapes and surrogate pairs; only the whole is JSON.
    let fragments: Vec<Json> = answer
        .events()
        .iter()
        .map(|(_, data)| data["delta"]["partial_json"].clone())
        .filter(|fragment| !fragment.is_null())
        .collect();
    let fragments: Vec<&str> = fragments
        .iter()
        .map(|fragment| fragment.as_str().unwrap())
        .collect();
    assert_eq!(fragments.concat(), r#"{"text": "\u00fc\ud83e\udda6"}"#);
    assert!(fragments.iter().all(|fragment| fragment.len() <= 1));
    assert_eq!(
        answer.message()["content"][1]["input"],
        json!({"text": "ü🦦"})
    );
}

#[tokio::test]
async fn packets_leave_one_by_one() {
    let server = serve("turns: [{ text: hello, packet: 5 }]").await;
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let answer = client.receive().await.unwrap();
    let whole = serve("turns: [{ text: hello }]").await;
    let plain = post(&whole, &request("x")).await;
    assert_eq!(answer.body.len(), plain.body.len());
    assert_eq!(answer.message()["content"], plain.message()["content"]);
}

#[tokio::test]
async fn output_ends_where_the_request_says() {
    let yaml = r#"
turns:
  - text: "one two three STOP four"
    tool: { name: t, input: { path: "a long path that does not fit" } }
    repeat: forever
"#;
    let server = serve(yaml).await;
    let tools = |changes: &[(&str, Json)]| {
        let mut body = with_tools(request("x"), &["t"]);
        for (field, value) in changes {
            body[*field] = value.clone();
        }
        body
    };
    let whole = post(&server, &tools(&[])).await.message();
    assert_eq!(whole["stop_reason"], "tool_use");

    let cut = post(&server, &tools(&[("max_tokens", json!(3))]))
        .await
        .message();
    assert_eq!(
        cut["content"],
        json!([{"type": "text", "text": "one two thre"}])
    );
    assert_eq!(
        (&cut["stop_reason"], &cut["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(3))
    );

    // In the middle of a call: the block is closed, the input is not whole.
    let answer = post(&server, &tools(&[("max_tokens", json!(23))])).await;
    let cut = answer.message();
    assert_eq!(
        (&cut["stop_reason"], &cut["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(23))
    );
    assert_eq!(cut["content"][1]["input"], json!({}));
    assert!(answer.text().contains("content_block_stop\",\"index\":1"));
    assert!(answer.text().contains(r#"{\"path\""#));

    // A limit between two blocks ends the reply there.
    let cut = post(&server, &tools(&[("max_tokens", json!(6))]))
        .await
        .message();
    assert_eq!(
        (
            cut["content"].as_array().unwrap().len(),
            &cut["stop_reason"]
        ),
        (1, &json!("max_tokens"))
    );

    let stopped = post(
        &server,
        &tools(&[("stop_sequences", json!(["four", "STOP"]))]),
    )
    .await
    .message();
    assert_eq!(
        stopped["content"],
        json!([{"type": "text", "text": "one two three "}])
    );
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("STOP"))
    );

    let none = post(&server, &tools(&[("tool_choice", json!({"type": "none"}))]))
        .await
        .message();
    assert_eq!(
        (
            none["content"].as_array().unwrap().len(),
            &none["stop_reason"]
        ),
        (1, &json!("end_turn"))
    );
}

#[tokio::test]
async fn one_call_at_a_time_if_asked() {
    let server = serve("turns: [{ tools: [{ name: a }, { name: b }] }]").await;
    let mut body = with_tools(request("x"), &["a", "b"]);
    body["tool_choice"] = json!({"type": "auto", "disable_parallel_tool_use": true});
    let message = post(&server, &body).await.message();
    assert_eq!(message["content"].as_array().unwrap().len(), 1);
    assert_eq!(message["content"][0]["name"], "a");
}

#[tokio::test]
async fn stops_carry_their_details() {
    let yaml = r#"
turns:
  - when: 'task | is "early"'
    stop: { reason: refusal }
  - when: 'task | is "late"'
    text: Sure
    stop: { reason: refusal, category: cyber, explanation: "No." }
  - text: x
    stop: { reason: something_new }
"#;
    let server = serve(yaml).await;
    let early = post(&server, &request("early")).await.message();
    assert_eq!(
        early["stop_details"],
        json!({"type": "refusal", "category": null, "explanation": null})
    );
    assert_eq!(
        (&early["content"], &early["usage"]["output_tokens"]),
        (&json!([]), &json!(0))
    );
    assert!(early["usage"]["input_tokens"].as_u64().unwrap() > 0);
    let late = post(&server, &request("late")).await.message();
    assert_eq!(
        late["stop_details"],
        json!({"type": "refusal", "category": "cyber", "explanation": "No."})
    );
    assert_eq!(
        post(&server, &request("other")).await.message()["stop_reason"],
        "something_new"
    );
}

#[tokio::test]
async fn a_script_may_hold_a_stream_byte_by_byte() {
    let yaml = "turns:\n  - sse: |\n      event: message_start\n      data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n      data: {\"odd\":1}\n\n";
    let server = serve(yaml).await;
    let answer = post(&server, &request("x")).await;
    assert_eq!(
        answer.text(),
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\ndata: {\"odd\":1}\n\n"
    );
    server.idle().await;
    assert_eq!(server.billed().usage.input_tokens, 25);
    let mut body = request("x");
    body["stream"] = json!(false);
    assert!(
        post(&server, &body)
            .await
            .error()
            .2
            .contains("must have `\"stream\": true`")
    );
}

#[tokio::test]
async fn a_request_for_nothing_warms_the_cache() {
    let server = serve("turns: [{ text: hi }]").await;
    let mut body = request("x");
    body["stream"] = json!(false);
    body["max_tokens"] = json!(0);
    let message = post(&server, &body).await.json();
    assert_eq!(
        (
            &message["content"],
            &message["stop_reason"],
            &message["usage"]["output_tokens"]
        ),
        (&json!([]), &json!("max_tokens"), &json!(0))
    );
}

#[tokio::test]
async fn requests_are_kept_without_keys() {
    let server = serve("turns: [{ text: hi, repeat: forever }]").await;
    let headers = [
        ("x-api-key", "sk-ant-secret"),
        ("Authorization", "Bearer sk-ant-secret"),
        ("anthropic-version", "2026-10-21"),
    ];
    ask(
        &server,
        "POST",
        "/v1/messages",
        &headers,
        &request("one").to_string(),
    )
    .await;
    post(&server, &request("two")).await;
    let kept = server.requests();
    assert_eq!(kept.len(), 2);
    assert!(!format!("{kept:?}").contains("sk-ant-secret"));
    assert_eq!(kept[0].header("anthropic-version"), Some("2026-10-21"));
    let body: Json = serde_json::from_slice(&kept[1].body).unwrap();
    assert_eq!(body["messages"][0]["content"], "two");
}
