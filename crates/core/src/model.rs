//! Models and what they cost.
//!
//! The facts come from a provider's price table and from the operator; this module holds their shape
//! and the arithmetic. It does not know any model by name.
//!
//! Invariant: `cost` of a real usage never exceeds `worst_case` of the request that produced it, if the
//! token bounds held.

use std::sync::Arc;

use crate::{ModelId, Money};

/// Prices per token, by class. Source for the classes: Anthropic pricing page, 2026-11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPrices {
    /// Uncached input.
    pub input: Money,
    /// Output, thinking included.
    pub output: Money,
    /// Input written to the cache for five minutes.
    pub cache_write_5m: Money,
    /// Input written to the cache for one hour.
    pub cache_write_1h: Money,
    /// Input read from the cache.
    pub cache_read: Money,
}

/// A dearer price for the whole request when its prompt is longer than a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongContextTier {
    /// The tier applies when the total prompt, cache reads and writes included, exceeds this.
    pub threshold_prompt_tokens: u64,
    /// The prices of every token class of such a request.
    pub prices: TokenPrices,
}

/// One model: identity, bounds, prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The id sent to the provider.
    pub id: ModelId,
    /// Other ids by which the provider may report the same model.
    pub aliases: Vec<ModelId>,
    /// Most tokens a prompt and its reply may have together. A true ceiling: longer prompts are refused unbilled.
    pub context_window: u64,
    /// Most output tokens one call may ask for.
    pub max_output_tokens: u64,
    /// Standard prices.
    pub prices: TokenPrices,
    /// The tier for long prompts, if the model has one.
    pub long_context: Option<LongContextTier>,
    /// Price factor in percent that applies to every class, 100 or more. Above 100 when the operator's
    /// account runs in a region with a surcharge.
    pub surcharge_percent: u32,
    /// Upper bound of the tokens a provider adds unseen when tools are present.
    pub hidden_prompt_tokens: u64,
}

/// What one model call used, as the provider reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Uncached input tokens.
    pub input_tokens: u64,
    /// Output tokens, thinking included.
    pub output_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Tokens written to the five-minute cache.
    pub cache_write_5m_tokens: u64,
    /// Tokens written to the one-hour cache.
    pub cache_write_1h_tokens: u64,
    /// Output tokens that were thinking, where the provider says so. Contained in `output_tokens`.
    pub thinking_tokens: u64,
}

impl Usage {
    /// All tokens of the prompt, cached or not; saturating.
    #[must_use]
    pub const fn prompt_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_5m_tokens)
            .saturating_add(self.cache_write_1h_tokens)
    }

    /// Prompt plus output; saturating. This is what a token limit counts.
    #[must_use]
    pub const fn total_tokens(&self) -> u64 {
        self.prompt_tokens().saturating_add(self.output_tokens)
    }

    /// The sum by class; saturating.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cache_read_tokens: self
                .cache_read_tokens
                .saturating_add(other.cache_read_tokens),
            cache_write_5m_tokens: self
                .cache_write_5m_tokens
                .saturating_add(other.cache_write_5m_tokens),
            cache_write_1h_tokens: self
                .cache_write_1h_tokens
                .saturating_add(other.cache_write_1h_tokens),
            thinking_tokens: self.thinking_tokens.saturating_add(other.thinking_tokens),
        }
    }
}

/// The dearest a request can become: input at a fixed worst total, output per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorstCase {
    /// Upper bound for the whole prompt.
    pub input: Money,
    /// Upper bound for each output token.
    pub output_per_token: Money,
}

impl ModelSpec {
    /// Whether the provider may call this model by `id`.
    #[must_use]
    pub fn is_known_as(&self, id: &ModelId) -> bool {
        self.id == *id || self.aliases.contains(id)
    }

    /// What a request with at most `prompt_tokens` can cost: every input token at the dearest input class
    /// that a request can hit (a one-hour cache write where `one_hour_cache` markers are sent, else a
    /// five-minute write), in the long-context tier if the bound reaches it, with the surcharge.
    ///
    /// `None` when the amount does not fit [`Money`]; callers treat that as over every limit.
    #[must_use]
    pub fn worst_case(&self, prompt_tokens: u64, cache: CacheUse) -> Option<WorstCase> {
        let prices = self.prices_for(prompt_tokens);
        let dearest = match cache {
            CacheUse::None => prices.input.max(prices.cache_read),
            CacheUse::FiveMinutes => prices
                .input
                .max(prices.cache_write_5m)
                .max(prices.cache_read),
            CacheUse::OneHour => prices
                .input
                .max(prices.cache_write_5m)
                .max(prices.cache_write_1h)
                .max(prices.cache_read),
        };
        Some(WorstCase {
            input: self.with_surcharge(dearest.checked_mul(prompt_tokens)?)?,
            output_per_token: self.with_surcharge(prices.output)?,
        })
    }

    /// The exact cost of a reported usage; `None` when it does not fit [`Money`].
    ///
    /// Source: reference formula of the vendor's pricing page, 2026-11: classes times their prices, the
    /// tier decided by the total prompt, the surcharge on everything.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        let prices = self.prices_for(usage.prompt_tokens());
        let classes = [
            (prices.input, usage.input_tokens),
            (prices.output, usage.output_tokens),
            (prices.cache_read, usage.cache_read_tokens),
            (prices.cache_write_5m, usage.cache_write_5m_tokens),
            (prices.cache_write_1h, usage.cache_write_1h_tokens),
        ];
        let sum = classes
            .into_iter()
            .try_fold(Money::ZERO, |sum, (price, tokens)| {
                sum.checked_add(price.checked_mul(tokens)?)
            })?;
        self.with_surcharge(sum)
    }

    fn prices_for(&self, prompt_tokens: u64) -> &TokenPrices {
        match &self.long_context {
            Some(tier) if prompt_tokens > tier.threshold_prompt_tokens => &tier.prices,
            _ => &self.prices,
        }
    }

    /// Applies the surcharge, rounded up to a whole picodollar.
    fn with_surcharge(&self, amount: Money) -> Option<Money> {
        if self.surcharge_percent == 100 {
            return Some(amount);
        }
        let scaled = u128::from(amount.picodollars()) * u128::from(self.surcharge_percent);
        u64::try_from(scaled.div_ceil(100))
            .ok()
            .and_then(Money::from_picodollars)
    }
}

/// Which cache markers the requests of an invocation carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// None.
    None,
    /// Five-minute markers.
    FiveMinutes,
    /// One-hour markers.
    OneHour,
}

/// The models Otto can price, with the version and date of the table.
///
/// A model that is not in it is refused: unknown price means unknown limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable {
    /// Where the prices come from and of which day, such as `anthropic 2026-11-22`.
    pub version: Arc<str>,
    models: Vec<Arc<ModelSpec>>,
}

impl PriceTable {
    /// A table of these models. A later entry with the same id replaces an earlier one.
    #[must_use]
    pub fn new(version: &str, models: impl IntoIterator<Item = ModelSpec>) -> Self {
        let mut table = Self {
            version: Arc::from(version),
            models: Vec::new(),
        };
        for model in models {
            table.models.retain(|known| known.id != model.id);
            table.models.push(Arc::new(model));
        }
        table
    }

    /// The model of that id or alias.
    #[must_use]
    pub fn find(&self, id: &ModelId) -> Option<&Arc<ModelSpec>> {
        self.models.iter().find(|model| model.is_known_as(id))
    }

    /// All models in table order.
    pub fn models(&self) -> impl Iterator<Item = &Arc<ModelSpec>> {
        self.models.iter()
    }
}
