//! `otto backup FILE`

use std::path::PathBuf;

use clap::Args;
use otto::text::visible;
use otto::upkeep;
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::To;

/// Arguments of `otto backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to write; it must not exist yet
    file: PathBuf,
}

impl Backup {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let state_dir = &operator.state_dir.value;
        let shown = visible(&state_dir.to_string_lossy()).into_owned();
        if !state_dir.join("otto.db").exists() {
            return Err(Failure::usage(format!("nothing is stored in {shown}"))
                .hint("OTTO_STATE_DIR names another state directory"));
        }
        let backup = context.runtime()?.block_on(async {
            // Opened as for any other look: a state directory that is not the user's is refused.
            let otto = open::to_look(&operator).await?;
            let backup = upkeep::backup(state_dir, &self.file).await;
            if let Some(otto) = otto {
                open::close(otto).await;
            }
            Ok::<_, Failure>(backup?)
        })?;
        let file = visible(&self.file.to_string_lossy()).into_owned();
        let anchor = backup.audit.to_string();
        for what in &backup.damaged_journals {
            let text = format!(
                "warning: copied as it is: {}; the other journals are whole, see `otto verify`",
                visible(what)
            );
            context.out.line(To::Progress, &text);
        }
        if context.out.is_json() {
            context.out.json(&json!({
                "type": "backup",
                "file": self.file.to_string_lossy(),
                "bytes": backup.bytes,
                "damaged_journals": backup.damaged_journals,
                "anchor": anchor,
            }));
            return Ok(Code::Completed);
        }
        context.out.line(
            To::Answer,
            &format!("{file}: {} bytes, written and verified", backup.bytes),
        );
        context.out.line(
            To::Answer,
            &format!("it holds everything but artifacts: copy {shown}/sessions beside it"),
        );
        context.out.line(
            To::Answer,
            &format!("anchor of the audit log, to be kept elsewhere: {anchor}"),
        );
        Ok(Code::Completed)
    }
}
