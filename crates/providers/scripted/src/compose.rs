//! From a scripted turn to the reply of a model: templates filled in, ids given, thinking signed, and cut
//! where `max_tokens`, the window or a stop sequence ends it.
//!
//! Nothing here knows how a reply travels.
//!
//! Invariant: `output_tokens` of a reply is at most what the request allows, unless the script replaces it.

use std::fmt::Write as _;

use otto_core::model::ModelSpec;
use serde_json::Value as Json;

use crate::digest::Chain;
use crate::expr::{Failure, Scope};
use crate::ids::{CallCode, IdMaker};
use crate::limits;
use crate::models::Traits;
use crate::request::{BlockKind as Said, Display, Request, Role, ThinkingMode};
use crate::script::{Block, BlockKind, Stop, ToolCall, ToolInput, Turn};
use crate::signature::Signature;
use crate::tokens::Tokenizer;

/// What the model answers.
#[derive(Debug)]
pub(crate) struct Reply<'s> {
    pub(crate) blocks: Vec<ReplyBlock<'s>>,
    pub(crate) stop: Stop,
    pub(crate) output_tokens: u64,
    pub(crate) thinking_tokens: u64,
}

/// One block of a reply.
#[derive(Debug)]
pub(crate) struct ReplyBlock<'s> {
    pub(crate) kind: ReplyKind,
    /// Its timing and cutting.
    pub(crate) shape: &'s Block,
    pub(crate) tokens: u64,
}

/// What a block of a reply holds.
#[derive(Debug)]
pub(crate) enum ReplyKind {
    Text(String),
    Thinking {
        text: String,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    /// `input` is JSON text, unless it was cut or the script says otherwise.
    ToolUse {
        id: String,
        name: String,
        input: String,
    },
    /// The JSON of a block of another type.
    Raw(String),
}

/// What composing needs to know.
pub(crate) struct Composer<'c> {
    pub(crate) request: &'c Request<'c>,
    pub(crate) spec: &'c ModelSpec,
    pub(crate) traits: &'c Traits,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) ids: &'c IdMaker,
    pub(crate) prompt_tokens: u64,
}

impl Composer<'_> {
    /// Composes the reply of `turn`, which says `blocks`. `chain` is the digest of the prompt.
    ///
    /// # Errors
    /// When an expression has no value.
    pub(crate) fn reply<'s>(
        &self,
        turn: &'s Turn,
        blocks: &'s [Block],
        scope: &Scope<'_>,
        chain: Chain,
    ) -> Result<Reply<'s>, Failure> {
        let window_left = self.spec.context_window.saturating_sub(self.prompt_tokens);
        let mut writer = Writer {
            composer: self,
            left: self.request.max_tokens.min(window_left),
            at_limit: if window_left < self.request.max_tokens {
                "model_context_window_exceeded"
            } else {
                "max_tokens"
            },
            blocks: Vec::with_capacity(blocks.len()),
            stop: None,
            calls: 0,
            thinking: 0,
            thinking_tokens: 0,
            chain,
        };
        for (index, block) in blocks.iter().enumerate() {
            if writer.stop.is_some() {
                break;
            }
            writer.block(index, block, scope)?;
        }
        let Writer {
            blocks,
            stop,
            calls,
            thinking_tokens,
            ..
        } = writer;
        let stop = stop
            .or_else(|| turn.stop.clone())
            .unwrap_or_else(|| Stop::because(if calls > 0 { "tool_use" } else { "end_turn" }));
        let counted = blocks
            .iter()
            .map(|block| block.tokens)
            .fold(0, u64::saturating_add);
        Ok(Reply {
            blocks,
            stop,
            output_tokens: turn.usage.output_tokens.unwrap_or(counted),
            thinking_tokens,
        })
    }

    /// Whether the model thinks when it answers this request.
    pub(crate) fn thinks(&self) -> bool {
        match self.request.thinking {
            ThinkingMode::Unsaid => self.traits.thinking.by_default,
            ThinkingMode::Adaptive | ThinkingMode::Enabled { .. } | ThinkingMode::BetweenTools => {
                true
            }
            ThinkingMode::Disabled => false,
        }
    }

    fn shows_thinking(&self) -> bool {
        match self.request.display {
            Some(Display::Summarized) => true,
            Some(Display::Omitted) => false,
            None => !self.traits.thinking.omitted,
        }
    }

    /// The name of a tool as this request offers it; an unknown one stays as the script has it.
    fn offered<'n>(&'n self, name: &'n str) -> &'n str {
        self.request
            .tools
            .iter()
            .map(|tool| tool.name)
            .find(|offered| crate::wire_name(offered) == name)
            .unwrap_or(name)
    }
}

impl Stop {
    /// A stop for this reason and nothing else.
    pub(crate) fn because(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            category: None,
            explanation: None,
            sequence: None,
        }
    }
}

struct Writer<'w, 's> {
    composer: &'w Composer<'w>,
    /// Tokens that may still be written.
    left: u64,
    /// The stop reason when they are used up.
    at_limit: &'static str,
    blocks: Vec<ReplyBlock<'s>>,
    /// Set when the reply ends before the script's last block.
    stop: Option<Stop>,
    calls: usize,
    /// Thinking blocks so far.
    thinking: usize,
    thinking_tokens: u64,
    chain: Chain,
}

impl<'s> Writer<'_, 's> {
    fn block(&mut self, index: usize, block: &'s Block, scope: &Scope<'_>) -> Result<(), Failure> {
        match &block.kind {
            BlockKind::Text(template) => self.text(template.render(scope)?, block),
            BlockKind::Thinking {
                text,
                tokens,
                redacted,
            } => {
                if self.composer.thinks() {
                    let text = text.render(scope)?;
                    self.think(text, *tokens, *redacted, block);
                }
            }
            BlockKind::Tool(call) => self.call_all(index, call, block, scope)?,
            BlockKind::Raw(template) => {
                let mut json = String::new();
                template.write(scope, &mut json)?;
                let tokens = self.composer.tokenizer.count(&json);
                if self.begin(tokens) {
                    if let Ok(value) = serde_json::from_str::<Json>(&json) {
                        self.chain.block(
                            Role::Assistant,
                            &Said::Other {
                                name: "raw",
                                json: &value,
                            },
                        );
                    }
                    self.push(ReplyKind::Raw(json), block, tokens);
                }
            }
        }
        Ok(())
    }

    /// Whether a block may begin; if not, the reply ends here.
    fn begin(&mut self, tokens: u64) -> bool {
        if tokens > 0 && self.left == 0 {
            self.stop = Some(Stop::because(self.at_limit));
            return false;
        }
        true
    }

    fn push(&mut self, kind: ReplyKind, shape: &'s Block, wanted: u64) {
        let tokens = wanted.min(self.left);
        if wanted > self.left {
            self.stop = Some(Stop::because(self.at_limit));
        }
        self.left -= tokens;
        self.blocks.push(ReplyBlock {
            kind,
            shape,
            tokens,
        });
    }

    fn text(&mut self, mut text: String, block: &'s Block) {
        let sequences = &self.composer.request.stop_sequences;
        let first = sequences
            .iter()
            .filter_map(|sequence| Some((text.find(sequence)?, *sequence)))
            .min();
        if let Some((at, sequence)) = first {
            text.truncate(at);
            let tokens = self.composer.tokenizer.count(&text);
            if tokens <= self.left {
                self.stop = Some(Stop {
                    sequence: Some(sequence.to_owned()),
                    ..Stop::because("stop_sequence")
                });
            }
        }
        // The vendor sends no empty text blocks.
        let tokens = self.composer.tokenizer.count(&text);
        if tokens == 0 || !self.begin(tokens) {
            return;
        }
        let fitting = self.composer.tokenizer.prefix(&text, self.left).len();
        text.truncate(fitting);
        self.chain.written_text(&text);
        self.push(ReplyKind::Text(text), block, tokens);
    }

    fn think(&mut self, mut text: String, tokens: Option<u64>, redacted: bool, block: &'s Block) {
        let tokens = tokens.unwrap_or_else(|| self.composer.tokenizer.count(&text));
        if !self.begin(tokens) {
            return;
        }
        let billed = tokens.min(self.left);
        if redacted || !self.composer.shows_thinking() {
            text.clear();
        }
        let model = self.composer.request.model;
        let signature = Signature::new(model, self.chain.digest(), &text, billed).sign();
        let said = if redacted {
            Said::RedactedThinking { data: &signature }
        } else {
            Said::Thinking {
                text: &text,
                signature: &signature,
            }
        };
        self.chain.block(Role::Assistant, &said);
        let kind = if redacted {
            ReplyKind::RedactedThinking { data: signature }
        } else {
            ReplyKind::Thinking { text, signature }
        };
        self.thinking += 1;
        self.thinking_tokens += billed;
        self.push(kind, block, tokens);
    }

    fn call_all(
        &mut self,
        index: usize,
        call: &'s ToolCall,
        block: &'s Block,
        scope: &Scope<'_>,
    ) -> Result<(), Failure> {
        let Some(each) = &call.for_each else {
            return self.call(index, 0, call, block, scope);
        };
        let items = match each.value(scope)? {
            Json::Null => Vec::new(),
            Json::Array(items) => items,
            Json::String(text) => text.lines().map(Json::from).collect(),
            other => vec![other],
        };
        for (position, item) in items
            .iter()
            .take(call.limit.min(limits::FOR_EACH))
            .enumerate()
        {
            if self.stop.is_some() {
                break;
            }
            self.call(
                index,
                position,
                call,
                block,
                &scope.with_item(item, position),
            )?;
        }
        Ok(())
    }

    fn call(
        &mut self,
        index: usize,
        item: usize,
        call: &ToolCall,
        block: &'s Block,
        scope: &Scope<'_>,
    ) -> Result<(), Failure> {
        if self.calls >= self.composer.request.tool_choice.most_calls()
            && !self.composer.request.tools.is_empty()
        {
            return Ok(());
        }
        let mut input = match &call.input {
            ToolInput::Json(template) => {
                let mut text = String::new();
                template.write(scope, &mut text)?;
                text
            }
            ToolInput::Text(template) => template.render(scope)?,
        };
        if call.ascii {
            input = to_ascii(&input);
        }
        let name = self.composer.offered(&call.name).to_owned();
        let tokenizer = self.composer.tokenizer;
        let overhead = tokenizer.per_call() + tokenizer.count(&name);
        let tokens = overhead.saturating_add(tokenizer.count(&input));
        if !self.begin(tokens) {
            return Ok(());
        }
        let fitting = tokenizer
            .prefix(&input, self.left.saturating_sub(overhead))
            .len();
        input.truncate(fitting);
        let code = CallCode {
            turn: scope.turn,
            block: index,
            item,
            thinking: self.thinking,
        };
        let id = code.write(self.composer.ids.unique());
        // Only thinking that follows in this message looks at the digest; a cut input has none that follows.
        if let Ok(value) = serde_json::from_str::<Json>(&input) {
            self.chain.block(
                Role::Assistant,
                &Said::ToolUse {
                    id: &id,
                    name: &name,
                    input: &value,
                },
            );
        }
        self.calls += 1;
        self.push(ReplyKind::ToolUse { id, name, input }, block, tokens);
        Ok(())
    }
}

/// JSON text with every other character than ASCII as an escape, surrogate pairs included.
fn to_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(ascii, "\\u{unit:04x}").expect("writing to a String cannot fail");
            }
        }
    }
    ascii
}
