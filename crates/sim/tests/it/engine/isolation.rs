//! Ten thousand AgentServers at once, some of which panic, hang in a tool or talk without end: what the others
//! come to is what they come to alone. Then the kill switch and a shutdown, over all of them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use otto_core::agent::{Budgets, Limit};
use otto_core::invocation::{
    CancelReason, Failure, ModelFinish, Outcome, Repeatability, SideEffects, StopReason,
};
use otto_core::message::{
    Block, BlockView, Message, ToolCallBlock, ToolCallName, ToolInput, UserBlock,
};
use otto_core::model::{PriceTable, Usage};
use otto_core::policy::Permissions;
use otto_core::port::BoxFuture;
use otto_core::port::llm_client::{LlmClient, ModelCall, ModelEvent, ModelStream};
use otto_core::port::tool::{Tool, ToolContext, ToolDefinition, ToolError, ToolOutput};
use otto_core::task::TaskSpec;
use otto_core::{AgentName, Money, ToolCallId, ToolName};
use otto_engine::{Admission, Engine, EngineParts, InvocationHandle, InvokeOptions, ToolBus};
use tokio::sync::watch;

use super::Chance;
use super::agents::{agent, parts};
use super::model::FakeModel;

/// Agents that only answer.
const CALM: usize = 10_000;
/// Different answers; the rest repeat them.
const KINDS: usize = 200;
/// Troublemakers of each kind.
const TROUBLES: usize = 10;
/// How long a troublemaker may take. Real time: a stream that never waits stops a clock that jumps.
const PATIENCE: Duration = Duration::from_secs(2);
/// BOUND: for a machine that is busy with something else.
const FOR_EVER: Duration = Duration::from_secs(300);

/// Answers by the word the task begins with; calm ones only when the gate opens.
struct Models {
    prices: Arc<PriceTable>,
    gate: watch::Receiver<bool>,
}

enum Talk {
    /// Waits for the gate, then says this.
    Calm(BoxFuture<'static, ()>, std::vec::IntoIter<ModelEvent>),
    /// Panics whenever it is asked.
    Panics,
    /// Says the same word without a pause.
    Runaway,
}

impl Stream for Talk {
    type Item = ModelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        match &mut *self {
            Self::Calm(gate, events) => {
                if gate.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                *gate = Box::pin(std::future::ready(()));
                Poll::Ready(events.next())
            }
            Self::Panics => panic!("planted"),
            Self::Runaway => Poll::Ready(Some(ModelEvent::TextDelta {
                index: 0,
                text: "more ".into(),
            })),
        }
    }
}

impl LlmClient for Models {
    fn prices(&self) -> Arc<PriceTable> {
        self.prices.clone()
    }

    fn call(&self, call: ModelCall) -> ModelStream {
        let task = task_of(&call);
        let finish = |block, stop, output_tokens| {
            let usage = Usage {
                input_tokens: 100,
                output_tokens,
                ..Usage::default()
            };
            let finish = ModelFinish {
                stop,
                usage: Some(usage),
                served_by: None,
            };
            vec![block, ModelEvent::Finished(finish)].into_iter()
        };
        let block = |view| ModelEvent::BlockFinished {
            index: 0,
            block: Arc::new(Block {
                raw: Arc::from("{}"),
                view,
            }),
        };
        Box::pin(match task.split_once(' ') {
            Some(("calm", number)) => {
                let mut gate = self.gate.clone();
                let opens = async move {
                    // An error means that the test is over.
                    let _ = gate.wait_for(|is_open| *is_open).await;
                };
                let tokens = 1 + number.parse::<u64>().unwrap();
                let text = block(BlockView::Text(Arc::from(format!("answer {number}"))));
                Talk::Calm(Box::pin(opens), finish(text, StopReason::EndTurn, tokens))
            }
            Some(("stuck", _)) => {
                let call = ToolCallBlock {
                    id: ToolCallId(Arc::from("call_1")),
                    tool: ToolCallName::Known(ToolName::new("hang").unwrap()),
                    input: ToolInput::Object(Arc::from("{}")),
                };
                let call = block(BlockView::ToolCall(call));
                let now = Box::pin(std::future::ready(()));
                Talk::Calm(now, finish(call, StopReason::ToolUse, 1))
            }
            Some(("panic", _)) => Talk::Panics,
            _ => Talk::Runaway,
        })
    }
}

fn task_of(call: &ModelCall) -> String {
    let Some(Message::User(blocks)) = call.request.history.first().map(|message| &**message) else {
        panic!("a history begins with the task");
    };
    let text = blocks.iter().find_map(|block| match block {
        UserBlock::Text(text) => Some(text.to_string()),
        UserBlock::ToolResult(_) => None,
    });
    text.expect("a task is text")
}

/// A tool that never answers and does not hear that it is to end.
struct Hang(ToolDefinition);

impl Tool for Hang {
    fn definition(&self) -> &ToolDefinition {
        &self.0
    }

    fn call<'a>(
        &'a self,
        _: &'a ToolContext,
        _: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(std::future::pending())
    }
}

fn hang() -> Arc<dyn Tool> {
    Arc::new(Hang(ToolDefinition {
        name: ToolName::new("hang").unwrap(),
        description: Arc::from("Hangs."),
        input_schema: Arc::from(r#"{"type":"object"}"#),
        permissions: Permissions::NONE,
        side_effects: SideEffects::None,
        repeatability: Repeatability::Repeatable,
        timeout: FOR_EVER,
        max_output_bytes: 1_000,
    }))
}

struct Crowd {
    engine: Engine,
    gate: watch::Sender<bool>,
    agent: Arc<otto_core::agent::AgentConfig>,
}

impl Crowd {
    fn new(node: &str) -> Self {
        let (gate, opened) = watch::channel(false);
        let prices = FakeModel::new(Arc::new(Chance::new(0))).prices();
        let admission = Admission::new(CALM + 4 * TROUBLES, 0);
        let engine = Engine::start(EngineParts {
            client: Arc::new(Models {
                prices,
                gate: opened,
            }),
            tools: Arc::new(ToolBus::new([hang()]).unwrap()),
            ..parts(node, admission)
        });
        let base = agent(&Chance::new(1));
        let agent = Arc::new(otto_core::agent::AgentConfig {
            name: AgentName::new("crowd").unwrap(),
            tools: vec![ToolName::new("hang").unwrap()],
            ..(*base).clone()
        });
        Self {
            engine,
            gate,
            agent,
        }
    }

    async fn begin(&self, task: &str, time: Duration) -> InvocationHandle {
        let task = TaskSpec {
            budgets: Budgets {
                time: Some(Limit::new(time, "test")),
                ..Budgets::default()
            },
            ..TaskSpec::new(task)
        };
        let begun = self
            .engine
            .invoke(self.agent.clone(), task, InvokeOptions::default());
        begun.await.expect("it begins")
    }

    async fn begin_calm(&self, count: usize) -> Vec<InvocationHandle> {
        let mut handles = Vec::with_capacity(count);
        for number in 0..count {
            handles.push(
                self.begin(&format!("calm {}", number % KINDS), FOR_EVER)
                    .await,
            );
        }
        handles
    }
}

/// What an invocation came to, without its ids.
type End = (Outcome, Money, u32);

async fn ends(handles: Vec<InvocationHandle>) -> Vec<End> {
    let mut ends = Vec::with_capacity(handles.len());
    for handle in handles {
        let report = tokio::time::timeout(FOR_EVER, handle.report()).await;
        let report = report.expect("it ends").expect("it reports");
        ends.push((report.outcome, report.charged, report.turns));
    }
    ends
}

fn in_real_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(test);
}

#[test]
fn troublemakers_change_nothing_for_ten_thousand_others() {
    super::silence_planted_panics();
    in_real_time(async {
        let alone = Crowd::new("alone");
        alone.gate.send_replace(true);
        let expected = ends(alone.begin_calm(KINDS).await).await;

        let crowd = Crowd::new("crowd");
        let mut troubles: BTreeMap<&str, Vec<InvocationHandle>> = BTreeMap::new();
        for number in 0..TROUBLES {
            for kind in ["panic", "stuck", "runaway"] {
                let handle = crowd.begin(&format!("{kind} {number}"), PATIENCE).await;
                troubles.entry(kind).or_default().push(handle);
            }
        }
        let calm = crowd.begin_calm(CALM).await;
        // All of them are in flight at this moment; troublemakers may have ended.
        assert!(crowd.engine.registry().count() >= CALM);
        let by_name = crowd.engine.registry().of_agent(&crowd.agent.name);
        assert_eq!(by_name.len(), crowd.engine.registry().count());
        crowd.gate.send_replace(true);
        for (number, end) in ends(calm).await.into_iter().enumerate() {
            assert_eq!(end, expected[number % KINDS], "number {number}");
        }
        for (kind, handles) in troubles {
            for (outcome, _, _) in ends(handles).await {
                let is_expected = match &outcome {
                    Outcome::Failed {
                        failure: Failure::Internal { .. },
                    } => kind == "panic",
                    Outcome::DeadlineExceeded { .. } => kind != "panic",
                    _ => false,
                };
                assert!(is_expected, "{kind}: {outcome}");
            }
        }
        assert_eq!(crowd.engine.registry().count(), 0);
    });
}

#[test]
fn the_kill_switch_ends_all_and_nothing_begins_until_it_is_lifted() {
    in_real_time(async {
        let crowd = Crowd::new("killed");
        let mut handles = crowd.begin_calm(100).await;
        for number in 0..TROUBLES {
            handles.push(crowd.begin(&format!("stuck {number}"), FOR_EVER).await);
            handles.push(crowd.begin(&format!("runaway {number}"), FOR_EVER).await);
        }
        crowd.engine.kill("a drill").await.expect("it is kept");
        for (outcome, _, _) in ends(handles).await {
            let reason = CancelReason::KillSwitch;
            assert_eq!(outcome, Outcome::Cancelled { reason });
        }
        let task = TaskSpec::new("calm 1");
        let refused = crowd
            .engine
            .invoke(crowd.agent.clone(), task, InvokeOptions::default())
            .await;
        let error = refused.expect_err("the switch is thrown").to_string();
        assert!(error.contains("a drill"), "{error}");
        assert!(!crowd.engine.health().await.is_ready());
        crowd.engine.lift_kill().await.expect("it is lifted");
        assert!(crowd.engine.health().await.is_ready());
        crowd.gate.send_replace(true);
        let after = ends(vec![crowd.begin("calm 1", FOR_EVER).await]).await;
        assert!(matches!(after[0].0, Outcome::Completed { .. }));
    });
}

#[test]
fn a_shutdown_names_what_it_left_and_the_rest_is_refused() {
    in_real_time(async {
        let crowd = Crowd::new("ending");
        let mut handles = crowd.begin_calm(50).await;
        handles.push(crowd.begin("stuck 1", FOR_EVER).await);
        let begun: Vec<_> = handles
            .iter()
            .map(|handle| handle.ids().invocation)
            .collect();
        let report = crowd.engine.shutdown(Duration::from_secs(60)).await;
        let left: Vec<_> = report.left.iter().map(|left| left.ids.invocation).collect();
        let mut expected = begun.clone();
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert!(report.left.iter().all(|left| !left.was_abandoned));
        assert!(report.dropped.is_empty(), "{:?}", report.dropped);
        for (outcome, _, _) in ends(handles).await {
            let reason = CancelReason::Shutdown;
            assert_eq!(outcome, Outcome::Cancelled { reason });
        }
        let task = TaskSpec::new("calm 1");
        let refused = crowd
            .engine
            .invoke(crowd.agent.clone(), task, InvokeOptions::default())
            .await;
        assert!(refused.is_err());
    });
}

#[test]
fn a_shutdown_that_cannot_wait_leaves_the_rest_as_a_crash_would() {
    in_real_time(async {
        let crowd = Crowd::new("hurried");
        let handle = crowd.begin("stuck 1", FOR_EVER).await;
        let report = crowd.engine.shutdown(Duration::ZERO).await;
        assert_eq!(report.left.len(), 1);
        assert_eq!(crowd.engine.registry().count(), 0);
        if report.left[0].was_abandoned {
            assert!(handle.report().await.is_err(), "nobody is left to report");
        }
    });
}

#[test]
fn who_comes_when_every_place_is_taken_is_told_to_wait() {
    in_real_time(async {
        let crowd = Crowd::new("full");
        let handles = crowd.begin_calm(CALM.min(100)).await;
        crowd
            .engine
            .change_settings(|settings| settings.admission = Admission::new(1, 1));
        let held = crowd.begin("calm 1", FOR_EVER).await;
        // The first takes the place as soon as its task runs; until then it counts as waiting.
        let mut accepted = vec![held];
        let error = loop {
            let task = TaskSpec::new("calm 2");
            let asked = crowd
                .engine
                .invoke(crowd.agent.clone(), task, InvokeOptions::default())
                .await;
            match asked {
                Ok(handle) => accepted.push(handle),
                Err(error) => break error,
            }
            assert!(accepted.len() <= 2, "one runs and one waits at most");
        };
        let otto_engine::InvokeError::Busy { retry_after, .. } = error else {
            panic!("busy is what is said: {error}");
        };
        assert!(retry_after > Duration::ZERO);
        crowd.gate.send_replace(true);
        ends(accepted).await;
        ends(handles).await;
    });
}
