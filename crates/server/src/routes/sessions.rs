//! `/v1/sessions`: what belongs together, and taking it up again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otto::text::rfc3339;
use otto::{
    AgentName, InvocationQuery, Listening, Pin, ResumeOptions, SessionId, SessionSummary,
    UnknownCallDecision,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::{Id, OptionalBody, Params, id, object};
use super::invocations::MAX_ROWS;
use super::limits::LimitsBody;
use super::view::{IdsView, MoneyView, RecordView};
use super::{ADMIN, INVOKE, READ, Route};
use crate::problem::Problem;
use crate::state::AppState;

const DEFAULT_ROWS: u32 = 20;
/// BOUND: events kept for whoever looks at a resumed invocation.
const FOLLOWED_EVENTS: usize = 64;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/sessions", READ, "list_sessions", list)
            .summary("List sessions, the one with the newest invocation first")
            .query::<ListQuery>()
            .answers::<Vec<SessionView>>(StatusCode::OK, "The sessions."),
        Route::get("/v1/sessions/{id}", READ, "show_session", show)
            .summary("Show a session's invocations, newest first")
            .uuid("id", "The session.")
            .answers::<SessionDetail>(StatusCode::OK, "The session."),
        Route::post("/v1/sessions/{id}/resume", INVOKE, "resume_session", resume)
            .summary("Take the newest resumable invocation of a session up again")
            .uuid("id", "The session.")
            .may_take::<Resume>()
            .answers::<IdsView>(StatusCode::ACCEPTED, "It runs again."),
        Route::put("/v1/sessions/{id}/pin", ADMIN, "pin_session", pin)
            .summary("Keep the artifacts of a session whatever their age")
            .uuid("id", "The session.")
            .answers_nothing(StatusCode::NO_CONTENT, "They are kept."),
        Route::delete("/v1/sessions/{id}/pin", ADMIN, "unpin_session", unpin)
            .summary("Let the artifacts of a session go with their age again")
            .uuid("id", "The session.")
            .answers_nothing(StatusCode::NO_CONTENT, "The retention decides."),
        Route::post("/v1/sessions/{id}/redact", ADMIN, "redact_session", redact)
            .summary("Redact everything stored of a session again, with the patterns in force: journal, words and artifacts")
            .uuid("id", "The session.")
            .answers::<CleanedView>(StatusCode::OK, "What held something to mask."),
    ]
}

/// A session of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionSummary")]
struct SessionView {
    id: String,
    /// The agent of the newest invocation.
    agent: String,
    /// The first line of the first task.
    title: String,
    /// The outcome of the newest invocation; before it has ended `running`, or `interrupted` when no process drives it
    /// any more.
    outcome: &'static str,
    resumable: bool,
    started_at: String,
    finished_at: Option<String>,
    /// How many invocations it has.
    invocations: usize,
    charged: MoneyView,
    tokens: u64,
}

/// A session.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
struct SessionDetail {
    id: String,
    invocations: Vec<RecordView>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only sessions of this agent.
    #[schemars(extend("pattern" = r"^[A-Za-z0-9_-]{1,64}$"))]
    agent: Option<String>,
    /// At most this many; 20 when it is not said, and never more than 1,000.
    #[schemars(extend("maximum" = u32::MAX))]
    limit: Option<u32>,
}

/// How an invocation is taken up again.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
struct Resume {
    /// Limits in place of those it had, up to the operator's ceilings.
    #[serde(default, deserialize_with = "object")]
    raise: LimitsBody,
    /// What becomes of a tool call that was running when Otto ended and may not be repeated without a word.
    decision: Option<Decision>,
}

/// A person's word on a call of unknown outcome.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Decision {
    /// It took effect; it is not run again.
    Done,
    /// It took no effect; the model may ask again.
    NotDone,
    /// Run it again.
    RunAgain,
    /// Nobody knows; tell the model so.
    TellModel,
}

/// What a cleaning has changed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Cleaned")]
struct CleanedView {
    /// Invocations that were looked at.
    invocations: u64,
    /// Journal entries that held something to mask.
    entries: u64,
    /// Artifacts that did.
    artifacts: u64,
}

impl From<SessionSummary> for SessionView {
    fn from(session: SessionSummary) -> Self {
        Self {
            id: session.id.to_string(),
            agent: session.newest.agent.to_string(),
            title: session.title.to_string(),
            outcome: otto::standing(&session.newest),
            resumable: session.is_resumable(),
            started_at: rfc3339(session.started_at),
            finished_at: session.newest.finished_at.map(rfc3339),
            invocations: session.invocations,
            charged: session.charged.into(),
            tokens: session.tokens,
        }
    }
}

async fn list(
    State(state): State<AppState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Vec<SessionView>>, Problem> {
    let agent = query.agent.as_deref().map(id::<AgentName>).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS);
    let sessions = state.otto.sessions(agent, limit).await?;
    Ok(Json(sessions.into_iter().map(Into::into).collect()))
}

async fn show(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<SessionDetail>, Problem> {
    let query = InvocationQuery {
        session: Some(session),
        ..InvocationQuery::default()
    };
    let records = state.otto.invocations(query).await?;
    if records.is_empty() {
        return Err(no_session(&state, session).await?);
    }
    Ok(Json(SessionDetail {
        id: session.to_string(),
        invocations: records.iter().map(Into::into).collect(),
    }))
}

/// The problem of an unknown session. The id of an invocation is a likely slip: both have ids of one form.
async fn no_session(state: &AppState, id: SessionId) -> Result<Problem, Problem> {
    let mut detail = format!("there is no session {id}");
    if let Ok(invocation) = id.to_string().parse()
        && let Some(of) = state.otto.session_of(invocation).await?
    {
        detail = format!("{detail}: it is an invocation of session {of}");
    }
    Ok(Problem::not_found(detail))
}

async fn resume(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
    OptionalBody(body): OptionalBody<Resume>,
) -> Result<(StatusCode, Json<IdsView>), Problem> {
    let options = ResumeOptions {
        listening: Listening::UpTo(FOLLOWED_EVENTS),
        raise: body.raise.budgets("raise")?,
        decision: body.decision.map(|decision| match decision {
            Decision::Done => UnknownCallDecision::Done,
            Decision::NotDone => UnknownCallDecision::NotDone,
            Decision::RunAgain => UnknownCallDecision::RunAgain,
            Decision::TellModel => UnknownCallDecision::TellModel,
        }),
    };
    let handle = state.otto.resume(session, options).await?;
    Ok((StatusCode::ACCEPTED, Json(IdsView::from(handle.ids()))))
}

async fn pin(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<StatusCode, Problem> {
    set_pinned(&state, session, Pin::Keep).await
}

async fn unpin(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<StatusCode, Problem> {
    set_pinned(&state, session, Pin::Release).await
}

async fn set_pinned(state: &AppState, session: SessionId, pin: Pin) -> Result<StatusCode, Problem> {
    state.otto.set_pinned(session, pin).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn redact(
    State(state): State<AppState>,
    Id(session): Id<SessionId>,
) -> Result<Json<CleanedView>, Problem> {
    let cleaned = state.otto.redact_session(session).await?;
    let cleaned = cleaned.ok_or_else(Problem::no_state_dir)?;
    Ok(Json(CleanedView {
        invocations: cleaned.invocations,
        entries: cleaned.entries,
        artifacts: cleaned.artifacts,
    }))
}
