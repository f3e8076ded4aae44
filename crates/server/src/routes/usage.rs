//! `/v1/usage`: what was spent, by scope and time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otto::core::ledger::Scope;
use otto::reconcile::reconcile_text;
use otto::{
    AgentName, InvocationId, SessionId, Timestamp, UsageGroup, UsageQuery, WorkflowId, usage_csv,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extract::{Export, Params, accepts, id};
use super::view::{MoneyView, UsageView};
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/usage", READ, "query_usage", query)
            .summary("What was spent, added up")
            .query::<Query>()
            .answers::<UsageReportView>(StatusCode::OK, "The sums, and the state of this UTC day; with `Accept: text/csv` the sums as a table.")
            .answers_text(StatusCode::OK, "", CSV),
        Route::get("/v1/usage/tools", READ, "query_usage_by_tool", by_tool)
            .summary("What the answers to each tool's results cost; it reads the journals")
            .query::<Filter>()
            .answers::<Vec<ToolView>>(StatusCode::OK, "The tools; with `Accept: text/csv` as a table.")
            .answers_text(StatusCode::OK, "", CSV),
        Route::post("/v1/usage/reconcile", READ, "reconcile_usage", reconcile)
            .summary("Compare with the provider's usage export, by day and model")
            .takes::<Value>()
            .takes_text(CSV)
            .answers::<Vec<ComparedView>>(StatusCode::OK, "Both accounts, row by row."),
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

/// [`Query`] without its columns.
#[derive(Deserialize)]
#[serde(try_from = "Query")]
struct Filter(Query);

impl TryFrom<Query> for Filter {
    type Error = &'static str;

    fn try_from(query: Query) -> Result<Self, Self::Error> {
        match query.by {
            None => Ok(Self(query)),
            Some(_) => Err("`by` is of /v1/usage alone; here it is by tool"),
        }
    }
}

impl JsonSchema for Filter {
    fn schema_name() -> Cow<'static, str> {
        "UsageFilter".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Query::json_schema(generator);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.remove("by");
        }
        schema
    }
}

impl Query {
    fn grouped_by(self, group_by: Vec<UsageGroup>) -> Result<UsageQuery, Problem> {
        let time = |name, text: Option<String>| text.map(|text| time(name, &text)).transpose();
        let query = UsageQuery {
            from: time("from", self.from)?,
            to: time("to", self.to)?,
            agent: self.agent.as_deref().map(id::<AgentName>).transpose()?,
            session: self.session.as_deref().map(id::<SessionId>).transpose()?,
            workflow: self.workflow.as_deref().map(id::<WorkflowId>).transpose()?,
            invocation: self
                .invocation
                .as_deref()
                .map(id::<InvocationId>)
                .transpose()?,
            group_by,
        };
        if query.is_backwards() {
            return Err(Problem::bad_request(
                "`from` is after `to`: expected a beginning before the end",
            ));
        }
        Ok(query)
    }
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
    /// Of it, for the unconfirmed calls.
    charged_unconfirmed: MoneyView,
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
    /// The same of this user in all projects, where the ceiling is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_user: Option<OfUserView>,
}

/// The day of a user in all projects.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DayOfUser")]
struct OfUserView {
    spent_or_held: MoneyView,
    limit: MoneyView,
}

/// What the answers to a tool's results cost.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ToolUsage")]
struct ToolView {
    /// `(none)` for calls that answered no tool.
    tool: String,
    tool_calls: u64,
    charged: MoneyView,
}

/// One day and model on both sides.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Compared")]
struct ComparedView {
    day: String,
    model: String,
    calls: u64,
    unconfirmed_calls: u64,
    /// Charged for calls with a usage record.
    confirmed: MoneyView,
    /// Charged at their hold for those without.
    unconfirmed: MoneyView,
    provider: MoneyView,
    /// The provider's amount above the confirmed one; below it, negative.
    drift_picodollars: i64,
    /// `same`, `explained`, `more` or `less`; the last two are worth a look.
    standing: &'static str,
}

const CSV: &str = "text/csv";

async fn query(
    State(state): State<AppState>,
    headers: HeaderMap,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    let by = query.by.as_deref().unwrap_or("day,agent,model");
    let groups = by.split(',').map(group).collect::<Result<Vec<_>, _>>()?;
    let report = state.otto.usage(query.grouped_by(groups.clone())?).await?;
    if accepts(&headers, CSV) {
        return Ok(table(usage_csv::sums(&groups, &report.rows)));
    }
    let tracker = state.otto.engine().cost_tracker();
    let today = tracker.today().await?;
    let account = tracker.account(Scope::Day(today)).await?;
    let settings = state.otto.engine().settings();
    let limit = &settings.ceilings.daily_cost;
    let of_user = state.otto.day_of_user().await?;
    let told = UsageReportView {
        rows: report
            .rows
            .into_iter()
            .map(|row| RowView {
                key: row
                    .key
                    .into_iter()
                    .map(|(group, value)| (group.as_str(), value))
                    .collect(),
                calls: row.calls,
                unconfirmed_calls: row.unconfirmed_calls,
                usage: (&row.usage).into(),
                charged: row.cost.into(),
                charged_unconfirmed: row.unconfirmed_cost.into(),
            })
            .collect(),
        today: DayView {
            day: today.to_string(),
            spent: account.spent_cost.into(),
            held: account.held_cost.into(),
            limit: limit.value.into(),
            origin: limit.origin.to_string(),
            latched: account.latched,
            of_user: of_user.map(|(spent, limit)| OfUserView {
                spent_or_held: spent.into(),
                limit: limit.value.into(),
            }),
        },
    };
    Ok(Json(told).into_response())
}

async fn by_tool(
    State(state): State<AppState>,
    headers: HeaderMap,
    Params(Filter(query)): Params<Filter>,
) -> Result<Response, Problem> {
    let sums = state
        .otto
        .usage_by_tool(query.grouped_by(Vec::new())?)
        .await?;
    if accepts(&headers, CSV) {
        return Ok(table(usage_csv::tools(&sums)));
    }
    let tools: Vec<ToolView> = sums
        .into_iter()
        .map(|(tool, used)| ToolView {
            tool,
            tool_calls: used.tool_calls,
            charged: used.cost.into(),
        })
        .collect();
    Ok(Json(tools).into_response())
}

async fn reconcile(
    State(state): State<AppState>,
    Export(text, form): Export,
) -> Result<Json<Vec<ComparedView>>, Problem> {
    let query = UsageQuery {
        group_by: vec![UsageGroup::Day, UsageGroup::Model],
        ..UsageQuery::default()
    };
    let own = state.otto.usage(query).await?.rows;
    let compared = reconcile_text(&own, &text, form, state.otto.prices())
        .map_err(|error| Problem::unprocessable(format!("read the export: {error}")))?;
    Ok(Json(
        compared
            .into_iter()
            .map(|row| ComparedView {
                drift_picodollars: row.drift_picodollars(),
                day: row.day,
                model: row.model,
                calls: row.calls,
                unconfirmed_calls: row.unconfirmed_calls,
                confirmed: row.confirmed.into(),
                unconfirmed: row.unconfirmed.into(),
                provider: row.provider.into(),
                standing: row.standing.as_str(),
            })
            .collect(),
    ))
}

fn table(csv: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
    (kind, csv).into_response()
}

fn group(text: &str) -> Result<UsageGroup, Problem> {
    UsageGroup::ALL
        .into_iter()
        .find(|group| group.as_str() == text)
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
