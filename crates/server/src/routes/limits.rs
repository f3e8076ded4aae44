//! Limits in a request body: they narrow a new invocation, and raise a resumed one.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use otto::limits::parse_money;
use otto::{Budgets, Limit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::problem::Problem;

/// Where a limit of a request was set, as messages name it.
const ORIGIN: &str = "the HTTP request";

/// Limits of one invocation.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(crate) struct LimitsBody {
    /// The longest it may take, in milliseconds.
    time_ms: Option<NonZeroU64>,
    /// The most tokens.
    tokens: Option<NonZeroU64>,
    /// The most it may cost, in US dollars, such as `0.25`.
    #[schemars(extend("pattern" = r"^\$?[0-9]+(\.[0-9]+)?$"))]
    cost_usd: Option<String>,
    /// The most turns.
    #[schemars(extend("maximum" = u32::MAX))]
    turns: Option<NonZeroU32>,
}

impl LimitsBody {
    /// The limits; `name` is the field that holds them.
    pub(crate) fn budgets(&self, name: &str) -> Result<Budgets, Problem> {
        let cost = self.cost_usd.as_deref().map(parse_money).transpose();
        let cost =
            cost.map_err(|error| Problem::unprocessable(format!("{name}.cost_usd: {error}")))?;
        Ok(Budgets {
            time: self
                .time_ms
                .map(|ms| Limit::new(Duration::from_millis(ms.get()), ORIGIN)),
            tokens: self.tokens.map(|tokens| Limit::new(tokens.get(), ORIGIN)),
            cost: cost.map(|cost| Limit::new(cost, ORIGIN)),
            turns: self.turns.map(|turns| Limit::new(turns.get(), ORIGIN)),
        })
    }
}
