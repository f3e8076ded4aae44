//! `/v1/agents`, `/v1/tools`: what can be invoked, and with what.

use axum::Json;
use axum::extract::State;
use otto::SideEffects;
use serde::Serialize;

use crate::routes::view::MoneyView;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct AgentView {
    name: String,
    description: String,
    model: String,
    tools: Vec<String>,
    limits: LimitsView,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
pub(crate) struct ToolView {
    name: String,
    description: String,
    permissions: Vec<&'static str>,
    changes_something: bool,
    timeout_ms: u64,
    max_output_bytes: u64,
    input_schema: serde_json::Value,
}

/// `GET /v1/agents`
pub(crate) async fn list(State(state): State<AppState>) -> Json<Vec<AgentView>> {
    let agents = state.otto.agents();
    Json(
        agents
            .iter()
            .map(|agent| AgentView {
                name: agent.name.to_string(),
                description: agent.description.to_string(),
                model: agent.model.to_string(),
                tools: agent.tools.iter().map(ToString::to_string).collect(),
                limits: LimitsView {
                    time_ms: agent
                        .budgets
                        .time
                        .as_ref()
                        .map(|limit| u64::try_from(limit.value.as_millis()).unwrap_or(u64::MAX)),
                    tokens: agent.budgets.tokens.as_ref().map(|limit| limit.value),
                    cost: agent.budgets.cost.as_ref().map(|limit| limit.value.into()),
                    turns: agent.budgets.turns.as_ref().map(|limit| limit.value),
                },
            })
            .collect(),
    )
}

/// `GET /v1/tools`
pub(crate) async fn tools(State(state): State<AppState>) -> Json<Vec<ToolView>> {
    let snapshot = state.otto.tools().snapshot();
    Json(
        snapshot
            .tools()
            .map(|tool| {
                let definition = tool.definition();
                ToolView {
                    name: definition.name.to_string(),
                    description: definition.description.to_string(),
                    permissions: definition
                        .permissions
                        .iter()
                        .map(otto::Permission::as_str)
                        .collect(),
                    changes_something: definition.side_effects == SideEffects::Some,
                    timeout_ms: u64::try_from(definition.timeout.as_millis()).unwrap_or(u64::MAX),
                    max_output_bytes: definition.max_output_bytes as u64,
                    input_schema: serde_json::from_str(&definition.input_schema)
                        .unwrap_or_default(),
                }
            })
            .collect(),
    )
}
