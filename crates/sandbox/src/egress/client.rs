//! The worker's end of its channel to egress.

use std::cell::Cell;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use crate::ctx::{ByteStream, Egress, EgressRefusal};
use crate::wire;

use super::{Answer, Ask, MAX_ANSWER_BYTES, MAX_ASK_BYTES};

/// Asks egress for connections.
#[derive(Debug)]
pub(crate) struct Client {
    channel: OwnedFd,
    next: Cell<u32>,
}

impl Client {
    pub(crate) fn new(channel: OwnedFd) -> Self {
        Self {
            channel,
            next: Cell::new(0),
        }
    }

    fn ask(&self, host: &str, port: u16, deadline: Instant) -> Result<UnixStream, EgressRefusal> {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let left = deadline.saturating_duration_since(Instant::now());
        let ask = Ask {
            id,
            host: host.to_owned(),
            port,
            time_left: left,
        };
        let message = wire::encode(&ask).map_err(|error| broken(&error))?;
        if message.len() > MAX_ASK_BYTES {
            return Err(EgressRefusal::Refused(
                "the name of the host is too long".to_owned(),
            ));
        }
        send(&self.channel, &message, SendFlags::NOSIGNAL)
            .map_err(|error| broken(&error.into()))?;
        loop {
            let (answer, stream) = self.receive(deadline)?;
            // An answer to a question whose asker has given up; its stream closes here.
            if answer.id != id {
                continue;
            }
            answer.result?;
            return stream
                .ok_or_else(|| EgressRefusal::Unreachable("egress sent no stream".to_owned()));
        }
    }

    fn receive(&self, deadline: Instant) -> Result<(Answer, Option<UnixStream>), EgressRefusal> {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(SHORTEST_WAIT);
        set_socket_timeout(&self.channel, Timeout::Recv, Some(left))
            .map_err(|error| broken(&error.into()))?;
        let mut message = [0; MAX_ANSWER_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut message)];
        let received = match recvmsg(
            &self.channel,
            &mut slices,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::AGAIN | Errno::INTR) => return Err(EgressRefusal::TimedOut),
            other => other.map_err(|error| broken(&error.into()))?,
        };
        let stream = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut handles) => handles.next().map(UnixStream::from),
            _ => None,
        });
        if received.bytes == 0 {
            return Err(EgressRefusal::Unreachable(
                "the egress process of this worker has ended".to_owned(),
            ));
        }
        let answer = wire::decode(&message[..received.bytes]).map_err(|bad| broken(&bad.into()))?;
        Ok((answer, stream))
    }
}

impl Egress for Client {
    fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Box<dyn ByteStream>, EgressRefusal> {
        let stream = self.ask(host, port, deadline)?;
        Ok(Box::new(Timed { stream, deadline }))
    }
}

fn broken(error: &io::Error) -> EgressRefusal {
    EgressRefusal::Unreachable(format!("ask the egress process: {error}"))
}

// BOUND: a wait of zero would mean "for ever" to the kernel.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A stream whose reads and writes end at a deadline.
#[derive(Debug)]
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(left.max(SHORTEST_WAIT))
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ByteStream for Timed {
    fn set_deadline(&mut self, deadline: Instant) -> io::Result<()> {
        self.deadline = deadline;
        Ok(())
    }
}
