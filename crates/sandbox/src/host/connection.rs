//! One worker, seen from Otto: a stream of frames.
//!
//! Dropping a connection kills the worker, in whatever state it is.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use otto_core::policy::WouldDeny;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags,
    SocketType, recv, recvmsg, send, socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::boot::Booted;
use crate::ctx::{WorkerAnswer, WorkerRequest};
use crate::egress::{MAX_ASK_BYTES, UnlistedHost};
use crate::handed::{self, NotTaken};
use crate::probe::attacks::{Attack, Attacked};
use crate::shared;
use crate::spec::{Ended, Ready, SetupFailure, Start, to_otto, to_worker};
use crate::sys;
use crate::wire::{self, BadFrame};

// BOUND: a start takes milliseconds; on a machine this slow nothing else works either.
const START_TIMEOUT: Duration = Duration::from_secs(20);
// BOUND: how long to wait before asking a busy launcher again.
const LAUNCHER_RETRY: Duration = Duration::from_millis(1);
// BOUND: frames that are not answers of tools.
const MAX_CONTROL_BYTES: u64 = 256 * 1024;
// BOUND: what an answer's encoding adds to its text.
const ANSWER_OVERHEAD_BYTES: u64 = 64 * 1024;

/// A live process behind a stream.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Watched for what comes and not for room to send: a worker makes room with every request that it reads, and
    /// each time this process would wake up for it.
    stream: AsyncFd<UnixStream>,
    /// Where its egress process writes notes, in audit mode.
    notes: Option<OwnedFd>,
    /// What has been read beyond the last frame.
    pending: Vec<u8>,
    /// Whether files of this worker can be taken open.
    takes_files: bool,
}

/// Why a worker gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// It could not be confined, so it did not start.
    #[error(transparent)]
    Setup(#[from] SetupFailure),
    /// It ended.
    #[error("the worker ended before it answered: {0}")]
    Ended(Ended),
    /// It sent what no worker sends.
    #[error("the worker broke the protocol: {0}")]
    Protocol(&'static str),
    /// The stream or the launcher failed.
    #[error("talk to the worker: {0}")]
    Io(#[from] io::Error),
    /// It did not start in time.
    #[error("the worker was not ready after {} s", START_TIMEOUT.as_secs())]
    SlowStart,
}

impl From<BadFrame> for CallError {
    fn from(bad: BadFrame) -> Self {
        Self::Protocol(match bad {
            BadFrame::TooLong { .. } => "a frame is longer than allowed",
            BadFrame::Malformed => "a frame is malformed",
        })
    }
}

impl Connection {
    /// Starts a process and returns at once; the process reports over the stream.
    pub(crate) async fn start(booted: &Booted, start: &Start) -> Result<Self, CallError> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (notes, their_notes) = match start {
            Start::Worker(spec) if spec.audit && spec.egress.is_some() => {
                let (ours, theirs) = socketpair(
                    AddressFamily::UNIX,
                    SocketType::SEQPACKET,
                    SocketFlags::CLOEXEC,
                    None,
                )
                .map_err(io::Error::from)?;
                (Some(ours), Some(theirs))
            }
            _ => (None, None),
        };
        loop {
            let their_notes = their_notes.as_ref().map(AsFd::as_fd);
            match booted.request(start, theirs.as_fd(), their_notes) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(LAUNCHER_RETRY).await
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(io::Error::other(
                        "the launcher of the sandbox is gone; restart the program",
                    )
                    .into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            stream: sys::watched(ours, Interest::READABLE)?,
            notes,
            pending: Vec::new(),
            takes_files: true,
        })
    }

    /// The hosts that audit mode has let pass since the last time, each told before it was looked up.
    pub(crate) fn take_notes(&self) -> Vec<WouldDeny> {
        let mut taken = Vec::new();
        let Some(notes) = &self.notes else {
            return taken;
        };
        let mut message = [0; MAX_ASK_BYTES];
        while let Ok((read, _)) = recv(notes, &mut message, RecvFlags::DONTWAIT) {
            let Ok(UnlistedHost { host, port }) = wire::decode(&message[..read]) else {
                break;
            };
            taken.push(WouldDeny::Host {
                host: host.into(),
                port,
            });
        }
        taken
    }

    /// Starts a worker and waits until it is confined.
    pub(crate) async fn start_worker(
        booted: &Booted,
        start: &Start,
    ) -> Result<(Self, Ready), CallError> {
        let starting = async {
            let mut connection = Self::start(booted, start).await?;
            let frame = connection.receive(MAX_CONTROL_BYTES).await?;
            match frame.tag {
                to_otto::READY => Ok((connection, wire::decode(&frame.payload)?)),
                _ => Err(CallError::Protocol(
                    "its first frame says neither that it is ready nor why not",
                )),
            }
        };
        tokio::time::timeout(START_TIMEOUT, starting)
            .await
            .unwrap_or(Err(CallError::SlowStart))
    }

    /// Whether the worker waits for a request: it has not ended and has not spoken unasked.
    pub(crate) fn is_waiting(&self) -> bool {
        let look = |stream: &UnixStream| Ok(recv(stream, &mut [0], RecvFlags::DONTWAIT)?);
        self.pending.is_empty()
            && matches!(self.stream.try_io(Interest::READABLE, look), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// One call, asked a second time if the worker answers with a file that is not taken. After an error the
    /// connection must not be used again.
    pub(crate) async fn call(
        &mut self,
        request: &mut WorkerRequest,
    ) -> Result<WorkerAnswer, CallError> {
        request.takes_files &= self.takes_files;
        let mut frame = self.ask(request).await?;
        if frame.tag == to_otto::FILE && request.takes_files {
            let most_bytes: u64 = wire::decode(&frame.payload)?;
            let file = frame.handle.ok_or(NO_HANDLE)?;
            match handed::take(&file, most_bytes.min(request.max_output_bytes)) {
                Ok(content) => return Ok(WorkerAnswer::Done { content }),
                Err(NotTaken::NeverHere) => self.takes_files = false,
                Err(NotTaken::NotThisTime) => {}
            }
            request.takes_files = false;
            frame = self.ask(request).await?;
        }
        match frame.tag {
            to_otto::DONE | to_otto::SHARED => match text_of(frame, request.max_output_bytes)? {
                Ok(content) if content.len() as u64 <= request.max_output_bytes => {
                    Ok(WorkerAnswer::Done { content })
                }
                Ok(_) => Err(CallError::Protocol(
                    "an answer is longer than was asked for",
                )),
                Err(_) => Err(CallError::Protocol("an answer is not UTF-8")),
            },
            to_otto::ANSWER => match wire::decode(&frame.payload)? {
                WorkerAnswer::Done { .. } | WorkerAnswer::HandedOver { .. } => {
                    Err(CallError::Protocol("an answer has the wrong tag"))
                }
                answer => Ok(answer),
            },
            _ => Err(CallError::Protocol("a frame came that is no answer")),
        }
    }

    async fn ask(&mut self, request: &WorkerRequest) -> Result<Received, CallError> {
        self.send(to_worker::CALL, &wire::encode(request)?).await?;
        let cap = request
            .max_output_bytes
            .saturating_add(ANSWER_OVERHEAD_BYTES);
        self.receive(cap).await
    }

    /// Lets the worker attack its own confinement.
    pub(crate) async fn attack(&mut self, attacks: &[Attack]) -> Result<Vec<Attacked>, CallError> {
        self.send(to_worker::ATTACK, &wire::encode(&attacks)?)
            .await?;
        let frame = self.receive(MAX_CONTROL_BYTES).await?;
        match frame.tag {
            to_otto::ATTACKED => Ok(wire::decode(&frame.payload)?),
            _ => Err(CallError::Protocol("a frame came that holds no results")),
        }
    }

    async fn send(&mut self, tag: u8, payload: &[u8]) -> Result<(), CallError> {
        let header = wire::header(tag, payload.len())?;
        // A payload of this size fits into one write with its header.
        const SMALL: usize = 16 * 1024;
        if payload.len() <= SMALL {
            self.write_all(&[&header[..], payload].concat()).await?;
        } else {
            self.write_all(&header).await?;
            self.write_all(payload).await?;
        }
        Ok(())
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let write = |stream: &UnixStream, bytes: &[u8]| -> io::Result<usize> {
            Ok(send(
                stream,
                bytes,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )?)
        };
        // Most requests fit into the buffer of the stream.
        match write(self.stream.get_ref(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let room = sys::watched(self.stream.get_ref().try_clone()?, Interest::WRITABLE)?;
        while !bytes.is_empty() {
            let written = room
                .async_io(Interest::WRITABLE, |stream| write(stream, bytes))
                .await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// The next frame, unless it says that the process failed or ended.
    pub(crate) async fn receive(&mut self, cap: u64) -> Result<Received, CallError> {
        let frame = self.receive_any(cap).await?;
        match frame.tag {
            to_otto::FAILED => Err(wire::decode::<SetupFailure>(&frame.payload)?.into()),
            to_otto::ENDED => Err(CallError::Ended(wire::decode(&frame.payload)?)),
            _ => Ok(frame),
        }
    }

    async fn receive_any(&mut self, cap: u64) -> Result<Received, CallError> {
        let mut handle = None;
        let mut start = std::mem::take(&mut self.pending);
        while start.len() < wire::HEADER_BYTES {
            let mut chunk = vec![0; FIRST_READ_BYTES];
            match self.read_with_handle(&mut chunk, &mut handle).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                read => start.extend_from_slice(&chunk[..read]),
            }
        }
        let (header, rest) = start.split_at(wire::HEADER_BYTES);
        let header = header.try_into().expect("it was split there");
        let (tag, announced) = wire::parse_header(header, cap)?;
        let of_frame = usize::try_from(announced).map_or(rest.len(), |bytes| bytes.min(rest.len()));
        // What the launcher says of the worker's end may have come with its last answer.
        self.pending = rest[of_frame..].to_vec();
        let mut payload = Vec::with_capacity(wire::first_allocation(announced));
        payload.extend_from_slice(&rest[..of_frame]);
        self.read_rest(&mut payload, announced).await?;
        Ok(Received {
            tag,
            payload,
            handle,
        })
    }

    /// Reads until `payload` has the announced length; what is beyond stays pending.
    async fn read_rest(&mut self, payload: &mut Vec<u8>, announced: u64) -> Result<(), CallError> {
        while (payload.len() as u64) < announced {
            if payload.len() == payload.capacity() {
                // Doubles: memory grows with what really arrives.
                payload.reserve(1);
            }
            let read = self
                .stream
                .async_io(Interest::READABLE, |stream| {
                    let spare = rustix::buffer::spare_capacity(payload);
                    Ok(recv(stream, spare, RecvFlags::DONTWAIT)?.0)
                })
                .await?;
            if read == 0 {
                return Err(CallError::Protocol("the stream ended inside a frame"));
            }
        }
        if let Ok(announced) = usize::try_from(announced)
            && payload.len() > announced
        {
            self.pending = payload.split_off(announced);
        }
        Ok(())
    }

    /// Reads what is there, and keeps the first handle that comes with it.
    async fn read_with_handle(
        &self,
        buffer: &mut [u8],
        kept: &mut Option<OwnedFd>,
    ) -> io::Result<usize> {
        self.stream
            .async_io(Interest::READABLE, |stream| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let received = recvmsg(
                    stream,
                    &mut [IoSliceMut::new(buffer)],
                    &mut ancillary,
                    RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
                )?;
                let handles = ancillary.drain().filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(handles) => Some(handles),
                    _ => None,
                });
                // Handles beyond the first are closed here.
                for handle in handles.flatten() {
                    kept.get_or_insert(handle);
                }
                Ok(received.bytes)
            })
            .await
    }
}

/// A frame and the handle that came with it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) tag: u8,
    pub(crate) payload: Vec<u8>,
    handle: Option<OwnedFd>,
}

const NO_HANDLE: CallError = CallError::Protocol("a handle was announced and none came");

// BOUND: a small answer and its header come with one read.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// The text of an answer, wherever it is; an error inside when it is not UTF-8.
fn text_of(
    frame: Received,
    cap: u64,
) -> Result<Result<String, std::string::FromUtf8Error>, CallError> {
    if frame.tag == to_otto::DONE {
        return Ok(String::from_utf8(frame.payload));
    }
    let memory = frame.handle.ok_or(NO_HANDLE)?;
    let content = shared::receive(&memory, wire::decode(&frame.payload)?, cap)?;
    Ok(String::from_utf8(content))
}
