//! The Checkpointer's standing work: artifacts that have outlived their time are removed.
//!
//! What may go is the store's decision (pins, sessions in use); this task only asks for it, once an hour.

use std::sync::Weak;
use std::time::Duration;

use otto_engine::{Child, Condition, Health, RestartRule};
use otto_store_embedded::{EmbeddedStore, RetentionPolicy};

/// The component's name.
const NAME: &str = "checkpointer";
/// The first sweep: out of the way of a start, and soon enough for a command that runs one invocation.
const FIRST: Duration = Duration::from_secs(1);
/// How often.
const EVERY: Duration = Duration::from_secs(3_600);

/// The supervised task.
pub(crate) fn child(store: Weak<EmbeddedStore>, age: Duration, health: Health) -> Child {
    Child::new(NAME, RestartRule::INFRASTRUCTURE, move |stop| {
        let (store, health) = (store.clone(), health.clone());
        Box::pin(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                let Some(store) = store.upgrade() else { return };
                let policy = RetentionPolicy {
                    max_age: Some(age),
                    max_count: None,
                    max_bytes: None,
                };
                // What could not be removed is found again by the next sweep.
                let failure = match store.checkpointer().sweep(&policy).await {
                    Ok(report) => report.failures.into_iter().next().map(|(_, error)| error),
                    Err(error) => Some(error),
                };
                let condition = failure.map_or(Condition::Ready, |error| {
                    Condition::degraded(&format!(
                        "remove artifacts that are older than {age:?}: {error}"
                    ))
                });
                health.report(NAME, condition);
            }
        })
    })
}
