//! The JSON shapes of responses, converted by hand from the library's types. They are those of the command's JSON
//! lines, documented in `docs/cli.md`.

use otto::text::rfc3339;
use otto::{ArtifactRef, Budgets, InvocationRecord, Money, NotGranted, Report, Usage};
use schemars::JsonSchema;
use serde::Serialize;

/// The ids of an invocation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ids")]
pub(crate) struct IdsView {
    pub(super) invocation: String,
    pub(super) session: String,
    pub(super) task: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workflow: Option<String>,
}

/// Money as exact picodollars and as text for people.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Money")]
pub(crate) struct MoneyView {
    pub(super) picodollars: u64,
    pub(super) usd: String,
}

/// The limits that are in force.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LimitsInForce")]
pub(super) struct LimitsView {
    time_ms: Option<u64>,
    tokens: Option<u64>,
    cost: Option<MoneyView>,
    turns: Option<u32>,
}

/// A limit that was asked for and is not in force, because another is tighter.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NotGranted")]
pub(super) struct NotGrantedView {
    /// `cost`, `time`, `tokens` or `turns`.
    limit: &'static str,
    asked: String,
    asked_by: String,
    in_force: String,
    set_by: String,
}

/// Tokens by class.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tokens")]
pub(crate) struct UsageView {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cache_read_tokens: u64,
    pub(super) cache_write_5m_tokens: u64,
    pub(super) cache_write_1h_tokens: u64,
    pub(super) thinking_tokens: u64,
}

/// How an invocation ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Report")]
pub(crate) struct ReportView {
    #[serde(flatten)]
    pub(super) ids: IdsView,
    pub(super) agent: String,
    /// `completed`, `budget_exhausted`, `deadline`, `cancelled`, `refused`, `provider_failed` or `failed`.
    pub(super) outcome: &'static str,
    /// Whether it waits for a person's word; `decision` of a resumption gives it.
    pub(super) parked: bool,
    /// The outcome in a line.
    pub(super) summary: String,
    /// The agent's last words.
    pub(super) text: String,
    pub(super) turns: u32,
    pub(super) tool_calls: u32,
    pub(super) model_calls: u32,
    /// Calls charged at their hold because no usage record came.
    pub(super) unconfirmed_calls: u32,
    pub(super) usage: UsageView,
    pub(super) charged: MoneyView,
    /// From admission to outcome; of one that was taken up again, from then on.
    pub(super) duration_ms: u64,
    /// What its time limit counts: also the time before it was taken up again.
    pub(super) time_used_ms: u64,
    pub(super) artifacts: Vec<ArtifactView>,
    /// Why artifacts are missing, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_error: Option<String>,
    /// What the store said, if it failed: it may not know that the invocation has ended. A completed one with this is
    /// told as the problem `not-stored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store_error: Option<String>,
}

/// A stored file.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Artifact")]
pub(crate) struct ArtifactView {
    pub(super) path: String,
    /// `transcript`, `result` or `intermediate`.
    pub(super) kind: &'static str,
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
}

/// An invocation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Invocation")]
pub(super) struct RecordView {
    pub(super) invocation: String,
    pub(super) session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workflow: Option<String>,
    pub(super) agent: String,
    pub(super) model: String,
    /// The first line of its task.
    pub(super) title: String,
    pub(super) started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finished_at: Option<String>,
    /// As in a report; before it has ended `running`, or `interrupted` when no process drives it any more.
    pub(super) outcome: &'static str,
    /// Whether it waits for a person's word; `decision` of a resumption gives it.
    pub(super) parked: bool,
    /// The outcome in a line.
    pub(super) summary: String,
    /// The agent's last words.
    pub(super) text: String,
    /// Whether it may be taken up again.
    pub(super) resumable: bool,
    pub(super) charged: MoneyView,
    pub(super) tokens: u64,
}

impl From<otto::Ids> for IdsView {
    fn from(ids: otto::Ids) -> Self {
        Self {
            invocation: ids.invocation.to_string(),
            session: ids.session.to_string(),
            task: ids.task.to_string(),
            workflow: ids.workflow.map(|id| id.to_string()),
        }
    }
}

impl From<Money> for MoneyView {
    fn from(money: Money) -> Self {
        Self {
            picodollars: money.picodollars(),
            usd: money.to_string(),
        }
    }
}

impl From<&Budgets> for LimitsView {
    fn from(budgets: &Budgets) -> Self {
        Self {
            time_ms: budgets
                .time
                .as_ref()
                .map(|limit| u64::try_from(limit.value.as_millis()).unwrap_or(u64::MAX)),
            tokens: budgets.tokens.as_ref().map(|limit| limit.value),
            cost: budgets.cost.as_ref().map(|limit| limit.value.into()),
            turns: budgets.turns.as_ref().map(|limit| limit.value),
        }
    }
}

impl From<NotGranted> for NotGrantedView {
    fn from(cut: NotGranted) -> Self {
        Self {
            limit: cut.limit,
            asked: cut.asked,
            asked_by: cut.asked_by.to_string(),
            in_force: cut.in_force,
            set_by: cut.set_by.to_string(),
        }
    }
}

impl From<&Usage> for UsageView {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            cache_write_5m_tokens: usage.cache_write_5m_tokens,
            cache_write_1h_tokens: usage.cache_write_1h_tokens,
            thinking_tokens: usage.thinking_tokens,
        }
    }
}

impl From<&ArtifactRef> for ArtifactView {
    fn from(artifact: &ArtifactRef) -> Self {
        Self {
            path: artifact.path.to_string(),
            kind: artifact.kind.as_str(),
            size_bytes: artifact.size_bytes,
            sha256: artifact.sha256.to_string(),
        }
    }
}

impl From<&Report> for ReportView {
    fn from(report: &Report) -> Self {
        Self {
            ids: report.ids.into(),
            agent: report.agent.to_string(),
            outcome: report.outcome.kind().as_str(),
            parked: report.outcome.is_parked(),
            summary: report.outcome.to_string(),
            text: report.text().to_owned(),
            turns: report.turns,
            tool_calls: report.totals.tool_calls,
            model_calls: report.totals.calls,
            unconfirmed_calls: report.totals.unconfirmed_calls,
            usage: (&report.totals.usage).into(),
            charged: report.charged.into(),
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
            time_used_ms: u64::try_from(report.time_used.as_millis()).unwrap_or(u64::MAX),
            artifacts: report.artifacts.iter().map(Into::into).collect(),
            artifact_error: report.artifact_error.clone(),
            store_error: report.store_error.clone(),
        }
    }
}

impl From<&InvocationRecord> for RecordView {
    fn from(record: &InvocationRecord) -> Self {
        Self {
            invocation: record.invocation.to_string(),
            session: record.session.to_string(),
            workflow: record.workflow.map(|id| id.to_string()),
            agent: record.agent.to_string(),
            model: record.model.to_string(),
            title: record.title.to_string(),
            started_at: rfc3339(record.started_at),
            finished_at: record.finished_at.map(rfc3339),
            outcome: otto::standing(record),
            parked: otto::is_parked(record),
            summary: record.summary.to_string(),
            text: record.result.to_string(),
            resumable: record.resumable,
            charged: record.cost.into(),
            tokens: record.tokens,
        }
    }
}
