//! The body of a response: whole, padded, or played piece by piece with the faults a script asked for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::bill::OpenBill;
use super::connection::{Control, Farewell};
use crate::limits;
use crate::render::{Ending, Playback};

/// The body of a response.
pub(super) enum ResponseBody {
    /// With a length known beforehand.
    Whole(Option<Bytes>),
    /// A text, then blanks.
    Padded {
        text: Option<Bytes>,
        blanks: u64,
    },
    Played(Box<Player>),
}

const BLANKS: &[u8] = &[b' '; 64 << 10];

impl ResponseBody {
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Padded { text, blanks } => {
                if let Some(text) = text.take() {
                    return Poll::Ready(Some(Ok(Frame::data(text))));
                }
                if *blanks == 0 {
                    return Poll::Ready(None);
                }
                let piece = usize::try_from(*blanks)
                    .unwrap_or(usize::MAX)
                    .min(BLANKS.len());
                *blanks -= piece as u64;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLANKS[..piece])))))
            }
            Self::Played(player) => player.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Padded { .. } => false,
            Self::Played(player) => player.is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Padded { .. } => SizeHint::default(),
            Self::Played(player) => player
                .length
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// Plays a stream, and keeps its bill.
pub(super) struct Player {
    playback: Playback,
    /// The next step.
    step: usize,
    /// Bytes sent.
    start: usize,
    phase: Phase,
    /// The length the head announces; a stream announces none.
    length: Option<u64>,
    control: Arc<Control>,
    bill: OpenBill,
}

enum Phase {
    /// To look at the next step.
    Next,
    /// The step is due when the timer fires.
    Waiting(Pin<Box<Sleep>>),
    /// The step is due.
    Due,
    /// What was sent must leave first; the number of flushes before, and whether the stream ends badly then.
    Leaving { flushes: u64, last: bool },
    /// Nothing more will come.
    Stalled(Pin<Box<Sleep>>),
}

impl Player {
    /// A body of unknown length.
    pub(super) fn stream(playback: Playback, control: Arc<Control>, bill: OpenBill) -> Box<Self> {
        let mut player = Self {
            playback,
            step: 0,
            start: 0,
            phase: Phase::Next,
            length: None,
            control,
            bill,
        };
        player.settle_if_done();
        Box::new(player)
    }

    /// A body whose head says `length`, whatever the playback then sends.
    pub(super) fn sized(
        playback: Playback,
        length: usize,
        control: Arc<Control>,
        bill: OpenBill,
    ) -> Box<Self> {
        let mut player = Self::stream(playback, control, bill);
        player.length = Some(length as u64);
        player
    }

    /// Whether everything is sent and nothing is left to be done: the last piece may then leave together with
    /// the end of the body.
    fn is_done(&self) -> bool {
        self.step >= self.playback.steps.len()
            && matches!(self.playback.ending, Ending::Whole | Ending::Clean)
    }

    /// hyper drops a body as soon as it is done, so the bill is settled with the last piece.
    fn settle_if_done(&mut self) {
        if self.is_done() {
            match self.playback.ending {
                Ending::Whole => self.bill.complete(),
                Ending::Clean | Ending::Close | Ending::Reset | Ending::Stall => {
                    self.bill.faulted()
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            self.phase = match &mut self.phase {
                Phase::Next => match self.playback.steps.get(self.step) {
                    Some(step) if step.wait.is_zero() => Phase::Due,
                    Some(step) => Phase::Waiting(sleep(step.wait)),
                    None => match self.playback.ending {
                        Ending::Whole | Ending::Clean => return Poll::Ready(None),
                        // What was sent before must have left: an error drops what hyper still holds.
                        Ending::Close | Ending::Reset => Phase::Leaving {
                            flushes: self.control.flushes(),
                            last: true,
                        },
                        Ending::Stall => Phase::Stalled(sleep(limits::WAIT)),
                    },
                },
                Phase::Waiting(timer) => match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Phase::Due,
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Due => match self.send() {
                    Some(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    None => Phase::Next,
                },
                Phase::Leaving { flushes, last } => {
                    self.control.wake_at_flush(cx.waker());
                    if self.control.flushes() == *flushes {
                        return Poll::Pending;
                    }
                    if *last {
                        return Poll::Ready(Some(Err(self.end_badly())));
                    }
                    Phase::Next
                }
                Phase::Stalled(timer) => {
                    self.bill.faulted();
                    match timer.as_mut().poll(cx) {
                        Poll::Ready(()) => return Poll::Ready(Some(Err(self.end_badly()))),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            };
        }
    }

    /// Sends the next step; `None` if it is empty.
    fn send(&mut self) -> Option<Bytes> {
        let step = *self.playback.steps.get(self.step)?;
        let piece = self.playback.bytes.slice(self.start..step.end);
        self.start = step.end;
        self.step += 1;
        self.bill.sent(step.tokens);
        self.phase = if step.alone {
            Phase::Leaving {
                flushes: self.control.flushes(),
                last: false,
            }
        } else {
            Phase::Next
        };
        self.settle_if_done();
        // A frame of no bytes would be taken for the end of a chunked body.
        if piece.is_empty() { None } else { Some(piece) }
    }

    fn end_badly(&mut self) -> io::Error {
        self.bill.faulted();
        if self.playback.ending == Ending::Reset {
            self.control.end_with(Farewell::Reset);
        }
        io::Error::other("the script ends the stream here")
    }
}

fn sleep(duration: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(duration))
}
