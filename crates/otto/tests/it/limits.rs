//! Which limits an invocation is under: those in its journal, whoever takes it up again and however often.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use otto::core::agent::Limit;
use otto::testing::ScriptedModel;
use otto::{
    AgentBuilder, AgentConfig, Budgets, Ids, InvocationHandle, ListenerEvent, Listening, Money,
    Otto, ResumeOptions, TaskSpec,
};
use otto_engine::InvokeOptions;

/// The first two attempts fall silent in the middle, the third is whole.
const TWICE_SILENT: &str = "turns: [{ text: 'one two three four', chunk: words, faults: [{ attempt: 1, stall: { event: 5 } }, { attempt: 2, stall: { event: 5 } }] }]";
/// What the task allows, of the five dollars of its agent.
const OF_THE_TASK: Money = Money::from_dollars(1);

fn agent() -> Arc<AgentConfig> {
    let agent = AgentBuilder::new("helper", "claude-haiku-4-5").cost("$5");
    Arc::new(agent.build().unwrap())
}

async fn open(model: &ScriptedModel, state: &Path) -> Otto {
    let builder = Otto::builder().enabled(true).state_dir(state);
    let builder = builder.client(model.client()).agent((*agent()).clone());
    builder.open().await.unwrap()
}

fn cost(limit: Money) -> Budgets {
    Budgets {
        cost: Some(Limit::new(limit, "test")),
        ..Budgets::default()
    }
}

fn resume(raise: Budgets) -> ResumeOptions {
    ResumeOptions {
        listening: Listening::On,
        raise,
        decision: None,
    }
}

/// Ends the Otto once its model has been asked so often.
async fn end_after(otto: Otto, model: &ScriptedModel, requests: u64) {
    let asked = tokio::time::timeout(Duration::from_secs(10), model.asked(requests)).await;
    asked.expect("the model is asked");
    otto.hand_over(Duration::from_secs(5)).await;
}

/// An invocation whose Otto has ended in its middle.
async fn left_behind(model: &ScriptedModel, state: &Path) -> Ids {
    let otto = open(model, state).await;
    let task = TaskSpec::new("count").limited_to(cost(OF_THE_TASK));
    let mut handle = otto
        .agent("helper")
        .unwrap()
        .invoke_stream(task)
        .await
        .unwrap();
    handle.durable().await;
    end_after(otto, model, 1).await;
    handle.ids()
}

/// What its listener is told of its limit, until it has ended.
async fn told(mut handle: InvocationHandle) -> Vec<Option<Money>> {
    let mut limits = Vec::new();
    while let Some(event) = handle.next_event().await {
        if let ListenerEvent::Settled { limit, .. } = event {
            limits.push(limit);
        }
    }
    assert!(!limits.is_empty(), "something was settled");
    limits.dedup();
    limits
}

#[tokio::test]
async fn what_is_taken_up_goes_on_under_the_limit_of_its_task() {
    let model = ScriptedModel::start(TWICE_SILENT).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let left = left_behind(&model, state.path()).await;
    let next = open(&model, state.path()).await;
    let options = InvokeOptions {
        listening: Listening::On,
    };
    let engine = next.engine().clone();
    let taken_up = engine.recover(agent(), left.invocation, options).await;
    end_after(next, &model, 2).await;
    drop(taken_up.unwrap());

    let last = open(&model, state.path()).await;
    let options = InvokeOptions {
        listening: Listening::On,
    };
    let taken_up = last.engine().recover(agent(), left.invocation, options);
    assert_eq!(told(taken_up.await.unwrap()).await, [Some(OF_THE_TASK)]);
}

#[tokio::test]
async fn a_limit_stays_raised_and_a_resumption_without_a_word_raises_nothing() {
    let model = ScriptedModel::start(TWICE_SILENT).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let left = left_behind(&model, state.path()).await;

    let next = open(&model, state.path()).await;
    let engine = next.engine();
    let limits = engine.limits_of(left.invocation).await.unwrap();
    assert_eq!(limits.cost.map(|limit| limit.value), Some(OF_THE_TASK));
    let lower = resume(cost("$0.50".parse().unwrap()));
    let refused = next.resume(left.session, lower).await.unwrap_err();
    assert!(
        refused.to_string().contains("can only be raised"),
        "{refused}"
    );
    let raised = Money::from_dollars(2);
    let handle = next.resume(left.session, resume(cost(raised))).await;
    end_after(next, &model, 2).await;
    drop(handle.unwrap());

    let last = open(&model, state.path()).await;
    let handle = last.resume(left.session, resume(Budgets::default())).await;
    assert_eq!(told(handle.unwrap()).await, [Some(raised)]);
}
