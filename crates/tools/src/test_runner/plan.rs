//! Which program runs the tests of a project, with which arguments, and how its output is read.

use std::io::Read;

use otto_sandbox::{Dir, DirError, RefusedBy, ToolFailure, WorkerCtx};
use serde::Deserialize;

use super::{Input, Settings};
use crate::files::{failure, plain};

// BOUND: a project file that is looked into.
const MAX_PROJECT_FILE_BYTES: u64 = 256 * 1024;

/// What runs the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Runner {
    Auto,
    Cargo,
    Nextest,
    Pytest,
    Mix,
    Node,
    Npm,
    Command,
}

/// How output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// By what it looks like.
    Auto,
    Libtest,
    Nextest,
    Pytest,
    Exunit,
    Tap,
    Junit,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) runner: Runner,
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// Relative to the working directory; empty for the working directory itself.
    pub(super) dir: String,
    pub(super) format: Format,
    /// A JUnit file that the run writes, relative to the working directory.
    pub(super) report: Option<String>,
}

impl Runner {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cargo => "cargo",
            Self::Nextest => "nextest",
            Self::Pytest => "pytest",
            Self::Mix => "mix",
            Self::Node => "node",
            Self::Npm => "npm",
            Self::Command => "command",
        }
    }
}

impl Plan {
    pub(super) fn make(
        ctx: &WorkerCtx,
        input: &Input,
        settings: &Settings,
    ) -> Result<Self, ToolFailure> {
        let path = input.dir.as_deref().unwrap_or(".");
        let refuse = |error: DirError| failure(ctx, "run tests in", path, error);
        let place = ctx.place(path).map_err(refuse)?;
        if place.root.is_some() {
            return Err(ToolFailure::denied(
                RefusedBy::Policy,
                "tests run in the working directory, not in a read-only root",
            ));
        }
        let project = place.dir.open_dir(place.path).map_err(refuse)?;
        let dir = plain(place.path).ok_or(DirError::Climbs).map_err(refuse)?;
        let asked = input.runner.unwrap_or(Runner::Auto);
        let runner = match (asked, settings.runner) {
            (Runner::Auto, Some(runner)) if runner != Runner::Auto => runner,
            (Runner::Auto, _) if !settings.command.is_empty() => Runner::Command,
            (Runner::Auto, _) => detect(&project).ok_or_else(unknown)?,
            (runner, _) => runner,
        };
        let mut plan = Self::of(runner, settings)?;
        plan.dir = dir;
        plan.report = plan.report.map(|report| join(&plan.dir, &report));
        plan.args.extend(input.args.iter().flatten().cloned());
        if let Some(filter) = &input.filter {
            plan.filter(filter);
        }
        Ok(plan)
    }

    fn of(runner: Runner, settings: &Settings) -> Result<Self, ToolFailure> {
        let plan = |program: &str, args: &[&str], env: &[(&str, &str)], format| Self {
            runner,
            program: program.to_owned(),
            args: args.iter().map(ToString::to_string).collect(),
            env: env
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            dir: String::new(),
            format,
            report: None,
        };
        // A backtrace is a hundred lines that say nothing more than file and line.
        let rust = ("RUST_BACKTRACE", "0");
        Ok(match runner {
            Runner::Cargo => plan(
                "cargo",
                &["test", "--no-fail-fast", "--color", "never"],
                &[rust],
                Format::Libtest,
            ),
            Runner::Nextest => plan(
                "cargo",
                &[
                    "nextest",
                    "run",
                    "--no-fail-fast",
                    "--color",
                    "never",
                    "--message-format",
                    "libtest-json",
                ],
                &[rust, ("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1")],
                Format::Nextest,
            ),
            Runner::Pytest => plan(
                "python3",
                &[
                    "-m",
                    "pytest",
                    "-q",
                    "--tb=short",
                    "-rfE",
                    "--color=no",
                    "-p",
                    "no:cacheprovider",
                ],
                &[("PYTHONDONTWRITEBYTECODE", "1")],
                Format::Pytest,
            ),
            Runner::Mix => plan(
                "mix",
                &["test", "--no-color"],
                &[("MIX_ENV", "test")],
                Format::Exunit,
            ),
            Runner::Node => plan("node", &["--test", "--test-reporter=tap"], &[], Format::Tap),
            Runner::Npm => plan("npm", &["test", "--silent"], &[], Format::Auto),
            Runner::Command | Runner::Auto => {
                let Some((program, args)) = settings.command.split_first() else {
                    return Err(ToolFailure::for_model(
                        "the settings of test_runner name no `command`; choose a runner",
                    ));
                };
                let mut plan = plan(program, &[], &[], settings.format.unwrap_or(Format::Auto));
                plan.args = args.to_vec();
                plan.report.clone_from(&settings.report);
                plan
            }
        })
    }

    fn filter(&mut self, filter: &str) {
        let filter = filter.to_owned();
        match self.runner {
            Runner::Pytest => self.args.extend(["-k".to_owned(), filter]),
            Runner::Node => self.args.push(format!("--test-name-pattern={filter}")),
            Runner::Npm => self.args.extend(["--".to_owned(), filter]),
            Runner::Cargo | Runner::Nextest | Runner::Mix | Runner::Command | Runner::Auto => {
                self.args.push(filter)
            }
        }
    }

    /// The command as a person would type it.
    pub(super) fn command(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        let quoted = words.map(|word| {
            let plain = word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_=./:,@+".contains(&byte));
            if plain && !word.is_empty() {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

fn join(dir: &str, path: &str) -> String {
    if dir.is_empty() {
        path.to_owned()
    } else {
        format!("{dir}/{path}")
    }
}

fn unknown() -> ToolFailure {
    ToolFailure::for_model(
        "no tests were recognized here: looked for mix.exs, Cargo.toml, package.json, pytest.ini, conftest.py and \
         pyproject.toml; give `dir` or `runner`",
    )
}

/// The runner by the files of a project, the most telling first.
fn detect(project: &Dir) -> Option<Runner> {
    let has = |name: &str| project.open_file(name).is_ok();
    if has("mix.exs") {
        return Some(Runner::Mix);
    }
    if has("Cargo.toml") {
        return Some(if has(".config/nextest.toml") {
            Runner::Nextest
        } else {
            Runner::Cargo
        });
    }
    if [
        "pytest.ini",
        "conftest.py",
        "tests/conftest.py",
        "tox.ini",
        "setup.cfg",
        "pyproject.toml",
        "setup.py",
    ]
    .iter()
    .any(|name| has(name))
    {
        return Some(Runner::Pytest);
    }
    if has("package.json") {
        return Some(if has_test_script(project) {
            Runner::Npm
        } else {
            Runner::Node
        });
    }
    None
}

/// Whether `npm test` would run something other than the note that there is nothing to run.
fn has_test_script(project: &Dir) -> bool {
    let Ok(open) = project.open_file("package.json") else {
        return false;
    };
    let mut text = String::new();
    if open
        .file
        .take(MAX_PROJECT_FILE_BYTES)
        .read_to_string(&mut text)
        .is_err()
    {
        return false;
    }
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    package["scripts"]["test"]
        .as_str()
        .is_some_and(|script| !script.contains("no test specified"))
}
