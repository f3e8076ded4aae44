//! Why `otto usage` has found nothing: a time that has not come, a name that nothing was done under, or nothing yet.
//!
//! Invariant: it is said on standard error, so that a table or JSON lines stay what a program reads.

use otto::text::rfc3339;
use otto::{InvocationQuery, Otto};

use super::super::named;
use super::{Usage, time};
use crate::error::Failure;

/// The reason in a line. `otto` is absent where nothing was ever stored.
pub(super) async fn why(usage: &Usage, otto: Option<&Otto>) -> Result<String, Failure> {
    if let Some(from) = usage.from
        && from > time::now()?
    {
        let text = format!(
            "nothing was found: `--from` {} is in the future",
            rfc3339(from)
        );
        return Ok(text);
    }
    if usage.from.is_some() && usage.from == usage.to {
        return Ok(
            "nothing was found: `--from` and `--to` are the same time, and `--to` does not count"
                .to_owned(),
        );
    }
    if let Some(agent) = &usage.agent {
        let query = InvocationQuery {
            agent: Some(agent.clone()),
            ..InvocationQuery::default()
        };
        if !is_there(otto, query).await? {
            return Ok(format!(
                "nothing was found: no invocation of an agent `{agent}` is stored here; `otto agents` lists the agents"
            ));
        }
    }
    if let Some(session) = usage.session {
        let query = InvocationQuery {
            session: Some(session),
            ..InvocationQuery::default()
        };
        if !is_there(otto, query).await? {
            if let Some(otto) = otto
                && let Some(of) = named::session_of(otto, session).await?
            {
                return Ok(format!(
                    "nothing was found: {session} is an invocation of session {of}; `otto usage --session {of}`"
                ));
            }
            return Ok(format!(
                "nothing was found: there is no session {session}; `otto sessions` lists them"
            ));
        }
    }
    if let Some(workflow) = usage.workflow {
        return Ok(format!(
            "nothing was found: no model call of workflow {workflow} is stored here, or none in this time"
        ));
    }
    let is_narrowed = usage.from.is_some()
        || usage.to.is_some()
        || usage.agent.is_some()
        || usage.session.is_some();
    Ok(if is_narrowed {
        "nothing was found: no model call in this time, or by whom you asked for".to_owned()
    } else {
        "nothing was used yet".to_owned()
    })
}

async fn is_there(otto: Option<&Otto>, query: InvocationQuery) -> Result<bool, Failure> {
    let Some(otto) = otto else {
        return Ok(false);
    };
    let query = InvocationQuery {
        limit: Some(1),
        ..query
    };
    Ok(!otto.invocations(query).await?.is_empty())
}
