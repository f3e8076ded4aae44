//! `otto sessions`

use std::sync::Arc;

use clap::Args;
use otto::text::{rfc3339, visible_start};
use otto::{AgentName, Pin, SessionId, SessionSummary, StoreError};
use serde_json::{Value, json};

use super::named;
use crate::Performed;
use crate::context::Context;
use crate::error::Code;
use crate::open;
use crate::output::{self, Table, To, show_money};

/// Arguments of `otto sessions`.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    /// Only sessions of this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// Most sessions to list
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Keep the artifacts of this session whatever their age
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["agent", "unpin"])]
    pin: Option<SessionId>,
    /// Let the artifacts of this session go with their age again
    #[arg(long, value_name = "SESSION", conflicts_with = "agent")]
    unpin: Option<SessionId>,
}

impl Sessions {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let pinned = self.pin.map(|session| (session, Pin::Keep));
        if let Some((session, pin)) = pinned.or(self.unpin.map(|session| (session, Pin::Release))) {
            let done = context.runtime()?.block_on(async {
                let Some(otto) = open::to_look(&operator).await? else {
                    return Err(StoreError::NotFound {
                        what: Arc::from(format!("session {session}")),
                    }
                    .into());
                };
                let option = match pin {
                    Pin::Keep => "--pin",
                    Pin::Release => "--unpin",
                };
                let command = |session| format!("otto sessions {option} {session}");
                let done = async {
                    named::refuse_invocation(&otto, session, command).await?;
                    otto.set_pinned(session, pin)
                        .await
                        .map_err(crate::error::Failure::from)
                }
                .await;
                open::close(otto).await;
                done
            });
            done?;
            if context.out.is_json() {
                context
                    .out
                    .json(&json!({ "id": session.to_string(), "pinned": pin == Pin::Keep }));
            } else {
                let what = match pin {
                    Pin::Keep => "its artifacts stay whatever their age",
                    Pin::Release => "its artifacts go with their age",
                };
                context
                    .out
                    .line(To::Progress, &format!("session {session}: {what}"));
            }
            return Ok(Code::Completed);
        }
        let sessions = context.runtime()?.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return Ok(Vec::new());
            };
            let sessions = otto.sessions(self.agent.clone(), self.limit).await;
            open::close(otto).await;
            sessions.map_err(crate::error::Failure::from)
        })?;
        if context.out.is_json() {
            for session in &sessions {
                context.out.json(&describe(session));
            }
            return Ok(Code::Completed);
        }
        if sessions.is_empty() {
            context.out.line(
                To::Progress,
                "no sessions yet; `otto run AGENT TASK` begins one",
            );
            return Ok(Code::Completed);
        }
        let mut table = Table::new(["session", "agent", "outcome", "began", ">charged", "task"]);
        for session in &sessions {
            table.row([
                session.id.to_string(),
                session.newest.agent.to_string(),
                output::outcome_word(&session.newest).to_owned(),
                rfc3339(session.started_at),
                show_money(session.charged),
                visible_start(&session.title, 50),
            ]);
        }
        let text = table.render();
        context.out.write(To::Answer, &text);
        Ok(Code::Completed)
    }
}

fn describe(session: &SessionSummary) -> Value {
    json!({
        "id": session.id.to_string(),
        "agent": session.newest.agent.as_str(),
        "title": &*session.title,
        "outcome": otto::standing(&session.newest),
        "parked": otto::is_parked(&session.newest),
        "resumable": session.is_resumable(),
        "started_at": rfc3339(session.started_at),
        "finished_at": session.newest.finished_at.map(rfc3339),
        "invocations": session.invocations,
        "charged": output::money_json(session.charged),
        "tokens": session.tokens,
    })
}
