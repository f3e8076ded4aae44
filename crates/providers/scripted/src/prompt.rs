//! What a request's prompt costs and what its prefix is: one walk over all blocks in prompt order.
//!
//! The walk counts tokens, links the digests, finds the cache positions, and checks that thinking which
//! comes back is unchanged and still stands where it was made.
//!
//! Source: protocol reference, sections 3.8 to 3.10 and 10 (2026-11-22).
//!
//! Invariant: tokens never fall from one position to the next.

use otto_core::model::ModelSpec;
use serde_json::Value as Json;

use crate::cache::{CacheKey, Position};
use crate::digest::{Chain, hash_number};
use crate::error::ApiError;
use crate::ids::CallCode;
use crate::models::Traits;
use crate::request::{Block, BlockKind, Entry, Request, Role, ThinkingMode, Tool, Ttl};
use crate::signature::Signature;
use crate::tokens::Tokenizer;

/// A measured prompt.
pub(crate) struct Prompt {
    /// All tokens.
    pub(crate) tokens: u64,
    /// Where the cache may find or write entries; empty without markers.
    pub(crate) positions: Vec<Position>,
    /// The digests of all blocks, to be continued by the answer. Meaningless if nobody needed them.
    pub(crate) chain: Chain,
}

/// What the walk needs to know besides the request.
pub(crate) struct Measure<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) traits: &'a Traits,
    pub(crate) tokenizer: Tokenizer,
    /// Whose cache it is.
    pub(crate) account: u64,
    /// Whether the digest of the whole prompt is wanted.
    pub(crate) digest: bool,
}

impl Measure<'_> {
    /// Measures the prompt of `request`.
    ///
    /// # Errors
    /// The 400 of the vendor for thinking that was changed or moved, or for a prompt above the window.
    pub(crate) fn of(&self, request: &Request<'_>) -> Result<Prompt, ApiError> {
        let mut walk = Walk {
            measure: self,
            request,
            tokens: self.hidden_tokens(request),
            chain: Chain::new(),
            positions: Vec::new(),
            linked: self.digest || request.needs_digests(),
            cached: request.has_markers(),
            levels: Levels::of(request, self.account),
        };
        walk.run()?;
        let Walk {
            tokens,
            mut positions,
            chain,
            ..
        } = walk;
        if let Some(ttl) = request.automatic_cache {
            mark_last(request, &mut positions, ttl);
        }
        if tokens > self.spec.context_window {
            return Err(ApiError::invalid(format!(
                "prompt is too long: {tokens} tokens > {} maximum",
                self.spec.context_window
            )));
        }
        Ok(Prompt {
            tokens,
            positions,
            chain,
        })
    }

    /// What the vendor adds unseen when tools are present.
    fn hidden_tokens(&self, request: &Request<'_>) -> u64 {
        if request.tools.is_empty() {
            return 0;
        }
        let (auto, forced) = self.traits.tool_prompt;
        let usual = if request.tool_choice.is_forced() {
            forced
        } else {
            auto
        };
        match self.tokenizer {
            Tokenizer::Quarter => usual.min(self.spec.hidden_prompt_tokens),
            Tokenizer::WorstCase => self.spec.hidden_prompt_tokens,
        }
    }
}

impl Request<'_> {
    fn blocks(&self) -> impl Iterator<Item = &Block<'_>> {
        self.entries.iter().flat_map(|entry| &entry.blocks)
    }

    fn has_markers(&self) -> bool {
        self.automatic_cache.is_some()
            || self.tools.iter().any(|tool| tool.cache.is_some())
            || self.system.iter().any(|block| block.cache.is_some())
            || self.blocks().any(|block| block.cache.is_some())
    }

    fn needs_digests(&self) -> bool {
        self.has_markers()
            || self.blocks().any(|block| {
                matches!(
                    block.kind,
                    BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. }
                )
            })
    }
}

/// The settings that invalidate each level of the cache, as numbers.
struct Levels {
    tools: u64,
    system: u64,
    messages: u64,
}

impl Levels {
    fn of(request: &Request<'_>, account: u64) -> Self {
        let images = request
            .blocks()
            .any(|block| matches!(block.kind, BlockKind::Other { name: "image", .. }));
        let number = |settings: String| hash_number(settings.as_bytes());
        let base = format!("{account} {}", request.model);
        let system = format!("{base} {}", request.fast);
        let messages = format!(
            "{system} {:?} {:?} {:?} {images}",
            request.tool_choice, request.thinking, request.effort
        );
        Self {
            tools: number(base),
            system: number(system),
            messages: number(messages),
        }
    }
}

struct Walk<'w, 'r> {
    measure: &'w Measure<'w>,
    request: &'w Request<'r>,
    tokens: u64,
    chain: Chain,
    positions: Vec<Position>,
    /// Whether digests are made.
    linked: bool,
    /// Whether positions are recorded.
    cached: bool,
    levels: Levels,
}

impl Walk<'_, '_> {
    fn run(&mut self) -> Result<(), ApiError> {
        let tokenizer = self.measure.tokenizer;
        for tool in &self.request.tools {
            if self.linked {
                self.chain.tool(tool);
            }
            self.position(tool_tokens(tool, tokenizer), tool.cache, self.levels.tools);
        }
        for block in &self.request.system {
            if self.linked {
                self.chain.system(block.text);
            }
            self.position(
                tokenizer.per_block() + tokenizer.count(block.text),
                block.cache,
                self.levels.system,
            );
        }
        let latest = self
            .request
            .entries
            .iter()
            .rposition(|entry| entry.role == Role::Assistant);
        for (index, entry) in self.request.entries.iter().enumerate() {
            // What the model said costs as input what it cost as output.
            if entry.role != Role::Assistant {
                self.tokens += tokenizer.per_message();
            }
            self.entry(index, entry, latest == Some(index))?;
        }
        Ok(())
    }

    fn entry(&mut self, index: usize, entry: &Entry<'_>, latest: bool) -> Result<(), ApiError> {
        let in_tool_loop = latest && self.is_in_tool_loop();
        let mut thinking = 0;
        for (position, block) in entry.blocks.iter().enumerate() {
            let at = || format!("messages.{index}.content.{position}");
            let tokens = match block.kind {
                BlockKind::Thinking { text, signature } => {
                    thinking += 1;
                    self.thinking(text, signature, "thinking", latest, at)?
                }
                BlockKind::RedactedThinking { data } => {
                    thinking += 1;
                    self.thinking("", data, "redacted_thinking", latest, at)?
                }
                BlockKind::ToolUse { id, .. }
                    if in_tool_loop
                        && CallCode::read(id).is_some_and(|code| thinking < code.thinking) =>
                {
                    return Err(modified(&at()));
                }
                _ if entry.role == Role::Assistant => {
                    block_tokens(&block.kind, self.measure.tokenizer)
                }
                _ => {
                    let tokenizer = self.measure.tokenizer;
                    block_tokens(&block.kind, tokenizer).saturating_add(tokenizer.per_block())
                }
            };
            if self.linked {
                self.chain.block(entry.role, &block.kind);
            }
            self.position(tokens, block.cache, self.levels.messages);
        }
        Ok(())
    }

    /// Whether the latest assistant turn still waits for what follows from its tool results.
    fn is_in_tool_loop(&self) -> bool {
        let thinks = match self.request.thinking {
            ThinkingMode::Unsaid => self.measure.traits.thinking.by_default,
            ThinkingMode::Adaptive | ThinkingMode::Enabled { .. } | ThinkingMode::BetweenTools => {
                true
            }
            ThinkingMode::Disabled => false,
        };
        thinks
            && self.request.entries.last().is_some_and(|entry| {
                entry
                    .blocks
                    .iter()
                    .any(|block| matches!(block.kind, BlockKind::ToolResult { .. }))
            })
    }

    /// Checks a thinking block that came back; returns its tokens.
    fn thinking(
        &self,
        text: &str,
        signature: &str,
        name: &str,
        latest: bool,
        at: impl Fn() -> String,
    ) -> Result<u64, ApiError> {
        let invalid =
            || ApiError::invalid(format!("{}: Invalid `signature` in `{name}` block", at()));
        let signature = Signature::read(signature).ok_or_else(invalid)?;
        if !signature.is_by(self.request.model) {
            // Another model's thinking is dropped without a word.
            return Ok(0);
        }
        if !signature.is_of(text) {
            return Err(if latest { modified(&at()) } else { invalid() });
        }
        if self.measure.traits.binds_thinking && signature.prefix != self.chain.digest() {
            return Err(ApiError::invalid(format!(
                "{}: Invalid `signature` in `{name}` block. The block is bound to a different conversation. Remove the block, \
                 or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\".",
                at()
            )));
        }
        Ok(signature.tokens)
    }

    fn position(&mut self, tokens: u64, marker: Option<Ttl>, setting: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
        if self.cached {
            let key = CacheKey {
                prefix: self.chain.digest(),
                setting,
            };
            self.positions.push(Position {
                key,
                tokens: self.tokens,
                marker,
            });
        }
    }
}

fn modified(at: &str) -> ApiError {
    ApiError::invalid(format!(
        "{at}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must \
         remain as they were in the original response."
    ))
}

/// The automatic marker goes to the last block that can carry one.
fn mark_last(request: &Request<'_>, positions: &mut [Position], ttl: Ttl) {
    let blocks: Vec<&BlockKind<'_>> = request.blocks().map(|block| &block.kind).collect();
    let uncacheable = blocks
        .iter()
        .rev()
        .take_while(|kind| {
            matches!(
                kind,
                BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. }
            )
        })
        .count();
    let last = positions.len().checked_sub(uncacheable + 1);
    if let Some(position) = last.and_then(|index| positions.get_mut(index)) {
        position.marker.get_or_insert(ttl);
    }
}

/// The tokens of a tool definition: of its texts and its schema, or of all of it for a tool of the vendor.
fn tool_tokens(tool: &Tool<'_>, tokenizer: Tokenizer) -> u64 {
    let content = match tool.json.get("input_schema") {
        Some(schema) => {
            let description = tool
                .json
                .get("description")
                .and_then(Json::as_str)
                .unwrap_or_default();
            tokenizer.count(tool.name) + tokenizer.count(description) + tokenizer.of_json(schema)
        }
        None => tokenizer.of_json(tool.json),
    };
    content.saturating_add(tokenizer.per_tool())
}

/// The tokens of a block that is not thinking.
fn block_tokens(kind: &BlockKind<'_>, tokenizer: Tokenizer) -> u64 {
    match kind {
        BlockKind::Text(text) => tokenizer.count(text),
        BlockKind::ToolUse { name, input, .. } => tokenizer.count(name) + tokenizer.of_json(input),
        BlockKind::ToolResult { content: None, .. } => 0,
        BlockKind::ToolResult {
            content: Some(Json::String(text)),
            ..
        } => tokenizer.count(text),
        BlockKind::ToolResult {
            content: Some(Json::Array(parts)),
            ..
        } => parts
            .iter()
            .map(|part| part_tokens(part, tokenizer))
            .fold(0, u64::saturating_add),
        BlockKind::ToolResult {
            content: Some(other),
            ..
        } => tokenizer.of_json(other),
        BlockKind::Other { name: "image", .. } => tokenizer.per_medium(),
        BlockKind::Other { json, .. } => tokenizer.of_json(json),
        BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. } => 0,
    }
}

fn part_tokens(part: &Json, tokenizer: Tokenizer) -> u64 {
    match part.get("text").and_then(Json::as_str) {
        Some(text) => tokenizer.count(text),
        None if part.get("type").and_then(Json::as_str) == Some("image") => tokenizer.per_medium(),
        None => tokenizer.of_json(part),
    }
}
