//! The JSON shapes of responses, converted by hand from the library's types.

use otto::{ArtifactRef, InvocationRecord, Money, Report, Usage};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct IdsView {
    pub(crate) invocation: String,
    pub(crate) session: String,
    pub(crate) task: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workflow: Option<String>,
}

/// Money as exact picodollars and as text for people.
#[derive(Serialize)]
pub(crate) struct MoneyView {
    pub(crate) picodollars: u64,
    pub(crate) usd: String,
}

#[derive(Serialize)]
pub(crate) struct UsageView {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cache_read_tokens: u64,
    pub(crate) cache_write_5m_tokens: u64,
    pub(crate) cache_write_1h_tokens: u64,
    pub(crate) thinking_tokens: u64,
}

#[derive(Serialize)]
pub(crate) struct ReportView {
    #[serde(flatten)]
    pub(crate) ids: IdsView,
    pub(crate) agent: String,
    pub(crate) outcome: &'static str,
    pub(crate) summary: String,
    pub(crate) text: String,
    pub(crate) turns: u32,
    pub(crate) tool_calls: u32,
    pub(crate) model_calls: u32,
    pub(crate) usage: UsageView,
    pub(crate) charged: MoneyView,
    pub(crate) duration_ms: u64,
    pub(crate) artifacts: Vec<ArtifactView>,
}

#[derive(Serialize)]
pub(crate) struct ArtifactView {
    pub(crate) path: String,
    pub(crate) kind: &'static str,
    pub(crate) size_bytes: u64,
    pub(crate) sha256: String,
}

#[derive(Serialize)]
pub(crate) struct RecordView {
    pub(crate) invocation: String,
    pub(crate) session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workflow: Option<String>,
    pub(crate) agent: String,
    pub(crate) model: String,
    pub(crate) title: String,
    pub(crate) started_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at_ms: Option<u64>,
    /// `running` until it has ended.
    pub(crate) outcome: &'static str,
    pub(crate) summary: String,
    pub(crate) text: String,
    pub(crate) resumable: bool,
    pub(crate) charged: MoneyView,
    pub(crate) tokens: u64,
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
            summary: report.outcome.to_string(),
            text: report.text().to_owned(),
            turns: report.turns,
            tool_calls: report.totals.tool_calls,
            model_calls: report.totals.calls,
            usage: (&report.totals.usage).into(),
            charged: report.charged.into(),
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
            artifacts: report.artifacts.iter().map(Into::into).collect(),
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
            started_at_ms: record.started_at.millis(),
            finished_at_ms: record.finished_at.map(otto::Timestamp::millis),
            outcome: record.outcome.map_or("running", otto::OutcomeKind::as_str),
            summary: record.summary.to_string(),
            text: record.result.to_string(),
            resumable: record.resumable,
            charged: record.cost.into(),
            tokens: record.tokens,
        }
    }
}
