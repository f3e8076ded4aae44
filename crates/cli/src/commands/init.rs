//! `otto init [NAME]`

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use clap::Args;
use otto::AgentName;
use otto::load::PROJECT_AGENTS;
use otto::text::visible;
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::output::{Style, To};

/// Arguments of `otto init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The name of the agent
    #[arg(default_value = "reviewer")]
    name: AgentName,
}

const TEMPLATE: &str = include_str!("init.yml");

impl Init {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let directory = context.project.join(PROJECT_AGENTS);
        let path = directory.join(format!("{}.yml", self.name));
        write_new(&directory, &path, &template(&self.name))?;
        let shown = format!("{PROJECT_AGENTS}/{}.yml", self.name);
        if context.out.is_json() {
            context
                .out
                .json(&json!({"type": "written", "agent": self.name.as_str(), "file": shown}));
            return Ok(Code::Completed);
        }
        let painter = context.out.painter(To::Answer);
        let command = |text: &str| painter.paint(Style::Accent, text);
        let text = format!(
            "wrote {}\n\nNext:\n  {}\n  {}\n  {}\n",
            painter.paint(Style::Strong, &shown),
            command("otto check"),
            command("export OTTO_ENABLED=true ANTHROPIC_API_KEY=..."),
            command(&format!(
                "otto run {} \"Write a review of this project\"",
                self.name
            )),
        );
        context.out.write(To::Answer, &text);
        Ok(Code::Completed)
    }
}

fn template(name: &AgentName) -> String {
    TEMPLATE.replace("NAME", name.as_str())
}

/// Writes a file that must not be there yet.
fn write_new(directory: &Path, path: &Path, text: &str) -> Result<(), Failure> {
    let attempted = format!("write `{}`", visible(&path.to_string_lossy()));
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::usage(format!(
            "{attempted}: it is already there, and nothing is overwritten"
        ))
        .hint("give another name: otto init NAME"),
        _ => Failure::doing(&attempted, &error),
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}
