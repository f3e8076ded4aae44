//! Bytes between a worker and a host, both ways, unread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};

// BOUND: what is under way in each direction; a side that does not read holds the other side back.
const BUFFER_BYTES: usize = 64 * 1024;
// BOUND: what one connection may carry in each direction.
const MAX_RELAYED_BYTES: u64 = 256 * 1024 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Relay {
    inside: UnixStream,
    outside: TcpStream,
    up: Half,
    down: Half,
}

/// One direction: what was read and not yet written.
#[derive(Debug)]
struct Half {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    total: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; what is in the buffer is still to be written.
    Ending,
    Done,
}

impl Relay {
    pub(super) fn new(inside: UnixStream, outside: TcpStream) -> io::Result<Self> {
        inside.set_nonblocking(true)?;
        outside.set_nonblocking(true)?;
        outside.set_nodelay(true)?;
        Ok(Self {
            inside,
            outside,
            up: Half::new(),
            down: Half::new(),
        })
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> [PollFd<'_>; 2] {
        let flags = |reads: &Half, writes: &Half| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads.wants_input());
            flags.set(PollFlags::OUT, writes.wants_output());
            flags
        };
        [
            PollFd::new(&self.inside, flags(&self.up, &self.down)),
            PollFd::new(&self.outside, flags(&self.down, &self.up)),
        ]
    }

    /// Moves what can be moved without waiting; `false` when the connection is over.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        if self.up.step(&mut self.inside, &mut self.outside)? {
            self.outside.shutdown(Shutdown::Write)?;
        }
        if self.down.step(&mut self.outside, &mut self.inside)? {
            self.inside.shutdown(Shutdown::Write)?;
        }
        // A worker that wants no more answer has hung up as a whole.
        Ok(self.down.state != State::Done)
    }
}

impl Half {
    fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            total: 0,
            state: State::Open,
        }
    }

    fn wants_input(&self) -> bool {
        self.state == State::Open && self.start == self.end
    }

    fn wants_output(&self) -> bool {
        self.start < self.end
    }

    /// Moves bytes; `true` when this direction has just ended.
    fn step(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<bool> {
        if self.wants_input() {
            match from.read(&mut self.buffer) {
                Ok(0) => self.state = State::Ending,
                Ok(read) => {
                    (self.start, self.end) = (0, read);
                    self.total += read as u64;
                    if self.total > MAX_RELAYED_BYTES {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                }
                Err(error) if would_wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
        while self.wants_output() {
            match to.write(&self.buffer[self.start..self.end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.start += written,
                Err(error) if would_wait(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.state == State::Ending {
            self.state = State::Done;
            return Ok(true);
        }
        Ok(false)
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
