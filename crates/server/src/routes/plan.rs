//! `/v1/plan`: what an invocation could cost. Nothing is sent, held or spent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::{Plan, TaskSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::{Body, object};
use super::limits::LimitsBody;
use super::view::MoneyView;
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/plan", READ, "plan_invocation", plan)
            .summary("What an invocation could cost, before anything is spent")
            .takes::<Planned>()
            .answers::<PlanView>(StatusCode::OK, "The price range, and what binds it."),
    ]
}

/// What would be done.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PlanRequest")]
struct Planned {
    /// The agent's name.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    agent: String,
    /// The task in words.
    #[schemars(length(min = 1))]
    task: String,
    /// Limits that narrow the agent's.
    #[serde(default, deserialize_with = "object")]
    budgets: LimitsBody,
}

/// The price range of an invocation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Plan")]
struct PlanView {
    model: String,
    /// Tokens of the first prompt.
    prompt_tokens: RangeView,
    first_call: FirstCallView,
    /// The most that any later call can cost.
    any_call_at_most: MoneyView,
    /// The least plausible of all calls together.
    least: MoneyView,
    /// The most possible of all calls together.
    most: MoneyView,
    bound_by: BoundView,
}

/// From the plausible least to the most.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenRange")]
struct RangeView {
    least: u64,
    most: u64,
}

/// What the first call would hold, or why it would not be made.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "FirstCall")]
enum FirstCallView {
    Held {
        held: MoneyView,
        max_output_tokens: u64,
    },
    Denied {
        denied: String,
    },
}

/// What binds first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Bound")]
struct BoundView {
    /// `cost`, `tokens` or `turns`.
    resource: &'static str,
    scope: String,
    limit: String,
    /// Where the limit was set.
    origin: String,
}

impl From<Plan> for PlanView {
    fn from(plan: Plan) -> Self {
        Self {
            model: plan.model.to_string(),
            prompt_tokens: RangeView {
                least: plan.prompt_tokens.0,
                most: plan.prompt_tokens.1,
            },
            first_call: match plan.first_call {
                Ok(grant) => FirstCallView::Held {
                    held: grant.held_cost.into(),
                    max_output_tokens: grant.max_output_tokens,
                },
                Err(denial) => FirstCallView::Denied {
                    denied: denial.to_string(),
                },
            },
            any_call_at_most: plan.any_call.into(),
            least: plan.least.into(),
            most: plan.most.into(),
            bound_by: BoundView {
                resource: plan.bound_by.resource,
                scope: plan.bound_by.scope,
                limit: plan.bound_by.limit.to_string(),
                origin: plan.bound_by.origin,
            },
        }
    }
}

async fn plan(
    State(state): State<AppState>,
    Body(body): Body<Planned>,
) -> Result<Json<PlanView>, Problem> {
    let agent = state.otto.agent(&body.agent)?;
    let task = TaskSpec {
        input: Arc::from(body.task),
        budgets: body.budgets.budgets("budgets")?,
        ..TaskSpec::default()
    };
    Ok(Json(agent.plan(task).await?.into()))
}
