//! What tools share, through the library: with its invocation, and beyond memory on disk.

use std::path::Path;
use std::sync::{Arc, Mutex};

use otto::testing::ScriptedModel;
use otto::{
    AgentBuilder, ContextId, ContextMetadata, Otto, TaskId, Timestamp, ToolError, TypedTool,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Note {
    text: String,
}

fn files(state: &Path) -> usize {
    let dirs = std::fs::read_dir(state.join("contexts"))
        .into_iter()
        .flatten();
    dirs.map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap().count())
        .sum()
}

#[tokio::test]
async fn tools_share_data_until_their_invocation_ends() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let witness = seen.clone();
    let note = TypedTool::looking_in_context("note", "Notes a text.", move |input: Note, ctx| {
        let witness = witness.clone();
        async move {
            let data = ctx.data.clone();
            data.update(
                "notes",
                Box::new(move |old| {
                    let mut all = old.unwrap_or_default().to_vec();
                    all.extend_from_slice(input.text.as_bytes());
                    Some(Arc::from(all))
                }),
            )
            .await
            .map_err(|error| ToolError::for_model(error.to_string()))?;
            let all = data.read("notes").await.unwrap().unwrap();
            witness.lock().unwrap().push(data);
            Ok(String::from_utf8_lossy(&all).into_owned())
        }
    })
    .unwrap();
    let model = ScriptedModel::start(
        "turns:
           - tool: { name: note, as: one, input: { text: a } }
           - tool: { name: note, as: two, input: { text: b } }
           - text: '{{ result.one }} {{ result.two }}'",
    )
    .await
    .unwrap();
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .tool(note)
        .agent(
            AgentBuilder::new("scribe", "claude-haiku-4-5")
                .tools(["note"])
                .build()
                .unwrap(),
        )
        .open()
        .await
        .unwrap();
    let report = otto.agent("scribe").unwrap().invoke("Note.").await.unwrap();
    assert_eq!(report.text(), "a ab");
    let seen = seen.lock().unwrap().clone();
    let invocation = ContextId::from_bytes(*report.ids.invocation.as_bytes());
    for data in seen {
        assert_eq!(data.id(), invocation);
        // A handle that a tool kept does not keep the context.
        assert!(data.read("notes").await.unwrap().is_none());
        assert!(data.write("notes", Arc::from([1])).await.is_err());
    }
    assert_eq!(
        (otto.contexts().count(), otto.contexts().used_bytes()),
        (0, 0)
    );
}

#[tokio::test]
async fn contexts_beyond_memory_are_on_disk_while_they_live() {
    let model = ScriptedModel::start("turns: [{ text: 'Done.' }]")
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .state_dir(&state)
        .context_memory(100_000)
        .context_disk(1_000_000)
        .open()
        .await
        .unwrap();
    let store = otto.contexts().clone();
    let metadata = ContextMetadata {
        task: TaskId::from_bytes([1; 16]),
        parent_workflow: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    };
    let id = |n| ContextId::from_bytes([n; 16]);
    let guards: Vec<_> = (0..10).map(|n| store.open(id(n), metadata)).collect();
    for n in 0..10 {
        let value = Arc::from(vec![n; 40_000]);
        store
            .write(id(n), "key", value, Timestamp::EPOCH)
            .await
            .unwrap();
    }
    assert!(store.used_bytes() <= 100_000);
    assert_eq!(files(&state), 8);
    for n in 0..10 {
        let value = store.read(id(n), "key").await.unwrap().unwrap();
        assert!(value.len() == 40_000 && value.iter().all(|byte| *byte == n));
    }
    drop(guards);
    assert_eq!(files(&state), 0);
    assert_eq!(store.disk_bytes(), 0);
}
