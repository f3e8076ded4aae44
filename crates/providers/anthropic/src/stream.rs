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
    pub(crate) fn new(
        body: Body,
        decoder: Decoder,
        watchdog: Watchdog,
        masker: Masker,
        ticket: Ticket,
    ) -> Self {
        Self {
            body: Some(body),
            decoder,
            ready: VecDeque::new(),
            watchdog,
            masker,
            ticket: Some(ticket),
        }
    }

    /// The next event; `None` after the last one.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(self.outgoing(event)));
            }
            let Some(body) = self.body.as_mut() else {
                return Poll::Ready(None);
            };
            match body.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.take(&bytes),
                Poll::Ready(Some(Err(how))) => {
                    self.decoder.end(StreamEnd::Broken(&how), &mut self.ready)
                }
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
        if let Some(expired) = self
            .watchdog
            .bytes(Instant::now(), made_progress, self.pace())
        {
            self.expire(expired);
        }
    }

    fn expire(&mut self, expired: Expired) {
        if expired == Expired::Deadline {
            // The caller's time is over, which says nothing about the provider.
            self.ticket = None;
        }
        self.decoder
            .end(StreamEnd::TimedOut(&expired.to_string()), &mut self.ready);
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
        let Some(mut body) = self.body.take() else {
            return;
        };
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
                failure.request_id = failure
                    .request_id
                    .take()
                    .map(|id| self.masker.clean_id(&id));
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use futures_util::stream;
    use otto_core::invocation::{ModelFailure, StopReason};

    use super::*;
    use crate::breaker::{BreakerConfig, CircuitBreaker};
    use crate::client::SharedBreaker;
    use crate::codec::{DecodeContext, WireTools};
    use crate::watchdog::WatchdogLimits;

    const IDLE: Duration = Duration::from_secs(120);
    const THINKING: Duration = Duration::from_secs(600);

    const START: &str = "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":1}}}\n\n";
    const THINKING_BLOCK: &str = "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n";
    const TEXT_BLOCK: &str = "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    const WORD: &str = "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word \"}}\n\n";
    const CLOSE: &str = "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
    const END: &str = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":50}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    const CLOSE_AND_END: &str = "data: {\"type\":\"content_block_stop\",\"index\":0}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":50}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

    /// A body that sends `first` at once and then `again` every `every`, `times` times, and then `last`.
    fn body(
        first: String,
        again: &'static str,
        every: Duration,
        times: usize,
        last: &'static str,
    ) -> Body {
        let repeated = stream::iter(0..times).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok(Bytes::from_static(again.as_bytes()))
        });
        let first = stream::iter([Ok(Bytes::from(first))]);
        let last = stream::iter([Ok(Bytes::from_static(last.as_bytes()))]);
        Box::pin(first.chain(repeated).chain(last).chain(stream::pending()))
    }

    fn breaker() -> Arc<SharedBreaker> {
        Arc::new(SharedBreaker::new(CircuitBreaker::new(BreakerConfig {
            failures_to_open: 1,
            ..BreakerConfig::default()
        })))
    }

    /// The last event of a reply, how long it took, and whether the circuit opened.
    async fn last(
        body: Body,
        time_left: Duration,
    ) -> (Result<StopReason, ModelFailure>, Duration, bool) {
        let started = Instant::now();
        let context = DecodeContext {
            tools: Arc::new(WireTools::new(&[]).unwrap()),
            max_output_tokens: 1_000,
            request_id: None,
            surcharged: false,
        };
        let limits = WatchdogLimits {
            idle: IDLE,
            thinking: THINKING,
            deadline: started + time_left,
        };
        let breaker = breaker();
        let mut reply = ReplyStream::new(
            body,
            Decoder::new(context),
            Watchdog::new(limits, started),
            Masker::new("sk-ant-secret".into()),
            breaker.admit().unwrap(),
        );
        loop {
            let ending = match poll_fn(|cx| reply.poll_event(cx)).await {
                Some(ModelEvent::Finished(finish)) => Ok(finish.stop),
                Some(ModelEvent::Failed(failure)) => Err(failure),
                Some(_) => continue,
                None => panic!("no last event"),
            };
            assert!(
                poll_fn(|cx| reply.poll_event(cx)).await.is_none(),
                "nothing follows"
            );
            return (ending, started.elapsed(), breaker.admit().is_err());
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_reply() {
        let (ending, took, opened) = last(body(START.into(), "", HOUR, 1, ""), HOUR).await;
        let failure = ending.unwrap_err();
        assert_eq!((failure.kind, took), (ModelFailureKind::Timeout, IDLE));
        assert!(
            failure.message.contains("not a byte"),
            "{}",
            failure.message
        );
        assert!(opened);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_for_ever_are_no_progress() {
        for again in [PING, ": comment\n\n", "data: {\"type\":\"new\"}\n\n", "x"] {
            let body = body(
                format!("{START}{TEXT_BLOCK}"),
                again,
                Duration::from_secs(10),
                10_000,
                "",
            );
            let (ending, took, opened) = last(body, HOUR).await;
            let failure = ending.unwrap_err();
            assert_eq!(
                (failure.kind, took),
                (ModelFailureKind::Timeout, IDLE),
                "{again}"
            );
            assert!(
                failure.message.contains("no progress"),
                "{}",
                failure.message
            );
            assert!(opened);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn thinking_may_be_quiet_for_longer_but_not_for_ever() {
        let first = || format!("{START}{THINKING_BLOCK}");
        let quiet = |times, last| body(first(), PING, Duration::from_secs(20), times, last);
        let (ending, took, _) = last(quiet(25, CLOSE), HOUR).await;
        assert_eq!(took, Duration::from_secs(500) + IDLE, "{ending:?}");
        let (ending, took, _) = last(quiet(10_000, ""), HOUR).await;
        assert_eq!(
            (ending.unwrap_err().kind, took),
            (ModelFailureKind::Timeout, THINKING)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_is_ended_by_the_deadline_which_is_nobodys_fault() {
        let (ending, took, opened) = last(
            body(
                format!("{START}{TEXT_BLOCK}"),
                WORD,
                Duration::from_secs(10),
                10_000,
                "",
            ),
            Duration::from_secs(305),
        )
        .await;
        let failure = ending.unwrap_err();
        assert_eq!(
            (failure.kind, took),
            (ModelFailureKind::Timeout, Duration::from_secs(305))
        );
        assert!(
            failure.message.contains("time for this attempt"),
            "{}",
            failure.message
        );
        assert!(
            !opened,
            "the caller was in a hurry; the provider is not down"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_stalls_are_summed_by_the_deadline_only() {
        let stalling = || {
            let first = format!("{START}{TEXT_BLOCK}");
            body(first, WORD, Duration::from_secs(100), 10, CLOSE_AND_END)
        };
        let (ending, took, _) = last(stalling(), HOUR).await;
        assert_eq!(
            (ending.unwrap(), took),
            (StopReason::EndTurn, Duration::from_secs(1_000))
        );
        let (ending, took, _) = last(stalling(), Duration::from_secs(950)).await;
        assert_eq!(ending.unwrap_err().kind, ModelFailureKind::Timeout);
        assert_eq!(took, Duration::from_secs(950));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_pauses_cannot_outrun_the_deadline() {
        // Always ready, and every chunk takes time: the timer itself is never polled.
        let endless =
            stream::repeat_with(|| Ok(Bytes::from_static(PING.as_bytes()))).then(|chunk| async {
                tokio::time::advance(Duration::from_secs(1)).await;
                chunk
            });
        let first = stream::iter([Ok(Bytes::from(format!("{START}{TEXT_BLOCK}")))]);
        let (ending, took, _) = last(Box::pin(first.chain(endless)), Duration::from_secs(30)).await;
        assert_eq!(ending.unwrap_err().kind, ModelFailureKind::Timeout);
        assert_eq!(took, Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_reply_does_not_wait_long_for_its_last_event() {
        let complete = END.split_inclusive("\n\n").next().unwrap();
        let (ending, took, opened) = last(
            body(
                format!("{START}{TEXT_BLOCK}{WORD}{CLOSE}{complete}"),
                PING,
                Duration::from_secs(1),
                10_000,
                "",
            ),
            HOUR,
        )
        .await;
        assert_eq!(
            (ending.unwrap(), took),
            (StopReason::EndTurn, Duration::from_secs(5))
        );
        assert!(!opened);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_event_does_not_wait_for_the_end_of_the_body() {
        let (ending, took, _) = last(
            body(
                format!("{START}{TEXT_BLOCK}{WORD}{CLOSE}{END}"),
                "",
                HOUR,
                1,
                "",
            ),
            HOUR,
        )
        .await;
        assert_eq!(
            (ending.unwrap(), took),
            (StopReason::EndTurn, Duration::ZERO)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_transport_says_is_cleaned() {
        let broken: Body = Box::pin(stream::iter([Err(
            "reset by sk-ant-secret\u{1b}[0m".to_owned()
        )]));
        let (ending, ..) = last(broken, HOUR).await;
        let failure = ending.unwrap_err();
        assert_eq!(failure.kind, ModelFailureKind::CutStream);
        assert!(
            failure.message.ends_with("reset by [key]\\u{1b}[0m"),
            "{}",
            failure.message
        );
    }
}
