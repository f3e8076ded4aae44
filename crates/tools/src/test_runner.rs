//! `test_runner`: runs a project's tests in the exec sandbox and says what failed and where.
//!
//! A call has two halves. The first looks at the project and asks the host for a program; the second gets the
//! program's output and reads it. Both run in the worker, since both read what the project wrote. The exit code
//! decides whether the tests passed; what the output says only adds the details.
//!
//! Invariant: an answer says `passed` only if the program returned 0 and no failure was read from its output.

mod exunit;
mod junit;
mod libtest;
mod nextest;
mod output;
mod plan;
mod pytest;
mod report;
mod tap;

use std::time::Duration;

use otto_core::invocation::{Repeatability, SideEffects};
use otto_core::policy::{Permission, Permissions};
use otto_sandbox::{ExecRequest, ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest};
use serde::Deserialize;

use crate::base_tool::BaseTool;
use crate::input;
use plan::{Format, Plan, Runner};

// BOUND: a test run; the input and the settings may ask for less or more.
const DEFAULT_TIME_LIMIT_S: u64 = 300;
const MOST_TIME_LIMIT_S: u64 = 3_600;

// BOUND: output that is kept of each stream; the rest is read and dropped.
const KEPT_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

// BOUND: the answer: totals, fifty failures and the end of the output.
const MAX_OUTPUT_BYTES: usize = 192 * 1024;

pub(crate) const TOOL: BaseTool = BaseTool {
    name: "test_runner",
    description: "Run the tests of a project and get a structured result as JSON: outcome, totals, and each failure \
                  with file, line and message. Knows `cargo test`, `cargo nextest`, `pytest`, `mix test`, `node \
                  --test` and `npm test`, and finds out by itself which one fits. Programs have no network and see \
                  only the working directory and the toolchains.",
    input_schema: r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "runner": { "enum": ["auto", "cargo", "nextest", "pytest", "mix", "node", "npm", "command"], "description": "Default `auto`: by the files of the project. `command` is what the settings name." },
    "dir": { "type": "string", "description": "Directory of the project, relative to the working directory. Default `.`." },
    "filter": { "type": "string", "description": "Run only tests whose name matches (what the runner understands by that); for `mix` a file or `file:line`." },
    "args": { "type": "array", "items": { "type": "string" }, "maxItems": 32, "description": "More arguments for the runner, such as `[\"-p\", \"core\"]`." },
    "time_limit_s": { "type": "integer", "minimum": 1, "maximum": 3600, "description": "Seconds until the run is killed. Default 300." }
  },
  "additionalProperties": false
}"#,
    permissions: Permissions::of(&[Permission::Read, Permission::Exec]),
    // Tests write build products and whatever else they like into the working directory.
    side_effects: SideEffects::Some,
    repeatability: Repeatability::Repeatable,
    timeout: Duration::from_secs(MOST_TIME_LIMIT_S + 60),
    max_output_bytes: MAX_OUTPUT_BYTES,
    check: |input| input::parse::<Input>(input).and_then(|input| input.check()),
    check_settings: input::check_settings::<Settings>,
    run,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    runner: Option<Runner>,
    #[serde(default)]
    dir: Option<String>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    time_limit_s: Option<u64>,
}

// BOUND: arguments of one run and bytes of each.
const MAX_ARGS: usize = 32;
const MAX_ARG_BYTES: usize = 1_024;

impl Input {
    fn check(&self) -> Result<(), ToolFailure> {
        let args = self.args.as_deref().unwrap_or_default();
        let texts = || args.iter().chain(&self.filter);
        if args.len() > MAX_ARGS
            || texts().any(|text| text.len() > MAX_ARG_BYTES || text.contains('\0'))
        {
            let message = format!(
                "at most {MAX_ARGS} arguments of at most {MAX_ARG_BYTES} bytes without NUL are accepted"
            );
            return Err(ToolFailure::for_model(message));
        }
        if self
            .filter
            .as_deref()
            .is_some_and(|filter| filter.starts_with('-'))
        {
            return Err(ToolFailure::for_model(
                "`filter` is a name, not an option; options go into `args`",
            ));
        }
        if self
            .time_limit_s
            .is_some_and(|limit| limit == 0 || limit > MOST_TIME_LIMIT_S)
        {
            return Err(ToolFailure::for_model(format!(
                "`time_limit_s` is from 1 to {MOST_TIME_LIMIT_S}"
            )));
        }
        Ok(())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The program and its arguments for the runner `command`.
    command: Vec<String>,
    /// The runner that `auto` stands for.
    runner: Option<Runner>,
    /// How the output of `command` is read.
    format: Option<Format>,
    /// A JUnit file that `command` writes, relative to the project.
    report: Option<String>,
    /// Seconds until a run is killed if the input does not say.
    time_limit_s: Option<u64>,
}

fn run(ctx: &WorkerCtx, request: &WorkerRequest) -> WorkerAnswer {
    answer(ctx, request).unwrap_or_else(WorkerAnswer::Failed)
}

fn answer(ctx: &WorkerCtx, request: &WorkerRequest) -> Result<WorkerAnswer, ToolFailure> {
    let input: Input = input::parse(&request.input)?;
    input.check()?;
    let settings: Settings = input::parse_settings(request.settings.as_deref())?;
    let plan = Plan::make(ctx, &input, &settings)?;
    let Some(outcome) = &request.exec else {
        let limit = input
            .time_limit_s
            .or(settings.time_limit_s)
            .unwrap_or(DEFAULT_TIME_LIMIT_S);
        return Ok(WorkerAnswer::Exec(ExecRequest {
            program: plan.program,
            args: plan.args,
            env: plan.env,
            dir: plan.dir,
            time_limit: Duration::from_secs(limit.clamp(1, MOST_TIME_LIMIT_S)),
            max_output_bytes: KEPT_OUTPUT_BYTES,
        }));
    };
    report::write(ctx, &plan, outcome).map(|content| WorkerAnswer::Done { content })
}
