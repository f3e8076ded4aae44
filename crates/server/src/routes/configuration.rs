//! `/v1/config`, `/v1/check`, `/v1/doctor`: the configuration as it would be read now, and the machine.
//!
//! Invariant: no credential is told; an explanation holds "set" where one stands.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::config::{self, OperatorConfig, SYSTEM_CONFIG, Sources, agent_schema, explain_agent};
use otto::env::VARIABLES;
use otto::load::{self, Agents, KnownTool, LoadRequest};
use otto::{ConfigErrors, Diagnostic, ToolHost, upkeep};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::Params;
use super::{READ, Route};
use crate::problem::Problem;
use crate::state::{AppState, Project};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/config", READ, "explain_configuration", explain)
            .summary("Every effective value of the configuration files, and where it was set")
            .query::<ExplainQuery>()
            .answers::<Vec<ExplanationView>>(StatusCode::OK, "The values."),
        Route::get("/v1/config/schema", READ, "show_agent_schema", schema)
            .summary("The JSON Schema of the agent file")
            .answers::<serde_json::Value>(StatusCode::OK, "The schema."),
        Route::get("/v1/config/environment", READ, "list_variables", variables)
            .summary("The environment variables that Otto reads; their values are not told")
            .answers::<Vec<VariableView>>(StatusCode::OK, "The variables."),
        Route::get("/v1/check", READ, "check_configuration", check)
            .summary("Check every configuration file as it is now")
            .answers::<CheckView>(StatusCode::OK, "Every problem."),
        Route::get("/v1/doctor", READ, "examine_machine", doctor)
            .summary("Examine the sandbox of this machine, and the state directory at a glance")
            .answers::<DoctorView>(
                StatusCode::OK,
                "What is enforced for tools, and why not more.",
            ),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    /// Only this key and those below it.
    key: Option<String>,
}

/// A variable of the environment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Variable")]
struct VariableView {
    name: &'static str,
    meaning: &'static str,
    default: &'static str,
}

/// One effective value.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
struct ExplanationView {
    key: String,
    value: String,
    origin: String,
    overridden: Vec<OverriddenView>,
    meaning: &'static str,
}

/// A value that did not count.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Overridden")]
struct OverriddenView {
    value: String,
    origin: String,
}

/// Every problem of the configuration files.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Check")]
struct CheckView {
    /// How many agents are valid; none while there is an error.
    agents: usize,
    errors: usize,
    warnings: usize,
    problems: Vec<DiagnosticView>,
}

/// One problem of a configuration file.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Diagnostic")]
struct DiagnosticView {
    severity: &'static str,
    message: String,
    source: String,
    line: Option<u64>,
    column: Option<u64>,
    expected: Option<String>,
    help: Option<String>,
}

/// The sandbox of this machine.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Sandbox")]
struct DoctorView {
    /// `l2`, `l1` or `none`.
    level: &'static str,
    /// Why no tool can run.
    refusal: Option<String>,
    /// Why no program can run.
    exec_refusal: Option<String>,
    uid: u32,
    kernel: String,
    mechanisms: Vec<MechanismView>,
    checks: Vec<AttackView>,
    /// Absent without a state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<StoredView>,
}

/// What is stored, at a glance; `/v1/verify` reads it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Stored")]
struct StoredView {
    /// Length of the database with its log.
    database_bytes: u64,
    /// Invocations that did not end: they run, or can be resumed.
    unfinished: usize,
    /// Records of the audit log.
    audit_records: u64,
}

/// One mechanism of the kernel.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Mechanism")]
struct MechanismView {
    name: &'static str,
    works: bool,
    detail: String,
    fix: Option<String>,
}

/// One attack or control of the self-test.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SelfTest")]
struct AttackView {
    domain: &'static str,
    name: &'static str,
    passed: bool,
    outcome: String,
}

impl From<&Diagnostic> for DiagnosticView {
    fn from(diagnostic: &Diagnostic) -> Self {
        let position = diagnostic.place.position.as_ref();
        Self {
            severity: diagnostic.severity.as_str(),
            message: diagnostic.message.clone(),
            source: diagnostic.place.source.to_string(),
            line: position.map(|position| position.line as u64),
            column: position.map(|position| position.column as u64),
            expected: diagnostic.expected.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

/// The files cannot be used as they are.
#[expect(clippy::needless_pass_by_value, reason = "maps an error")]
pub(super) fn broken(errors: ConfigErrors) -> Problem {
    Problem::conflict(format!("the configuration is broken: {errors}"))
}

/// Reads all files, off the async threads.
pub(super) async fn read(
    state: &AppState,
) -> Result<Result<(OperatorConfig, Agents), ConfigErrors>, Problem> {
    let project =
        state.surroundings.project.clone().ok_or_else(|| {
            Problem::not_found("this server was started without configuration files")
        })?;
    tokio::task::spawn_blocking(move || load_all(&project))
        .await
        .map_err(|_| Problem::internal("the configuration could not be read"))
}

fn load_all(project: &Project) -> Result<(OperatorConfig, Agents), ConfigErrors> {
    let operator = config::load_operator(&Sources {
        environment: &project.environment,
        project: &project.path,
        system: Some(SYSTEM_CONFIG.as_ref()),
    })?;
    let agents = load::load(&LoadRequest {
        project: &project.path,
        operator: &operator,
        tools: &KnownTool::base_tools(),
        prices: &otto::prices(&operator),
        environment: &project.environment,
        protected: &operator.protected_paths(),
    })?;
    Ok((operator, agents))
}

async fn explain(
    State(state): State<AppState>,
    Params(query): Params<ExplainQuery>,
) -> Result<Json<Vec<ExplanationView>>, Problem> {
    let (operator, agents) = read(&state).await?.map_err(broken)?;
    let key = query.key.as_deref();
    let all = operator
        .explanations()
        .iter()
        .cloned()
        .chain(agents.iter().flat_map(explain_agent));
    let shown: Vec<_> = all
        .filter(|explanation| key.is_none_or(|key| explanation.is_of(key)))
        .collect();
    if let (Some(_), true) = (key, shown.is_empty()) {
        return Err(Problem::not_found(
            "there is no such key; without `key` all are listed",
        ));
    }
    Ok(Json(
        shown
            .into_iter()
            .map(|explanation| ExplanationView {
                key: explanation.key,
                value: explanation.value,
                origin: explanation.origin.to_string(),
                overridden: explanation
                    .overridden
                    .into_iter()
                    .map(|(value, origin)| OverriddenView {
                        value,
                        origin: origin.to_string(),
                    })
                    .collect(),
                meaning: explanation.meaning,
            })
            .collect(),
    ))
}

async fn schema() -> Json<serde_json::Value> {
    Json(agent_schema())
}

async fn variables() -> Json<Vec<VariableView>> {
    let all = VARIABLES.iter().map(|variable| VariableView {
        name: variable.name,
        meaning: variable.meaning,
        default: variable.default,
    });
    Json(all.collect())
}

async fn check(State(state): State<AppState>) -> Result<Json<CheckView>, Problem> {
    Ok(Json(match read(&state).await? {
        Ok((operator, agents)) => {
            let problems: Vec<DiagnosticView> = operator
                .warnings()
                .iter()
                .chain(agents.warnings())
                .map(Into::into)
                .collect();
            CheckView {
                agents: agents.iter().count(),
                errors: 0,
                warnings: problems.len(),
                problems,
            }
        }
        Err(errors) => CheckView {
            agents: 0,
            errors: errors.error_count(),
            warnings: errors.diagnostics().len() - errors.error_count(),
            problems: errors.diagnostics().iter().map(Into::into).collect(),
        },
    }))
}

async fn doctor(State(state): State<AppState>) -> Result<Json<DoctorView>, Problem> {
    let host = state
        .surroundings
        .sandbox
        .as_ref()
        .ok_or_else(|| Problem::not_found("this server was started without a sandbox"))?;
    let stored = stored(&state).await?;
    let report = match host.doctor().await {
        Ok(report) => report,
        Err(error) => {
            return Ok(Json(DoctorView {
                level: host.enforcement().as_str(),
                refusal: Some(error.to_string()),
                exec_refusal: None,
                uid: rustix::process::getuid().as_raw(),
                kernel: String::new(),
                mechanisms: Vec::new(),
                checks: Vec::new(),
                stored,
            }));
        }
    };
    Ok(Json(DoctorView {
        level: report.level.as_str(),
        refusal: report.refusal,
        exec_refusal: report.exec_refusal,
        uid: report.uid,
        kernel: report.kernel,
        mechanisms: report
            .mechanisms
            .into_iter()
            .map(|mechanism| MechanismView {
                name: mechanism.name,
                works: mechanism.works,
                detail: mechanism.detail,
                fix: mechanism.fix,
            })
            .collect(),
        checks: report
            .checks
            .into_iter()
            .map(|check| AttackView {
                domain: check.domain,
                name: check.name,
                passed: check.passed,
                outcome: check.outcome,
            })
            .collect(),
        stored,
    }))
}

async fn stored(state: &AppState) -> Result<Option<StoredView>, Problem> {
    let Some(state_dir) = state.otto.state_dir() else {
        return Ok(None);
    };
    let summary = upkeep::summary(state_dir).await?;
    Ok(summary.map(|summary| StoredView {
        database_bytes: summary.database_bytes,
        unfinished: summary.unfinished,
        audit_records: summary.audit.0.sequence,
    }))
}
