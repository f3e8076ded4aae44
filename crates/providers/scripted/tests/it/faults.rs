//! Everything that can go wrong on purpose.

use otto_scripted::{ScriptedServer, ServerOptions};
use serde_json::{Value as Json, json};
use tokio::io::AsyncReadExt;

use crate::client::{
    Client, HEADERS, Response, post, prices, request, serve, serve_with, with_tools,
};

/// A server whose only turn has these faults.
async fn faulty(faults: &str) -> ScriptedServer {
    serve(&format!(
        "turns:\n  - text: All is well.\n    repeat: forever\n    faults: [{faults}]\n"
    ))
    .await
}

async fn well() -> Vec<u8> {
    let server = serve("turns: [{ text: All is well. }]").await;
    post(&server, &request("x")).await.body
}

fn is_well(answer: &Response) -> bool {
    answer.whole && answer.status == 200 && answer.message()["content"][0]["text"] == "All is well."
}

#[tokio::test]
async fn errors_come_with_their_status_headers_and_body() {
    let server = faulty(
        "{ status: 529, headers: { x-should-retry: 'true' } }, \
         { attempt: 2, status: 429, headers: { retry-after: '1.5' }, error: { message: Slow down, details: { error_code: ramp_limit_exceeded } } }, \
         { attempt: 3, status: 413, body: '<html>Too large</html>' }, \
         { attempt: 4, status: 502, body: '', pad: 200000 }, \
         { attempt: 5, body: { type: error, error: { type: api_error, message: in a 200 } } }",
    )
    .await;
    let body = request("x");
    let first = post(&server, &body).await;
    assert_eq!(first.header("x-should-retry"), Some("true"));
    assert_eq!(
        first.error(),
        (529, "overloaded_error".to_owned(), "Overloaded".to_owned())
    );
    let second = post(&server, &body).await;
    assert_eq!(
        (
            second.header("retry-after"),
            second.json()["error"]["details"]["error_code"].as_str()
        ),
        (Some("1.5"), Some("ramp_limit_exceeded"))
    );
    assert!(
        second
            .header("anthropic-ratelimit-requests-limit")
            .is_some()
    );
    assert_eq!(
        second.error(),
        (429, "rate_limit_error".to_owned(), "Slow down".to_owned())
    );
    let third = post(&server, &body).await;
    assert_eq!(
        (
            third.status,
            third.header("content-type"),
            third.text().as_str()
        ),
        (
            413,
            Some("text/html; charset=UTF-8"),
            "<html>Too large</html>"
        )
    );
    let fourth = post(&server, &body).await;
    assert_eq!(
        (fourth.status, fourth.body.len(), fourth.whole),
        (502, 200_000, true)
    );
    let fifth = post(&server, &body).await;
    assert_eq!(
        (fifth.status, fifth.json()["error"]["message"].as_str()),
        (200, Some("in a 200"))
    );
    assert!(is_well(&post(&server, &body).await));
    // A success ends the count: the next client with the same words begins anew.
    assert_eq!(post(&server, &body).await.status, 529);
    assert_eq!(server.stats().faults, 6);
}

#[tokio::test]
async fn a_stream_can_be_cut_at_every_byte() {
    let whole = well().await;
    let shape = String::from_utf8(whole.clone()).unwrap();
    for at in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        for (how, clean) in [("close", false), ("clean", true)] {
            let server = faulty(&format!("{{ cut: {{ byte: {at}, how: {how} }} }}")).await;
            let answer = post(&server, &request("x")).await;
            assert_eq!(
                (answer.status, answer.body.len(), answer.whole),
                (200, at, clean),
                "cut at {at} of {} ({how})",
                shape.len()
            );
            assert!(
                is_well(&post(&server, &request("x")).await),
                "the second attempt is well"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_can_be_cut_before_an_event() {
    let server = faulty("{ cut: { event: 2 } }").await;
    let answer = post(&server, &request("x")).await;
    assert!(!answer.whole);
    let names: Vec<String> = answer.events().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["message_start", "content_block_start"]);
}

#[tokio::test]
async fn connections_are_reset() {
    let server = faulty("{ reset: before }, { attempt: 2, reset: 50 }").await;
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let error = client.stream.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let mut received = Vec::new();
    let error = client.stream.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(is_well(&post(&server, &request("x")).await));
}

#[tokio::test]
async fn a_stall_lasts_until_the_client_leaves() {
    for (fault, bytes) in [("{ stall: before }", 0), ("{ stall: 60 }", 60)] {
        let server = faulty(fault).await;
        let mut client = Client::connect(&server).await;
        client
            .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
            .await;
        let mut received = Vec::new();
        while bytes > 0 && !String::from_utf8_lossy(&received).contains("message_start\ndata:") {
            client.stream.read_buf(&mut received).await.unwrap();
        }
        server.asked(1).await;
        assert_eq!(server.billed().calls, 0, "still open");
        drop(client);
        server.idle().await;
        assert_eq!(server.billed().calls, 1);
    }
}

#[tokio::test]
async fn an_error_event_ends_the_stream() {
    let server = faulty("{ error_event: { at: 3, type: api_error, message: Boom } }, { attempt: 2, error_event: { stays_open: true } }").await;
    let answer = post(&server, &request("x")).await;
    let events = answer.events();
    assert_eq!(events.len(), 4);
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "error");
    assert_eq!(
        data["error"],
        json!({"details": null, "type": "api_error", "message": "Boom"})
    );
    assert_eq!(data["request_id"].as_str(), answer.header("request-id"));
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("overloaded_error") {
        client.stream.read_buf(&mut received).await.unwrap();
    }
    assert_eq!(server.stats().open, 1);
}

#[tokio::test]
async fn framing_can_be_unusual() {
    let plain = String::from_utf8(well().await).unwrap();
    let of = |fault: &'static str| async move {
        let server = faulty(fault).await;
        post(&server, &request("x")).await.text()
    };
    // Ids are the same because the seed and the order of requests are.
    assert_eq!(of("{ line_ends: crlf }").await, plain.replace('\n', "\r\n"));
    assert_eq!(of("{ line_ends: cr }").await, plain.replace('\n', "\r"));
    assert_eq!(of("{ bom: true }").await, format!("\u{feff}{plain}"));
    assert_eq!(
        of("{ comments: true }")
            .await
            .replace(": keep-alive\n\n", ""),
        plain
    );
    let spread = of("{ multiline: true }").await;
    assert!(spread.lines().count() > 2 * plain.lines().count());
    for (event, original) in spread
        .split_terminator("\n\n")
        .zip(plain.split_terminator("\n\n"))
    {
        let data: Vec<&str> = event
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        let original = original
            .lines()
            .last()
            .unwrap()
            .strip_prefix("data: ")
            .unwrap();
        let read = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        assert_eq!(read(&data.join("\n")), read(original));
    }
}

#[tokio::test]
async fn events_can_be_doubled_dropped_and_strange() {
    let names = |answer: &Response| {
        answer
            .events()
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    let server = faulty("{ duplicate: [message_start, content_block_delta] }, { attempt: 2, drop: [message_delta, message_stop], pings: 2 }").await;
    let doubled = post(&server, &request("x")).await;
    assert_eq!(
        names(&doubled),
        [
            "message_start",
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let dropped = post(&server, &request("x")).await;
    assert_eq!(
        names(&dropped)
            .iter()
            .filter(|name| *name == "ping")
            .count(),
        1 + 5 * 2
    );
    assert!(!names(&dropped).contains(&"message_stop".to_owned()));

    let server = faulty("{ insert: [{ at: 1, event: odd, data: { type: odd } }, { at: 4, text: 'no such field' }, { at: 99, data: never }] }").await;
    let strange = post(&server, &request("x")).await.text();
    assert!(
        strange.contains("\n\nevent: odd\ndata: {\"type\":\"odd\"}\n\nevent: content_block_start")
    );
    assert!(strange.contains("no such field") && !strange.contains("never"));
}

#[tokio::test]
async fn usage_can_be_missing_absurd_or_in_parts() {
    let server = faulty("{ usage: missing, model: claude-other }").await;
    let answer = post(&server, &request("x")).await;
    assert!(!answer.text().contains("usage"));
    assert_eq!(answer.message()["model"], "claude-other");
    let server = faulty("{ usage: { output_tokens: -5, input_tokens: many } }").await;
    let answer = post(&server, &request("x")).await.message();
    assert_eq!(
        (
            &answer["usage"]["output_tokens"],
            &answer["usage"]["input_tokens"]
        ),
        (&json!(-5), &json!("many"))
    );
    let server = faulty("{ message_deltas: 3 }").await;
    let answer = post(&server, &request("x")).await;
    let counts: Vec<u64> = answer
        .events()
        .iter()
        .filter(|(name, _)| name == "message_delta")
        .map(|(_, data)| data["usage"]["output_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(counts.len(), 3);
    assert!(
        counts.is_sorted() && counts[2] == 3,
        "cumulative: {counts:?}"
    );
    assert_eq!(answer.message()["stop_reason"], "end_turn");
}

#[tokio::test]
async fn bytes_can_be_anything_but_http() {
    let server = faulty("{ wire: \"HTTP/1.1 200 OK\\r\\ncontent-length: 99\\r\\n\\r\\nshort\" }, { attempt: 2, wire: \"\\x01garbage\" }").await;
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let answer = client.receive().await.unwrap();
    assert_eq!((answer.text().as_str(), answer.whole), ("short", false));
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    let mut received = Vec::new();
    client.stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"\x01garbage");
}

#[tokio::test]
async fn a_message_that_does_not_stream_can_be_cut_too() {
    let server = faulty("{ cut: 20 }").await;
    let mut body = request("x");
    body["stream"] = json!(false);
    let answer = post(&server, &body).await;
    assert_eq!((answer.body.len(), answer.whole), (20, false));
    assert!(
        answer
            .header("content-length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
            > 20
    );
}

#[tokio::test]
async fn chances_follow_the_seed() {
    let yaml = "turns: [{ text: hi, repeat: forever, faults: [{ chance: 30%, status: 529 }] }]";
    let outcomes = |seed: u64| async move {
        let server = serve_with(
            yaml,
            ServerOptions {
                seed,
                ..ServerOptions::new(prices())
            },
        )
        .await;
        let mut failed = Vec::new();
        for number in 0..100 {
            failed.push(post(&server, &request(&number.to_string())).await.status == 529);
        }
        failed
    };
    let first = outcomes(1).await;
    assert_eq!(first, outcomes(1).await);
    assert_ne!(first, outcomes(2).await);
    let failures = first.iter().filter(|failed| **failed).count();
    assert!((10..=55).contains(&failures), "{failures} of 100 at 30 %");
}

#[tokio::test]
async fn the_tools_of_a_faulted_turn_get_new_ids_on_the_next_attempt() {
    let server =
        serve("turns: [{ tools: [{ name: t }, { name: t }], faults: [{ cut: { event: 5 } }] }]")
            .await;
    let body = with_tools(request("x"), &["t"]);
    let first = post(&server, &body).await;
    assert!(!first.whole);
    let second = post(&server, &body).await;
    let id = |answer: &Response| answer.message()["content"][0]["id"].clone();
    assert_ne!(id(&first), id(&second));
}
