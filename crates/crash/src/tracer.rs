//! Runs a command under `ptrace` and stops it at every system call that can change what is on disk.
//!
//! The traced process asks for it itself ([`submit`]), so no unsafe code is needed: it lets itself be traced,
//! stops, and installs a filter that reports the calls of [`CALLS`] and lets all others run at full speed.
//! Threads and children are followed. Calls are counted over the whole process tree, in the order in which the
//! kernel would have begun them.
//!
//! It knows nothing of scenarios: what happens at a call is decided by a [`Judge`].
//!
//! Invariant: a call that is judged `Kill` or `Fail` has not been performed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The calls that can change what is on disk, by the names of the manual.
const CALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_write, "write"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwritev, "pwritev"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_mkdirat, "mkdirat"),
];

/// Their forms without a directory handle, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_open, "open"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_link, "link"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_rmdir, "rmdir"),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(libc::c_long, &str)] = &[];

fn calls() -> impl Iterator<Item = (libc::c_long, &'static str)> {
    CALLS.iter().chain(OLD_CALLS).copied()
}

/// Told to a process that shall submit to its parent.
pub(crate) const TRACED: &str = "OTTO_CRASH_TRACED";

/// BOUND: how long a traced process may take before it is ended and counted as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// BOUND: bytes of a path or of written data that are read from the process.
const READ_MAX: usize = 64 * 1024 * 1024;

/// One call that is about to begin.
#[derive(Debug)]
pub(crate) struct Call {
    /// Its name in the manual.
    pub(crate) name: &'static str,
    /// What it is performed on; for a rename, a link: the old name.
    pub(crate) path: PathBuf,
    /// For a rename, a link: the new name.
    pub(crate) to: Option<PathBuf>,
    task: Pid,
    args: [u64; 6],
}

impl Call {
    /// The thread that calls.
    pub(crate) const fn task(&self) -> Pid {
        self.task
    }

    /// The raw arguments.
    pub(crate) const fn args(&self) -> &[u64; 6] {
        &self.args
    }

    /// What `write` and `pwrite64` are about to write.
    pub(crate) fn data(&self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.args[2])?.min(READ_MAX);
        read_memory(self.task, self.args[1], length)
    }

    /// Where `write` is about to write: the position of its handle, or `None` when it appends.
    pub(crate) fn position(&self) -> Result<Option<u64>> {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.task, self.args[0]))
            .context("read where the process writes")?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        let flags = u64::from_str_radix(&field("flags:"), 8)?;
        if flags & u64::from(libc::O_APPEND.unsigned_abs()) != 0 {
            return Ok(None);
        }
        Ok(Some(field("pos:").parse()?))
    }

    /// Whether an `open` cuts the file.
    pub(crate) fn cuts(&self) -> bool {
        self.flags()
            .is_some_and(|flags| flags & u64::from(libc::O_TRUNC.unsigned_abs()) != 0)
    }

    /// The flags of an `open`.
    fn flags(&self) -> Option<u64> {
        match self.name {
            "openat" => Some(self.args[2]),
            // The first field of the structure that tells how.
            "openat2" => {
                let flags = read_memory(self.task, self.args[2], size_of::<u64>()).ok()?;
                Some(u64::from_ne_bytes(flags.try_into().ok()?))
            }
            "open" => Some(self.args[1]),
            _ => None,
        }
    }

    /// Whether it only looks: a file that is opened without being made or cut.
    fn only_looks(&self) -> bool {
        let changing = (libc::O_CREAT | libc::O_TRUNC).unsigned_abs();
        self.flags()
            .is_some_and(|flags| flags & u64::from(changing) == 0)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is performed.
    Go,
    /// It is performed, and the judge hears of its end.
    GoAndTell,
    /// The process dies before it.
    Kill,
    /// It is not performed and returns this error.
    Fail(i32),
    /// It is performed with half its length.
    Short,
}

/// Decides what becomes of the calls of one run.
pub(crate) trait Judge {
    /// A call is about to begin.
    fn begins(&mut self, call: &Call) -> Result<Verdict>;

    /// A call judged [`Verdict::GoAndTell`] has ended.
    fn ended(&mut self, _: &Call) {}
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Signaled(Signal),
    /// It was ended because it took too long.
    Hung,
}

/// Whether this machine lets a process trace its child.
pub(crate) fn is_possible() -> bool {
    cfg!(target_arch = "x86_64") && {
        let Ok(exe) = std::env::current_exe() else {
            return false;
        };
        let mut command = Command::new(exe);
        command.arg("nothing");
        let mut judge = Never;
        matches!(
            run(command, Path::new("/nowhere"), &mut judge),
            Ok(Ended::Exited(0))
        )
    }
}

struct Never;

impl Judge for Never {
    fn begins(&mut self, _: &Call) -> Result<Verdict> {
        Ok(Verdict::Go)
    }
}

/// Runs a command whose program calls [`submit`] first, and judges its calls on things below `watched`.
pub(crate) fn run(mut command: Command, watched: &Path, judge: &mut dyn Judge) -> Result<Ended> {
    let child = command
        .env(TRACED, "1")
        .stdin(Stdio::null())
        .spawn()
        .context("start the traced process")?;
    let main = Pid::from_raw(i32::try_from(child.id())?);
    let (done, is_done) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        let timed_out = is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if timed_out {
            // It is our own child and not yet reaped, or gone already: then there is nothing to end.
            let _ = kill(main, Signal::SIGKILL);
        }
        timed_out
    });
    let ended = Tracer::new(main, watched, judge).follow();
    if ended.is_err() {
        let _ = kill(main, Signal::SIGKILL);
        while waitpid(None::<Pid>, wait_flags()).is_ok() {}
    }
    drop(done);
    match guard.join() {
        Ok(true) => Ok(Ended::Hung),
        _ => ended,
    }
}

fn wait_flags() -> Option<WaitPidFlag> {
    // Only children of this thread: others trace at the same time.
    Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)
}

struct Tracer<'a> {
    main: Pid,
    watched: &'a Path,
    judge: &'a mut dyn Judge,
    seen: BTreeSet<Pid>,
    told: BTreeMap<Pid, Call>,
    names: BTreeMap<u64, &'static str>,
}

impl<'a> Tracer<'a> {
    fn new(main: Pid, watched: &'a Path, judge: &'a mut dyn Judge) -> Self {
        let names = calls()
            .map(|(number, name)| (number.unsigned_abs(), name))
            .collect();
        Self {
            main,
            watched,
            judge,
            seen: BTreeSet::new(),
            told: BTreeMap::new(),
            names,
        }
    }

    fn follow(mut self) -> Result<Ended> {
        match waitpid(self.main, wait_flags()).context("wait for the traced process")? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => bail!("the process did not submit to being traced: {other:?}"),
        }
        self.seen.insert(self.main);
        let options = Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.main, options).context("follow the process")?;
        go_on(self.main, None);
        let mut ended = None;
        loop {
            match waitpid(None::<Pid>, wait_flags()) {
                Err(nix::Error::ECHILD) => break,
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error).context("wait for the traced process"),
                Ok(status) => {
                    if let Some(end) = self.handle(status)? {
                        ended = Some(end);
                    }
                }
            }
        }
        ended.context("the traced process ended without a status")
    }

    fn handle(&mut self, status: WaitStatus) -> Result<Option<Ended>> {
        match status {
            WaitStatus::Exited(pid, code) if pid == self.main => {
                return Ok(Some(Ended::Exited(code)));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                return Ok(Some(Ended::Signaled(signal)));
            }
            WaitStatus::PtraceEvent(task, _, libc::PTRACE_EVENT_SECCOMP) => self.judge(task)?,
            WaitStatus::PtraceEvent(task, ..) => go_on(task, None),
            WaitStatus::PtraceSyscall(task) => {
                if let Some(call) = self.told.remove(&task) {
                    self.judge.ended(&call);
                }
                go_on(task, None);
            }
            // A new thread or child stops once before it begins.
            WaitStatus::Stopped(task, Signal::SIGSTOP) if self.seen.insert(task) => {
                go_on(task, None);
            }
            WaitStatus::Stopped(task, signal) => go_on(task, Some(signal)),
            _ => {}
        }
        Ok(None)
    }

    fn judge(&mut self, task: Pid) -> Result<()> {
        // A task that was killed meanwhile answers nothing more.
        let Some(call) = self.call(task) else {
            go_on(task, None);
            return Ok(());
        };
        let touches = |path: &Path| path.starts_with(self.watched);
        let is_watched = touches(&call.path) || call.to.as_deref().is_some_and(touches);
        if !is_watched || call.only_looks() {
            go_on(task, None);
            return Ok(());
        }
        match self.judge.begins(&call)? {
            Verdict::Go => go_on(task, None),
            Verdict::GoAndTell => {
                // Gone meanwhile: its end is told by `waitpid`.
                let _ = ptrace::syscall(task, None);
                self.told.insert(task, call);
            }
            Verdict::Kill => {
                kill(process_of(task).unwrap_or(task), Signal::SIGKILL)
                    .context("end the process")?;
            }
            Verdict::Fail(errno) => alter(task, Alteration::Skip { errno }),
            Verdict::Short => alter(task, Alteration::Halve),
        }
        Ok(())
    }

    fn call(&self, task: Pid) -> Option<Call> {
        let (number, args) = arguments(task)?;
        let name = *self.names.get(&number)?;
        let by_handle = |handle: u64| -> Option<PathBuf> {
            fs::read_link(format!("/proc/{task}/fd/{}", handle_in(handle))).ok()
        };
        let by_name = |dir: Option<u64>, name: u64| -> Option<PathBuf> {
            let name = read_path(task, name)?;
            if name.is_absolute() {
                return Some(name);
            }
            let dir = match dir {
                Some(handle) if handle_in(handle) != libc::AT_FDCWD => by_handle(handle)?,
                _ => fs::read_link(format!("/proc/{task}/cwd")).ok()?,
            };
            Some(dir.join(name))
        };
        let (path, to) = match name {
            "rename" | "link" => (by_name(None, args[0])?, by_name(None, args[1])),
            "renameat" | "renameat2" | "linkat" => (
                by_name(Some(args[0]), args[1])?,
                by_name(Some(args[2]), args[3]),
            ),
            "openat" | "openat2" | "unlinkat" | "mkdirat" => {
                (by_name(Some(args[0]), args[1])?, None)
            }
            "open" | "unlink" | "mkdir" | "rmdir" => (by_name(None, args[0])?, None),
            "copy_file_range" => (by_handle(args[2])?, None),
            _ => (by_handle(args[0])?, None),
        };
        Some(Call {
            name,
            path,
            to,
            task,
            args,
        })
    }
}

/// A handle as a register holds it: the lower half, with a sign.
fn handle_in(register: u64) -> i32 {
    u32::try_from(register & u64::from(u32::MAX))
        .unwrap_or_default()
        .cast_signed()
}

enum Alteration {
    Skip { errno: i32 },
    Halve,
}

#[cfg(target_arch = "x86_64")]
fn arguments(task: Pid) -> Option<(u64, [u64; 6])> {
    let regs = ptrace::getregs(task).ok()?;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    Some((regs.orig_rax, args))
}

#[cfg(target_arch = "x86_64")]
fn alter(task: Pid, alteration: Alteration) {
    // Gone meanwhile: its end is told by `waitpid`.
    if let Ok(mut regs) = ptrace::getregs(task) {
        match alteration {
            Alteration::Skip { errno } => {
                regs.orig_rax = u64::MAX;
                regs.rax = i64::from(-errno).cast_unsigned();
            }
            Alteration::Halve => regs.rdx = (regs.rdx / 2).max(1),
        }
        let _ = ptrace::setregs(task, regs);
    }
    go_on(task, None);
}

#[cfg(not(target_arch = "x86_64"))]
fn arguments(_: Pid) -> Option<(u64, [u64; 6])> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn alter(task: Pid, _: Alteration) {
    go_on(task, None);
}

/// A task that was killed meanwhile cannot go on; its end is told by `waitpid`.
fn go_on(task: Pid, signal: Option<Signal>) {
    let _ = ptrace::cont(task, signal);
}

fn process_of(task: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Some(Pid::from_raw(line.trim().parse().ok()?))
}

fn read_memory(task: Pid, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(format!("/proc/{task}/mem"))
        .and_then(|memory| memory.read_exact_at(&mut bytes, at))
        .context("read what the process writes")?;
    Ok(bytes)
}

fn read_path(task: Pid, at: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{task}/mem")).ok()?;
    let mut bytes = Vec::new();
    // In pieces that end with a page: the next page may not be there.
    while bytes.len() < libc::PATH_MAX.unsigned_abs() as usize {
        let from = at + bytes.len() as u64;
        let mut piece = [0; 256];
        let most = usize::try_from(256 - from % 256).ok()?;
        memory.read_exact_at(&mut piece[..most], from).ok()?;
        if let Some(end) = piece[..most].iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&piece[..end]);
            return Some(PathBuf::from(String::from_utf8(bytes).ok()?));
        }
        bytes.extend_from_slice(&piece[..most]);
    }
    None
}

/// The traced side: lets the parent trace this process, if it wants to, and reports the calls from now on.
pub(crate) fn submit() -> Result<()> {
    if std::env::var_os(TRACED).is_none() {
        return Ok(());
    }
    ptrace::traceme().context("be traced")?;
    kill(Pid::this(), Signal::SIGSTOP).context("stop")?;
    let rules = calls().map(|(number, _)| (number, Vec::new())).collect();
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| anyhow::anyhow!("no filter for this architecture"))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("report system calls")?;
    Ok(())
}
