//! Invocations grouped by what they belong to, for lists.

use std::collections::HashMap;
use std::sync::Arc;

use otto_core::invocation::{CancelReason, Outcome};
use otto_core::port::store::InvocationRecord;
use otto_core::{Money, SessionId, Timestamp};

/// The invocations of one session, in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// Its id.
    pub id: SessionId,
    /// Its newest invocation.
    pub newest: InvocationRecord,
    /// The first line of the first task.
    pub title: Arc<str>,
    /// When the first invocation began.
    pub started_at: Timestamp,
    /// How many invocations it has.
    pub invocations: usize,
    /// What they were charged together.
    pub charged: Money,
    /// The tokens they used together.
    pub tokens: u64,
}

/// How an invocation stands, in the word that every surface uses: how it ended; `running` while a process drives
/// it; `interrupted` when none does and it has not ended, so that it can be resumed.
#[must_use]
pub fn standing(record: &InvocationRecord) -> &'static str {
    match record.outcome {
        Some(outcome) => outcome.as_str(),
        None if record.driven => "running",
        None => "interrupted",
    }
}

/// Whether an invocation waits for a person's word on a tool call of unknown outcome.
#[must_use]
pub fn is_parked(record: &InvocationRecord) -> bool {
    let parked = Outcome::Cancelled {
        reason: CancelReason::AwaitingPerson,
    };
    // The row keeps the kind of an outcome and its words; this one is known by its words.
    record.outcome == Some(parked.kind()) && *record.summary == *parked.to_string()
}

impl SessionSummary {
    /// Whether the newest invocation can be taken up again.
    #[must_use]
    pub const fn is_resumable(&self) -> bool {
        self.newest.outcome.is_none() || self.newest.resumable
    }
}

/// Sessions in the order of their newest invocation. `records` are newest first.
pub(crate) fn group(records: Vec<InvocationRecord>) -> Vec<SessionSummary> {
    let mut sessions: Vec<SessionSummary> = Vec::new();
    let mut places = HashMap::new();
    for record in records {
        match places.get(&record.session) {
            Some(place) => {
                let session: &mut SessionSummary = &mut sessions[*place];
                session.title = record.title;
                session.started_at = record.started_at;
                session.invocations += 1;
                session.charged = session.charged.saturating_add(record.cost);
                session.tokens = session.tokens.saturating_add(record.tokens);
            }
            None => {
                places.insert(record.session, sessions.len());
                sessions.push(SessionSummary {
                    id: record.session,
                    title: record.title.clone(),
                    started_at: record.started_at,
                    invocations: 1,
                    charged: record.cost,
                    tokens: record.tokens,
                    newest: record,
                });
            }
        }
    }
    sessions
}
