//! `otto serve [--bind ADDR:PORT]`
//!
//! Opens what is configured, says what it is about to do with whose money, serves, and ends in an orderly way. How
//! requests are answered is the business of `otto-server`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use otto::config::{OperatorConfig, SYSTEM_CONFIG};
use otto::load::{Agents, KnownTool};
use otto::text::visible;
use otto::{ConfigWatch, InvocationRecord, Otto, Recovery, ToolHost, WorkerHost};
use otto_server::{
    Leftovers, Project, ServeError, Server, ServerConfig, Surroundings, Token, TokenScope,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Performed;
use crate::context::Context;
use crate::error::{Code, ENABLE_HINT, Failure};
use crate::lock;
use crate::open;
use crate::output::{Out, Style, To};
use crate::signals::{Ask, Signals, kill_reason};

/// Arguments of `otto serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every route is listed at /openapi.json. TLS is the business of a proxy in front of it."
)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one. Anything but a loopback address needs a token
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7777")]
    bind: SocketAddr,
}

/// BOUND: sessions that are named at the end; `otto sessions` lists the rest.
const SHOWN_LEFT: usize = 20;
/// BOUND: how long the start waits for the sandbox's self-test before it says that it does not know.
const PROOF: Duration = Duration::from_secs(10);

impl Serve {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        context.out.warnings(operator.warnings());
        let agents = context.agents(&operator)?;
        context.out.warnings(agents.warnings());
        let config = server_config(self.bind, &operator);
        // Before anything is made: whoever finds the port taken has changed nothing.
        let server = Server::bind(config).map_err(failed)?;
        let runtime = lock::locked_runtime(context, &operator)?;
        runtime.block_on(async {
            let mut signals =
                Signals::new().map_err(|error| Failure::doing("listen for signals", &error))?;
            let (otto, host) = open::to_serve(context, &operator, &agents).await?;
            let level = prove(&host).await;
            let address = server.local_addr().map_err(failed)?;
            announce(&mut context.out, address, &level, &operator, &agents, &otto);
            let surroundings = Surroundings {
                sandbox: Some(host),
                project: Some(Project {
                    path: context.project.clone(),
                    environment: context.environment.clone(),
                }),
            };
            let state_dir = operator.state_dir.value.clone();
            let booted = context.booted.clone();
            // What a look finds is told by health and log.
            otto.watch_configuration(ConfigWatch {
                project: context.project.clone(),
                environment: context.environment.clone(),
                system: Some(SYSTEM_CONFIG.into()),
                tools: KnownTool::base_tools(),
                host: Some(Arc::new(move |operator| {
                    Arc::new(otto::worker_host(&booted, operator, &state_dir))
                })),
            });
            let (stop, stopping) = watch::channel(false);
            let serving = server.serve(otto.clone(), surroundings, stopping);
            let served = watch_over(&mut context.out, &mut signals, &stop, serving, otto).await?;
            say_leftovers(&mut context.out, &served);
            Ok(Code::Completed)
        })
    }
}

/// Serves, recovers, and passes signals on, to the end.
async fn watch_over(
    out: &mut Out,
    signals: &mut Signals,
    stop: &watch::Sender<bool>,
    serving: impl Future<Output = Result<Leftovers, ServeError>> + Send + 'static,
    otto: Otto,
) -> Result<Leftovers, Failure> {
    let mut serving = tokio::spawn(serving);
    let mut kill_switch = otto.kill_switch_changes();
    let mut recovering = Box::pin(otto.recover());
    let mut is_recovered = false;
    loop {
        tokio::select! {
            biased;
            ask = signals.next() => match ask {
                Ask::Kill => {
                    out.line(To::Progress, "SIGUSR1: the kill switch is thrown, for every process on the state directory");
                    otto.kill(&kill_reason()).await?;
                }
                Ask::End if *stop.borrow() => {
                    out.line(To::Progress, "stopped at once; what was acknowledged is stored, the next `otto serve` takes it up");
                    std::process::exit(i32::from(out.finish(Code::Cancelled).number()));
                }
                Ask::End => {
                    stop.send_replace(true);
                    say_stopping(out, otto.engine().registry().count());
                }
            },
            served = &mut serving => {
                return match served {
                    Ok(served) => served.map_err(failed),
                    Err(panic) => Err(Failure::doing("serve", &panic)),
                };
            }
            recovered = &mut recovering, if !is_recovered => {
                is_recovered = true;
                say_recovered(out, &recovered?);
            }
            // What could not be taken up while it was thrown.
            Ok(()) = kill_switch.changed(), if is_recovered && !*stop.borrow() => {
                if kill_switch.borrow_and_update().is_none() {
                    recovering = Box::pin(otto.recover());
                    is_recovered = false;
                }
            }
        }
    }
}

fn server_config(bind: SocketAddr, operator: &OperatorConfig) -> ServerConfig {
    let mut config = ServerConfig::new(bind);
    config.hosts = operator
        .server_hosts
        .value
        .iter()
        .map(ToString::to_string)
        .collect();
    if let Some(token) = &operator.server_token {
        let secret = token.value.expose_secret();
        config
            .tokens
            .push(Token::new("environment", secret, TokenScope::Admin));
    }
    for token in &operator.server_tokens.value {
        let token = Token::of_digest(&token.name, token.sha256, token.scope);
        config.tokens.push(token);
    }
    config
}

/// The sandbox's level in a word, or why no tool runs.
async fn prove(host: &WorkerHost) -> Result<&'static str, String> {
    match tokio::time::timeout(PROOF, host.prove()).await {
        Ok(Ok(_)) => Ok(host.enforcement().as_str()),
        Ok(Err(refused)) => Err(refused.to_string()),
        Err(_) => Err(format!("the self-test takes longer than {PROOF:?}")),
    }
}

fn announce(
    out: &mut Out,
    address: SocketAddr,
    level: &Result<&'static str, String>,
    operator: &OperatorConfig,
    agents: &Agents,
    otto: &Otto,
) {
    let url = format!("http://{address}");
    let names: Vec<&str> = agents
        .iter()
        .map(|agent| agent.config.name.as_str())
        .collect();
    let state_dir = otto
        .state_dir()
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    let is_open = operator.server_token.is_none() && operator.server_tokens.value.is_empty();
    let enabled = operator.enabled.value && !operator.kill_switch.value;
    let ceiling = &operator.daily_cost;
    if out.is_json() {
        out.json(&json!({
            "type": "listening",
            "base_url": url,
            "enabled": enabled,
            "daily_ceiling": {"limit": crate::output::money_json(ceiling.value), "origin": &*ceiling.origin.0},
            "sandbox": level.as_ref().copied().unwrap_or("none"),
            "sandbox_refusal": level.as_ref().err(),
            "agents": names,
            "state_dir": state_dir,
            "tokens": !is_open,
        }));
        return;
    }
    let painter = out.painter(To::Answer);
    let mut line = |name: &str, text: &str| {
        out.line(To::Answer, &format!("  {name:<14} {text}"));
    };
    line(
        "listening on",
        &format!(
            "{}{}",
            painter.paint(Style::Strong, &url),
            if is_open {
                ", open to every program of this machine; OTTO_SERVER_TOKEN closes it"
            } else {
                ""
            }
        ),
    );
    line(
        "agents",
        &match (enabled, names.is_empty()) {
            (false, _) => painter.paint(
                Style::Warn,
                &format!("none will run: {}", switched_off(operator)),
            ),
            (true, true) => "none yet; `otto init` writes one".to_owned(),
            (true, false) => names.join(", "),
        },
    );
    line(
        "daily ceiling",
        &format!(
            "{} for everything ({}); raise it with OTTO_DAILY_COST or `ceilings: {{ day: ... }}` in config.yml",
            ceiling.value,
            visible(&ceiling.origin.0)
        ),
    );
    line(
        "sandbox",
        &match level {
            Ok(level) => format!("level {level}"),
            Err(refused) => painter.paint(
                Style::Bad,
                &format!("no tool can run: {}; see `otto doctor`", visible(refused)),
            ),
        },
    );
    line("state", &visible(&state_dir));
}

fn switched_off(operator: &OperatorConfig) -> String {
    if operator.kill_switch.value {
        format!(
            "the kill switch is thrown, by {}",
            visible(&operator.kill_switch.origin.0)
        )
    } else {
        ENABLE_HINT.to_owned()
    }
}

fn say_recovered(out: &mut Out, recovery: &Recovery) {
    let Recovery { resumed, left } = recovery;
    if resumed.is_empty() && left.is_empty() {
        return;
    }
    if out.is_json() {
        let ids = |record: &InvocationRecord| -> Value {
            json!({"invocation": record.invocation.to_string(), "session": record.session.to_string()})
        };
        out.json(&json!({
            "type": "recovered",
            "resumed": resumed.iter().map(ids).collect::<Vec<_>>(),
            "left": left.iter().map(|(record, why)| {
                let mut line = ids(record);
                line["reason"] = why.as_str().into();
                line
            }).collect::<Vec<_>>(),
        }));
        return;
    }
    if !resumed.is_empty() {
        let count = resumed.len();
        out.line(
            To::Progress,
            &format!("took up {count} invocations that had not ended"),
        );
    }
    for (record, why) in left {
        let line = format!(
            "left invocation {} of session {}: {}",
            record.invocation,
            record.session,
            visible(why)
        );
        out.line(To::Progress, &line);
    }
}

fn say_stopping(out: &mut Out, running: usize) {
    if out.is_json() {
        out.json(&json!({"type": "stopping", "running": running}));
        return;
    }
    let line = format!(
        "stopping: {running} invocations are brought to their next durable point; a second signal ends at once"
    );
    out.line(To::Progress, &line);
}

fn say_leftovers(out: &mut Out, leftovers: &Leftovers) {
    let left = &leftovers.invocations;
    if out.is_json() {
        out.json(&json!({
            "type": "stopped",
            "left": left.iter().map(|left| json!({
                "invocation": left.ids.invocation.to_string(),
                "session": left.ids.session.to_string(),
                "agent": left.agent.as_str(),
                "abandoned": left.was_abandoned,
            })).collect::<Vec<_>>(),
            "connections_cut": leftovers.connections,
        }));
        return;
    }
    if left.is_empty() {
        out.line(To::Progress, "stopped; nothing was left unfinished");
        return;
    }
    let line = format!(
        "stopped; left unfinished: {}. The next `otto serve` takes them up, or `otto resume SESSION` one by one:",
        left.len()
    );
    out.line(To::Progress, &line);
    for left in left.iter().take(SHOWN_LEFT) {
        let cut = if left.was_abandoned {
            ", cut off between two durable points"
        } else {
            ""
        };
        let line = format!("  session {} of {}{cut}", left.ids.session, left.agent);
        out.line(To::Progress, &line);
    }
}

fn failed(error: ServeError) -> Failure {
    match &error {
        ServeError::Config(problem) => Failure::usage(problem.to_string()),
        ServeError::Bind { bind, source } => {
            let failure = Failure::usage(format!("listen on {bind}: {source}"));
            if source.kind() == std::io::ErrorKind::AddrInUse {
                failure.hint("another process listens there; name another port with --bind, or 0 for a free one")
            } else {
                failure.hint("name an address of this machine with --bind, such as 127.0.0.1:7777")
            }
        }
        _ => Failure::doing("serve", &error),
    }
}
