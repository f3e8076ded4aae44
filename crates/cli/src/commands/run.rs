//! `otto run AGENT TASK`

use std::io::Read;
use std::sync::Arc;

use clap::Args;
use otto::config::OperatorConfig;
use otto::limits::{self, InvalidLimit, show_count, show_duration};
use otto::text::{visible, visible_start};
use otto::{
    AgentConfig, AgentName, Budgets, InvokeError, Limit, NotGranted, SessionId, TaskSpec,
    WorkflowId,
};

use crate::Performed;
use crate::commands::{earlier, named, watch};
use crate::context::Context;
use crate::error::Failure;
use crate::lock;
use crate::open;
use crate::output::{Out, Style, To};

/// Arguments of `otto run`.
#[derive(Debug, Args)]
#[command(
    after_help = "The agent's words go to standard output, everything else to standard error."
)]
pub(crate) struct Run {
    /// The agent, as `otto agents` lists it
    agent: String,
    /// The task in words; `-` reads it from standard input
    #[arg(required = true, num_args = 1.., allow_hyphen_values = false)]
    task: Vec<String>,
    /// Join this session instead of beginning a new one
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Draw on the budget of this workflow
    #[arg(long, value_name = "ID")]
    workflow: Option<WorkflowId>,
    /// Asking twice with the same key is one invocation
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    narrower: Limits,
}

/// Limits on the command line.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// The most it may cost, such as `$0.10`
    #[arg(long, value_name = "USD", allow_hyphen_values = true, value_parser = parse_with(limits::parse_money))]
    cost: Option<otto::Money>,
    /// The longest it may take, such as `90s`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_with(limits::parse_duration))]
    time: Option<std::time::Duration>,
    /// The most tokens, such as `50k`
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = parse_with(limits::parse_count))]
    tokens: Option<u64>,
    /// The most turns
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = parse_with(limits::parse_turns))]
    turns: Option<u32>,
}

fn parse_with<T>(
    parse: fn(&str) -> Result<T, InvalidLimit>,
) -> impl Fn(&str) -> Result<T, InvalidLimit> + Clone + Send + Sync + 'static
where
    T: 'static,
{
    move |text: &str| parse(text)
}

impl Limits {
    /// The limits, with the option that set each as its origin.
    pub(crate) fn budgets(&self) -> Budgets {
        Budgets {
            time: self.time.map(|time| Limit::new(time, "--time")),
            tokens: self.tokens.map(|tokens| Limit::new(tokens, "--tokens")),
            cost: self.cost.map(|cost| Limit::new(cost, "--cost")),
            turns: self.turns.map(|turns| Limit::new(turns, "--turns")),
        }
    }
}

/// BOUND: bytes of a task from standard input.
const MAX_TASK_BYTES: u64 = 1024 * 1024;

impl Run {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        context.out.warnings(operator.warnings());
        open::check_enabled(&operator)?;
        let agents = context.agents(&operator)?;
        context.out.warnings(agents.warnings());
        let agent = find(&agents, &self.agent)?;
        let task = TaskSpec {
            input: Arc::from(self.input()?),
            budgets: self.narrower.budgets(),
            session: self.session,
            workflow: self.workflow,
            idempotency_key: self.idempotency_key.as_deref().map(Arc::from),
        };
        let budgets = agent.budgets.narrowed_by(&task.budgets);
        announce(&mut context.out, &agent, &budgets, &operator);
        let cut = otto::not_granted(&task.budgets, &budgets);
        tell_cut(&mut context.out, &cut);
        let runtime = lock::locked_runtime(context, &operator)?;
        runtime.block_on(async {
            let otto = open::to_run(context, &operator, &agents).await?;
            let name = agent.name.as_str();
            let begun = async {
                if let Some(id) = self.session {
                    let command = |session| format!("otto run {name} TASK --session {session}");
                    named::refuse_invocation(&otto, id, command).await?;
                }
                Ok::<_, Failure>(otto.agent(name)?.invoke_stream(task).await)
            };
            let begun = match begun.await {
                Ok(Err(InvokeError::Duplicate(earlier))) => {
                    let told = earlier::tell(&mut context.out, &otto, earlier).await;
                    open::close(otto).await;
                    return told;
                }
                Ok(begun) => begun.map_err(Failure::from),
                Err(refused) => {
                    open::close(otto).await;
                    return Err(refused);
                }
            };
            watch::to_the_end(&mut context.out, otto, begun, &agent, &budgets, &cut).await
        })
    }

    fn input(&self) -> Result<String, Failure> {
        if self.task != ["-"] {
            return Ok(self.task.join(" "));
        }
        let mut bytes = Vec::new();
        std::io::stdin()
            .take(MAX_TASK_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::doing("read the task from standard input", &error))?;
        if bytes.len() as u64 > MAX_TASK_BYTES {
            return Err(Failure::usage(format!(
                "the task on standard input is longer than {MAX_TASK_BYTES} bytes"
            )));
        }
        String::from_utf8(bytes)
            .map_err(|_| Failure::usage("the task on standard input is not UTF-8 text"))
    }
}

/// The agent of that name, or an error that offers the closest one.
pub(crate) fn find(agents: &otto::load::Agents, name: &str) -> Result<Arc<AgentConfig>, Failure> {
    let found = AgentName::new(name)
        .ok()
        .and_then(|name| agents.find(&name));
    if let Some(agent) = found {
        return Ok(Arc::clone(&agent.config));
    }
    let names: Vec<&str> = agents
        .iter()
        .map(|agent| agent.config.name.as_str())
        .collect();
    let known = if names.is_empty() {
        "none is configured; `otto init` writes one".to_owned()
    } else {
        format!("configured: {}", names.join(", "))
    };
    let failure = Failure::usage(format!(
        "there is no agent `{}` ({known})",
        visible_start(name, 60)
    ));
    Err(match agents.closest(name) {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => {
            let places: Vec<String> = agents
                .directories()
                .iter()
                .map(|dir| format!("{}/*.yml", dir.display()))
                .collect();
            failure.hint(format!(
                "agents are read from {}",
                visible(&places.join(" and "))
            ))
        }
    })
}

/// Says which limits that were asked for are not in force, and why.
pub(crate) fn tell_cut(out: &mut Out, cut: &[NotGranted]) {
    if out.is_json() {
        return;
    }
    let painter = out.painter(To::Progress);
    for one in cut {
        let text = format!(
            "{} {}",
            painter.paint(Style::Warn, "note:"),
            visible(&one.to_string())
        );
        out.line(To::Progress, &text);
    }
}

/// The first sign of life: what runs, and under which limits.
pub(crate) fn announce(
    out: &mut Out,
    agent: &AgentConfig,
    budgets: &Budgets,
    operator: &OperatorConfig,
) {
    if out.is_json() {
        return;
    }
    let painter = out.painter(To::Progress);
    let limits: Vec<String> = [
        budgets.cost.as_ref().map(|limit| limit.value.to_string()),
        budgets
            .time
            .as_ref()
            .map(|limit| show_duration(limit.value)),
        budgets
            .tokens
            .as_ref()
            .map(|limit| format!("{} tokens", show_count(limit.value))),
        budgets
            .turns
            .as_ref()
            .map(|limit| format!("{} turns", limit.value)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let name = painter.paint(Style::Strong, agent.name.as_str());
    out.line(
        To::Progress,
        &format!("{name} on {}, at most {}", agent.model, limits.join(", ")),
    );
    let ceiling = format!(
        "daily ceiling for everything: {} ({}); raise it with OTTO_DAILY_COST or `ceilings: {{ day: ... }}` in config.yml",
        operator.daily_cost.value,
        visible(&operator.daily_cost.origin.0)
    );
    out.line(To::Progress, &painter.paint(Style::Dim, &ceiling));
}
