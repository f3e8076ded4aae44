//! Several invocations under one budget: `cargo run -p example-workflow`.
//!
//! A planner and a writer work in turn until the budget that they share is used up. The last invocation is
//! stopped before its model call is made: the limit is never passed.

use otto::testing::ScriptedModel;
use otto::{
    AgentBuilder, Budgets, Ceilings, Limit, Otto, Outcome, TaskSpec, UsageGroup, UsageQuery,
};

const SCRIPT: &str = r#"
conversations:
  - when: task | has "^Plan"
    turns: [{ text: "First the heading, then the text." }]
  - turns: [{ text: "A heading and a text, as planned." }]
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // For a real model, put this in the place of `.client(...)` below:
    // `.anthropic(otto::AnthropicConfig::new(std::env::var("ANTHROPIC_API_KEY")?.into()))?`
    let model = ScriptedModel::start(SCRIPT).await?;
    let ceilings = Ceilings {
        workflow: Budgets {
            cost: Some(Limit::new("$0.005".parse()?, "this example")),
            ..Budgets::default()
        },
        ..Ceilings::daily(Limit::new("$1".parse()?, "this example"))
    };
    let otto = Otto::builder()
        .enabled(true)
        .client(model.client())
        .ceilings(ceilings)
        .agent(AgentBuilder::new("planner", "claude-haiku-4-5").build()?)
        .agent(AgentBuilder::new("writer", "claude-haiku-4-5").build()?)
        .open()
        .await?;

    let workflow = otto.new_workflow();
    for chapter in 1..100 {
        let plan = TaskSpec::new(&format!("Plan chapter {chapter}.")).in_workflow(workflow);
        let plan = otto.agent("planner")?.invoke(plan).await?;
        let text = TaskSpec::new(&format!("Write it: {}", plan.text())).in_workflow(workflow);
        let text = otto.agent("writer")?.invoke(text).await?;
        if let Outcome::BudgetExhausted { denial } = &text.outcome {
            println!("the budget of the workflow is used up: {denial}");
            break;
        }
    }
    let query = UsageQuery {
        workflow: Some(workflow),
        group_by: vec![UsageGroup::Agent],
        ..UsageQuery::default()
    };
    for row in otto.usage(query).await?.rows {
        println!("{}: {} model calls", row.key[&UsageGroup::Agent], row.calls);
    }
    Ok(())
}
