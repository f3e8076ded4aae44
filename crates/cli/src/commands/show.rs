//! `otto show ID`

use clap::Args;
use otto::core::invocation::OpenCall;
use otto::text::{rfc3339, visible, visible_lines};
use otto::{ArtifactRef, InvocationRecord, Otto, StoreError, Transcript};

use super::named::{self, Named};
use super::parked;
use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{self, Out, Style, To, show_artifacts, show_money, show_tokens};

/// Arguments of `otto show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A session or an invocation
    id: String,
    /// Print the transcript alone, as JSON Lines
    #[arg(long)]
    transcript: bool,
    /// Show everything that was said, also what compaction has replaced and what is beyond the transcript's bound
    #[arg(long, conflicts_with = "artifact")]
    full: bool,
    /// Print the content of this artifact alone
    #[arg(long, value_name = "PATH", conflicts_with = "transcript")]
    artifact: Option<String>,
}

/// What was found.
struct Found {
    records: Vec<InvocationRecord>,
    artifacts: Vec<ArtifactRef>,
}

impl Show {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let runtime = context.runtime()?;
        runtime.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return Err(named::unknown(&self.id));
            };
            let shown = self.show(&otto, &mut context.out).await;
            open::close(otto).await;
            shown
        })
    }

    async fn show(&self, otto: &Otto, out: &mut Out) -> Performed {
        let found = find(otto, &self.id).await?;
        if self.transcript {
            for record in found.records.iter().rev() {
                let transcript = self.transcript_of(otto, record).await?;
                // JSON escapes control characters by itself, so the lines are safe as they are.
                out.write(To::Answer, &transcript.to_jsonl());
            }
            return Ok(Code::Completed);
        }
        if let Some(path) = &self.artifact {
            return artifact(otto, out, &found.artifacts, path).await;
        }
        if out.is_json() {
            for record in &found.records {
                let mut value = output::record(record);
                value["type"] = "invocation".into();
                let open = open_calls(otto, record).await?;
                value["open_calls"] = open.iter().map(parked::describe).collect();
                out.json(&value);
            }
            for stored in &found.artifacts {
                let mut value = output::artifact(stored);
                value["type"] = "artifact".into();
                out.json(&value);
            }
            return Ok(Code::Completed);
        }
        // Oldest first: people read a session from its beginning.
        for record in found.records.iter().rev() {
            let transcript = self.transcript_of(otto, record).await?.to_markdown();
            let open = open_calls(otto, record).await?;
            let text = in_full(record, &transcript, &open, out);
            out.write(To::Answer, &text);
        }
        if !found.artifacts.is_empty() {
            out.write(
                To::Answer,
                &format!("\n{}", show_artifacts(&found.artifacts)),
            );
        }
        Ok(Code::Completed)
    }
}

impl Show {
    async fn transcript_of(
        &self,
        otto: &Otto,
        record: &InvocationRecord,
    ) -> Result<Transcript, StoreError> {
        if self.full {
            otto.full_transcript(record.invocation).await
        } else {
            otto.transcript(record.invocation).await
        }
    }
}

async fn find(otto: &Otto, id: &str) -> Result<Found, Failure> {
    let (session, records) = match named::find(otto, id).await? {
        Named::Session(records) => (records[0].session, records),
        Named::Invocation(record) => (record.session, vec![*record]),
    };
    Ok(Found {
        artifacts: otto.artifacts(session).await?,
        records,
    })
}

async fn artifact(otto: &Otto, out: &mut Out, artifacts: &[ArtifactRef], path: &str) -> Performed {
    let known = || {
        artifacts
            .iter()
            .map(|artifact| visible(&artifact.path).into_owned())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = artifacts.iter().find(|artifact| &*artifact.path == path);
    let Some(found) = found else {
        return Err(Failure::usage(format!(
            "there is no artifact `{}`; stored are: {}",
            visible(path),
            known()
        )));
    };
    let content = otto.read_artifact(found.clone()).await?;
    // A terminal gets what is safe to show; a file or a pipe gets the very bytes.
    if out.is_terminal(To::Answer) {
        let text = String::from_utf8_lossy(&content);
        out.write(To::Answer, &visible_lines(&text));
    } else {
        out.bytes(&content);
    }
    Ok(Code::Completed)
}

/// The calls without a result of an invocation that may still go on.
async fn open_calls(otto: &Otto, record: &InvocationRecord) -> Result<Vec<OpenCall>, Failure> {
    if record.outcome.is_none() || record.resumable {
        Ok(otto.open_calls(record.invocation).await?)
    } else {
        Ok(Vec::new())
    }
}

fn in_full(record: &InvocationRecord, transcript: &str, open: &[OpenCall], out: &Out) -> String {
    let painter = out.painter(To::Answer);
    let outcome = output::outcome_word(record);
    let outcome = match visible(&record.summary) {
        // Often it is the word itself.
        summary if summary.is_empty() || summary == outcome => outcome.to_owned(),
        summary => format!("{outcome}: {summary}"),
    };
    let mut text = format!(
        "{} of {} on {}\n  began {}{}\n  {outcome}\n  charged {}, {} tokens\n",
        painter.paint(Style::Strong, &format!("invocation {}", record.invocation)),
        record.agent,
        record.model,
        rfc3339(record.started_at),
        record
            .finished_at
            .map(|at| format!(", ended {}", rfc3339(at)))
            .unwrap_or_default(),
        show_money(record.cost),
        show_tokens(record.tokens),
    );
    if otto::is_parked(record) && !open.is_empty() {
        text.push_str(&parked::tell(record.session, open));
    } else if record.resumable {
        text.push_str(&format!(
            "  it can be taken up again: otto resume {}\n",
            record.session
        ));
    } else if record.outcome.is_none() && !record.driven {
        text.push_str(&format!(
            "  no process drives it any more; it goes on with: otto resume {}\n",
            record.session
        ));
    }
    text.push('\n');
    text.push_str(&visible_lines(transcript));
    text.push('\n');
    text
}
