//! One call on its way through the writer: a rule to run, an answer to send after the commit.

use std::path::Path;
use std::sync::Arc;

use otto_core::Timestamp;
use otto_core::port::store::{Durability, StoreError};
use tokio::sync::oneshot;

use crate::error::Fault;
use crate::writer::SqlRows;

/// A call in the writer's queue.
pub(crate) struct Job {
    durability: Durability,
    work: Box<dyn Work>,
}

impl Job {
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Runs the rule. A refusal is kept for the answer; an error of the database ends the transaction.
    pub(crate) fn run(
        &mut self,
        rows: &mut SqlRows<'_, '_>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        self.work.run(rows, now)
    }

    /// Answers the caller: with what the rule said if the transaction was committed.
    pub(crate) fn answer(self, committed: Result<(), StoreError>) {
        self.work.answer(committed);
    }
}

/// A rule on rows.
pub(crate) trait Change<T>:
    FnOnce(&mut SqlRows<'_, '_>, Timestamp) -> Result<T, Fault> + Send + 'static
{
}

impl<T, F: FnOnce(&mut SqlRows<'_, '_>, Timestamp) -> Result<T, Fault> + Send + 'static> Change<T>
    for F
{
}

/// A job and where its answer arrives.
pub(crate) fn job<T: Send + 'static>(
    durability: Durability,
    rule: impl Change<T>,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (reply, answer) = oneshot::channel();
    // A caller that no longer waits has lost interest, not the effect.
    (
        job_then(durability, rule, move |result| drop(reply.send(result))),
        answer,
    )
}

/// A job whose answer is handed on by the writer thread; `then` must not block.
pub(crate) fn job_then<T: Send + 'static>(
    durability: Durability,
    rule: impl Change<T>,
    then: impl FnOnce(Result<T, StoreError>) + Send + 'static,
) -> Job {
    let call = Call {
        rule: Some(rule),
        result: None,
        then,
    };
    Job {
        durability,
        work: Box::new(call),
    }
}

trait Work: Send {
    fn run(&mut self, rows: &mut SqlRows<'_, '_>, now: Timestamp) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Call<T, F, A> {
    rule: Option<F>,
    result: Option<Result<T, StoreError>>,
    then: A,
}

impl<T: Send, F: Change<T>, A: FnOnce(Result<T, StoreError>) + Send> Work for Call<T, F, A> {
    fn run(&mut self, rows: &mut SqlRows<'_, '_>, now: Timestamp) -> rusqlite::Result<()> {
        let rule = self.rule.take().expect("a job runs once");
        self.result = Some(match rule(rows, now) {
            Ok(value) => Ok(value),
            Err(fault) => Err(fault.into_refusal()?),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        (self.then)(match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(gone(Path::new("the database"))),
        });
    }
}

/// The answer when the thread that should answer has ended.
pub(crate) fn gone(path: &Path) -> StoreError {
    let detail = format!(
        "use `{}`: the store has shut down; open it again",
        path.display()
    );
    StoreError::Unavailable {
        detail: Arc::from(detail),
    }
}
