//! The smallest agent: `cargo run -p example-minimal`.

use otto::testing::ScriptedModel;
use otto::{AgentBuilder, Otto};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A model that plays a script. For a real one, put this in the place of `.client(...)` below:
    // `.anthropic(otto::AnthropicConfig::new(std::env::var("ANTHROPIC_API_KEY")?.into()))?`
    let model = ScriptedModel::start("turns: [{ text: 'Hello, {{ task }}!' }]").await?;
    let greeter = AgentBuilder::new("greeter", "claude-haiku-4-5")
        .system_prompt("Greet whoever is named, in one line.")
        .cost("$0.05")
        .build()?;
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .agent(greeter)
        .open()
        .await?;
    let report = otto.agent("greeter")?.invoke("Ada").await?;
    println!("{} ({} charged)", report.text(), report.charged);
    Ok(())
}
