//! `otto plan AGENT TASK`

use std::sync::Arc;

use clap::Args;
use otto::limits::show_count;
use otto::text::visible;
use otto::{Plan as Planned, TaskSpec};
use serde_json::{Value, json};

use crate::Performed;
use crate::commands::run::{Limits, find};
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{self, Out, Style, Table, To, show_money, show_tokens};

/// Arguments of `otto plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The agent, as `otto agents` lists it
    agent: String,
    /// The task in words
    #[arg(required = true, num_args = 1.., allow_hyphen_values = false)]
    task: Vec<String>,
    #[command(flatten)]
    narrower: Limits,
}

impl Plan {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let agents = context.agents(&operator)?;
        let agent = find(&agents, &self.agent)?;
        let task = TaskSpec {
            input: Arc::from(self.task.join(" ")),
            budgets: self.narrower.budgets(),
            ..TaskSpec::default()
        };
        let runtime = context.runtime()?;
        let planned: Planned = runtime.block_on(async {
            let otto = open::to_plan(context, &operator, &agents).await?;
            let planned =
                async { Ok::<_, Failure>(otto.agent(agent.name.as_str())?.plan(task).await?) };
            let planned = planned.await;
            open::close(otto).await;
            planned
        })?;
        if context.out.is_json() {
            context.out.json(&describe(&planned));
        } else {
            show(&mut context.out, agent.name.as_str(), &planned);
        }
        Ok(match planned.first_call {
            Ok(_) => Code::Completed,
            Err(_) => Code::BudgetExhausted,
        })
    }
}

fn describe(plan: &Planned) -> Value {
    let first_call = match &plan.first_call {
        Ok(grant) => json!({
            "held": output::money_json(grant.held_cost),
            "max_output_tokens": grant.max_output_tokens,
        }),
        Err(denial) => json!({"denied": denial.to_string()}),
    };
    json!({
        "type": "plan",
        "model": plan.model.as_str(),
        "prompt_tokens": {"least": plan.prompt_tokens.0, "most": plan.prompt_tokens.1},
        "first_call": first_call,
        "any_call_at_most": output::money_json(plan.any_call),
        "least": output::money_json(plan.least),
        "most": output::money_json(plan.most),
        "bound_by": {
            "resource": plan.bound_by.resource,
            "scope": plan.bound_by.scope,
            "limit": plan.bound_by.limit.to_string(),
            "origin": plan.bound_by.origin,
        },
    })
}

fn show(out: &mut Out, agent: &str, plan: &Planned) {
    let painter = out.painter(To::Answer);
    let title = painter.paint(Style::Strong, agent);
    out.line(
        To::Answer,
        &format!(
            "{title} on {}: nothing was sent, held or spent\n",
            plan.model
        ),
    );
    let mut table = Table::new(["", ">least", ">at most", "which is"]);
    let (least, most) = plan.prompt_tokens;
    match &plan.first_call {
        Ok(grant) => table.row([
            "first call".to_owned(),
            show_money(plan.least),
            show_money(grant.held_cost),
            format!(
                "a prompt of {} to {} tokens, up to {} tokens of answer",
                show_tokens(least),
                show_tokens(most),
                show_count(grant.max_output_tokens)
            ),
        ]),
        Err(denial) => table.row([
            "first call".to_owned(),
            "$0.00".to_owned(),
            "$0.00".to_owned(),
            format!("not made: {}", visible(&denial.to_string())),
        ]),
    }
    table.row([
        "any later call".to_owned(),
        String::new(),
        show_money(plan.any_call.min(plan.most)),
        "a full window and the longest answer, within the limits".to_owned(),
    ]);
    table.row([
        "all together".to_owned(),
        show_money(plan.least),
        show_money(plan.most),
        "one short answer, and what no course can exceed".to_owned(),
    ]);
    let text = table.render();
    out.write(To::Answer, &text);
    let bound = &plan.bound_by;
    out.line(
        To::Answer,
        &format!(
            "\nwhat binds first: the {} limit of {} in {}, set by {}",
            bound.resource,
            bound.limit,
            visible(&bound.scope),
            visible(&bound.origin)
        ),
    );
}
