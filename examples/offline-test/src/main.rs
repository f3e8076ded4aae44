//! Tests of an agent without key and network: `cargo test -p example-offline-test`, or `cargo run` to see it work.
//!
//! The application takes its model as a parameter. The program hands in the scripted model here, and would hand
//! in `AnthropicClient` in production; the tests hand in scripts that answer well, badly, and not at all.

use std::error::Error;
use std::sync::Arc;

use otto::testing::ScriptedModel;
use otto::{AgentBuilder, LlmClient, Otto, TypedTool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Order {
    /// The number of the order.
    number: u32,
}

/// The application: an agent that knows where orders are.
async fn application(model: Arc<dyn LlmClient>) -> Result<Otto, Box<dyn Error>> {
    let order = TypedTool::looking("order", "Finds an order.", |order: Order| async move {
        Ok(format!("order {} is on its way", order.number))
    })?;
    let clerk = AgentBuilder::new("clerk", "claude-haiku-4-5")
        .system_prompt("Answer questions about orders. Never invent one.")
        .tools(["order"])
        .cost("$0.05")
        .build()?;
    let builder = Otto::builder().enabled(true).client(model);
    Ok(builder.tool(order).agent(clerk).open().await?)
}

const ANSWERS: &str = r#"
turns:
  - tool: { name: order, input: { number: 7 } }
  - text: "Good news: {{ result.order }}."
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let model = ScriptedModel::start(ANSWERS).await?;
    let otto = application(model.client()).await?;
    let report = otto.agent("clerk")?.invoke("Where is order 7?").await?;
    println!("{}", report.text());
    println!("now try: cargo test -p example-offline-test");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use otto::OutcomeKind;

    #[tokio::test]
    async fn it_looks_the_order_up_and_tells_the_truth() -> Result<(), Box<dyn Error>> {
        let model = ScriptedModel::start(ANSWERS).await?;
        let otto = application(model.client()).await?;
        let report = otto.agent("clerk")?.invoke("Where is order 7?").await?;
        assert_eq!(report.text(), "Good news: order 7 is on its way.");
        // What the model was told, word for word.
        let requests = model.requests();
        let last = String::from_utf8_lossy(&requests[1].body);
        assert!(last.contains("order 7 is on its way"), "{last}");
        // And what it cost: the scripted model keeps the books of a real one.
        assert_eq!(model.billed().await.cost, report.charged);
        Ok(())
    }

    #[tokio::test]
    async fn a_model_that_is_overloaded_is_asked_again() -> Result<(), Box<dyn Error>> {
        let script = "turns: [{ text: At last., faults: [{ attempt: 1, status: 529, headers: { retry-after: '0' } }] }]";
        let model = ScriptedModel::start(script).await?;
        let otto = application(model.client()).await?;
        let report = otto.agent("clerk")?.invoke("Where is order 7?").await?;
        assert_eq!((report.text(), report.totals.calls), ("At last.", 2));
        Ok(())
    }

    #[tokio::test]
    async fn a_model_that_turns_in_circles_is_stopped() -> Result<(), Box<dyn Error>> {
        let script = "turns: [{ repeat: forever, tool: { name: order, input: { number: 1 } } }]";
        let model = ScriptedModel::start(script).await?;
        let otto = application(model.client()).await?;
        let report = otto.agent("clerk")?.invoke("Where is order 7?").await?;
        assert_eq!(report.outcome.kind(), OutcomeKind::Failed);
        assert!(
            report
                .outcome
                .to_string()
                .contains("`order` gave the same result")
        );
        Ok(())
    }
}
