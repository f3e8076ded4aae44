//! What is told of one invocation: its start and end, its model calls, its tool calls.
//!
//! Invariant: every start that was told has exactly one end, unless the AgentServer panics in between.

use std::sync::Arc;

use otto_core::id::EffectId;
use otto_core::invocation::{
    Event, LastCompaction, ModelRequest, Outcome, ToolRequest, ToolResult,
};
use otto_core::ledger::Warning;
use otto_core::model::Usage;
use otto_core::{AgentName, ModelId, Money, Timestamp, ToolCallId};
use tracing::{error, info, warn};

use super::{Telemetry, outcome_word, scope_word};
use crate::few::Few;
use crate::metrics::Label;
use crate::spans::{AttributeValue, FinishedSpan, SpanKind, span_of, span_of_effect, trace_of};
use crate::{Ids, names};

/// Tells of one invocation.
pub(crate) struct InvocationWatch {
    telemetry: Arc<Telemetry>,
    ids: Ids,
    agent: AgentName,
    model: ModelId,
    open: Few<Open>,
    usage: Usage,
}

/// A call that has begun.
enum Open {
    Model {
        begun: Timestamp,
        max_output_tokens: u64,
    },
    Tool {
        begun: Timestamp,
        tool: Arc<str>,
        call: ToolCallId,
    },
}

/// How a model call ended.
struct ModelEnd<'a> {
    ending: &'static str,
    error: Option<&'static str>,
    event: Option<&'a Event>,
}

impl InvocationWatch {
    pub(crate) const fn new(
        telemetry: Arc<Telemetry>,
        ids: Ids,
        agent: AgentName,
        model: ModelId,
    ) -> Self {
        Self {
            telemetry,
            ids,
            agent,
            model,
            open: Few::new(),
            usage: Usage {
                input_tokens: 0,
                output_tokens: 0,
                cache_read_tokens: 0,
                cache_write_5m_tokens: 0,
                cache_write_1h_tokens: 0,
                thinking_tokens: 0,
            },
        }
    }

    pub(crate) fn begun(&self, is_resumed: bool) {
        let event = if is_resumed {
            "invocation_resumed"
        } else {
            "invocation_started"
        };
        info!(
            target: "otto",
            event,
            workflow = self.ids.workflow.map(tracing::field::display),
            session = %self.ids.session,
            task = %self.ids.task,
            agent = %self.agent,
            invocation = %self.ids.invocation,
            gen_ai.request.model = self.model.as_str(),
            "invocation begins"
        );
    }

    pub(crate) fn model_call_started(&mut self, now: Timestamp, id: EffectId, call: &ModelRequest) {
        info!(
            target: "otto",
            event = "model_call_started",
            invocation = %self.ids.invocation,
            effect = id.0,
            gen_ai.request.model = self.model.as_str(),
            "model call begins"
        );
        let open = Open::Model {
            begun: now,
            max_output_tokens: call.max_output_tokens,
        };
        self.open.insert(id, open);
    }

    pub(crate) fn tool_started(&mut self, now: Timestamp, id: EffectId, request: &ToolRequest) {
        info!(
            target: "otto",
            event = "tool_started",
            invocation = %self.ids.invocation,
            effect = id.0,
            gen_ai.tool.name = %request.tool,
            "tool call begins"
        );
        let open = Open::Tool {
            begun: now,
            tool: request.tool.shared_text(),
            call: request.call.clone(),
        };
        self.open.insert(id, open);
    }

    /// Tells what an event means for the calls that are open.
    pub(crate) fn event(&mut self, now: Timestamp, event: &Event) {
        super::machine_event(&self.ids, event);
        match event {
            Event::ModelFinished { effect, .. } => {
                let end = ModelEnd {
                    ending: "ok",
                    error: None,
                    event: Some(event),
                };
                self.model_call_ended(now, *effect, &end);
            }
            Event::ModelFailed { effect, failure } => {
                let word = failure.kind.as_str();
                self.telemetry.metrics.errors.add(&[word.into()], 1);
                warn!(
                    target: "otto",
                    event = "model_call_failed",
                    invocation = %self.ids.invocation,
                    kind = word,
                    status = failure.status,
                    request_id = failure.request_id.as_deref(),
                    "model call failed: {}",
                    failure.message
                );
                let end = ModelEnd {
                    ending: word,
                    error: Some(word),
                    event: Some(event),
                };
                self.model_call_ended(now, *effect, &end);
            }
            Event::ToolFinished { effect, result } => self.tool_ended(now, *effect, result),
            Event::Started(_)
            | Event::Resumed(_)
            | Event::ReservationGranted { .. }
            | Event::ReservationDenied { .. }
            | Event::ReservationRefused { .. }
            | Event::BlockReceived { .. }
            | Event::ToolCallReceived { .. }
            | Event::TimerFired { .. }
            | Event::CancelRequested(_) => {}
        }
    }

    /// Otto itself ended a model call.
    pub(crate) fn model_call_stopped(&mut self, now: Timestamp, id: EffectId) {
        let end = ModelEnd {
            ending: "stopped",
            error: Some("stopped"),
            event: None,
        };
        self.model_call_ended(now, id, &end);
    }

    fn model_call_ended(&mut self, now: Timestamp, id: EffectId, end: &ModelEnd<'_>) {
        let Some(Open::Model {
            begun,
            max_output_tokens,
        }) = self.open.remove(id)
        else {
            return;
        };
        let duration = now.since(begun);
        let (agent, model) = self.labels();
        self.telemetry
            .metrics
            .model_call(&agent, &model, end.ending, duration);
        info!(
            target: "otto",
            event = "model_call_ended",
            invocation = %self.ids.invocation,
            effect = id.0,
            ending = end.ending,
            duration_ms = super::millis(duration),
            "model call ended"
        );
        if self.telemetry.parts.spans.is_none() {
            return;
        }
        let mut attributes = vec![
            (names::OPERATION_NAME, names::OPERATION_CHAT.into()),
            (names::REQUEST_MODEL, self.model.as_str().into()),
            (names::REQUEST_MAX_TOKENS, max_output_tokens.into()),
        ];
        match end.event {
            Some(Event::ModelFinished { finish, .. }) => {
                attributes.push((
                    names::RESPONSE_FINISH_REASONS,
                    AttributeValue::Texts(vec![Arc::from(finish.stop.as_str())]),
                ));
                if let Some(model) = &finish.served_by {
                    attributes.push((names::RESPONSE_MODEL, model.as_str().into()));
                }
                if let Some(usage) = &finish.usage {
                    attributes.extend(usage_attributes(usage));
                }
            }
            Some(Event::ModelFailed { failure, .. }) => {
                if let Some(status) = failure.status {
                    attributes.push((names::HTTP_STATUS, u64::from(status).into()));
                }
            }
            _ => {}
        }
        let name = format!("{} {}", names::OPERATION_CHAT, self.model);
        self.span(
            id,
            name,
            SpanKind::Client,
            (begun, now),
            attributes,
            end.error,
        );
    }

    fn tool_ended(&mut self, now: Timestamp, id: EffectId, result: &ToolResult) {
        let Some(Open::Tool { begun, tool, call }) = self.open.remove(id) else {
            return;
        };
        let ending = result.ending.as_str();
        self.telemetry
            .metrics
            .tool_call(&tool, ending, result.duration);
        if result.ending == otto_core::invocation::ToolEnding::OperatorFault {
            self.telemetry.metrics.errors.add(&["tool".into()], 1);
        }
        info!(
            target: "otto",
            event = "tool_finished",
            session = %self.ids.session,
            invocation = %self.ids.invocation,
            effect = id.0,
            gen_ai.tool.name = &*tool,
            ending,
            duration_us = u64::try_from(result.duration.as_micros()).unwrap_or(u64::MAX),
            "tool call ended"
        );
        if self.telemetry.parts.spans.is_none() {
            return;
        }
        let attributes = vec![
            (names::OPERATION_NAME, names::OPERATION_TOOL.into()),
            (names::TOOL_NAME, AttributeValue::Text(tool.clone())),
            (names::TOOL_CALL_ID, call.to_string().as_str().into()),
            (names::TOOL_TYPE, names::TOOL_TYPE_FUNCTION.into()),
        ];
        let error = (ending != "succeeded").then_some(ending);
        let name = format!("{} {tool}", names::OPERATION_TOOL);
        self.span(
            id,
            name,
            SpanKind::Internal,
            (begun, now),
            attributes,
            error,
        );
    }

    /// A model call was paid.
    pub(crate) fn settled(&mut self, usage: Option<&Usage>, charged: Money) {
        let (agent, model) = self.labels();
        let metrics = &self.telemetry.metrics;
        metrics
            .cost
            .add(&[agent.clone(), model.clone()], charged.picodollars());
        let Some(usage) = usage else { return };
        self.usage = self.usage.plus(usage);
        metrics.call_tokens(&model, usage.prompt_tokens(), usage.output_tokens);
        let classes = [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache_read", usage.cache_read_tokens),
            ("cache_write_5m", usage.cache_write_5m_tokens),
            ("cache_write_1h", usage.cache_write_1h_tokens),
        ];
        for (class, count) in classes.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [agent.clone(), model.clone(), class.into()];
            metrics.tokens.add(&labels, count);
        }
    }

    pub(crate) fn budget_warning(&self, warning: &Warning) {
        let scope = scope_word(&warning.scope);
        self.telemetry
            .metrics
            .budget_warnings
            .add(&[scope.into()], 1);
        warn!(
            target: "otto",
            event = "budget_warning",
            invocation = %self.ids.invocation,
            scope = %warning.scope,
            limit = %warning.limit,
            spent = %warning.spent,
            origin = %warning.origin,
            "80 % of a limit is spent"
        );
    }

    /// The history was replaced.
    pub(crate) fn compacted(&self, last: &LastCompaction) {
        info!(
            target: "otto",
            event = "history_compacted",
            invocation = %self.ids.invocation,
            summarized = last.is_summarized,
            replaced_replies = last.replaced_replies,
            quoted_messages = last.quoted_messages,
            "the history neared the model's window and was compacted"
        );
    }

    pub(crate) fn overdrawn(&self, charged: Money) {
        self.telemetry.metrics.errors.add(&["overdrawn".into()], 1);
        error!(
            target: "otto",
            event = "overdrawn",
            invocation = %self.ids.invocation,
            %charged,
            "the provider billed more than was held: its scopes are latched shut"
        );
    }

    /// The invocation has ended. What is still open ends with it.
    pub(crate) fn ended(
        &mut self,
        begun: Timestamp,
        now: Timestamp,
        outcome: &Outcome,
        charged: Money,
    ) {
        for id in self.open.ids() {
            self.model_call_stopped(now, id);
        }
        let word = outcome_word(outcome);
        let (agent, _) = self.labels();
        self.telemetry
            .metrics
            .invocation(agent, word, now.since(begun));
        info!(
            target: "otto",
            event = "invocation_finished",
            workflow = self.ids.workflow.map(tracing::field::display),
            session = %self.ids.session,
            task = %self.ids.task,
            agent = %self.agent,
            invocation = %self.ids.invocation,
            outcome = word,
            charged_picodollars = charged.picodollars(),
            "invocation finished"
        );
        let Some(sink) = &self.telemetry.parts.spans else {
            return;
        };
        let mut attributes = self.common();
        attributes.push((names::OPERATION_NAME, names::OPERATION_AGENT.into()));
        attributes.push((names::REQUEST_MODEL, self.model.as_str().into()));
        attributes.push((names::OUTCOME, word.into()));
        attributes.push((names::CHARGED_PICODOLLARS, charged.picodollars().into()));
        attributes.extend(usage_attributes(&self.usage));
        let error = (word != "completed").then_some(word);
        if let Some(error) = error {
            attributes.push((names::ERROR_TYPE, error.into()));
        }
        sink.take(FinishedSpan {
            trace_id: trace_of(&self.ids),
            span_id: span_of(&self.ids),
            parent: None,
            name: format!("{} {}", names::OPERATION_AGENT, self.agent),
            kind: SpanKind::Internal,
            start: begun,
            end: now,
            attributes,
            error: error.map(Into::into),
        });
    }

    fn span(
        &self,
        id: EffectId,
        name: String,
        kind: SpanKind,
        (start, end): (Timestamp, Timestamp),
        mut attributes: Vec<(&'static str, AttributeValue)>,
        error: Option<&'static str>,
    ) {
        let Some(sink) = &self.telemetry.parts.spans else {
            return;
        };
        attributes.extend(self.common());
        if let Some(error) = error {
            attributes.push((names::ERROR_TYPE, error.into()));
        }
        sink.take(FinishedSpan {
            trace_id: trace_of(&self.ids),
            span_id: span_of_effect(&self.ids, id.0),
            parent: Some(span_of(&self.ids)),
            name,
            kind,
            start,
            end,
            attributes,
            error: error.map(Into::into),
        });
    }

    /// What every span of the invocation carries.
    fn common(&self) -> Vec<(&'static str, AttributeValue)> {
        let text = |id: String| AttributeValue::Text(Arc::from(id));
        let mut common = vec![
            (
                names::PROVIDER_NAME,
                AttributeValue::Text(self.telemetry.parts.provider.clone()),
            ),
            (names::AGENT_NAME, self.agent.as_str().into()),
            (names::CONVERSATION_ID, text(self.ids.session.to_string())),
            (names::TASK_ID, text(self.ids.task.to_string())),
            (names::INVOCATION_ID, text(self.ids.invocation.to_string())),
        ];
        if let Some(workflow) = self.ids.workflow {
            common.push((names::WORKFLOW_ID, text(workflow.to_string())));
        }
        common
    }

    fn labels(&self) -> (Label, Label) {
        (
            Label::Name(self.agent.shared_text()),
            Label::Name(self.model.shared_text()),
        )
    }
}

fn usage_attributes(usage: &Usage) -> [(&'static str, AttributeValue); 4] {
    [
        (names::USAGE_INPUT_TOKENS, usage.prompt_tokens().into()),
        (names::USAGE_OUTPUT_TOKENS, usage.output_tokens.into()),
        (names::USAGE_CACHE_READ, usage.cache_read_tokens.into()),
        (
            names::USAGE_CACHE_WRITE,
            usage
                .cache_write_5m_tokens
                .saturating_add(usage.cache_write_1h_tokens)
                .into(),
        ),
    ]
}
