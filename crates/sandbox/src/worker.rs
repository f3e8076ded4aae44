//! A worker at work: one request after the other, until the stream ends.
//!
//! By the time this code runs, the process is confined. It has no secret and no way out but its answers, so
//! nothing here is a check; it only keeps the protocol.

use std::io::{self, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rustix::process::fchdir;

use crate::confine::Opened;
use crate::ctx::{Dispatch, Egress, StopFlag, ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest};
use crate::dir::{Access, Dir};
use crate::egress::Client;
use crate::probe::attacks::{self, Attack};
use crate::shared;
use crate::spec::{MAX_REQUEST_FRAME_BYTES, WorkerSpec, to_otto, to_worker};
use crate::wire::{self, Frame};

// BOUND: a small request and its header come with one read.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// Answers requests until Otto closes the stream.
pub(crate) fn run(
    spec: &WorkerSpec,
    opened: Opened,
    channel: Option<OwnedFd>,
    dispatch: Dispatch,
    stream: &UnixStream,
) -> io::Result<()> {
    let mut ctx = context(spec, opened, channel)?;
    let mut memory = shared::Memory::default();
    let mut requests = BufReader::with_capacity(FIRST_READ_BYTES, stream);
    loop {
        if requests.buffer().is_empty() {
            memory.release_when_idle(stream, shared::KEPT_FOR)?;
        }
        let Some(Frame { tag, payload }) =
            wire::read_frame(&mut requests, MAX_REQUEST_FRAME_BYTES)?
        else {
            return Ok(());
        };
        match tag {
            to_worker::CALL => {
                let request: WorkerRequest = wire::decode(&payload)?;
                drop(payload);
                // After a panic nothing is answered: the process ends, and its end is the answer.
                let Some(answer) = call(&mut ctx, dispatch, &request) else {
                    return Err(io::Error::other("the tool panicked"));
                };
                send(stream, &mut memory, answer)?;
            }
            to_worker::ATTACK => {
                let asked: Vec<Attack> = wire::decode(&payload)?;
                let results = attacks::run(&asked, &ctx);
                wire::write_frame(&mut &*stream, to_otto::ATTACKED, &wire::encode(&results)?)?;
            }
            _ => return Err(wire::BadFrame::Malformed.into()),
        }
    }
}

fn context(spec: &WorkerSpec, opened: Opened, channel: Option<OwnedFd>) -> io::Result<WorkerCtx> {
    let access = if spec.kind.writes() {
        Access::ReadWrite
    } else {
        Access::ReadOnly
    };
    let working_dir = opened
        .working_dir
        .map(|fd| Dir::from_fd(fd, access))
        .transpose()
        .map_err(io::Error::other)?;
    let mut roots = Vec::new();
    for (name, fd) in opened.roots {
        roots.push((
            name,
            Dir::from_fd(fd, Access::ReadOnly).map_err(io::Error::other)?,
        ));
    }
    Ok(WorkerCtx {
        working_dir,
        roots,
        deadline: Instant::now(),
        stop: StopFlag::default(),
        egress: channel.map(|channel| Box::new(Client::new(channel)) as Box<dyn Egress>),
        takes_files: false,
    })
}

/// `None` when the tool panicked.
fn call(ctx: &mut WorkerCtx, dispatch: Dispatch, request: &WorkerRequest) -> Option<WorkerAnswer> {
    ctx.deadline = Instant::now() + request.time_left;
    ctx.takes_files = request.takes_files;
    // Libraries that walk by path start from here; a tool may have gone elsewhere in its last call.
    if let Some(Err(_)) = ctx.working_dir.as_ref().map(|dir| fchdir(as_fd(dir))) {
        let failure =
            ToolFailure::for_operator("enter the working directory: it cannot be entered");
        return Some(WorkerAnswer::Failed(failure));
    }
    match catch_unwind(AssertUnwindSafe(|| dispatch(ctx, request))).ok()? {
        WorkerAnswer::Done { content } if content.len() as u64 > request.max_output_bytes => {
            Some(WorkerAnswer::Failed(ToolFailure::for_model(format!(
                "the answer has {} bytes, more than the {} that are accepted; ask for less at once",
                content.len(),
                request.max_output_bytes
            ))))
        }
        answer => Some(answer),
    }
}

fn as_fd(dir: &Dir) -> BorrowedFd<'_> {
    dir.as_fd()
}

fn send(stream: &UnixStream, memory: &mut shared::Memory, answer: WorkerAnswer) -> io::Result<()> {
    match answer {
        WorkerAnswer::Done { content }
            if content.len() >= shared::FROM_BYTES
                && memory.send(stream, content.as_bytes())? =>
        {
            Ok(())
        }
        WorkerAnswer::Done { content } => {
            wire::write_frame(&mut &*stream, to_otto::DONE, content.as_bytes())
        }
        WorkerAnswer::HandedOver { file, most_bytes } => {
            let payload = wire::encode(&most_bytes)?;
            wire::write_frame_with_handle(stream, to_otto::FILE, &payload, file.as_fd())
        }
        other => wire::write_frame(&mut &*stream, to_otto::ANSWER, &wire::encode(&other)?),
    }
}
