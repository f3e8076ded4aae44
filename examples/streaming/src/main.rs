//! An agent that is watched while it works: `cargo run -p example-streaming`.

use std::io::{self, Write};

use otto::testing::ScriptedModel;
use otto::{AgentBuilder, ListenerEvent, Otto, TypedTool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Sky {
    /// A town.
    town: String,
}

const SCRIPT: &str = r#"
turns:
  - text: "I look out of the window. "
    tool: { name: sky, input: { town: Bremen } }
  - text: "Over Bremen the sky is {{ result.sky }}. Take a coat with you."
    chunk: words
    pace: 20ms
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a real model, put this in the place of `.client(...)` below:
    // `.anthropic(otto::AnthropicConfig::new(std::env::var("ANTHROPIC_API_KEY")?.into()))?`
    let model = ScriptedModel::start(SCRIPT).await?;
    let sky = TypedTool::looking(
        "sky",
        "Tells the color of the sky.",
        |sky: Sky| async move { Ok(if sky.town == "Bremen" { "gray" } else { "blue" }.to_owned()) },
    )?;
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .tool(sky)
        .agent(
            AgentBuilder::new("watcher", "claude-haiku-4-5")
                .tools(["sky"])
                .build()?,
        )
        .open()
        .await?;

    let mut running = otto
        .agent("watcher")?
        .invoke_stream("Do I need a coat?")
        .await?;
    // Ctrl-C ends it in an orderly way; what it has done so far is in the report.
    let cancel = running.canceller();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel();
        }
    });
    let mut out = io::stdout();
    while let Some(event) = running.next_event().await {
        match event {
            ListenerEvent::Text(text) => write!(out, "{text}")?,
            ListenerEvent::ToolFinished { tool, content, .. } => {
                writeln!(out, "\n  [{tool}: {content}]")?;
            }
            _ => {}
        }
        out.flush()?;
    }
    let report = running.report().await?;
    writeln!(out, "\n{}: {} turns", report.outcome, report.turns)?;
    Ok(())
}
