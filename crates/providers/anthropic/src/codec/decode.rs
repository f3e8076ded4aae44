//! The decoder: bytes of a reply in, model events out.
//!
//! Joins the event parser and the state machine of the reply, and decides what the end of the bytes means.
//!
//! Invariant: whatever comes, the events end with exactly one [`ModelEvent::Finished`] or
//! [`ModelEvent::Failed`], and nothing follows it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use otto_core::invocation::ModelFailureKind;
use otto_core::port::llm_client::ModelEvent;

use crate::codec::reply::{Broken, Reply};
use crate::codec::sse::SseParser;
use crate::codec::wire_tools::WireTools;

/// What a decoder must know of the call it decodes the reply of.
#[derive(Debug, Clone)]
pub struct DecodeContext {
    /// The tools that were offered; their names lead back from the wire's.
    pub tools: Arc<WireTools>,
    /// The output limit that was sent. A reply that cannot be within it is cut.
    pub max_output_tokens: u64,
    /// The provider's id of the request, from the response headers.
    pub request_id: Option<Arc<str>>,
    /// Whether the price table already counts the regional surcharge.
    pub surcharged: bool,
}

/// How the bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd<'a> {
    /// The body ended as the transport says.
    Clean,
    /// The transport broke; how, in words.
    Broken(&'a str),
    /// Nobody waits any longer; for what, in words.
    TimedOut(&'a str),
}

/// An incremental decoder of one reply.
///
/// # Example
/// ```
/// use std::collections::VecDeque;
/// use std::sync::Arc;
/// use otto_anthropic::codec::{DecodeContext, Decoder, StreamEnd, WireTools};
///
/// let context = DecodeContext {
///     tools: Arc::new(WireTools::new(&[])?),
///     max_output_tokens: 1_000,
///     request_id: None,
///     surcharged: false,
/// };
/// let (mut decoder, mut events) = (Decoder::new(context), VecDeque::new());
/// decoder.push(b"data: {\"type\":\"ping\"}\n\n", &mut events);
/// assert!(events.is_empty());
/// decoder.end(StreamEnd::Clean, &mut events);
/// assert!(decoder.is_done() && events.len() == 1);
/// # Ok::<(), otto_anthropic::codec::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    sse: SseParser,
    reply: Reply,
}

impl Decoder {
    /// A decoder at the beginning of a reply.
    #[must_use]
    pub fn new(context: DecodeContext) -> Self {
        Self {
            sse: SseParser::new(),
            reply: Reply::new(context),
        }
    }

    /// Takes the next bytes and appends the events they complete. Does nothing once done.
    pub fn push(&mut self, bytes: &[u8], out: &mut VecDeque<ModelEvent>) {
        if self.is_done() {
            return;
        }
        let Self { sse, reply } = self;
        let parsed = sse.push(bytes, |event| {
            if let Err(broken) = reply.event(event, out) {
                reply.fail(broken, out);
            }
            if reply.is_done() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Err(error) = parsed
            && !self.is_done()
        {
            self.fail(
                ModelFailureKind::Protocol,
                format!("the reply is no event stream: {error}"),
                out,
            );
        }
    }

    /// Tells that no more bytes will come. Does nothing once done.
    ///
    /// A reply that has given its stop reason and closed its blocks is complete, even if its last event or
    /// the transport's own end is missing; sending it again would pay for it twice.
    pub fn end(&mut self, end: StreamEnd<'_>, out: &mut VecDeque<ModelEvent>) {
        if self.is_done() {
            return;
        }
        if self.reply.is_complete() {
            self.reply.finish(out);
            return;
        }
        let place = if self.reply.has_started() {
            "before it was complete"
        } else {
            "before it began"
        };
        let (kind, message) = match end {
            StreamEnd::Clean => (
                ModelFailureKind::CutStream,
                format!("the reply ended {place}"),
            ),
            StreamEnd::Broken(how) => (
                ModelFailureKind::CutStream,
                format!("the reply broke off {place}: {how}"),
            ),
            StreamEnd::TimedOut(what) => (
                ModelFailureKind::Timeout,
                format!("the reply was given up {place}: {what}"),
            ),
        };
        self.fail(kind, message, out);
    }

    fn fail(&mut self, kind: ModelFailureKind, message: String, out: &mut VecDeque<ModelEvent>) {
        self.reply.fail(
            Broken {
                kind,
                message,
                request_id: None,
            },
            out,
        );
    }

    /// Whether the last event is out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.reply.is_done()
    }

    /// Whether the provider has accepted the request and begun its reply.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.reply.has_started()
    }

    /// Whether content, stop reason and usage are there, so that the end of the stream adds nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.reply.is_complete()
    }

    /// Grows with everything that moves the reply forward. Pings, comments, empty deltas and unknown events
    /// do not: they may go on for ever.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.reply.progress()
    }

    /// Whether a thinking block is open. The text of thinking may be withheld, so minutes without progress
    /// are normal there.
    #[must_use]
    pub fn is_thinking(&self) -> bool {
        self.reply.is_thinking()
    }
}
