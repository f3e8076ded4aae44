//! The built-in price table against the collected facts, row by row. Decimals are compared as text, so no
//! floating point can hide a difference.

use std::collections::BTreeMap;

use otto_anthropic::{MODELS, ThinkingDefault, price_table};
use otto_core::ModelId;
use otto_core::model::{CacheUse, TokenPrices, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

const FACTS: &str = include_str!("../facts/anthropic-models.json");

#[derive(Deserialize)]
struct Facts {
    as_of: String,
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    aliases: Vec<String>,
    context_window: u64,
    max_output_tokens: u64,
    prices_usd_per_mtok: BTreeMap<String, Box<RawValue>>,
    long_context_tier: Option<Tier>,
    inference_geo_us_multiplier: Option<Box<RawValue>>,
    tool_system_prompt_tokens: Option<BTreeMap<String, u64>>,
    thinking: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Tier {
    threshold_prompt_tokens: u64,
    prices_usd_per_mtok: BTreeMap<String, Box<RawValue>>,
}

/// Picodollars per token of a decimal text in dollars per million tokens, by shifting the point.
fn per_token(decimal: &str) -> u64 {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    format!("{whole}{fraction:0<6}").parse().unwrap()
}

fn check_prices(id: &str, prices: &TokenPrices, facts: &BTreeMap<String, Box<RawValue>>) {
    let rows = [
        ("input", prices.input),
        ("output", prices.output),
        ("cache_write_5m", prices.cache_write_5m),
        ("cache_write_1h", prices.cache_write_1h),
        ("cache_read", prices.cache_read),
    ];
    assert_eq!(facts.len(), rows.len());
    for (name, price) in rows {
        assert_eq!(
            price.picodollars(),
            per_token(facts[name].get()),
            "{id} {name}"
        );
    }
}

#[test]
fn every_row_is_as_collected() {
    let facts: Facts = serde_json::from_str(FACTS).unwrap();
    let table = price_table();
    assert_eq!(&*table.version, format!("anthropic {}", facts.as_of));
    assert_eq!(table.models().count(), facts.models.len());
    for (model, row) in facts.models.iter().zip(MODELS) {
        let id = &model.id;
        assert_eq!(row.id, id);
        let spec = table.find(&ModelId::new(id).unwrap()).unwrap();
        let aliases: Vec<&str> = spec.aliases.iter().map(ModelId::as_str).collect();
        assert_eq!(aliases, model.aliases, "{id}");
        for alias in &model.aliases {
            assert_eq!(
                table
                    .find(&ModelId::new(alias).unwrap())
                    .unwrap()
                    .id
                    .as_str(),
                id
            );
        }
        assert_eq!(spec.context_window, model.context_window, "{id}");
        assert_eq!(spec.max_output_tokens, model.max_output_tokens, "{id}");
        check_prices(id, &spec.prices, &model.prices_usd_per_mtok);
        match (&spec.long_context, &model.long_context_tier) {
            (None, None) => {}
            (Some(tier), Some(facts)) => {
                assert_eq!(
                    tier.threshold_prompt_tokens, facts.threshold_prompt_tokens,
                    "{id}"
                );
                check_prices(id, &tier.prices, &facts.prices_usd_per_mtok);
            }
            other => panic!("{id}: {:?}", other.0),
        }
        let geo = model
            .inference_geo_us_multiplier
            .as_ref()
            .map(|raw| raw.get());
        assert_eq!(geo, row.accepts_inference_geo.then_some("1.1"), "{id}");
        let hidden = model
            .tool_system_prompt_tokens
            .as_ref()
            .map_or(1_024, |tokens| tokens["auto_or_none"]);
        assert_eq!(spec.hidden_prompt_tokens, hidden, "{id}");
        let thinking = match row.thinking {
            ThinkingDefault::Adaptive => "adaptive",
            ThinkingDefault::Disabled => "disabled",
        };
        assert_eq!(model.thinking["when_omitted"], thinking, "{id}");
        if row.thinking == ThinkingDefault::Adaptive {
            assert!(
                model.thinking["accepted"]
                    .as_array()
                    .unwrap()
                    .contains(&"adaptive".into()),
                "{id}"
            );
        }
        assert_eq!(spec.surcharge_percent, 100, "{id}");
    }
}

#[test]
fn costs_come_out_to_the_picodollar() {
    let table = price_table();
    let usage = Usage {
        input_tokens: 50,
        output_tokens: 4,
        cache_read_tokens: 100_000,
        cache_write_5m_tokens: 500,
        cache_write_1h_tokens: 1_000,
        thinking_tokens: 0,
    };
    let cost = |id: &str, usage: &Usage| {
        table
            .find(&ModelId::new(id).unwrap())
            .unwrap()
            .cost(usage)
            .unwrap()
    };
    // 50 x 2 + 4 x 10 + 100,000 x 0.1 + 500 x 2.5 + 1,000 x 4 = 15,390 millionths of a dollar.
    assert_eq!(
        cost("claude-sonnet-5-5", &usage),
        "0.01539".parse().unwrap()
    );
    // Above 100,000 tokens of prompt the whole request of Haiku 5.5 is in the dear tier:
    // 50 x 0.5 + 4 x 2.5 + 100,000 x 0.05 + 500 x 0.625 + 1,000 x 1 = 6,347.5.
    assert_eq!(
        cost("claude-haiku-5-5", &usage),
        "0.0063475".parse().unwrap()
    );
    let short = Usage {
        cache_read_tokens: 98_450,
        ..usage
    };
    // Exactly 100,000: 50 x 0.1 + 4 x 0.5 + 98,450 x 0.01 + 500 x 0.125 + 1,000 x 0.2 = 1,254.
    assert_eq!(
        cost("claude-haiku-5-5", &short),
        "0.001254".parse().unwrap()
    );
}

#[test]
fn no_cost_exceeds_the_worst_case() {
    for model in price_table().models() {
        for prompt in [1, 99_999, 100_000, 100_001, model.context_window] {
            let worst = model.worst_case(prompt, CacheUse::OneHour).unwrap();
            let usage = Usage {
                cache_write_1h_tokens: prompt,
                output_tokens: 1,
                ..Usage::default()
            };
            let bound = worst.input.checked_add(worst.output_per_token).unwrap();
            assert!(
                model.cost(&usage).unwrap() <= bound,
                "{} {prompt}",
                model.id
            );
        }
    }
}
