//! `otto prices`

use clap::Args;
use otto::core::model::TokenPrices;
use otto::limits::show_count;
use otto::{ModelSpec, Money};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::Code;
use crate::output::{Style, Table, To, show_money};

/// Arguments of `otto prices`.
#[derive(Debug, Args)]
pub(crate) struct Prices {}

impl Prices {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let table = otto::prices(&operator);
        if context.out.is_json() {
            for model in table.models() {
                let mut value = describe(model);
                value["table"] = (*table.version).into();
                context.out.json(&value);
            }
            return Ok(Code::Completed);
        }
        let painter = context.out.painter(To::Answer);
        let title = format!(
            "prices: {}, in US dollars per million tokens",
            otto::text::visible(&table.version)
        );
        context
            .out
            .line(To::Answer, &painter.paint(Style::Strong, &title));
        let mut rows = Table::new([
            "model",
            ">input",
            ">output",
            ">cache read",
            ">write 5m",
            ">write 1h",
            ">window",
            ">max output",
        ]);
        for model in table.models() {
            rows.row(cells(
                model.id.as_str(),
                &model.prices,
                show_count(model.context_window),
                show_count(model.max_output_tokens),
            ));
            if let Some(tier) = &model.long_context {
                let name = format!(
                    "  prompts above {}",
                    show_count(tier.threshold_prompt_tokens)
                );
                rows.row(cells(&name, &tier.prices, String::new(), String::new()));
            }
        }
        let text = rows.render();
        context.out.write(To::Answer, &text);
        context.out.line(To::Answer, "\nA model that is not listed is refused: without a price there is no limit. The operator adds models under `prices` in config.yml.");
        Ok(Code::Completed)
    }
}

fn cells(name: &str, prices: &TokenPrices, window: String, max_output: String) -> [String; 8] {
    let [input, output, cache_read, write_5m, write_1h] = [
        prices.input,
        prices.output,
        prices.cache_read,
        prices.cache_write_5m,
        prices.cache_write_1h,
    ]
    .map(per_million);
    [
        name.to_owned(),
        input,
        output,
        cache_read,
        write_5m,
        write_1h,
        window,
        max_output,
    ]
}

/// Picodollars per token are microdollars per million tokens, so this is exact.
fn per_million(price: Money) -> String {
    price
        .checked_mul(1_000_000)
        .map_or_else(|| "?".to_owned(), show_money)
}

fn describe(model: &ModelSpec) -> Value {
    json!({
        "model": model.id.as_str(),
        "aliases": model.aliases.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "surcharge_percent": model.surcharge_percent,
        "prices": price_json(&model.prices),
        "long_context": model.long_context.as_ref().map(|tier| json!({
            "threshold_prompt_tokens": tier.threshold_prompt_tokens,
            "prices": price_json(&tier.prices),
        })),
    })
}

fn price_json(prices: &TokenPrices) -> Value {
    json!({
        "input": per_million(prices.input),
        "output": per_million(prices.output),
        "cache_read": per_million(prices.cache_read),
        "cache_write_5m": per_million(prices.cache_write_5m),
        "cache_write_1h": per_million(prices.cache_write_1h),
    })
}
