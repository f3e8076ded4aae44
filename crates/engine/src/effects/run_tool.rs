//! `RunTool`, `StopTool`: one tool call, from the grant to its bounded and redacted result.
//!
//! The call runs in a Tokio task of its own, with a deadline, and a panic ends the call, not the agent.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use otto_core::id::EffectId;
use otto_core::invocation::{Event, SideEffects, ToolEnding, ToolRequest, ToolResult};
use otto_core::policy::{Decision, RefusedBy, ToolGrant, WouldDeny, decide};
use otto_core::port::BoxFuture;
use otto_core::port::tool::{
    AuditLog, BudgetGuard, Cancellation, CorrelationIds, Tool, ToolContext, ToolError,
    ToolErrorKind, ToolOutput,
};
use otto_core::{Money, Timestamp, ToolCallId, ToolName};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent_server::AgentServer;
use crate::audit::AuditTrail;
use crate::context_store::OwnedData;
use crate::redaction;
use crate::{Ids, ListenerEvent};

/// A tool call in flight.
pub(crate) struct RunningTool {
    cancel: CancellationToken,
    call: ToolCallId,
    tool: Arc<str>,
    side_effects: SideEffects,
}

/// How a call ended: the result for the machine, and what only people who watch are told.
pub(crate) struct EndedTool {
    pub(crate) result: ToolResult,
    pub(crate) refused_by: Option<RefusedBy>,
}

struct TokenCancellation(CancellationToken);

impl Cancellation for TokenCancellation {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.cancelled())
    }
}

/// What was left of the invocation's limits when the call began.
struct Left {
    cost: Option<Money>,
    tokens: Option<u64>,
    time: Duration,
}

impl BudgetGuard for Left {
    fn cost_left(&self) -> Option<Money> {
        self.cost
    }

    fn tokens_left(&self) -> Option<u64> {
        self.tokens
    }

    fn time_left(&self) -> Duration {
        self.time
    }
}

/// Notes what audit mode lets pass, for one tool of one invocation; also from the task of a running call.
struct Auditor {
    ids: Ids,
    tool: ToolName,
    trail: AuditTrail,
    events: Option<broadcast::Sender<ListenerEvent>>,
}

impl AuditLog for Auditor {
    fn would_deny(&self, what: WouldDeny) {
        crate::telemetry::would_deny(&self.ids, &self.tool, &what);
        self.trail.would_deny(&self.ids, self.tool.as_str(), &what);
        if let Some(events) = &self.events {
            // No receiver means that nobody listens any more.
            let _ = events.send(ListenerEvent::WouldDeny {
                tool: Arc::from(self.tool.as_str()),
                missing: what.to_string(),
            });
        }
    }
}

impl AgentServer {
    pub(crate) fn run_tool(&mut self, now: Timestamp, id: EffectId, request: ToolRequest) {
        let tool_name = request.tool.shared_text();
        let during_stream = self.model.is_some();
        let shown_input = redaction::text(&self.shared.redactor, &request.input);
        self.shared
            .audit
            .tool_started(&self.ids, &request.call, &tool_name, &shown_input);
        self.tell(|| ListenerEvent::ToolStarted {
            call: request.call.clone(),
            tool: tool_name.clone(),
            input: shown_input,
            during_stream,
        });
        let cancel = CancellationToken::new();
        let running = RunningTool {
            cancel: cancel.clone(),
            call: request.call.clone(),
            tool: tool_name,
            side_effects: request.side_effects,
        };
        self.calls.insert(id, running);

        let tool = match self.admitted_tool(&request) {
            Ok(tool) => tool,
            Err(ended) => {
                let finished = self.tool_finished(id, ended);
                self.inbox.extend(finished);
                return;
            }
        };
        let shared = &self.shared;
        let data = self
            .data
            .get_or_insert_with(|| OwnedData::new(&shared.contexts, &shared.clock, self.ids));
        let data = data.handle();
        let context = ToolContext {
            agent: self.agent.clone(),
            granted: self.granted,
            budget: Arc::new(self.left(now)),
            ids: CorrelationIds {
                workflow: self.ids.workflow,
                session: self.ids.session,
                task: self.ids.task,
                invocation: self.ids.invocation,
                call: request.call.clone(),
            },
            time_left: tool.definition().timeout.min(self.machine.time_left(now)),
            cancellation: Arc::new(TokenCancellation(cancel.clone())),
            data,
            audit: self
                .shared
                .settings()
                .audit_mode
                .then(|| Arc::new(self.auditor(&request.tool)) as Arc<dyn AuditLog>),
        };
        let redactor = self.shared.redactor.clone();
        self.tools.spawn(async move {
            let mut ended = run_to_end(&*tool, &context, &request.input, cancel).await;
            ended.result.content = redaction::text(&redactor, &ended.result.content);
            (id, ended)
        });
    }

    /// The tool, if it is there and policy lets this call pass.
    fn admitted_tool(&self, request: &ToolRequest) -> Result<Arc<dyn Tool>, EndedTool> {
        let refused = |error| ended(Err(error), Duration::ZERO, usize::MAX);
        let snapshot = self.shared.tools.snapshot();
        let Some(tool) = snapshot.find(&request.tool) else {
            let text = format!("Tool `{}` is no longer available.", request.tool);
            return Err(refused(ToolError::for_model(text)));
        };
        let grant = ToolGrant {
            listed: &self.agent.tools,
            allowed: snapshot.allowed(),
            permissions: self.granted,
        };
        let Decision::Denied(what) = decide(&request.tool, tool.definition().permissions, &grant)
        else {
            return Ok(tool.clone());
        };
        // Each tool of an agent is opted in to by name; no mode makes up for that.
        if self.shared.settings().audit_mode && what != WouldDeny::NotListed {
            self.auditor(&request.tool).would_deny(what);
            return Ok(tool.clone());
        }
        let text = match &what {
            WouldDeny::Permissions(missing) => format!(
                "`{}` needs the permission {missing}, which this agent was not granted",
                request.tool
            ),
            other => format!("`{}` is {other}", request.tool),
        };
        Err(refused(ToolError::denied(RefusedBy::Policy, text)))
    }

    fn auditor(&self, tool: &ToolName) -> Auditor {
        Auditor {
            ids: self.ids,
            tool: tool.clone(),
            trail: self.shared.audit.clone(),
            events: self.events.clone(),
        }
    }

    pub(crate) fn stop_tool(&mut self, id: EffectId) {
        if let Some(running) = self.calls.get(id) {
            running.cancel.cancel();
        }
    }

    /// Tells of the end of a call and turns it into its event. `None` if it was not running.
    pub(crate) fn tool_finished(&mut self, id: EffectId, ended: EndedTool) -> Option<Event> {
        let EndedTool { result, refused_by } = ended;
        let running = self.calls.remove(id)?;
        self.has_acted |= running.side_effects == SideEffects::Some;
        self.shared
            .audit
            .tool_ended(&self.ids, &running.call, &running.tool, &result, refused_by);
        if self.events.is_some() {
            self.told_ends.push(running.call.clone());
        }
        self.tell(|| ListenerEvent::ToolFinished {
            call: running.call.clone(),
            tool: running.tool.clone(),
            ending: result.ending,
            refused_by,
            content: result.content.clone(),
            duration: result.duration,
        });
        Some(Event::ToolFinished { effect: id, result })
    }

    fn left(&self, now: Timestamp) -> Left {
        let budgets = &self.agent.budgets;
        let cost = budgets.cost.as_ref();
        let tokens = budgets.tokens.as_ref();
        let used = self.machine.totals().usage.total_tokens();
        Left {
            cost: cost.map(|limit| limit.value.saturating_sub(self.charged)),
            tokens: tokens.map(|limit| limit.value.saturating_sub(used)),
            time: self.machine.time_left(now),
        }
    }
}

/// Runs one call to its end, its deadline or its cancellation, whichever comes first.
async fn run_to_end(
    tool: &dyn Tool,
    context: &ToolContext,
    input: &str,
    cancel: CancellationToken,
) -> EndedTool {
    let begun = Instant::now();
    let call = AssertUnwindSafe(tool.call(context, input)).catch_unwind();
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ToolError {
            kind: ToolErrorKind::Cancelled,
            message: "The call was cancelled while it ran.".to_owned(),
        }),
        timed = tokio::time::timeout(context.time_left, call) => match timed {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(ToolError::for_model(format!(
                "Tool `{}` failed with an internal error; nothing is known of what it did.",
                tool.definition().name
            ))),
            Err(_elapsed) => Err(ToolError {
                kind: ToolErrorKind::TimedOut,
                message: format!("The call took longer than {:?} and was ended.", context.time_left),
            }),
        },
    };
    ended(outcome, begun.elapsed(), tool.definition().max_output_bytes)
}

/// The bounded result of a call. A refusal begins with who refused, in the same words for every tool.
fn ended(
    outcome: Result<ToolOutput, ToolError>,
    duration: Duration,
    max_bytes: usize,
) -> EndedTool {
    let (content, ending, refused_by) = match outcome {
        Ok(ToolOutput { content }) => (content, ToolEnding::Succeeded, None),
        Err(ToolError { kind, message }) => match kind {
            ToolErrorKind::ForModel => (message, ToolEnding::Failed, None),
            ToolErrorKind::Denied(by) => (
                format!("Refused by {by}: {message}"),
                ToolEnding::Denied,
                Some(by),
            ),
            ToolErrorKind::TimedOut => (message, ToolEnding::TimedOut, None),
            ToolErrorKind::Cancelled => (message, ToolEnding::Cancelled, None),
            ToolErrorKind::ForOperator => (message, ToolEnding::OperatorFault, None),
        },
    };
    EndedTool {
        result: ToolResult {
            content: bounded(content, max_bytes),
            ending,
            duration,
        },
        refused_by,
    }
}

/// Cuts a text at a character border, and says so.
fn bounded(mut content: String, max_bytes: usize) -> Arc<str> {
    if content.len() > max_bytes {
        let whole = content.len();
        let cut = content.floor_char_boundary(max_bytes);
        content.truncate(cut);
        content.push_str(&format!("\n[output cut: {cut} of {whole} bytes shown]"));
    }
    Arc::from(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_cut_at_a_character_and_says_so() {
        assert_eq!(&*bounded("short".to_owned(), 5), "short");
        assert_eq!(
            &*bounded("héllo".to_owned(), 2),
            "h\n[output cut: 1 of 6 bytes shown]"
        );
    }

    #[test]
    fn a_refusal_says_who_refused() {
        for (by, words) in [
            (RefusedBy::Kernel, "Refused by the kernel: x"),
            (RefusedBy::PathRule, "Refused by the path rule: x"),
            (RefusedBy::Egress, "Refused by the egress process: x"),
            (RefusedBy::Policy, "Refused by policy: x"),
        ] {
            let ended = ended(Err(ToolError::denied(by, "x")), Duration::ZERO, 100);
            assert_eq!(&*ended.result.content, words);
            assert_eq!(ended.refused_by, Some(by));
        }
    }
}
