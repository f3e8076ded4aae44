//! What is meant by an id that somebody typed: a session, or one invocation of it.
//!
//! Both have ids of one form, and what `otto` prints has both. Where a session is wanted and the id is that of an
//! invocation, the session it belongs to is named with the command to type.

use otto::core::id::InvalidId;
use otto::text::visible;
use otto::{InvocationId, InvocationQuery, InvocationRecord, Otto, SessionId};

use crate::error::Failure;

/// What is stored under an id.
pub(super) enum Named {
    /// The invocations of a session, newest first.
    Session(Vec<InvocationRecord>),
    /// One invocation.
    Invocation(Box<InvocationRecord>),
}

/// Looks an id up; an error if nothing is stored under it.
pub(super) async fn find(otto: &Otto, id: &str) -> Result<Named, Failure> {
    let session: SessionId = id.parse().map_err(invalid)?;
    let records = in_session(otto, session).await?;
    if !records.is_empty() {
        return Ok(Named::Session(records));
    }
    let query = InvocationQuery {
        invocation: Some(id.parse::<InvocationId>().map_err(invalid)?),
        ..InvocationQuery::default()
    };
    match otto.invocations(query).await?.pop() {
        Some(record) => Ok(Named::Invocation(Box::new(record))),
        None => Err(unknown(id)),
    }
}

/// The invocations of a session, newest first.
pub(super) async fn in_session(
    otto: &Otto,
    session: SessionId,
) -> Result<Vec<InvocationRecord>, Failure> {
    let query = InvocationQuery {
        session: Some(session),
        ..InvocationQuery::default()
    };
    Ok(otto.invocations(query).await?)
}

/// The session that the invocation with this id belongs to; `None` if the id is not that of an invocation.
pub(super) async fn session_of(otto: &Otto, id: SessionId) -> Result<Option<SessionId>, Failure> {
    let Ok(invocation) = id.to_string().parse::<InvocationId>() else {
        return Ok(None);
    };
    Ok(otto.session_of(invocation).await?)
}

/// Refuses the id of an invocation where a session is wanted. `command` is what to type, for the right session.
pub(super) async fn refuse_invocation(
    otto: &Otto,
    id: SessionId,
    command: impl FnOnce(SessionId) -> String,
) -> Result<(), Failure> {
    match session_of(otto, id).await? {
        Some(session) if session != id => Err(belongs_to(id, session).hint(command(session))),
        _ => Ok(()),
    }
}

/// Says which session an invocation belongs to.
pub(super) fn belongs_to(id: SessionId, session: SessionId) -> Failure {
    Failure::usage(format!(
        "{id} is an invocation and no session: it belongs to session {session}"
    ))
}

pub(super) fn unknown(id: &str) -> Failure {
    Failure::usage(format!(
        "there is no session or invocation `{}`",
        visible(id)
    ))
    .hint("`otto sessions` lists the sessions")
}

fn invalid(error: InvalidId) -> Failure {
    Failure::usage(error.to_string())
}
