//! Watching an invocation from start to report: events on the screen, signals, the live line.
//!
//! Invariant: it returns only after the invocation's last durable word, unless that does not come within the
//! bound of a shutdown or the user insists.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use otto::core::invocation::{CancelReason, OpenCall};
use otto::core::ledger::Resource;
use otto::{
    AgentConfig, Budgets, InvocationHandle, InvokeError, ListenerEvent, NotGranted, Otto, Outcome,
    Report,
};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::parked;
use crate::Performed;
use crate::error::{Code, Failure};
use crate::open;
use crate::output::{self, Live, Out, Style, To, View};
use crate::signals::{Ask, Signals, kill_reason};

/// How often the live line is drawn anew while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Shows what has begun until it has ended, closes Otto, and prints the report.
pub(super) async fn to_the_end(
    out: &mut Out,
    otto: Otto,
    begun: Result<InvocationHandle, Failure>,
    agent: &AgentConfig,
    budgets: &Budgets,
    cut: &[NotGranted],
) -> Performed {
    let report = match begun {
        Ok(handle) => watch(out, &otto, handle, agent, budgets, cut).await,
        Err(failure) => Err(failure),
    };
    let waiting = match &report {
        // Without them the report is still worth its while; `otto show` tells what is wrong.
        Ok(report) if report.outcome.is_parked() => {
            let open = otto.open_calls(report.ids.invocation).await;
            open.unwrap_or_default()
        }
        _ => Vec::new(),
    };
    open::close(otto).await;
    Ok(conclude(out, &report?, budgets, &waiting))
}

/// Shows an invocation until it has ended, and returns its report. The first Ctrl-C (or SIGTERM) shuts Otto
/// down, the second ends the process at once; what was acknowledged is safe either way. SIGUSR1 throws the
/// kill switch.
async fn watch(
    out: &mut Out,
    otto: &Otto,
    mut handle: InvocationHandle,
    agent: &AgentConfig,
    budgets: &Budgets,
    cut: &[NotGranted],
) -> Result<Report, Failure> {
    let mut screen = Live::split();
    let ids = handle.ids();
    if out.is_json() {
        out.json(&json!({
            "type": "started",
            "invocation": ids.invocation.to_string(),
            "session": ids.session.to_string(),
            "task": ids.task.to_string(),
            "workflow": ids.workflow.map(|id| id.to_string()),
            "agent": agent.name.as_str(),
            "model": agent.model.as_str(),
            "limits": limits(budgets),
            "not_granted": cut.iter().map(output::not_granted).collect::<Vec<_>>(),
        }));
    }
    let mut signals =
        Signals::new().map_err(|error| Failure::doing("listen for signals", &error))?;
    let mut view = View::new(
        out.painter(To::Progress),
        budgets.cost.as_ref().map(|limit| limit.value),
    );
    let time_limit = budgets.time.as_ref().map(|limit| limit.value);
    let started = Instant::now();
    let mut events = handle.take_events();
    let mut is_ending = false;
    // What a signal has set in motion.
    let mut orders: FuturesUnordered<LocalBoxFuture<'_, Result<(), Failure>>> =
        FuturesUnordered::new();
    let report = handle.report();
    tokio::pin!(report);
    let mut tick = tokio::time::interval(TICK);
    let report = loop {
        tokio::select! {
            biased;
            ask = signals.next() => {
                screen.end(out);
                match ask {
                    Ask::Kill => {
                        out.line(To::Progress, "SIGUSR1: the kill switch is thrown, for every process on the state directory");
                        orders.push(Box::pin(async { Ok(otto.kill(&kill_reason()).await?) }));
                    }
                    Ask::End if is_ending => {
                        out.line(To::Progress, &format!("stopped at once; what was acknowledged is stored, `otto resume {}` takes it up", ids.session));
                        std::process::exit(i32::from(out.finish(Code::Cancelled).number()));
                    }
                    Ask::End => {
                        is_ending = true;
                        out.line(To::Progress, "shutting down: what runs comes to a durable point; press Ctrl-C again to stop at once");
                        orders.push(Box::pin(async {
                            otto.shutdown(open::SHUTDOWN_BOUND).await;
                            Ok(())
                        }));
                    }
                }
            }
            Some(done) = orders.next() => done?,
            event = next_event(&mut events), if events.is_some() => match event {
                Ok(event) => show(out, &mut screen, &mut view, &event),
                Err(RecvError::Lagged(count)) if out.is_json() => out.json(&json!({"type": "lagged", "events": count})),
                Err(RecvError::Lagged(count)) => screen.show(out, &view.lagged(count)),
                Err(RecvError::Closed) => events = None,
            },
            ended = &mut report => break ended,
            _ = tick.tick() => screen.draw(out, |columns| view.live_line(started.elapsed(), time_limit, columns)),
        }
    };
    // What was sent before the end has arrived by now; the report is not shown before it.
    while let Some(receiver) = &mut events {
        match receiver.try_recv() {
            Ok(event) => show(out, &mut screen, &mut view, &event),
            Err(_) => break,
        }
    }
    screen.end(out);
    // What a signal ordered is done before the word on it.
    while let Some(done) = orders.next().await {
        done?;
    }
    match report {
        Err(InvokeError::ShuttingDown) => Err(Failure::new(
            Code::Cancelled,
            format!(
                "session {} did not come to a durable point in time and was left as after a crash",
                ids.session
            ),
        )
        .hint(format!(
            "`otto resume {}` takes it up; an open model call counts as spent",
            ids.session
        ))),
        // What is left to do is to show it, and that it is not kept.
        Err(InvokeError::NotStored(report)) => Ok(*report),
        report => Ok(report?),
    }
}

async fn next_event(
    events: &mut Option<tokio::sync::broadcast::Receiver<ListenerEvent>>,
) -> Result<ListenerEvent, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => Err(RecvError::Closed),
    }
}

fn show(out: &mut Out, screen: &mut Live, view: &mut View, event: &ListenerEvent) {
    if out.is_json() {
        if let Some(line) = output::event(event) {
            out.json(&line);
        }
        return;
    }
    for piece in view.show(event) {
        screen.show(out, &piece);
    }
}

fn limits(budgets: &Budgets) -> serde_json::Value {
    json!({
        "time_ms": budgets.time.as_ref().map(|limit| u64::try_from(limit.value.as_millis()).unwrap_or(u64::MAX)),
        "tokens": budgets.tokens.as_ref().map(|limit| limit.value),
        "cost": budgets.cost.as_ref().map(|limit| output::money_json(limit.value)),
        "turns": budgets.turns.as_ref().map(|limit| limit.value),
    })
}

/// Prints the report and what to type next, and gives the exit code.
fn conclude(out: &mut Out, report: &Report, budgets: &Budgets, waiting: &[OpenCall]) -> Code {
    let code = if is_stored(report) {
        Code::from(report.outcome.kind())
    } else {
        Code::Other
    };
    if out.is_json() {
        let mut value = output::report_json(report, code);
        value["open_calls"] = waiting.iter().map(parked::describe).collect();
        out.json(&value);
        return code;
    }
    let painter = out.painter(To::Progress);
    out.write(To::Progress, &output::show_report(report, budgets, painter));
    let session = report.ids.session;
    if !waiting.is_empty() {
        out.write(To::Progress, &parked::tell(session, waiting));
    }
    out.line(To::Progress, &format!("\nsession {session}"));
    let next = painter.paint(Style::Accent, &next_command(report));
    out.line(To::Progress, &format!("next: {next}"));
    code
}

/// Whether the end that is reported will be found by whoever looks later. An answer that is not kept is no success.
const fn is_stored(report: &Report) -> bool {
    !matches!(
        report,
        Report {
            outcome: Outcome::Completed { .. },
            store_error: Some(_),
            ..
        }
    )
}

/// What to type after this outcome.
pub(super) fn next_command(report: &Report) -> String {
    let session = report.ids.session;
    match &report.outcome {
        Outcome::BudgetExhausted { denial } => match denial.resource {
            Resource::Cost => format!("otto resume {session} --raise cost=AMOUNT"),
            Resource::Tokens => format!("otto resume {session} --raise tokens=COUNT"),
            Resource::Turns => format!("otto resume {session} --raise turns=COUNT"),
        },
        Outcome::DeadlineExceeded { .. } => format!("otto resume {session} --raise time=DURATION"),
        Outcome::Cancelled {
            reason: CancelReason::AwaitingPerson,
        } => {
            format!("otto resume {session} --decide done|not-done|retry|unknown")
        }
        Outcome::Cancelled {
            reason: CancelReason::KillSwitch,
        } => format!("otto kill --lift, then otto resume {session}"),
        Outcome::Cancelled {
            reason: CancelReason::Shutdown | CancelReason::StoreFailed | CancelReason::User,
        } => format!("otto resume {session}"),
        Outcome::Failed { .. } => {
            format!("otto show {session}, or otto resume {session} to try again")
        }
        _ if !is_stored(report) => format!("otto resume {session}"),
        _ => format!("otto show {session}"),
    }
}
