//! The supervision tree: what runs all the time, in which order it starts, and when it is started again.
//!
//! [`tree`] is the list. A child is an `async` function that runs until it is told to stop; a panic in it is
//! caught and it is started again by its rule. One that ends too often is given up: its component is not ready
//! from then on, and says why. Invocations are children of the AgentSupervisor (`agent_supervisor.rs`).
//!
//! Invariant: no Tokio task of Otto lives outside of this tree, except inside a part that owns it and ends it
//! (a provider's connection, the tool host's reaper).

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use otto_core::port::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::Shared;
use crate::health::{Condition, Health};
use crate::restarts::{Ending, RestartRule, Restarts, Verdict};
use crate::telemetry::Telemetry;
use crate::{audit, cancel, kill_switch, leases, sweeper};

/// The tree of an engine, in start order; shutdown goes in reverse.
///
/// What only holds state has no task and stands here for the reader: it is made before the first child and
/// dropped after the last.
pub(crate) fn tree(shared: &Arc<Shared>) -> Vec<Child> {
    let weak = Arc::downgrade(shared);
    let child = |name, run: fn(Weak<Shared>, CancellationToken) -> BoxFuture<'static, ()>| {
        let weak = weak.clone();
        Child::new(name, RestartRule::INFRASTRUCTURE, move |stop| {
            run(weak.clone(), stop)
        })
    };
    vec![
        // The audit trail, whose last page is written when everything else has ended.
        child("audit_trail", |shared, stop| {
            Box::pin(audit::keep(shared, stop))
        }),
        // Registry: name and id -> handle; state only.
        // ToolBus: snapshots of tools; state only.
        // ContextStore: state only.
        // Store: its writer and reader threads are its own; probed by `Engine::health`.
        // Checkpointer: the retention sweep is added by the composition root, which knows the store.
        child("leases", |shared, stop| {
            Box::pin(leases::keep(shared, stop))
        }),
        // CostTracker: forfeits the holds of those who died.
        child("cost_tracker", |shared, stop| {
            Box::pin(sweeper::run(shared, stop))
        }),
        // AgentSupervisor: one AgentServer per invocation, on demand, `RestartRule::AGENT`.
        child("kill_switch_watcher", |shared, stop| {
            Box::pin(kill_switch::watch(shared, stop))
        }),
        child("cancel_watcher", |shared, stop| {
            Box::pin(cancel::watch(shared, stop))
        }),
        // Server, configuration watcher, exporter: added by those who have them, with `Supervisor::start`.
    ]
}

/// Something that runs all the time.
pub struct Child {
    name: Arc<str>,
    rule: RestartRule,
    run: Box<dyn FnMut(CancellationToken) -> BoxFuture<'static, ()> + Send>,
}

impl Child {
    /// A child of that name. `run` is called for each start; its future ends soon after the token is
    /// cancelled, and holds nothing that keeps Otto alive.
    pub fn new(
        name: &str,
        rule: RestartRule,
        run: impl FnMut(CancellationToken) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        Self {
            name: Arc::from(name),
            rule,
            run: Box::new(run),
        }
    }

    /// Work that is done once, and dropped where it is when Otto ends; a panic in it is reported and changes
    /// nothing else.
    pub fn once(name: &str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut work = Some(work);
        Self::new(name, RestartRule::ONCE, move |stop| {
            let work = work.take();
            Box::pin(async move {
                let Some(work) = work else { return };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            })
        })
    }
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}

/// Starts children, starts them again, and ends them in reverse order. Dropping it ends them at once.
#[derive(Debug)]
pub struct Supervisor {
    health: Health,
    telemetry: Arc<Telemetry>,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    name: Arc<str>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(crate) const fn new(health: Health, telemetry: Arc<Telemetry>) -> Self {
        Self {
            health,
            telemetry,
            running: Mutex::new(Vec::new()),
        }
    }

    /// Starts a child behind those that run. Must be called inside a Tokio runtime.
    pub fn start(&self, child: Child) {
        let stop = CancellationToken::new();
        let name = child.name.clone();
        if child.rule.restart != crate::restarts::Restart::Never {
            self.health.report(&name, Condition::Ready);
        }
        let task = tokio::spawn(supervise(
            child,
            stop.clone(),
            self.health.clone(),
            self.telemetry.clone(),
        ));
        let mut running = self.lock();
        // What has done its work once need not be remembered.
        running.retain(|known| !known.task.is_finished());
        running.push(Running { name, stop, task });
    }

    /// Ends all children, the last started first. Each may use half of what is left of `bound`, so that one
    /// that is stuck leaves the others their turn. Returns the names of those that did not end in time and
    /// were dropped.
    pub async fn shutdown(&self, bound: Duration) -> Vec<Arc<str>> {
        let until = Instant::now() + bound;
        let mut dropped = Vec::new();
        loop {
            // The lock is not held while waiting: a child may start another.
            let Some(mut last) = self.lock().pop() else {
                return dropped;
            };
            last.stop.cancel();
            let share = until.saturating_duration_since(Instant::now()) / 2;
            if tokio::time::timeout(share, &mut last.task).await.is_err() {
                last.task.abort();
                dropped.push(last.name);
            }
        }
    }

    /// The names of the children that run, in start order.
    #[must_use]
    pub fn children(&self) -> Vec<Arc<str>> {
        self.lock()
            .iter()
            .filter(|running| !running.task.is_finished())
            .map(|running| running.name.clone())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        // Entries are pushed and popped whole, so a poisoned list is still a correct list.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for running in self.lock().iter() {
            running.stop.cancel();
            running.task.abort();
        }
    }
}

/// Runs one child until it is told to stop, is done, or is given up.
async fn supervise(
    mut child: Child,
    stop: CancellationToken,
    health: Health,
    telemetry: Arc<Telemetry>,
) {
    let mut restarts = Restarts::new(child.rule);
    while !stop.is_cancelled() {
        // A child that panics before its first await is caught like any other.
        let run = async { (child.run)(stop.clone()).await };
        let ending = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(()) => Ending::Returned,
            Err(_panic) => Ending::Panicked,
        };
        if stop.is_cancelled() {
            return;
        }
        match restarts.decide(Instant::now(), ending) {
            Verdict::Done => return,
            Verdict::Again(wait) => {
                telemetry.child_restarted(&child.name, wait);
                if wait.is_zero() {
                    // A sleep of no length takes until the next tick of the timer.
                    continue;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
            Verdict::GivenUp => {
                telemetry.child_given_up(&child.name);
                let reason = format!(
                    "it ended more than {} times within {:?} and is not started again; restart Otto, and look into the log for what it met",
                    child.rule.intensity, child.rule.within
                );
                health.report(&child.name, Condition::not_ready(&reason));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::telemetry::TelemetryParts;

    fn supervisor() -> (Supervisor, Health) {
        let health = Health::default();
        let telemetry = Arc::new(Telemetry::new(TelemetryParts::default()));
        (Supervisor::new(health.clone(), telemetry), health)
    }

    fn panicking(starts: &Arc<AtomicU32>, times: u32) -> Child {
        let starts = starts.clone();
        let rule = RestartRule {
            backoff: Duration::from_secs(1),
            ..RestartRule::INFRASTRUCTURE
        };
        Child::new("shaky", rule, move |stop| {
            let count = starts.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                // Not the message of a bug: the child is made to fail.
                assert!(count >= times, "planted");
                stop.cancelled().await;
            })
        })
    }

    fn condition(health: &Health, name: &str) -> Condition {
        let reported = health.reported();
        let found = reported.iter().find(|component| &*component.name == name);
        found.expect("it has reported").condition.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_restart_and_too_many_make_the_component_unready() {
        let (supervisor, health) = supervisor();
        let starts = Arc::new(AtomicU32::new(0));
        supervisor.start(panicking(&starts, 3));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        assert_eq!(condition(&health, "shaky"), Condition::Ready);

        let (supervisor, health) = self::supervisor();
        let starts = Arc::new(AtomicU32::new(0));
        supervisor.start(panicking(&starts, u32::MAX));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let most = RestartRule::INFRASTRUCTURE.intensity + 1;
        assert_eq!(starts.load(Ordering::SeqCst), most);
        let Condition::NotReady { reason } = condition(&health, "shaky") else {
            panic!("it is given up");
        };
        assert!(reason.contains("not started again"), "{reason}");
        assert!(supervisor.children().is_empty());
    }

    #[tokio::test]
    async fn the_first_restart_does_not_wait_for_the_timer() {
        let (supervisor, _) = supervisor();
        let starts = Arc::new(AtomicU32::new(0));
        supervisor.start(panicking(&starts, 1));
        tokio::task::yield_now().await;
        assert_eq!(starts.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn children_end_in_the_reverse_of_their_start_and_a_stuck_one_is_dropped() {
        let (supervisor, _) = supervisor();
        let ended = Arc::new(Mutex::new(Vec::new()));
        for name in ["first", "second", "third"] {
            let ended = ended.clone();
            supervisor.start(Child::new(name, RestartRule::INFRASTRUCTURE, move |stop| {
                let ended = ended.clone();
                Box::pin(async move {
                    stop.cancelled().await;
                    ended.lock().unwrap().push(name);
                })
            }));
        }
        supervisor.start(Child::new("stuck", RestartRule::INFRASTRUCTURE, |_| {
            Box::pin(std::future::pending())
        }));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(supervisor.children().len(), 4);
        let dropped = supervisor.shutdown(Duration::from_secs(5)).await;
        assert_eq!(dropped, [Arc::from("stuck")]);
        let ended = ended.lock().unwrap().clone();
        assert_eq!(ended, ["third", "second", "first"]);
        assert!(supervisor.children().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_supervisor_ends_its_children() {
        let (supervisor, _) = supervisor();
        let alive = Arc::new(());
        let held = alive.clone();
        supervisor.start(Child::new(
            "child",
            RestartRule::INFRASTRUCTURE,
            move |_| {
                let held = held.clone();
                Box::pin(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                })
            },
        ));
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(supervisor);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
