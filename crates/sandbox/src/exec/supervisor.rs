//! The supervisor of one program.

use std::io::{self, PipeReader, Read, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_current_process_group, pidfd_open, wait,
};

use crate::confine::{self, Prepared, Tie, namespaces, open_pinned};
use crate::ctx::{ExecEnd, ExecOutcome};
use crate::launcher;
use crate::spec::{
    ExecNetwork, ExecProgram, ExecSpec, Layers, OrFail, SetupFailure, Stage, to_otto,
};
use crate::sys::{self, Fork};
use crate::wire;

use super::capture::Capture;
use super::program::{Streams, become_program};
use super::view;

// BOUND: what is kept of each stream, whatever was asked for.
pub(crate) const MAX_CAPTURE_BYTES: u64 = 8 * 1024 * 1024;
// BOUND: how long an orphan that has ended waits to be collected.
const COLLECT_EVERY: Duration = Duration::from_millis(200);
// BOUND: one read of a pipe; the kernel keeps no more in it.
const CHUNK_BYTES: usize = 64 * 1024;
// BOUND: the reason why a program did not start.
const MAX_FAILURE_BYTES: u64 = 4 * 1024;

/// Runs the program of `spec` to its end and reports. Called in a process that has just been copied.
pub(crate) fn supervise(
    spec: &ExecSpec,
    prepared: &Prepared,
    stream: &UnixStream,
) -> io::Result<()> {
    let outcome = match prepare(spec, prepared).and_then(|()| run(spec, prepared, stream)) {
        Ok(outcome) => outcome,
        Err(failure) => return launcher::fail(stream, &failure),
    };
    // Returning ends this process, and with it whatever the program left behind.
    match outcome {
        Some(outcome) => {
            wire::write_frame(&mut &*stream, to_otto::EXECUTED, &wire::encode(&outcome)?)
        }
        None => Ok(()),
    }
}

fn prepare(spec: &ExecSpec, prepared: &Prepared) -> Result<(), SetupFailure> {
    let in_namespaces = spec.layers.contains(Layers::NAMESPACES);
    if in_namespaces {
        namespaces::map(prepared.ids)?;
    }
    let tie = match in_namespaces {
        true => Some(Tie::to_launcher(prepared)?),
        false => None,
    };
    let working_dir = open_pinned(&spec.working_dir)?;
    if in_namespaces {
        view::enter(spec, working_dir, prepared.ids)?;
        if spec.network == ExecNetwork::Loopback {
            let socket = socket_with(
                AddressFamily::INET,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC,
                None,
            )
            .or_fail(
                Stage::Namespaces,
                "make a socket to bring the loopback interface up",
            )?;
            sys::loopback_up(socket.as_fd())
                .or_fail(Stage::Namespaces, "bring the loopback interface up")?;
        }
    } else if spec.layers.contains(Layers::PROTECTED) {
        confine::refuse_protected(&working_dir, &spec.protected)?;
    }
    confine::lock_memory()?;
    if spec.layers.contains(Layers::CAPABILITIES) {
        confine::capabilities::drop_all()?;
    }
    if let Some(tie) = tie {
        // Dropping capabilities clears it.
        tie.renew()?;
    }
    Ok(())
}

/// `None` when Otto is gone and nobody waits for the outcome.
fn run(
    spec: &ExecSpec,
    prepared: &Prepared,
    stream: &UnixStream,
) -> Result<Option<ExecOutcome>, SetupFailure> {
    const STAGE: Stage = Stage::Program;
    let (stdout, program_stdout) = pipe().or_fail(STAGE, "make a pipe")?;
    let (stderr, program_stderr) = pipe().or_fail(STAGE, "make a pipe")?;
    let (failure, program_failure) = pipe().or_fail(STAGE, "make a pipe")?;
    let started = Instant::now();
    let program =
        match sys::fork(sys::Namespaces::NONE).or_fail(STAGE, "make a process for the program")? {
            Fork::Parent(pid) => pid,
            Fork::Child => {
                let streams = Streams {
                    stdout: program_stdout,
                    stderr: program_stderr,
                    failure: program_failure,
                };
                let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    become_program(spec, prepared, streams)
                }));
                sys::exit_now(if matches!(ran, Ok(Ok(()))) { 0 } else { 1 });
            }
        };
    drop((program_stdout, program_stderr, program_failure));
    if let Some(reason) =
        start_failure(failure).or_fail(STAGE, "read why the program did not start")?
    {
        return Ok(Some(ExecOutcome {
            end: ExecEnd::NotStarted(reason),
            stdout: Vec::new(),
            stderr: Vec::new(),
            cut: false,
            elapsed: started.elapsed(),
        }));
    }
    let watched = Watched {
        program,
        pidfd: pidfd_open(program, PidfdFlags::empty()).or_fail(STAGE, "watch the program")?,
        outputs: [Output::new(stdout, spec), Output::new(stderr, spec)],
        deadline: started + time_limit(spec),
    };
    let ended = watched
        .watch(stream, spec.layers)
        .or_fail(STAGE, "watch the program")?;
    Ok(ended.map(|(end, [stdout, stderr])| {
        let (stdout, cut_stdout) = stdout.finish();
        let (stderr, cut_stderr) = stderr.finish();
        ExecOutcome {
            end,
            stdout,
            stderr,
            cut: cut_stdout || cut_stderr,
            elapsed: started.elapsed(),
        }
    }))
}

/// The pipe closes by itself when the program takes over.
fn start_failure(failure: PipeReader) -> io::Result<Option<String>> {
    let mut reason = Vec::new();
    failure.take(MAX_FAILURE_BYTES).read_to_end(&mut reason)?;
    Ok(if reason.is_empty() {
        None
    } else {
        Some(String::from_utf8_lossy(&reason).into_owned())
    })
}

fn time_limit(spec: &ExecSpec) -> Duration {
    // BOUND: nothing runs for longer than a day.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    match &spec.program {
        ExecProgram::Run(request) => request.time_limit.min(LONGEST),
        ExecProgram::Attack(_) => Duration::from_secs(30),
    }
}

struct Output {
    /// `None` when it has ended.
    pipe: Option<PipeReader>,
    capture: Capture,
}

impl Output {
    fn new(pipe: PipeReader, spec: &ExecSpec) -> Self {
        let limit = match &spec.program {
            ExecProgram::Run(request) => request.max_output_bytes.min(MAX_CAPTURE_BYTES),
            ExecProgram::Attack(_) => MAX_CAPTURE_BYTES,
        };
        // Without it, draining a pipe that an orphan holds open would wait for the orphan.
        let _ = ioctl_fionbio(&pipe, true);
        Self {
            pipe: Some(pipe),
            capture: Capture::new(usize::try_from(limit).unwrap_or(usize::MAX)),
        }
    }

    /// Reads what is there, at most one pipe full.
    fn take(&mut self, buffer: &mut [u8]) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(buffer) {
            Ok(0) => self.pipe = None,
            Ok(read) => self.capture.push(&buffer[..read]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.pipe = None,
        }
    }

    fn finish(self) -> (Vec<u8>, bool) {
        self.capture.finish()
    }
}

struct Watched {
    program: Pid,
    pidfd: OwnedFd,
    outputs: [Output; 2],
    deadline: Instant,
}

impl Watched {
    /// Waits for the end of the program, of its time, or of Otto.
    fn watch(
        mut self,
        stream: &UnixStream,
        layers: Layers,
    ) -> io::Result<Option<(ExecEnd, [Output; 2])>> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let now = Instant::now();
            if now >= self.deadline {
                return Ok(Some((ExecEnd::TimedOut, self.outputs)));
            }
            let ready = self.wait(stream, (self.deadline - now).min(COLLECT_EVERY))?;
            if ready.otto_is_gone {
                if !layers.contains(Layers::NAMESPACES) {
                    // There is no namespace that ends with this process; the group is all there is.
                    let _ = kill_current_process_group(Signal::KILL);
                }
                return Ok(None);
            }
            for (output, is_ready) in self.outputs.iter_mut().zip(ready.outputs) {
                if is_ready {
                    output.take(&mut buffer);
                }
            }
            if let Some(end) = self.collect()? {
                // What the program wrote before its end is in the pipes, and no more than fits into them.
                for output in &mut self.outputs {
                    output.take(&mut buffer);
                }
                return Ok(Some((end, self.outputs)));
            }
        }
    }

    fn wait(&self, stream: &UnixStream, at_most: Duration) -> io::Result<Ready> {
        let timeout = Timespec::try_from(at_most).map_err(|_| Errno::INVAL)?;
        let mut fds = vec![
            PollFd::new(&self.pidfd, PollFlags::IN),
            PollFd::new(stream, PollFlags::empty()),
        ];
        for output in &self.outputs {
            if let Some(pipe) = &output.pipe {
                fds.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut rest = fds[2..].iter().map(|fd| !fd.revents().is_empty());
        let outputs = [&self.outputs[0], &self.outputs[1]]
            .map(|output| output.pipe.is_some() && rest.next().unwrap_or(false));
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        Ok(Ready {
            otto_is_gone: fds[1].revents().intersects(gone),
            outputs,
        })
    }

    /// Collects every process that has ended, whatever group it went to; says how the program did if it is among them.
    fn collect(&self) -> io::Result<Option<ExecEnd>> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => return Ok(Some(end_of(status))),
                // An orphan that came to process 1 of its namespace.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Ready {
    otto_is_gone: bool,
    outputs: [bool; 2],
}

fn end_of(status: WaitStatus) -> ExecEnd {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExecEnd::Exited(code),
        (None, Some(signal)) => ExecEnd::Signaled(signal),
        (None, None) => ExecEnd::Exited(-1),
    }
}
