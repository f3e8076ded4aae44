//! Which limits an invocation is told of: those in its journal, also when another process has taken it up.

use std::sync::Arc;
use std::time::Duration;

use otto::core::agent::Limit;
use otto::testing::ScriptedModel;
use otto::{AgentBuilder, Budgets, ListenerEvent, Listening, Money, Otto, TaskSpec};
use otto_engine::InvokeOptions;

/// The first attempt falls silent in the middle, the second is whole.
const ONCE_SILENT: &str = "turns: [{ text: 'one two three four', chunk: words, faults: [{ attempt: 1, stall: { event: 5 } }] }]";

#[tokio::test]
async fn what_is_taken_up_goes_on_under_the_limit_of_its_task() {
    let model = ScriptedModel::start(ONCE_SILENT).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let agent = AgentBuilder::new("helper", "claude-haiku-4-5").cost("$5");
    let agent = Arc::new(agent.build().unwrap());
    let open = || async {
        let builder = Otto::builder().enabled(true).state_dir(state.path());
        let builder = builder.client(model.client()).agent((*agent).clone());
        builder.open().await.unwrap()
    };
    let limit = Money::from_dollars(1);
    let task = TaskSpec::new("count").limited_to(Budgets {
        cost: Some(Limit::new(limit, "task")),
        ..Budgets::default()
    });

    let first = open().await;
    let helper = first.agent("helper").unwrap();
    let mut handle = helper.invoke_stream(task).await.unwrap();
    handle.durable().await;
    // The attempt that falls silent is this one's.
    let asked = tokio::time::timeout(Duration::from_secs(10), model.asked(1)).await;
    asked.expect("the model is asked");
    let invocation = handle.ids().invocation;
    first.hand_over(Duration::from_secs(5)).await;

    let next = open().await;
    let options = InvokeOptions {
        listening: Listening::On,
    };
    let taken_up = next.engine().recover(agent.clone(), invocation, options);
    let mut taken_up = taken_up.await.unwrap();
    let mut limits = Vec::new();
    while let Some(event) = taken_up.next_event().await {
        if let ListenerEvent::Settled { limit, .. } = event {
            limits.push(limit);
        }
    }
    assert!(!limits.is_empty(), "something was settled");
    assert!(limits.iter().all(|told| *told == Some(limit)), "{limits:?}");
}
