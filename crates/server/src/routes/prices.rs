//! `/v1/prices`: the models and what they cost. A model that is not listed is refused.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::ModelSpec;
use otto::core::model::TokenPrices;
use schemars::JsonSchema;
use serde::Serialize;

use super::view::MoneyView;
use super::{READ, Route};
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/prices", READ, "list_prices", list)
            .summary("List the models with their prices")
            .answers::<PricesView>(StatusCode::OK, "The price table in force."),
    ]
}

/// The price table in force.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PriceTable")]
struct PricesView {
    /// Where the prices come from and of which day.
    table: String,
    models: Vec<ModelView>,
}

/// A model.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Model")]
struct ModelView {
    model: String,
    aliases: Vec<String>,
    context_window: u64,
    max_output_tokens: u64,
    surcharge_percent: u32,
    prices: TokenPricesView,
    /// The prices of prompts above a length.
    long_context: Option<TierView>,
}

/// Prices of a million tokens.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenPrices")]
struct TokenPricesView {
    input: MoneyView,
    output: MoneyView,
    cache_read: MoneyView,
    cache_write_5m: MoneyView,
    cache_write_1h: MoneyView,
}

/// Prices of long prompts.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LongContext")]
struct TierView {
    threshold_prompt_tokens: u64,
    prices: TokenPricesView,
}

impl From<&TokenPrices> for TokenPricesView {
    fn from(prices: &TokenPrices) -> Self {
        // The table is per token.
        let million = |price: otto::Money| {
            price
                .checked_mul(1_000_000)
                .unwrap_or(otto::Money::MAX)
                .into()
        };
        Self {
            input: million(prices.input),
            output: million(prices.output),
            cache_read: million(prices.cache_read),
            cache_write_5m: million(prices.cache_write_5m),
            cache_write_1h: million(prices.cache_write_1h),
        }
    }
}

impl From<&ModelSpec> for ModelView {
    fn from(model: &ModelSpec) -> Self {
        Self {
            model: model.id.to_string(),
            aliases: model.aliases.iter().map(ToString::to_string).collect(),
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            surcharge_percent: model.surcharge_percent,
            prices: (&model.prices).into(),
            long_context: model.long_context.as_ref().map(|tier| TierView {
                threshold_prompt_tokens: tier.threshold_prompt_tokens,
                prices: (&tier.prices).into(),
            }),
        }
    }
}

async fn list(State(state): State<AppState>) -> Json<PricesView> {
    let table = state.otto.prices();
    Json(PricesView {
        table: table.version.to_string(),
        models: table.models().map(|model| (&**model).into()).collect(),
    })
}
