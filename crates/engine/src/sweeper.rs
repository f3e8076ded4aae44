//! The CostTracker's standing work: the holds of invocations whose owner died are forfeited.
//!
//! Invariant: a hold is charged by the store's rules, or by nobody; this task only asks for it.

use std::sync::Weak;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::ticks::Ticks;

/// How often expired holds are looked for: a lease's time, since a hold outlives its owner by that.
const EVERY: Duration = crate::leases::LEASE_TTL;
/// The first look, soon enough for a command that runs one invocation, and out of the way of its start.
const FIRST: Duration = Duration::from_millis(500);

pub(crate) async fn run(shared: Weak<Shared>, stop: CancellationToken) {
    let mut ticks = Ticks::after(FIRST, EVERY, shared, stop);
    while let Some(shared) = ticks.next().await {
        match shared.store.sweep().await {
            Ok(0) => {}
            Ok(forfeited) => {
                shared.telemetry.holds_forfeited(forfeited);
                shared.audit.holds_forfeited(forfeited);
            }
            // Tried again at the next tick; until then the holds stand, which is the safe side.
            Err(error) => shared.telemetry.store_failed("sweep", &error),
        }
    }
}
