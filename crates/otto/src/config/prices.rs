//! Prices that the operator adds to the built-in table.
//!
//! Prices are written as vendors publish them, in US dollars per million tokens, and kept as whole picodollars
//! per token. A price that is not a whole number of picodollars per token is refused, not rounded.

use otto_core::model::{LongContextTier, ModelSpec, TokenPrices};
use otto_core::{ModelId, Money};

use crate::decode::{Decoder, Field, Fields};
use crate::limits::{self, COUNT_FORM};
use crate::yaml::Node;

/// Hidden tokens assumed where the operator says nothing: the bound of the protocol reference, 2026-11-22.
const DEFAULT_HIDDEN_PROMPT_TOKENS: u64 = 1_024;

const PRICE_FORM: &str =
    "US dollars per million tokens, such as `3` or `$0.30`, with at most 6 decimals";

const ID: Field = field("id", "the model's id as the provider knows it");
const ALIASES: Field = field("aliases", "a list of other ids of the same model");
const CONTEXT_WINDOW: Field = field("context_window", COUNT_FORM);
const MAX_OUTPUT_TOKENS: Field = field("max_output_tokens", COUNT_FORM);
const INPUT: Field = field("input", PRICE_FORM);
const OUTPUT: Field = field("output", PRICE_FORM);
const CACHE_READ: Field = field("cache_read", PRICE_FORM);
const CACHE_WRITE_5M: Field = field("cache_write_5m", PRICE_FORM);
const CACHE_WRITE_1H: Field = field("cache_write_1h", PRICE_FORM);
const LONG_CONTEXT: Field = field(
    "long_context",
    "a mapping with `threshold` and the five prices above it",
);
const THRESHOLD: Field = field("threshold", COUNT_FORM);
const SURCHARGE_PERCENT: Field = field(
    "surcharge_percent",
    "a whole number of percent from 100 to 1000, such as 110",
);
const HIDDEN_PROMPT_TOKENS: Field = field("hidden_prompt_tokens", COUNT_FORM);

const MODEL_FIELDS: &[Field] = &[
    ID,
    ALIASES,
    CONTEXT_WINDOW,
    MAX_OUTPUT_TOKENS,
    INPUT,
    OUTPUT,
    CACHE_READ,
    CACHE_WRITE_5M,
    CACHE_WRITE_1H,
    LONG_CONTEXT,
    SURCHARGE_PERCENT,
    HIDDEN_PROMPT_TOKENS,
];
const TIER_FIELDS: &[Field] = &[
    THRESHOLD,
    INPUT,
    OUTPUT,
    CACHE_READ,
    CACHE_WRITE_5M,
    CACHE_WRITE_1H,
];

pub(super) const fn field(name: &'static str, form: &'static str) -> Field {
    Field {
        name,
        form,
        meaning: "",
        default: "",
        schema: "",
    }
}

/// One model of the operator's list.
pub(super) fn decode(decoder: &mut Decoder<'_>, node: &Node) -> Option<ModelSpec> {
    let fields = decoder.fields(node, "a model of `prices`", MODEL_FIELDS)?;
    let id = required(decoder, &fields, &ID, node)
        .and_then(|node| decoder.value(node, &ID, ModelId::new));
    let aliases = match fields.value(ALIASES.name) {
        None => Some(Vec::new()),
        Some(node) => decoder.items(node, &ALIASES, 100).and_then(|items| {
            let read: Vec<_> = items
                .iter()
                .map(|item| decoder.value(item, &ALIASES, ModelId::new))
                .collect();
            read.into_iter().collect()
        }),
    };
    let context_window = count(decoder, &fields, &CONTEXT_WINDOW, node);
    let max_output_tokens = count(decoder, &fields, &MAX_OUTPUT_TOKENS, node);
    let prices = token_prices(decoder, &fields, node);
    let long_context = match fields.value(LONG_CONTEXT.name) {
        None => Some(None),
        Some(node) => tier(decoder, node).map(Some),
    };
    let surcharge_percent = match fields.value(SURCHARGE_PERCENT.name) {
        None => Some(100),
        Some(node) => decoder.value(node, &SURCHARGE_PERCENT, |text| match text.parse::<u32>() {
            Ok(percent @ 100..=1_000) => Ok(percent),
            _ => Err(format!(
                "{} is not such a number",
                crate::diagnostic::quoted(text)
            )),
        }),
    };
    let hidden_prompt_tokens = match fields.value(HIDDEN_PROMPT_TOKENS.name) {
        None => Some(DEFAULT_HIDDEN_PROMPT_TOKENS),
        Some(node) => decoder
            .limit(node, &HIDDEN_PROMPT_TOKENS, limits::parse_count)
            .map(|limit| limit.value),
    };
    Some(ModelSpec {
        id: id?,
        aliases: aliases?,
        context_window: context_window?,
        max_output_tokens: max_output_tokens?,
        prices: prices?,
        long_context: long_context?,
        surcharge_percent: surcharge_percent?,
        hidden_prompt_tokens: hidden_prompt_tokens?,
    })
}

fn tier(decoder: &mut Decoder<'_>, node: &Node) -> Option<LongContextTier> {
    let fields = decoder.fields(node, "`long_context`", TIER_FIELDS)?;
    let threshold = count(decoder, &fields, &THRESHOLD, node);
    let prices = token_prices(decoder, &fields, node);
    Some(LongContextTier {
        threshold_prompt_tokens: threshold?,
        prices: prices?,
    })
}

fn token_prices(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'_>,
    within: &Node,
) -> Option<TokenPrices> {
    let mut price = |field| {
        required(decoder, fields, field, within)
            .and_then(|node| decoder.value(node, field, parse_price))
    };
    let (input, output, cache_read) = (price(&INPUT), price(&OUTPUT), price(&CACHE_READ));
    let (cache_write_5m, cache_write_1h) = (price(&CACHE_WRITE_5M), price(&CACHE_WRITE_1H));
    Some(TokenPrices {
        input: input?,
        output: output?,
        cache_read: cache_read?,
        cache_write_5m: cache_write_5m?,
        cache_write_1h: cache_write_1h?,
    })
}

fn count(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'_>,
    field: &Field,
    within: &Node,
) -> Option<u64> {
    let node = required(decoder, fields, field, within)?;
    decoder
        .limit(node, field, limits::parse_count)
        .map(|limit| limit.value)
}

pub(super) fn required<'n>(
    decoder: &mut Decoder<'_>,
    fields: &Fields<'n>,
    field: &Field,
    within: &Node,
) -> Option<&'n Node> {
    let node = fields.value(field.name);
    if node.is_none() {
        decoder.error(within, format!("`{}` is missing", field.name), field.form);
    }
    node
}

/// Dollars per million tokens as picodollars per token. A price of zero is a price: some models are free.
fn parse_price(text: &str) -> Result<Money, String> {
    let invalid = || format!("{} is not such a price", crate::diagnostic::quoted(text));
    let per_million = text.parse::<Money>().map_err(|_| invalid())?.picodollars();
    if per_million % 1_000_000 != 0 {
        return Err(invalid());
    }
    Money::from_picodollars(per_million / 1_000_000).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, picodollars) in [
            ("3", 3_000_000),
            ("$0.30", 300_000),
            ("0", 0),
            ("0.000001", 1),
            ("18.75", 18_750_000),
        ] {
            assert_eq!(
                parse_price(text).map(Money::picodollars),
                Ok(picodollars),
                "{text}"
            );
        }
        for text in ["0.0000001", "-3", "3 dollars", ""] {
            assert!(parse_price(text).is_err(), "{text}");
        }
    }
}
