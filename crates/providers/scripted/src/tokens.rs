//! Stand-ins for a tokenizer.
//!
//! No tokenizer of a current model is published. For tests of budgets two properties matter: the same text
//! always has the same number of tokens, and the number is never above the bound that clients compute from
//! bytes. One stand-in is of the usual size, one is as bad as the bound allows.
//!
//! Invariant: `count(text) <= text.len()`, and what is counted besides text stays below the overheads of the
//! protocol reference, section 11.2.

use serde_json::Value as Json;

/// How tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokenizer {
    /// One token for every four bytes, the last one partly filled: about what English text costs.
    #[default]
    Quarter,
    /// One token per byte, and the largest overheads: the most a byte-level tokenizer can make of a text.
    WorstCase,
}

impl Tokenizer {
    /// The tokens of a text.
    #[must_use]
    pub const fn count(self, text: &str) -> u64 {
        self.of_bytes(text.len())
    }

    pub(crate) const fn of_bytes(self, bytes: usize) -> u64 {
        match self {
            Self::Quarter => bytes.div_ceil(4) as u64,
            Self::WorstCase => bytes as u64,
        }
    }

    /// The longest beginning of `text` that has at most `tokens` tokens and ends between two characters.
    pub(crate) fn prefix(self, text: &str, tokens: u64) -> &str {
        let bytes = match self {
            Self::Quarter => tokens.saturating_mul(4),
            Self::WorstCase => tokens,
        };
        let mut end = usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        &text[..end]
    }

    /// The tokens of a JSON value, written without blanks.
    pub(crate) fn of_json(self, value: &Json) -> u64 {
        let mut counter = ByteCounter(0);
        serde_json::to_writer(&mut counter, value).expect("counting bytes cannot fail");
        self.of_bytes(counter.0)
    }

    /// What each message costs beside its blocks.
    pub(crate) const fn per_message(self) -> u64 {
        match self {
            Self::Quarter => 3,
            Self::WorstCase => 16,
        }
    }

    /// What each block costs beside its text.
    pub(crate) const fn per_block(self) -> u64 {
        match self {
            Self::Quarter => 1,
            Self::WorstCase => 16,
        }
    }

    /// What each tool definition costs beside its JSON.
    pub(crate) const fn per_tool(self) -> u64 {
        match self {
            Self::Quarter => 8,
            Self::WorstCase => 64,
        }
    }

    /// What an image or another block without text costs.
    pub(crate) const fn per_medium(self) -> u64 {
        match self {
            Self::Quarter => 1_568,
            Self::WorstCase => 4_784,
        }
    }

    /// What a call in the output costs beside its name and input.
    pub(crate) const fn per_call(self) -> u64 {
        match self {
            Self::Quarter => 12,
            Self::WorstCase => 16,
        }
    }
}

struct ByteCounter(usize);

impl std::io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_above_the_bytes() {
        for text in [
            "",
            "a",
            "four",
            "fives",
            "Grüße aus Köln",
            "\u{FDFA}",
            "日本語のテキスト",
            "🦦🦦🦦",
        ] {
            for tokenizer in [Tokenizer::Quarter, Tokenizer::WorstCase] {
                assert!(tokenizer.count(text) <= text.len() as u64, "{text}");
                assert_eq!(tokenizer.count(text) == 0, text.is_empty());
            }
        }
    }

    #[test]
    fn a_prefix_has_at_most_the_tokens_asked_for() {
        let text = "añ🦦b日c";
        for tokenizer in [Tokenizer::Quarter, Tokenizer::WorstCase] {
            for tokens in 0..20 {
                let prefix = tokenizer.prefix(text, tokens);
                assert!(text.starts_with(prefix));
                assert!(tokenizer.count(prefix) <= tokens);
            }
            assert_eq!(tokenizer.prefix(text, u64::MAX), text);
        }
    }

    #[test]
    fn json_counts_as_its_compact_text() {
        let value = serde_json::json!({"path": "a.txt", "n": [1, 2]});
        assert_eq!(
            Tokenizer::WorstCase.of_json(&value),
            value.to_string().len() as u64
        );
    }
}
