//! What the fake model says: the content of one reply, before it is streamed.
//!
//! The model works through the number of turns it wants and then ends with a text. Faults make it do what
//! models do: wrong names, broken inputs, repeated ids, replies that are cut, refused, paused or empty.

use std::sync::Arc;

use otto_core::compaction::replaced_replies;
use otto_core::invocation::{SideEffects, StopReason};
use otto_core::message::{
    Block, BlockView, Message, ToolCallBlock, ToolCallName, ToolInput, UserBlock,
};
use otto_core::{ToolCallId, ToolName};

use crate::chance::Draw;
use crate::faults::{FaultKind, Faults};
use crate::world::TOOLS;

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) parts: Vec<Part>,
    pub(crate) stop: StopReason,
    pub(crate) output_tokens: u64,
}

/// One block of a reply.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) block: Arc<Block>,
    pub(crate) tokens: u64,
    /// For a call: what is true of it.
    pub(crate) call: Option<CallFacts>,
}

/// What is true of a call, known to the one who made it up.
#[derive(Debug, Clone)]
pub(crate) struct CallFacts {
    pub(crate) id: ToolCallId,
    pub(crate) tool: Arc<str>,
    pub(crate) input: Arc<str>,
    /// The tool exists and the input is an object.
    pub(crate) is_runnable: bool,
    /// Nothing of the call was cut off.
    pub(crate) is_whole: bool,
    pub(crate) side_effects: SideEffects,
}

/// What the model is asked.
pub(crate) struct Asked<'a> {
    pub(crate) history: &'a [Arc<Message>],
    pub(crate) turns_wanted: u32,
    /// The most output it may make.
    pub(crate) max_output_tokens: u64,
    /// What is left of the window.
    pub(crate) window_left: u64,
    /// Makes raw forms and ids unique.
    pub(crate) number: u64,
}

pub(crate) fn compose(asked: &Asked<'_>, draw: &mut Draw, faults: &mut Faults) -> Reply {
    let with_calls = |message: &&Arc<Message>| message.tool_calls().next().is_some();
    let turns = asked.history.iter().filter(with_calls).count() + replaced(asked.history);
    let mut maker = Maker { asked, made: 0 };
    let mut parts = Vec::new();
    if draw.happens(300) {
        parts.push(maker.thinking(draw));
    }
    if draw.happens(500) {
        parts.push(maker.text(draw));
    }
    let mut stop = StopReason::EndTurn;
    if turns < asked.turns_wanted as usize && !faults.strikes(FaultKind::Pause, draw) {
        stop = StopReason::ToolUse;
        for _ in 0..draw.between(1, 4) {
            let call = maker.call(&parts, draw, faults);
            parts.push(call);
            if draw.happens(100) {
                parts.push(maker.text(draw));
            }
        }
    } else if turns < asked.turns_wanted as usize {
        stop = StopReason::PauseTurn;
        parts.push(maker.opaque(draw));
    } else {
        parts.push(maker.text(draw));
        if draw.happens(100) {
            stop = StopReason::StopSequence;
        }
    }
    spoil(&mut maker, &mut parts, &mut stop, draw, faults);
    cut_to_fit(asked, parts, stop, draw)
}

/// How many replies the first message of a compacted history stands for.
fn replaced(history: &[Arc<Message>]) -> usize {
    match history.first().map(|first| &**first) {
        Some(Message::User(blocks)) => blocks.iter().find_map(|block| match block {
            UserBlock::Text(text) => replaced_replies(text),
            UserBlock::ToolResult(_) => None,
        }),
        Some(Message::Assistant(_)) | None => None,
    }
    .map_or(0, |count| count as usize)
}

/// Faults of the whole reply.
fn spoil(
    maker: &mut Maker<'_, '_>,
    parts: &mut Vec<Part>,
    stop: &mut StopReason,
    draw: &mut Draw,
    faults: &mut Faults,
) {
    if faults.strikes(FaultKind::EmptyText, draw) {
        let at = usize::try_from(draw.between(0, parts.len() as u64)).unwrap_or(0);
        parts.insert(at, maker.blank(draw));
    }
    if faults.strikes(FaultKind::LongReply, draw)
        && let Some(at) = (parts.len() as u64)
            .checked_sub(1)
            .map(|last| draw.between(0, last))
    {
        parts[usize::try_from(at).unwrap_or(0)].tokens += draw.between(500, 20_000);
    }
    if faults.strikes(FaultKind::EmptyReply, draw) {
        parts.clear();
        *stop = if draw.happens(700) {
            StopReason::EndTurn
        } else {
            stop.clone()
        };
    }
    if faults.strikes(FaultKind::WrongStop, draw) {
        *stop = match stop {
            StopReason::ToolUse => StopReason::EndTurn,
            _ => StopReason::ToolUse,
        };
    }
    if faults.strikes(FaultKind::Refusal, draw) {
        let category = draw.happens(500).then(|| Arc::from("cyber"));
        *stop = StopReason::Refusal {
            category,
            explanation: None,
        };
    }
    if faults.strikes(FaultKind::UnknownStop, draw) {
        *stop = StopReason::Other(Arc::from("novelty"));
    }
}

/// Cuts a reply where its output limit or the window is reached. The block that is cut is closed all the
/// same, and an input that was cut may still look whole.
fn cut_to_fit(asked: &Asked<'_>, parts: Vec<Part>, stop: StopReason, draw: &mut Draw) -> Reply {
    let allowed = asked.max_output_tokens.min(asked.window_left);
    let mut reply = Reply {
        parts: Vec::new(),
        stop,
        output_tokens: 0,
    };
    for mut part in parts {
        let left = allowed - reply.output_tokens;
        if part.tokens <= left {
            reply.output_tokens += part.tokens;
            reply.parts.push(part);
            continue;
        }
        reply.stop = if asked.window_left < asked.max_output_tokens {
            StopReason::ContextWindowExceeded
        } else {
            StopReason::MaxTokens
        };
        if left > 0 {
            part.tokens = left;
            reply.output_tokens += left;
            let part = cut_call(part, draw);
            reply.parts.push(part);
        }
        break;
    }
    // An empty reply takes a few tokens as well.
    reply.output_tokens = reply.output_tokens.max(2).min(allowed);
    reply
}

fn cut_call(mut part: Part, draw: &mut Draw) -> Part {
    let Some(facts) = &mut part.call else {
        return part;
    };
    facts.is_whole = false;
    let BlockView::ToolCall(call) = &part.block.view else {
        return part;
    };
    let input = match draw.below(3) {
        0 => ToolInput::Object(Arc::from("{}")),
        1 => call.input.clone(),
        _ => ToolInput::Invalid(Arc::from(format!(r#"{{"n": "{}"#, call.id))),
    };
    let (ToolInput::Object(text) | ToolInput::Invalid(text)) = &input;
    facts.input = text.clone();
    facts.is_runnable = matches!(
        (&call.tool, &input),
        (ToolCallName::Known(_), ToolInput::Object(_))
    );
    let view = BlockView::ToolCall(ToolCallBlock {
        input,
        ..call.clone()
    });
    part.block = Arc::new(Block {
        raw: part.block.raw.clone(),
        view,
    });
    part
}

/// Makes blocks that are all different.
struct Maker<'a, 'b> {
    asked: &'b Asked<'a>,
    made: u64,
}

impl Maker<'_, '_> {
    fn part(&mut self, kind: &str, tokens: u64, view: BlockView) -> Part {
        self.made += 1;
        let raw = format!(
            r#"{{"type":"{kind}","call":{},"part":{}}}"#,
            self.asked.number, self.made
        );
        Part {
            block: Arc::new(Block {
                raw: Arc::from(raw),
                view,
            }),
            tokens,
            call: None,
        }
    }

    fn text(&mut self, draw: &mut Draw) -> Part {
        let text = format!("Text {} of reply {}. ", self.made, self.asked.number);
        self.part(
            "text",
            draw.between(5, 120),
            BlockView::Text(Arc::from(text)),
        )
    }

    fn blank(&mut self, draw: &mut Draw) -> Part {
        let text = *draw.pick(&["", " ", "\n\n"]);
        self.part("text", 1, BlockView::Text(Arc::from(text)))
    }

    fn thinking(&mut self, draw: &mut Draw) -> Part {
        let text = if draw.happens(500) { "" } else { "Hm." };
        self.part(
            "thinking",
            draw.between(20, 400),
            BlockView::Thinking(Arc::from(text)),
        )
    }

    fn opaque(&mut self, draw: &mut Draw) -> Part {
        self.part("server_tool_use", draw.between(10, 80), BlockView::Opaque)
    }

    fn call(&mut self, earlier: &[Part], draw: &mut Draw, faults: &mut Faults) -> Part {
        let (tool, side_effects, _) = *draw.pick(TOOLS);
        let mut id = format!("toolu_{}_{}", self.asked.number, self.made);
        let mut input = format!(r#"{{"n":{}}}"#, self.asked.number * 100 + self.made);
        if faults.strikes(FaultKind::Loop, draw) {
            input = r#"{"n":0}"#.to_owned();
        }
        if faults.strikes(FaultKind::DoubledId, draw)
            && let Some(other) = self.other_id(earlier, draw)
        {
            id = other;
            // So that it can be told from the first.
            input = format!(
                r#"{{"n":{},"again":true}}"#,
                self.asked.number * 100 + self.made
            );
        }
        let unknown = faults.strikes(FaultKind::UnknownTool, draw);
        let invalid = faults.strikes(FaultKind::InvalidInput, draw);
        let input: Arc<str> = if invalid {
            Arc::from(&input[..input.len() - 1])
        } else {
            Arc::from(input)
        };
        let id = ToolCallId(Arc::from(id));
        let facts = CallFacts {
            id: id.clone(),
            tool: Arc::from(if unknown { "fs.raed" } else { tool }),
            input: input.clone(),
            is_runnable: !unknown && !invalid,
            is_whole: true,
            side_effects,
        };
        let tool = match ToolName::new(tool) {
            Ok(name) if !unknown => ToolCallName::Known(name),
            _ => ToolCallName::Unknown(facts.tool.clone()),
        };
        let input = if invalid {
            ToolInput::Invalid(input)
        } else {
            ToolInput::Object(input)
        };
        let view = BlockView::ToolCall(ToolCallBlock { id, tool, input });
        let mut part = self.part("tool_use", draw.between(20, 150), view);
        part.call = Some(facts);
        part
    }

    /// The id of a call of this reply or of the history.
    fn other_id(&self, earlier: &[Part], draw: &mut Draw) -> Option<String> {
        let here = earlier
            .iter()
            .filter_map(|part| part.call.as_ref())
            .map(|facts| facts.id.to_string());
        let before = self
            .asked
            .history
            .iter()
            .flat_map(|message| message.tool_calls());
        let ids: Vec<String> = here.chain(before.map(|call| call.id.to_string())).collect();
        (!ids.is_empty()).then(|| draw.pick(&ids).clone())
    }
}
