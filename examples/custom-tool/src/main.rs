//! A tool of your own: `cargo run -p example-custom-tool`.

use otto::testing::ScriptedModel;
use otto::{AgentBuilder, InvalidId, Otto, ToolError, TypedTool};

// The tool begins here. The model reads the comments of the fields.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Stock {
    /// What is looked for, such as "bolts".
    article: String,
}

fn stock() -> Result<TypedTool, InvalidId> {
    let what = "Tells how many pieces of an article are in stock.";
    TypedTool::looking("stock", what, |input: Stock| async move {
        match input.article.as_str() {
            "bolts" => Ok("420 pieces".to_owned()),
            _ => Err(ToolError::for_model(
                "there is no such article; ask for bolts",
            )),
        }
    })
}
// The tool ends here.

const SCRIPT: &str = r#"
turns:
  - tool: { name: stock, as: first, input: { article: screws } }
  - tool: { name: stock, input: { article: bolts } }
  - text: "No screws ({{ result.first }}), but bolts: {{ result.stock }}."
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a real model, put this in the place of `.client(...)` below:
    // `.anthropic(otto::AnthropicConfig::new(std::env::var("ANTHROPIC_API_KEY")?.into()))?`
    let model = ScriptedModel::start(SCRIPT).await?;
    let keeper = AgentBuilder::new("keeper", "claude-haiku-4-5")
        .system_prompt("Answer questions about the stock.")
        .tools(["stock"])
        .build()?;
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .tool(stock()?)
        .agent(keeper)
        .open()
        .await?;
    let report = otto
        .agent("keeper")?
        .invoke("What can I build with?")
        .await?;
    println!("{}", report.text());
    println!(
        "{} tool calls in {} turns",
        report.totals.tool_calls, report.turns
    );
    Ok(())
}
