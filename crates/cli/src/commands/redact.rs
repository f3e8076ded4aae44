//! `otto redact`: what redaction makes of a text, and a past session cleaned with the patterns of now.

use std::io::Read;

use clap::Args;
use otto::SessionId;
use otto::redacted::{Redacted, redact};
use otto::text::visible_lines;
use serde_json::json;

use super::named;
use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{Out, To};

/// Arguments of `otto redact`.
#[derive(Debug, Args)]
pub(crate) struct Redact {
    /// The session to clean: journal, titles and artifacts
    #[arg(required_unless_present = "test")]
    session: Option<SessionId>,
    /// Show what a text becomes, and by which rules; without TEXT it is read from standard input
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "-", conflicts_with = "session")]
    test: Option<String>,
}

/// BOUND: bytes of a text from standard input.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;

impl Redact {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        if let Some(text) = &self.test {
            let text = match text.as_str() {
                "-" => from_stdin()?,
                text => text.to_owned(),
            };
            let redactor = otto::redactor(&operator)?;
            show(&mut context.out, &redact(&redactor, &text));
            return Ok(Code::Completed);
        }
        let Some(session) = self.session else {
            return Err(Failure::usage("name a session, or a text with --test"));
        };
        let runtime = context.runtime()?;
        let cleaned = runtime.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return Ok(None);
            };
            let command = |session| format!("otto redact {session}");
            let cleaned = async {
                named::refuse_invocation(&otto, session, command).await?;
                Ok::<_, Failure>(otto.redact_session(session).await?)
            }
            .await;
            open::close(otto).await;
            cleaned
        })?;
        let Some(cleaned) = cleaned else {
            return Err(Failure::usage(format!("there is no session {session}"))
                .hint("`otto sessions` lists them"));
        };
        if context.out.is_json() {
            context.out.json(&json!({
                "type": "cleaned",
                "session": session.to_string(),
                "invocations": cleaned.invocations,
                "entries": cleaned.entries,
                "artifacts": cleaned.artifacts,
            }));
        } else {
            context.out.line(
                To::Answer,
                &format!(
                    "cleaned: {} journal entries and {} artifacts of {} invocations held something to mask",
                    cleaned.entries, cleaned.artifacts, cleaned.invocations
                ),
            );
        }
        Ok(Code::Completed)
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::doing("read the text from standard input", &error))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Failure::usage(format!(
            "the text on standard input is longer than {MAX_TEXT_BYTES} bytes"
        )));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage("the text on standard input is not UTF-8 text"))
}

fn show(out: &mut Out, redacted: &Redacted) {
    let Redacted { text, masked } = redacted;
    if out.is_json() {
        out.json(&json!({"type": "redacted", "text": text, "masked": masked}));
        return;
    }
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    out.write(To::Answer, &format!("{}{line_end}", visible_lines(text)));
    let rules: Vec<String> = masked
        .iter()
        .map(|(rule, count)| format!("{rule} ({count})"))
        .collect();
    let words = if rules.is_empty() {
        "nothing to mask".to_owned()
    } else {
        format!("masked by: {}", rules.join(", "))
    };
    out.line(To::Progress, &words);
}
