//! A long conversation over the real client: summarized near the window, and everything still there for people.

use otto::testing::ScriptedModel;
use otto::{AgentBuilder, Budgets, Limit, ListenerEvent, Otto, OutcomeKind, TypedTool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Page {
    /// Which one.
    number: u32,
}

/// Each page takes some 60,000 tokens; the threshold is at 100,000. The model binds its thinking to the prefix: a
/// block that is kept behind another one is refused.
/// Behind the second page, and behind each that follows: the last one is quoted, the one before summarized.
const REPLACED: [u32; 3] = [2, 3, 4];

const SCRIPT: &str = "
turns:
  - { thinking: first, text: 'PIN: the key is 42', tool: { name: page, input: { number: 1 } } }
  - { thinking: second, tool: { name: page, input: { number: 2 } } }
  - { thinking: third, tool: { name: page, input: { number: 3 } } }
  - { thinking: fourth, tool: { name: page, input: { number: 4 } } }
  - { text: 'turn {{ turn }}: read them all' }
summary: { text: 'Read page {{ result.page | truncate 1 | default \"and page\" }}.' }
";

async fn reader(model: &ScriptedModel, compact_at: &str) -> Otto {
    let page = TypedTool::looking("page", "Reads a page.", |page: Page| async move {
        Ok(format!("{} {}", page.number, "word ".repeat(48_000)))
    });
    let agent = AgentBuilder::new("reader", "claude-haiku-5-5")
        .tools(["page"])
        .compact_at(compact_at)
        .budgets(Budgets {
            tokens: Some(Limit::new(100_000_000, "test")),
            cost: Some(Limit::new("$5".parse().unwrap(), "test")),
            ..Budgets::default()
        })
        .build();
    Otto::builder()
        .enabled(true)
        .client(model.client())
        .tool(page.unwrap().max_output_bytes(512 * 1024))
        .agent(agent.unwrap())
        .open()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_long_conversation_is_compacted_and_goes_on() {
    let model = ScriptedModel::start(SCRIPT).await.unwrap();
    let otto = reader(&model, "10%").await;
    let agent = otto.agent("reader").unwrap();
    let mut running = agent.invoke_stream("Read four pages.").await.unwrap();
    let mut started = 0;
    let mut compacted = Vec::new();
    let mut text = String::new();
    while let Some(event) = running.next_event().await {
        match event {
            ListenerEvent::CompactionStarted { messages, .. } => {
                assert!(messages >= 1);
                started += 1;
            }
            ListenerEvent::Compacted {
                summarized,
                replaced_replies,
                ..
            } => {
                assert!(summarized);
                compacted.push(replaced_replies);
            }
            ListenerEvent::Text(piece) => text.push_str(&piece),
            _ => {}
        }
    }
    let report = running.report().await.unwrap();
    assert_eq!(report.text(), "turn 5: read them all", "{}", report.outcome);
    assert_eq!(compacted, REPLACED);
    assert_eq!((started, report.totals.compactions), (3, 3));
    // Whoever reads the journal tells a summary from an answer.
    let lines = otto.journal(report.ids.invocation).await.unwrap();
    let (marked, others): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| otto::core::journal::is_of_summary(line));
    let texts = |lines: &[&std::sync::Arc<str>]| {
        let texts = lines.iter().filter(|line| line.contains("block_received"));
        texts.filter(|line| line.contains("Read page")).count()
    };
    assert_eq!((texts(&marked), texts(&others)), (3, 0), "{lines:#?}");
    assert_eq!(
        (report.turns, report.totals.calls),
        (5, 5 + report.totals.compactions)
    );
    // Listeners hear the turns, not the summaries.
    assert!(!text.contains("Read page"), "{text}");
    // The summaries are on the bill like anything else.
    assert_eq!(model.billed().await.cost, report.charged);

    // No request is longer than the threshold and one more page allow.
    let longest = model
        .requests()
        .iter()
        .map(|request| request.body.len())
        .max();
    assert!(longest.unwrap() < 600_000, "{longest:?}");
    let last = model.requests().pop().unwrap();
    let last = String::from_utf8_lossy(&last.body).into_owned();
    assert!(last.contains("Read four pages.") && last.contains("Read page and page."));
    assert!(last.contains("- the key is 42") && !last.contains("\"type\":\"thinking\""));

    // People see all of it, in both views.
    for transcript in [
        otto.transcript(report.ids.invocation).await.unwrap(),
        otto.full_transcript(report.ids.invocation).await.unwrap(),
    ] {
        assert_eq!(transcript.dropped(), 0);
        let lines = transcript.to_jsonl();
        assert_eq!(lines.matches("\"type\":\"tool_result\"").count(), 4);
        assert_eq!(lines.matches("[otto:summary replies=").count(), 3);
        assert_eq!(lines.matches("\"type\":\"thinking\"").count(), 4);
    }
}

#[tokio::test]
async fn an_agent_that_never_compacts_sends_everything() {
    let model = ScriptedModel::start(SCRIPT).await.unwrap();
    let otto = reader(&model, "never").await;
    let report = otto
        .agent("reader")
        .unwrap()
        .invoke("Read four pages.")
        .await
        .unwrap();
    assert_eq!(report.outcome.kind(), OutcomeKind::Completed);
    assert_eq!((report.totals.compactions, report.totals.calls), (0, 5));
}
