//! Records of version 1 about replies: blocks, endings, failures, tool results.
//!
//! A provider's block is written as a text, not as JSON inside the JSON: that keeps it byte for byte,
//! whatever its spacing, key order or escapes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::money::UsageRecord;
use super::value::{Span, Text, Word, arc, optional_arc, optional_cow};
use crate::invocation::{
    Billing, ModelFailure, ModelFailureKind, ModelFinish, StopReason, ToolEnding, ToolResult,
};
use crate::journal::JournalError;
use crate::message::{Block, BlockView, ToolCallBlock, ToolCallName, ToolInput};
use crate::{ModelId, ToolCallId, ToolName};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockRecord<'a> {
    #[serde(borrow)]
    raw: Cow<'a, str>,
    #[serde(borrow)]
    view: ViewRecord<'a>,
}

impl<'a> BlockRecord<'a> {
    pub(super) fn of(block: &'a Block) -> Self {
        Self {
            raw: Cow::Borrowed(&block.raw),
            view: ViewRecord::of(&block.view),
        }
    }

    pub(super) fn restore(self) -> Block {
        Block {
            raw: arc(&self.raw),
            view: self.view.restore(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ViewRecord<'a> {
    Text {
        #[serde(borrow)]
        text: Cow<'a, str>,
    },
    ToolCall {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(borrow)]
        tool: ToolRecord<'a>,
        #[serde(borrow)]
        input: InputRecord<'a>,
    },
    Thinking {
        #[serde(borrow)]
        text: Cow<'a, str>,
    },
    Opaque {},
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ToolRecord<'a> {
    Known(Text<ToolName>),
    Unknown(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum InputRecord<'a> {
    Object(#[serde(borrow)] Cow<'a, str>),
    Invalid(#[serde(borrow)] Cow<'a, str>),
}

impl<'a> ViewRecord<'a> {
    fn of(view: &'a BlockView) -> Self {
        match view {
            BlockView::Text(text) => Self::Text {
                text: Cow::Borrowed(text),
            },
            BlockView::Thinking(text) => Self::Thinking {
                text: Cow::Borrowed(text),
            },
            BlockView::Opaque => Self::Opaque {},
            BlockView::ToolCall(call) => Self::ToolCall {
                id: Cow::Borrowed(&call.id.0),
                tool: match &call.tool {
                    ToolCallName::Known(name) => ToolRecord::Known(Text(name.clone())),
                    ToolCallName::Unknown(text) => ToolRecord::Unknown(Cow::Borrowed(text)),
                },
                input: match &call.input {
                    ToolInput::Object(text) => InputRecord::Object(Cow::Borrowed(text)),
                    ToolInput::Invalid(text) => InputRecord::Invalid(Cow::Borrowed(text)),
                },
            },
        }
    }

    fn restore(self) -> BlockView {
        match self {
            Self::Text { text } => BlockView::Text(arc(&text)),
            Self::Thinking { text } => BlockView::Thinking(arc(&text)),
            Self::Opaque {} => BlockView::Opaque,
            Self::ToolCall { id, tool, input } => BlockView::ToolCall(ToolCallBlock {
                id: ToolCallId(arc(&id)),
                tool: match tool {
                    ToolRecord::Known(name) => ToolCallName::Known(name.0),
                    ToolRecord::Unknown(text) => ToolCallName::Unknown(arc(&text)),
                },
                input: match input {
                    InputRecord::Object(text) => ToolInput::Object(arc(&text)),
                    InputRecord::Invalid(text) => ToolInput::Invalid(arc(&text)),
                },
            }),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinishRecord<'a> {
    #[serde(borrow)]
    stop: StopRecord<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<UsageRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    served_by: Option<Text<ModelId>>,
}

impl<'a> FinishRecord<'a> {
    pub(super) fn of(finish: &'a ModelFinish) -> Self {
        Self {
            stop: StopRecord::of(&finish.stop),
            usage: finish.usage.as_ref().map(UsageRecord::of),
            served_by: finish.served_by.clone().map(Text),
        }
    }

    pub(super) fn restore(self) -> ModelFinish {
        ModelFinish {
            stop: self.stop.restore(),
            usage: self.usage.map(UsageRecord::restore),
            served_by: self.served_by.map(|model| model.0),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StopRecord<'a> {
    EndTurn {},
    ToolUse {},
    MaxTokens {},
    StopSequence {},
    PauseTurn {},
    Refusal {
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        category: Option<Cow<'a, str>>,
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        explanation: Option<Cow<'a, str>>,
    },
    ContextWindowExceeded {},
    Other {
        #[serde(borrow)]
        reason: Cow<'a, str>,
    },
}

impl<'a> StopRecord<'a> {
    fn of(stop: &'a StopReason) -> Self {
        match stop {
            StopReason::EndTurn => Self::EndTurn {},
            StopReason::ToolUse => Self::ToolUse {},
            StopReason::MaxTokens => Self::MaxTokens {},
            StopReason::StopSequence => Self::StopSequence {},
            StopReason::PauseTurn => Self::PauseTurn {},
            StopReason::Refusal {
                category,
                explanation,
            } => Self::Refusal {
                category: optional_cow(category.as_ref()),
                explanation: optional_cow(explanation.as_ref()),
            },
            StopReason::ContextWindowExceeded => Self::ContextWindowExceeded {},
            StopReason::Other(reason) => Self::Other {
                reason: Cow::Borrowed(reason),
            },
        }
    }

    fn restore(self) -> StopReason {
        match self {
            Self::EndTurn {} => StopReason::EndTurn,
            Self::ToolUse {} => StopReason::ToolUse,
            Self::MaxTokens {} => StopReason::MaxTokens,
            Self::StopSequence {} => StopReason::StopSequence,
            Self::PauseTurn {} => StopReason::PauseTurn,
            Self::Refusal {
                category,
                explanation,
            } => StopReason::Refusal {
                category: optional_arc(category.as_ref()),
                explanation: optional_arc(explanation.as_ref()),
            },
            Self::ContextWindowExceeded {} => StopReason::ContextWindowExceeded,
            Self::Other { reason } => StopReason::Other(arc(&reason)),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailureRecord<'a> {
    kind: Word<ModelFailureKind>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    billing: BillingRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    should_retry: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    request_id: Option<Cow<'a, str>>,
}

impl<'a> FailureRecord<'a> {
    pub(super) fn of(failure: &'a ModelFailure) -> Self {
        Self {
            kind: Word(failure.kind),
            message: Cow::Borrowed(&failure.message),
            billing: BillingRecord::of(&failure.billing),
            retry_after: failure.retry_after.map(Span::of),
            should_retry: failure.should_retry,
            status: failure.status,
            request_id: optional_cow(failure.request_id.as_ref()),
        }
    }

    pub(super) fn restore(self) -> Result<ModelFailure, JournalError> {
        Ok(ModelFailure {
            kind: self.kind.0,
            message: arc(&self.message),
            billing: self.billing.restore(),
            retry_after: self.retry_after.map(Span::restore).transpose()?,
            should_retry: self.should_retry,
            status: self.status,
            request_id: optional_arc(self.request_id.as_ref()),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum BillingRecord {
    NotBilled {},
    Unknown {},
    Known(UsageRecord),
}

impl BillingRecord {
    const fn of(billing: &Billing) -> Self {
        match billing {
            Billing::NotBilled => Self::NotBilled {},
            Billing::Unknown => Self::Unknown {},
            Billing::Known(usage) => Self::Known(UsageRecord::of(usage)),
        }
    }

    const fn restore(self) -> Billing {
        match self {
            Self::NotBilled {} => Billing::NotBilled,
            Self::Unknown {} => Billing::Unknown,
            Self::Known(usage) => Billing::Known(usage.restore()),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolResultRecord<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    ending: Word<ToolEnding>,
    duration: Span,
}

impl<'a> ToolResultRecord<'a> {
    pub(super) fn of(result: &'a ToolResult) -> Self {
        Self {
            content: Cow::Borrowed(&result.content),
            ending: Word(result.ending),
            duration: Span::of(result.duration),
        }
    }

    pub(super) fn restore(self) -> Result<ToolResult, JournalError> {
        Ok(ToolResult {
            content: arc(&self.content),
            ending: self.ending.0,
            duration: self.duration.restore()?,
        })
    }
}
