//! `otto demo [DIR]`: the real thing, without a key and without a network, and shown to keep its promises.
//!
//! Only the model is made up: a scripted one on the loopback address. The demo types what a user would type:
//! each command it shows is a run of this very program, with agent files, an operator's configuration and a
//! state directory of its own. It kills one of them in the middle, and looks afterwards at journal, ledger,
//! files and the provider's bill. Nothing that is claimed at the end is taken from what the commands say of
//! themselves.
//!
//! Invariant: DIR is a read-only root; everything that is written lies in a directory made for this demo.

mod act;
mod evidence;
mod facts;
mod scene;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use otto::config::OperatorConfig;
use otto::env::{self, Environment};
use otto::text::visible;
use otto::{Booted, Enforcement};
use otto_scripted::{ScriptedServer, ServerOptions, demo_script};
use serde_json::json;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{Style, To};

use act::{Act, Ended};
use evidence::Line;
use facts::{AtKill, Collected};
use scene::{REPORT, Scene};

/// Arguments of `otto demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The directory to report on; it is only read
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Ask the provider's model instead of the scripted one; needs ANTHROPIC_API_KEY and costs a few cents
    #[arg(long)]
    with_key: bool,
    /// Leave the report and the state to look at; what a real model wrote always stays
    #[arg(long)]
    keep: bool,
}

const TASK: &str =
    "Write a report on the project in @src: what is in it, and where its open points are.";
const SPEND_TASK: &str = "Search for as long as you like.";
/// What the scripted model takes for a key. Masked wherever it shows up, as a real one is.
const DEMO_KEY: &str = "demo-key-8c1f2e";
/// How often the journal is looked at for the moment to kill.
const LOOK: Duration = Duration::from_millis(10);

impl Demo {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let dir = self.checked_dir()?;
        let painter = context.out.painter(To::Answer);
        if !context.out.is_json() {
            // Before anything else is done: somebody waits.
            let shown = visible(&dir.to_string_lossy()).into_owned();
            let title = format!("otto demo: an agent reports on {shown}");
            let title = painter.paint(Style::Strong, &title);
            context.out.line(To::Answer, &title);
        }
        let scene = Scene::build(&dir)?;
        let runtime = context.runtime()?;
        runtime.block_on(async {
            let server = if self.with_key {
                None
            } else {
                Some(serve().await?)
            };
            let environment = self.environment(context, &scene, &dir, server.as_ref());
            let mut stage = Stage {
                context,
                environment,
                scene: &scene,
                dir: &dir,
                keep: self.keep,
            };
            let performed = match &server {
                Some(server) => stage.play(server).await,
                None => stage.ask_the_provider().await,
            };
            if let Some(server) = server {
                server.shutdown().await;
            }
            self.tidy_up(context, &scene, &performed);
            performed
        })
    }

    /// Removes what a demo has left that went well or was refused before it began; says where the rest is.
    fn tidy_up(&self, context: &mut Context, scene: &Scene, performed: &Performed) {
        let shown = visible(&scene.project.to_string_lossy()).into_owned();
        let is_of_use = match performed {
            Ok(code) => *code != Code::Completed || self.keep || self.with_key,
            Err(failure) => failure.code != Code::Refused || self.keep,
        };
        if !is_of_use {
            if let Err(error) = scene.remove() {
                let text = format!("note: remove the directory of the demo {shown}: {error}");
                context.out.line(To::Progress, &text);
            }
        } else if performed.is_err() {
            let text = format!("what the demo left is in {shown}");
            context.out.line(To::Progress, &text);
        }
    }

    fn checked_dir(&self) -> Result<PathBuf, Failure> {
        let shown = visible(&self.dir.to_string_lossy()).into_owned();
        let real = std::fs::canonicalize(&self.dir)
            .map_err(|error| Failure::usage(format!("open the directory `{shown}`: {error}")))?;
        if real.is_dir() {
            Ok(real)
        } else {
            Err(Failure::usage(format!("`{shown}` is not a directory")))
        }
    }

    /// The environment of the demo's commands: nothing of the user's configuration takes part, and nothing of
    /// it is changed. What a real provider bills counts against the user's day.
    fn environment(
        &self,
        context: &Context,
        scene: &Scene,
        dir: &Path,
        server: Option<&ScriptedServer>,
    ) -> Vec<(String, String)> {
        let user = |name: &str| context.environment.variable(name).map(str::to_owned);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut pairs = vec![
            (env::OTTO_CONFIG, path(&scene.operator)),
            (env::OTTO_STATE_DIR, path(&scene.state)),
            ("OTTO_VAR_DIR", path(dir)),
        ];
        let mut from_user = vec![env::OTTO_KILL_SWITCH];
        match server {
            Some(server) => {
                pairs.push((env::ANTHROPIC_API_KEY, DEMO_KEY.to_owned()));
                pairs.push((env::ANTHROPIC_BASE_URL, server.base_url()));
            }
            None => from_user.extend([
                env::ANTHROPIC_API_KEY,
                env::ANTHROPIC_BASE_URL,
                env::OTTO_DAILY_COST,
                env::XDG_STATE_HOME,
                env::HOME,
            ]),
        }
        pairs.extend(
            from_user
                .into_iter()
                .filter_map(|name| Some((name, user(name)?))),
        );
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

async fn serve() -> Result<ScriptedServer, Failure> {
    let defaults = OperatorConfig::defaults(Path::new("/"));
    let options = ServerOptions::new(Arc::new(otto::prices(&defaults)));
    ScriptedServer::start(demo_script(), options)
        .await
        .map_err(|error| Failure::doing("start the scripted model on the loopback address", &error))
}

/// One demo on its stage.
struct Stage<'a> {
    context: &'a mut Context,
    environment: Vec<(String, String)>,
    scene: &'a Scene,
    dir: &'a Path,
    /// Whether what is written stays when all goes well.
    keep: bool,
}

impl Stage<'_> {
    async fn play(&mut self, server: &ScriptedServer) -> Performed {
        let operator = self.operator()?;
        open::check_enabled(&operator)?;
        self.say("  a scripted model on the loopback address: no key, no network; everything else is the real thing");
        let work = visible(&self.scene.work.to_string_lossy()).into_owned();
        self.say(&format!(
            "  the directory is read-only; the agent writes into {work}"
        ));
        let (level, words) = self.level().await;
        self.say(&format!("  {words}"));

        // The first act: killed in the middle.
        let mut act = self.begin(&["run", "reporter", TASK])?;
        let mut at_kill = AtKill::default();
        let mut output = self
            .until_the_point(&mut act, server, &operator, &mut at_kill)
            .await?;
        let id = act.id();
        act.kill()?;
        output.extend(self.until_its_end(act).await?.output);
        server.idle().await;
        let spoken = self.context.out.painter(To::Answer).paint(
            Style::Bad,
            &format!(
                "SIGKILL to process {id}, in the middle of the model's sentence: {} answers and the written report are in its journal",
                at_kill.answers
            ),
        );
        self.say(&format!("\n{spoken}"));
        let Some(session) = at_kill.session.clone() else {
            return Err(Failure::other(
                "the agent's process ended before it could be killed in the middle",
            ));
        };

        // The second: taken up again.
        let act = self.begin(&["resume", &session])?;
        output.extend(self.until_its_end(act).await?.output);
        server.idle().await;
        let after_resume = server.billed();

        // The third: it would spend more than it may.
        let act = self.begin(&["run", "spender", SPEND_TASK])?;
        output.extend(self.until_its_end(act).await?.output);
        server.idle().await;

        let collected = Collected {
            level,
            at_kill,
            after_resume,
            billed: server.billed(),
            requests: server.requests(),
            output,
        };
        let facts = collected.facts(self.scene, &operator).await?;
        Ok(self.conclude(&evidence::judge(&facts)))
    }

    /// The same agent with a real model, to its end.
    async fn ask_the_provider(&mut self) -> Performed {
        self.say("  the provider's model; the directory is read-only");
        let act = self.begin(&["run", "reporter", TASK])?;
        let ended = self.until_its_end(act).await?;
        let report = self.scene.work.join(REPORT);
        if report.is_file() {
            let shown = visible(&report.to_string_lossy()).into_owned();
            self.say(&format!("the report: {shown}"));
        }
        Ok(ended.code.map_or(Code::Other, Code::of_number))
    }

    /// The operator's configuration as the demo's commands see it.
    fn operator(&self) -> Result<OperatorConfig, Failure> {
        let pairs = self.environment.iter().cloned();
        let context = Context {
            environment: Environment::from_pairs(pairs),
            project: self.scene.project.clone(),
            booted: Booted::clone(&self.context.booted),
            out: self.context.out.silent(),
            log: crate::log::Log::default(),
        };
        context.operator()
    }

    /// The level that the sandbox's self-test has proven, and the words for it.
    async fn level(&self) -> (Enforcement, String) {
        let defaults = OperatorConfig::defaults(&self.scene.project);
        let host = otto::worker_host(&self.context.booted, &defaults, &self.scene.project);
        match host.prove().await {
            Ok(level) => (level, describe(level)),
            Err(error) => {
                let why = visible(&error.message).into_owned();
                (Enforcement::None, format!("no sandbox: {why}"))
            }
        }
    }

    fn begin(&mut self, args: &[&str]) -> Result<Act, Failure> {
        let painter = self.context.out.painter(To::Answer);
        let typed: Vec<String> = args
            .iter()
            .map(|arg| {
                if arg.contains(' ') {
                    format!("\"{arg}\"")
                } else {
                    (*arg).to_owned()
                }
            })
            .collect();
        let prompt = painter.paint(Style::Accent, &format!("$ otto {}", typed.join(" ")));
        self.say(&format!("\n{prompt}"));
        let color = if painter.is_on() { "always" } else { "never" };
        let mut all = args.to_vec();
        all.extend(["--color", color]);
        if self.context.out.is_json() {
            all.push("--json");
        }
        Act::begin(&all, &self.environment, &self.scene.project)
    }

    /// Shows an act until the report is written, its result journaled, and the model still speaking.
    async fn until_the_point(
        &mut self,
        act: &mut Act,
        server: &ScriptedServer,
        operator: &OperatorConfig,
        at_kill: &mut AtKill,
    ) -> Result<Vec<u8>, Failure> {
        let mut shown = Vec::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watched = None;
        loop {
            tokio::select! {
                piece = act.next() => match piece {
                    Some(piece) => {
                        self.context.out.bytes(&piece);
                        shown.extend(piece);
                    }
                    None => break,
                },
                _ = look.tick() => {
                    if watched.is_none() {
                        watched = open::to_look(operator).await?;
                    }
                    // The model has begun the sentence in which it falls silent, and did so in this attempt: the next
                    // one is whole. Only text is shown as it comes.
                    let is_shown = self.context.out.is_json() || !shown.ends_with(b"\n");
                    let in_sentence = server.stats().faults > 0 && is_shown;
                    if in_sentence
                        && let Some(otto) = &watched
                        && at_kill.look(otto, self.scene).await?
                    {
                        break;
                    }
                }
            }
        }
        if let Some(otto) = watched {
            open::close(otto).await;
        }
        Ok(shown)
    }

    async fn until_its_end(&mut self, mut act: Act) -> Result<Ended, Failure> {
        while let Some(piece) = act.next().await {
            self.context.out.bytes(&piece);
        }
        act.ended()
    }

    fn conclude(&mut self, lines: &[Line; 5]) -> Code {
        let holds = lines.iter().all(|line| line.holds);
        let is_kept = self.keep || !holds;
        let report = self.scene.work.join(REPORT);
        let (report, state) = (
            report.to_string_lossy().into_owned(),
            self.scene.state.to_string_lossy().into_owned(),
        );
        if self.context.out.is_json() {
            let claims: Vec<_> = lines
                .iter()
                .map(|line| json!({"claim": line.claim, "holds": line.holds, "figures": line.figures}))
                .collect();
            self.context.out.json(&json!({
                "type": "demo",
                "directory": self.scene.project.to_string_lossy(),
                "report": report,
                "state_dir": state,
                "kept": is_kept,
                "holds": holds,
                "claims": claims,
            }));
        } else {
            let painter = self.context.out.painter(To::Answer);
            let title = "What was claimed, and what journal, ledger, files and the provider's bill say of it:";
            self.say(&format!("\n{}\n", painter.paint(Style::Strong, title)));
            for line in lines {
                let (word, style) = if line.holds {
                    ("holds ", Style::Good)
                } else {
                    ("BROKEN", Style::Bad)
                };
                let word = painter.paint(style, word);
                self.say(&format!(
                    "{word}  {:<28}  {}",
                    line.claim,
                    visible(&line.figures)
                ));
            }
            let (report, state) = (visible(&report).into_owned(), visible(&state).into_owned());
            if is_kept {
                self.say(&format!("\nthe report: {report}"));
                self.say(&format!(
                    "everything else: OTTO_STATE_DIR={state} otto sessions"
                ));
            } else {
                self.say("\nwhat the demo wrote is removed; `otto demo --keep` leaves the report and the state to look at");
            }
            let dir = visible(&self.dir.to_string_lossy()).into_owned();
            let command = format!("ANTHROPIC_API_KEY=... otto demo --with-key {dir}");
            let command = painter.paint(Style::Accent, &command);
            self.say(&format!("the report with a real model: {command}"));
        }
        if holds { Code::Completed } else { Code::Other }
    }

    /// A line for people; programs get the lines of the commands and the last one.
    fn say(&mut self, line: &str) {
        if !self.context.out.is_json() {
            self.context.out.line(To::Answer, line);
        }
    }
}

fn describe(level: Enforcement) -> String {
    let mechanisms = match level {
        Enforcement::L2 => "namespaces, Landlock and seccomp; all attacks of its self-test failed",
        Enforcement::L1 => "Landlock and seccomp; all attacks of its self-test failed",
        Enforcement::None => "tools do not run here; `otto doctor` says why",
    };
    format!(
        "sandbox level {}: {mechanisms}",
        level.as_str().to_uppercase()
    )
}
