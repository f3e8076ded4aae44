//! The JSON lines for programs, documented in `docs/cli.md`. The shapes of reports, records and artifacts are
//! those of the HTTP interface.
//!
//! Invariant: every object that tells of an event has a `type`; a field is never renamed or given another
//! meaning without a new major version.

use otto::core::policy::RefusedBy;
use otto::text::rfc3339;
use otto::{
    ArtifactRef, InvocationRecord, ListenerEvent, Money, NotGranted, Report, Usage, is_parked,
    standing,
};
use serde_json::{Value, json};

use crate::error::Code;

/// Exact picodollars, and text for people.
pub(crate) fn money(money: Money) -> Value {
    json!({"picodollars": money.picodollars(), "usd": money.to_string()})
}

/// Tokens by class.
pub(crate) fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "thinking_tokens": usage.thinking_tokens,
    })
}

/// A stored file.
pub(crate) fn artifact(artifact: &ArtifactRef) -> Value {
    json!({
        "path": &*artifact.path,
        "kind": artifact.kind.as_str(),
        "size_bytes": artifact.size_bytes,
        "sha256": &*artifact.sha256,
    })
}

/// A limit that was asked for and is not in force.
pub(crate) fn not_granted(cut: &NotGranted) -> Value {
    json!({
        "limit": cut.limit,
        "asked": cut.asked,
        "asked_by": cut.asked_by.to_string(),
        "in_force": cut.in_force,
        "set_by": cut.set_by.to_string(),
    })
}

/// How it stands, in a word for people.
pub(crate) fn outcome_word(record: &InvocationRecord) -> &'static str {
    if is_parked(record) {
        "parked"
    } else {
        standing(record)
    }
}

/// An invocation of a list.
pub(crate) fn record(record: &InvocationRecord) -> Value {
    json!({
        "invocation": record.invocation.to_string(),
        "session": record.session.to_string(),
        "workflow": record.workflow.map(|id| id.to_string()),
        "agent": record.agent.as_str(),
        "model": record.model.as_str(),
        "title": &*record.title,
        "started_at": rfc3339(record.started_at),
        "finished_at": record.finished_at.map(rfc3339),
        "outcome": standing(record),
        "parked": is_parked(record),
        "summary": &*record.summary,
        "text": &*record.result,
        "resumable": record.resumable,
        "charged": money(record.cost),
        "tokens": record.tokens,
    })
}

/// The last line of `otto run`, which ends with `code`.
pub(crate) fn report(report: &Report, code: Code) -> Value {
    json!({
        "type": "report",
        "invocation": report.ids.invocation.to_string(),
        "session": report.ids.session.to_string(),
        "task": report.ids.task.to_string(),
        "workflow": report.ids.workflow.map(|id| id.to_string()),
        "agent": report.agent.as_str(),
        "outcome": report.outcome.kind().as_str(),
        "exit_code": code.number(),
        "parked": report.outcome.is_parked(),
        "summary": report.outcome.to_string(),
        "text": report.text(),
        "turns": report.turns,
        "tool_calls": report.totals.tool_calls,
        "model_calls": report.totals.calls,
        "unconfirmed_calls": report.totals.unconfirmed_calls,
        "usage": usage(&report.totals.usage),
        "charged": money(report.charged),
        "duration_ms": milliseconds(report.duration),
        "time_used_ms": milliseconds(report.time_used),
        "artifacts": report.artifacts.iter().map(artifact).collect::<Vec<_>>(),
        "artifact_error": report.artifact_error,
        "store_error": report.store_error,
    })
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One event of a running invocation; `None` for the last one, which the report tells in full.
pub(crate) fn event(event: &ListenerEvent) -> Option<Value> {
    let value = match event {
        ListenerEvent::TurnStarted {
            turn,
            held,
            max_output_tokens,
        } => {
            json!({"type": "turn_started", "turn": turn, "held": money(*held), "max_output_tokens": max_output_tokens})
        }
        ListenerEvent::CompactionStarted {
            messages,
            held,
            max_output_tokens,
        } => {
            json!({"type": "compaction_started", "messages": messages, "held": money(*held), "max_output_tokens": max_output_tokens})
        }
        ListenerEvent::Compacted {
            summarized,
            replaced_replies,
            quoted_messages,
        } => {
            json!({"type": "compacted", "summarized": summarized, "replaced_replies": replaced_replies, "quoted_messages": quoted_messages})
        }
        ListenerEvent::Text(text) => json!({"type": "text", "text": text}),
        ListenerEvent::Thinking(text) => json!({"type": "thinking", "text": text}),
        ListenerEvent::ToolCallStarted { call, tool } => {
            json!({"type": "tool_call_started", "call": &*call.0, "tool": &**tool})
        }
        ListenerEvent::ToolStarted {
            call,
            tool,
            input,
            during_stream,
        } => json!({
            "type": "tool_started",
            "call": &*call.0,
            "tool": &**tool,
            // The engine passes objects; anything else is told as the text it is.
            "input": serde_json::from_str::<Value>(input).unwrap_or_else(|_| Value::from(&**input)),
            "during_stream": during_stream,
        }),
        ListenerEvent::ToolFinished {
            call,
            tool,
            ending,
            refused_by,
            content,
            duration,
        } => json!({
            "type": "tool_finished",
            "call": &*call.0,
            "tool": &**tool,
            "ending": ending.as_str(),
            "refused_by": refused_by.map(RefusedBy::as_str),
            "content": &**content,
            "duration_ms": milliseconds(*duration),
        }),
        ListenerEvent::Settled {
            usage: used,
            charged,
            spent,
            limit,
        } => json!({
            "type": "settled",
            "usage": used.as_ref().map(usage),
            "charged": money(*charged),
            "spent": money(*spent),
            "limit": limit.map(money),
        }),
        ListenerEvent::BudgetWarning {
            scope,
            limit,
            spent,
        } => json!({
            "type": "budget_warning",
            "scope": scope.to_string(),
            "limit": limit.to_string(),
            "spent": spent.to_string(),
        }),
        ListenerEvent::Retrying {
            kind,
            message,
            wait,
        } => json!({
            "type": "retrying",
            "kind": kind.as_str(),
            "message": &**message,
            "wait_ms": milliseconds(*wait),
        }),
        ListenerEvent::TurnCut { message } => json!({"type": "turn_cut", "message": &**message}),
        ListenerEvent::WaitingForBudget { denial } => {
            json!({"type": "waiting_for_budget", "message": denial.to_string()})
        }
        ListenerEvent::WouldDeny { tool, missing } => {
            json!({"type": "would_deny", "tool": &**tool, "missing": missing})
        }
        ListenerEvent::Restarted => json!({"type": "restarted"}),
        ListenerEvent::Finished(_) => return None,
    };
    Some(value)
}
