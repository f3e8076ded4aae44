//! One turn: the draft of a reply while it streams, and the tool calls it asks for.
//!
//! A turn is a draft until its stream ends; nothing of it enters the history before. This file holds the
//! bookkeeping; the decisions on what a turn leads to are in `machine.rs`.
//!
//! Invariant: every call of a turn ends up with exactly one result, in the order of the calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ToolCallId;
use crate::id::{EffectId, ReservationId};
use crate::invocation::{
    InvocationSpec, SideEffects, ToolEnding, ToolFacts, ToolRequest, ToolResult,
};
use crate::message::{
    AssistantMessage, Block, BlockView, Message, ToolCallBlock, ToolCallName, ToolInput,
    ToolResultBlock, UserBlock,
};

/// A call that was started and has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCall {
    /// The call.
    pub call: ToolCallId,
    /// The tool.
    pub tool: Arc<str>,
    /// Its input: a JSON object as text, as the journal keeps it.
    pub input: Arc<str>,
}

/// A reply and its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// The `CallModel` effect.
    pub(super) call_model: EffectId,
    /// The hold it runs under.
    pub(super) reservation: ReservationId,
    /// The most output tokens the reply can have been billed for.
    pub(super) max_output_tokens: u64,
    /// It is no turn but a summary: what stands before this position of the history is to be replaced.
    pub(super) summarizes: Option<usize>,
    blocks: BTreeMap<u32, Arc<Block>>,
    calls: BTreeMap<u32, Call>,
    /// A block arrived, kept or not.
    has_output: bool,
    has_dropped_call: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    id: ToolCallId,
    tool: Arc<str>,
    input: Arc<str>,
    side_effects: SideEffects,
    confirmed: bool,
    /// It was started at least once; a turn with such a call is never sent again.
    started: bool,
    state: CallState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CallState {
    Waiting,
    Running(EffectId),
    Done { content: Arc<str>, is_error: bool },
}

/// A call that was answered, for the repetition check.
pub(super) struct Answered<'a> {
    pub(super) tool: &'a Arc<str>,
    pub(super) input: &'a str,
    pub(super) content: &'a str,
    pub(super) is_error: bool,
}

/// BOUND: how much of an invalid input is quoted back to the model.
const QUOTED_INPUT_CHARS: usize = 2_000;

impl Turn {
    pub(super) fn new(
        call_model: EffectId,
        reservation: ReservationId,
        max_output_tokens: u64,
        summarizes: Option<usize>,
    ) -> Self {
        Self {
            call_model,
            reservation,
            max_output_tokens,
            summarizes,
            blocks: BTreeMap::new(),
            calls: BTreeMap::new(),
            has_output: false,
            has_dropped_call: false,
        }
    }

    /// Takes a complete block into the draft. A call that cannot run is answered at once.
    ///
    /// A tool call whose id was `seen` before is dropped, with its block: a provider requires ids to be
    /// unique in a request, and a repeated id would wedge the history for good. A text without content is
    /// dropped for the same reason: providers make such blocks and refuse to take them back.
    pub(super) fn receive_block(
        &mut self,
        index: u32,
        block: Arc<Block>,
        spec: &InvocationSpec,
        seen: impl Fn(&ToolCallId) -> bool,
    ) {
        if self.blocks.contains_key(&index) {
            return;
        }
        self.has_output = true;
        match &block.view {
            // A summary was asked for: what it calls is not run and not kept.
            BlockView::ToolCall(_) if self.summarizes.is_some() => return,
            BlockView::ToolCall(call) => {
                if seen(&call.id) || self.calls.values().any(|known| known.id == call.id) {
                    self.has_dropped_call = true;
                    return;
                }
                self.calls.insert(index, Call::new(call, spec));
            }
            BlockView::Text(text) if text.trim().is_empty() => return,
            BlockView::Text(_) | BlockView::Thinking(_) | BlockView::Opaque => {}
        }
        self.blocks.insert(index, block);
    }

    /// The stream has proven the call at `index` whole.
    pub(super) fn confirm(&mut self, index: u32) {
        if let Some(call) = self.calls.get_mut(&index) {
            call.confirmed = true;
        }
    }

    pub(super) fn confirm_all(&mut self) {
        for call in self.calls.values_mut() {
            call.confirmed = true;
        }
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    pub(super) fn has_blocks(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Whether the provider must have billed output, whatever was kept of it.
    pub(super) const fn has_output(&self) -> bool {
        self.has_output
    }

    /// Whether a call was dropped because its id was used before.
    pub(super) const fn has_dropped_call(&self) -> bool {
        self.has_dropped_call
    }

    /// Whether a call of the reply was started: then it is never asked for again.
    pub(super) fn has_started_calls(&self) -> bool {
        self.calls.values().any(|call| call.started)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.calls
            .values()
            .all(|call| matches!(call.state, CallState::Done { .. }))
    }

    /// The text of the reply.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for block in self.blocks.values() {
            if let BlockView::Text(part) = &block.view {
                text.push_str(part);
            }
        }
        text
    }

    /// The next call that may start now, marked as running under `effect`.
    ///
    /// Looking calls run side by side. A call with side effects is a barrier: it runs alone, after every call
    /// before it, and every call after it waits for it, so that the results are those of running them in order.
    /// It also waits for its confirmation; a looking call may start on a complete but unconfirmed block.
    pub(super) fn start_next(&mut self, parallel: u32, effect: EffectId) -> Option<ToolRequest> {
        let running = self.running().count();
        let acting = self.calls.values().any(Call::is_acting);
        // A limit of none would wait for ever.
        if acting || running >= parallel.max(1) as usize {
            return None;
        }
        for call in self.calls.values_mut() {
            match (&call.state, call.side_effects) {
                (CallState::Done { .. } | CallState::Running(_), _) => {}
                (CallState::Waiting, SideEffects::Some) if running > 0 || !call.confirmed => {
                    return None;
                }
                (CallState::Waiting, _) => {
                    call.state = CallState::Running(effect);
                    call.started = true;
                    return Some(call.request());
                }
            }
        }
        None
    }

    pub(super) fn running(&self) -> impl Iterator<Item = EffectId> {
        self.calls.values().filter_map(|call| match call.state {
            CallState::Running(effect) => Some(effect),
            CallState::Waiting | CallState::Done { .. } => None,
        })
    }

    /// Books the result of the call running under `effect`; returns its tool, or `None` if none does.
    pub(super) fn finish_call(
        &mut self,
        effect: EffectId,
        result: &ToolResult,
    ) -> Option<Arc<str>> {
        let call = self
            .calls
            .values_mut()
            .find(|call| call.state == CallState::Running(effect))?;
        call.state = CallState::Done {
            content: result.content.clone(),
            is_error: result.ending != ToolEnding::Succeeded,
        };
        Some(call.tool.clone())
    }

    /// Answers every unconfirmed call with an error and returns the effects of those that were running
    /// speculatively.
    pub(super) fn answer_unconfirmed(&mut self, why: &str) -> Vec<EffectId> {
        self.answer_where(|call| !call.confirmed, why)
    }

    /// Answers every call that is not done; returns the effects of those that were running.
    pub(super) fn answer_open(&mut self, why: &str) -> Vec<EffectId> {
        self.answer_where(|_| true, why)
    }

    /// Answers every call that has not begun.
    pub(super) fn answer_waiting(&mut self, why: &str) {
        self.answer_where(|call| call.state == CallState::Waiting, why);
    }

    fn answer_where(&mut self, which: impl Fn(&Call) -> bool, why: &str) -> Vec<EffectId> {
        let mut running = Vec::new();
        for call in self.calls.values_mut() {
            let is_done = matches!(call.state, CallState::Done { .. });
            if is_done || !which(call) {
                continue;
            }
            if let CallState::Running(effect) = call.state {
                running.push(effect);
            }
            call.state = CallState::Done {
                content: Arc::from(why),
                is_error: true,
            };
        }
        running
    }

    /// After a crash, or another loss of sight: decides on each running call by `fate`.
    pub(super) fn resolve_running(&mut self, mut fate: impl FnMut(&str) -> CallFate) {
        for call in self.calls.values_mut() {
            if !matches!(call.state, CallState::Running(_)) {
                continue;
            }
            call.state = match fate(&call.tool) {
                CallFate::RunAgain => CallState::Waiting,
                CallFate::Answer(text) => CallState::Done {
                    content: Arc::from(text),
                    is_error: true,
                },
                CallFate::Succeeded(text) => CallState::Done {
                    content: Arc::from(text),
                    is_error: false,
                },
            };
        }
    }

    /// The tools of the running calls.
    pub(super) fn running_tools(&self) -> impl Iterator<Item = &str> {
        self.calls
            .values()
            .filter(|call| matches!(call.state, CallState::Running(_)))
            .map(|call| call.tool.as_ref())
    }

    /// The running calls, in order.
    pub(super) fn open_calls(&self) -> impl Iterator<Item = OpenCall> {
        self.calls
            .values()
            .filter(|call| matches!(call.state, CallState::Running(_)))
            .map(|call| OpenCall {
                call: call.id.clone(),
                tool: call.tool.clone(),
                input: call.input.clone(),
            })
    }

    /// Cuts the draft to its whole blocks up to the last call that was started.
    ///
    /// What stands after that call was never acted on. What stands before it was started as well, but for calls
    /// that came out of order and were never confirmed: those are answered and not run.
    pub(super) fn cut_after_last_started(&mut self) {
        let last = self
            .calls
            .iter()
            .rev()
            .find(|(_, call)| call.started)
            .map(|(index, _)| *index);
        let Some(last) = last else {
            self.blocks.clear();
            self.calls.clear();
            return;
        };
        self.blocks.retain(|index, _| *index <= last);
        self.calls.retain(|index, _| *index <= last);
        let unproven = |call: &Call| call.state == CallState::Waiting && !call.confirmed;
        self.answer_where(
            unproven,
            "The call was not run: the reply broke off before it was known to be complete.",
        );
    }

    /// The reply as it enters the history; `None` when it is empty.
    pub(super) fn assistant_message(&self, output_tokens_bound: u64) -> Option<Message> {
        if self.blocks.is_empty() {
            return None;
        }
        Some(Message::Assistant(AssistantMessage {
            blocks: self.blocks.values().cloned().collect(),
            output_tokens_bound,
        }))
    }

    /// Exactly one result per call, in order.
    pub(super) fn results(&self) -> Vec<UserBlock> {
        let results = self.calls.values().map(|call| {
            let (content, is_error) = match &call.state {
                CallState::Done { content, is_error } => (content.clone(), *is_error),
                CallState::Waiting | CallState::Running(_) => {
                    debug_assert!(false, "results are taken only when every call is answered");
                    (Arc::from("not run"), true)
                }
            };
            UserBlock::ToolResult(ToolResultBlock {
                call: call.id.clone(),
                content,
                is_error,
            })
        });
        results.collect()
    }

    pub(super) fn answered(&self) -> impl Iterator<Item = Answered<'_>> {
        self.calls.values().filter_map(|call| match &call.state {
            CallState::Done { content, is_error } => Some(Answered {
                tool: &call.tool,
                input: &call.input,
                content,
                is_error: *is_error,
            }),
            CallState::Waiting | CallState::Running(_) => None,
        })
    }
}

/// What becomes of a call whose end nobody saw.
pub(super) enum CallFate {
    RunAgain,
    /// An error that says this.
    Answer(&'static str),
    /// A success that says this.
    Succeeded(&'static str),
}

impl Call {
    fn new(block: &ToolCallBlock, spec: &InvocationSpec) -> Self {
        let facts: Option<&ToolFacts> = match &block.tool {
            ToolCallName::Known(name) => spec.tools.iter().find(|tool| tool.name == *name),
            ToolCallName::Unknown(_) => None,
        };
        let state = match (&block.input, facts) {
            (_, None) => CallState::Done {
                content: unknown_tool(block.tool.as_str(), spec),
                is_error: true,
            },
            (ToolInput::Invalid(raw), Some(_)) => CallState::Done {
                content: invalid_input(raw),
                is_error: true,
            },
            (ToolInput::Object(_), Some(_)) => CallState::Waiting,
        };
        let (ToolInput::Object(input) | ToolInput::Invalid(input)) = &block.input;
        Self {
            id: block.id.clone(),
            tool: Arc::from(block.tool.as_str()),
            input: input.clone(),
            side_effects: facts.map_or(SideEffects::None, |tool| tool.side_effects),
            confirmed: false,
            started: false,
            state,
        }
    }

    fn is_acting(&self) -> bool {
        self.side_effects == SideEffects::Some && matches!(self.state, CallState::Running(_))
    }

    fn request(&self) -> ToolRequest {
        ToolRequest {
            call: self.id.clone(),
            tool: crate::ToolName::new(&self.tool)
                .expect("a call waits only if its tool is in the spec"),
            input: self.input.clone(),
            side_effects: self.side_effects,
        }
    }
}

fn unknown_tool(name: &str, spec: &InvocationSpec) -> Arc<str> {
    let names: Vec<&str> = spec.tools.iter().map(|tool| tool.name.as_str()).collect();
    let name: String = name.chars().take(100).collect();
    let offered = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Arc::from(format!(
        "There is no tool `{name}` here. Tools you can call: {offered}."
    ))
}

fn invalid_input(raw: &str) -> Arc<str> {
    let quoted: String = raw.chars().take(QUOTED_INPUT_CHARS).collect();
    Arc::from(format!(
        "The call was not run: its input is not a JSON object. Send the call again with valid JSON. \
         INVALID_JSON: {quoted}"
    ))
}
