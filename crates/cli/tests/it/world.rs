//! A project, a user and a scripted model for one test.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use otto::config::OperatorConfig;
use otto_scripted::{Script, ScriptedServer, ServerOptions};
use serde_json::Value;
use tokio::runtime::Runtime;

/// BOUND: nothing that is waited for takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Directories of one test, removed at its end.
pub(crate) struct World {
    base: tempfile::TempDir,
    environment: Vec<(String, String)>,
    model: Option<Model>,
}

struct Model {
    server: ScriptedServer,
    runtime: Runtime,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        for dir in ["project", "home", "config", "tmp"] {
            fs::create_dir(base.path().join(dir)).unwrap();
        }
        Self {
            base,
            environment: Vec::new(),
            model: None,
        }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.base.path().canonicalize().unwrap().join(below)
    }

    pub(crate) fn set(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn file(self, below: &str, text: &str) -> Self {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// An agent named `helper` that can read and write the project.
    pub(crate) fn with_agent(self) -> Self {
        self.file(
            "project/.otto/agents/helper.yml",
            "name: helper\nmodel: claude-haiku-4-5\ntools: [fs.read, grep, fs.write]\nworking_dir: .\nbudgets: { cost: $0.50, time: 1m }\n",
        )
    }

    /// A scripted model that plays this script, and the environment of an enabled user with a key for it.
    pub(crate) fn with_model(mut self, script: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let script = Script::parse(script, "test.yml").unwrap();
        let prices = otto::prices(&OperatorConfig::defaults(&self.path("project")));
        let server = runtime
            .block_on(ScriptedServer::start(
                script,
                ServerOptions::new(Arc::new(prices)),
            ))
            .unwrap();
        let url = server.base_url();
        self.model = Some(Model { server, runtime });
        self.set("OTTO_ENABLED", "true")
            .set("ANTHROPIC_BASE_URL", url)
            .set("ANTHROPIC_API_KEY", "test-key-of-nobody")
    }

    /// The server behind [`World::with_model`].
    pub(crate) fn server(&self) -> &ScriptedServer {
        &self.model.as_ref().unwrap().server
    }

    /// Waits until the model has been asked this many times.
    #[track_caller]
    pub(crate) fn until_asked(&self, calls: u64) {
        let model = self.model.as_ref().unwrap();
        let asked = async { tokio::time::timeout(PATIENCE, model.server.asked(calls)).await };
        model.runtime.block_on(asked).expect("the model is asked");
    }

    /// The command in the project directory, with nothing of the real environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_otto"));
        command.args(args);
        command
    }

    /// Another program, as [`World::command`] runs the command.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path("project"))
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("TMPDIR", self.path("tmp"))
            .env("PATH", "/usr/bin:/bin")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn otto<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs with `--json` and gives the lines, which must all be JSON objects.
    pub(crate) fn json<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> (i32, Vec<Value>) {
        let mut command = self.command(args);
        let ran: Ran = command.arg("--json").output().unwrap().into();
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{ran:?}"))
        };
        let lines: Vec<Value> = ran.stdout.lines().map(parse).collect();
        assert!(lines.iter().all(Value::is_object), "{ran:?}");
        (ran.code, lines)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(Model { server, runtime }) = self.model.take() {
            runtime.block_on(server.shutdown());
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}
