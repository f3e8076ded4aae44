//! What the vendor's models can do and what they cost.
//!
//! Prices are list prices in US dollars per million tokens, written as the vendor writes them and turned into
//! whole picodollars per token by the compiler; no floating point is involved. Source: the vendor's price
//! list and documentation and the price maps of two public libraries, as of the date in [`VERSION`]; a test
//! compares every row with the collected facts.
//!
//! Not here: batch prices, fast mode (never asked for) and server tools (never offered).
//!
//! Invariant: a model that is not in the table has no price, and is refused by whoever reserves money.

use std::sync::{Arc, LazyLock};

use otto_core::model::{LongContextTier, ModelSpec, PriceTable, TokenPrices};
use otto_core::{ModelId, Money};

use crate::config::DataResidency;

/// Name and date of the built-in table.
const VERSION: &str = "anthropic 2026-11-22";

/// Price factor in percent when a model runs in the United States only.
const US_SURCHARGE_PERCENT: u32 = 110;

/// Bound of the tokens added unseen for tools, where the vendor does not tell them.
const UNKNOWN_HIDDEN_TOKENS: u64 = 1_024;

/// What is known of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelFacts {
    /// The id sent to the provider.
    pub id: &'static str,
    /// Other ids of the same model.
    pub aliases: &'static [&'static str],
    /// Tokens of prompt and reply together.
    pub context_window: u64,
    /// Output tokens of one call.
    pub max_output_tokens: u64,
    /// Standard prices.
    pub prices: TokenPrices,
    /// Prices of long prompts, if they differ.
    pub long_context: Option<LongContextTier>,
    /// Whether `inference_geo` may be sent, and the regional surcharge can apply.
    pub accepts_inference_geo: bool,
    /// Tokens that are added unseen when tools are offered; a bound where unknown.
    pub hidden_prompt_tokens: u64,
    /// What happens when no thinking mode is sent.
    pub thinking: ThinkingDefault,
}

/// What a model does when no thinking mode is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingDefault {
    /// It decides itself how much to think.
    Adaptive,
    /// It does not think.
    Disabled,
}

/// The models of the built-in table, newest lines first.
pub const MODELS: &[ModelFacts] = &[
    adaptive("claude-fable-5-2", FABLE_5_2),
    adaptive("claude-mythos-5-2", FABLE_5_2),
    adaptive("claude-fable-5-1", FABLE_5_1),
    adaptive("claude-mythos-5-1", FABLE_5_1),
    adaptive("claude-fable-5", FABLE_5),
    adaptive("claude-mythos-5", FABLE_5),
    adaptive("claude-opus-5-5", prices("4", "20", "5", "8", "0.2")),
    ModelFacts {
        hidden_prompt_tokens: 286,
        ..adaptive("claude-opus-5", OPUS)
    },
    ModelFacts {
        hidden_prompt_tokens: 290,
        thinking: OFF,
        ..adaptive("claude-opus-4-8", OPUS)
    },
    ModelFacts {
        aliases: &["claude-opus-4-7-20260416"],
        hidden_prompt_tokens: 675,
        thinking: OFF,
        ..adaptive("claude-opus-4-7", OPUS)
    },
    ModelFacts {
        aliases: &["claude-opus-4-6-20260205"],
        hidden_prompt_tokens: 497,
        thinking: OFF,
        ..adaptive("claude-opus-4-6", OPUS)
    },
    generation_4_5("claude-opus-4-5-20251101", &["claude-opus-4-5"], OPUS),
    adaptive("claude-sonnet-5-5", prices("2", "10", "2.5", "4", "0.1")),
    ModelFacts {
        hidden_prompt_tokens: 354,
        ..adaptive("claude-sonnet-5", prices("2", "10", "2.5", "4", "0.2"))
    },
    ModelFacts {
        hidden_prompt_tokens: 497,
        thinking: OFF,
        ..adaptive("claude-sonnet-4-6", SONNET_4)
    },
    generation_4_5(
        "claude-sonnet-4-5-20250929",
        &["claude-sonnet-4-5"],
        SONNET_4,
    ),
    ModelFacts {
        long_context: Some(LongContextTier {
            threshold_prompt_tokens: 100_000,
            prices: prices("0.5", "2.5", "0.625", "1", "0.05"),
        }),
        ..adaptive(
            "claude-haiku-5-5",
            prices("0.1", "0.5", "0.125", "0.2", "0.01"),
        )
    },
    generation_4_5(
        "claude-haiku-4-5-20251001",
        &["claude-haiku-4-5"],
        prices("1", "5", "1.25", "2", "0.1"),
    ),
];

const OFF: ThinkingDefault = ThinkingDefault::Disabled;
const FABLE_5_2: TokenPrices = prices("8", "40", "10", "16", "0.2");
const FABLE_5_1: TokenPrices = prices("10", "50", "12.5", "20", "0.25");
const FABLE_5: TokenPrices = prices("10", "50", "12.5", "20", "1");
const OPUS: TokenPrices = prices("5", "25", "6.25", "10", "0.5");
const SONNET_4: TokenPrices = prices("3", "15", "3.75", "6", "0.3");

/// A model of the large generation that thinks by default.
const fn adaptive(id: &'static str, prices: TokenPrices) -> ModelFacts {
    ModelFacts {
        id,
        aliases: &[],
        context_window: 1_000_000,
        max_output_tokens: 128_000,
        prices,
        long_context: None,
        accepts_inference_geo: true,
        hidden_prompt_tokens: UNKNOWN_HIDDEN_TOKENS,
        thinking: ThinkingDefault::Adaptive,
    }
}

/// A model of the 4.5 generation.
const fn generation_4_5(
    id: &'static str,
    aliases: &'static [&'static str],
    prices: TokenPrices,
) -> ModelFacts {
    ModelFacts {
        id,
        aliases,
        context_window: 200_000,
        max_output_tokens: 64_000,
        prices,
        long_context: None,
        accepts_inference_geo: false,
        hidden_prompt_tokens: 496,
        thinking: OFF,
    }
}

/// Input, output, five-minute write, one-hour write and read, in dollars per million tokens.
const fn prices(
    input: &str,
    output: &str,
    write_5m: &str,
    write_1h: &str,
    read: &str,
) -> TokenPrices {
    TokenPrices {
        input: per_token(input),
        output: per_token(output),
        cache_write_5m: per_token(write_5m),
        cache_write_1h: per_token(write_1h),
        cache_read: per_token(read),
    }
}

/// Dollars per million tokens, as decimal text with at most six decimals, to money per token: one dollar per
/// million tokens is 10^6 picodollars per token.
const fn per_token(dollars_per_million: &str) -> Money {
    const DECIMALS: u32 = 6;
    let text = dollars_per_million.as_bytes();
    let (mut amount, mut decimals, mut after_point, mut at) = (0u64, 0u32, false, 0);
    while at < text.len() {
        match text[at] {
            b'.' if !after_point => after_point = true,
            digit @ b'0'..=b'9' => {
                amount = amount * 10 + (digit - b'0') as u64;
                decimals += after_point as u32;
            }
            _ => panic!("a price is decimal text"),
        }
        at += 1;
    }
    match Money::from_picodollars(amount * 10u64.pow(DECIMALS - decimals)) {
        Some(money) => money,
        None => panic!("a price per token is far below the largest amount of money"),
    }
}

/// What is known of the model of that id or alias.
#[must_use]
pub fn facts(id: &ModelId) -> Option<&'static ModelFacts> {
    MODELS
        .iter()
        .find(|model| model.id == id.as_str() || model.aliases.contains(&id.as_str()))
}

/// The built-in price table for calls that run anywhere, without surcharge.
#[must_use]
pub fn price_table() -> PriceTable {
    price_table_for(DataResidency::Global)
}

/// The built-in price table for calls that run where `residency` says.
///
/// Source of the surcharge: the vendor's page on data residency; it applies to every class of tokens on the
/// models that accept `inference_geo`.
#[must_use]
pub fn price_table_for(residency: DataResidency) -> PriceTable {
    let id = |text: &str| ModelId::new(text).expect("the ids of the built-in table are valid");
    PriceTable::new(
        VERSION,
        MODELS.iter().map(|model| ModelSpec {
            id: id(model.id),
            aliases: model.aliases.iter().map(|alias| id(alias)).collect(),
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            prices: model.prices,
            long_context: model.long_context,
            surcharge_percent: match residency {
                DataResidency::UnitedStates | DataResidency::WorkspaceDefault
                    if model.accepts_inference_geo =>
                {
                    US_SURCHARGE_PERCENT
                }
                _ => 100,
            },
            hidden_prompt_tokens: model.hidden_prompt_tokens,
        }),
    )
}

/// The built-in table without surcharge, made once.
pub(crate) fn shared_price_table(residency: DataResidency) -> Arc<PriceTable> {
    static GLOBAL: LazyLock<Arc<PriceTable>> = LazyLock::new(|| Arc::new(price_table()));
    match residency {
        DataResidency::Global => GLOBAL.clone(),
        DataResidency::UnitedStates | DataResidency::WorkspaceDefault => {
            Arc::new(price_table_for(residency))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, picodollars) in [
            ("8", 8_000_000),
            ("0.2", 200_000),
            ("12.50", 12_500_000),
            ("0.000001", 1),
        ] {
            assert_eq!(per_token(text).picodollars(), picodollars, "{text}");
        }
    }

    #[test]
    fn only_models_that_accept_a_region_have_a_surcharge() {
        for (residency, percent) in [
            (DataResidency::Global, 100),
            (DataResidency::UnitedStates, 110),
            (DataResidency::WorkspaceDefault, 110),
        ] {
            let table = price_table_for(residency);
            for (spec, facts) in table.models().zip(MODELS) {
                let expected = if facts.accepts_inference_geo {
                    percent
                } else {
                    100
                };
                assert_eq!(spec.surcharge_percent, expected, "{}", spec.id);
            }
        }
    }

    #[test]
    fn an_alias_finds_its_model() {
        let alias = ModelId::new("claude-haiku-4-5").unwrap();
        assert_eq!(facts(&alias).unwrap().id, "claude-haiku-4-5-20251001");
        assert_eq!(
            price_table().find(&alias).unwrap().id.as_str(),
            "claude-haiku-4-5-20251001"
        );
        assert_eq!(facts(&ModelId::new("claude-unknown").unwrap()), None);
    }
}
