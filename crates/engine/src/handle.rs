//! A running invocation as its caller holds it.

use std::sync::Arc;

use futures_util::stream::{self, Stream};
use otto_core::invocation::CancelReason;
use otto_core::{InvocationId, SessionId, TaskId, WorkflowId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};

use crate::running::Running;
use crate::{InvokeError, ListenerEvent, Report};

/// The ids of one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The workflow, if any.
    pub workflow: Option<WorkflowId>,
    /// The session.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The invocation.
    pub invocation: InvocationId,
}

/// A running invocation. Dropping the handle does not end it.
#[derive(Debug)]
pub struct InvocationHandle {
    pub(crate) running: Arc<Running>,
    pub(crate) events: Option<broadcast::Receiver<ListenerEvent>>,
    /// In a box: the place for it is there from the start.
    pub(crate) report: oneshot::Receiver<Box<Report>>,
}

impl InvocationHandle {
    /// Its ids.
    #[must_use]
    pub fn ids(&self) -> Ids {
        self.running.ids
    }

    /// Asks it to end. The outcome is `Cancelled` unless it ends by itself first.
    pub fn cancel(&self) {
        self.running.request_stop(CancelReason::User);
    }

    /// A function that cancels, to be handed elsewhere.
    pub fn canceller(&self) -> impl Fn() + Send + Sync + Clone + 'static {
        let running = self.running.clone();
        move || running.request_stop(CancelReason::User)
    }

    /// Its events, if it was started with [`crate::Listening::On`]. Can be taken once.
    #[must_use]
    pub const fn take_events(&mut self) -> Option<broadcast::Receiver<ListenerEvent>> {
        self.events.take()
    }

    /// Waits until its beginning is durable: from then on a crash cannot lose it, and whoever was told of it may
    /// rely on it. It costs no sync of its own; the beginning becomes durable with the first hold of money.
    /// Cancel safe.
    pub async fn durable(&mut self) {
        // Without one it has ended, which is durable as well.
        let _ = self.running.durable_after(0).await;
    }

    /// Its next event; `None` when it has ended, when its events were taken, or when nobody was to listen.
    ///
    /// Events that were lost because this end was too slow are passed over. Cancel safe.
    pub async fn next_event(&mut self) -> Option<ListenerEvent> {
        next(self.events.as_mut()?).await
    }

    /// Its events as a stream that ends with it, lost ones passed over; empty when nobody was to listen or they
    /// were taken before. Dropping the stream does not end the invocation.
    pub fn take_stream(&mut self) -> impl Stream<Item = ListenerEvent> + Send + use<> {
        stream::unfold(self.events.take(), |events| async move {
            let mut events = events?;
            let event = next(&mut events).await?;
            Some((event, Some(events)))
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`InvokeError::ShuttingDown`] if the runtime ended before the invocation did; it can be resumed.
    /// [`InvokeError::NotStored`] if it completed and the store could not keep that; the report is in the error.
    pub async fn report(self) -> Result<Report, InvokeError> {
        match self.report.await {
            Ok(report) if report.is_answer_unkept() => Err(InvokeError::NotStored(report)),
            Ok(report) => Ok(*report),
            Err(_) => Err(InvokeError::ShuttingDown),
        }
    }
}

async fn next(events: &mut broadcast::Receiver<ListenerEvent>) -> Option<ListenerEvent> {
    loop {
        match events.recv().await {
            Ok(event) => return Some(event),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
