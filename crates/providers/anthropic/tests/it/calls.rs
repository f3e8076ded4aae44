//! The client against a server that misbehaves. Every failure's text is searched for the key.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use otto_anthropic::{AnthropicClient, AnthropicConfig, BreakerConfig, Plaintext, ProxySource};
use otto_core::invocation::{Billing, ModelFailureKind as Kind, StopReason};
use otto_core::message::Message;
use otto_core::port::llm_client::{LlmClient, ModelCall, ModelEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use url::Url;

use crate::server::{Server, Step, chunk, events_head, last_chunk, response, streamed};
use crate::world::*;

fn config(url: &str) -> AnthropicConfig {
    AnthropicConfig {
        base_url: Url::parse(url).unwrap(),
        ..AnthropicConfig::new(KEY.into())
    }
}

fn client(url: &str) -> AnthropicClient {
    AnthropicClient::new(config(url)).unwrap()
}

async fn run(client: &AnthropicClient, call: ModelCall) -> Vec<ModelEvent> {
    let events: Vec<_> = client.call(call).collect().await;
    assert_one_ending(&events);
    assert!(
        !format!("{events:?}").contains("ThisIsTheKey"),
        "the key leaked: {events:?}"
    );
    events
}

async fn answer(steps: Vec<Step>) -> Vec<ModelEvent> {
    let server = Server::start(vec![steps]).await;
    let events = run(&client(&server.url()), call()).await;
    assert_eq!(server.received().len(), 1, "one attempt per call");
    events
}

fn error_json(kind: &str) -> String {
    format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":"your key {KEY} is bad","details":null}},"request_id":"req_body"}}"#
    )
}

#[tokio::test]
async fn a_reply_is_streamed_and_the_request_is_as_the_vendor_wants_it() {
    let server = Server::start(vec![streamed(&hello_reply())]).await;
    let events = run(&client(&server.url()), call()).await;
    assert_eq!(text(&events), "Hello");
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    assert!(
        matches!(&events[0], ModelEvent::Started { request_id: Some(id), .. } if &**id == "req_head")
    );
    let request = &server.received()[0];
    let head = request.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/messages http/1.1"), "{head}");
    for line in [
        &format!("x-api-key: {}", KEY.to_ascii_lowercase()),
        "anthropic-version: 2026-10-21",
        "content-type: application/json",
        "accept-encoding: identity",
        "user-agent: otto/",
    ] {
        assert!(head.contains(line), "{line} is missing in {head}");
    }
    assert!(
        !head.contains("authorization") && !head.contains("anthropic-beta"),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        (&body["stream"], &body["max_tokens"]),
        (&true.into(), &10_000.into())
    );
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_poll() {
    let server = Server::start(vec![streamed(&hello_reply())]).await;
    let client = client(&server.url());
    drop(client.call(call()));
    let events = run(&client, call()).await;
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_connection_is_used_again_even_if_the_body_ends_late() {
    let late = Arc::new(Notify::new());
    let slow = vec![
        events_head(),
        chunk(hello_reply()),
        Step::Wait(late.clone()),
        last_chunk(),
    ];
    let server = Server::start(vec![
        slow,
        streamed(&hello_reply()),
        streamed(&hello_reply()),
    ])
    .await;
    let client = client(&server.url());
    run(&client, call()).await;
    late.notify_one();
    // The end of the body is read by a task of this thread; the next requests may only start after it.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    run(&client, call()).await;
    run(&client, call()).await;
    let connections: Vec<usize> = server
        .received()
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections, [0, 0, 0]);
}

#[tokio::test]
async fn statuses_become_typed_failures() {
    for (status, kind, class, billing) in [
        (
            400,
            "invalid_request_error",
            Kind::InvalidRequest,
            Billing::NotBilled,
        ),
        (
            401,
            "authentication_error",
            Kind::Authentication,
            Billing::NotBilled,
        ),
        (402, "billing_error", Kind::SpendLimit, Billing::NotBilled),
        (
            403,
            "permission_error",
            Kind::Permission,
            Billing::NotBilled,
        ),
        (404, "not_found_error", Kind::NotFound, Billing::NotBilled),
        (409, "conflict_error", Kind::Server, Billing::NotBilled),
        (
            413,
            "request_too_large",
            Kind::PromptTooLong,
            Billing::NotBilled,
        ),
        (
            422,
            "invalid_request_error",
            Kind::InvalidRequest,
            Billing::NotBilled,
        ),
        (
            429,
            "rate_limit_error",
            Kind::RateLimited,
            Billing::NotBilled,
        ),
        (408, "unheard_of", Kind::Timeout, Billing::Unknown),
        (500, "api_error", Kind::Server, Billing::Unknown),
        (502, "unheard_of", Kind::Server, Billing::Unknown),
        (503, "api_error", Kind::Server, Billing::Unknown),
        (504, "timeout_error", Kind::Timeout, Billing::Unknown),
        (524, "unheard_of", Kind::Server, Billing::Unknown),
        (
            529,
            "overloaded_error",
            Kind::Overloaded,
            Billing::NotBilled,
        ),
    ] {
        let bodies = [
            error_json(kind),
            format!("<html>\u{1b}[2J {KEY}</html>"),
            String::new(),
        ];
        for (number, body) in bodies.iter().enumerate() {
            let events = answer(vec![response(status, &[("request-id", "req_head")], body)]).await;
            let failure = failure(&events);
            assert_eq!(
                (failure.kind, failure.billing),
                (class, billing),
                "{status} {body}"
            );
            assert_eq!(
                (failure.status, failure.request_id.as_deref()),
                (Some(status), Some("req_head"))
            );
            assert!(
                !failure.message.contains('\u{1b}')
                    && failure.message.contains(&status.to_string())
            );
            if number == 0 {
                assert!(
                    failure.message.contains("your key [key] is bad"),
                    "{}",
                    failure.message
                );
            }
        }
    }
}

#[tokio::test]
async fn wishes_in_the_headers_are_read() {
    let huge = "9".repeat(60);
    for (headers, expected) in [
        (&[("retry-after", "30")][..], Some(Duration::from_secs(30))),
        (&[("retry-after", "0.5")], Some(Duration::from_millis(500))),
        (
            &[("retry-after-ms", "1500"), ("retry-after", "30")],
            Some(Duration::from_millis(1_500)),
        ),
        (
            &[("retry-after-ms", "-5"), ("retry-after", "30")],
            Some(Duration::from_secs(30)),
        ),
        (
            &[("retry-after", "86400")],
            Some(Duration::from_secs(86_400)),
        ),
        (
            &[("retry-after", &huge)],
            Some(Duration::from_secs(u32::MAX.into())),
        ),
        (
            &[
                ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
                ("retry-after", "Sun, 22 Nov 2026 12:01:00 GMT"),
            ],
            Some(Duration::from_secs(60)),
        ),
        (
            &[
                ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
                ("retry-after", "Sun, 22 Nov 2026 11:00:00 GMT"),
            ],
            None,
        ),
        (
            &[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")],
            Some(Duration::from_secs(u32::MAX.into())),
        ),
        (
            &[("retry-after", "30"), ("retry-after", "30")],
            Some(Duration::from_secs(30)),
        ),
        (&[("retry-after", "30"), ("retry-after", "40")], None),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "NaN")], None),
        (&[("retry-after", "1e400")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "")], None),
        (&[("retry-after", "\u{fc}")], None),
        (&[], None),
        (
            &[
                (
                    "anthropic-ratelimit-requests-remaining",
                    "-99999999999999999999",
                ),
                ("anthropic-ratelimit-tokens-reset", "never"),
            ],
            None,
        ),
    ] {
        let events = answer(vec![response(429, headers, "")]).await;
        assert_eq!(failure(&events).retry_after, expected, "{headers:?}");
        assert_eq!(failure(&events).kind, Kind::RateLimited);
    }
    for (value, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("TRUE", None),
        ("", None),
        ("1", None),
    ] {
        let events = answer(vec![response(529, &[("x-should-retry", value)], "")]).await;
        assert_eq!(failure(&events).should_retry, expected, "{value}");
    }
}

#[tokio::test]
async fn own_limits_of_the_account_are_told_apart() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    let events = answer(vec![response(429, &[("x-should-retry", "true")], body)]).await;
    assert_eq!(
        (failure(&events).kind, failure(&events).should_retry),
        (Kind::SpendLimit, None)
    );
}

#[tokio::test]
async fn control_bytes_in_ids_are_escaped() {
    let head = b"HTTP/1.1 500 X\r\nrequest-id: req\t\x80\xff-1\r\ncontent-length: 0\r\n\r\n";
    let events = answer(vec![Step::Send(head.to_vec())]).await;
    let id = failure(&events).request_id.clone().unwrap();
    assert!(
        id.starts_with("req\\t") && !id.chars().any(char::is_control),
        "{id:?}"
    );
}

#[tokio::test]
async fn an_endless_error_body_is_not_read_to_its_end() {
    let head = Step::Send(b"HTTP/1.1 500 X\r\ncontent-length: 209715200\r\n\r\n".to_vec());
    let events = answer(vec![head, Step::Flood(vec![b'x'; 8192])]).await;
    assert_eq!(failure(&events).kind, Kind::Server);
    assert!(failure(&events).message.len() < 2_000);
}

#[tokio::test]
async fn an_error_body_that_stalls_is_given_up() {
    let reached = Arc::new(Notify::new());
    let steps = vec![
        Step::Send(b"HTTP/1.1 529 X\r\ncontent-length: 100\r\n\r\nabc".to_vec()),
        Step::Signal(reached.clone()),
        Step::Hang(Arc::new(Notify::new())),
    ];
    let server = Server::start(vec![steps]).await;
    let client = client(&server.url());
    let calling = tokio::spawn(async move { run(&client, call()).await });
    reached.notified().await;
    tokio::time::pause();
    let events = calling.await.unwrap();
    assert_eq!(failure(&events).kind, Kind::Overloaded);
}

#[tokio::test]
async fn a_good_status_without_a_stream_is_never_an_answer() {
    let html = "<html>Sign in to the hotel network</html>";
    for (status, headers, body, class) in [
        (
            200,
            &[("content-type", "text/html")][..],
            html,
            Kind::Protocol,
        ),
        (200, &[], "", Kind::Protocol),
        (
            200,
            &[("content-type", "text/event-stream")],
            "",
            Kind::CutStream,
        ),
        (204, &[], "", Kind::Protocol),
        (
            200,
            &[("content-type", "application/json")],
            "{\"type\":\"message\",\"content\":[]}",
            Kind::Protocol,
        ),
        (
            200,
            &[("content-type", "text/plain")],
            &hello_reply(),
            Kind::Protocol,
        ),
        (
            200,
            &[("content-type", "text/event-streams")],
            &hello_reply(),
            Kind::Protocol,
        ),
        (
            200,
            &[
                ("content-type", "text/event-stream"),
                ("content-encoding", "gzip"),
            ],
            &hello_reply(),
            Kind::Protocol,
        ),
        (
            202,
            &[("content-type", "text/event-stream")],
            &hello_reply(),
            Kind::Protocol,
        ),
    ] {
        let events = answer(vec![response(status, headers, body)]).await;
        let failure = failure(&events);
        assert_eq!(
            (failure.kind, failure.billing),
            (class, Billing::Unknown),
            "{status} {headers:?}"
        );
        assert!(text(&events).is_empty());
    }
    let overloaded = error_json("overloaded_error");
    let events = answer(vec![response(
        200,
        &[("content-type", "application/json")],
        &overloaded,
    )])
    .await;
    assert_eq!(
        (failure(&events).kind, failure(&events).billing),
        (Kind::Overloaded, Billing::Unknown)
    );
    for media_type in ["Text/Event-Stream", "text/event-stream ; charset=utf-8"] {
        let events = answer(vec![response(
            200,
            &[("content-type", media_type)],
            &hello_reply(),
        )])
        .await;
        assert_eq!(finish(&events).stop, StopReason::EndTurn, "{media_type}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(vec![streamed(&hello_reply())]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/v1/messages?{KEY}", elsewhere.url());
        let events = answer(vec![response(status, &[("location", &location)], "")]).await;
        assert_eq!(failure(&events).kind, Kind::InvalidRequest);
        assert!(
            failure(&events).message.contains("redirect"),
            "{}",
            failure(&events).message
        );
    }
    assert!(elsewhere.received().is_empty(), "the key left home");
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_not_billed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let events = run(&client(&url), call()).await;
    assert_eq!(
        (failure(&events).kind, failure(&events).billing),
        (Kind::Unreachable, Billing::NotBilled)
    );
    assert!(
        failure(&events).message.contains("refused"),
        "{}",
        failure(&events).message
    );
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 4096];
        let count = stream.read(&mut hello).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        hello[..count].to_vec()
    });
    let config = AnthropicConfig {
        proxy: ProxySource::None,
        ..config(&url)
    };
    let events = run(&AnthropicClient::new(config).unwrap(), call()).await;
    assert_eq!(
        (failure(&events).kind, failure(&events).billing),
        (Kind::Unreachable, Billing::NotBilled)
    );
    // A machine without certificates does not even try.
    if !failure(&events).message.contains("cannot set up TLS") {
        let hello = serving.await.unwrap();
        assert_eq!(hello.first(), Some(&0x16), "a TLS handshake");
        assert!(!String::from_utf8_lossy(&hello).contains("ThisIsTheKey"));
    }
}

#[tokio::test]
async fn a_connection_lost_before_the_headers_may_have_been_billed() {
    for steps in [
        vec![Step::Close],
        vec![Step::Reset],
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec()),
            Step::Close,
        ],
        vec![Step::Send(b"not http at all\r\n\r\n".to_vec()), Step::Close],
    ] {
        let events = answer(steps).await;
        assert_eq!(
            (failure(&events).kind, failure(&events).billing),
            (Kind::CutStream, Billing::Unknown)
        );
    }
}

#[tokio::test]
async fn a_reply_cut_anywhere_fails_and_runs_nothing_unconfirmed() {
    let body = tool_reply("{\"tz\":\"UTC\"}");
    let complete_at = body.find("event: message_stop").unwrap();
    let confirmed_at = complete_at;
    for cut in (0..body.len()).step_by(17) {
        for ending in [Step::Close, Step::Reset] {
            let mut steps = vec![events_head()];
            if cut > 0 {
                steps.push(chunk(&body[..cut]));
            }
            steps.push(ending);
            let events = answer(steps).await;
            // A reset may overtake bytes that were sent before it.
            if confirmed(&events).is_empty() {
                assert_eq!(
                    (failure(&events).kind, failure(&events).billing),
                    (Kind::CutStream, Billing::Unknown),
                    "{cut}"
                );
            } else {
                assert!(cut >= confirmed_at, "cut at {cut}");
                assert_eq!(finish(&events).stop, StopReason::ToolUse);
            }
        }
    }
}

#[tokio::test]
async fn broken_framing_is_a_clean_error() {
    let short = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999\r\n\r\n{}",
        sse(&[START, TEXT_0, HELLO_0])
    );
    let bad_chunk = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nXYZ\r\nhello";
    let headers: String = (0..10_000)
        .map(|n| format!("x-header-{n}: 1\r\n"))
        .collect();
    let many = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}\r\n");
    for bytes in [short.as_str(), bad_chunk, &many] {
        let events = answer(vec![Step::Send(bytes.as_bytes().to_vec()), Step::Close]).await;
        assert_eq!(
            (failure(&events).kind, failure(&events).billing),
            (Kind::CutStream, Billing::Unknown)
        );
    }
}

#[tokio::test]
async fn the_last_event_ends_the_call_though_the_connection_stays_open() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let closed = Arc::new(Notify::new());
    let events = answer(vec![
        events_head(),
        chunk(sse(&[START, error])),
        Step::Hang(closed.clone()),
    ])
    .await;
    assert_eq!(failure(&events).kind, Kind::Overloaded);
    // The failed reply's connection is closed, which stops what it costs.
    closed.notified().await;
    let events = answer(vec![
        events_head(),
        chunk(hello_reply()),
        Step::Hang(Arc::new(Notify::new())),
    ])
    .await;
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let closed = Arc::new(Notify::new());
    let steps = vec![
        events_head(),
        chunk(sse(&[START, TEXT_0, HELLO_0])),
        Step::Hang(closed.clone()),
    ];
    let server = Server::start(vec![steps]).await;
    let client = client(&server.url());
    let mut stream = client.call(call());
    while let Some(event) = stream.next().await {
        if matches!(event, ModelEvent::TextDelta { .. }) {
            break;
        }
    }
    drop(stream);
    closed.notified().await;
}

/// Runs a call that stalls after `steps`, with the clock paused as soon as the stall is reached.
async fn stalled(mut steps: Vec<Step>, call: ModelCall) -> Vec<ModelEvent> {
    let reached = Arc::new(Notify::new());
    steps.push(Step::Signal(reached.clone()));
    steps.push(Step::Hang(Arc::new(Notify::new())));
    let server = Server::start(vec![steps]).await;
    let client = client(&server.url());
    let calling = tokio::spawn(async move { run(&client, call).await });
    reached.notified().await;
    tokio::time::pause();
    let events = calling.await.unwrap();
    tokio::time::resume();
    events
}

#[tokio::test]
async fn a_stall_anywhere_ends_with_a_timeout() {
    let tool = tool_start(0, "toolu_1", "get_time");
    let open_call = sse(&[START, &tool, &tool_delta(0, "{\"tz\":")]);
    for steps in [
        vec![],
        vec![Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec())],
        vec![events_head()],
        vec![events_head(), chunk(sse(&[START]))],
        vec![events_head(), chunk(sse(&[START, TEXT_0, HELLO_0]))],
        vec![events_head(), chunk(open_call)],
        vec![events_head(), chunk("event: mess")],
    ] {
        let events = stalled(steps, call()).await;
        let failure = failure(&events);
        assert_eq!(
            (failure.kind, failure.billing),
            (Kind::Timeout, Billing::Unknown),
            "{}",
            failure.message
        );
        assert!(confirmed(&events).is_empty());
    }
}

#[tokio::test]
async fn a_stall_after_the_stop_reason_is_a_good_end() {
    let steps = vec![
        events_head(),
        chunk(sse(&[START, TEXT_0, HELLO_0, STOP_0, END_TURN])),
    ];
    let events = stalled(steps, call()).await;
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
}

#[tokio::test]
async fn the_time_of_the_attempt_is_kept() {
    let hurried = |time_left| ModelCall {
        time_left,
        ..call()
    };
    for steps in [
        vec![],
        vec![events_head(), chunk(sse(&[START, TEXT_0, HELLO_0]))],
    ] {
        let events = stalled(steps, hurried(Duration::from_secs(30))).await;
        assert_eq!(failure(&events).kind, Kind::Timeout);
        assert!(
            failure(&events).message.contains("time for this attempt"),
            "{}",
            failure(&events).message
        );
    }
    let server = Server::start(vec![]).await;
    let events = run(&client(&server.url()), hurried(Duration::ZERO)).await;
    assert_eq!(
        (failure(&events).kind, failure(&events).billing),
        (Kind::Timeout, Billing::NotBilled)
    );
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_request_that_cannot_be_valid_is_not_sent() {
    let server = Server::start(vec![]).await;
    let client = client(&server.url());
    let with = |history, tools: &[&str]| ModelCall {
        conversation: Arc::new(conversation("claude-sonnet-5-5", tools)),
        request: request(history, 100),
        ..call()
    };
    for (call, class) in [
        (with(vec![], &[]), Kind::InvalidRequest),
        (
            with(vec![Message::user_text("x")], &["a.b", "a_b"]),
            Kind::InvalidRequest,
        ),
        (
            with(vec![Message::user_text(&"x".repeat(33_000_000))], &[]),
            Kind::PromptTooLong,
        ),
    ] {
        let events = run(&client, call).await;
        assert_eq!(
            (failure(&events).kind, failure(&events).billing),
            (class, Billing::NotBilled)
        );
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_provider_that_is_down_is_left_alone() {
    let overloaded = vec![response(529, &[], &error_json("overloaded_error"))];
    let mut scripts = vec![overloaded; 4];
    scripts.push(streamed(&hello_reply()));
    scripts.push(streamed(&hello_reply()));
    let server = Server::start(scripts).await;
    let breaker = BreakerConfig {
        failures_to_open: 3,
        ..BreakerConfig::default()
    };
    let client = AnthropicClient::new(AnthropicConfig {
        breaker,
        ..config(&server.url())
    })
    .unwrap();
    for _ in 0..3 {
        assert_eq!(failure(&run(&client, call()).await).kind, Kind::Overloaded);
    }
    let events = run(&client, call()).await;
    let open = failure(&events);
    assert_eq!(
        (open.kind, open.billing),
        (Kind::CircuitOpen, Billing::NotBilled)
    );
    assert!(
        open.retry_after
            .is_some_and(|wait| wait <= Duration::from_secs(1)),
        "{open:?}"
    );
    assert_eq!(server.received().len(), 3);

    let wait = async |time| {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    };
    wait(Duration::from_secs(1)).await;
    assert_eq!(
        failure(&run(&client, call()).await).kind,
        Kind::Overloaded,
        "the probe"
    );
    wait(Duration::from_millis(1_900)).await;
    assert_eq!(
        failure(&run(&client, call()).await).kind,
        Kind::CircuitOpen,
        "a longer pause"
    );
    wait(Duration::from_millis(200)).await;
    for _ in 0..2 {
        assert_eq!(
            finish(&run(&client, call()).await).stop,
            StopReason::EndTurn
        );
    }
    assert_eq!(server.received().len(), 6);
}

#[tokio::test]
async fn refusals_do_not_open_the_circuit() {
    let server = Server::always(vec![response(
        400,
        &[],
        &error_json("invalid_request_error"),
    )])
    .await;
    let client = client(&server.url());
    for _ in 0..20 {
        assert_eq!(
            failure(&run(&client, call()).await).kind,
            Kind::InvalidRequest
        );
    }
    let server = Server::always(vec![response(429, &[], &error_json("rate_limit_error"))]).await;
    let client = AnthropicClient::new(config(&server.url())).unwrap();
    for _ in 0..20 {
        assert_eq!(failure(&run(&client, call()).await).kind, Kind::RateLimited);
    }
}

#[tokio::test]
async fn a_hundred_calls_at_once_meet_a_closed_door_together() {
    let server = Server::always(vec![response(529, &[], "")]).await;
    let client = client(&server.url());
    for _ in 0..8 {
        run(&client, call()).await;
    }
    let calls = (0..100).map(|_| run(&client, call()));
    let all = futures_util::future::join_all(calls).await;
    assert!(
        all.iter()
            .all(|events| failure(events).kind == Kind::CircuitOpen)
    );
    assert_eq!(server.received().len(), 8);
}

#[tokio::test]
async fn a_proxy_is_used_when_it_is_named() {
    let proxy = Server::start(vec![streamed(&hello_reply())]).await;
    let named =
        ProxySource::Url(Url::parse(&format!("http://user:secret@{}", proxy.address)).unwrap());
    let base = "http://model.example.invalid:81/prefix";
    let config = AnthropicConfig {
        proxy: named,
        plaintext: Plaintext::Anywhere,
        ..config(base)
    };
    let events = run(&AnthropicClient::new(config).unwrap(), call()).await;
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    let head = proxy.received()[0].head.clone();
    assert!(
        head.starts_with("POST http://model.example.invalid:81/prefix/v1/messages HTTP/1.1"),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase()
            .contains("proxy-authorization: basic"),
        "{head}"
    );
}

#[tokio::test]
async fn tls_through_a_proxy_asks_for_a_tunnel_and_shows_the_proxy_nothing() {
    let proxy = Server::start(vec![vec![response(407, &[], ""), Step::Close]]).await;
    let named = ProxySource::Url(Url::parse(&proxy.url()).unwrap());
    let config = AnthropicConfig {
        proxy: named,
        ..config("https://model.example.invalid")
    };
    let events = run(&AnthropicClient::new(config).unwrap(), call()).await;
    assert_eq!(
        (failure(&events).kind, failure(&events).billing),
        (Kind::Unreachable, Billing::NotBilled)
    );
    // Without certificates on the machine no tunnel is asked for.
    for request in proxy.received() {
        assert!(
            request
                .head
                .starts_with("CONNECT model.example.invalid:443"),
            "{}",
            request.head
        );
        assert!(!request.head.contains("ThisIsTheKey") && request.body.is_empty());
    }
}

#[tokio::test]
async fn strange_proxies_are_refused_at_once() {
    for proxy in ["ftp://proxy.example", "data:x", "socks5://proxy.example"] {
        let config = AnthropicConfig {
            proxy: ProxySource::Url(Url::parse(proxy).unwrap()),
            ..config("https://a.example")
        };
        assert!(AnthropicClient::new(config).is_err(), "{proxy}");
    }
}

/// Set for the child process of the test below.
const CHILD_URL: &str = "OTTO_TEST_CHILD_URL";

/// Makes one call with the environment's proxy. Run as a child process, whose environment is its own.
#[tokio::test]
async fn child_makes_one_call() {
    let Ok(url) = std::env::var(CHILD_URL) else {
        return;
    };
    let config = AnthropicConfig {
        plaintext: Plaintext::Anywhere,
        ..config(&url)
    };
    let events = run(&AnthropicClient::new(config).unwrap(), call()).await;
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
}

/// Runs [`child_makes_one_call`] with an environment of its own.
async fn child_call(url: &str, environment: &[(&str, &str)]) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        child.env_remove(name);
    }
    child
        .args(["--exact", "calls::child_makes_one_call"])
        .env(CHILD_URL, url)
        .envs(environment.iter().copied());
    let output = child.kill_on_drop(true).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn the_proxy_variables_are_honored_except_for_this_machine() {
    let proxy = Server::always(streamed(&hello_reply())).await;
    let direct = Server::always(streamed(&hello_reply())).await;
    let remote = "http://model.example.invalid";

    child_call(remote, &[("HTTP_PROXY", &proxy.url())]).await;
    child_call(remote, &[("all_proxy", &proxy.url())]).await;
    assert_eq!(proxy.received().len(), 2);
    assert!(
        proxy.received()[0]
            .head
            .starts_with("POST http://model.example.invalid/v1/messages")
    );

    child_call(
        &direct.url(),
        &[("HTTP_PROXY", &proxy.url()), ("ALL_PROXY", &proxy.url())],
    )
    .await;
    assert_eq!(
        (proxy.received().len(), direct.received().len()),
        (2, 1),
        "the key stayed on this machine"
    );
}

#[test]
fn nothing_that_is_printed_holds_the_key() {
    let shown = format!(
        "{:?} {:?}",
        config("https://a.example"),
        client("https://a.example")
    );
    assert!(!shown.contains("ThisIsTheKey"), "{shown}");
}
