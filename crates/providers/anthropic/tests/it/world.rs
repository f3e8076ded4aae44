//! What the tests share: conversations, decoders, and the events of a reply as text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use otto_anthropic::codec::{DecodeContext, Decoder, StreamEnd, WireTools};
use otto_anthropic::price_table;
use otto_core::id::ReservationId;
use otto_core::invocation::{
    CallPurpose, ModelFailure, ModelFinish, ModelRequest, Repeatability, SideEffects, ToolFacts,
};
use otto_core::message::{Block, BlockView, Message, ToolInput};
use otto_core::model::CacheUse;
use otto_core::port::llm_client::{Conversation, ModelCall, ModelEvent};
use otto_core::{EffectId, InvocationId, ModelId, Timestamp, ToolName};

/// A key that looks real, so that leaks are found.
pub(crate) const KEY: &str = "sk-ant-api03-ThisIsTheKeyThatMustNeverShow-0123456789";

pub(crate) fn tool(name: &str) -> ToolFacts {
    ToolFacts {
        name: ToolName::new(name).unwrap(),
        description: Arc::from(format!("The tool {name}.")),
        input_schema: Arc::from(r#"{"type":"object","properties":{"path":{"type":"string"}}}"#),
        side_effects: SideEffects::None,
        repeatability: Repeatability::Repeatable,
    }
}

pub(crate) fn conversation(model: &str, tools: &[&str]) -> Conversation {
    Conversation {
        model: price_table()
            .find(&ModelId::new(model).unwrap())
            .unwrap()
            .clone(),
        system_prompt: Arc::from("Be brief."),
        tools: tools.iter().map(|name| tool(name)).collect(),
        cache: CacheUse::FiveMinutes,
        user_id: None,
    }
}

pub(crate) fn request(history: Vec<Message>, max_output_tokens: u64) -> ModelRequest {
    let invocation = InvocationId::from_parts(Timestamp::from_millis(1), [1; 10]);
    ModelRequest {
        reservation: ReservationId {
            invocation,
            effect: EffectId(1),
        },
        purpose: CallPurpose::Turn,
        history: history.into_iter().map(Arc::new).collect(),
        max_output_tokens,
    }
}

/// A plain call with plenty of time.
pub(crate) fn call() -> ModelCall {
    ModelCall {
        conversation: Arc::new(conversation(
            "claude-sonnet-5-5",
            &["get_weather", "get_time"],
        )),
        request: request(vec![Message::user_text("Hello")], 10_000),
        time_left: Duration::from_secs(3_600),
    }
}

pub(crate) fn context(tools: &[&str]) -> DecodeContext {
    let facts: Vec<_> = tools.iter().map(|name| tool(name)).collect();
    DecodeContext {
        tools: Arc::new(WireTools::new(&facts).unwrap()),
        max_output_tokens: 10_000,
        request_id: Some(Arc::from("req_header")),
        surcharged: false,
    }
}

/// Decodes chunks and a clean end.
pub(crate) fn decode<'c>(
    context: DecodeContext,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Vec<ModelEvent> {
    decode_until(context, chunks, StreamEnd::Clean)
}

pub(crate) fn decode_until<'c>(
    context: DecodeContext,
    chunks: impl IntoIterator<Item = &'c [u8]>,
    end: StreamEnd<'_>,
) -> Vec<ModelEvent> {
    let mut decoder = Decoder::new(context);
    let mut out = VecDeque::new();
    for chunk in chunks {
        decoder.push(chunk, &mut out);
    }
    decoder.end(end, &mut out);
    assert!(decoder.is_done());
    let events: Vec<_> = out.into();
    assert_one_ending(&events);
    events
}

/// Exactly one last event, and it is the last.
pub(crate) fn assert_one_ending(events: &[ModelEvent]) {
    let is_ending =
        |event: &ModelEvent| matches!(event, ModelEvent::Finished(_) | ModelEvent::Failed(_));
    let endings = events.iter().filter(|event| is_ending(event)).count();
    assert!(
        endings == 1 && events.last().is_some_and(is_ending),
        "{events:?}"
    );
}

pub(crate) fn finish(events: &[ModelEvent]) -> &ModelFinish {
    match events.last() {
        Some(ModelEvent::Finished(finish)) => finish,
        other => panic!("expected a good end, got {other:?}"),
    }
}

pub(crate) fn failure(events: &[ModelEvent]) -> &ModelFailure {
    match events.last() {
        Some(ModelEvent::Failed(failure)) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

pub(crate) fn blocks(events: &[ModelEvent]) -> Vec<(u32, Arc<Block>)> {
    let block = |event: &ModelEvent| match event {
        ModelEvent::BlockFinished { index, block } => Some((*index, block.clone())),
        _ => None,
    };
    events.iter().filter_map(block).collect()
}

pub(crate) fn confirmed(events: &[ModelEvent]) -> Vec<u32> {
    let index = |event: &ModelEvent| match event {
        ModelEvent::ToolCallConfirmed { index } => Some(*index),
        _ => None,
    };
    events.iter().filter_map(index).collect()
}

/// The text of all text deltas.
pub(crate) fn text(events: &[ModelEvent]) -> String {
    let piece = |event: &ModelEvent| match event {
        ModelEvent::TextDelta { text, .. } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(piece).collect()
}

/// The input of the tool call in a block.
pub(crate) fn input(block: &Block) -> &ToolInput {
    match &block.view {
        BlockView::ToolCall(call) => &call.input,
        other => panic!("expected a tool call, got {other:?}"),
    }
}

/// Events in the vendor's form; the name is taken from the data's type.
pub(crate) fn sse(data: &[&str]) -> String {
    data.iter()
        .map(|data| {
            let value: serde_json::Value = serde_json::from_str(data).unwrap();
            format!(
                "event: {}\ndata: {data}\n\n",
                value["type"].as_str().unwrap()
            )
        })
        .collect()
}

pub(crate) const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[],"stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}"#;
pub(crate) const TEXT_0: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
pub(crate) const HELLO_0: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#;
pub(crate) const STOP_0: &str = r#"{"type":"content_block_stop","index":0}"#;
pub(crate) const END_TURN: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":12}}"#;
pub(crate) const TOOL_USE: &str = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":12}}"#;
pub(crate) const MESSAGE_STOP: &str = r#"{"type":"message_stop"}"#;
pub(crate) const PING: &str = r#"{"type":"ping"}"#;

pub(crate) fn tool_start(index: u32, id: &str, name: &str) -> String {
    serde_json::json!({"type":"content_block_start","index":index,
        "content_block":{"type":"tool_use","id":id,"name":name,"input":{}}})
    .to_string()
}

pub(crate) fn tool_delta(index: u32, fragment: &str) -> String {
    serde_json::json!({"type":"content_block_delta","index":index,
        "delta":{"type":"input_json_delta","partial_json":fragment}})
    .to_string()
}

pub(crate) fn block_stop(index: u32) -> String {
    serde_json::json!({"type":"content_block_stop","index":index}).to_string()
}

/// A whole reply of one tool call with this input.
pub(crate) fn tool_reply(fragment: &str) -> String {
    let start = tool_start(0, "toolu_1", "get_time");
    sse(&[
        START,
        &start,
        &tool_delta(0, fragment),
        STOP_0,
        TOOL_USE,
        MESSAGE_STOP,
    ])
}

/// A whole reply of one text.
pub(crate) fn hello_reply() -> String {
    sse(&[START, TEXT_0, HELLO_0, STOP_0, END_TURN, MESSAGE_STOP])
}
