//! The one place that emits telemetry: what the AgentServer sees, as tracing events with correlation ids.
//!
//! Content (prompts, texts, tool inputs and results) is never emitted here. Names follow the OpenTelemetry
//! GenAI conventions where they have one.

use otto_core::invocation::{Effect, Event, Outcome, TimerPurpose, ToolResult};
use otto_core::ledger::Warning;
use otto_core::policy::WouldDeny;
use otto_core::{AgentName, Money, ToolName};
use tracing::{Level, debug, enabled, error, info, warn};

use crate::Ids;

pub(crate) fn started(ids: &Ids, agent: &AgentName, model: &str) {
    info!(
        target: "otto",
        event = "invocation_started",
        workflow = ids.workflow.map(tracing::field::display),
        session = %ids.session,
        task = %ids.task,
        agent = %agent,
        invocation = %ids.invocation,
        gen_ai.request.model = model,
        "invocation started"
    );
}

pub(crate) fn finished(ids: &Ids, agent: &AgentName, outcome: &Outcome, charged: Money) {
    info!(
        target: "otto",
        event = "invocation_finished",
        workflow = ids.workflow.map(tracing::field::display),
        session = %ids.session,
        task = %ids.task,
        agent = %agent,
        invocation = %ids.invocation,
        outcome = outcome.kind().as_str(),
        charged_picodollars = charged.picodollars(),
        "invocation finished"
    );
}

pub(crate) fn machine_event(ids: &Ids, event: &Event) {
    if !enabled!(target: "otto", Level::DEBUG) {
        return;
    }
    let name = match event {
        Event::Started(_) => "Started",
        Event::Resumed(_) => "Resumed",
        Event::ReservationGranted { .. } => "ReservationGranted",
        Event::ReservationDenied { .. } => "ReservationDenied",
        Event::ReservationRefused { .. } => "ReservationRefused",
        Event::BlockReceived { .. } => "BlockReceived",
        Event::ToolCallReceived { .. } => "ToolCallReceived",
        Event::ModelFinished { .. } => "ModelFinished",
        Event::ModelFailed { .. } => "ModelFailed",
        Event::ToolFinished { .. } => "ToolFinished",
        Event::TimerFired { .. } => "TimerFired",
        Event::CancelRequested(_) => "CancelRequested",
    };
    debug!(target: "otto", invocation = %ids.invocation, event = name, "event");
    if let Event::ModelFailed { failure, .. } = event {
        warn!(
            target: "otto",
            invocation = %ids.invocation,
            kind = ?failure.kind,
            status = failure.status,
            request_id = failure.request_id.as_deref(),
            "model call failed: {}",
            failure.message
        );
    }
}

pub(crate) fn effects(ids: &Ids, effects: &[Effect]) {
    if !enabled!(target: "otto", Level::DEBUG) {
        return;
    }
    for effect in effects {
        let name = match effect {
            Effect::Reserve { .. } => "Reserve",
            Effect::Settle { .. } => "Settle",
            Effect::CallModel { .. } => "CallModel",
            Effect::StopModel { .. } => "StopModel",
            Effect::RunTool { .. } => "RunTool",
            Effect::StopTool { .. } => "StopTool",
            Effect::SetTimer {
                purpose: TimerPurpose::Deadline,
                ..
            } => "SetTimer(deadline)",
            Effect::SetTimer {
                purpose: TimerPurpose::Backoff,
                ..
            } => "SetTimer(backoff)",
            Effect::SetTimer {
                purpose: TimerPurpose::Contention,
                ..
            } => "SetTimer(contention)",
            Effect::SetTimer {
                purpose: TimerPurpose::Grace,
                ..
            } => "SetTimer(grace)",
            Effect::Persist => "Persist",
            Effect::Finish { .. } => "Finish",
        };
        debug!(target: "otto", invocation = %ids.invocation, effect = name, "effect");
    }
}

pub(crate) fn tool_finished(ids: &Ids, tool: &str, result: &ToolResult) {
    info!(
        target: "otto",
        event = "tool_finished",
        session = %ids.session,
        invocation = %ids.invocation,
        gen_ai.tool.name = tool,
        ending = ?result.ending,
        duration_us = u64::try_from(result.duration.as_micros()).unwrap_or(u64::MAX),
        "tool call ended"
    );
}

pub(crate) fn would_deny(ids: &Ids, tool: &ToolName, what: &WouldDeny) {
    warn!(
        target: "otto::audit",
        event = "would_deny",
        invocation = %ids.invocation,
        gen_ai.tool.name = %tool,
        missing = %what,
        "audit mode: policy would deny this call"
    );
}

pub(crate) fn budget_warning(ids: &Ids, warning: &Warning) {
    warn!(
        target: "otto",
        event = "budget_warning",
        invocation = %ids.invocation,
        scope = %warning.scope,
        limit = %warning.limit,
        spent = %warning.spent,
        origin = %warning.origin,
        "80 % of a limit is spent"
    );
}

pub(crate) fn overdrawn(ids: &Ids, charged: Money) {
    error!(
        target: "otto",
        event = "overdrawn",
        invocation = %ids.invocation,
        %charged,
        "the provider billed more than was held: its scopes are latched shut"
    );
}

pub(crate) fn restarted(ids: &Ids, agent: &AgentName, restarts: u32) {
    error!(
        target: "otto",
        event = "agent_server_restarted",
        agent = %agent,
        invocation = %ids.invocation,
        restarts,
        "an AgentServer panicked and is restarted from its journal"
    );
}
