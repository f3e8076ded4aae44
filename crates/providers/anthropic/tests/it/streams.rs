//! The example streams: what a correct client makes of them, however the bytes are cut, and what it must not
//! make of a part of them.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use otto_anthropic::codec::{DecodeContext, Decoder, SseParser, StreamEnd};
use otto_core::invocation::{Billing, ModelFailureKind, StopReason};
use otto_core::message::{BlockView, ToolInput};
use otto_core::port::llm_client::ModelEvent;
use serde_json::Value;

use crate::world::{blocks, confirmed, context, decode, decode_until, failure, finish, text};

struct Example {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

fn examples() -> Vec<Example> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sse"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 21, "an example is missing");
    let example = |path: &PathBuf| Example {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        bytes: fs::read(path).unwrap(),
        expected: serde_json::from_slice(&fs::read(path.with_extension("expected.json")).unwrap())
            .unwrap(),
    };
    paths.iter().map(example).collect()
}

impl Example {
    /// A context in which every tool that the stream calls is known.
    fn context(&self) -> DecodeContext {
        let calls = self.expected["tool_calls"].as_array().unwrap();
        let mut names: Vec<&str> = calls
            .iter()
            .map(|call| call["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        names.dedup();
        context(&names)
    }

    fn whole(&self) -> Vec<ModelEvent> {
        decode(self.context(), [self.bytes.as_slice()])
    }

    /// Each model event with the index of the server-sent event that caused it, byte by byte.
    fn timed(&self) -> Vec<(usize, ModelEvent)> {
        let (mut decoder, mut parser) = (Decoder::new(self.context()), SseParser::new());
        let (mut out, mut timed, mut dispatched) = (VecDeque::new(), Vec::new(), 0);
        for byte in &self.bytes {
            parser
                .push(&[*byte], |_| {
                    dispatched += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            decoder.push(&[*byte], &mut out);
            timed.extend(out.drain(..).map(|event| (dispatched - 1, event)));
        }
        decoder.end(StreamEnd::Clean, &mut out);
        timed.extend(out.drain(..).map(|event| (dispatched, event)));
        timed
    }
}

#[test]
fn events_are_dispatched_as_expected() {
    for example in examples() {
        let mut kinds = Vec::new();
        SseParser::new()
            .push(&example.bytes, |event| {
                kinds.push(match event.name {
                    b"" => Value::from("message(unnamed)"),
                    name => Value::from(String::from_utf8(name.to_vec()).unwrap()),
                });
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(
            Value::from(kinds),
            example.expected["sse_event_types"],
            "{}",
            example.name
        );
    }
}

#[test]
fn content_is_assembled_as_expected() {
    for example in examples() {
        let mut finished = blocks(&example.whole());
        finished.sort_by_key(|(index, _)| *index);
        let mut expected = example.expected["final_message"]["content"]
            .as_array()
            .unwrap()
            .clone();
        if example.name.starts_with("11_") {
            // Its last block never closes, so there is nothing to send back.
            expected.pop();
        }
        assert_eq!(finished.len(), expected.len(), "{}", example.name);
        for ((index, block), mut expected) in finished.into_iter().zip(expected) {
            if expected["input"].is_null() && expected.get("input").is_some() {
                expected["input"] = serde_json::json!({});
            }
            let raw: Value = serde_json::from_str(&block.raw).unwrap();
            assert_eq!(raw, expected, "{} block {index}", example.name);
            let matches_view = match (&block.view, expected["type"].as_str().unwrap()) {
                (BlockView::Text(text), "text") => **text == *expected["text"].as_str().unwrap(),
                (BlockView::Thinking(text), "thinking") => {
                    **text == *expected["thinking"].as_str().unwrap()
                }
                (BlockView::Thinking(text), "redacted_thinking") => text.is_empty(),
                (BlockView::ToolCall(call), "tool_use") => {
                    *call.id.0 == *expected["id"].as_str().unwrap()
                }
                (BlockView::Opaque, kind) => !matches!(kind, "text" | "thinking" | "tool_use"),
                _ => false,
            };
            assert!(
                matches_view,
                "{} block {index}: {:?}",
                example.name, block.view
            );
        }
    }
}

#[test]
fn tool_calls_start_complete_and_confirm_at_the_expected_events() {
    for example in examples() {
        let timed = example.timed();
        let at = |wanted: &dyn Fn(&ModelEvent) -> bool| {
            timed
                .iter()
                .find(|(_, event)| wanted(event))
                .map_or(Value::Null, |(index, _)| Value::from(*index))
        };
        let calls = example.expected["tool_calls"].as_array().unwrap();
        for call in calls {
            let position = u32::try_from(call["block_index"].as_u64().unwrap()).unwrap();
            let started = at(
                &|event| matches!(event, ModelEvent::ToolCallStarted { index, .. } if *index == position),
            );
            let complete = at(
                &|event| matches!(event, ModelEvent::BlockFinished { index, .. } if *index == position),
            );
            let confirmed = at(
                &|event| matches!(event, ModelEvent::ToolCallConfirmed { index } if *index == position),
            );
            assert_eq!(started, call["started_at_event"], "{} {call}", example.name);
            assert_eq!(
                complete, call["complete_after_event"],
                "{} {call}",
                example.name
            );
            assert_eq!(
                confirmed, call["confirmed_after_event"],
                "{} {call}",
                example.name
            );
            let block = timed.iter().find_map(|(_, event)| match event {
                ModelEvent::BlockFinished { index, block } if *index == position => Some(block),
                _ => None,
            });
            let Some(block) = block else { continue };
            let raw_input = call["raw_input"].as_str().unwrap();
            match crate::world::input(block) {
                ToolInput::Object(text) => {
                    assert!(call["input_valid"].as_bool().unwrap(), "{}", example.name);
                    let sent = if raw_input.is_empty() {
                        "{}"
                    } else {
                        raw_input
                    };
                    assert_eq!(&**text, sent, "{}", example.name);
                    let kept = format!("\"input\":{sent}");
                    assert!(
                        block.raw.contains(&kept),
                        "the exact bytes go back: {} {}",
                        example.name,
                        block.raw
                    );
                }
                ToolInput::Invalid(text) => {
                    assert!(!call["input_valid"].as_bool().unwrap(), "{}", example.name);
                    assert_eq!(&**text, raw_input, "{}", example.name);
                }
            }
        }
        let started = timed
            .iter()
            .filter(|(_, event)| matches!(event, ModelEvent::ToolCallStarted { .. }))
            .count();
        assert_eq!(started, calls.len(), "{}", example.name);
    }
}

#[test]
fn endings_and_usage_are_as_expected() {
    for example in examples() {
        let events = example.whole();
        let name = &example.name;
        match example.expected["outcome"].as_str().unwrap() {
            "complete" | "truncated_after_message_delta" => {
                let finish = finish(&events);
                let stop = match &finish.stop {
                    StopReason::EndTurn => "end_turn",
                    StopReason::ToolUse => "tool_use",
                    StopReason::MaxTokens => "max_tokens",
                    StopReason::PauseTurn => "pause_turn",
                    StopReason::Refusal {
                        category,
                        explanation,
                    } => {
                        let details = &example.expected["stop_details"];
                        assert_eq!(details["category"].as_str(), category.as_deref(), "{name}");
                        assert_eq!(
                            details["explanation"].as_str(),
                            explanation.as_deref(),
                            "{name}"
                        );
                        "refusal"
                    }
                    other => panic!("{name}: {other:?}"),
                };
                assert_eq!(
                    stop,
                    example.expected["stop_reason"].as_str().unwrap(),
                    "{name}"
                );
                let model = example.expected["final_message"]["model"].as_str().unwrap();
                assert_eq!(finish.served_by.as_ref().unwrap().as_str(), model, "{name}");
                check_usage(&example, finish.usage);
            }
            "error_event" => {
                let failure = failure(&events);
                let error = &example.expected["error"];
                assert_eq!(failure.kind, ModelFailureKind::Overloaded, "{name}");
                assert_eq!(
                    failure.request_id.as_deref(),
                    error["request_id"].as_str(),
                    "{name}"
                );
                assert_eq!(failure.billing, Billing::Unknown, "{name}");
                assert!(
                    failure
                        .message
                        .contains(error["error"]["message"].as_str().unwrap()),
                    "{name}"
                );
            }
            "truncated" => {
                assert_eq!(failure(&events).kind, ModelFailureKind::CutStream, "{name}");
                assert_eq!(failure(&events).billing, Billing::Unknown, "{name}");
            }
            other => panic!("{name}: unknown outcome {other}"),
        }
    }
}

fn check_usage(example: &Example, usage: Option<otto_core::model::Usage>) {
    let expected = &example.expected["usage"];
    if expected["server_tool_use"]["web_search_requests"]
        .as_u64()
        .unwrap_or(0)
        > 0
    {
        assert_eq!(
            usage, None,
            "searches are billed apart from tokens, so tokens alone are no usage"
        );
        return;
    }
    let usage = usage.unwrap();
    let tokens = |value: &Value| value.as_u64().unwrap_or(0);
    let pairs = [
        (usage.input_tokens, &expected["input_tokens"]),
        (usage.output_tokens, &expected["output_tokens"]),
        (
            usage.cache_read_tokens,
            &expected["cache_read_input_tokens"],
        ),
        (
            usage.cache_write_5m_tokens,
            &expected["cache_creation"]["ephemeral_5m_input_tokens"],
        ),
        (
            usage.cache_write_1h_tokens,
            &expected["cache_creation"]["ephemeral_1h_input_tokens"],
        ),
        (
            usage.thinking_tokens,
            &expected["output_tokens_details"]["thinking_tokens"],
        ),
    ];
    for (actual, expected) in pairs {
        assert_eq!(actual, tokens(expected), "{}", example.name);
    }
}

#[test]
fn every_way_of_cutting_gives_the_same_events() {
    for example in examples() {
        let whole = example.whole();
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(
                decode(example.context(), example.bytes.chunks(size)),
                whole,
                "{} by {size}",
                example.name
            );
        }
        for cut in 0..=example.bytes.len() {
            let (head, tail) = example.bytes.split_at(cut);
            assert_eq!(
                decode(example.context(), [head, tail]),
                whole,
                "{} cut at {cut}",
                example.name
            );
        }
    }
}

#[test]
fn a_stream_that_ends_early_never_confirms_a_call_too_much() {
    for example in examples() {
        let whole = example.whole();
        let content = &whole[..whole.len() - 1];
        // What the decoder had confirmed at each byte of the whole stream.
        let mut decoder = Decoder::new(example.context());
        let (mut out, mut confirmed_by, mut has_stop) = (VecDeque::new(), vec![0], vec![false]);
        for byte in &example.bytes {
            decoder.push(&[*byte], &mut out);
            confirmed_by.push(confirmed(out.make_contiguous()).len());
            has_stop.push(decoder.is_complete() || decoder.is_done());
        }
        for cut in 0..=example.bytes.len() {
            let ends = [
                StreamEnd::Clean,
                StreamEnd::Broken("reset"),
                StreamEnd::TimedOut("stalled"),
            ];
            // The other two ends are the same code but for their words.
            for end in if cut % 16 == 0 { &ends[..] } else { &ends[..1] } {
                let events = decode_until(example.context(), [&example.bytes[..cut]], *end);
                let name = &example.name;
                let (ending, so_far) = events.split_last().unwrap();
                assert_eq!(so_far, &content[..so_far.len()], "{name} ended at {cut}");
                assert_eq!(
                    confirmed(&events).len(),
                    confirmed_by[cut],
                    "{name} ended at {cut}"
                );
                match ending {
                    ModelEvent::Finished(_) => assert!(has_stop[cut], "{name} ended at {cut}"),
                    ModelEvent::Failed(failure) => {
                        assert!(
                            !has_stop[cut] || failure.kind == ModelFailureKind::Overloaded,
                            "{name} ended at {cut}"
                        );
                        assert_eq!(failure.billing, Billing::Unknown, "{name} ended at {cut}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn text_cut_inside_characters_and_escapes_is_whole() {
    let example = examples()
        .into_iter()
        .find(|example| example.name.starts_with("05_"))
        .unwrap();
    let events = decode(example.context(), example.bytes.chunks(1));
    assert_eq!(
        text(&events),
        example.expected["final_message"]["content"][0]["text"]
            .as_str()
            .unwrap()
    );
}

#[test]
fn two_cuts_anywhere_in_a_short_stream_change_nothing() {
    let example = examples()
        .into_iter()
        .find(|example| example.name.starts_with("12_"))
        .unwrap();
    let whole = example.whole();
    for first in (0..=example.bytes.len()).step_by(7) {
        for second in (first..=example.bytes.len()).step_by(13) {
            let chunks = [
                &example.bytes[..first],
                &example.bytes[first..second],
                &example.bytes[second..],
            ];
            assert_eq!(
                decode(example.context(), chunks),
                whole,
                "cut at {first} and {second}"
            );
        }
    }
}
