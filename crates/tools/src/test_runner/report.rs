//! From how a program ended and what it wrote to the answer for the model.

use std::io::Read;
use std::time::{Duration, SystemTime};

use otto_sandbox::{ExecEnd, ExecOutcome, ToolFailure, WorkerCtx};
use serde::Serialize;

use super::output::{Found, Totals, clean};
use super::plan::{Format, Plan};
use super::{exunit, junit, libtest, nextest, pytest, tap};
use crate::text::{floor, one_line, reveal};

// BOUND: failures in one answer.
const MAX_FAILURES: usize = 50;

// BOUND: the end of the output, when the failures do not explain the outcome.
const MAX_TAIL_BYTES: usize = 8 * 1024;

// BOUND: texts of one failure.
const MAX_NAME_BYTES: usize = 300;
const MAX_MESSAGE_BYTES: usize = 2 * 1024;

// BOUND: a report file.
const MAX_REPORT_BYTES: u64 = 8 * 1024 * 1024;

// BOUND: how much older than the start of the run a report may look, for file systems with coarse times.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// The answer, in the order of its fields.
#[derive(Debug, Serialize)]
struct Answer {
    outcome: &'static str,
    runner: &'static str,
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    duration_ms: u128,
    totals: Option<Totals>,
    failures: Vec<Shown>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// The end of what the program wrote, when it is needed to understand the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    message: String,
}

pub(super) fn write(
    ctx: &WorkerCtx,
    plan: &Plan,
    outcome: &ExecOutcome,
) -> Result<String, ToolFailure> {
    if let ExecEnd::NotStarted(reason) = &outcome.end {
        return Err(ToolFailure::for_model(format!(
            "run `{}`: it could not be started: {}",
            plan.command(),
            one_line(reason)
        )));
    }
    let stdout = clean(&outcome.stdout);
    let stderr = clean(&outcome.stderr);
    ctx.check()?;
    let mut notes = Vec::new();
    let found =
        read_report(ctx, plan, outcome, &mut notes).unwrap_or_else(|| read(plan.format, &stdout));
    if outcome.cut {
        notes.push(
            "the program wrote more than is kept, so totals and failures may be incomplete"
                .to_owned(),
        );
    }
    let word = word(&outcome.end, &found, plan, &mut notes);
    let hidden = found.failures.len().saturating_sub(MAX_FAILURES);
    if hidden > 0 {
        notes.push(format!("{hidden} more failures are not shown"));
    }
    let failures: Vec<Shown> = found
        .failures
        .iter()
        .take(MAX_FAILURES)
        .map(|failure| Shown {
            name: shorten(&one_line(&failure.name), MAX_NAME_BYTES),
            file: failure
                .file
                .as_deref()
                .map(|file| shorten(&one_line(file), MAX_NAME_BYTES)),
            line: failure.line,
            message: shorten(&reveal(failure.message.trim()).0, MAX_MESSAGE_BYTES),
        })
        .collect();
    let explained =
        word == "passed" && found.totals.is_some() || word == "failed" && !failures.is_empty();
    let answer = Answer {
        outcome: word,
        runner: plan.runner.name(),
        command: reveal(&plan.command()).0.into_owned(),
        exit_code: match outcome.end {
            ExecEnd::Exited(code) => Some(code),
            _ => None,
        },
        duration_ms: outcome.elapsed.as_millis(),
        totals: found.totals,
        failures,
        notes,
        output: (!explained).then(|| tail(&stdout, &stderr)),
    };
    serde_json::to_string_pretty(&answer).map_err(|error| {
        ToolFailure::for_operator(format!("write the result of the tests: {error}"))
    })
}

/// The exit code decides; the details only add what it cannot say.
fn word(end: &ExecEnd, found: &Found, plan: &Plan, notes: &mut Vec<String>) -> &'static str {
    match end {
        ExecEnd::TimedOut => "timed_out",
        ExecEnd::Signaled(signal) => {
            notes.push(format!("the program was ended by signal {signal}"));
            "crashed"
        }
        // pytest: no tests were collected.
        ExecEnd::Exited(5) if plan.format == Format::Pytest => "no_tests",
        // nextest: no tests to run.
        ExecEnd::Exited(4) if plan.format == Format::Nextest => "no_tests",
        ExecEnd::Exited(0)
            if !found.failures.is_empty()
                || found.totals.is_some_and(|totals| totals.failed > 0) =>
        {
            notes.push("the program returned 0 although its output names failures".to_owned());
            "failed"
        }
        ExecEnd::Exited(0)
            if found
                .totals
                .is_some_and(|totals| totals.passed + totals.skipped == 0) =>
        {
            "no_tests"
        }
        ExecEnd::Exited(0) => "passed",
        ExecEnd::Exited(_) if found.failures.is_empty() => "error",
        ExecEnd::Exited(_) => "failed",
        ExecEnd::NotStarted(_) => "error",
    }
}

fn read(format: Format, stdout: &str) -> Found {
    match format {
        Format::Libtest => libtest::read(stdout),
        Format::Nextest => nextest::read(stdout),
        Format::Pytest => pytest::read(stdout),
        Format::Exunit => exunit::read(stdout),
        Format::Tap => tap::read(stdout),
        Format::Junit => junit::read(stdout),
        Format::Auto => {
            recognize(stdout).map_or_else(Found::default, |format| read(format, stdout))
        }
    }
}

/// The format by what is typical of each.
fn recognize(stdout: &str) -> Option<Format> {
    let start = stdout.trim_start();
    if start.starts_with("<?xml") || start.starts_with("<testsuite") {
        return Some(Format::Junit);
    }
    for line in stdout.lines() {
        if line.starts_with("TAP version ") {
            return Some(Format::Tap);
        }
        if line.starts_with(r#"{"type":"suite""#) {
            return Some(Format::Nextest);
        }
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            return Some(Format::Libtest);
        }
    }
    let last: Vec<&str> = stdout.lines().rev().take(10).collect();
    if last.iter().any(|line| exunit::totals(line).is_some()) {
        return Some(Format::Exunit);
    }
    last.iter()
        .any(|line| pytest::totals(line).is_some())
        .then_some(Format::Pytest)
}

/// The JUnit file of a run, if the run has written one.
fn read_report(
    ctx: &WorkerCtx,
    plan: &Plan,
    outcome: &ExecOutcome,
    notes: &mut Vec<String>,
) -> Option<Found> {
    let path = plan.report.as_deref()?;
    let opened = ctx
        .place(path)
        .and_then(|place| place.dir.open_file(place.path));
    let open = match opened {
        Ok(open) => open,
        Err(error) => {
            notes.push(format!(
                "the report {} was not read: {error}",
                crate::text::quote(path)
            ));
            return None;
        }
    };
    let written = open
        .file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .ok()?;
    let started = SystemTime::now().checked_sub(outcome.elapsed + CLOCK_SLACK)?;
    if written < started {
        notes.push(format!(
            "the report {} is of an earlier run and was not read",
            crate::text::quote(path)
        ));
        return None;
    }
    let mut bytes = Vec::new();
    open.file
        .take(MAX_REPORT_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(junit::read(&String::from_utf8_lossy(&bytes)))
}

/// The end of both streams, errors last, since that is where programs say why they stopped.
fn tail(stdout: &str, stderr: &str) -> String {
    let half = |text: &str| {
        let text = text.trim_end();
        let mut from = text.len().saturating_sub(MAX_TAIL_BYTES / 2);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let cut = if from > 0 { "[...]" } else { "" };
        format!("{cut}{}", &text[from..])
    };
    let joined = match (stdout.trim().is_empty(), stderr.trim().is_empty()) {
        (_, true) => half(stdout),
        (true, false) => half(stderr),
        (false, false) => format!("{}\n[stderr]\n{}", half(stdout), half(stderr)),
    };
    reveal(&joined).0.into_owned()
}

fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        text.to_owned()
    } else {
        format!("{} [...]", &text[..floor(text, max)])
    }
}
