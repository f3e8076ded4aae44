//! The launcher's loop: start requests in, endings out.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, chdir,
    kill_process, kill_process_group, pidfd_open, set_dumpable_behavior, setsid, waitid,
};

use crate::confine::namespaces::Ids;
use crate::confine::seccomp::Filters;
use crate::confine::{Prepared, own_number};
use crate::ctx::Dispatch;
use crate::spec::{Ended, MAX_START_BYTES, SetupFailure, Stage, Start, to_otto};
use crate::wire;

use super::child;

// BOUND: endings handled per round; the rest come in the next one.
const EVENTS_PER_ROUND: usize = 64;

/// One process and what belongs to it.
struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// The same stream the process has. `None` for a companion.
    stream: Option<UnixStream>,
    /// The egress process of an http worker; the other way round for the egress process.
    companion: Option<u64>,
}

struct Service {
    dispatch: Dispatch,
    prepared: Result<Prepared, SetupFailure>,
    epoll: OwnedFd,
    children: BTreeMap<u64, Child>,
    next: u64,
}

/// Runs the launcher until Otto is gone. Never returns.
pub(crate) fn run(control: OwnedFd, dispatch: Dispatch) -> ! {
    let code = match serve(&control, dispatch) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    // Whatever is left dies with this process: each child has asked the kernel for that.
    crate::sys::exit_now(code)
}

fn serve(control: &OwnedFd, dispatch: Dispatch) -> io::Result<()> {
    seal(control)?;
    // A worker that panics answers with an error; it prints nothing anywhere.
    std::panic::set_hook(Box::new(|_| {}));
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        control,
        epoll::EventData::new_u64(CONTROL),
        epoll::EventFlags::IN,
    )?;
    let mut service = Service {
        dispatch,
        prepared: prepare(),
        epoll,
        children: BTreeMap::new(),
        next: FIRST_CHILD,
    };
    let mut events = Vec::with_capacity(EVENTS_PER_ROUND);
    loop {
        match epoll::wait(
            &service.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                CONTROL => {
                    if !service.receive(control)? {
                        return Ok(());
                    }
                }
                // Even numbers are the process ends, odd ones the streams.
                data if data % 2 == 0 => service.ended(data / 2),
                data => service.dropped(data / 2),
            }
        }
    }
}

const CONTROL: u64 = 0;
const FIRST_CHILD: u64 = 1;

/// Leaves everything behind that came with the start: terminal, directory, handles.
fn seal(control: &OwnedFd) -> io::Result<()> {
    // Handles that the program had open before it started the sandbox, and forgot to mark as its own.
    crate::sys::close_all_except(&[control.as_fd()])?;
    // A new session has no terminal, so no copy of this process can type on the user's.
    let _ = setsid();
    chdir("/")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    crate::confine::limits::raise_open_files();
    let _ = crate::confine::limits::no_core();
    if Ids::current().uid == 0 {
        // Groups of root would follow every copy; without the privilege there are none to lose.
        let _ = rustix::thread::set_thread_groups(&[]);
    }
    Ok(())
}

fn prepare() -> Result<Prepared, SetupFailure> {
    Ok(Prepared {
        filters: Filters::compile()?,
        landlock_abi: crate::sys::landlock_abi().unwrap_or(0),
        ids: Ids::current(),
        launcher: own_number()?,
    })
}

impl Service {
    /// Takes one request; `false` when Otto is gone.
    fn receive(&mut self, control: &OwnedFd) -> io::Result<bool> {
        let mut message = vec![0; MAX_START_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut slices = [IoSliceMut::new(&mut message)];
            match recvmsg(
                control,
                &mut slices,
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            ) {
                Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
                other => other?,
            }
        };
        let handles: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(handles) => Some(handles),
                _ => None,
            })
            .flatten()
            .collect();
        if received.bytes == 0 && handles.is_empty() {
            return Ok(false);
        }
        let mut handles = handles.into_iter();
        let Some(stream) = handles.next().map(UnixStream::from) else {
            return Ok(true);
        };
        let notes = handles.next();
        let whole = !received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        let start = wire::decode::<Start>(&message[..received.bytes]);
        drop(message);
        let started = match start {
            // A panic here must not end the launcher, or every worker would end with it.
            Ok(start) if whole => {
                catch_unwind(AssertUnwindSafe(|| self.start(&start, &stream, notes)))
                    .unwrap_or_else(|_| {
                        Err(SetupFailure::refused(
                            Stage::Fork,
                            "the launcher failed; this is a bug",
                        ))
                    })
            }
            _ => Err(SetupFailure::refused(
                Stage::Request,
                "the request is not one that this binary makes",
            )),
        };
        if let Err(failure) = started {
            report(&stream, to_otto::FAILED, &failure);
        }
        Ok(true)
    }

    fn start(
        &mut self,
        start: &Start,
        stream: &UnixStream,
        notes: Option<OwnedFd>,
    ) -> Result<(), SetupFailure> {
        let prepared = self.prepared.as_ref().map_err(Clone::clone)?;
        let made = child::start(start, prepared, self.dispatch, stream, notes)?;
        let kept = stream.try_clone().map_err(|error| {
            SetupFailure::system(Stage::Fork, "keep a handle of the stream", error)
        });
        let kept = match kept {
            Ok(kept) => kept,
            Err(failure) => {
                let _ = kill_process(made.main, Signal::KILL);
                return Err(failure);
            }
        };
        let main = self.add(made.main, Some(kept))?;
        if let Some(companion) = made.companion {
            let other = self.add(companion, None)?;
            self.join(main, other);
        }
        Ok(())
    }

    fn add(&mut self, pid: Pid, stream: Option<UnixStream>) -> Result<u64, SetupFailure> {
        let watched = || -> io::Result<OwnedFd> {
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            let number = self.next;
            epoll::add(
                &self.epoll,
                &pidfd,
                epoll::EventData::new_u64(number * 2),
                epoll::EventFlags::IN,
            )?;
            if let Some(stream) = &stream {
                // No events are asked for: the end of the stream is always reported.
                let data = epoll::EventData::new_u64(number * 2 + 1);
                epoll::add(&self.epoll, stream, data, epoll::EventFlags::empty())?;
            }
            Ok(pidfd)
        };
        match watched() {
            Ok(pidfd) => {
                let number = self.next;
                self.next += 1;
                self.children.insert(
                    number,
                    Child {
                        pid,
                        pidfd,
                        stream,
                        companion: None,
                    },
                );
                Ok(number)
            }
            Err(error) => {
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                Err(SetupFailure::system(
                    Stage::Fork,
                    "watch the new process",
                    error,
                ))
            }
        }
    }

    fn join(&mut self, one: u64, other: u64) {
        if let Some(child) = self.children.get_mut(&one) {
            child.companion = Some(other);
        }
        if let Some(child) = self.children.get_mut(&other) {
            child.companion = Some(one);
        }
    }

    /// Otto has let go of a stream.
    fn dropped(&mut self, number: u64) {
        if let Some(child) = self.children.get_mut(&number) {
            kill(child);
            // The end of the stream would be reported for ever.
            child.stream = None;
        }
    }

    /// A process has ended.
    fn ended(&mut self, number: u64) {
        let Some(child) = self.children.remove(&number) else {
            return;
        };
        // At level l1 the rest of a program's group may still live. The leader is not yet collected, so its
        // number cannot belong to anybody else.
        let _ = kill_process_group(child.pid, Signal::KILL);
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
        if let Some(stream) = &child.stream {
            report(stream, to_otto::ENDED, &ending(status.ok().flatten()));
        }
        if let Some(companion) = child
            .companion
            .and_then(|number| self.children.get(&number))
        {
            kill(companion);
        }
    }
}

fn kill(child: &Child) {
    // The process is not yet collected, so the numbers are its own. It may not lead a group yet.
    let _ = kill_process_group(child.pid, Signal::KILL);
    let _ = kill_process(child.pid, Signal::KILL);
}

fn ending(status: Option<WaitIdStatus>) -> Ended {
    let Some(status) = status else {
        return Ended::Code(-1);
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Code(-1),
    }
}

/// Writes one small frame without ever waiting for the other side.
fn report(stream: &UnixStream, tag: u8, what: &impl serde::Serialize) {
    let Ok(payload) = wire::encode(what) else {
        return;
    };
    let Ok(header) = wire::header(tag, payload.len()) else {
        return;
    };
    let frame = [&header[..], &payload].concat();
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    // A reader that has let the buffer fill up learns of the end from the end of the stream.
    let _ = rustix::net::send(stream, &frame, flags);
}
