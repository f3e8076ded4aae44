//! `cargo xtask fuzz-http`: requests made from the OpenAPI document, against the real binary and a scripted model.
//!
//! Twice: first with made-up ids, which mostly name nothing; then with those of an invocation that has ended, so that
//! what works on stored things is reached as well. `--seed` repeats a run as far as times and ids allow it.
//!
//! It needs `schemathesis` (Python) on the path or in `SCHEMATHESIS`; without it, it says so and does nothing, unless
//! `OTTO_TEST_REQUIRE_TOOLS` is set. It starts two processes in a directory of its own, and ends both.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// BOUND: how long requests are made, half of it with made-up ids.
const SECONDS: u32 = 120;
/// What every answer is checked for. Left out is `positive_data_acceptance`: a request may keep the schema and be
/// refused by its meaning (a range behind the end, a key that was used for something else).
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,negative_data_rejection,\
                      unsupported_method";
/// The kill switch would end the trial, and a follower of an invocation reads to its end.
const LEFT_OUT: &str = "^/v1/kill$";

const AGENT: &str = "name: helper\nmodel: claude-haiku-4-5\ntools: [fs.read]\nworking_dir: .\n";
const SCRIPT: &str = "turns: [{ text: Hello, repeat: forever }]\n";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let program = std::env::var("SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".to_owned());
    let is_there = Command::new(&program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !is_there {
        if std::env::var_os("OTTO_TEST_REQUIRE_TOOLS").is_some() {
            bail!("`{program}` is not there; `pip install schemathesis` installs it");
        }
        println!(
            "fuzz-http: skipped, `{program}` is not there; `pip install schemathesis` installs it"
        );
        return Ok(());
    }
    shell::cargo(&["build", "--package", "otto-cli"])?;
    let folder = std::env::temp_dir().join(format!("otto-fuzz-http-{}", std::process::id()));
    let project = folder.join("project");
    fs::create_dir_all(project.join(".otto/agents")).context("make a project")?;
    // Beside the project: no agent may work where its user is at home.
    fs::create_dir_all(folder.join("home")).context("make a home")?;
    let fuzzed = fuzz(&program, &project, &options);
    fs::remove_dir_all(&folder).context("remove the project")?;
    fuzzed
}

/// How the requests are made.
struct Options {
    seconds: u32,
    seed: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            seconds: SECONDS,
            seed: None,
        };
        for pair in args.chunks(2) {
            match pair {
                [flag, number] if flag == "--seconds" => options.seconds = number.parse()?,
                [flag, number] if flag == "--seed" => options.seed = Some(number.clone()),
                _ => bail!("usage: cargo xtask fuzz-http [--seconds N] [--seed N]"),
            }
        }
        Ok(options)
    }
}

fn fuzz(program: &str, folder: &Path, options: &Options) -> Result<()> {
    fs::write(folder.join(".otto/agents/helper.yml"), AGENT)?;
    fs::write(folder.join("script.yml"), SCRIPT)?;
    let model = Started::new(folder, &["sim", "--script", "script.yml"], &[])?;
    let environment = [
        ("OTTO_ENABLED", "true"),
        ("ANTHROPIC_BASE_URL", model.base_url.as_str()),
        ("ANTHROPIC_API_KEY", "any"),
        // What schemathesis says is what matters here.
        ("OTTO_LOG", "warn"),
    ];
    let stored = folder.join("stored.toml");
    fs::write(&stored, of_what_is_stored(folder, &environment)?)?;
    let server = Started::new(folder, &["serve", "--bind", "127.0.0.1:0"], &environment)?;
    for config in [None, Some(&stored)] {
        let mut command = Command::new(program);
        if let Some(config) = config {
            command.arg("--config-file").arg(config);
        }
        command
            .arg("run")
            .arg(format!("{}/openapi.json", server.base_url))
            .args(["--checks", CHECKS, "--exclude-path-regex", LEFT_OUT])
            .args(["--phases", "examples,coverage,fuzzing"])
            .args(["--max-time", &(options.seconds / 2).max(1).to_string()])
            .args(["--request-timeout", "30", "--continue-on-failure"]);
        if let Some(seed) = &options.seed {
            command.args(["--seed", seed]);
        }
        let status = command
            .current_dir(folder)
            .status()
            .context("run schemathesis")?;
        if !status.success() {
            bail!("schemathesis found what is above");
        }
    }
    Ok(())
}

/// The configuration that puts the ids of an invocation that has ended into the requests.
fn of_what_is_stored(folder: &Path, environment: &[(&str, &str)]) -> Result<String> {
    let ran = command(folder, &["run", "helper", "hi"], environment)
        .output()
        .context("run an agent")?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let report: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("read the report of `otto run`: {ran:?}"))?;
    let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (invocation, session) = (field(&report["invocation"]), field(&report["session"]));
    let path = field(&report["artifacts"][0]["path"]);
    let of = |place: &str, parameters: &str| {
        format!("[[operations]]\ninclude-path-regex = '{place}'\nparameters = {{ {parameters} }}\n")
    };
    Ok([
        of("^/v1/invocations/", &format!("id = \"{invocation}\"")),
        of(
            "^/v1/sessions/.*/artifacts/",
            &format!("id = \"{session}\", path = \"{path}\""),
        ),
        of("^/v1/sessions/", &format!("id = \"{session}\"")),
    ]
    .concat())
}

/// The built binary with these arguments, for programs, with nothing of this user's configuration.
fn command(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(shell::root().join("target/debug/otto"));
    command
        .args(args)
        .arg("--json")
        .current_dir(folder)
        .env("HOME", folder.with_file_name("home"))
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

/// A process of the built binary; ends with this value.
struct Started {
    child: Child,
    base_url: String,
}

impl Started {
    fn new(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut child = command(folder, args, environment)
            .stdout(Stdio::piped())
            .spawn()
            .context("start the binary")?;
        let stdout = child.stdout.take().context("read what it says")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(base_url) = said["base_url"].as_str() else {
            // It has ended, or ends with this.
            let _ = child.kill();
            let _ = child.wait();
            bail!("`otto {}` does not listen: {line}", args.join(" "));
        };
        Ok(Self {
            base_url: base_url.to_owned(),
            child,
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Ended already, if anything.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
