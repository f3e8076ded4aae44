//! A request for a summary is answered by the script's `summary`, and the turns go on behind it.

use std::sync::Arc;

use otto_core::compaction::{Pinned, Summary, first_message, summary_request};
use otto_core::message::Message;
use otto_core::port::llm_client::ModelEvent;

use crate::production::{assistant, call, client, conversation, events, finished, results, serve};
use otto_scripted::{Script, Tokenizer};

const SCRIPT: &str = "
turns:
  - thinking: hm
    tool: { name: fs.read, as: a, input: { path: a.txt } }
  - tool: { name: fs.read, as: b, input: { path: b.txt } }
  - text: 'turn {{ turn }} of {{ task }}, b is {{ result.b | default \"gone\" }}'
summary: { text: 'a is {{ result.a }}' }
";

fn text_of(events: &[ModelEvent]) -> String {
    let text = |event: &ModelEvent| match event {
        ModelEvent::TextDelta { text, .. } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_compacted_conversation_goes_on_with_the_turn_that_is_due() {
    let server = serve(SCRIPT, Tokenizer::default()).await;
    let client = client(&server);
    let spec = conversation("claude-sonnet-5-5", &["fs.read"]);
    let mut history = vec![Arc::new(Message::user_text("the task"))];
    for text in ["first", "second"] {
        let events = events(&client, call(&spec, &history)).await;
        let usage = finished(&events).usage.unwrap();
        let reply = assistant(&events, &usage);
        let results = results(&reply, text);
        history.extend([Arc::new(reply), Arc::new(results)]);
    }
    let mut asked = history[..3].to_vec();
    asked.push(Arc::new(summary_request()));
    let said = text_of(&events(&client, call(&spec, &asked)).await);
    assert_eq!(said, "a is first");

    let pinned = Pinned::default();
    let first = first_message("the task", 2, Summary::Whole(&said), &pinned, &history[3..]);
    let compacted = [Arc::new(first)];
    let said = text_of(&events(&client, call(&spec, &compacted)).await);
    assert_eq!(said, "turn 3 of the task, b is gone");
}

#[test]
fn a_script_needs_no_summary_and_its_keys_are_checked() {
    assert!(Script::parse("turns: [{ text: hi }]", "x").is_ok());
    let errors = Script::parse(
        "turns: [{ text: hi }]\nsummary: { text: hi, repeat: 2 }",
        "x",
    );
    let errors = errors.unwrap_err().to_string();
    assert!(errors.contains("repeat"), "{errors}");
}
