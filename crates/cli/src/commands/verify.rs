//! `otto verify [--anchor N:HASH] [--repair]`

use clap::Args;
use otto::Anchor;
use otto::text::visible;
use otto::upkeep::{self, Damage, DamageKind, Repair, Verification};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{Painter, Style, To};

/// Arguments of `otto verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// An end of the audit log that was kept elsewhere, as this command prints it
    #[arg(long, value_name = "N:HASH")]
    anchor: Option<Anchor>,
    /// Move damaged artifacts aside and make those again that follow from the journal
    #[arg(long)]
    repair: bool,
}

impl Verify {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let state_dir = &operator.state_dir.value;
        let shown = visible(&state_dir.to_string_lossy()).into_owned();
        if !state_dir.join("otto.db").exists() && self.anchor.is_none() {
            // Looking creates nothing.
            context
                .out
                .line(To::Progress, &format!("nothing is stored in {shown}"));
            return Ok(Code::Completed);
        }
        let repair = if self.repair { Repair::Yes } else { Repair::No };
        let verified = context.runtime()?.block_on(async {
            // Opened as for any other look: a state directory that is not the user's is refused.
            let otto = open::to_look(&operator).await?;
            let verified = upkeep::verify(state_dir, self.anchor, repair).await;
            if let Some(otto) = otto {
                open::close(otto).await;
            }
            Ok::<_, Failure>(verified?)
        })?;
        if context.out.is_json() {
            for damage in &verified.damages {
                context.out.json(&describe(damage));
            }
            context.out.json(&summarize(&verified));
        } else {
            let text = in_text(&verified, &shown, context.out.painter(To::Answer));
            context.out.write(To::Answer, &text);
        }
        Ok(if verified.is_sound() {
            Code::Completed
        } else {
            Code::Other
        })
    }
}

fn describe(damage: &Damage) -> Value {
    json!({
        "type": "damage",
        "kind": damage.kind.as_str(),
        "what": damage.what,
        "advice": damage.advice,
        "repaired": damage.repaired,
    })
}

fn summarize(verified: &Verification) -> Value {
    json!({
        "type": "verified",
        "sound": verified.is_sound(),
        "damages": verified.damages.len(),
        "more": verified.more,
        "journals": verified.journals,
        "journals_without_checksums": verified.journals_without_checksums,
        "calls": verified.calls,
        "accounts": verified.accounts,
        "artifacts": verified.artifacts,
        "artifact_bytes": verified.artifact_bytes,
        "anchor": verified.audit.to_string(),
        "audit_begins_after": verified.audit_begins_after,
    })
}

fn in_text(verified: &Verification, state_dir: &str, painter: Painter) -> String {
    let mut text = String::new();
    for damage in &verified.damages {
        let (word, style, then) = match (&damage.repaired, damage.kind) {
            (Some(done), _) => ("repaired", Style::Warn, done),
            (None, DamageKind::Anchor) => ("NOT COMPARED", Style::Bad, &damage.advice),
            (None, _) => ("DAMAGED", Style::Bad, &damage.advice),
        };
        text.push_str(&format!(
            "{} {}: {}\n  {}\n",
            painter.paint(style, word),
            damage.kind.as_str(),
            visible(&damage.what),
            visible(then)
        ));
    }
    if verified.more {
        text.push_str("there is more damage than is listed\n");
    }
    let is_anchor_alone = !verified.more
        && verified
            .damages
            .iter()
            .all(|damage| damage.repaired.is_some() || damage.kind == DamageKind::Anchor);
    let verdict = if verified.is_sound() {
        painter.paint(Style::Good, "sound")
    } else if is_anchor_alone {
        painter.paint(Style::Bad, "sound in itself")
    } else {
        painter.paint(Style::Bad, "damaged")
    };
    text.push_str(&format!(
        "{state_dir} is {verdict}: {} journals, {} model calls in {} accounts, {} artifacts of {} bytes\n",
        verified.journals,
        verified.calls,
        verified.accounts,
        verified.artifacts,
        verified.artifact_bytes
    ));
    if verified.journals_without_checksums > 0 {
        text.push_str(&format!(
            "{} journals are from before entries had checksums: whether they were changed is not known\n",
            verified.journals_without_checksums
        ));
    }
    if verified.audit_begins_after > 0 {
        text.push_str(&format!(
            "the audit log begins after record {}: its retention removed what came before\n",
            verified.audit_begins_after
        ));
    }
    text.push_str(&format!(
        "anchor of the audit log, to be kept elsewhere: {}\n",
        verified.audit
    ));
    text
}
