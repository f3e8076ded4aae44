//! Requests as the wire sees them.

use std::sync::Arc;

use otto_anthropic::codec::{EncodeError, EncodeOptions, WireTools, encode};
use otto_anthropic::{DataResidency, MODELS, ThinkingDisplay};
use otto_core::ToolCallId;
use otto_core::message::{AssistantMessage, Block, BlockView, Message, ToolResultBlock, UserBlock};
use otto_core::model::CacheUse;
use otto_core::port::llm_client::Conversation;
use serde_json::{Value, json};

use crate::world::{conversation, request};

const DEFAULTS: EncodeOptions = EncodeOptions {
    residency: DataResidency::Global,
    thinking_display: ThinkingDisplay::ModelDefault,
};

fn try_encode(
    conversation: &Conversation,
    history: Vec<Message>,
    options: EncodeOptions,
) -> Result<String, EncodeError> {
    let tools = WireTools::new(&conversation.tools)?;
    let body = encode(conversation, &request(history, 1_000), &tools, options)?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn encoded(conversation: &Conversation, history: Vec<Message>) -> Value {
    serde_json::from_str(&try_encode(conversation, history, DEFAULTS).unwrap()).unwrap()
}

fn raw(raw: &str, view: BlockView) -> Arc<Block> {
    Arc::new(Block {
        raw: raw.into(),
        view,
    })
}

fn assistant(blocks: Vec<Arc<Block>>) -> Message {
    Message::Assistant(AssistantMessage {
        blocks,
        output_tokens_bound: 0,
    })
}

fn result(id: &str, content: &str, is_error: bool) -> UserBlock {
    UserBlock::ToolResult(ToolResultBlock {
        call: ToolCallId(id.into()),
        content: content.into(),
        is_error,
    })
}

#[test]
fn a_first_request_has_exactly_these_bytes() {
    let mut conversation = conversation("claude-sonnet-5-5", &["fs.read"]);
    conversation.user_id = Some("user-1".into());
    let body = try_encode(
        &conversation,
        vec![Message::user_text("Say \"hi\"\n")],
        DEFAULTS,
    )
    .unwrap();
    let expected = concat!(
        r#"{"model":"claude-sonnet-5-5","max_tokens":1000,"stream":true,"inference_geo":"global","#,
        r#""metadata":{"user_id":"user-1"},"#,
        r#""tools":[{"name":"fs_read","description":"The tool fs.read.","input_schema":{"type":"object","properties":{"path":{"type":"string"}}}}],"#,
        r#""system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],"#,
        r#""messages":[{"role":"user","content":[{"type":"text","text":"Say \"hi\"\n","cache_control":{"type":"ephemeral"}}]}]}"#,
    );
    assert_eq!(body, expected);
}

#[test]
fn sampling_fields_are_never_sent() {
    for model in MODELS {
        let body = encoded(&conversation(model.id, &[]), vec![Message::user_text("x")]);
        for field in [
            "temperature",
            "top_p",
            "top_k",
            "thinking",
            "output_config",
            "tool_choice",
            "speed",
        ] {
            assert!(body.get(field).is_none(), "{} {field}", model.id);
        }
        assert_eq!(
            body.get("inference_geo").is_some(),
            model.accepts_inference_geo,
            "{}",
            model.id
        );
    }
}

#[test]
fn blocks_of_the_model_go_back_byte_for_byte() {
    let thinking = r#"{"type": "thinking","thinking":"h\u00e9","signature":"Eq=="}"#;
    let call = r#"{"type":"tool_use","id":"t1","name":"fs_read","input":{ "path" : "a" },"caller":{"type":"direct"}}"#;
    let history = vec![
        Message::user_text("go"),
        assistant(vec![
            raw(thinking, BlockView::Thinking("hé".into())),
            raw(call, BlockView::Opaque),
        ]),
        Message::User(vec![result("t1", "content", false)]),
    ];
    let body = try_encode(
        &conversation("claude-sonnet-5-5", &["fs.read"]),
        history,
        DEFAULTS,
    )
    .unwrap();
    assert!(
        body.contains(&format!(
            r#"{{"role":"assistant","content":[{thinking},{call}]}}"#
        )),
        "{body}"
    );
}

#[test]
fn results_come_first_and_say_what_they_are() {
    let history = vec![
        Message::user_text("go"),
        assistant(vec![raw(
            r#"{"type":"tool_use","id":"a","name":"x","input":{}}"#,
            BlockView::Opaque,
        )]),
        Message::User(vec![
            UserBlock::Text("note".into()),
            result("a", "", false),
            result("b", "bad \u{1b}", true),
            UserBlock::Text("".into()),
        ]),
    ];
    let mut conversation = conversation("claude-sonnet-5-5", &[]);
    conversation.cache = CacheUse::None;
    let body = encoded(&conversation, history);
    assert_eq!(
        body["messages"][2]["content"],
        json!([
            {"type":"tool_result","tool_use_id":"a"},
            {"type":"tool_result","tool_use_id":"b","content":"bad \u{1b}","is_error":true},
            {"type":"text","text":"note"},
        ])
    );
}

#[test]
fn empty_text_is_left_out_and_so_are_empty_messages() {
    let history = vec![
        Message::user_text("go"),
        assistant(vec![raw(
            r#"{"type":"text","text":""}"#,
            BlockView::Text("".into()),
        )]),
        Message::User(vec![]),
        assistant(vec![
            raw(
                r#"{"type":"text","text":" \n"}"#,
                BlockView::Text(" \n".into()),
            ),
            raw(r#"{"type":"text","text":"x"}"#, BlockView::Text("x".into())),
        ]),
        Message::user_text("on"),
    ];
    let body = encoded(&conversation("claude-sonnet-5-5", &[]), history);
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(
        messages[1],
        json!({"role":"assistant","content":[{"type":"text","text":"x"}]})
    );
}

/// Paths of all cache markers in prompt order.
fn markers(body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut note = |path: String, value: &Value| {
        if let Some(marker) = value.get("cache_control") {
            found.push(format!(
                "{path} {}",
                marker.get("ttl").and_then(Value::as_str).unwrap_or("5m")
            ));
        }
    };
    for (n, tool) in list(&body["tools"]).iter().enumerate() {
        note(format!("tools.{n}"), tool);
    }
    for (n, block) in list(&body["system"]).iter().enumerate() {
        note(format!("system.{n}"), block);
    }
    for (m, message) in list(&body["messages"]).iter().enumerate() {
        for (n, block) in list(&message["content"]).iter().enumerate() {
            note(format!("messages.{m}.{n}"), block);
        }
    }
    found
}

fn turns(calls_in_last: usize) -> Vec<Message> {
    let call = |n: usize| {
        raw(
            &format!(r#"{{"type":"tool_use","id":"t{n}","name":"x","input":{{}}}}"#),
            BlockView::Opaque,
        )
    };
    vec![
        Message::user_text("go"),
        assistant(vec![call(0)]),
        Message::User(vec![result("t0", "r", false)]),
        assistant((1..=calls_in_last).map(call).collect()),
        Message::User(
            (1..=calls_in_last)
                .map(|n| result(&format!("t{n}"), "r", false))
                .collect(),
        ),
    ]
}

#[test]
fn markers_are_placed_for_an_agent_loop() {
    let mut conversation = conversation("claude-sonnet-5-5", &["a", "b"]);
    assert_eq!(
        markers(&encoded(&conversation, turns(1))),
        ["system.0 5m", "messages.4.0 5m"]
    );
    assert_eq!(
        markers(&encoded(&conversation, turns(9))),
        ["system.0 5m", "messages.4.8 5m"]
    );
    // Twenty new blocks are more than the provider looks back.
    assert_eq!(
        markers(&encoded(&conversation, turns(10))),
        ["system.0 5m", "messages.2.0 5m", "messages.4.9 5m"]
    );
    conversation.cache = CacheUse::OneHour;
    assert_eq!(
        markers(&encoded(&conversation, turns(1))),
        ["system.0 1h", "messages.4.0 1h"]
    );
    conversation.system_prompt = "".into();
    let body = encoded(&conversation, turns(1));
    assert_eq!(markers(&body), ["tools.1 1h", "messages.4.0 1h"]);
    assert!(body.get("system").is_none());
    conversation.tools.clear();
    let body = encoded(&conversation, turns(1));
    assert_eq!(markers(&body), ["messages.4.0 1h"]);
    assert!(body.get("tools").is_none());
    conversation.cache = CacheUse::None;
    assert!(markers(&encoded(&conversation, turns(10))).is_empty());
}

#[test]
fn a_turn_to_be_continued_keeps_the_marker_of_its_question() {
    let mut history = turns(1);
    history.push(assistant(vec![raw(
        r#"{"type":"server_tool_use","id":"s","name":"x","input":{}}"#,
        BlockView::Opaque,
    )]));
    let body = encoded(&conversation("claude-sonnet-5-5", &[]), history);
    assert_eq!(markers(&body), ["system.0 5m", "messages.4.0 5m"]);
    assert_eq!(body["messages"][5]["role"], "assistant");
}

#[test]
fn the_prefix_is_the_same_from_turn_to_turn() {
    let mut conversation = conversation("claude-sonnet-5-5", &["a", "b"]);
    conversation.cache = CacheUse::None;
    let whole = turns(3);
    let longer = try_encode(&conversation, whole.clone(), DEFAULTS).unwrap();
    for length in [1, 3] {
        let shorter = try_encode(&conversation, whole[..length].to_vec(), DEFAULTS).unwrap();
        assert!(longer.starts_with(shorter.strip_suffix("]}").unwrap()));
    }
}

#[test]
fn residency_and_display_are_sent_where_they_are_accepted() {
    let body = |model: &str, options| -> Value {
        let body = try_encode(
            &conversation(model, &[]),
            vec![Message::user_text("x")],
            options,
        )
        .unwrap();
        serde_json::from_str(&body).unwrap()
    };
    let at = |residency| EncodeOptions {
        residency,
        ..DEFAULTS
    };
    assert_eq!(
        body("claude-opus-5-5", at(DataResidency::UnitedStates))["inference_geo"],
        "us"
    );
    assert!(
        body("claude-opus-5-5", at(DataResidency::WorkspaceDefault))
            .get("inference_geo")
            .is_none()
    );
    assert!(
        body("claude-haiku-4-5-20251001", at(DataResidency::UnitedStates))
            .get("inference_geo")
            .is_none()
    );
    let shown = EncodeOptions {
        thinking_display: ThinkingDisplay::Summarized,
        ..DEFAULTS
    };
    assert_eq!(
        body("claude-opus-5-5", shown)["thinking"],
        json!({"type":"adaptive","display":"summarized"})
    );
    assert!(
        body("claude-opus-4-6", shown).get("thinking").is_none(),
        "it does not think by default"
    );
}

#[test]
fn output_is_limited_to_what_the_model_can_write() {
    let conversation = conversation("claude-haiku-4-5-20251001", &[]);
    let tools = WireTools::new(&[]).unwrap();
    let body = |limit| {
        encode(
            &conversation,
            &request(vec![Message::user_text("x")], limit),
            &tools,
            DEFAULTS,
        )
    };
    let value: Value = serde_json::from_slice(&body(1_000_000).unwrap()).unwrap();
    assert_eq!(value["max_tokens"], 64_000);
    assert_eq!(body(0), Err(EncodeError::NoOutputTokens));
}

#[test]
fn requests_that_cannot_be_valid_are_not_made() {
    let plain = || conversation("claude-sonnet-5-5", &[]);
    let hello = || vec![Message::user_text("x")];
    assert_eq!(
        try_encode(&plain(), vec![], DEFAULTS),
        Err(EncodeError::EmptyHistory)
    );
    assert_eq!(
        try_encode(&plain(), vec![Message::user_text("")], DEFAULTS),
        Err(EncodeError::EmptyHistory)
    );
    let clash = conversation("claude-sonnet-5-5", &["a.b", "a_b"]);
    assert!(matches!(
        try_encode(&clash, hello(), DEFAULTS),
        Err(EncodeError::ToolNameClash { .. })
    ));
    let named = Conversation {
        user_id: Some("u".repeat(65).into()),
        ..plain()
    };
    assert_eq!(
        try_encode(&named, hello(), DEFAULTS),
        Err(EncodeError::UserIdTooLong { chars: 65 })
    );
    let huge = vec![Message::user_text(&"x".repeat(33_000_000))];
    assert!(matches!(
        try_encode(&plain(), huge, DEFAULTS),
        Err(EncodeError::TooLarge { .. })
    ));
}

#[test]
fn hostile_text_stays_inside_its_string() {
    let hostile = "\"}],\"max_tokens\":99,\"x\":[{\"\\\u{0}\u{7f}\u{2028}\u{feff}🚀";
    let mut conversation = conversation("claude-sonnet-5-5", &[]);
    conversation.system_prompt = hostile.into();
    let history = vec![Message::User(vec![
        result(hostile, hostile, true),
        UserBlock::Text(hostile.into()),
    ])];
    let body = encoded(&conversation, history);
    assert_eq!(body["max_tokens"], 1_000);
    assert_eq!(body["system"][0]["text"], hostile);
    assert_eq!(body["messages"][0]["content"][0]["tool_use_id"], hostile);
    assert_eq!(body["messages"][0]["content"][1]["text"], hostile);
}
