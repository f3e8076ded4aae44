//! `otto sessions`

use clap::Args;
use otto::text::visible_start;
use otto::{AgentName, InvocationQuery, InvocationRecord, Money, OutcomeKind, SessionId};
use serde_json::{Value, json};

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
}

/// BOUND: invocations looked at to find the sessions; a session has one invocation in most cases.
const MAX_INVOCATIONS: u32 = 10_000;

impl Sessions {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let records = context.runtime()?.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return Ok(Vec::new());
            };
            let query = InvocationQuery {
                agent: self.agent.clone(),
                limit: Some(MAX_INVOCATIONS),
                ..InvocationQuery::default()
            };
            let records = otto.invocations(query).await;
            open::close(otto).await;
            records.map_err(crate::error::Failure::from)
        })?;
        let mut sessions = group(&records);
        sessions.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
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
                output::outcome_word(session.newest).to_owned(),
                output::time(session.oldest.started_at),
                show_money(session.charged()),
                visible_start(&session.oldest.title, 50),
            ]);
        }
        let text = table.render();
        context.out.write(To::Answer, &text);
        Ok(Code::Completed)
    }
}

/// The invocations of one session.
struct Session<'a> {
    id: SessionId,
    newest: &'a InvocationRecord,
    oldest: &'a InvocationRecord,
    records: Vec<&'a InvocationRecord>,
}

impl Session<'_> {
    fn charged(&self) -> Money {
        self.records
            .iter()
            .fold(Money::ZERO, |sum, record| sum.saturating_add(record.cost))
    }
}

/// Sessions in the order of their newest invocation. `records` are newest first.
fn group(records: &[InvocationRecord]) -> Vec<Session<'_>> {
    let mut sessions: Vec<Session<'_>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for record in records {
        let place = *places.entry(record.session).or_insert_with(|| {
            sessions.push(Session {
                id: record.session,
                newest: record,
                oldest: record,
                records: Vec::new(),
            });
            sessions.len() - 1
        });
        let session = &mut sessions[place];
        session.oldest = record;
        session.records.push(record);
    }
    sessions
}

fn describe(session: &Session<'_>) -> Value {
    let tokens = session
        .records
        .iter()
        .fold(0_u64, |sum, record| sum.saturating_add(record.tokens));
    json!({
        "id": session.id.to_string(),
        "agent": session.newest.agent.as_str(),
        "title": &*session.oldest.title,
        "outcome": session.newest.outcome.map_or("running", OutcomeKind::as_str),
        "parked": output::is_parked(session.newest),
        "resumable": session.newest.outcome.is_none() || session.newest.resumable,
        "started_at": output::time(session.oldest.started_at),
        "finished_at": session.newest.finished_at.map(output::time),
        "invocations": session.records.len(),
        "charged": output::money_json(session.charged()),
        "tokens": tokens,
    })
}
