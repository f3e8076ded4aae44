//! Random replies: the decoder never panics, keeps its promises and its memory, and does not care about cuts.

use std::collections::VecDeque;

use otto_anthropic::codec::{Decoder, StreamEnd};
use otto_core::port::llm_client::ModelEvent;
use proptest::prelude::*;

use crate::world::*;

/// Pieces that streams are made of, so that random ones get far.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let tool_a = sse(&[&tool_start(1, "toolu_a", "get_time")]);
    let tool_b = sse(&[&tool_start(2, "toolu_b", "other")]);
    let fixed: Vec<Vec<u8>> = [
        sse(&[START]),
        sse(&[TEXT_0]),
        sse(&[HELLO_0]),
        sse(&[STOP_0]),
        tool_a,
        tool_b,
        sse(&[&tool_delta(1, "{\"a\":")]),
        sse(&[&tool_delta(1, "1}")]),
        sse(&[&tool_delta(2, "\\\"}{")]),
        sse(&[&block_stop(1)]),
        sse(&[&block_stop(2)]),
        sse(&[END_TURN]),
        sse(&[TOOL_USE]),
        sse(&[MESSAGE_STOP]),
        sse(&[PING]),
        "\n".into(),
        "\r".into(),
        "data: ".into(),
        "\u{feff}".into(),
        ":".into(),
        hello_reply(),
    ]
    .map(String::into_bytes)
    .to_vec();
    prop_oneof![
        8 => prop::sample::select(fixed),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn run(bytes: &[u8], cuts: &[usize], end: StreamEnd<'_>) -> Vec<ModelEvent> {
    let mut decoder = Decoder::new(context(&["get_time"]));
    let mut out = VecDeque::new();
    let mut rest = bytes;
    for cut in cuts {
        let (head, tail) = rest.split_at(*cut % (rest.len() + 1));
        decoder.push(head, &mut out);
        rest = tail;
    }
    decoder.push(rest, &mut out);
    decoder.end(end, &mut out);
    out.into()
}

/// What must hold of the events of any reply.
fn check(events: &[ModelEvent]) {
    assert_one_ending(events);
    let mut finished = Vec::new();
    let mut confirmed = Vec::new();
    for event in events {
        match event {
            ModelEvent::BlockFinished { index, block } => {
                assert!(!finished.contains(index), "block {index} finished twice");
                let raw: serde_json::Value = serde_json::from_str(&block.raw).unwrap();
                assert!(raw.is_object());
                finished.push(*index);
            }
            ModelEvent::ToolCallConfirmed { index } => {
                assert!(
                    finished.contains(index) && !confirmed.contains(index),
                    "call {index}"
                );
                confirmed.push(*index);
            }
            _ => {}
        }
    }
}

proptest! {
    // `PROPTEST_CASES` sets how many; the default keeps the test command short.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_of_random_pieces_keep_the_promises(
        pieces in prop::collection::vec(piece(), 0..30),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        is_clean in any::<bool>(),
    ) {
        let bytes: Vec<u8> = pieces.concat();
        let end = if is_clean { StreamEnd::Clean } else { StreamEnd::Broken("reset") };
        let events = run(&bytes, &cuts, end);
        check(&events);
        prop_assert_eq!(run(&bytes, &[], end), events);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        check(&run(&bytes, &cuts, StreamEnd::Clean));
    }

    #[test]
    fn flipped_bytes_in_a_good_reply_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = (tool_reply("{\"tz\":\"UTC\"}")).into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&run(&bytes, &[], StreamEnd::Clean));
    }

    #[test]
    fn text_of_any_kind_goes_in_and_out_unchanged(texts in prop::collection::vec(any::<String>(), 1..6)) {
        let deltas: Vec<String> = texts
            .iter()
            .map(|text| serde_json::json!({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":text}}).to_string())
            .collect();
        let mut data = vec![START, TEXT_0];
        data.extend(deltas.iter().map(String::as_str));
        data.extend([STOP_0, END_TURN, MESSAGE_STOP]);
        let events = run(sse(&data).as_bytes(), &[], StreamEnd::Clean);
        prop_assert_eq!(text(&events), texts.concat());
        let raw: serde_json::Value = serde_json::from_str(&blocks(&events)[0].1.raw).unwrap();
        prop_assert_eq!(raw["text"].as_str().unwrap(), texts.concat());
    }
}
