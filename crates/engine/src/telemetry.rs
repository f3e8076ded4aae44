//! The one place that emits telemetry: tracing events, numbers and spans of what the AgentServers, the
//! supervisor and the kill switch see.
//!
//! Content (prompts, texts, tool inputs and results) is never emitted here. Names of attributes follow the
//! OpenTelemetry GenAI conventions where they have one (`names.rs`).
//!
//! Invariant: a start is told before anything of it can happen, an end after; so in the order of the log
//! nothing begins behind `kill_switch_thrown` until `kill_switch_lifted`.

mod watch;

use std::sync::Arc;
use std::time::Duration;

use otto_core::invocation::{CallPurpose, CancelReason, Effect, Event, Outcome};
use otto_core::ledger::Scope;
use otto_core::policy::WouldDeny;
use otto_core::port::store::{KillRow, StoreError};
use otto_core::{AgentName, Timestamp, ToolName};
use tracing::{Level, debug, enabled, error, info, warn};

use crate::metrics::Metrics;
use crate::spans::SpanSink;
use crate::{Ids, InvokeError};
pub(crate) use watch::InvocationWatch;

/// Where telemetry goes beside the log.
#[derive(Clone)]
pub struct TelemetryParts {
    /// Takes finished spans; `None` makes none.
    pub spans: Option<Arc<dyn SpanSink>>,
    /// The provider's name by the conventions, such as `anthropic`.
    pub provider: Arc<str>,
}

impl Default for TelemetryParts {
    fn default() -> Self {
        Self {
            spans: None,
            provider: Arc::from("custom"),
        }
    }
}

/// Emits what happens.
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    parts: TelemetryParts,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    pub(crate) fn new(parts: TelemetryParts) -> Self {
        let metrics = Metrics::default();
        metrics.build.set(&[env!("CARGO_PKG_VERSION").into()], 1);
        Self { metrics, parts }
    }

    /// An invocation did not begin.
    pub(crate) fn rejected(&self, error: &InvokeError) {
        let reason = rejection_word(error);
        self.metrics.rejected.add(&[reason.into()], 1);
        info!(target: "otto", event = "invocation_rejected", reason, "invocation not begun: {error}");
    }

    pub(crate) fn store_call(&self, operation: &'static str, duration: Duration) {
        self.metrics.store_call(operation, duration);
    }

    pub(crate) fn store_failed(&self, operation: &'static str, error: &StoreError) {
        self.metrics.errors.add(&["store".into()], 1);
        error!(target: "otto", event = "store_failed", operation, "the store failed: {error}");
    }

    pub(crate) fn holds_forfeited(&self, count: u64) {
        self.metrics.forfeited.add(&[], count);
        warn!(
            target: "otto",
            event = "holds_forfeited",
            count,
            "holds whose owner died are charged in full"
        );
    }

    pub(crate) fn child_restarted(&self, name: &Arc<str>, wait: Duration) {
        self.metrics.restarts.add(&[name.into()], 1);
        self.metrics.errors.add(&["panic".into()], 1);
        error!(
            target: "otto",
            event = "child_restarted",
            component = &**name,
            wait_ms = millis(wait),
            "a component ended before its time and is started again"
        );
    }

    pub(crate) fn child_given_up(&self, name: &Arc<str>) {
        self.metrics.errors.add(&["given_up".into()], 1);
        error!(
            target: "otto",
            event = "child_given_up",
            component = &**name,
            "a component ends too often and is not started again: Otto is not ready"
        );
    }

    pub(crate) fn agent_restarted(&self, ids: &Ids, agent: &AgentName, restarts: u32) {
        self.metrics.restarts.add(&["agent".into()], 1);
        self.metrics.errors.add(&["panic".into()], 1);
        error!(
            target: "otto",
            event = "agent_server_restarted",
            agent = %agent,
            invocation = %ids.invocation,
            restarts,
            "an AgentServer panicked and is restarted from its journal"
        );
    }

    pub(crate) fn kill_switch_thrown(&self, row: &KillRow, running: usize, now: Timestamp) {
        self.metrics.kill_switch.set(&[], 1);
        warn!(
            target: "otto",
            event = "kill_switch_thrown",
            reason = &*row.reason,
            running,
            thrown_at_ms = row.at.millis(),
            obeyed_after_ms = millis(now.since(row.at)),
            "the kill switch is thrown: nothing begins, what runs is ended"
        );
    }

    pub(crate) fn kill_switch_lifted(&self) {
        self.metrics.kill_switch.set(&[], 0);
        warn!(target: "otto", event = "kill_switch_lifted", "the kill switch is lifted");
    }

    pub(crate) fn shutdown_begun(&self, running: usize, bound: Duration) {
        info!(
            target: "otto",
            event = "shutdown_begun",
            running,
            bound_ms = millis(bound),
            "shutting down: no new invocation, running ones end at their next durable point"
        );
    }

    pub(crate) fn shutdown_ended(&self, left: usize, abandoned: usize) {
        info!(
            target: "otto",
            event = "shutdown_ended",
            left_for_resume = left,
            abandoned,
            "shut down"
        );
    }

    pub(crate) fn configuration_applied(&self, agents: usize) {
        self.metrics.config_reloads.add(&["applied".into()], 1);
        info!(target: "otto", event = "configuration_applied", agents, "changed configuration applied");
    }

    pub(crate) fn configuration_refused(&self, problems: &str) {
        self.metrics.config_reloads.add(&["refused".into()], 1);
        error!(
            target: "otto",
            event = "configuration_refused",
            "changed configuration refused, the last good one stays: {problems}"
        );
    }
}

/// The span that the log lines of an invocation stand in: workflow > task > agent > invocation.
pub(crate) fn span(ids: &Ids, agent: &AgentName) -> tracing::Span {
    // At the level of errors, so that whatever is logged carries the ids.
    let workflow = ids
        .workflow
        .map(|id| tracing::error_span!(target: "otto", "workflow", workflow = %id));
    let task = {
        let parent = workflow.as_ref().and_then(tracing::Span::id);
        tracing::error_span!(target: "otto", parent: parent, "task", task = %ids.task)
    };
    let agent = tracing::error_span!(target: "otto", parent: task.id(), "agent", agent = %agent);
    tracing::error_span!(
        target: "otto",
        parent: agent.id(),
        "invocation",
        invocation = %ids.invocation,
        session = %ids.session
    )
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
    debug!(target: "otto", invocation = %ids.invocation, event = "machine_event", name, "event");
}

pub(crate) fn effects(ids: &Ids, effects: &[Effect]) {
    use otto_core::invocation::TimerPurpose;

    if !enabled!(target: "otto", Level::DEBUG) {
        return;
    }
    for effect in effects {
        let name = match effect {
            Effect::Reserve { .. } => "Reserve",
            Effect::Settle { .. } => "Settle",
            Effect::CallModel { request, .. } => match request.purpose {
                CallPurpose::Turn => "CallModel",
                CallPurpose::Summary => "CallModel(summary)",
            },
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
        debug!(target: "otto", invocation = %ids.invocation, event = "machine_effect", name, "effect");
    }
}

pub(crate) fn audit_failed(error: &StoreError) {
    error!(
        target: "otto",
        event = "audit_failed",
        %error,
        "the audit log could not be written; it is tried again"
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const fn rejection_word(error: &InvokeError) -> &'static str {
    match error {
        InvokeError::NotEnabled => "not_enabled",
        InvokeError::Killed { .. } => "killed",
        InvokeError::ShuttingDown => "shutting_down",
        InvokeError::Busy { .. } => "busy",
        InvokeError::SessionBusy { .. } => "session_busy",
        InvokeError::Duplicate(_) => "duplicate",
        InvokeError::NotResumable { .. } => "not_resumable",
        InvokeError::Store { .. } => "store",
        _ => "invalid",
    }
}

/// The outcome in a word, with the reason of a cancellation.
const fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Cancelled { reason } => match reason {
            CancelReason::User => "cancelled",
            CancelReason::KillSwitch => "killed",
            CancelReason::Shutdown => "shutdown",
            CancelReason::Fenced => "fenced",
            CancelReason::StoreFailed => "store_failed",
            CancelReason::AwaitingPerson => "awaiting_person",
        },
        other => other.kind().as_str(),
    }
}

const fn scope_word(scope: &Scope) -> &'static str {
    match scope {
        Scope::Invocation(_) => "invocation",
        Scope::Session(_) => "session",
        Scope::Agent(..) => "agent",
        Scope::Workflow(_) => "workflow",
        Scope::Budget(..) => "budget",
        Scope::Day(_) => "day",
    }
}
