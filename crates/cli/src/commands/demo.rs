//! `otto demo [DIR]`: the real thing, without a key and without a network.
//!
//! Only the model is made up: a scripted one on the loopback address. Agent file, loader, provider client,
//! streaming, tools, sandbox, ledger, journal and artifacts are those of every other run. What the scripted
//! model says comes from the real tool results, so another directory gives another report.
//!
//! Invariant: DIR is a read-only root; everything that is written lies in a directory made for this demo.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use otto::config::{OperatorConfig, Setting};
use otto::env::{self, Environment};
use otto::load::PROJECT_AGENTS;
use otto::text::visible;
use otto::{Booted, Outcome};
use otto_scripted::{ScriptedServer, ServerOptions, demo_script};
use serde_json::json;

use crate::Performed;
use crate::commands::run::{announce, find};
use crate::commands::watch;
use crate::context::Context;
use crate::error::Failure;
use crate::open;
use crate::output::{Live, Style, To};

/// Arguments of `otto demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The directory to report on; it is only read
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Ask the provider's model instead of the scripted one; needs ANTHROPIC_API_KEY and costs a few cents
    #[arg(long)]
    with_key: bool,
}

/// The agent of the demo, as its file is written.
const AGENT: &str = include_str!("demo.yml");
const AGENT_NAME: &str = "reporter";
const TASK: &str =
    "Write a report on the project in @src: what is in it, and where its open points are.";
/// What the scripted model takes for a key. Masked wherever it shows up, as a real one is.
const DEMO_KEY: &str = "demo-key-8c1f2e";
/// How long the scripted model waits before each answer, so that a person can follow.
const PACE: Duration = Duration::from_millis(150);

impl Demo {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let dir = self.checked_dir()?;
        let scene = Scene::build()?;
        if !context.out.is_json() {
            let painter = context.out.painter(To::Answer);
            let model = if self.with_key {
                "the provider's model"
            } else {
                "a scripted model: no key, no network"
            };
            let title = format!(
                "otto demo: an agent reports on {}",
                visible(&dir.to_string_lossy())
            );
            context
                .out
                .line(To::Answer, &painter.paint(Style::Strong, &title));
            context.out.line(To::Answer, &format!("  {model}; agents are enabled for this one process; everything else is the real thing"));
            context.out.line(
                To::Answer,
                &format!(
                    "  the directory is read-only; the agent writes into {}\n",
                    visible(&scene.work.to_string_lossy())
                ),
            );
        }
        let runtime = context.runtime()?;
        runtime.block_on(async {
            let server = if self.with_key {
                None
            } else {
                Some(serve().await?)
            };
            let environment = self.environment(context, &scene, &dir, server.as_ref());
            let mut demo = Context {
                environment,
                project: scene.project.clone(),
                booted: Booted::clone(&context.booted),
                out: context.out.take(),
            };
            let code = invoke(&mut demo, &dir, &scene, self.with_key).await;
            context.out = demo.out;
            if let Some(server) = server {
                server.shutdown().await;
            }
            code
        })
    }

    fn checked_dir(&self) -> Result<PathBuf, Failure> {
        let shown = visible(&self.dir.to_string_lossy()).into_owned();
        let real = fs::canonicalize(&self.dir)
            .map_err(|error| Failure::usage(format!("open the directory `{shown}`: {error}")))?;
        if real.is_dir() {
            Ok(real)
        } else {
            Err(Failure::usage(format!("`{shown}` is not a directory")))
        }
    }

    /// The environment of the demo alone: nothing of the user's configuration takes part, and nothing of it
    /// is changed.
    fn environment(
        &self,
        context: &Context,
        scene: &Scene,
        dir: &Path,
        server: Option<&ScriptedServer>,
    ) -> Environment {
        let user = |name: &str| context.environment.variable(name).map(str::to_owned);
        let (key, url) = match server {
            Some(server) => (Some(DEMO_KEY.to_owned()), Some(server.base_url())),
            None => (user(env::ANTHROPIC_API_KEY), user(env::ANTHROPIC_BASE_URL)),
        };
        let mut pairs = vec![
            (env::OTTO_ENABLED, "true".to_owned()),
            (
                env::OTTO_STATE_DIR,
                scene.state.to_string_lossy().into_owned(),
            ),
            ("OTTO_VAR_DIR", dir.to_string_lossy().into_owned()),
        ];
        pairs.extend(key.map(|key| (env::ANTHROPIC_API_KEY, key)));
        pairs.extend(url.map(|url| (env::ANTHROPIC_BASE_URL, url)));
        // The kill switch holds for the demo as well.
        pairs.extend(user(env::OTTO_KILL_SWITCH).map(|value| (env::OTTO_KILL_SWITCH, value)));
        Environment::from_pairs(pairs)
    }
}

async fn serve() -> Result<ScriptedServer, Failure> {
    let defaults = OperatorConfig::defaults(Path::new("/"));
    let mut options = ServerOptions::new(Arc::new(otto::prices(&defaults)));
    options.latency = PACE;
    ScriptedServer::start(demo_script(), options)
        .await
        .map_err(|error| Failure::doing("start the scripted model on the loopback address", &error))
}

async fn invoke(context: &mut Context, dir: &Path, scene: &Scene, with_key: bool) -> Performed {
    let mut operator = context.operator()?;
    operator.directories = Setting::new(vec![dir.to_owned()], "otto demo");
    open::check_enabled(&operator)?;
    let agents = context.agents(&operator)?;
    let agent = find(&agents, AGENT_NAME)?;
    let budgets = agent.budgets.clone();
    announce(&mut context.out, &agent, &budgets, &operator);
    let otto = open::to_run(context, &operator, &agents).await?;
    let watched = async {
        let handle = otto.agent(AGENT_NAME)?.invoke_stream(TASK).await?;
        watch::watch(
            &mut context.out,
            &otto,
            handle,
            &agent,
            &budgets,
            Live::together(),
        )
        .await
    };
    let report = watched.await;
    open::close(otto).await;
    let report = report?;
    let code = watch::conclude(&mut context.out, &report, &budgets, To::Answer);
    let written = scene.work.join("report.md");
    if context.out.is_json() {
        context.out.json(&json!({"type": "demo", "directory": scene.project.to_string_lossy(), "report": written.to_string_lossy()}));
        return Ok(code);
    }
    let painter = context.out.painter(To::Answer);
    if matches!(report.outcome, Outcome::Completed { .. }) && written.is_file() {
        context.out.line(
            To::Answer,
            &format!("the report: {}", visible(&written.to_string_lossy())),
        );
    }
    let state = visible(&scene.state.to_string_lossy()).into_owned();
    context.out.line(
        To::Answer,
        &format!(
            "its transcript: OTTO_STATE_DIR={state} otto show {}",
            report.ids.session
        ),
    );
    if !with_key {
        let command = format!(
            "ANTHROPIC_API_KEY=... otto demo --with-key {}",
            visible(&dir.to_string_lossy())
        );
        context.out.line(
            To::Answer,
            &format!(
                "\nthe same with a real model: {}",
                painter.paint(Style::Accent, &command)
            ),
        );
    }
    Ok(code)
}

/// The directories of one demo. They stay, so that the result can be looked at.
struct Scene {
    project: PathBuf,
    work: PathBuf,
    state: PathBuf,
}

impl Scene {
    fn build() -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::doing("make a directory for the demo", &error);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!("otto-demo-{}-{}", std::process::id(), since.as_millis());
        let base = fs::canonicalize(std::env::temp_dir())
            .map_err(failed)?
            .join(name);
        // Readable by the owner only, and fresh: a directory that somebody prepared is not used.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&base)
            .map_err(failed)?;
        let scene = Self {
            work: base.join("work"),
            state: base.join("state"),
            project: base,
        };
        let agents = scene.project.join(PROJECT_AGENTS);
        for dir in [&scene.work, &agents] {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        fs::write(agents.join(format!("{AGENT_NAME}.yml")), AGENT).map_err(failed)?;
        Ok(scene)
    }
}
