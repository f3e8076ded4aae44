//! What listeners hear of the calls of a turn, and that they hear the end.

use otto::core::ToolCallId;
use otto::core::invocation::ToolEnding;
use otto::testing::ScriptedModel;
use otto::{AgentBuilder, ListenerEvent, Otto, TypedTool};

const SCRIPT: &str = "
turns:
  - tools: [{ name: shell, input: { command: ls } }, { name: add, input: { a: 2, b: 40 } }]
  - text: done
";

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

async fn opened(model: &ScriptedModel) -> Otto {
    let add = TypedTool::looking("add", "Adds two whole numbers.", |input: Add| async move {
        Ok((input.a + input.b).to_string())
    });
    let agent = AgentBuilder::new("helper", "claude-haiku-4-5").tools(["add"]);
    let builder = Otto::builder().enabled(true).client(model.client());
    let builder = builder.tool(add.unwrap()).agent(agent.build().unwrap());
    builder.open().await.unwrap()
}

#[tokio::test]
async fn whoever_listens_hears_the_end_though_the_handle_is_kept() {
    let model = ScriptedModel::start(SCRIPT).await.unwrap();
    let otto = opened(&model).await;
    let helper = otto.agent("helper").unwrap();
    let mut handle = helper.invoke_stream("go").await.unwrap();
    let mut events = handle.take_events().unwrap();
    let running = otto.engine().registry().find(handle.ids().invocation);
    let mut of_another = running.as_ref().unwrap().subscribe().unwrap();
    for events in [&mut events, &mut of_another] {
        let mut last = None;
        while let Ok(event) = events.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(ListenerEvent::Finished(_))), "{last:?}");
    }
    assert!(running.unwrap().subscribe().is_none());
    handle.report().await.unwrap();
}

#[tokio::test]
async fn every_call_that_has_begun_ends_also_of_a_tool_that_is_not_there() {
    let model = ScriptedModel::start(SCRIPT).await.unwrap();
    let otto = opened(&model).await;
    let helper = otto.agent("helper").unwrap();
    let mut handle = helper.invoke_stream("go").await.unwrap();
    let (mut begun, mut ended): (Vec<ToolCallId>, Vec<_>) = (Vec::new(), Vec::new());
    while let Some(event) = handle.next_event().await {
        match event {
            ListenerEvent::ToolCallStarted { call, .. } => begun.push(call),
            ListenerEvent::ToolFinished {
                call, tool, ending, ..
            } => ended.push((call, tool.to_string(), ending)),
            _ => {}
        }
    }
    ended.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(begun.len(), 2);
    assert!(
        begun
            .iter()
            .all(|call| ended.iter().any(|ended| ended.0 == *call))
    );
    let told: Vec<_> = ended
        .iter()
        .map(|(_, tool, ending)| (&**tool, *ending))
        .collect();
    let expected = [
        ("add", ToolEnding::Succeeded),
        ("shell", ToolEnding::Failed),
    ];
    assert_eq!(told, expected);
}
