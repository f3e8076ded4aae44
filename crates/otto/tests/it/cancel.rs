//! Cancelling from another process: here another Otto on the same state directory, which is the same to the store.

use std::path::Path;
use std::time::Duration;

use otto::testing::ScriptedModel;
use otto::{
    AgentBuilder, CancelError, Cancelling, InvocationId, InvocationQuery, InvocationRecord, Otto,
    OutcomeKind, ResumeOptions,
};

/// The first attempt falls silent in the middle, the second is whole.
const ONCE_SILENT: &str = "turns: [{ text: 'one two three four', chunk: words, faults: [{ attempt: 1, stall: { event: 5 } }] }]";

async fn open(model: &ScriptedModel, state: &Path) -> Otto {
    let agent = AgentBuilder::new("helper", "claude-haiku-4-5").cost("$0.50");
    Otto::builder()
        .enabled(true)
        .state_dir(state)
        .client(model.client())
        .agent(agent.build().unwrap())
        .open()
        .await
        .unwrap()
}

async fn record(otto: &Otto, invocation: InvocationId) -> InvocationRecord {
    let query = InvocationQuery {
        invocation: Some(invocation),
        ..InvocationQuery::default()
    };
    otto.invocations(query).await.unwrap().remove(0)
}

/// An invocation whose Otto has ended in its middle.
async fn left_behind(model: &ScriptedModel, state: &Path) -> InvocationRecord {
    let otto = open(model, state).await;
    let agent = otto.agent("helper").unwrap();
    let mut handle = agent.invoke_stream("count").await.unwrap();
    handle.durable().await;
    // The model has been asked, so the next request is the second.
    tokio::time::timeout(Duration::from_secs(10), model.asked(1))
        .await
        .expect("the model is asked");
    let invocation = handle.ids().invocation;
    otto.hand_over(Duration::from_secs(5)).await;
    let left = record(&otto, invocation).await;
    assert_eq!(left.outcome, None);
    left
}

#[tokio::test]
async fn what_runs_elsewhere_is_cancelled_from_here() {
    let model = ScriptedModel::start(ONCE_SILENT).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let (here, there) = (
        open(&model, state.path()).await,
        open(&model, state.path()).await,
    );
    let agent = there.agent("helper").unwrap();
    let mut handle = agent.invoke_stream("count").await.unwrap();
    handle.durable().await;
    let invocation = handle.ids().invocation;
    assert_eq!(
        here.cancel(invocation).await.unwrap(),
        Cancelling::Requested
    );
    let report = handle.report().await.unwrap();
    assert_eq!(report.outcome.kind(), OutcomeKind::Cancelled);
    assert!(matches!(
        here.cancel(invocation).await,
        Err(CancelError::Ended { .. })
    ));
    let nobody: InvocationId = "01a20846-fe00-7102-8000-000000000002".parse().unwrap();
    assert!(matches!(
        here.cancel(nobody).await,
        Err(CancelError::Unknown(_))
    ));
}

#[tokio::test]
async fn what_nobody_drives_ends_when_it_is_taken_up() {
    let model = ScriptedModel::start(ONCE_SILENT).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let left = left_behind(&model, state.path()).await;
    let here = open(&model, state.path()).await;
    assert_eq!(
        here.cancel(left.invocation).await.unwrap(),
        Cancelling::Requested
    );
    assert_eq!(record(&here, left.invocation).await.outcome, None);
    let calls = model.requests().len();
    let next = open(&model, state.path()).await;
    assert_eq!(next.recover().await.unwrap().resumed.len(), 1);
    if let Some(running) = next.engine().registry().find(left.invocation) {
        let mut progress = running.progress();
        drop(running);
        while progress.grown().await {}
    }
    let ended = record(&next, left.invocation).await;
    assert_eq!(ended.outcome, Some(OutcomeKind::Cancelled));
    assert_eq!(model.requests().len(), calls, "no model was called for it");
}

#[tokio::test]
async fn resuming_on_purpose_takes_a_request_back() {
    let model = ScriptedModel::start(ONCE_SILENT).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let left = left_behind(&model, state.path()).await;
    let here = open(&model, state.path()).await;
    here.cancel(left.invocation).await.unwrap();
    let resumed = here.resume(left.session, ResumeOptions::default()).await;
    let report = resumed.unwrap().report().await.unwrap();
    assert_eq!(report.outcome.kind(), OutcomeKind::Completed);
}
