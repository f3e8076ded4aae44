//! A tool that is exchanged thousands of times while invocations call it: no call is lost, and each finishes on
//! the tool it began with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otto_core::ToolCallId;
use otto_core::invocation::Outcome;
use otto_core::port::BoxFuture;
use otto_core::port::tool::{Tool, ToolContext, ToolDefinition, ToolError, ToolOutput};
use otto_engine::{Engine, InvokeOptions, ToolBus};

use super::agents::{agent, engine};
use super::{Chance, TaskSpec, in_a_world, tools};

/// Invocations at the same time, and how often so many are started.
const TOGETHER: u64 = 50;
const ROUNDS: u64 = 10;
/// The least number of exchanges.
const LEAST_EXCHANGES: u64 = 2_000;

/// Which version each call began and ended with.
#[derive(Default)]
struct Calls {
    begun: AtomicU64,
    ended: Mutex<BTreeMap<(String, ToolCallId), u64>>,
}

/// One version of the tool.
struct Version {
    number: u64,
    definition: ToolDefinition,
    calls: Arc<Calls>,
}

impl Tool for Version {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn call<'a>(
        &'a self,
        ctx: &'a ToolContext,
        _: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            self.calls.begun.fetch_add(1, Ordering::Relaxed);
            // The tool is exchanged many times meanwhile.
            tokio::time::sleep(Duration::from_millis(self.number % 7)).await;
            tokio::task::yield_now().await;
            let call = (ctx.ids.invocation.to_string(), ctx.ids.call.clone());
            let twice = self.calls.ended.lock().unwrap().insert(call, self.number);
            assert_eq!(twice, None, "a call ran twice");
            Ok(ToolOutput {
                content: format!("version {}", self.number),
            })
        })
    }
}

/// Exchanges the tool, takes it away and brings it back, until told to stop.
fn exchange(
    bus: &ToolBus,
    definition: &ToolDefinition,
    calls: &Arc<Calls>,
    stop: &AtomicBool,
) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) || number < LEAST_EXCHANGES {
        number += 1;
        let version: Arc<dyn Tool> = Arc::new(Version {
            number,
            definition: definition.clone(),
            calls: calls.clone(),
        });
        match number % 3 {
            0 => bus.replace(version),
            1 => bus.exchange(std::slice::from_ref(&definition.name), &[version], None),
            // Another tool comes and goes; nobody calls it.
            _ => {
                let name = otto_core::ToolName::new("visitor").unwrap();
                let visitor: Arc<dyn Tool> = Arc::new(Version {
                    number,
                    definition: ToolDefinition {
                        name: name.clone(),
                        ..definition.clone()
                    },
                    calls: calls.clone(),
                });
                bus.register(visitor).and_then(|()| bus.remove(&name))
            }
        }
        .unwrap();
    }
    number
}

async fn run_together(engine: &Engine) {
    let agent = agent(&Chance::new(1));
    let mut handles = Vec::new();
    for i in 0..TOGETHER {
        let task = TaskSpec::new(&format!("task {i}"));
        let begun = engine.invoke(agent.clone(), task, InvokeOptions::default());
        handles.push(begun.await.unwrap());
    }
    for handle in handles {
        let report = handle.report().await.unwrap();
        assert!(
            matches!(report.outcome, Outcome::Completed { .. }),
            "{}",
            report.outcome
        );
        assert_eq!(report.totals.tool_calls, 1);
    }
}

#[test]
fn a_tool_that_is_exchanged_under_load_loses_no_call() {
    in_a_world(2, async |world| {
        world.store.without_troubles();
        world.model.answers_with_one_act();
        let engine = engine(&world, "first");
        let calls = Arc::new(Calls::default());
        let act = tools::all(&world.deeds).swap_remove(1);
        let definition = act.definition().clone();
        assert_eq!(definition.name.as_str(), "act");
        let stop = Arc::new(AtomicBool::new(false));
        let exchanging = {
            let (bus, definition, calls) = (engine.tools().clone(), definition, calls.clone());
            let stop = stop.clone();
            std::thread::spawn(move || exchange(&bus, &definition, &calls, &stop))
        };
        // The first version is in place before the first call.
        while engine.tools().snapshot().version() < 4 {
            tokio::task::yield_now().await;
        }
        for _ in 0..ROUNDS {
            run_together(&engine).await;
        }
        stop.store(true, Ordering::Relaxed);
        let exchanges = exchanging.join().unwrap();
        let ended = calls.ended.lock().unwrap();
        let versions: std::collections::BTreeSet<u64> = ended.values().copied().collect();
        assert!(exchanges >= LEAST_EXCHANGES);
        assert_eq!(ended.len() as u64, TOGETHER * ROUNDS, "calls were lost");
        assert_eq!(calls.begun.load(Ordering::Relaxed), TOGETHER * ROUNDS);
        assert!(versions.len() > 1, "nothing was exchanged while calls ran");
    });
}
