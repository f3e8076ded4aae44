//! `otto audit log | report | head`

use clap::{Args, Subcommand};
use otto::core::port::store::AuditCheck;
use otto::text::{rfc3339, visible, visible_start};
use otto::{Anchor, Audit as Log, AuditFact, AuditFilter, AuditKind, Timestamp, WouldDenyReport};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{Out, Style, Table, To};

/// Arguments of `otto audit`.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what was granted, refused, held, charged, started and ended
    Log(Facts),
    /// Turn what audit mode let pass into lines for the operator's configuration
    Report,
    /// Print the end of the log, to be kept elsewhere, or check the log against one that was kept
    Head {
        /// An end of the log that was printed earlier: SEQUENCE:HASH
        #[arg(long, value_name = "ANCHOR")]
        anchor: Option<Anchor>,
    },
}

/// Which facts are shown.
#[derive(Debug, Args)]
struct Facts {
    /// Only facts of this kind, such as `tool_ended`; another word is answered with all kinds
    #[arg(long, value_name = "KIND")]
    what: Option<AuditKind>,
    /// Only facts of this session or invocation
    #[arg(long, value_name = "ID")]
    of: Option<String>,
    /// Only records after this one
    #[arg(long, value_name = "RECORD", default_value_t = 0)]
    after: u64,
    /// The last facts, at most this many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    last: usize,
}

// BOUND: what a person is shown of one fact.
const MAX_DETAIL_CHARS: usize = 120;

impl Audit {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let runtime = context.runtime()?;
        runtime.block_on(async {
            let otto = open::to_look(&operator).await?;
            let log = otto.as_ref().and_then(otto::Otto::audit);
            let performed = match self.what {
                What::Log(facts) => show(facts, log.as_ref(), &mut context.out).await,
                What::Report => {
                    let report = match &log {
                        Some(log) => log.would_deny().await?,
                        None => WouldDenyReport::default(),
                    };
                    tell(&report, &report.snippet(&operator), &mut context.out);
                    Ok(Code::Completed)
                }
                What::Head { anchor } => head(anchor, log.as_ref(), &mut context.out).await,
            };
            if let Some(otto) = otto {
                open::close(otto).await;
            }
            performed
        })
    }
}

async fn show(wanted: Facts, log: Option<&Log>, out: &mut Out) -> Performed {
    let filter = AuditFilter {
        after: wanted.after,
        what: wanted.what,
        of: wanted.of,
    };
    let shown = match log {
        Some(log) => log.last(&filter, wanted.last).await?,
        None => Vec::new(),
    };
    if out.is_json() {
        for AuditFact { record, mut fact } in shown {
            fact["record"] = record.into();
            out.json(&fact);
        }
        return Ok(Code::Completed);
    }
    let mut table = Table::new([">record", "when", "what", "details"]);
    for fact in &shown {
        table.row([
            fact.record.to_string(),
            rfc3339(Timestamp::from_micros(fact.at_us())),
            visible(fact.text("what")).into_owned(),
            details(fact),
        ]);
    }
    out.write(To::Answer, &table.render());
    Ok(Code::Completed)
}

/// What a fact says beside when and what: `tool=fs.read ending=denied`.
fn details(fact: &AuditFact) -> String {
    let Value::Object(fields) = &fact.fact else {
        return String::new();
    };
    let hidden = ["at_us", "what", "session", "invocation", "task", "call"];
    let told = fields
        .iter()
        .filter(|(key, _)| !hidden.contains(&key.as_str()));
    let text: Vec<String> = told
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        })
        .collect();
    visible_start(&text.join(" "), MAX_DETAIL_CHARS)
}

fn tell(report: &WouldDenyReport, snippet: &str, out: &mut Out) {
    if out.is_json() {
        let passed =
            |passed: &otto::Passed| json!({"times": passed.times, "agents": passed.agents});
        let of = |map: &std::collections::BTreeMap<String, otto::Passed>| {
            map.iter()
                .map(|(name, one)| (name.clone(), passed(one)))
                .collect::<serde_json::Map<_, _>>()
        };
        let permissions: Vec<Value> = report
            .permissions
            .iter()
            .map(|((tool, missing), one)| json!({"tool": tool, "missing": missing, "passed": passed(one)}))
            .collect();
        out.json(&json!({
            "type": "audit_report",
            "count": report.count,
            "tools": of(&report.tools),
            "allowed_hosts": of(&report.hosts),
            "permissions": permissions,
            "snippet": snippet,
        }));
        return;
    }
    if report.count == 0 {
        out.line(
            To::Progress,
            "audit mode let nothing pass that policy refuses",
        );
        return;
    }
    out.line(
        To::Progress,
        &format!(
            "audit mode let {} pass that policy refuses",
            times(report.count)
        ),
    );
    for ((tool, missing), passed) in &report.permissions {
        let text = format!(
            "  {}: lacks the permission {}, {passed}",
            visible(tool),
            visible(missing)
        );
        out.line(To::Progress, &text);
    }
    if !snippet.is_empty() {
        out.line(
            To::Progress,
            "in the operator's config.yml, this lets the same pass without audit mode:",
        );
        // The names are quoted as JSON, in which control characters are written out.
        out.write(To::Answer, snippet);
    }
}

fn times(count: u64) -> String {
    if count == 1 {
        "one thing".to_owned()
    } else {
        format!("{count} things")
    }
}

async fn head(anchor: Option<Anchor>, log: Option<&Log>, out: &mut Out) -> Performed {
    let Some(log) = log else {
        return Err(Failure::usage("there is no audit log here yet")
            .hint("it begins with the first `otto run`"));
    };
    let Some(anchor) = anchor else {
        let head = log.head().await?;
        if out.is_json() {
            out.json(&json!({"type": "audit_head", "sequence": head.0.sequence, "anchor": head.to_string()}));
        } else {
            out.line(To::Answer, &head.to_string());
        }
        return Ok(Code::Completed);
    };
    let check = log.check(Some(anchor)).await?;
    let (is_whole, text) = match &check {
        AuditCheck::Whole(span) => (
            true,
            format!(
                "the audit log holds the anchor; it ends at {}",
                Anchor(span.end)
            ),
        ),
        AuditCheck::AnchorRemoved(span) => (
            false,
            format!(
                "the audit log begins after record {}, because its retention removed what came before, the record of this anchor among it: compare with a later anchor",
                span.begins_after.sequence
            ),
        ),
        AuditCheck::Broken { detail } => (false, detail.to_string()),
    };
    if out.is_json() {
        out.json(&json!({"type": "audit_check", "whole": is_whole, "detail": text}));
    } else {
        let style = if is_whole { Style::Good } else { Style::Bad };
        let painted = out.painter(To::Answer).paint(style, &text);
        out.line(To::Answer, &painted);
    }
    Ok(if is_whole {
        Code::Completed
    } else {
        Code::Other
    })
}
