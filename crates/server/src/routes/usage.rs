//! `/v1/usage`: what was spent, by scope and time.

use axum::Json;
use axum::extract::{Query, State};
use otto::{AgentName, InvocationId, SessionId, Timestamp, UsageGroup, UsageQuery, WorkflowId};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::routes::id;
use crate::routes::view::{MoneyView, UsageView};
use crate::state::AppState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    agent: Option<String>,
    session: Option<String>,
    workflow: Option<String>,
    invocation: Option<String>,
    group_by: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct RowView {
    #[serde(flatten)]
    key: std::collections::BTreeMap<&'static str, String>,
    calls: u64,
    unconfirmed_calls: u64,
    usage: UsageView,
    charged: MoneyView,
}

/// `GET /v1/usage`
pub(crate) async fn query(
    State(state): State<AppState>,
    params: Result<Query<Params>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<RowView>>, Problem> {
    let Query(params) = params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let group_by = params.group_by.as_deref().unwrap_or_default();
    let group_by = group_by
        .split(',')
        .filter(|word| !word.is_empty())
        .map(group)
        .collect::<Result<_, _>>()?;
    let query = UsageQuery {
        from: params.from_ms.map(Timestamp::from_millis),
        to: params.to_ms.map(Timestamp::from_millis),
        agent: params.agent.as_deref().map(id::<AgentName>).transpose()?,
        session: params.session.as_deref().map(id::<SessionId>).transpose()?,
        workflow: params
            .workflow
            .as_deref()
            .map(id::<WorkflowId>)
            .transpose()?,
        invocation: params
            .invocation
            .as_deref()
            .map(id::<InvocationId>)
            .transpose()?,
        group_by,
    };
    let report = state.otto.usage(query).await?;
    Ok(Json(
        report
            .rows
            .into_iter()
            .map(|row| RowView {
                key: row
                    .key
                    .into_iter()
                    .map(|(group, value)| (word(group), value))
                    .collect(),
                calls: row.calls,
                unconfirmed_calls: row.unconfirmed_calls,
                usage: (&row.usage).into(),
                charged: row.cost.into(),
            })
            .collect(),
    ))
}

const fn word(group: UsageGroup) -> &'static str {
    match group {
        UsageGroup::Day => "day",
        UsageGroup::Agent => "agent",
        UsageGroup::Model => "model",
        UsageGroup::Session => "session",
        UsageGroup::Workflow => "workflow",
        UsageGroup::Invocation => "invocation",
    }
}

fn group(text: &str) -> Result<UsageGroup, Problem> {
    [
        UsageGroup::Day,
        UsageGroup::Agent,
        UsageGroup::Model,
        UsageGroup::Session,
        UsageGroup::Workflow,
        UsageGroup::Invocation,
    ]
    .into_iter()
    .find(|group| word(*group) == text)
    .ok_or_else(|| {
        Problem::bad_request("group_by takes day, agent, model, session, workflow, invocation")
    })
}
