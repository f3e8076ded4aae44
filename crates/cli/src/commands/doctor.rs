//! `otto doctor`

use std::path::Path;

use clap::Args;
use otto::config::OperatorConfig;
use otto::text::visible;
use otto::{
    DoctorReport, Enforcement, KILL_FILE, KillRow, LockConfig, LockError, MainLock, ToolHost,
    upkeep,
};
use serde_json::{Value, json};

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{Painter, Style, To};

/// Arguments of `otto doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Also show every attack of the sandbox's self-test
    #[arg(long)]
    all: bool,
}

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// As it should be.
    Good,
    /// Otto works, and somebody should know.
    Notice,
    /// Something does not work.
    Broken,
}

struct Finding {
    name: &'static str,
    standing: Standing,
    detail: String,
    fix: Option<String>,
}

impl Finding {
    fn new(name: &'static str, standing: Standing, detail: impl Into<String>) -> Self {
        Self {
            name,
            standing,
            detail: detail.into(),
            fix: None,
        }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }
}

impl Doctor {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.load_operator();
        let mut findings = Vec::new();
        let defaults = OperatorConfig::defaults(&context.project);
        match &operator {
            Ok(operator) => {
                findings.extend(of_operator(operator));
                findings.push(match context.load_agents(operator) {
                    Ok(agents) => Finding::new(
                        "agents",
                        Standing::Good,
                        format!("{} valid", agents.iter().count()),
                    ),
                    Err(errors) => Finding::new(
                        "agents",
                        Standing::Broken,
                        format!("{} errors in agent files", errors.error_count()),
                    )
                    .fix("otto check"),
                });
            }
            Err(errors) => {
                let detail = format!(
                    "{} errors in the operator's configuration",
                    errors.error_count()
                );
                findings.push(
                    Finding::new("configuration", Standing::Broken, detail).fix("otto check"),
                );
            }
        }
        let operator = operator.as_ref().unwrap_or(&defaults);
        // A runtime of its own: its threads have ended before this process is locked.
        findings.extend(context.runtime()?.block_on(of_store(operator)));
        let scratch = std::env::temp_dir();
        // Everything that is read has been read; from here on this process stands as one that runs agents.
        findings.push(of_lock(&otto::lock_main(&LockConfig {
            read_write: vec![scratch.clone()],
            ..LockConfig::default()
        })));
        let host = otto::worker_host(&context.booted, operator, &scratch);
        let sandbox = context.runtime()?.block_on(host.doctor());
        let level = sandbox
            .as_ref()
            .map_or_else(|_| host.enforcement(), |report| report.level);
        findings.push(match &sandbox {
            Ok(report) => of_sandbox(report),
            Err(error) => Finding::new("sandbox", Standing::Broken, error.to_string()),
        });
        let is_healthy = findings
            .iter()
            .all(|finding| finding.standing != Standing::Broken);
        if context.out.is_json() {
            let value = describe(level, &findings, sandbox.as_ref().ok(), is_healthy);
            context.out.json(&value);
        } else {
            let text = in_text(
                &findings,
                sandbox.as_ref().ok(),
                self.all,
                context.out.painter(To::Answer),
            );
            context.out.write(To::Answer, &text);
        }
        Ok(if is_healthy {
            Code::Completed
        } else {
            Code::Other
        })
    }
}

fn of_operator(operator: &OperatorConfig) -> Vec<Finding> {
    let origin = |origin: &otto::Origin| visible(&origin.0).into_owned();
    let enabled = if operator.enabled.value {
        Finding::new(
            "enabled",
            Standing::Good,
            format!("agents may run ({})", origin(&operator.enabled.origin)),
        )
    } else {
        Finding::new("enabled", Standing::Notice, "agents are switched off")
            .fix("set OTTO_ENABLED=true, or write `enabled: true` into ~/.config/otto/config.yml")
    };
    let key = if operator.api_key.is_some() {
        Finding::new("key", Standing::Good, "ANTHROPIC_API_KEY is set")
    } else {
        Finding::new("key", Standing::Notice, "there is no key for the provider")
            .fix("set ANTHROPIC_API_KEY; `otto demo` works without one")
    };
    let endpoint = format!(
        "{} ({})",
        visible(&operator.endpoint.value),
        origin(&operator.endpoint.origin)
    );
    let ceiling = format!(
        "{} for everything on one UTC day ({})",
        operator.daily_cost.value,
        origin(&operator.daily_cost.origin)
    );
    let mut findings = vec![
        enabled,
        key,
        Finding::new("endpoint", Standing::Good, endpoint),
        Finding::new("ceiling", Standing::Good, ceiling),
        of_state_dir(&operator.state_dir.value),
    ];
    if operator.kill_switch.value {
        findings.push(
            Finding::new(
                "kill switch",
                Standing::Notice,
                "thrown by OTTO_KILL_SWITCH",
            )
            .fix("unset it to let agents run"),
        );
    }
    if operator.audit.value {
        findings.push(
            Finding::new(
                "audit",
                Standing::Notice,
                "policy only reports what it would deny; tools get every right that they need, and `http` any public host",
            )
            .fix("`otto audit report` turns what passed into policy; then switch `audit` off"),
        );
    }
    for path in operator.programs.value.directories() {
        if !path.is_dir() {
            let shown = visible(&path.to_string_lossy()).into_owned();
            findings.push(
                Finding::new(
                    "programs",
                    Standing::Broken,
                    format!("{shown} is no directory, so no program can start"),
                )
                .fix(format!(
                    "make it, or take it out of `programs` ({})",
                    origin(&operator.programs.origin)
                )),
            );
        }
    }
    for warning in operator.warnings() {
        findings.push(Finding::new(
            "configuration",
            Standing::Notice,
            format!("{}: {}", warning.place, warning.message),
        ));
    }
    findings
}

fn of_state_dir(path: &Path) -> Finding {
    let shown = visible(&path.to_string_lossy()).into_owned();
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => Finding::new(
            "state",
            Standing::Broken,
            format!("{shown} is not a directory"),
        )
        .fix("name a directory with OTTO_STATE_DIR"),
        Ok(meta) if meta.permissions().readonly() => {
            Finding::new("state", Standing::Broken, format!("{shown} is read-only"))
                .fix("let Otto write there, or name another directory with OTTO_STATE_DIR")
        }
        Ok(_) => Finding::new("state", Standing::Good, shown),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Finding::new(
            "state",
            Standing::Good,
            format!("{shown} (made with the first run)"),
        ),
        Err(error) => Finding::new("state", Standing::Broken, format!("{shown}: {error}"))
            .fix("name another directory with OTTO_STATE_DIR"),
    }
}

fn of_lock(locked: &Result<MainLock, LockError>) -> Finding {
    const NAME: &str = "main process";
    match locked {
        Ok(lock) => Finding::new(
            NAME,
            Standing::Good,
            format!(
                "locked by Landlock {} when agents run: outside of its worker a tool opens no file and starts no program",
                lock.landlock_abi
            ),
        ),
        Err(error) => Finding::new(NAME, Standing::Broken, error.to_string()),
    }
}

/// What is stored, and whether the kill switch is thrown there; nothing is said while nothing is.
async fn of_store(operator: &OperatorConfig) -> Vec<Finding> {
    match summary(operator).await {
        // Thrown before anything was ever stored.
        Ok(None) => {
            let file = operator.state_dir.value.join(KILL_FILE);
            let is_thrown = file.exists();
            is_thrown
                .then(|| of_kill(&visible(&format!("by the file {}", file.display()))))
                .into_iter()
                .collect()
        }
        Ok(Some((summary, kill))) => {
            let detail = format!(
                "opens; {} bytes, {} unfinished invocations, {} audit records",
                summary.database_bytes, summary.unfinished, summary.audit.0.sequence
            );
            let store = match summary.unfinished {
                0 => Finding::new("store", Standing::Good, detail),
                _ => Finding::new("store", Standing::Notice, detail)
                    .fix("`otto sessions` lists them, `otto resume SESSION` goes on; one that is running needs nothing"),
            };
            let kill = kill.map(|row| of_kill(&visible(&row.reason)));
            [store].into_iter().chain(kill).collect()
        }
        Err(failure) => vec![
            Finding::new("store", Standing::Broken, failure.message).fix(
                failure.hint.unwrap_or_else(|| {
                    "`otto verify` says more; docs/durability.md says how to restore a backup"
                        .to_owned()
                }),
            ),
        ],
    }
}

fn of_kill(reason: &str) -> Finding {
    Finding::new(
        "kill switch",
        Standing::Notice,
        format!("thrown, so no agent runs: {reason}"),
    )
    .fix("`otto kill --lift` lets agents run again")
}

async fn summary(
    operator: &OperatorConfig,
) -> Result<Option<(upkeep::Summary, Option<KillRow>)>, Failure> {
    let state_dir = &operator.state_dir.value;
    if !state_dir.join("otto.db").exists() {
        return Ok(None);
    }
    // Opened as for any other look: a state directory that is not the user's is refused.
    let otto = open::to_look(operator).await?;
    let summary = upkeep::summary(state_dir).await;
    let mut kill = Ok(None);
    if let Some(otto) = otto {
        kill = otto.kill_switch().await;
        open::close(otto).await;
    }
    let kill = kill?.filter(|_| !operator.kill_switch.value);
    Ok(summary?.map(|summary| (summary, kill)))
}

fn of_sandbox(report: &DoctorReport) -> Finding {
    let passed = report.checks.iter().filter(|check| check.passed).count();
    let detail = format!(
        "level {}, {passed} of {} self-tests passed, kernel {}",
        report.level.as_str(),
        report.checks.len(),
        visible(&report.kernel)
    );
    match (&report.refusal, &report.exec_refusal) {
        (Some(refusal), _) => Finding::new(
            "sandbox",
            Standing::Broken,
            format!("no tool can run: {}", visible(refusal)),
        ),
        (None, Some(refusal)) => Finding::new(
            "sandbox",
            Standing::Notice,
            format!("{detail}; no program can run: {}", visible(refusal)),
        ),
        (None, None) => Finding::new("sandbox", Standing::Good, detail),
    }
}

fn describe(
    level: Enforcement,
    findings: &[Finding],
    sandbox: Option<&DoctorReport>,
    is_healthy: bool,
) -> Value {
    let standing = |finding: &Finding| match finding.standing {
        Standing::Good => "good",
        Standing::Notice => "notice",
        Standing::Broken => "broken",
    };
    json!({
        "level": level.as_str(),
        "healthy": is_healthy,
        "findings": findings.iter().map(|finding| json!({
            "name": finding.name,
            "standing": standing(finding),
            "detail": finding.detail,
            "fix": finding.fix,
        })).collect::<Vec<_>>(),
        "sandbox": sandbox.map(|report| json!({
            "refusal": report.refusal,
            "exec_refusal": report.exec_refusal,
            "audit_mode": report.audit_mode,
            "uid": report.uid,
            "kernel": report.kernel,
            "mechanisms": report.mechanisms.iter().map(|mechanism| json!({
                "name": mechanism.name,
                "works": mechanism.works,
                "detail": mechanism.detail,
                "fix": mechanism.fix,
            })).collect::<Vec<_>>(),
            "checks": report.checks.iter().map(|check| json!({
                "domain": check.domain,
                "name": check.name,
                "passed": check.passed,
                "outcome": check.outcome,
            })).collect::<Vec<_>>(),
        })),
    })
}

fn in_text(
    findings: &[Finding],
    sandbox: Option<&DoctorReport>,
    all: bool,
    painter: Painter,
) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, style) = match finding.standing {
            Standing::Good => ("ok", Style::Good),
            Standing::Notice => ("note", Style::Warn),
            Standing::Broken => ("broken", Style::Bad),
        };
        text.push_str(&format!(
            "  {:<14} {} {}\n",
            finding.name,
            painter.paint(style, &format!("{word:<7}")),
            visible(&finding.detail)
        ));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("  {:<14} {:<7} fix: {}\n", "", "", visible(fix)));
        }
    }
    let Some(report) = sandbox else { return text };
    for mechanism in &report.mechanisms {
        let (word, style) = if mechanism.works {
            ("ok", Style::Good)
        } else {
            ("missing", Style::Warn)
        };
        text.push_str(&format!(
            "  {:<14} {} {}\n",
            mechanism.name,
            painter.paint(style, &format!("{word:<7}")),
            visible(&mechanism.detail)
        ));
        if let Some(fix) = &mechanism.fix {
            text.push_str(&format!("  {:<14} {:<7} fix: {}\n", "", "", visible(fix)));
        }
    }
    for check in report.checks.iter().filter(|check| all || !check.passed) {
        let (word, style) = if check.passed {
            ("passed", Style::Good)
        } else {
            ("FAILED", Style::Bad)
        };
        text.push_str(&format!(
            "    {} {}: {} ({})\n",
            painter.paint(style, word),
            check.domain,
            check.name,
            visible(&check.outcome)
        ));
    }
    text
}
