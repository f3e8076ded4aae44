//! Replies that break the rules, one rule at a time. The names say the behavior; `coverage.rs` lists them.

use otto_anthropic::codec::{MAX_BLOCKS, MAX_TOOL_INPUT_BYTES};
use otto_core::invocation::{Billing, ModelFailureKind, StopReason};
use otto_core::message::{BlockView, ToolCallName, ToolInput};
use otto_core::port::llm_client::ModelEvent;

use crate::world::*;

fn reply(stream: &str) -> Vec<ModelEvent> {
    let events = decode(context(&["get_time", "get_weather"]), [stream.as_bytes()]);
    let single = decode(
        context(&["get_time", "get_weather"]),
        stream.as_bytes().chunks(1),
    );
    assert_eq!(events, single, "cutting must not matter: {stream}");
    events
}

fn check_protocol_error(stream: &str) {
    let events = reply(stream);
    let failure = failure(&events);
    assert_eq!(
        failure.kind,
        ModelFailureKind::Protocol,
        "{stream}\n{}",
        failure.message
    );
    assert!(confirmed(&events).is_empty(), "{stream}");
}

#[test]
fn no_beginning_is_a_protocol_error() {
    check_protocol_error(&sse(&[TEXT_0, HELLO_0, STOP_0, END_TURN, MESSAGE_STOP]));
    check_protocol_error(&sse(&[END_TURN, MESSAGE_STOP]));
    check_protocol_error(&sse(&[MESSAGE_STOP]));
    check_protocol_error(&sse(&[STOP_0]));
    check_protocol_error(&sse(&[HELLO_0]));
    let events = reply("");
    assert_eq!(failure(&events).kind, ModelFailureKind::CutStream);
    assert_eq!(failure(&events).billing, Billing::Unknown);
}

#[test]
fn repeated_and_misplaced_steps_are_protocol_errors() {
    check_protocol_error(&sse(&[START, START]));
    check_protocol_error(&sse(&[START, TEXT_0, START]));
    check_protocol_error(&sse(&[START, TEXT_0, TEXT_0]));
    check_protocol_error(&sse(&[START, TEXT_0, STOP_0, TEXT_0]));
    check_protocol_error(&sse(&[START, TEXT_0, STOP_0, STOP_0]));
    check_protocol_error(&sse(&[START, STOP_0]));
    check_protocol_error(&sse(&[START, HELLO_0]));
    check_protocol_error(&sse(&[START, TEXT_0, STOP_0, HELLO_0]));
    check_protocol_error(&sse(&[START, TEXT_0, END_TURN]));
    check_protocol_error(&sse(&[START, END_TURN, TEXT_0]));
    check_protocol_error(&sse(&[START, END_TURN, TOOL_USE]));
    check_protocol_error(&sse(&[START, MESSAGE_STOP]));
    check_protocol_error(&sse(&[START, TEXT_0, HELLO_0, STOP_0, MESSAGE_STOP]));
}

#[test]
fn every_event_twice_is_a_protocol_error() {
    let twice: Vec<&str> = [START, TEXT_0, HELLO_0, STOP_0, END_TURN, MESSAGE_STOP]
        .iter()
        .flat_map(|data| [*data, *data])
        .collect();
    check_protocol_error(&sse(&twice));
}

#[test]
fn what_follows_the_end_is_ignored() {
    let events = reply(&(hello_reply() + &hello_reply() + "garbage\n\n"));
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    assert_eq!(text(&events), "Hello");
}

#[test]
fn strange_indexes_are_protocol_errors() {
    for index in [
        "-1",
        "18446744073709551616",
        "4294967296",
        "\"0\"",
        "null",
        "1.5",
        "[]",
        "1025",
    ] {
        let start = format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"text","text":""}}}}"#
        );
        check_protocol_error(&sse(&[START, &start]));
        let delta = format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":"x"}}}}"#
        );
        check_protocol_error(&sse(&[START, TEXT_0, &delta]));
        let stop = format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
        check_protocol_error(&sse(&[START, TEXT_0, &stop]));
    }
    check_protocol_error(&sse(&[
        START,
        r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
    ]));
}

#[test]
fn interleaved_blocks_are_assembled_by_index() {
    let text_at = |index: u32, text: &str| {
        format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":"{text}"}}}}"#
        )
    };
    let start = |index: u32| {
        format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"text","text":""}}}}"#
        )
    };
    let events = reply(&sse(&[
        START,
        &start(1),
        &start(0),
        &text_at(1, "b"),
        &text_at(0, "a"),
        &text_at(1, "B"),
        &block_stop(1),
        &text_at(0, "A"),
        STOP_0,
        END_TURN,
        MESSAGE_STOP,
    ]));
    let views: Vec<_> = blocks(&events)
        .iter()
        .map(|(index, block)| (*index, block.view.clone()))
        .collect();
    assert_eq!(
        views,
        [
            (1, BlockView::Text("bB".into())),
            (0, BlockView::Text("aA".into()))
        ]
    );
}

#[test]
fn unknown_things_are_skipped() {
    let events = reply(&sse(&[
        PING,
        r#"{"type":"brand_new","delta":5,"index":"x","message":[],"usage":0}"#,
        START,
        PING,
        TEXT_0,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","text":{"deep":[1]}}}"#,
        HELLO_0,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"new_delta"}}"#,
        STOP_0,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"new_block","x":[1,{"y":2}],"text":5}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lost"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        END_TURN,
        MESSAGE_STOP,
    ]));
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    let blocks = blocks(&events);
    assert_eq!(blocks[1].1.view, BlockView::Opaque);
    assert_eq!(
        &*blocks[1].1.raw,
        r#"{"type":"new_block","x":[1,{"y":2}],"text":5}"#
    );
    assert_eq!(text(&events), "Hello");
}

#[test]
fn a_name_that_disagrees_with_the_data_is_a_protocol_error() {
    check_protocol_error(&format!("event: ping\ndata: {START}\n\n"));
    check_protocol_error(&format!(
        "{}event: message_stop\ndata: {PING}\n\n",
        sse(&[START])
    ));
    check_protocol_error("data: {\"no\":\"type\"}\n\n");
    check_protocol_error("event: ping\ndata: {}\n\n");
    let unnamed: String = hello_reply()
        .lines()
        .filter(|line| !line.starts_with("event"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(finish(&reply(&unnamed)).stop, StopReason::EndTurn);
}

#[test]
fn data_that_is_no_json_or_of_the_wrong_shape_is_a_protocol_error() {
    for data in [
        "hello",
        "[DONE]",
        "[]",
        "5",
        "null",
        "{",
        "{\"type\":\"ping\"} x",
        "{\"type\":5}",
        "{\"type\":\"ping\",\"type\":\"ping\"}",
        "{\"type\":\"message_start\"}",
        "{\"type\":\"message_start\",\"message\":5}",
        "{\"type\":\"message_start\",\"message\":{}}",
        "{\"type\":\"message_start\",\"message\":{\"model\":5}}",
    ] {
        check_protocol_error(&format!("data: {data}\n\n"));
    }
    for data in [
        r#"{"type":"content_block_start","index":0}"#,
        r#"{"type":"content_block_start","index":0,"content_block":5}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":5}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"x","input":{}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"x","input":{}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":5,"name":"x"}}"#,
    ] {
        check_protocol_error(&sse(&[START, data]));
    }
    for data in [
        r#"{"type":"content_block_delta","index":0}"#,
        r#"{"type":"content_block_delta","index":0,"delta":5}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":5}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"x"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":5}}"#,
    ] {
        check_protocol_error(&sse(&[START, TEXT_0, data]));
    }
}

#[test]
fn all_legal_framings_read_the_same() {
    let plain = hello_reply();
    let expected = reply(&plain);
    for stream in [
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        format!("\u{feff}{plain}"),
        plain.replace("data: ", "data:"),
        plain.replace("data: ", ": a comment\ndata: "),
        plain.replace(r#","index""#, ",\ndata: \"index\""),
        plain.replace("data: ", "id: 1\nretry: 5\ndata: "),
        format!("{plain}: trailing"),
        format!("data\n\ndata:\n\n{plain}"),
    ] {
        assert_eq!(reply(&stream), expected, "{stream}");
    }
}

#[test]
fn broken_text_is_an_error_not_an_answer() {
    let mut bytes = sse(&[START, TEXT_0]).into_bytes();
    bytes.extend(b"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\xff\"}}\n\n");
    let events = decode(context(&[]), [bytes.as_slice()]);
    assert_eq!(failure(&events).kind, ModelFailureKind::Protocol);
    let lone = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\ud83d"}}"#;
    let stream = format!("{}data: {lone}\n\n", sse(&[START, TEXT_0]));
    check_protocol_error(&stream);
}

#[test]
fn text_that_looks_like_events_is_text() {
    let text_in = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n\u{1b}[2J\r\0";
    let delta = serde_json::json!({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":text_in}});
    let events = reply(&sse(&[
        START,
        TEXT_0,
        &delta.to_string(),
        STOP_0,
        END_TURN,
        MESSAGE_STOP,
    ]));
    assert_eq!(text(&events), text_in);
    let raw: serde_json::Value = serde_json::from_str(&blocks(&events)[0].1.raw).unwrap();
    assert_eq!(raw["text"], text_in);
}

#[test]
fn endless_lines_and_replies_are_cut() {
    let endless = vec![b'a'; 17 * 1024 * 1024];
    let events = decode(context(&[]), endless.chunks(64 * 1024));
    assert_eq!(failure(&events).kind, ModelFailureKind::Protocol);

    // The call may produce 10,000 tokens, which cannot be this long.
    let long = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{}"}}}}"#,
        "a".repeat(200_000)
    );
    let stream = sse(&[
        START, TEXT_0, &long, &long, &long, &long, &long, &long, &long,
    ]);
    let events = decode(context(&[]), [stream.as_bytes()]);
    assert_eq!(failure(&events).kind, ModelFailureKind::Protocol);
    assert!(
        failure(&events).message.contains("10000 output tokens"),
        "{}",
        failure(&events).message
    );
}

#[test]
fn too_many_blocks_are_cut_and_a_million_small_events_are_not() {
    let mut stream = sse(&[START]);
    for index in 0..=MAX_BLOCKS {
        stream.push_str(&sse(&[
            &format!(r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"text","text":""}}}}"#),
            &format!(r#"{{"type":"content_block_stop","index":{index}}}"#),
        ]));
    }
    let events = decode(context(&[]), [stream.as_bytes()]);
    assert_eq!(failure(&events).kind, ModelFailureKind::Protocol);
    assert_eq!(blocks(&events).len(), MAX_BLOCKS);

    let empty =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#;
    let mut stream = sse(&[START, TEXT_0]);
    stream.push_str(&sse(&[empty, PING]).repeat(50_000));
    stream.push_str(&sse(&[HELLO_0, STOP_0, END_TURN, MESSAGE_STOP]));
    let events = decode(context(&[]), [stream.as_bytes()]);
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    assert_eq!(text(&events), "Hello");
}

#[test]
fn invalid_tool_inputs_reach_the_caller_as_such_and_go_back_as_an_empty_object() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for fragment in [
        "not json",
        "[1]",
        "5",
        "null",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":",
        "{} {}",
        &deep,
    ] {
        let events = reply(&tool_reply(fragment));
        let (_, block) = &blocks(&events)[0];
        let ToolInput::Invalid(text) = input(block) else {
            panic!("{fragment}: {block:?}")
        };
        assert!(fragment.starts_with(&**text), "{fragment}");
        assert!(block.raw.contains(r#""input":{}"#), "{}", block.raw);
        assert_eq!(
            confirmed(&events),
            [0],
            "the model must be told, so the call counts"
        );
    }
}

#[test]
fn a_tool_input_of_many_megabytes_is_capped() {
    let mut context = context(&["get_time"]);
    context.max_output_tokens = 1_000_000;
    let fragment = format!("{{\"a\":\"{}", "x".repeat(1024 * 1024));
    let mut stream = sse(&[START, &tool_start(0, "toolu_1", "get_time")]);
    for _ in 0..=MAX_TOOL_INPUT_BYTES / (1024 * 1024) {
        stream.push_str(&sse(&[&tool_delta(0, &fragment)]));
    }
    stream.push_str(&sse(&[
        &tool_delta(0, "\"}"),
        STOP_0,
        TOOL_USE,
        MESSAGE_STOP,
    ]));
    let events = decode(context, [stream.as_bytes()]);
    let (_, block) = &blocks(&events)[0];
    let ToolInput::Invalid(text) = input(block) else {
        panic!("accepted")
    };
    assert!(text.len() <= 64 * 1024, "{}", text.len());
}

#[test]
fn an_overlong_tool_input_is_invalid_even_if_its_beginning_is_an_object() {
    let mut context = context(&["get_time"]);
    context.max_output_tokens = 1_000_000;
    let start = tool_start(0, "toolu_1", "get_time");
    let blanks = " ".repeat(MAX_TOOL_INPUT_BYTES);
    let (object, blanks) = (tool_delta(0, "{}"), tool_delta(0, &blanks));
    let stream = sse(&[
        START,
        &start,
        &object,
        &blanks,
        STOP_0,
        TOOL_USE,
        MESSAGE_STOP,
    ]);
    let events = decode(context, [stream.as_bytes()]);
    assert!(matches!(
        input(&blocks(&events)[0].1),
        ToolInput::Invalid(_)
    ));
}

#[test]
fn blocks_that_are_too_big_together_are_cut() {
    let mut stream = sse(&[START]);
    let filler = "x".repeat(12 * 1024 * 1024);
    for index in 0..3 {
        stream.push_str(&format!(
            "data: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{{\"type\":\"new\",\"x\":\"{filler}\"}}}}\n\n"
        ));
        stream.push_str(&sse(&[&block_stop(index)]));
    }
    let events = decode(context(&[]), [stream.as_bytes()]);
    assert_eq!(failure(&events).kind, ModelFailureKind::Protocol);
    assert_eq!(blocks(&events).len(), 2);
}

#[test]
fn tools_that_were_not_offered_keep_the_name_the_model_wrote() {
    for name in ["rm_rf", "GET_TIME", "get.time", "", "../../x", "get_time\0"] {
        let start = tool_start(0, "toolu_1", name);
        let events = reply(&sse(&[
            START,
            &start,
            &tool_delta(0, "{}"),
            STOP_0,
            TOOL_USE,
            MESSAGE_STOP,
        ]));
        let BlockView::ToolCall(call) = &blocks(&events)[0].1.view.clone() else {
            panic!("{events:?}")
        };
        assert_eq!(call.tool, ToolCallName::Unknown(name.into()));
    }
}

#[test]
fn names_with_dots_are_found_again() {
    let start = tool_start(0, "toolu_1", "fs_read");
    let stream = sse(&[
        START,
        &start,
        &tool_delta(0, "{}"),
        STOP_0,
        TOOL_USE,
        MESSAGE_STOP,
    ]);
    let events = decode(context(&["fs.read"]), [stream.as_bytes()]);
    let BlockView::ToolCall(call) = &blocks(&events)[0].1.view.clone() else {
        panic!("{events:?}")
    };
    assert_eq!(call.tool.as_str(), "fs.read");
    assert!(
        blocks(&events)[0].1.raw.contains(r#""name":"fs_read""#),
        "the raw form keeps the wire's name"
    );
    assert!(matches!(&events[1], ModelEvent::ToolCallStarted { tool, .. } if &**tool == "fs.read"));
}

#[test]
fn strange_call_ids_are_opaque_and_doubled_ones_count_once() {
    for id in [
        "",
        "../../etc/passwd",
        "a\0b",
        "toolu \u{1b}[31m",
        &"x".repeat(100_000),
    ] {
        let start = tool_start(0, id, "get_time");
        let events = reply(&sse(&[
            START,
            &start,
            &tool_delta(0, "{}"),
            STOP_0,
            TOOL_USE,
            MESSAGE_STOP,
        ]));
        let BlockView::ToolCall(call) = &blocks(&events)[0].1.view.clone() else {
            panic!("{events:?}")
        };
        assert_eq!(&*call.id.0, id);
    }
    let first = tool_start(0, "toolu_1", "get_time");
    let second = tool_start(1, "toolu_1", "get_weather");
    let events = reply(&sse(&[
        START,
        &first,
        &tool_delta(0, "{}"),
        STOP_0,
        &second,
        &tool_delta(1, "{\"x\":1}"),
        &block_stop(1),
        TOOL_USE,
        MESSAGE_STOP,
    ]));
    assert_eq!(blocks(&events).len(), 1);
    assert_eq!(confirmed(&events), [0]);
}

#[test]
fn stop_reasons_that_contradict_the_content_end_the_reply_properly() {
    let events = reply(&sse(&[
        START,
        TEXT_0,
        HELLO_0,
        STOP_0,
        TOOL_USE,
        MESSAGE_STOP,
    ]));
    assert_eq!(finish(&events).stop, StopReason::ToolUse);
    assert!(confirmed(&events).is_empty());

    let call = tool_start(0, "toolu_1", "get_time");
    let events = reply(&sse(&[
        START,
        &call,
        &tool_delta(0, "{}"),
        STOP_0,
        END_TURN,
        MESSAGE_STOP,
    ]));
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    assert!(
        confirmed(&events).is_empty(),
        "nothing proved that the last call was whole"
    );

    for (reason, expected) in [("\"brand_new\"", "brand_new"), ("null", "none given")] {
        let delta = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":{reason}}},"usage":{{"output_tokens":5}}}}"#
        );
        let events = reply(&sse(&[
            START,
            TEXT_0,
            HELLO_0,
            STOP_0,
            &delta,
            MESSAGE_STOP,
        ]));
        assert_eq!(finish(&events).stop, StopReason::Other(expected.into()));
    }
}

#[test]
fn a_call_is_confirmed_by_a_later_block_but_not_by_a_fallback() {
    let call = tool_start(0, "toolu_1", "get_time");
    let text =
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#;
    let events = reply(&sse(&[START, &call, &tool_delta(0, "{}"), STOP_0, text]));
    assert_eq!(confirmed(&events), [0]);
    assert_eq!(failure(&events).kind, ModelFailureKind::CutStream);

    let fallback = r#"{"type":"content_block_start","index":1,"content_block":{"type":"fallback","from":{},"to":{}}}"#;
    let late = tool_start(2, "toolu_2", "get_time");
    let prefix = [
        START,
        &call,
        STOP_0,
        fallback,
        &block_stop(1),
        &late,
        &block_stop(2),
    ];
    let events = reply(&sse(&prefix));
    assert!(confirmed(&events).is_empty());
    let stream = sse(&prefix) + &sse(&[TOOL_USE, MESSAGE_STOP]);
    let events = reply(&stream);
    assert_eq!(confirmed(&events), [0, 2]);
    assert_eq!(finish(&events).usage, None, "another model's prices apply");
    let events = reply(&(sse(&prefix) + &sse(&[TOOL_USE])));
    assert_eq!(confirmed(&events), [0, 2], "at the accepted end");
}

#[test]
fn fifty_calls_are_confirmed_one_after_the_other() {
    let mut stream = sse(&[START]);
    for index in 0..50 {
        let start = tool_start(index, &format!("toolu_{index}"), "get_time");
        stream.push_str(&sse(&[
            &start,
            &tool_delta(index, "{}"),
            &block_stop(index),
        ]));
    }
    assert_eq!(confirmed(&reply(&stream)).len(), 49);
    stream.push_str(&sse(&[TOOL_USE, MESSAGE_STOP]));
    assert_eq!(confirmed(&reply(&stream)), (0..50).collect::<Vec<u32>>());
}

#[test]
fn error_events_end_the_reply_with_their_class() {
    use ModelFailureKind as K;
    for (kind, class) in [
        ("overloaded_error", K::Overloaded),
        ("api_error", K::Server),
        ("rate_limit_error", K::RateLimited),
        ("timeout_error", K::Timeout),
        ("invalid_request_error", K::InvalidRequest),
        ("brand_new_error", K::Server),
    ] {
        let error = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"why"}},"request_id":"req_body"}}"#
        );
        for before in [&[][..], &[START], &[START, TEXT_0, HELLO_0]] {
            let stream = sse(before) + &sse(&[&error, HELLO_0]);
            let events = reply(&stream);
            let failure = failure(&events);
            assert_eq!(
                (failure.kind, failure.request_id.as_deref()),
                (class, Some("req_body"))
            );
            assert_eq!(failure.billing, Billing::Unknown);
            assert!(
                failure.message.contains(kind) && failure.message.contains("why"),
                "{}",
                failure.message
            );
        }
    }
    for stream in [
        "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":5},\"delta\":5}\n\n",
    ] {
        assert_eq!(failure(&reply(stream)).kind, K::Overloaded);
    }
    assert_eq!(
        failure(&reply("event: error\ndata: {\"type\":\"error\"}\n\n")).kind,
        K::Server
    );
    let long = sse(&[START])
        + &format!(
            "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{}\"}}}}\n\n",
            "x".repeat(9_999)
        );
    assert_eq!(failure(&reply(&long)).kind, K::Server);
}

#[test]
fn an_end_without_message_stop_after_a_stop_reason_is_accepted() {
    let stream = sse(&[START, TEXT_0, HELLO_0, STOP_0, END_TURN]);
    let events = reply(&stream);
    assert_eq!(finish(&events).stop, StopReason::EndTurn);
    assert_eq!(finish(&events).usage.unwrap().output_tokens, 12);
}

#[test]
fn a_failure_after_the_usage_is_billed_as_told() {
    let error = r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#;
    let events = reply(&sse(&[START, TEXT_0, HELLO_0, STOP_0, END_TURN, error]));
    let Billing::Known(usage) = failure(&events).billing else {
        panic!("{events:?}")
    };
    assert_eq!((usage.input_tokens, usage.output_tokens), (25, 12));
    let partial = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":5}}"#;
    let events = reply(&sse(&[START, TEXT_0, HELLO_0, STOP_0, partial, error]));
    assert_eq!(
        failure(&events).billing,
        Billing::Unknown,
        "more may have been billed"
    );
}

#[test]
fn missing_nonsensical_and_falling_usage() {
    let with = |usages: &[&str]| {
        let deltas: Vec<String> = usages
            .iter()
            .map(|usage| format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#))
            .collect();
        let mut data = vec![START, TEXT_0, HELLO_0, STOP_0];
        data.extend(deltas.iter().map(String::as_str));
        data.push(MESSAGE_STOP);
        finish(&reply(&sse(&data))).usage
    };
    for usage in [
        "null",
        "{}",
        "[]",
        "\"x\"",
        "{\"output_tokens\":null}",
        "{\"output_tokens\":-1}",
        "{\"output_tokens\":\"5\"}",
        "{\"output_tokens\":1.5}",
        "{\"output_tokens\":18446744073709551616}",
        "{\"output_tokens\":5,\"input_tokens\":-1}",
    ] {
        assert_eq!(with(&[usage]), None, "{usage}");
    }
    assert_eq!(
        with(&["{\"output_tokens\":9}", "{\"output_tokens\":9}"])
            .unwrap()
            .output_tokens,
        9
    );
    assert_eq!(
        with(&["{\"output_tokens\":9}", "{\"output_tokens\":4}"])
            .unwrap()
            .output_tokens,
        9
    );
    assert_eq!(
        with(&["{\"output_tokens\":99999999}"])
            .unwrap()
            .output_tokens,
        99_999_999,
        "recorded as told"
    );
    assert_eq!(
        with(&["{\"output_tokens\":0}"]),
        None,
        "text came, so it cannot be nothing"
    );
}

#[test]
fn a_model_name_nobody_can_price_leaves_the_usage_open() {
    let start = START.replace("claude-sonnet-5-5", "not a model id \\u001b");
    let events = reply(&sse(&[
        &start,
        TEXT_0,
        HELLO_0,
        STOP_0,
        END_TURN,
        MESSAGE_STOP,
    ]));
    assert_eq!(
        (finish(&events).usage, &finish(&events).served_by),
        (None, &None)
    );
    let dearer = START.replace("claude-sonnet-5-5", "claude-fable-5-2");
    let events = reply(&sse(&[
        &dearer,
        TEXT_0,
        HELLO_0,
        STOP_0,
        END_TURN,
        MESSAGE_STOP,
    ]));
    assert_eq!(
        finish(&events).served_by.as_ref().unwrap().as_str(),
        "claude-fable-5-2"
    );
}

#[test]
fn raw_blocks_keep_what_otto_does_not_know() {
    let start = r#"{"type":"content_block_start","index":0,"content_block":{"new":[1, 2],"type":"text","text":"A","citations":[{"a":1}],"more":null}}"#;
    let citation = r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"b": "x"}}}"#;
    let events = reply(&sse(&[
        START,
        start,
        HELLO_0,
        citation,
        STOP_0,
        END_TURN,
        MESSAGE_STOP,
    ]));
    let block = &blocks(&events)[0].1;
    assert_eq!(
        &*block.raw,
        r#"{"new":[1, 2],"type":"text","text":"AHello","citations":[{"a":1},{"b": "x"}],"more":null}"#
    );
    assert_eq!(block.view, BlockView::Text("AHello".into()));

    let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"get_time","input":{},"caller":{"type":"direct"},"toolset_name":"s"}}"#;
    let events = reply(&sse(&[
        START,
        start,
        &tool_delta(0, "{ \"a\" : "),
        &tool_delta(0, "1.0 }"),
        STOP_0,
        TOOL_USE,
        MESSAGE_STOP,
    ]));
    assert_eq!(
        &*blocks(&events)[0].1.raw,
        r#"{"type":"tool_use","id":"t","name":"get_time","input":{ "a" : 1.0 },"caller":{"type":"direct"},"toolset_name":"s"}"#
    );
    let doubled = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","x":1,"x":2}}"#;
    check_protocol_error(&sse(&[START, doubled, STOP_0]));
}

#[test]
fn a_placeholder_input_is_used_when_nothing_follows() {
    for (placeholder, expected) in [("{}", "{}"), ("{\"a\":1}", "{\"a\":1}")] {
        let start = format!(
            r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","id":"t","name":"get_time","input":{placeholder}}}}}"#
        );
        let events = reply(&sse(&[START, &start, STOP_0, TOOL_USE, MESSAGE_STOP]));
        assert_eq!(
            input(&blocks(&events)[0].1),
            &ToolInput::Object(expected.into())
        );
    }
    let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"get_time","input":5}}"#;
    let events = reply(&sse(&[START, start, STOP_0, TOOL_USE, MESSAGE_STOP]));
    assert!(matches!(
        input(&blocks(&events)[0].1),
        ToolInput::Invalid(_)
    ));
}
