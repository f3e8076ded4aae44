//! The journal's codec: what goes in comes out, what was written stays readable, and nothing crashes it.

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::compaction::CompactionRule;
use otto_core::id::EffectId;
use otto_core::invocation::{
    Billing, CancelReason, Event, Invocation, InvocationLimits, InvocationSpec, ModelFailure,
    ModelFailureKind, ModelFinish, Repeatability, Resumption, SideEffects, StopReason, ToolEnding,
    ToolFacts, ToolResult, UnknownCallDecision,
};
use otto_core::journal::{
    FoldError, JournalError, MAX_LINE_BYTES, VERSION, decode, encode, everything_said, fold, replay,
};
use otto_core::ledger::{Amount, Denial, Grant, Resource, Scope, ScopeKey, ScopeLimits};
use otto_core::message::{Block, BlockView, ToolCallBlock, ToolCallName, ToolInput};
use otto_core::model::{CacheUse, LongContextTier, ModelSpec, TokenPrices, Usage};
use otto_core::port::store::Entry;
use otto_core::transcript::{DEFAULT_MESSAGES, Transcript};
use otto_core::{
    AgentName, InvocationId, ModelId, Money, SessionId, TaskId, Timestamp, ToolCallId, ToolName,
    UtcDay, WorkflowId,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::events::{event, later_event, spec};
use crate::support::check;

#[test]
fn every_event_survives() {
    check(20_000, (any::<u64>(), event()), |(at, event)| {
        let at = Timestamp::from_micros(at);
        let line = encode(at, &event);
        prop_assert!(
            !line.contains(['\n', '\r']),
            "one event is one line: {}",
            line
        );
        prop_assert_eq!(decode(&line), Ok((at, event)));
        Ok(())
    });
}

#[test]
fn folding_a_journal_gives_the_machine_that_wrote_it() {
    let run = (spec(), vec((0..10_000_000u64, later_event()), 0..24));
    check(4_000, run, |(spec, later)| {
        let started = (Timestamp::from_micros(1), Event::Started(Arc::new(spec)));
        let later = later
            .into_iter()
            .map(|(at, event)| (Timestamp::from_micros(at), event));
        let events: Vec<_> = std::iter::once(started).chain(later).collect();
        let mut machine = Invocation::default();
        let mut entries = Vec::new();
        for (sequence, (at, event)) in (1..).zip(&events) {
            entries.push(Entry {
                sequence,
                payload: encode(*at, event),
            });
            machine.step(*at, event.clone());
        }
        let (folded, replayed) = (fold(&entries), replay(events));
        prop_assert_eq!(folded.as_ref(), Ok(&machine));
        prop_assert_eq!(replayed.as_ref(), Ok(&machine));
        Ok(())
    });
}

#[test]
fn no_text_crashes_the_decoder() {
    check(20_000, ".{0,80}", |text| {
        prop_assert!(decode(&text).is_err());
        Ok(())
    });
}

#[test]
fn no_damage_crashes_the_decoder() {
    // One byte changed, removed or inserted, or the tail cut off: an error, or still a whole event.
    let damage = (event(), any::<prop::sample::Index>(), any::<char>(), 0..4u8);
    check(20_000, damage, |(event, place, replacement, how)| {
        let mut chars: Vec<char> = encode(Timestamp::EPOCH, &event).chars().collect();
        let place = place.index(chars.len());
        match how {
            0 => chars[place] = replacement,
            1 => drop(chars.remove(place)),
            2 => chars.insert(place, replacement),
            _ => chars.truncate(place),
        }
        let damaged: String = chars.into_iter().collect();
        match decode(&damaged) {
            Ok((at, event)) => prop_assert_eq!(decode(&encode(at, &event)), Ok((at, event))),
            Err(error) => prop_assert!(error.to_string().len() < 2_000),
        }
        Ok(())
    });
}

#[test]
fn deep_and_large_input_is_refused_without_recursion() {
    for open in ["[", "{\"event\":"] {
        let deep = open.repeat(200_000);
        assert!(decode(&deep).is_err());
        let inside = format!("{{\"v\":1,\"at\":0,\"type\":\"timer_fired\",\"event\":{deep}}}");
        assert!(decode(&inside).is_err());
    }
    let closed = format!(
        "{{\"v\":1,\"at\":0,\"type\":\"timer_fired\",\"event\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(matches!(
        decode(&closed),
        Err(JournalError::Malformed { .. })
    ));
    let long = " ".repeat(MAX_LINE_BYTES + 1);
    assert_eq!(
        decode(&long),
        Err(JournalError::TooLong {
            bytes: MAX_LINE_BYTES + 1
        })
    );
}

#[test]
fn a_newer_version_is_named() {
    for line in [
        "{\"v\":2,\"at\":1,\"type\":\"started\",\"event\":{}}",
        "{\"v\":2}",
        "{\"what\":[1],\"v\":2,\"at\":\"noon\"}",
    ] {
        assert_eq!(
            decode(line),
            Err(JournalError::UnknownVersion { version: 2 }),
            "{line}"
        );
    }
    let message = decode("{\"v\":7}").unwrap_err().to_string();
    assert!(
        message.contains("version 7") && message.contains(&VERSION.to_string()),
        "{message}"
    );
}

#[test]
fn errors_say_what_is_wrong_and_hide_control_characters() {
    let line = |kind: &str, event: &str| {
        format!("{{\"v\":1,\"at\":1,\"type\":\"{kind}\",\"event\":{event}}}")
    };
    for (line, expected) in [
        (line("flew_away", "{}"), "unknown event type `flew_away`"),
        (
            line("\\u001b[31m", "{}"),
            "unknown event type `\\u{1b}[31m`",
        ),
        (line("timer_fired", "{}"), "missing field `effect`"),
        (
            line("timer_fired", "{\"effect\":1,\"extra\":2}"),
            "unknown field `extra`",
        ),
        (line("timer_fired", "{\"effect\":-1}"), "invalid value"),
        (line("timer_fired", "{\"effect\":1.5}"), "invalid type"),
        (
            line("timer_fired", "{\"effect\":1,\"effect\":1}"),
            "duplicate field",
        ),
        (
            line("cancel_requested", "{\"reason\":\"boredom\"}"),
            "unknown reason to cancel `boredom`",
        ),
        (
            line(
                "reservation_granted",
                "{\"effect\":1,\"grant\":{\"max_output_tokens\":1,\"held_cost\":9223372036854775808,\"held_tokens\":1}}",
            ),
            "more than can be counted",
        ),
        (
            line(
                "tool_finished",
                "{\"effect\":1,\"result\":{\"content\":\"\",\"ending\":\"failed\",\"duration\":{\"secs\":18446744073709551615,\"nanos\":4294967295}}}",
            ),
            "4294967295 nanoseconds",
        ),
        (
            "{\"v\":1,\"at\":1,\"type\":\"timer_fired\"}".to_owned(),
            "missing field `event`",
        ),
        ("not json".to_owned(), "not an event"),
        (String::new(), "not an event"),
        ("\0\0\0\0".to_owned(), "not an event"),
    ] {
        let message = decode(&line).unwrap_err().to_string();
        assert!(message.contains(expected), "{line}\n{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn a_journal_with_a_hole_is_not_folded() {
    let entry = |sequence, event: &Event| Entry {
        sequence,
        payload: encode(Timestamp::from_micros(sequence), event),
    };
    let started = &golden_events()[0].1;
    let timer = &Event::TimerFired {
        effect: EffectId(1),
    };
    let cancel = &Event::CancelRequested(CancelReason::User);
    assert_eq!(fold(&[]), Err(FoldError::Empty));
    assert_eq!(replay([]), Err(FoldError::Empty));
    assert!(fold(&[entry(1, started), entry(2, timer), entry(3, cancel)]).is_ok());
    assert_eq!(
        fold(&[entry(1, started), entry(3, cancel)]),
        Err(FoldError::Gap {
            expected: 2,
            found: 3
        })
    );
    assert_eq!(
        fold(&[entry(1, started), entry(1, timer)]),
        Err(FoldError::Gap {
            expected: 2,
            found: 1
        })
    );
    assert_eq!(
        fold(&[entry(1, timer)]),
        Err(FoldError::MisplacedStart { sequence: 1 })
    );
    assert_eq!(
        fold(&[entry(1, started), entry(2, started)]),
        Err(FoldError::MisplacedStart { sequence: 2 })
    );
    let torn = Entry {
        sequence: 2,
        payload: Arc::from("{\"v\":1,\"at\":2,\"ty"),
    };
    let Err(FoldError::Unreadable {
        sequence: 2,
        source: JournalError::Malformed { .. },
    }) = fold(&[entry(1, started), torn])
    else {
        panic!("a torn entry is named");
    };
}

/// Version 1 as it was written on the day it was frozen. Never edit these files: a change that needs it is
/// a new version.
const GOLDEN: &[(&str, &str)] = &[
    ("started", include_str!("../golden/journal-v1/started.json")),
    ("resumed", include_str!("../golden/journal-v1/resumed.json")),
    (
        "reservation_granted",
        include_str!("../golden/journal-v1/reservation_granted.json"),
    ),
    (
        "reservation_denied",
        include_str!("../golden/journal-v1/reservation_denied.json"),
    ),
    (
        "reservation_refused",
        include_str!("../golden/journal-v1/reservation_refused.json"),
    ),
    (
        "block_received",
        include_str!("../golden/journal-v1/block_received.json"),
    ),
    (
        "tool_call_received",
        include_str!("../golden/journal-v1/tool_call_received.json"),
    ),
    (
        "model_finished",
        include_str!("../golden/journal-v1/model_finished.json"),
    ),
    (
        "model_failed",
        include_str!("../golden/journal-v1/model_failed.json"),
    ),
    (
        "tool_finished",
        include_str!("../golden/journal-v1/tool_finished.json"),
    ),
    (
        "timer_fired",
        include_str!("../golden/journal-v1/timer_fired.json"),
    ),
    (
        "cancel_requested",
        include_str!("../golden/journal-v1/cancel_requested.json"),
    ),
    // Added later: fields that earlier journals leave out.
    (
        "started",
        include_str!("../golden/journal-v1/started_compaction.json"),
    ),
    (
        "started",
        include_str!("../golden/journal-v1/started_tells_limits.json"),
    ),
];

const GOLDEN_TIME: Timestamp = Timestamp::from_micros(1_795_417_109_000_001);

#[test]
fn version_1_is_frozen() {
    // Each file holds one or more lines of one kind; together they show every field and every word.
    let mut lines = GOLDEN
        .iter()
        .flat_map(|(kind, file)| file.lines().map(move |line| (*kind, line)));
    for (kind, event) in golden_events() {
        let written = encode(GOLDEN_TIME, &event);
        let Some((file, line)) = lines.next() else {
            panic!("no golden line for\n{written}")
        };
        assert_eq!(
            kind, file,
            "golden files are in the order of the events; next is\n{written}"
        );
        assert_eq!(*written, *line, "what is written has changed; `{file}`");
        assert_eq!(
            decode(line),
            Ok((GOLDEN_TIME, event)),
            "what is read has changed; `{file}`"
        );
    }
    assert_eq!(lines.next(), None, "a golden line without its event");
}

/// The kind of an event. No wildcard: a new event does not compile here without a golden file.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "started",
        Event::Resumed(_) => "resumed",
        Event::ReservationGranted { .. } => "reservation_granted",
        Event::ReservationDenied { .. } => "reservation_denied",
        Event::ReservationRefused { .. } => "reservation_refused",
        Event::BlockReceived { .. } => "block_received",
        Event::ToolCallReceived { .. } => "tool_call_received",
        Event::ModelFinished { .. } => "model_finished",
        Event::ModelFailed { .. } => "model_failed",
        Event::ToolFinished { .. } => "tool_finished",
        Event::TimerFired { .. } => "timer_fired",
        Event::CancelRequested(_) => "cancel_requested",
    }
}

fn golden_events() -> Vec<(&'static str, Event)> {
    let money = |picodollars| Money::from_picodollars(picodollars).unwrap();
    let prices = |input: u64| TokenPrices {
        input: money(input),
        output: money(input * 5),
        cache_write_5m: money(input * 5 / 4),
        cache_write_1h: money(input * 2),
        cache_read: money(input / 10),
    };
    let usage = Usage {
        input_tokens: 1,
        output_tokens: 2,
        cache_read_tokens: 3,
        cache_write_5m_tokens: 4,
        cache_write_1h_tokens: 5,
        thinking_tokens: 6,
    };
    let workflow = WorkflowId::from_bytes([4; 16]);
    let invocation = InvocationId::from_bytes([1; 16]);
    let session = SessionId::from_bytes([2; 16]);
    let agent = AgentName::new("reviewer").unwrap();
    let limits = InvocationLimits {
        time: Limit::new(Duration::new(300, 5), ".otto/agents/reviewer.yml:7"),
        turns: Limit::new(50, "default"),
        repetitions: 4,
        attempts: 5,
        max_output_tokens: 16_384,
        floor_output_tokens: 256,
        parallel_tools: 8,
    };
    let scopes = vec![
        ScopeLimits {
            scope: ScopeKey::Invocation(invocation),
            cost: Some(Limit::new(Money::from_dollars(1), "--cost")),
            tokens: Some(Limit::new(200_000, "default")),
        },
        ScopeLimits {
            scope: ScopeKey::Session(session),
            cost: None,
            tokens: None,
        },
        ScopeLimits {
            scope: ScopeKey::Agent(agent.clone()),
            cost: None,
            tokens: None,
        },
        ScopeLimits {
            scope: ScopeKey::Workflow(workflow),
            cost: None,
            tokens: None,
        },
        ScopeLimits {
            scope: ScopeKey::Day,
            cost: Some(Limit::new(Money::MAX, "default")),
            tokens: None,
        },
    ];
    let facts = |name: &str, side_effects, repeatability| ToolFacts {
        name: ToolName::new(name).unwrap(),
        description: Arc::from("Does it."),
        input_schema: Arc::from("{\"type\": \"object\"}"),
        side_effects,
        repeatability,
    };
    let spec = InvocationSpec {
        invocation,
        session,
        task: TaskId::from_bytes([3; 16]),
        workflow: Some(workflow),
        agent: agent.clone(),
        model: Arc::new(ModelSpec {
            id: ModelId::new("claude-sonnet-5-5").unwrap(),
            aliases: vec![ModelId::new("claude-sonnet-latest").unwrap()],
            context_window: 1_000_000,
            max_output_tokens: 64_000,
            prices: prices(3_000_000),
            long_context: Some(LongContextTier {
                threshold_prompt_tokens: 200_000,
                prices: prices(6_000_000),
            }),
            surcharge_percent: 110,
            hidden_prompt_tokens: 700,
        }),
        cache: CacheUse::FiveMinutes,
        system_prompt: Arc::from("You review code.\nBe \"brief\"."),
        tools: vec![
            facts("fs.read", SideEffects::None, Repeatability::Repeatable),
            facts("fs.write", SideEffects::Some, Repeatability::Unknown),
            facts("mail", SideEffects::Some, Repeatability::AskPerson),
        ],
        input: Arc::from("Review src/ \u{2014} all of it"),
        compaction: None,
        transcript_messages: DEFAULT_MESSAGES,
        tells_limits: false,
        limits: limits.clone(),
        scopes: scopes.clone(),
        seed: u64::MAX,
    };
    let bare = InvocationSpec {
        workflow: None,
        cache: CacheUse::None,
        model: Arc::new(ModelSpec {
            aliases: vec![],
            long_context: None,
            ..(*spec.model).clone()
        }),
        tools: vec![],
        scopes: vec![],
        ..spec.clone()
    };
    let denial = |scope, resource, amounts: [Amount; 4], latched| Denial {
        scope,
        resource,
        limit: amounts[0],
        spent: amounts[1],
        held: amounts[2],
        needed: amounts[3],
        origin: otto_core::agent::Origin::new("operator"),
        latched,
    };
    let denied = |scope, resource, amounts, latched| Event::ReservationDenied {
        effect: EffectId(3),
        denial: Box::new(denial(scope, resource, amounts, latched)),
    };
    let block = |raw: &str, view| Event::BlockReceived {
        effect: EffectId(5),
        index: 2,
        block: Arc::new(Block {
            raw: Arc::from(raw),
            view,
        }),
    };
    let finished = |stop, usage, served_by: Option<&str>| Event::ModelFinished {
        effect: EffectId(5),
        finish: ModelFinish {
            stop,
            usage,
            served_by: served_by.map(|id| ModelId::new(id).unwrap()),
        },
    };
    let failed = |kind| Event::ModelFailed {
        effect: EffectId(5),
        failure: ModelFailure {
            kind,
            message: Arc::from("the provider said no"),
            billing: Billing::NotBilled,
            retry_after: None,
            should_retry: None,
            status: None,
            request_id: None,
        },
    };
    let answered = |ending| Event::ToolFinished {
        effect: EffectId(6),
        result: ToolResult {
            content: Arc::from("ok\n"),
            ending,
            duration: Duration::new(1, 2),
        },
    };
    let refused = |reason| Event::ReservationRefused {
        effect: EffectId(3),
        reason,
    };
    let costs = [1, 2, 3, 4].map(|amount| Amount::Cost(money(amount)));
    let compacting = InvocationSpec {
        compaction: CompactionRule::at_percent(80),
        transcript_messages: 50,
        ..bare.clone()
    };
    let told = InvocationSpec {
        tells_limits: true,
        ..compacting.clone()
    };

    let mut events = vec![
        Event::Started(Arc::new(spec)),
        Event::Started(Arc::new(bare.clone())),
        Event::Started(Arc::new(InvocationSpec {
            cache: CacheUse::OneHour,
            ..bare
        })),
        Event::Resumed(Arc::new(Resumption {
            limits: limits.clone(),
            scopes,
            decision: None,
        })),
    ];
    events.extend(
        [
            UnknownCallDecision::RunAgain,
            UnknownCallDecision::TellModel,
        ]
        .map(|decision| {
            Event::Resumed(Arc::new(Resumption {
                limits: limits.clone(),
                scopes: vec![],
                decision: Some(decision),
            }))
        }),
    );
    events.extend([
        Event::ReservationGranted {
            effect: EffectId(3),
            grant: Grant {
                max_output_tokens: 4_096,
                held_cost: Money::MAX,
                held_tokens: 9_000,
            },
        },
        denied(Scope::Invocation(invocation), Resource::Cost, costs, false),
        denied(
            Scope::Session(session),
            Resource::Tokens,
            [1, 2, 3, 4].map(Amount::Tokens),
            false,
        ),
        denied(
            Scope::Agent(agent, UtcDay(20_780)),
            Resource::Turns,
            [1, 2, 3, 4].map(Amount::Turns),
            false,
        ),
        denied(Scope::Workflow(workflow), Resource::Cost, costs, true),
        denied(Scope::Day(UtcDay(20_780)), Resource::Cost, costs, false),
        refused(CancelReason::KillSwitch),
        refused(CancelReason::Fenced),
        block(
            "{\"type\":\"text\",\"text\":\"Hi\"}",
            BlockView::Text(Arc::from("Hi")),
        ),
        block(
            "{ \"type\": \"thinking\", \"thinking\": \"\", \"signature\": \"EqQB\\u002fx==\" }",
            BlockView::Thinking(Arc::from("")),
        ),
        block("{\"type\":\"new\"}", BlockView::Opaque),
        block(
            "{\"type\":\"tool_use\"}",
            BlockView::ToolCall(ToolCallBlock {
                id: ToolCallId(Arc::from("toolu_01")),
                tool: ToolCallName::Known(ToolName::new("fs.read").unwrap()),
                input: ToolInput::Object(Arc::from("{\"path\":\"a\"}")),
            }),
        ),
        block(
            "{\"type\":\"tool_use\"}",
            BlockView::ToolCall(ToolCallBlock {
                id: ToolCallId(Arc::from("toolu_02")),
                tool: ToolCallName::Unknown(Arc::from("fly\u{1b}")),
                input: ToolInput::Invalid(Arc::from("{\"path\":")),
            }),
        ),
        Event::ToolCallReceived {
            effect: EffectId(5),
            index: 2,
        },
        finished(StopReason::EndTurn, Some(usage), Some("claude-sonnet-5-5")),
        finished(StopReason::ToolUse, None, None),
        finished(StopReason::MaxTokens, None, None),
        finished(StopReason::StopSequence, None, None),
        finished(StopReason::PauseTurn, None, None),
        finished(
            StopReason::Refusal {
                category: None,
                explanation: None,
            },
            None,
            None,
        ),
        finished(
            StopReason::Refusal {
                category: Some(Arc::from("cyber")),
                explanation: Some(Arc::from("no")),
            },
            None,
            None,
        ),
        finished(StopReason::ContextWindowExceeded, None, None),
        finished(StopReason::Other(Arc::from("weather")), None, None),
        Event::ModelFailed {
            effect: EffectId(5),
            failure: ModelFailure {
                kind: ModelFailureKind::RateLimited,
                message: Arc::from("slow down"),
                billing: Billing::Known(usage),
                retry_after: Some(Duration::from_millis(1_500)),
                should_retry: Some(true),
                status: Some(429),
                request_id: Some(Arc::from("req_01")),
            },
        },
        Event::ModelFailed {
            effect: EffectId(5),
            failure: ModelFailure {
                kind: ModelFailureKind::CutStream,
                message: Arc::from("cut"),
                billing: Billing::Unknown,
                retry_after: None,
                should_retry: Some(false),
                status: None,
                request_id: None,
            },
        },
    ]);
    events.extend(
        [
            ModelFailureKind::Authentication,
            ModelFailureKind::Permission,
            ModelFailureKind::NotFound,
            ModelFailureKind::InvalidRequest,
            ModelFailureKind::PromptTooLong,
            ModelFailureKind::SpendLimit,
            ModelFailureKind::Overloaded,
            ModelFailureKind::Server,
            ModelFailureKind::Unreachable,
            ModelFailureKind::Timeout,
            ModelFailureKind::Protocol,
            ModelFailureKind::Interrupted,
            ModelFailureKind::CircuitOpen,
        ]
        .map(failed),
    );
    events.extend(
        [
            ToolEnding::Succeeded,
            ToolEnding::Failed,
            ToolEnding::Denied,
            ToolEnding::TimedOut,
            ToolEnding::Cancelled,
            ToolEnding::OperatorFault,
        ]
        .map(answered),
    );
    events.push(Event::TimerFired {
        effect: EffectId(u64::MAX),
    });
    events.extend(
        [
            CancelReason::User,
            CancelReason::KillSwitch,
            CancelReason::Shutdown,
            CancelReason::Fenced,
            CancelReason::StoreFailed,
            CancelReason::AwaitingPerson,
        ]
        .map(Event::CancelRequested),
    );
    events.push(Event::Started(Arc::new(compacting)));
    events.push(Event::Started(Arc::new(told)));
    events
        .into_iter()
        .map(|event| (kind(&event), event))
        .collect()
}

/// A whole journal with a compaction in it, and what was said in it. The texts that compaction writes are part of
/// what a journal means: whoever changes them changes what an old invocation has sent.
#[test]
fn a_compacted_journal_of_version_1_folds_as_it_did() {
    let entries: Vec<Entry> = include_str!("../golden/journal-v1/compacted.jsonl")
        .lines()
        .zip(1..)
        .map(|(line, sequence)| Entry {
            sequence,
            payload: Arc::from(line),
        })
        .collect();
    let machine = fold(&entries).unwrap();
    let id = machine.spec().unwrap().invocation;
    let golden = include_str!("../golden/journal-v1/compacted.history.jsonl");
    let history = Transcript::whole(&id, machine.history().to_vec());
    assert_eq!(
        history.to_jsonl(),
        golden,
        "what the model sees has changed"
    );
    let golden = include_str!("../golden/journal-v1/compacted.said.jsonl");
    let said = Transcript::whole(&id, everything_said(&entries).unwrap());
    assert_eq!(said.to_jsonl(), golden, "what people see has changed");
    assert_eq!(Transcript::of(&id, &machine).to_jsonl(), golden);
    assert_eq!(machine.totals().compactions, 1);
    assert!(machine.outcome().is_some());
}

/// Writes what version 1 says now, to start a golden file of a *new* event:
/// `cargo test -p otto-core --test it print_golden -- --ignored --nocapture`.
#[test]
#[ignore = "prints"]
#[expect(clippy::print_stdout, reason = "prints what goes into a golden file")]
fn print_golden() {
    for (kind, event) in golden_events() {
        println!("{kind}\t{}", encode(GOLDEN_TIME, &event));
    }
}

/// The journal of a whole invocation as version 1 wrote it, and the artifacts that it gave then. Never edit
/// them: a later version must give the same bytes, or what was acknowledged can no longer be made again.
const WHOLE: &str = include_str!("../golden/journal-v1/whole/journal.jsonl");
const WHOLE_ARTIFACTS: [(&str, &[u8]); 3] = [
    (
        "transcript.jsonl",
        include_bytes!("../golden/journal-v1/whole/transcript.jsonl"),
    ),
    (
        "transcript.md",
        include_bytes!("../golden/journal-v1/whole/transcript.md"),
    ),
    (
        "result.md",
        include_bytes!("../golden/journal-v1/whole/result.md"),
    ),
];

fn whole_entries() -> Vec<Entry> {
    (1..)
        .zip(WHOLE.lines())
        .map(|(sequence, line)| Entry {
            sequence,
            payload: Arc::from(line),
        })
        .collect()
}

#[test]
fn an_old_journal_is_replayed_to_the_same_end() {
    let entries = whole_entries();
    let machine = fold(&entries).unwrap();
    let outcome = machine.outcome().expect("it ended");
    assert!(
        matches!(outcome, otto_core::invocation::Outcome::Completed { text } if &**text == "It says: buy milk"),
        "{outcome}"
    );
    assert_eq!(machine.totals().calls, 2);
    let Event::Started(spec) = decode(WHOLE.lines().next().unwrap()).unwrap().1 else {
        panic!("a journal begins with its start")
    };
    let artifacts = otto_core::derived::of_journal(&spec.invocation, &entries).unwrap();
    assert_eq!(artifacts.len(), WHOLE_ARTIFACTS.len());
    for (artifact, (name, content)) in artifacts.iter().zip(WHOLE_ARTIFACTS) {
        assert_eq!(artifact.name, name);
        assert!(*artifact.content == *content, "{name} has other bytes");
    }
}

#[test]
fn an_old_journal_can_be_taken_up_from_every_entry() {
    let entries = whole_entries();
    for length in 1..entries.len() {
        let machine = fold(&entries[..length]).unwrap();
        assert!(machine.outcome().is_none(), "{length} entries are no end");
    }
}
