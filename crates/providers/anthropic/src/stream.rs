//! A reply on its way in: body, decoder and watchdog together.
//!
//! Works on any stream of byte chunks, so that stalls and endless replies can be tested without a socket.
//!
//! Invariant: after the last event the body is gone: dropped at once when the reply failed (which closes the
//! connection and stops what it costs), read to its end in the background when it ended well (so that the
//! connection can be used again).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use otto_core::invocation::ModelFailureKind;
use otto_core::port::llm_client::ModelEvent;
use tokio::time::Instant;

use crate::client::Ticket;
use crate::codec::{Decoder, StreamEnd};
use crate::mask::Masker;
use crate::watchdog::{Expired, Pace, Watchdog};

/// The body of a response; errors in words.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// How long, and how much, the rest of a complete reply is waited for.
const DRAIN_TIME: Duration = Duration::from_secs(2);
const DRAIN_BYTES: usize = 64 * 1024;

/// A reply being received.
pub(crate) struct ReplyStream {
    body: Option<Body>,
    decoder: Decoder,
    ready: VecDeque<ModelEvent>,
    watchdog: Watchdog,
    masker: Masker,
    ticket: Option<Ticket>,
}

impl ReplyStream {
    pub(crate) fn new(body: Body, decoder: Decoder, watchdog: Watchdog, masker: Masker, ticket: Ticket) -> Self {
        Self { body: Some(body), decoder, ready: VecDeque::new(), watchdog, masker, ticket: Some(ticket) }
    }

    /// The next event; `None` after the last one.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(self.outgoing(event)));
            }
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            match body.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.take(&bytes),
                Poll::Ready(Some(Err(how))) => self.decoder.end(StreamEnd::Broken(&how), &mut self.ready),
                Poll::Ready(None) => self.decoder.end(StreamEnd::Clean, &mut self.ready),
                Poll::Pending => match self.watchdog.poll_expired(cx, self.pace()) {
                    Poll::Ready(expired) => self.expire(expired),
                    Poll::Pending => return Poll::Pending,
                },
            }
            if self.decoder.is_done() {
                self.release(cx);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let (before, had_started) = (self.decoder.progress(), self.decoder.has_started());
        self.decoder.push(bytes, &mut self.ready);
        if !had_started
            && self.decoder.has_started()
            && let Some(ticket) = &self.ticket
        {
            ticket.answered();
        }
        if self.decoder.is_done() {
            return;
        }
        let made_progress = self.decoder.progress() > before;
        if let Some(expired) = self.watchdog.bytes(Instant::now(), made_progress, self.pace()) {
            self.expire(expired);
        }
    }

    fn expire(&mut self, expired: Expired) {
        if expired == Expired::Deadline {
            // The caller's time is over, which says nothing about the provider.
            self.ticket = None;
        }
        self.decoder.end(StreamEnd::TimedOut(&expired.to_string()), &mut self.ready);
    }

    fn pace(&self) -> Pace {
        if self.decoder.is_complete() {
            Pace::Complete
        } else if self.decoder.is_thinking() {
            Pace::Thinking
        } else {
            Pace::Writing
        }
    }

    /// Lets go of the body after the last event was decoded.
    fn release(&mut self, cx: &mut Context<'_>) {
        let Some(mut body) = self.body.take() else { return };
        let ended_well = matches!(self.ready.back(), Some(ModelEvent::Finished(_)));
        // The end of the body usually arrives with the last event.
        if ended_well && body.as_mut().poll_next(cx).is_pending() {
            tokio::spawn(drain(body));
        }
    }

    /// An event on its way to the caller: failures lose what must not be shown.
    fn outgoing(&mut self, mut event: ModelEvent) -> ModelEvent {
        match &mut event {
            ModelEvent::Finished(_) => {
                if let Some(ticket) = self.ticket.take() {
                    ticket.finished();
                }
            }
            ModelEvent::Failed(failure) => {
                failure.message = self.masker.clean(&failure.message);
                failure.request_id = failure.request_id.take().map(|id| self.masker.clean_id(&id));
                if let Some(ticket) = self.ticket.take()
                    && speaks_against_provider(failure.kind)
                {
                    ticket.failed();
                }
            }
            _ => {}
        }
        event
    }
}

/// Whether a failure means that the provider is down rather than the request wrong.
pub(crate) fn speaks_against_provider(kind: ModelFailureKind) -> bool {
    match kind {
        ModelFailureKind::Overloaded
        | ModelFailureKind::Server
        | ModelFailureKind::Timeout
        | ModelFailureKind::Unreachable
        | ModelFailureKind::CutStream => true,
        ModelFailureKind::Authentication
        | ModelFailureKind::Permission
        | ModelFailureKind::NotFound
        | ModelFailureKind::InvalidRequest
        | ModelFailureKind::PromptTooLong
        | ModelFailureKind::RateLimited
        | ModelFailureKind::SpendLimit
        | ModelFailureKind::Protocol
        | ModelFailureKind::Interrupted
        | ModelFailureKind::CircuitOpen => false,
    }
}

/// Reads what is left of a complete reply, so that its connection goes back to the pool instead of being
/// closed. A task of its own because the caller has its answer already; bounded in time and bytes.
async fn drain(mut body: Body) {
    let all = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(bytes)) = body.next().await {
            match left.checked_sub(bytes.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Running out of time only means that the connection is closed.
    let _ = tokio::time::timeout(DRAIN_TIME, all).await;
}
