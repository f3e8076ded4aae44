//! `/v1/agents`, `/v1/tools`: what can be invoked, and with what.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::{AgentConfig, SideEffects, Tool};
use schemars::JsonSchema;
use serde::Serialize;

use super::extract::Text;
use super::view::MoneyView;
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/agents", READ, "list_agents", list)
            .summary("List the agents")
            .answers::<Vec<AgentView>>(StatusCode::OK, "The agents."),
        Route::get("/v1/agents/{name}", READ, "show_agent", show)
            .summary("Show an agent")
            .text("name", "The agent.")
            .answers::<AgentView>(StatusCode::OK, "The agent."),
        Route::get("/v1/tools", READ, "list_tools", tools)
            .summary("List the tools that agents can use")
            .answers::<Vec<ToolView>>(StatusCode::OK, "The tools."),
        Route::get("/v1/tools/{name}", READ, "show_tool", tool)
            .summary("Show a tool")
            .text("name", "The tool.")
            .answers::<ToolView>(StatusCode::OK, "The tool."),
    ]
}

/// An agent as it is configured now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Agent")]
struct AgentView {
    name: String,
    description: String,
    model: String,
    tools: Vec<String>,
    limits: LimitsView,
    /// Where it is configured.
    origin: String,
}

/// The limits of an agent's invocations; what is absent has the default.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentLimits")]
struct LimitsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<MoneyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<u32>,
}

/// A tool.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tool")]
struct ToolView {
    name: String,
    description: String,
    /// What it needs: `read`, `write`, `exec`, `net`.
    permissions: Vec<&'static str>,
    changes_something: bool,
    timeout_ms: u64,
    max_output_bytes: u64,
    /// The JSON Schema of its input.
    input_schema: serde_json::Value,
}

impl From<&AgentConfig> for AgentView {
    fn from(agent: &AgentConfig) -> Self {
        let budgets = &agent.budgets;
        Self {
            name: agent.name.to_string(),
            description: agent.description.to_string(),
            model: agent.model.to_string(),
            tools: agent.tools.iter().map(ToString::to_string).collect(),
            limits: LimitsView {
                time_ms: budgets.time.as_ref().map(|limit| millis(limit.value)),
                tokens: budgets.tokens.as_ref().map(|limit| limit.value),
                cost: budgets.cost.as_ref().map(|limit| limit.value.into()),
                turns: budgets.turns.as_ref().map(|limit| limit.value),
            },
            origin: agent.origin.to_string(),
        }
    }
}

impl From<&dyn Tool> for ToolView {
    fn from(tool: &dyn Tool) -> Self {
        let definition = tool.definition();
        Self {
            name: definition.name.to_string(),
            description: definition.description.to_string(),
            permissions: definition
                .permissions
                .iter()
                .map(otto::Permission::as_str)
                .collect(),
            changes_something: definition.side_effects == SideEffects::Some,
            timeout_ms: millis(definition.timeout),
            max_output_bytes: definition.max_output_bytes as u64,
            input_schema: serde_json::from_str(&definition.input_schema).unwrap_or_default(),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn list(State(state): State<AppState>) -> Json<Vec<AgentView>> {
    let agents = state.otto.agents();
    Json(agents.iter().map(|agent| (&**agent).into()).collect())
}

async fn show(State(state): State<AppState>, Text(name): Text) -> Result<Json<AgentView>, Problem> {
    Ok(Json(state.otto.agent(&name)?.config().into()))
}

async fn tools(State(state): State<AppState>) -> Json<Vec<ToolView>> {
    let snapshot = state.otto.tools().snapshot();
    Json(snapshot.tools().map(|tool| (&**tool).into()).collect())
}

async fn tool(State(state): State<AppState>, Text(name): Text) -> Result<Json<ToolView>, Problem> {
    let snapshot = state.otto.tools().snapshot();
    let found = otto::ToolName::new(&name)
        .ok()
        .and_then(|name| snapshot.find(&name).map(|tool| (&**tool).into()));
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no such tool; /v1/tools lists them"))
}
