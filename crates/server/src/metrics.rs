//! Figures for a scraper, read when they are asked for.
//!
//! Money and tokens come from the store, so they survive restarts and count every process on the state
//! directory; what runs comes from the registry.

use std::sync::atomic::AtomicU64;

use axum::http::StatusCode;
use otto::{Otto, StoreError, UsageGroup, UsageQuery};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::problem::Problem;

type Labels = Vec<(&'static str, String)>;

/// Counters of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    http_responses: Family<Labels, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            http_responses: Family::default(),
        }
    }

    pub(crate) fn http_response(&self, status: StatusCode) {
        self.http_responses
            .get_or_create(&vec![("status", status.as_str().to_owned())])
            .inc();
    }

    pub(crate) async fn render(&self, otto: &Otto) -> Result<String, Problem> {
        let mut registry = Registry::with_prefix("otto");
        registry.register(
            "http_responses",
            "Responses by status",
            self.http_responses.clone(),
        );

        let running: Gauge = Gauge::default();
        running.set(i64::try_from(otto.engine().registry().count()).unwrap_or(i64::MAX));
        registry.register("invocations_running", "Invocations that run now", running);
        let waiting: Gauge = Gauge::default();
        waiting
            .set(i64::try_from(otto.engine().settings().admission.waiting()).unwrap_or(i64::MAX));
        registry.register(
            "invocations_waiting",
            "Invocations that wait for admission",
            waiting,
        );

        let calls: Family<Labels, Counter> = Family::default();
        let tokens: Family<Labels, Counter> = Family::default();
        let cost: Family<Labels, Counter<u64, AtomicU64>> = Family::default();
        for row in by_agent_and_model(otto).await? {
            let label = |group| row.key.get(&group).cloned().unwrap_or_default();
            let labels = vec![
                ("agent", label(UsageGroup::Agent)),
                ("model", label(UsageGroup::Model)),
            ];
            calls.get_or_create(&labels).inc_by(row.calls);
            cost.get_or_create(&labels).inc_by(row.cost.picodollars());
            let classes = [
                ("input", row.usage.input_tokens),
                ("output", row.usage.output_tokens),
                ("cache_read", row.usage.cache_read_tokens),
                ("cache_write_5m", row.usage.cache_write_5m_tokens),
                ("cache_write_1h", row.usage.cache_write_1h_tokens),
            ];
            for (class, count) in classes {
                let mut labels = labels.clone();
                labels.push(("class", class.to_owned()));
                tokens.get_or_create(&labels).inc_by(count);
            }
        }
        registry.register("model_calls", "Settled model calls", calls);
        registry.register("tokens", "Tokens by class", tokens);
        registry.register("cost_picodollars", "Money charged, in picodollars", cost);

        let today = otto.engine().cost_tracker().today().await?;
        let day = otto
            .engine()
            .cost_tracker()
            .account(otto::core::ledger::Scope::Day(today))
            .await?;
        for (name, help, money) in [
            (
                "day_spent_picodollars",
                "Money spent on this UTC day",
                day.spent_cost,
            ),
            (
                "day_held_picodollars",
                "Money held on this UTC day",
                day.held_cost,
            ),
            (
                "day_limit_picodollars",
                "Limit of this UTC day",
                otto.engine().settings().ceilings.daily_cost.value,
            ),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(money.picodollars_i64());
            registry.register(name, help, gauge);
        }
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|_| {
            Problem::with_status(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics could not be written",
            )
        })?;
        Ok(text)
    }
}

async fn by_agent_and_model(otto: &Otto) -> Result<Vec<otto::UsageSum>, StoreError> {
    let query = UsageQuery {
        group_by: vec![UsageGroup::Agent, UsageGroup::Model],
        ..UsageQuery::default()
    };
    Ok(otto.usage(query).await?.rows)
}
