//! What the provider counts and charges: its own tokenizer and its own invoice, apart from Otto's estimate.
//!
//! The tokenizer makes at most one token of each byte it gets (after NFKC, which can lengthen a text), and
//! adds what the protocol reference says a provider may add. How much less it makes is the world's choice,
//! so that the estimate is tried at its very edge, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::invocation::InvocationSpec;
use otto_core::message::{Message, UserBlock};
use otto_core::model::{CacheUse, ModelSpec, TokenPrices, Usage};

use crate::chance::Draw;
use crate::rule::{Broken, Held, Rule};

/// A provider's way to count.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// Tokens per thousand bytes.
    permille: u64,
    /// Output tokens of each block that was ever sent, by its raw form.
    blocks: BTreeMap<Arc<str>, u64>,
}

impl Tokenizer {
    pub(crate) fn new(permille: u64) -> Self {
        Self {
            permille,
            blocks: BTreeMap::new(),
        }
    }

    /// Remembers what a block took as output: it takes as much when it comes back as input.
    pub(crate) fn learn(&mut self, raw: Arc<str>, tokens: u64) {
        self.blocks.insert(raw, tokens);
    }

    /// Tokens of a whole prompt.
    pub(crate) fn prompt(&self, spec: &InvocationSpec, history: &[Arc<Message>]) -> Held<u64> {
        let mut bytes = 1_024 + spec.model.hidden_prompt_tokens + letters(&spec.system_prompt);
        for tool in &spec.tools {
            let text = tool.name.as_str().len() + tool.description.len() + tool.input_schema.len();
            bytes += 64 + 2 * text as u64;
        }
        let mut replayed = 0;
        for message in history {
            match &**message {
                Message::User(blocks) => {
                    bytes += 16;
                    for block in blocks {
                        bytes += match block {
                            UserBlock::Text(text) => 16 + letters(text),
                            UserBlock::ToolResult(result) => 32 + letters(&result.content),
                        };
                    }
                }
                Message::Assistant(message) => {
                    for block in &message.blocks {
                        let tokens = self.blocks.get(&block.raw).ok_or_else(|| Broken {
                            rule: Rule::AppendOnly,
                            detail: format!("the provider never sent the block {}", block.raw),
                        })?;
                        replayed += tokens;
                    }
                }
            }
        }
        Ok(bytes * self.permille / 1_000 + replayed)
    }
}

/// Bytes after NFKC, as far as the texts of this world go: one letter of them becomes longer.
fn letters(text: &str) -> u64 {
    text.chars()
        .map(|c| {
            if c == LONG_LETTER {
                33
            } else {
                c.len_utf8() as u64
            }
        })
        .sum()
}

/// Three bytes that NFKC turns into 33.
pub(crate) const LONG_LETTER: char = '\u{FDFA}';

/// A prompt split over the classes that the request's cache markers make possible.
pub(crate) fn usage(draw: &mut Draw, cache: CacheUse, prompt: u64, output: u64) -> Usage {
    let mut usage = Usage {
        output_tokens: output,
        ..Usage::default()
    };
    let mut left = prompt;
    let mut take = |draw: &mut Draw| {
        let part = if draw.happens(300) {
            left
        } else {
            draw.between(0, left)
        };
        left -= part;
        part
    };
    if cache == CacheUse::OneHour {
        usage.cache_write_1h_tokens = take(draw);
    }
    if cache != CacheUse::None {
        usage.cache_write_5m_tokens = take(draw);
        usage.cache_read_tokens = take(draw);
    }
    usage.input_tokens = left;
    usage.thinking_tokens = draw.between(0, output);
    usage
}

/// The invoice of a usage in picodollars: list prices, the tier by the whole prompt, the surcharge rounded up.
pub(crate) fn invoice(model: &ModelSpec, usage: &Usage) -> u128 {
    let prompt = usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens;
    let prices: &TokenPrices = match &model.long_context {
        Some(tier) if prompt > tier.threshold_prompt_tokens => &tier.prices,
        _ => &model.prices,
    };
    let at =
        |price: otto_core::Money, tokens: u64| u128::from(price.picodollars()) * u128::from(tokens);
    let sum = at(prices.input, usage.input_tokens)
        + at(prices.output, usage.output_tokens)
        + at(prices.cache_read, usage.cache_read_tokens)
        + at(prices.cache_write_5m, usage.cache_write_5m_tokens)
        + at(prices.cache_write_1h, usage.cache_write_1h_tokens);
    (sum * u128::from(model.surcharge_percent)).div_ceil(100)
}
