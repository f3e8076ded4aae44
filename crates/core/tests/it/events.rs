//! Arbitrary events, for the tests of the journal. Texts are hostile, numbers span their types.

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{Limit, Origin};
use otto_core::compaction::CompactionRule;
use otto_core::id::EffectId;
use otto_core::invocation::{
    Billing, CancelReason, Event, InvocationLimits, InvocationSpec, ModelFailure, ModelFailureKind,
    ModelFinish, Repeatability, Resumption, SideEffects, StopReason, ToolEnding, ToolFacts,
    ToolResult, UnknownCallDecision,
};
use otto_core::ledger::{Amount, Denial, Grant, Period, Resource, Scope, ScopeKey, ScopeLimits};
use otto_core::message::{Block, BlockView, ToolCallBlock, ToolCallName, ToolInput};
use otto_core::model::{CacheUse, LongContextTier, ModelSpec, TokenPrices, Usage};
use otto_core::{
    AgentName, BudgetName, InvocationId, ModelId, Money, SessionId, TaskId, ToolCallId, ToolName,
    UtcDay, WorkflowId,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Texts that codecs stumble over, and any other.
fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![
        3 => ".{0,24}".prop_map(|text| Arc::from(text.as_str())),
        1 => vec(any::<char>(), 0..24).prop_map(|chars| Arc::from(chars.into_iter().collect::<String>())),
        1 => select(vec![
            "", "\0", "\n\r\t", "\u{2028}\u{2029}", "\u{feff}x", "\"\\\"", "{\"a\": [1 , 2]}\n", "\\ud800",
            "\u{1F600}", "\u{E0041}", "\u{202E}abc", "{\"n\":1e400,\"m\":-0.0}", "\u{7f}\u{80}\u{9f}",
        ])
        .prop_map(Arc::from),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..1_000u64, any::<u64>(), Just(u64::MAX), Just(1 << 53)]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![0..20u32, any::<u32>()]
}

fn money() -> impl Strategy<Value = Money> {
    prop_oneof![
        0..=1_000_000u64,
        0..=(i64::MAX as u64),
        Just(i64::MAX as u64)
    ]
    .prop_map(|amount| Money::from_picodollars(amount).unwrap())
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        Just(Duration::MAX),
        Just(Duration::ZERO),
        (0..600_000u64).prop_map(Duration::from_millis),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    text().prop_map(Origin)
}

fn limit<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Limit<T>> {
    (value, origin()).prop_map(|(value, origin)| Limit { value, origin })
}

fn bytes() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn agent() -> impl Strategy<Value = AgentName> {
    "[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}".prop_map(|name| AgentName::new(&name).unwrap())
}

fn tool_name() -> impl Strategy<Value = ToolName> {
    select(vec!["fs.read", "fs.write", "grep", "9", "a-b_c.d"])
        .prop_map(|name| ToolName::new(name).unwrap())
}

fn model_id() -> impl Strategy<Value = ModelId> {
    "[a-z0-9][a-z0-9:@/-]{0,40}".prop_map(|name| ModelId::new(&name).unwrap())
}

fn scope_key() -> impl Strategy<Value = ScopeKey> {
    prop_oneof![
        bytes().prop_map(|id| ScopeKey::Invocation(InvocationId::from_bytes(id))),
        bytes().prop_map(|id| ScopeKey::Session(SessionId::from_bytes(id))),
        agent().prop_map(ScopeKey::Agent),
        bytes().prop_map(|id| ScopeKey::Workflow(WorkflowId::from_bytes(id))),
        (agent(), select(vec![Period::Day, Period::Ever])).prop_map(|(name, period)| {
            ScopeKey::Budget(BudgetName::new(name.as_str()).unwrap(), period)
        }),
        Just(ScopeKey::Day),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    (scope_key(), any::<u32>()).prop_map(|(key, day)| key.on(UtcDay(day)))
}

fn scopes() -> impl Strategy<Value = Vec<ScopeLimits>> {
    vec(
        (scope_key(), of(limit(money())), of(limit(number()))).prop_map(|(scope, cost, tokens)| {
            ScopeLimits {
                scope,
                cost,
                tokens,
            }
        }),
        0..5,
    )
}

fn limits() -> impl Strategy<Value = InvocationLimits> {
    (
        limit(duration()),
        limit(small()),
        small(),
        small(),
        number(),
        number(),
        small(),
    )
        .prop_map(
            |(
                time,
                turns,
                repetitions,
                attempts,
                max_output_tokens,
                floor_output_tokens,
                parallel_tools,
            )| {
                InvocationLimits {
                    time,
                    turns,
                    repetitions,
                    attempts,
                    max_output_tokens,
                    floor_output_tokens,
                    parallel_tools,
                }
            },
        )
}

fn prices() -> impl Strategy<Value = TokenPrices> {
    [money(), money(), money(), money(), money()].prop_map(
        |[input, output, cache_write_5m, cache_write_1h, cache_read]| TokenPrices {
            input,
            output,
            cache_write_5m,
            cache_write_1h,
            cache_read,
        },
    )
}

fn model() -> impl Strategy<Value = ModelSpec> {
    let tier = (number(), prices()).prop_map(|(threshold_prompt_tokens, prices)| LongContextTier {
        threshold_prompt_tokens,
        prices,
    });
    (
        model_id(),
        vec(model_id(), 0..3),
        number(),
        number(),
        prices(),
        of(tier),
        100..500u32,
        number(),
    )
        .prop_map(
            |(
                id,
                aliases,
                context_window,
                max_output_tokens,
                prices,
                long_context,
                surcharge_percent,
                hidden,
            )| {
                ModelSpec {
                    id,
                    aliases,
                    context_window,
                    max_output_tokens,
                    prices,
                    long_context,
                    surcharge_percent,
                    hidden_prompt_tokens: hidden,
                }
            },
        )
}

fn tool_facts() -> impl Strategy<Value = ToolFacts> {
    let repeatability = select(vec![
        Repeatability::Repeatable,
        Repeatability::Unknown,
        Repeatability::AskPerson,
    ]);
    (
        tool_name(),
        text(),
        text(),
        select(vec![SideEffects::None, SideEffects::Some]),
        repeatability,
    )
        .prop_map(
            |(name, description, input_schema, side_effects, repeatability)| ToolFacts {
                name,
                description,
                input_schema,
                side_effects,
                repeatability,
            },
        )
}

pub(crate) fn spec() -> impl Strategy<Value = InvocationSpec> {
    let cache = select(vec![
        CacheUse::None,
        CacheUse::FiveMinutes,
        CacheUse::OneHour,
    ]);
    let ids = (bytes(), bytes(), bytes(), of(bytes()), agent());
    (
        ids,
        model(),
        cache,
        text(),
        vec(tool_facts(), 0..4),
        text(),
        limits(),
        scopes(),
        number(),
        of(CompactionRule::RANGE),
    )
        .prop_map(
            |(
                (invocation, session, task, workflow, agent),
                model,
                cache,
                system_prompt,
                tools,
                input,
                limits,
                scopes,
                seed,
                compaction,
            )| {
                InvocationSpec {
                    invocation: InvocationId::from_bytes(invocation),
                    session: SessionId::from_bytes(session),
                    task: TaskId::from_bytes(task),
                    workflow: workflow.map(WorkflowId::from_bytes),
                    agent,
                    model: Arc::new(model),
                    cache,
                    system_prompt,
                    tools,
                    input,
                    transcript_messages: compaction.map_or(200, usize::from),
                    tells_limits: seed % 2 == 1,
                    compaction: compaction.and_then(CompactionRule::at_percent),
                    limits,
                    scopes,
                    seed,
                }
            },
        )
}

fn grant() -> impl Strategy<Value = Grant> {
    (number(), money(), number()).prop_map(|(max_output_tokens, held_cost, held_tokens)| Grant {
        max_output_tokens,
        held_cost,
        held_tokens,
    })
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        money().prop_map(Amount::Cost),
        number().prop_map(Amount::Tokens),
        number().prop_map(Amount::Turns),
    ]
}

fn denial() -> impl Strategy<Value = Denial> {
    let resource = select(vec![Resource::Cost, Resource::Tokens, Resource::Turns]);
    (
        scope(),
        resource,
        [amount(), amount(), amount(), amount()],
        origin(),
        any::<bool>(),
    )
        .prop_map(
            |(scope, resource, [limit, spent, held, needed], origin, latched)| Denial {
                scope,
                resource,
                limit,
                spent,
                held,
                needed,
                origin,
                latched,
            },
        )
}

fn usage() -> impl Strategy<Value = Usage> {
    [number(), number(), number(), number(), number(), number()].prop_map(|[a, b, c, d, e, f]| {
        Usage {
            input_tokens: a,
            output_tokens: b,
            cache_read_tokens: c,
            cache_write_5m_tokens: d,
            cache_write_1h_tokens: e,
            thinking_tokens: f,
        }
    })
}

fn block() -> impl Strategy<Value = Block> {
    let name = prop_oneof![
        tool_name().prop_map(ToolCallName::Known),
        text().prop_map(ToolCallName::Unknown)
    ];
    let input = prop_oneof![
        text().prop_map(ToolInput::Object),
        text().prop_map(ToolInput::Invalid)
    ];
    let view = prop_oneof![
        text().prop_map(BlockView::Text),
        text().prop_map(BlockView::Thinking),
        Just(BlockView::Opaque),
        (text(), name, input).prop_map(|(id, tool, input)| BlockView::ToolCall(ToolCallBlock {
            id: ToolCallId(id),
            tool,
            input
        })),
    ];
    (text(), view).prop_map(|(raw, view)| Block { raw, view })
}

fn finish() -> impl Strategy<Value = ModelFinish> {
    let stop = prop_oneof![
        Just(StopReason::EndTurn),
        Just(StopReason::ToolUse),
        Just(StopReason::MaxTokens),
        Just(StopReason::StopSequence),
        Just(StopReason::PauseTurn),
        Just(StopReason::ContextWindowExceeded),
        (of(text()), of(text())).prop_map(|(category, explanation)| StopReason::Refusal {
            category,
            explanation
        }),
        text().prop_map(StopReason::Other),
    ];
    (stop, of(usage()), of(model_id())).prop_map(|(stop, usage, served_by)| ModelFinish {
        stop,
        usage,
        served_by,
    })
}

fn failure() -> impl Strategy<Value = ModelFailure> {
    use ModelFailureKind as Kind;
    let kind = select(vec![
        Kind::Authentication,
        Kind::Permission,
        Kind::NotFound,
        Kind::InvalidRequest,
        Kind::PromptTooLong,
        Kind::RateLimited,
        Kind::SpendLimit,
        Kind::Overloaded,
        Kind::Server,
        Kind::Unreachable,
        Kind::Timeout,
        Kind::CutStream,
        Kind::Protocol,
        Kind::Interrupted,
        Kind::CircuitOpen,
    ]);
    let billing = prop_oneof![
        Just(Billing::NotBilled),
        Just(Billing::Unknown),
        usage().prop_map(Billing::Known)
    ];
    (
        kind,
        text(),
        billing,
        of(duration()),
        of(any::<bool>()),
        of(any::<u16>()),
        of(text()),
    )
        .prop_map(
            |(kind, message, billing, retry_after, should_retry, status, request_id)| {
                ModelFailure {
                    kind,
                    message,
                    billing,
                    retry_after,
                    should_retry,
                    status,
                    request_id,
                }
            },
        )
}

fn tool_result() -> impl Strategy<Value = ToolResult> {
    let ending = select(vec![
        ToolEnding::Succeeded,
        ToolEnding::Failed,
        ToolEnding::Denied,
        ToolEnding::TimedOut,
        ToolEnding::Cancelled,
        ToolEnding::OperatorFault,
    ]);
    (text(), ending, duration()).prop_map(|(content, ending, duration)| ToolResult {
        content,
        ending,
        duration,
    })
}

fn cancel_reason() -> impl Strategy<Value = CancelReason> {
    select(vec![
        CancelReason::User,
        CancelReason::KillSwitch,
        CancelReason::Shutdown,
        CancelReason::Fenced,
        CancelReason::StoreFailed,
        CancelReason::AwaitingPerson,
    ])
}

/// Any event but a start, answering effects of low numbers more often than others.
pub(crate) fn later_event() -> impl Strategy<Value = Event> {
    let effect = || prop_oneof![4 => 0..12u64, 1 => any::<u64>()].prop_map(EffectId);
    let decision = select(vec![
        UnknownCallDecision::RunAgain,
        UnknownCallDecision::TellModel,
        UnknownCallDecision::Done,
        UnknownCallDecision::NotDone,
    ]);
    prop_oneof![
        (limits(), scopes(), of(decision)).prop_map(|(limits, scopes, decision)| Event::Resumed(
            Arc::new(Resumption {
                limits,
                scopes,
                decision
            })
        )),
        (effect(), grant()).prop_map(|(effect, grant)| Event::ReservationGranted { effect, grant }),
        (effect(), denial()).prop_map(|(effect, denial)| Event::ReservationDenied {
            effect,
            denial: Box::new(denial)
        }),
        (effect(), cancel_reason())
            .prop_map(|(effect, reason)| Event::ReservationRefused { effect, reason }),
        (effect(), small(), block()).prop_map(|(effect, index, block)| Event::BlockReceived {
            effect,
            index,
            block: Arc::new(block)
        }),
        (effect(), small()).prop_map(|(effect, index)| Event::ToolCallReceived { effect, index }),
        (effect(), finish()).prop_map(|(effect, finish)| Event::ModelFinished { effect, finish }),
        (effect(), failure()).prop_map(|(effect, failure)| Event::ModelFailed { effect, failure }),
        (effect(), tool_result())
            .prop_map(|(effect, result)| Event::ToolFinished { effect, result }),
        effect().prop_map(|effect| Event::TimerFired { effect }),
        cancel_reason().prop_map(Event::CancelRequested),
    ]
}

/// Any event.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => spec().prop_map(|spec| Event::Started(Arc::new(spec))),
        5 => later_event(),
    ]
}
