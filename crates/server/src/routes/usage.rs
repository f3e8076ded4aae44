//! `/v1/usage`: what was spent, by scope and time.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::core::ledger::Scope;
use otto::{AgentName, InvocationId, SessionId, Timestamp, UsageGroup, UsageQuery, WorkflowId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::{Params, id};
use super::view::{MoneyView, UsageView};
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/usage", READ, "query_usage", query)
            .summary("What was spent, added up")
            .query::<Query>()
            .answers::<UsageReportView>(StatusCode::OK, "The sums, and the state of this UTC day."),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Query {
    /// What to add up by, with commas between: `day`, `agent`, `model`, `session`, `workflow`, `invocation`;
    /// `day,agent,model` when it is not said.
    #[schemars(extend("pattern" = r"^(day|agent|model|session|workflow|invocation)(,(day|agent|model|session|workflow|invocation))*$"))]
    by: Option<String>,
    /// Only from this time on, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    from: Option<String>,
    /// Only before this time, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    to: Option<String>,
    /// Only this agent.
    #[schemars(extend("pattern" = r"^[A-Za-z0-9_-]{1,64}$"))]
    agent: Option<String>,
    /// Only this session.
    #[schemars(extend("format" = "uuid"))]
    session: Option<String>,
    /// Only this workflow.
    #[schemars(extend("format" = "uuid"))]
    workflow: Option<String>,
    /// Only this invocation.
    #[schemars(extend("format" = "uuid"))]
    invocation: Option<String>,
}

/// Sums of usage.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UsageReport")]
struct UsageReportView {
    rows: Vec<RowView>,
    today: DayView,
}

/// One sum.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UsageSum")]
struct RowView {
    /// The columns of `by`.
    key: BTreeMap<&'static str, String>,
    calls: u64,
    /// Calls charged at their hold because no usage record came.
    unconfirmed_calls: u64,
    usage: UsageView,
    charged: MoneyView,
}

/// The state of this UTC day.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Day")]
struct DayView {
    day: String,
    spent: MoneyView,
    held: MoneyView,
    limit: MoneyView,
    /// Where the limit was set.
    origin: String,
    /// Shut, because a provider billed more than was held.
    latched: bool,
}

const GROUPS: [(UsageGroup, &str); 6] = [
    (UsageGroup::Day, "day"),
    (UsageGroup::Agent, "agent"),
    (UsageGroup::Model, "model"),
    (UsageGroup::Session, "session"),
    (UsageGroup::Workflow, "workflow"),
    (UsageGroup::Invocation, "invocation"),
];

async fn query(
    State(state): State<AppState>,
    Params(query): Params<Query>,
) -> Result<Json<UsageReportView>, Problem> {
    let by = query.by.as_deref().unwrap_or("day,agent,model");
    let query = UsageQuery {
        from: query
            .from
            .as_deref()
            .map(|text| time("from", text))
            .transpose()?,
        to: query
            .to
            .as_deref()
            .map(|text| time("to", text))
            .transpose()?,
        agent: query.agent.as_deref().map(id::<AgentName>).transpose()?,
        session: query.session.as_deref().map(id::<SessionId>).transpose()?,
        workflow: query
            .workflow
            .as_deref()
            .map(id::<WorkflowId>)
            .transpose()?,
        invocation: query
            .invocation
            .as_deref()
            .map(id::<InvocationId>)
            .transpose()?,
        group_by: by.split(',').map(group).collect::<Result<_, _>>()?,
    };
    let report = state.otto.usage(query).await?;
    let tracker = state.otto.engine().cost_tracker();
    let today = tracker.today().await?;
    let account = tracker.account(Scope::Day(today)).await?;
    let settings = state.otto.engine().settings();
    let limit = &settings.ceilings.daily_cost;
    Ok(Json(UsageReportView {
        rows: report
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
        today: DayView {
            day: today.to_string(),
            spent: account.spent_cost.into(),
            held: account.held_cost.into(),
            limit: limit.value.into(),
            origin: limit.origin.to_string(),
            latched: account.latched,
        },
    }))
}

fn word(group: UsageGroup) -> &'static str {
    GROUPS
        .iter()
        .find(|(known, _)| *known == group)
        .map_or("", |(_, word)| word)
}

fn group(text: &str) -> Result<UsageGroup, Problem> {
    GROUPS
        .iter()
        .find(|(_, word)| *word == text)
        .map(|(group, _)| *group)
        .ok_or_else(|| {
            Problem::bad_request(
                "by takes day, agent, model, session, workflow, invocation, with commas between",
            )
        })
}

fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.ok()
        .and_then(|at| u64::try_from(at.as_microsecond()).ok())
        .map(Timestamp::from_micros)
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "{name} is not a time from 1970 on, such as 2026-11-28T00:00:00Z"
            ))
        })
}
