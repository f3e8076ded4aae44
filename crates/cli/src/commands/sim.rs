//! `otto sim --script FILE [--bind ADDR:PORT]`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use otto::text::visible;
use otto_scripted::{Script, ScriptedServer, ServerOptions, demo_script};
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::output::{Style, To};
use crate::signals::Signals;

/// Arguments of `otto sim`.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// The script (YAML) the model plays; without one it plays that of `otto demo`
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Where to listen: a loopback address; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// Decides ids and the faults that have a chance
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

impl Sim {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let script = match &self.script {
            Some(path) => read(path)?,
            None => demo_script(),
        };
        let mut options = ServerOptions::new(Arc::new(otto::prices(&operator)));
        options.address = self.bind;
        options.seed = self.seed;
        context.runtime()?.block_on(async {
            let mut signals = Signals::new().map_err(|error| Failure::doing("listen for signals", &error))?;
            let server = ScriptedServer::start(script, options).await.map_err(|error| {
                Failure::usage(format!("listen on {}: {error}", self.bind)).hint("use a free port of a loopback address, such as 127.0.0.1:0")
            })?;
            let url = server.base_url();
            if context.out.is_json() {
                context.out.json(&json!({"type": "listening", "base_url": url}));
            } else {
                let painter = context.out.painter(To::Answer);
                context.out.line(To::Answer, &format!("a scripted model listens on {}", painter.paint(Style::Strong, &url)));
                let command = format!("OTTO_ENABLED=true ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=any otto run AGENT TASK");
                context.out.line(To::Answer, &format!("use it: {}", painter.paint(Style::Accent, &command)));
                context.out.line(To::Answer, "Ctrl-C ends it");
            }
            signals.next().await;
            let stats = server.stats();
            server.shutdown().await;
            let line = format!("{} requests, {} refused, {} faults played", stats.requests, stats.refused, stats.faults);
            context.out.line(To::Progress, &line);
            Ok(Code::Completed)
        })
    }
}

fn read(path: &std::path::Path) -> Result<Script, Failure> {
    // BOUND: bytes of a script.
    const MAX_SCRIPT_BYTES: u64 = 4 * 1024 * 1024;
    let shown = visible(&path.to_string_lossy()).into_owned();
    let text = otto::load::read_text(path, MAX_SCRIPT_BYTES)
        .map_err(|error| Failure::usage(format!("the script `{shown}` {error}")))?;
    Script::parse(&text, &path.to_string_lossy())
        .map_err(|errors| Failure::usage(errors.to_string()))
}
