//! `RunTool`, `StopTool`: one tool call, from the grant to its bounded and redacted result.
//!
//! The call runs in a Tokio task of its own, with a deadline, and a panic ends the call, not the agent.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use otto_core::id::EffectId;
use otto_core::invocation::{Event, ToolEnding, ToolRequest, ToolResult};
use otto_core::policy::{Decision, decide};
use otto_core::port::BoxFuture;
use otto_core::port::tool::{
    BudgetGuard, Cancellation, CorrelationIds, Tool, ToolContext, ToolError, ToolErrorKind,
    ToolOutput,
};
use otto_core::{Money, Timestamp, ToolCallId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ListenerEvent;
use crate::agent_server::AgentServer;
use crate::redaction;

/// A tool call in flight.
pub(crate) struct RunningTool {
    cancel: CancellationToken,
    call: ToolCallId,
    tool: Arc<str>,
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

/// The money that was left when the call began.
struct CostLeft(Option<Money>);

impl BudgetGuard for CostLeft {
    fn cost_left(&self) -> Option<Money> {
        self.0
    }
}

impl AgentServer {
    pub(crate) fn run_tool(&mut self, now: Timestamp, id: EffectId, request: ToolRequest) {
        let tool_name: Arc<str> = Arc::from(request.tool.as_str());
        let during_stream = self.model.is_some();
        let shown_input = redaction::text(&self.shared.redactor, &request.input);
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
        };
        self.running.insert(id, running);

        let tool = match self.admitted_tool(&request) {
            Ok(tool) => tool,
            Err(result) => {
                let finished = self.tool_finished(id, result);
                self.inbox.extend(finished);
                return;
            }
        };
        let context = ToolContext {
            agent: self.agent.clone(),
            granted: self.granted,
            budget: Arc::new(CostLeft(self.cost_left())),
            ids: CorrelationIds {
                workflow: self.ids.workflow,
                session: self.ids.session,
                task: self.ids.task,
                invocation: self.ids.invocation,
                call: request.call.clone(),
            },
            time_left: tool.definition().timeout.min(self.machine.time_left(now)),
            cancellation: Arc::new(TokenCancellation(cancel.clone())),
        };
        let redactor = self.shared.redactor.clone();
        self.tools.spawn(async move {
            let result = run_to_end(&*tool, &context, &request.input, cancel).await;
            (
                id,
                ToolResult {
                    content: redaction::text(&redactor, &result.content),
                    ..result
                },
            )
        });
    }

    /// The tool, if it is there and policy lets this call pass.
    fn admitted_tool(&self, request: &ToolRequest) -> Result<Arc<dyn Tool>, ToolResult> {
        let refused = |ending, content: String| ToolResult {
            content: Arc::from(content),
            ending,
            duration: Duration::ZERO,
        };
        let snapshot = self.shared.tools.snapshot();
        let Some(tool) = snapshot.find(&request.tool) else {
            let text = format!("Tool `{}` is no longer available.", request.tool);
            return Err(refused(ToolEnding::Failed, text));
        };
        match decide(tool.definition().permissions, self.granted) {
            Decision::Allowed => {}
            Decision::Denied { missing } if self.shared.settings.audit_mode => {
                crate::telemetry::would_deny(&self.ids, &request.tool, missing);
                let tool: Arc<str> = Arc::from(request.tool.as_str());
                self.tell(|| ListenerEvent::WouldDeny {
                    tool,
                    missing: missing.to_string(),
                });
            }
            Decision::Denied { missing } => {
                let text = format!(
                    "Denied: `{}` needs the permission {missing}, which this agent was not granted.",
                    request.tool
                );
                return Err(refused(ToolEnding::Denied, text));
            }
        }
        Ok(tool.clone())
    }

    pub(crate) fn stop_tool(&mut self, id: EffectId) {
        if let Some(running) = self.running.get(&id) {
            running.cancel.cancel();
        }
    }

    /// Tells of the end of a call and turns it into its event. `None` if it was not running.
    pub(crate) fn tool_finished(&mut self, id: EffectId, result: ToolResult) -> Option<Event> {
        let running = self.running.remove(&id)?;
        crate::telemetry::tool_finished(&self.ids, &running.tool, &result);
        self.tell(|| ListenerEvent::ToolFinished {
            call: running.call.clone(),
            tool: running.tool.clone(),
            ending: result.ending,
            content: result.content.clone(),
            duration: result.duration,
        });
        Some(Event::ToolFinished { effect: id, result })
    }

    fn cost_left(&self) -> Option<Money> {
        let limit = self.agent.budgets.cost.as_ref()?;
        Some(limit.value.saturating_sub(self.charged))
    }
}

/// Runs one call to its end, its deadline or its cancellation, whichever comes first.
async fn run_to_end(
    tool: &dyn Tool,
    context: &ToolContext,
    input: &str,
    cancel: CancellationToken,
) -> ToolResult {
    let begun = Instant::now();
    let call = AssertUnwindSafe(tool.call(context, input)).catch_unwind();
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ToolError {
            kind: ToolErrorKind::Cancelled,
            message: "The call was cancelled while it ran.".to_owned(),
        }),
        ended = tokio::time::timeout(context.time_left, call) => match ended {
            Ok(Ok(ended)) => ended,
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
    let duration = begun.elapsed();
    let bound = tool.definition().max_output_bytes;
    match ended {
        Ok(ToolOutput { content }) => ToolResult {
            content: bounded(content, bound),
            ending: ToolEnding::Succeeded,
            duration,
        },
        Err(ToolError { kind, message }) => {
            let ending = match kind {
                ToolErrorKind::ForModel => ToolEnding::Failed,
                ToolErrorKind::Denied => ToolEnding::Denied,
                ToolErrorKind::TimedOut => ToolEnding::TimedOut,
                ToolErrorKind::Cancelled => ToolEnding::Cancelled,
                ToolErrorKind::ForOperator => ToolEnding::OperatorFault,
            };
            ToolResult {
                content: bounded(message, bound),
                ending,
                duration,
            }
        }
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
}
