//! `/v1/audit`: the audit log, its end, and what audit mode let pass.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::{
    Anchor, Audit, AuditCheck, AuditFact, AuditFilter, AuditKind, InvocationId, Passed,
    UnknownAuditKind,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::configuration;
use super::extract::{Params, id};
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

/// What an anchor looks like.
pub(super) const ANCHOR_PATTERN: &str = "^[0-9]{1,19}:[0-9a-fA-F]{64}$";
/// BOUND: facts of one answer.
const MAX_FACTS: u32 = 10_000;
const DEFAULT_FACTS: u32 = 1_000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/audit", READ, "read_audit_log", log)
            .summary("What was granted, refused, held, charged, started and ended")
            .query::<LogQuery>()
            .answers::<PageView>(StatusCode::OK, "The facts, in order."),
        Route::get("/v1/audit/report", READ, "report_audit_mode", report)
            .summary("What audit mode let pass, and the lines of configuration that would let it pass without")
            .answers::<ReportView>(StatusCode::OK, "What passed."),
        Route::get("/v1/audit/head", READ, "show_audit_head", head)
            .summary("The end of the log, to be kept elsewhere")
            .answers::<HeadView>(StatusCode::OK, "The end."),
        Route::get("/v1/audit/check", READ, "check_audit_log", check)
            .summary("Check every record against those before it, and the log against an end that was kept elsewhere")
            .query::<CheckQuery>()
            .answers::<CheckedView>(StatusCode::OK, "Whether it is whole."),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    /// Only facts of this kind, such as `tool_ended`.
    #[schemars(extend("enum" = AuditKind::WORDS))]
    what: Option<String>,
    /// Only facts of the session or invocation with this id.
    #[schemars(extend("format" = "uuid"))]
    of: Option<String>,
    /// Only records after this one: `next` of the answer before.
    #[schemars(extend("maximum" = i64::MAX))]
    after: Option<u64>,
    /// At most about this many, the first ones; a record is told whole. 1,000 when it is not said, and never more
    /// than 10,000.
    #[schemars(extend("minimum" = 1, "maximum" = u32::MAX))]
    limit: Option<std::num::NonZeroU32>,
    /// The last facts instead, at most this many and never more than 10,000.
    #[schemars(extend("maximum" = u32::MAX))]
    last: Option<u32>,
}

/// Facts of the audit log.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditPage")]
struct PageView {
    facts: Vec<FactView>,
    /// Where to go on: `after` of the next request. Absent at the end of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// A fact.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditFact")]
struct FactView {
    /// The record it is in.
    record: u64,
    /// What happened: `at_us` (microseconds since 1970, UTC), `what`, and what it tells.
    fact: serde_json::Map<String, serde_json::Value>,
}

/// What audit mode let pass.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditReport")]
struct ReportView {
    count: u64,
    /// Tools that are on no allowlist of the operator.
    tools: BTreeMap<String, PassedView>,
    /// Hosts that are on no list.
    allowed_hosts: BTreeMap<String, PassedView>,
    /// Permissions that were not granted.
    permissions: Vec<PermissionView>,
    /// Lines for the operator's `config.yml`. Absent where the server has no configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<String>,
}

/// How often something passed, and for which agents.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Passed")]
struct PassedView {
    times: u64,
    agents: Vec<String>,
}

/// A permission that was not granted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PassedPermission")]
struct PermissionView {
    tool: String,
    missing: String,
    passed: PassedView,
}

/// The end of the audit log.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditHead")]
struct HeadView {
    sequence: u64,
    /// `SEQUENCE:HASH`.
    anchor: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CheckQuery {
    /// The end that was kept elsewhere.
    #[schemars(extend("pattern" = ANCHOR_PATTERN))]
    anchor: Option<String>,
}

/// Whether the audit log is whole.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditCheck")]
struct CheckedView {
    whole: bool,
    /// Its end now, or where it is broken, or that the record of the anchor was removed by the retention.
    detail: String,
}

impl From<AuditFact> for FactView {
    fn from(fact: AuditFact) -> Self {
        let record = fact.record;
        let fact = match fact.fact {
            serde_json::Value::Object(fields) => fields,
            other => serde_json::Map::from_iter([("text".to_owned(), other)]),
        };
        Self { record, fact }
    }
}

impl From<Passed> for PassedView {
    fn from(passed: Passed) -> Self {
        Self {
            times: passed.times,
            agents: passed.agents.into_iter().collect(),
        }
    }
}

/// Reads an anchor.
pub(super) fn anchor(text: &str) -> Result<Anchor, Problem> {
    text.parse()
        .map_err(|error: otto::InvalidAnchor| Problem::bad_request(error.to_string()))
}

fn of(state: &AppState) -> Result<Audit, Problem> {
    state.otto.audit().ok_or_else(Problem::no_state_dir)
}

async fn log(
    State(state): State<AppState>,
    Params(query): Params<LogQuery>,
) -> Result<Json<PageView>, Problem> {
    let what = query.what.as_deref().map(str::parse).transpose();
    let what =
        what.map_err(|error: UnknownAuditKind| Problem::bad_request(format!("what: {error}")))?;
    if query
        .after
        .is_some_and(|after| i64::try_from(after).is_err())
    {
        return Err(Problem::bad_request(
            "after takes the number of a record, at most 9223372036854775807",
        ));
    }
    // Both kinds of id are written the same way.
    let of_id = query.of.as_deref().map(id::<InvocationId>).transpose()?;
    let filter = AuditFilter {
        after: query.after.unwrap_or_default(),
        what,
        of: of_id.map(|id| id.to_string()),
    };
    let audit = of(&state)?;
    let count = |count: u32| usize::try_from(count.min(MAX_FACTS)).unwrap_or(usize::MAX);
    let (facts, next) = match query.last {
        Some(last) => (audit.last(&filter, count(last)).await?, None),
        None => {
            let limit = query.limit.map_or(DEFAULT_FACTS, std::num::NonZeroU32::get);
            let page = audit.page(&filter, count(limit)).await?;
            (page.facts, page.next)
        }
    };
    Ok(Json(PageView {
        facts: facts.into_iter().map(Into::into).collect(),
        next,
    }))
}

async fn report(State(state): State<AppState>) -> Result<Json<ReportView>, Problem> {
    let report = of(&state)?.would_deny().await?;
    let snippet = match state.surroundings.project {
        None => None,
        Some(_) => {
            let read = configuration::read(&state).await?;
            let (operator, _) = read.map_err(configuration::broken)?;
            Some(report.snippet(&operator))
        }
    };
    let views = |passed: BTreeMap<String, Passed>| {
        let passed = passed.into_iter();
        passed.map(|(name, one)| (name, one.into())).collect()
    };
    Ok(Json(ReportView {
        count: report.count,
        snippet,
        tools: views(report.tools),
        allowed_hosts: views(report.hosts),
        permissions: report
            .permissions
            .into_iter()
            .map(|((tool, missing), passed)| PermissionView {
                tool,
                missing,
                passed: passed.into(),
            })
            .collect(),
    }))
}

async fn head(State(state): State<AppState>) -> Result<Json<HeadView>, Problem> {
    let head = of(&state)?.head().await?;
    Ok(Json(HeadView {
        sequence: head.0.sequence,
        anchor: head.to_string(),
    }))
}

async fn check(
    State(state): State<AppState>,
    Params(query): Params<CheckQuery>,
) -> Result<Json<CheckedView>, Problem> {
    let anchor = query.anchor.as_deref().map(anchor).transpose()?;
    Ok(Json(match of(&state)?.check(anchor).await? {
        AuditCheck::Whole(span) => CheckedView {
            whole: true,
            detail: format!("it ends at {}", Anchor(span.end)),
        },
        AuditCheck::AnchorRemoved(span) => CheckedView {
            whole: false,
            detail: format!(
                "it begins after record {}, because its retention removed what came before, the record of this anchor among it: compare with a later anchor",
                span.begins_after.sequence
            ),
        },
        AuditCheck::Broken { detail } => CheckedView {
            whole: false,
            detail: detail.to_string(),
        },
    }))
}
