//! Logs and traces of the real binary: names, ids, parents, and no content.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::world::World;

const READS: &str = "
turns:
  - text: I look at the plan.
    tool: { name: grep, input: { pattern: milk } }
  - text: The secret plan is done.
";

/// What of the conversation must not be in telemetry.
const CONTENT: &[&str] = &["plan", "milk", "please"];

fn world() -> World {
    World::new()
        .with_agent()
        .with_model(READS)
        .file("project/notes.txt", "buy milk\n")
}

#[test]
fn every_line_of_the_log_carries_the_ids_and_no_content() {
    let world = world()
        .set("OTTO_LOG", "otto=debug")
        .set("OTTO_LOG_FORMAT", "json")
        .set("OTTO_LOG_FILE", "../log.json");
    let workflow = "01890a5d-ac96-774b-bcce-b302099a8057";
    world
        .otto(["run", "helper", "please", "--workflow", workflow])
        .expect(0);
    let log = fs::read_to_string(world.path("log.json")).unwrap();
    for content in CONTENT {
        assert!(!log.contains(content), "`{content}` is in the log:\n{log}");
    }
    let records: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<&str> = records
        .iter()
        .filter_map(|record| record["event"].as_str())
        .filter(|event| !event.starts_with("machine_"))
        .collect();
    let expected = [
        "invocation_started",
        "model_call_started",
        "tool_started",
        "tool_finished",
        "model_call_started",
        "invocation_finished",
    ];
    let mut rest = events.iter();
    for event in expected {
        assert!(rest.any(|found| *found == event), "{event} in {events:?}");
    }
    let tool = records
        .iter()
        .find(|record| record["event"] == "tool_started")
        .unwrap();
    let spans: BTreeMap<&str, &Value> = tool["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| (span["name"].as_str().unwrap(), span))
        .collect();
    assert_eq!(spans["workflow"]["workflow"], workflow);
    assert_eq!(spans["agent"]["agent"], "helper");
    assert!(spans["task"]["task"].is_string());
    assert_eq!(spans["invocation"]["invocation"], tool["invocation"]);
}

#[test]
fn a_log_that_cannot_be_is_told_of() {
    let world = world();
    for (name, value, expected) in [
        ("OTTO_LOG", "otto=loud", "expected a filter"),
        ("OTTO_LOG_FORMAT", "xml", "expected `json` or `pretty`"),
        (
            "OTTO_LOG_FILE",
            "no/such/dir/log",
            "OTTO_LOG_FILE names a file",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "nonsense",
            "the http or https address",
        ),
    ] {
        let mut command = world.command(["run", "helper", "please"]);
        let output = command
            .env("OTTO_LOG", "info")
            .env(name, value)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(expected), "{name}: {stderr}");
    }
}

#[test]
fn traces_and_metrics_arrive_at_a_receiver() {
    let (endpoint, received) = receiver();
    let world = world()
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .set("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=hunter2")
        .set("OTEL_SERVICE_NAME", "a-test");
    let (code, lines) = world.json(["run", "helper", "please"]);
    assert_eq!(code, 0);
    let started = &lines[0];
    let mut spans = Vec::new();
    let mut metrics = Vec::new();
    // The process has ended, so everything it sends has arrived.
    while let Ok(request) = received.recv_timeout(Duration::from_secs(20)) {
        assert!(
            request.head.contains("x-api-key: hunter2"),
            "{}",
            request.head
        );
        for content in CONTENT {
            assert!(!request.body.contains(content), "`{content}` was sent");
        }
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let of = |kind: &str, scope: &str, list: &str| {
            let resource = &body[kind][0];
            let service = &resource["resource"]["attributes"][0]["value"]["stringValue"];
            assert_eq!(service, "a-test");
            resource[scope][0][list].as_array().unwrap().clone()
        };
        if request.head.starts_with("POST /v1/traces ") {
            spans.extend(of("resourceSpans", "scopeSpans", "spans"));
        } else {
            assert!(
                request.head.starts_with("POST /v1/metrics "),
                "{}",
                request.head
            );
            metrics.extend(of("resourceMetrics", "scopeMetrics", "metrics"));
            break;
        }
    }
    let named =
        |name: &str| -> Vec<&Value> { spans.iter().filter(|span| span["name"] == name).collect() };
    let hex = |id: &Value| id.as_str().unwrap().replace('-', "");
    let [agent] = named("invoke_agent helper")[..] else {
        panic!("one invocation: {spans:#?}");
    };
    let chats = named("chat claude-haiku-4-5-20251001");
    let tools = named("execute_tool grep");
    assert_eq!((chats.len(), tools.len()), (2, 1), "{spans:#?}");
    assert_eq!(agent["traceId"], hex(&started["task"]));
    assert!(hex(&started["invocation"]).ends_with(agent["spanId"].as_str().unwrap()));
    for child in chats.iter().chain(&tools) {
        assert_eq!(child["traceId"], agent["traceId"]);
        assert_eq!(child["parentSpanId"], agent["spanId"]);
        assert_eq!(
            attribute(child, "gen_ai.conversation.id"),
            started["session"]
        );
        assert_eq!(attribute(child, "gen_ai.provider.name"), "anthropic");
        assert!(child["status"].is_null(), "{child}");
    }
    assert_eq!(attribute(agent, "gen_ai.operation.name"), "invoke_agent");
    assert_eq!(attribute(agent, "gen_ai.agent.name"), "helper");
    assert_eq!(attribute(tools[0], "gen_ai.tool.name"), "grep");
    assert_eq!(
        attribute(chats[0], "gen_ai.request.model"),
        "claude-haiku-4-5-20251001"
    );
    let tokens: u64 = chats
        .iter()
        .map(|chat| number(&attribute(chat, "gen_ai.usage.output_tokens")))
        .sum();
    assert_eq!(
        tokens,
        number(&attribute(agent, "gen_ai.usage.output_tokens"))
    );
    assert!(tokens > 0);
    for name in [
        "otto_invocations",
        "otto_cost_picodollars",
        "gen_ai.client.operation.duration",
    ] {
        assert!(
            metrics.iter().any(|metric| metric["name"] == name),
            "{name}: {metrics:#?}"
        );
    }
    let usage = metrics
        .iter()
        .find(|metric| metric["name"] == "gen_ai.client.token.usage")
        .unwrap_or_else(|| panic!("no token usage: {metrics:#?}"));
    assert_eq!(usage["unit"], "{token}");
    let points = usage["histogram"]["dataPoints"].as_array().unwrap();
    let output = points
        .iter()
        .find(|point| attribute(point, "gen_ai.token.type") == "output")
        .unwrap();
    assert_eq!(output["count"], "2", "one for each model call: {output}");
    assert_eq!(output["sum"].as_f64(), Some(tokens as f64));
    for (name, value) in [
        ("gen_ai.request.model", "claude-haiku-4-5-20251001"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "anthropic"),
    ] {
        assert_eq!(attribute(output, name), value);
    }
}

fn attribute(span: &Value, name: &str) -> Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    let value = &found.unwrap_or_else(|| panic!("{name} in {span:#}"))["value"];
    value
        .get("stringValue")
        .or(value.get("intValue"))
        .unwrap()
        .clone()
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

struct Received {
    head: String,
    body: String,
}

/// A receiver that takes everything, until the test ends.
fn receiver() -> (String, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(connection);
                while let Some(request) = next_request(&mut reader) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if sender.send(request).is_err() || reader.get_mut().write_all(answer).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    (endpoint, received)
}

fn next_request(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        head,
        body: String::from_utf8(body).ok()?,
    })
}
