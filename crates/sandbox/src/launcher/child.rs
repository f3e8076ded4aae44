//! Making one process: copy, shed, confine, work.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setpgid, waitpid};

use crate::confine::{self, Prepared};
use crate::ctx::Dispatch;
use crate::spec::{Layers, OrFail, Ready, SetupFailure, Stage, Start, WorkerSpec, to_otto};
use crate::sys::{self, Fork, Namespaces};
use crate::{egress, exec, wire, worker};

/// The processes that one request made.
pub(super) struct Made {
    pub(super) main: Pid,
    pub(super) companion: Option<Pid>,
}

/// Makes what was asked for. In the copies this function does not return.
pub(super) fn start(
    start: &Start,
    prepared: &Prepared,
    dispatch: Dispatch,
    stream: &UnixStream,
    notes: Option<OwnedFd>,
) -> Result<Made, SetupFailure> {
    match start {
        Start::Worker(spec) => start_worker(spec, prepared, dispatch, stream, notes),
        Start::Exec(spec) => {
            let main = copy(spec.layers, &[stream.as_fd()], || {
                exec::supervise(spec, prepared, stream)
            })?;
            Ok(Made {
                main,
                companion: None,
            })
        }
    }
}

fn start_worker(
    spec: &WorkerSpec,
    prepared: &Prepared,
    dispatch: Dispatch,
    stream: &UnixStream,
    notes: Option<OwnedFd>,
) -> Result<Made, SetupFailure> {
    let Some(policy) = &spec.egress else {
        let main = copy(spec.layers, &[stream.as_fd()], || {
            work(spec, prepared, dispatch, stream, None)
        })?;
        return Ok(Made {
            main,
            companion: None,
        });
    };
    let (inside, outside) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .or_fail(
        Stage::Egress,
        "make the channel between the worker and its egress process",
    )?;
    // It has to reach the network, so it stays in the namespaces of the host; everything else is taken from it.
    let layers = spec.layers.without(Layers::NAMESPACES);
    let kept: Vec<BorrowedFd<'_>> = std::iter::once(outside.as_fd())
        .chain(notes.iter().map(AsFd::as_fd))
        .collect();
    let companion = copy(layers, &kept, || {
        let notes = notes.as_ref().map(AsFd::as_fd);
        egress::serve(policy, layers, prepared, outside.as_fd(), notes)
    })?;
    let kept = [stream.as_fd(), inside.as_fd()];
    match copy(spec.layers, &kept, || {
        work(spec, prepared, dispatch, stream, inside.try_clone().ok())
    }) {
        Ok(main) => Ok(Made {
            main,
            companion: Some(companion),
        }),
        Err(failure) => {
            let _ = kill_process(companion, Signal::KILL);
            let _ = waitpid(Some(companion), WaitOptions::empty());
            Err(failure)
        }
    }
}

fn work(
    spec: &WorkerSpec,
    prepared: &Prepared,
    dispatch: Dispatch,
    stream: &UnixStream,
    channel: Option<OwnedFd>,
) -> io::Result<()> {
    match confine::worker(spec, prepared) {
        Ok((opened, landlock_abi)) => {
            let ready = wire::encode(&Ready { landlock_abi })?;
            wire::write_frame(&mut &*stream, to_otto::READY, &ready)?;
            worker::run(spec, opened, channel, dispatch, stream)
        }
        Err(failure) => fail(stream, &failure),
    }
}

/// Says why a process could not be confined; it ends right after.
pub(crate) fn fail(stream: &UnixStream, failure: &SetupFailure) -> io::Result<()> {
    wire::write_frame(&mut &*stream, to_otto::FAILED, &wire::encode(failure)?)
}

/// Copies this process into the namespaces that `layers` ask for. The copy keeps nothing but `keep`, runs
/// `body` and ends.
fn copy(
    layers: Layers,
    keep: &[BorrowedFd<'_>],
    body: impl FnOnce() -> io::Result<()>,
) -> Result<Pid, SetupFailure> {
    let in_namespaces = layers.contains(Layers::NAMESPACES);
    let (namespaces, stage) = if in_namespaces {
        let all = Namespaces::ALL;
        let namespaces = if layers.contains(Layers::NETWORK) {
            all
        } else {
            all.without(Namespaces::NET)
        };
        (namespaces, Stage::Namespaces)
    } else {
        (Namespaces::NONE, Stage::Fork)
    };
    match sys::fork(namespaces).or_fail(stage, "copy the launcher")? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            // A panic must not unwind into the loop of the launcher, of which this process is a copy.
            let ran =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> io::Result<()> {
                    sys::close_all_except(keep)?;
                    // Its own group: whatever it starts can be killed together with it.
                    setpgid(None, None)?;
                    body()
                }));
            sys::exit_now(match ran {
                Ok(Ok(())) => 0,
                Ok(Err(_)) => 1,
                Err(_) => 101,
            })
        }
    }
}
