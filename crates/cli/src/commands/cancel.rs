//! `otto cancel ID`

use std::time::Duration;

use clap::Args;
use otto::text::visible;
use otto::{CancelError, InvocationId, InvocationQuery, InvocationRecord, Otto};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::named::{self, Named, unknown};
use crate::Performed;
use crate::context::Context;
use crate::error::{Code, Failure, with_causes};
use crate::open;
use crate::output::To;

/// Arguments of `otto cancel`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The session, as `otto sessions` lists it, or one invocation of it
    #[arg(value_name = "SESSION|INVOCATION")]
    id: String,
}

/// BOUND: how long the end is waited for; tools get two seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the record is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Cancel {
    pub(crate) fn perform(self, context: &mut Context) -> Performed {
        let operator = context.operator()?;
        let ended = context.runtime()?.block_on(async {
            let Some(otto) = open::to_look(&operator).await? else {
                return Err(unknown(&self.id));
            };
            let ended = cancel(&otto, &self.id).await;
            open::close(otto).await;
            ended
        })?;
        let mut code = Code::Completed;
        for record in &ended {
            if record.outcome.is_none() {
                code = Code::Other;
            }
            if context.out.is_json() {
                context.out.json(&json!({
                    "type": "cancel",
                    "invocation": record.invocation.to_string(),
                    "session": record.session.to_string(),
                    "outcome": otto::standing(record),
                }));
                continue;
            }
            let line = match record.outcome {
                Some(_) => format!(
                    "invocation {} of {}: {}",
                    record.invocation,
                    record.agent,
                    visible(&record.summary)
                ),
                None => format!(
                    "invocation {} of {} has not ended within {PATIENCE:?}: nobody drives it, or its process does not answer; \
                     whoever takes it up ends it",
                    record.invocation, record.agent
                ),
            };
            context.out.line(To::Answer, &line);
        }
        Ok(code)
    }
}

/// Asks what is unfinished of a session, or one invocation, to end. Returns what became of each.
async fn cancel(otto: &Otto, id: &str) -> Result<Vec<InvocationRecord>, Failure> {
    let (asked, is_session): (Vec<InvocationId>, bool) = match named::find(otto, id).await? {
        Named::Invocation(record) => (vec![record.invocation], false),
        Named::Session(records) => {
            let open = records.iter().filter(|record| record.outcome.is_none());
            (open.map(|record| record.invocation).collect(), true)
        }
    };
    if asked.is_empty() {
        return Err(Failure::usage(format!(
            "nothing of session {} is running",
            visible(id)
        )));
    }
    for invocation in &asked {
        match otto.cancel(*invocation).await {
            Ok(_) => {}
            // Of a session's, one may have ended meanwhile.
            Err(CancelError::Ended { .. }) if is_session => {}
            Err(CancelError::Unknown(_)) => return Err(unknown(id)),
            Err(error) => return Err(Failure::usage(with_causes(&error))),
        }
    }
    let until = Instant::now() + PATIENCE;
    let mut ended = Vec::new();
    for invocation in asked {
        ended.extend(end_of(otto, invocation, until).await?);
    }
    Ok(ended)
}

/// The invocation when it has ended, or as it is at that time.
async fn end_of(
    otto: &Otto,
    invocation: InvocationId,
    until: Instant,
) -> Result<Option<InvocationRecord>, Failure> {
    loop {
        let query = InvocationQuery {
            invocation: Some(invocation),
            ..InvocationQuery::default()
        };
        let record = otto.invocations(query).await?.into_iter().next();
        let is_over = record
            .as_ref()
            .is_none_or(|record| record.outcome.is_some());
        if is_over || Instant::now() >= until {
            return Ok(record);
        }
        sleep(LOOK_EVERY).await;
    }
}
