//! The real command: `otto run` against a scripted model, dying anywhere; then `otto resume`.
//!
//! The scripted server lives in the process that checks, one per thread, so its bill is the truth whatever
//! dies. What is written into the project goes through the sandbox: a death may hit the command or a worker.

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use otto::config::OperatorConfig;
use otto_scripted::{Script, ScriptedServer, ServerOptions};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Aftermath, Scenario, state_dir};
use crate::said::Mouth;

/// What the model does: replaces a file, then says so.
const SCRIPT: &str = "
turns:
  - text: I write.
    tool: { name: fs.write, input: { path: notes.txt, content: \"new\\n\" } }
  - text: Written.
";

const AGENT: &str = "name: helper
model: claude-haiku-4-5
tools: [fs.read, fs.write]
working_dir: .
budgets: { cost: $0.50, time: 1m }
";

/// The limit of the agent in picodollars.
const LIMIT: u64 = 500_000_000_000;
const OLD: &str = "old\n";
const NEW: &str = "new\n";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "otto-run",
        prepare,
        drive,
        check,
        environment,
        // A restart is five commands.
        stride: 6,
        loses_power: false,
        // The codes of the manual, docs/cli.md.
        reports: 0..=7,
    }]
}

/// The model of one thread, and how much was on its bill when the run began.
struct Model {
    server: ScriptedServer,
    // Serves until it is dropped.
    _runtime: Runtime,
    mark: usize,
}

thread_local! {
    static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
}

fn with_model<T>(use_it: impl FnOnce(&mut Model) -> T) -> T {
    MODEL.with_borrow_mut(|model| {
        use_it(
            model.get_or_insert_with(|| start().expect("a scripted model on the loopback address")),
        )
    })
}

fn start() -> Result<Model> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let script =
        Script::parse(SCRIPT, "scenario.yml").map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let prices = otto::prices(&OperatorConfig::defaults(Path::new("/")));
    let options = ServerOptions::new(Arc::new(prices));
    let server = runtime.block_on(ScriptedServer::start(script, options))?;
    Ok(Model {
        server,
        _runtime: runtime,
        mark: 0,
    })
}

fn environment() -> Vec<(&'static str, String)> {
    with_model(|model| {
        model.mark = model.server.billed().requests.len();
        vec![("OTTO_CRASH_MODEL", model.server.base_url())]
    })
}

/// A project with an agent.
pub(crate) fn prepare(dir: &Path) -> Result<()> {
    let project = dir.join("project");
    fs::create_dir_all(project.join(".otto/agents"))?;
    fs::create_dir_all(dir.join("home"))?;
    fs::write(project.join(".otto/agents/helper.yml"), AGENT)?;
    fs::write(project.join("notes.txt"), OLD)?;
    Ok(())
}

/// The command beside this one.
fn otto() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("otto");
    ensure!(
        path.exists(),
        "`{}` is missing; `cargo build --package otto-cli` makes it",
        path.display()
    );
    Ok(path)
}

fn command(dir: &Path, model: &str, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(otto()?);
    command
        .args(args)
        .current_dir(dir.join("project"))
        .env_clear()
        .env("HOME", dir.join("home"))
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", dir.join("home"))
        .env("OTTO_STATE_DIR", state_dir(dir))
        .env("OTTO_ENABLED", "true")
        .env("ANTHROPIC_BASE_URL", model)
        .env("ANTHROPIC_API_KEY", "key-of-nobody");
    Ok(command)
}

/// Becomes the command. It is traced already.
fn drive(dir: &Path, _: &Mouth) -> Result<()> {
    let model = std::env::var("OTTO_CRASH_MODEL").context("which model to ask")?;
    let null = || fs::OpenOptions::new().write(true).open("/dev/null");
    let error = command(dir, &model, &["run", "helper", "write it down", "--json"])?
        .stdout(null()?)
        .stderr(null()?)
        .exec();
    Err(error).context("become the command")
}

/// Runs the command to its end and returns its lines.
pub(crate) fn lines(dir: &Path, args: &[&str]) -> Result<Vec<Value>> {
    let url = with_model(|model| model.server.base_url());
    let output = command(dir, &url, args)?.arg("--json").output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    if !output.status.success() {
        bail!(
            "`otto {}` ends with {}: {text}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(lines)
}

fn check(dir: &Path, _: &Aftermath) -> Result<()> {
    let notes = dir.join("project/notes.txt");
    let content = fs::read_to_string(&notes).context("read what the tool replaces")?;
    ensure!(
        content == OLD || content == NEW,
        "the file holds {content:?}"
    );
    for session in lines(dir, &["sessions"])? {
        let outcome = session["outcome"].as_str().unwrap_or_default();
        let is_open = session["resumable"] == true || outcome != "completed";
        let id = session["id"].as_str().context("a session has an id")?;
        if is_open && has_begun(dir, id)? {
            lines(dir, &["resume", id, "--decide", "unknown"])?;
        }
    }
    let billed = with_model(|model| {
        model.server.billed().requests[model.mark..]
            .iter()
            .map(|request| request.cost.picodollars())
            .collect::<Vec<u64>>()
    });
    let sum: u64 = billed.iter().sum();
    let charged: u64 = lines(dir, &["usage"])?
        .iter()
        .filter_map(|line| line["charged"]["picodollars"].as_u64())
        .sum();
    ensure!(
        sum <= charged && charged <= LIMIT,
        "billed were {sum}, charged are {charged}, the limit is {LIMIT}"
    );
    // Two turns, and one call that was under way when it died.
    ensure!(
        billed.len() <= 3,
        "{} calls were billed: {billed:?}",
        billed.len()
    );
    Ok(())
}

/// Whether anything of a session's invocation is in its journal.
fn has_begun(dir: &Path, session: &str) -> Result<bool> {
    Ok(lines(dir, &["show", session])?.iter().any(|line| {
        line["type"] == "message" || line["type"] == "event" || line["type"] == "invocation"
    }))
}
