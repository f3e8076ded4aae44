//! The state machine of one reply: parsed events in, model events out.
//!
//! The order it demands is `message_start`, then blocks (`start`, `delta`s, `stop`), then `message_delta`s,
//! then `message_stop`. Blocks are told apart by their index alone, so interleaved ones come out right.
//! Whatever breaks the order, repeats a step or carries the wrong shape is a protocol error and ends the
//! reply; unknown event types, delta types and block types do not.
//!
//! Invariant: a tool call is confirmed only after a later block began or the stream said that it stopped for
//! tools; nothing is confirmed that is not closed.

use std::collections::VecDeque;
use std::sync::Arc;

use otto_core::invocation::{Billing, ModelFailure, ModelFailureKind, ModelFinish, StopReason};
use otto_core::message::ToolCallName;
use otto_core::model::Usage;
use otto_core::port::llm_client::ModelEvent;
use otto_core::{ModelId, ToolCallId};

use crate::codec::block::OpenBlock;
use crate::codec::decode::DecodeContext;
use crate::codec::sse::SseEvent;
use crate::codec::usage::UsageMeter;
use crate::codec::wire::{Delta, ErrorBody, Event, Head, MessageStart, StopDetails, lenient};
use crate::failure;

/// Most blocks of one reply.
// BOUND: a block costs several output tokens; ten times what a long agent turn has.
pub const MAX_BLOCKS: usize = 1_024;

/// Most bytes of output that one token stands for, in both directions: more output than this for the tokens
/// asked means that the limit is not kept, fewer tokens than this for the output that the count is wrong.
///
/// Source: the longest tokens of published vocabularies are runs of 128 blanks.
pub const MAX_BYTES_PER_TOKEN: u64 = 128;

/// Most bytes kept of one reply.
// BOUND: the largest request the vendor accepts; a bigger reply could not be sent back.
pub const MAX_REPLY_BYTES: u64 = 32 * 1024 * 1024;

/// Longest text taken from the provider into a stop reason.
const MAX_REASON_CHARS: usize = 2_000;

/// Why a reply cannot go on.
#[derive(Debug)]
pub(super) struct Broken {
    pub kind: ModelFailureKind,
    pub message: String,
    pub request_id: Option<String>,
}

impl Broken {
    pub(super) fn protocol(message: String) -> Self {
        Self {
            kind: ModelFailureKind::Protocol,
            message,
            request_id: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before `message_start`.
    Waiting,
    /// Blocks come.
    Content,
    /// After the first `message_delta`.
    Ending,
    /// The last event is out.
    Done,
}

/// The reply so far.
#[derive(Debug)]
pub(super) struct Reply {
    context: DecodeContext,
    phase: Phase,
    open: Vec<OpenBlock>,
    /// Indexes of closed blocks.
    closed: Vec<u32>,
    /// Tool calls that are closed and not yet confirmed.
    unconfirmed: Vec<u32>,
    call_ids: Vec<ToolCallId>,
    /// Open repetitions of a call id: they are left out of the reply.
    left_out: Vec<u32>,
    /// Another model took over; then only the end of the stream confirms a call.
    saw_fallback: bool,
    usage: UsageMeter,
    stop: Option<StopReason>,
    served_by: Option<ModelId>,
    output_bytes: u64,
    kept_bytes: u64,
    progress: u64,
}

impl Reply {
    pub(super) fn new(context: DecodeContext) -> Self {
        let usage = UsageMeter::new(context.surcharged);
        Self {
            context,
            phase: Phase::Waiting,
            open: Vec::new(),
            closed: Vec::new(),
            unconfirmed: Vec::new(),
            call_ids: Vec::new(),
            left_out: Vec::new(),
            saw_fallback: false,
            usage,
            stop: None,
            served_by: None,
            output_bytes: 0,
            kept_bytes: 0,
            progress: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether `message_start` has come.
    pub(super) fn has_started(&self) -> bool {
        self.phase != Phase::Waiting
    }

    /// Whether the end of the stream would be a proper end now.
    pub(super) fn is_complete(&self) -> bool {
        self.phase == Phase::Ending && self.stop.is_some()
    }

    /// Counts what moved the reply forward. Pings and skipped events do not.
    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether a thinking block is open, in which long silence is normal.
    pub(super) fn is_thinking(&self) -> bool {
        self.open.iter().any(OpenBlock::is_thinking)
    }

    /// Takes one event of the stream.
    pub(super) fn event(
        &mut self,
        event: SseEvent<'_>,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), Broken> {
        if event.data.is_empty() {
            return Ok(());
        }
        // Once for all of its strings; a character cut in two by the network is whole here.
        let Ok(data) = std::str::from_utf8(event.data) else {
            return Err(Broken::protocol("an event is not UTF-8".to_owned()));
        };
        let parsed: Event<'_> = match serde_json::from_str(data) {
            Ok(parsed) => parsed,
            Err(error) => return unreadable(event, data, &error),
        };
        let kind = kind_of(parsed.kind.as_ref().map(|kind| kind.as_str()), event)?;
        match kind {
            "content_block_delta" => self.grow(parsed_index(&parsed, kind)?, parsed.delta, out),
            "content_block_start" => self.open(&parsed, out),
            "content_block_stop" => self.close(parsed_index(&parsed, kind)?, out),
            "message_start" => self.start(&parsed, out),
            "message_delta" => self.end_content(&parsed, out),
            "message_stop" => self.stop(out),
            "error" => Err(provider_error(data)),
            // `ping`, and whatever the vendor adds.
            _ => Ok(()),
        }
    }

    fn start(&mut self, event: &Event<'_>, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        if self.phase != Phase::Waiting {
            return Err(Broken::protocol(
                "the reply began twice (`message_start`)".to_owned(),
            ));
        }
        let message = event.message.map_or("null", |raw| raw.get());
        let message: MessageStart<'_> = serde_json::from_str(message).map_err(|error| {
            Broken::protocol(format!("`message_start` has no usable message: {error}"))
        })?;
        self.usage.start(message.usage);
        self.served_by = ModelId::new(message.model.as_str()).ok();
        if self.served_by.is_none() {
            self.usage.distrust();
        }
        self.phase = Phase::Content;
        self.progress += 1;
        out.push_back(ModelEvent::Started {
            model: bounded(message.model.as_str()),
            usage: self.usage.so_far(),
            request_id: self.context.request_id.clone(),
        });
        Ok(())
    }

    fn open(&mut self, event: &Event<'_>, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let index = parsed_index(event, "content_block_start")?;
        self.expect_content("content_block_start")?;
        if self.open.len() + self.closed.len() + self.left_out.len() >= MAX_BLOCKS
            || index as usize >= MAX_BLOCKS
        {
            return Err(Broken::protocol(format!(
                "the reply has more than {MAX_BLOCKS} blocks"
            )));
        }
        let is_open =
            self.open.iter().any(|block| block.index == index) || self.left_out.contains(&index);
        if is_open || self.closed.contains(&index) {
            return Err(Broken::protocol(format!("block {index} began twice")));
        }
        let Some(raw) = event.content_block else {
            return Err(Broken::protocol(format!(
                "block {index} begins without a block"
            )));
        };
        let block = OpenBlock::open(index, raw, &self.context.tools)?;
        self.count_bytes(block.initial_output_bytes(), raw.get().len())?;
        self.progress += 1;
        if block.is_fallback() {
            self.saw_fallback = true;
            self.usage.distrust();
        } else if !self.saw_fallback {
            self.confirm_all(out);
        }
        if let Some((id, tool)) = block.tool_call() {
            if self.call_ids.contains(id) {
                // Two calls of one id cannot be answered or sent back: the first one counts.
                self.left_out.push(index);
                return Ok(());
            }
            self.call_ids.push(id.clone());
            let tool = match tool {
                ToolCallName::Known(name) => Arc::from(name.as_str()),
                ToolCallName::Unknown(text) => text.clone(),
            };
            out.push_back(ModelEvent::ToolCallStarted {
                index,
                id: id.clone(),
                tool,
            });
        }
        self.open.push(block);
        Ok(())
    }

    fn grow(
        &mut self,
        index: u32,
        delta: Option<Delta<'_>>,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), Broken> {
        self.expect_content("content_block_delta")?;
        // The last one opened is nearly always the one that grows.
        let Some(block) = self
            .open
            .iter_mut()
            .rev()
            .find(|block| block.index == index)
        else {
            if self.left_out.contains(&index) {
                return Ok(());
            }
            return Err(Broken::protocol(format!(
                "a delta came for block {index}, which is not open"
            )));
        };
        let Some(delta) = delta else {
            return Err(Broken::protocol(format!(
                "a delta of block {index} is empty"
            )));
        };
        let grown = block.grow(delta)?;
        self.count_bytes(grown.output_bytes, grown.kept_bytes)?;
        if grown.kept_bytes > 0 {
            self.progress += 1;
        }
        out.extend(grown.event);
        Ok(())
    }

    fn close(&mut self, index: u32, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        self.expect_content("content_block_stop")?;
        self.progress += 1;
        if let Some(at) = self.left_out.iter().position(|known| *known == index) {
            self.left_out.swap_remove(at);
            self.closed.push(index);
            return Ok(());
        }
        let Some(at) = self.open.iter().position(|block| block.index == index) else {
            return Err(Broken::protocol(format!(
                "block {index} stopped without being open"
            )));
        };
        let block = self.open.remove(at);
        let is_call = block.tool_call().is_some();
        let block = Arc::new(block.finish()?);
        self.closed.push(index);
        out.push_back(ModelEvent::BlockFinished { index, block });
        if is_call {
            self.unconfirmed.push(index);
        }
        Ok(())
    }

    fn end_content(
        &mut self,
        event: &Event<'_>,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), Broken> {
        if !matches!(self.phase, Phase::Content | Phase::Ending) {
            return Err(Broken::protocol(
                "`message_delta` came before `message_start`".to_owned(),
            ));
        }
        if let Some(index) = self
            .open
            .first()
            .map(|block| block.index)
            .or(self.left_out.first().copied())
        {
            return Err(Broken::protocol(format!(
                "the reply ended while block {index} was open"
            )));
        }
        self.phase = Phase::Ending;
        self.progress += 1;
        self.usage.delta(event.usage);
        let Some(reason) = event
            .delta
            .as_ref()
            .and_then(|delta| delta.stop_reason.as_ref())
        else {
            return Ok(());
        };
        let details = event
            .delta
            .as_ref()
            .and_then(|delta| lenient(delta.stop_details));
        let stop = stop_reason(reason.as_str(), details.unwrap_or_default());
        match &self.stop {
            Some(known) if *known != stop => {
                return Err(Broken::protocol(
                    "the reply gave two different stop reasons".to_owned(),
                ));
            }
            Some(_) => {}
            None => {
                if stop == StopReason::ToolUse && !self.saw_fallback {
                    self.confirm_all(out);
                }
                self.stop = Some(stop);
            }
        }
        Ok(())
    }

    fn stop(&mut self, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        if self.phase != Phase::Ending {
            return Err(Broken::protocol(
                "`message_stop` came before `message_delta`".to_owned(),
            ));
        }
        self.finish(out);
        Ok(())
    }

    /// Ends the reply properly. Only after the first `message_delta`.
    pub(super) fn finish(&mut self, out: &mut VecDeque<ModelEvent>) {
        // A stop reason that never came is as unknown as one that nobody knows.
        let stop = self
            .stop
            .take()
            .unwrap_or_else(|| StopReason::Other("none given".into()));
        if stop == StopReason::ToolUse {
            self.confirm_all(out);
        }
        let usage = self.usage.finished(self.output_bytes);
        self.phase = Phase::Done;
        out.push_back(ModelEvent::Finished(ModelFinish {
            stop,
            usage,
            served_by: self.served_by.take(),
        }));
    }

    /// Ends the reply with a failure.
    pub(super) fn fail(&mut self, broken: Broken, out: &mut VecDeque<ModelEvent>) {
        // Only after its stop reason is a reply's usage final.
        let usage: Option<Usage> = self
            .stop
            .is_some()
            .then(|| self.usage.finished(self.output_bytes))
            .flatten();
        self.phase = Phase::Done;
        let request_id = broken
            .request_id
            .map(Arc::from)
            .or_else(|| self.context.request_id.clone());
        out.push_back(ModelEvent::Failed(ModelFailure {
            kind: broken.kind,
            message: broken.message.into(),
            billing: usage.map_or(Billing::Unknown, Billing::Known),
            retry_after: None,
            should_retry: None,
            status: Some(200),
            request_id,
        }));
    }

    fn confirm_all(&mut self, out: &mut VecDeque<ModelEvent>) {
        out.extend(
            self.unconfirmed
                .drain(..)
                .map(|index| ModelEvent::ToolCallConfirmed { index }),
        );
    }

    fn expect_content(&self, kind: &str) -> Result<(), Broken> {
        match self.phase {
            Phase::Content => Ok(()),
            Phase::Waiting => Err(Broken::protocol(format!(
                "`{kind}` came before `message_start`"
            ))),
            Phase::Ending | Phase::Done => Err(Broken::protocol(format!(
                "`{kind}` came after `message_delta`"
            ))),
        }
    }

    /// Adds to the counters and checks them against what the call may produce.
    fn count_bytes(&mut self, output: usize, kept: usize) -> Result<(), Broken> {
        self.output_bytes = self.output_bytes.saturating_add(output as u64);
        self.kept_bytes = self.kept_bytes.saturating_add(kept as u64);
        let tokens = self.context.max_output_tokens;
        if self.output_bytes > tokens.saturating_mul(MAX_BYTES_PER_TOKEN) {
            return Err(Broken::protocol(format!(
                "the reply is longer than {tokens} output tokens can be"
            )));
        }
        if self.kept_bytes > MAX_REPLY_BYTES {
            return Err(Broken::protocol(format!(
                "the reply is longer than {MAX_REPLY_BYTES} bytes"
            )));
        }
        Ok(())
    }
}

/// The event's type: its data decides, its name must not disagree. A nameless type is taken from the name
/// only for errors, which gateways write that way.
fn kind_of<'e>(in_data: Option<&'e str>, event: SseEvent<'e>) -> Result<&'e str, Broken> {
    match in_data {
        None if event.name == b"error" => Ok("error"),
        None => Err(Broken::protocol("an event has no type".to_owned())),
        Some(kind) if event.name.is_empty() || event.name == kind.as_bytes() => Ok(kind),
        Some(kind) => Err(Broken::protocol(format!(
            "an event named `{}` holds data of type `{}`",
            bounded(&String::from_utf8_lossy(event.name)),
            bounded(kind)
        ))),
    }
}

/// Decides about an event that does not fit the known shape: an error if its type is known, else skipped.
fn unreadable(event: SseEvent<'_>, data: &str, error: &serde_json::Error) -> Result<(), Broken> {
    let broken = |what: &str| Err(Broken::protocol(format!("{what} is malformed: {error}")));
    let Ok(head) = serde_json::from_str::<Head<'_>>(data) else {
        return broken("an event");
    };
    match kind_of(head.kind.as_ref().map(|kind| kind.as_str()), event)? {
        "error" => Err(provider_error(data)),
        "content_block_delta" => {
            let delta: Option<Head<'_>> = lenient(head.delta);
            match delta
                .and_then(|delta| delta.kind)
                .as_ref()
                .map(|kind| kind.as_str())
            {
                Some(
                    "text_delta" | "thinking_delta" | "input_json_delta" | "signature_delta"
                    | "citations_delta",
                )
                | None => broken("`content_block_delta`"),
                Some(_) => Ok(()),
            }
        }
        kind @ ("message_start"
        | "content_block_start"
        | "content_block_stop"
        | "message_delta"
        | "message_stop") => broken(&format!("`{kind}`")),
        _ => Ok(()),
    }
}

fn parsed_index(event: &Event<'_>, kind: &str) -> Result<u32, Broken> {
    event
        .index
        .ok_or_else(|| Broken::protocol(format!("`{kind}` has no index")))
}

/// The failure that an `error` event announces.
fn provider_error(data: &str) -> Broken {
    let body = ErrorBody::read(data.as_bytes()).unwrap_or_default();
    let kind = failure::classify_in_stream(&body);
    let name = body.kind.as_deref().unwrap_or("an error of no type");
    let text = body.message.as_deref().unwrap_or("no message");
    Broken {
        kind,
        message: format!("the provider ended the reply with {name}: {text}"),
        request_id: body.request_id,
    }
}

fn stop_reason(reason: &str, details: StopDetails<'_>) -> StopReason {
    match reason {
        "end_turn" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::MaxTokens,
        "stop_sequence" => StopReason::StopSequence,
        "pause_turn" => StopReason::PauseTurn,
        "model_context_window_exceeded" => StopReason::ContextWindowExceeded,
        "refusal" => StopReason::Refusal {
            category: details.category.map(|text| bounded(text.as_str())),
            explanation: details.explanation.map(|text| bounded(text.as_str())),
        },
        other => StopReason::Other(bounded(other)),
    }
}

/// The beginning of a text from the provider.
fn bounded(text: &str) -> Arc<str> {
    match text.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => text[..end].into(),
        None => text.into(),
    }
}
