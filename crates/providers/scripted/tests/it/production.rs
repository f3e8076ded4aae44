//! The production client against this server: what both say of a conversation must agree.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use otto_anthropic::{
    AnthropicClient, AnthropicConfig, BreakerConfig, MODELS, ProxySource, price_table,
};
use otto_core::id::ReservationId;
use otto_core::invocation::{
    Billing, CallPurpose, ModelFailure, ModelFailureKind, ModelFinish, ModelRequest, Repeatability,
    SideEffects, StopReason, ToolFacts,
};
use otto_core::ledger::{message_bound, text_bound, tool_definition_bound};
use otto_core::message::{
    AssistantMessage, BlockView, Message, ToolInput, ToolResultBlock, UserBlock,
};
use otto_core::model::{CacheUse, Usage};
use otto_core::port::llm_client::{Conversation, LlmClient, ModelCall, ModelEvent};
use otto_core::{EffectId, InvocationId, ModelId, Timestamp, ToolName};
use otto_scripted::{BilledEnding, Script, ScriptedServer, ServerOptions, Tokenizer};

pub(crate) async fn serve(yaml: &str, tokenizer: Tokenizer) -> ScriptedServer {
    let script = Script::parse(yaml, "test.yml").unwrap_or_else(|errors| panic!("{errors}"));
    let options = ServerOptions {
        tokenizer,
        ..ServerOptions::new(Arc::new(price_table()))
    };
    ScriptedServer::start(script, options).await.unwrap()
}

pub(crate) fn client(server: &ScriptedServer) -> AnthropicClient {
    let config = AnthropicConfig {
        base_url: server.base_url().parse().unwrap(),
        proxy: ProxySource::None,
        // These tests fail on purpose, many times in a row.
        breaker: BreakerConfig {
            failures_to_open: 1_000_000,
            ..BreakerConfig::default()
        },
        ..AnthropicConfig::new("sk-ant-test".into())
    };
    AnthropicClient::new(config).unwrap()
}

pub(crate) fn conversation(model: &str, tools: &[&str]) -> Arc<Conversation> {
    let tool = |name: &&str| ToolFacts {
        name: ToolName::new(name).unwrap(),
        description: Arc::from("A tool."),
        input_schema: Arc::from(r#"{"type":"object","properties":{"path":{"type":"string"}}}"#),
        side_effects: SideEffects::None,
        repeatability: Repeatability::Repeatable,
    };
    Arc::new(Conversation {
        model: price_table()
            .find(&ModelId::new(model).unwrap())
            .unwrap()
            .clone(),
        system_prompt: Arc::from("Be exact. ".repeat(2_000)),
        tools: tools.iter().map(tool).collect(),
        cache: CacheUse::FiveMinutes,
        user_id: Some(Arc::from("somebody")),
    })
}

pub(crate) fn call(conversation: &Arc<Conversation>, history: &[Arc<Message>]) -> ModelCall {
    let invocation = InvocationId::from_parts(Timestamp::from_millis(1), [1; 10]);
    ModelCall {
        conversation: Arc::clone(conversation),
        request: ModelRequest {
            reservation: ReservationId {
                invocation,
                effect: EffectId(1),
            },
            purpose: CallPurpose::Turn,
            history: history.to_vec(),
            max_output_tokens: 4_000,
        },
        time_left: Duration::from_secs(60),
    }
}

pub(crate) async fn events(client: &AnthropicClient, call: ModelCall) -> Vec<ModelEvent> {
    client.call(call).collect().await
}

pub(crate) fn finished(events: &[ModelEvent]) -> &ModelFinish {
    match events.last() {
        Some(ModelEvent::Finished(finish)) => finish,
        other => panic!("expected a good end, got {other:?}"),
    }
}

fn failed(events: &[ModelEvent]) -> &ModelFailure {
    match events.last() {
        Some(ModelEvent::Failed(failure)) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

pub(crate) fn assistant(events: &[ModelEvent], usage: &Usage) -> Message {
    let block = |event: &ModelEvent| match event {
        ModelEvent::BlockFinished { block, .. } => Some(Arc::clone(block)),
        _ => None,
    };
    Message::Assistant(AssistantMessage {
        blocks: events.iter().filter_map(block).collect(),
        output_tokens_bound: usage.output_tokens,
    })
}

pub(crate) fn results(message: &Message, text: &str) -> Message {
    let result = |id| {
        UserBlock::ToolResult(ToolResultBlock {
            call: id,
            content: Arc::from(text),
            is_error: false,
        })
    };
    Message::User(
        message
            .tool_calls()
            .map(|call| result(call.id.clone()))
            .collect(),
    )
}

/// What a client must hold for a request: the bound of protocol reference 11.2.
fn bound(conversation: &Conversation, history: &[Arc<Message>]) -> u64 {
    let tools: u64 = conversation
        .tools
        .iter()
        .map(|tool| {
            tool_definition_bound(tool.name.as_str(), &tool.description, &tool.input_schema)
        })
        .sum();
    let messages: u64 = history.iter().map(|message| message_bound(message)).sum();
    conversation.model.hidden_prompt_tokens
        + tools
        + 16
        + text_bound(&conversation.system_prompt)
        + messages
}

const AGENT: &str = r#"
turns:
  - blocks:
      - thinking: { text: "I need two files, I think.", tokens: 300 }
      - text: "Grüße! Reading both files. "
      - { tool: { name: fs.read, as: first, input: { path: "ä/{{ task }}" } }, chunk: 3 }
      - thinking: And the other one.
      - tool: { name: fs.read, input: { path: b } }
  - text: "Read {{ results | length }}: {{ result.first }}"
    tool: { name: no.such.tool }
  - thinking: Done.
    text: All done.
"#;

#[tokio::test]
async fn a_whole_conversation_agrees_in_every_number() {
    for tokenizer in [Tokenizer::Quarter, Tokenizer::WorstCase] {
        for facts in MODELS {
            let server = serve(AGENT, tokenizer).await;
            let client = client(&server);
            let conversation = conversation(facts.id, &["fs.read", "grep"]);
            let mut history = vec![Arc::new(Message::user_text("x.rs"))];
            let mut reported = Vec::new();
            let mut texts = Vec::new();
            for turn in 0..3 {
                let events = events(&client, call(&conversation, &history)).await;
                let finish = finished(&events);
                assert_eq!(
                    finish.stop,
                    if turn < 2 {
                        StopReason::ToolUse
                    } else {
                        StopReason::EndTurn
                    }
                );
                let usage = finish.usage.expect("the server reports usage");
                let bound = bound(&conversation, &history);
                assert!(
                    usage.prompt_tokens() <= bound,
                    "{} turn {turn}: {} > {bound}",
                    facts.id,
                    usage.prompt_tokens()
                );
                let message = assistant(&events, &usage);
                if turn == 0 {
                    let call = message.tool_calls().next().expect("the script calls");
                    assert_eq!(call.tool.as_str(), "fs.read");
                    assert_eq!(
                        call.input,
                        ToolInput::Object(Arc::from(r#"{"path": "ä/x.rs"}"#))
                    );
                }
                if let Message::Assistant(assistant) = &message {
                    texts.extend(
                        assistant
                            .blocks
                            .iter()
                            .filter_map(|block| match &block.view {
                                BlockView::Text(text) => Some(text.to_string()),
                                _ => None,
                            }),
                    );
                }
                reported.push(usage);
                let answers = results(&message, "contents");
                history.extend([Arc::new(message), Arc::new(answers)]);
            }
            assert_eq!(
                texts,
                [
                    "Grüße! Reading both files. ",
                    "Read 2: contents",
                    "All done."
                ],
                "{}",
                facts.id
            );
            assert!(
                reported[1].cache_read_tokens > 0,
                "{}: {:?}",
                facts.id,
                reported[1]
            );
            server.idle().await;
            let billed: Vec<Usage> = server
                .billed()
                .requests
                .iter()
                .map(|request| request.usage)
                .collect();
            assert_eq!(billed, reported, "{}", facts.id);
            let cost = reported
                .iter()
                .map(|usage| conversation.model.cost(usage).unwrap())
                .fold(otto_core::Money::ZERO, otto_core::Money::saturating_add);
            assert_eq!(server.billed().cost, cost);
            assert_eq!(server.stats().refused, 0);
        }
    }
}

#[tokio::test]
async fn every_fault_is_told_apart() {
    let cases: [(&str, ModelFailureKind, Billing); 15] = [
        (
            "{ status: 401 }",
            ModelFailureKind::Authentication,
            Billing::NotBilled,
        ),
        (
            "{ status: 403 }",
            ModelFailureKind::Permission,
            Billing::NotBilled,
        ),
        (
            "{ status: 404 }",
            ModelFailureKind::NotFound,
            Billing::NotBilled,
        ),
        (
            "{ status: 400, error: { message: 'prompt is too long: 9 tokens > 8 maximum' } }",
            ModelFailureKind::PromptTooLong,
            Billing::NotBilled,
        ),
        (
            "{ status: 429, headers: { retry-after: '3' } }",
            ModelFailureKind::RateLimited,
            Billing::NotBilled,
        ),
        (
            "{ status: 429, error: { details: { error_code: enforced_spend_limit_reached } } }",
            ModelFailureKind::SpendLimit,
            Billing::NotBilled,
        ),
        (
            "{ status: 529 }",
            ModelFailureKind::Overloaded,
            Billing::NotBilled,
        ),
        (
            "{ status: 502, body: '<html>bad gateway</html>' }",
            ModelFailureKind::Server,
            Billing::Unknown,
        ),
        (
            "{ body: '<html>please log in</html>' }",
            ModelFailureKind::Protocol,
            Billing::Unknown,
        ),
        (
            "{ reset: before }",
            ModelFailureKind::CutStream,
            Billing::Unknown,
        ),
        (
            "{ wire: garbage }",
            ModelFailureKind::Protocol,
            Billing::Unknown,
        ),
        (
            "{ cut: { event: 1 } }",
            ModelFailureKind::CutStream,
            Billing::Unknown,
        ),
        (
            "{ cut: { event: 4, how: clean } }",
            ModelFailureKind::CutStream,
            Billing::Unknown,
        ),
        (
            "{ error_event: { at: 3 } }",
            ModelFailureKind::Overloaded,
            Billing::Unknown,
        ),
        (
            "{ insert: [{ at: 3, event: content_block_delta, data: 'not json' }] }",
            ModelFailureKind::Protocol,
            Billing::Unknown,
        ),
    ];
    for (fault, kind, billing) in cases {
        let server = serve(
            &format!("turns: [{{ text: Well., faults: [{fault}] }}]"),
            Tokenizer::Quarter,
        )
        .await;
        let client = client(&server);
        let conversation = conversation("claude-sonnet-5-5", &[]);
        let history = [Arc::new(Message::user_text("x"))];
        let first = events(&client, call(&conversation, &history)).await;
        let failure = failed(&first);
        // A broken connection is the same to the client however it broke.
        let broken = [
            ModelFailureKind::CutStream,
            ModelFailureKind::Protocol,
            ModelFailureKind::Unreachable,
        ];
        let same =
            failure.kind == kind || (broken.contains(&kind) && broken.contains(&failure.kind));
        assert!(same, "{fault}: expected {kind:?}, got {failure:?}");
        let unknown = |billing: &Billing| !matches!(billing, Billing::NotBilled);
        assert_eq!(
            unknown(&failure.billing),
            unknown(&billing),
            "{fault}: {failure:?}"
        );
        // The second attempt is well, whatever befell the first.
        let second = events(&client, call(&conversation, &history)).await;
        assert_eq!(finished(&second).stop, StopReason::EndTurn, "{fault}");
        server.idle().await;
        let spent = server.billed().requests[0].cost;
        assert!(
            unknown(&billing) || spent == otto_core::Money::ZERO,
            "{fault}: billed {spent}, the client says nothing is"
        );
    }
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_is_never_taken_for_a_whole_one() {
    let plain = serve(
        "turns: [{ text: Hi, tools: [{ name: grep, input: { a: 1 } }, { name: grep }] }]",
        Tokenizer::Quarter,
    )
    .await;
    let conversation = conversation("claude-opus-5", &["grep"]);
    let history = [Arc::new(Message::user_text("x"))];
    let whole = events(&client(&plain), call(&conversation, &history)).await;
    assert_eq!(finished(&whole).stop, StopReason::ToolUse);
    let length = {
        let body = serde_json::json!({
            "model": "claude-opus-5", "max_tokens": 4_000, "stream": true, "messages": [{"role": "user", "content": "x"}],
            "tools": [{"name": "grep", "input_schema": {"type": "object"}}],
        });
        crate::client::post(&plain, &body).await.body.len()
    };
    // One server for all places: the task says where to cut.
    let turns: Vec<String> = (0..length)
        .step_by(7)
        .map(|at| {
            format!(
                "  - {{ name: c{at}, when: 'task | is \"{at}\"', turns: [{{ text: Hi, tools: [{{ name: grep, input: {{ a: 1 }} }}, {{ name: grep }}], \
                 faults: [{{ attempt: all, cut: {{ byte: {at}, how: clean }} }}] }}] }}\n"
            )
        })
        .collect();
    let mut finished_at = Vec::new();
    for part in turns.chunks(200) {
        let server = serve(
            &format!("conversations:\n{}", part.concat()),
            Tokenizer::Quarter,
        )
        .await;
        let client = client(&server);
        for at in (0..length).step_by(7).filter(|at| {
            part.iter()
                .any(|turn| turn.contains(&format!("name: c{at},")))
        }) {
            let history = [Arc::new(Message::user_text(&at.to_string()))];
            let events = events(&client, call(&conversation, &history)).await;
            match events.last() {
                Some(ModelEvent::Finished(_)) => finished_at.push(at),
                Some(ModelEvent::Failed(failure)) => assert_eq!(
                    failure.kind,
                    ModelFailureKind::CutStream,
                    "at byte {at}: {failure:?}"
                ),
                other => panic!("at byte {at}: {other:?}"),
            }
        }
        server.idle().await;
        assert!(
            server
                .billed()
                .requests
                .iter()
                .all(|request| request.ending == BilledEnding::Faulted)
        );
    }
    // Only what misses no more than `message_stop` may count as whole.
    let last_event = length - "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".len();
    assert!(
        finished_at.iter().all(|at| *at >= last_event),
        "{finished_at:?} of {length}"
    );
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_billed() {
    let server = serve(
        "turns: [{ blocks: [{ text: begun }, { text: never, delay: 60m }] }]",
        Tokenizer::Quarter,
    )
    .await;
    let client = client(&server);
    let conversation = conversation("claude-opus-5", &[]);
    let mut stream = client.call(call(&conversation, &[Arc::new(Message::user_text("x"))]));
    let mut prompt = Usage::default();
    while let Some(event) = stream.next().await {
        match event {
            ModelEvent::Started { usage, .. } => prompt = usage,
            ModelEvent::BlockFinished { .. } => break,
            _ => {}
        }
    }
    drop(stream);
    server.idle().await;
    let billed = server.billed();
    assert_eq!(billed.requests[0].ending, BilledEnding::Aborted);
    assert_eq!(billed.usage.prompt_tokens(), prompt.prompt_tokens());
    assert_eq!(billed.usage.output_tokens, 2);
    assert!(
        billed.cost
            <= conversation
                .model
                .cost(&Usage {
                    output_tokens: 4_000,
                    ..prompt
                })
                .unwrap()
    );
}

#[tokio::test]
async fn framing_does_not_matter_to_the_client() {
    let history = [Arc::new(Message::user_text("x"))];
    let conversation = conversation("claude-opus-5", &["grep"]);
    let body = "thinking: hm, text: 'Grüße 🦦', tool: { name: grep, input: { q: 'ü🦦' }, ascii: true }, chunk: 1";
    let mut expected: Option<Vec<String>> = None;
    for framing in [
        "packet: 1",
        "packet: 7",
        "faults: [{ line_ends: crlf }]",
        "faults: [{ comments: true, bom: true }]",
        "faults: [{ multiline: true }]",
        "faults: [{ pings: 3, message_deltas: 3 }]",
        "faults: [{ insert: [{ at: 2, event: odd, data: { type: odd } }] }]",
    ] {
        let server = serve(
            &format!("turns: [{{ {body}, {framing} }}]"),
            Tokenizer::Quarter,
        )
        .await;
        let events = events(&client(&server), call(&conversation, &history)).await;
        assert_eq!(finished(&events).stop, StopReason::ToolUse, "{framing}");
        let blocks: Vec<String> = events
            .iter()
            .filter_map(|event| match event {
                ModelEvent::BlockFinished { block, .. } => match &block.view {
                    BlockView::Text(text) => Some(text.to_string()),
                    BlockView::ToolCall(call) => Some(format!("{:?}", call.input)),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        assert_eq!(blocks.len(), 2);
        assert_eq!(
            expected.get_or_insert_with(|| blocks.clone()),
            &blocks,
            "{framing}"
        );
    }
}
