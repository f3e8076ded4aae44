//! The program's own process: confined, then replaced.

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::confine::landlock::{Domain, Grant, Net};
use crate::confine::seccomp::ExecFilter;
use crate::confine::{Prepared, capabilities, limits};
use crate::ctx::{ExecRequest, StopFlag, WorkerCtx};
use crate::probe::attacks;
use crate::spec::{ExecProgram, ExecSpec, Layers, SetupFailure};
use crate::wire;

use super::view::{DEVICES, PRIVATE_DIRS, SYSTEM_DIRS, SYSTEM_SETTINGS, place};

/// Where the program's two streams go, and where it is said why it did not start.
pub(super) struct Streams {
    pub(super) stdout: PipeWriter,
    pub(super) stderr: PipeWriter,
    pub(super) failure: PipeWriter,
}

/// Confines this process and becomes the program. Returns only when that failed; the reason is in
/// `streams.failure` then.
pub(super) fn become_program(
    spec: &ExecSpec,
    prepared: &Prepared,
    streams: Streams,
) -> io::Result<()> {
    let Streams {
        stdout,
        stderr,
        mut failure,
    } = streams;
    if let Err(refused) = confine(spec, prepared) {
        return failure.write_all(refused.to_string().as_bytes());
    }
    match &spec.program {
        ExecProgram::Run(request) => {
            let error = run(spec, request, stdout, stderr);
            failure.write_all(error.as_bytes())
        }
        ExecProgram::Attack(asked) => {
            // As for a real program: nobody waits for this pipe once the work begins.
            drop(failure);
            let asked: Vec<attacks::Attack> = wire::decode(asked)?;
            let ctx = WorkerCtx {
                stop: StopFlag::default(),
                ..WorkerCtx::compute(Instant::now())
            };
            (&stdout).write_all(&wire::encode(&attacks::run(&asked, &ctx))?)
        }
    }
}

fn confine(spec: &ExecSpec, prepared: &Prepared) -> Result<(), SetupFailure> {
    let in_namespaces = spec.layers.contains(Layers::NAMESPACES);
    if spec.layers.contains(Layers::NO_NEW_PRIVS) {
        capabilities::gain_none()?;
    }
    if spec.layers.contains(Layers::CAPABILITIES) {
        capabilities::drop_all()?;
    }
    if spec.layers.contains(Layers::LIMITS) {
        limits::exec(spec.limits)?;
    }
    if spec.layers.contains(Layers::LANDLOCK) {
        domain(spec, prepared.landlock_abi, in_namespaces)?.enter()?;
    }
    if spec.layers.contains(Layers::SECCOMP) {
        let filter = if in_namespaces {
            ExecFilter::InNamespaces
        } else {
            ExecFilter::WithoutNamespaces
        };
        prepared.filters.enter_exec(filter)?;
    }
    Ok(())
}

/// In a view of its own, everything that is there may be read; without one, only what is listed here.
fn domain(spec: &ExecSpec, abi: i32, in_namespaces: bool) -> Result<Domain, SetupFailure> {
    // A network namespace of its own makes its own servers and connections harmless.
    let mut domain = Domain::with_net(
        abi,
        if in_namespaces {
            Net::Free
        } else {
            Net::Handled
        },
    )?;
    let mut grant = |path: &Path, grant| match place(path) {
        Some(place) => domain.grant(place.as_fd(), grant),
        None => Ok(()),
    };
    if in_namespaces {
        grant(Path::new("/"), Grant::READ)?;
        for dir in PRIVATE_DIRS {
            grant(Path::new(dir), Grant::BUILD)?;
        }
    } else {
        grant(Path::new("/proc"), Grant::READ)?;
        for name in SYSTEM_SETTINGS {
            let path = Path::new("/etc").join(name);
            let rights = if path.is_dir() {
                Grant::READ
            } else {
                Grant::READ_FILE
            };
            grant(&path, rights)?;
        }
    }
    for dir in SYSTEM_DIRS {
        grant(&Path::new("/").join(dir), Grant::RUN)?;
    }
    for device in DEVICES {
        grant(&Path::new("/dev").join(device), Grant::USE_FILE)?;
    }
    for dir in &spec.read_only {
        grant(&dir.to_path(), Grant::RUN)?;
    }
    for dir in &spec.writable {
        grant(&dir.to_path(), Grant::BUILD)?;
    }
    grant(&spec.working_dir.path.to_path(), Grant::BUILD)?;
    Ok(domain)
}

/// Becomes the program; returns why it did not.
fn run(spec: &ExecSpec, request: &ExecRequest, stdout: PipeWriter, stderr: PipeWriter) -> String {
    let working_dir = spec.working_dir.path.to_path();
    let start = if request.dir.is_empty() {
        working_dir.clone()
    } else {
        working_dir.join(&request.dir)
    };
    let nothing = match File::open("/dev/null") {
        Ok(file) => Stdio::from(file),
        Err(_) => Stdio::null(),
    };
    let error = Command::new(&request.program)
        .args(&request.args)
        .env_clear()
        .envs(environment(spec, request, &working_dir))
        .current_dir(&start)
        .stdin(nothing)
        .stdout(stdout)
        .stderr(stderr)
        .exec();
    let what = request.program.escape_default();
    match error.kind() {
        io::ErrorKind::NotFound if start.is_dir() => {
            format!(
                "`{what}` was not found on the search path of the sandbox; the operator can add its directory"
            )
        }
        io::ErrorKind::NotFound => format!(
            "the directory `{}` does not exist",
            request.dir.escape_default()
        ),
        _ => format!("start `{what}`: {error}"),
    }
}

/// The few variables that every program gets, then those of the request, then those of the operator, each
/// over the one before. Nothing of Otto's own environment.
fn environment(
    spec: &ExecSpec,
    request: &ExecRequest,
    working_dir: &Path,
) -> Vec<(String, String)> {
    let temporary = if spec.layers.contains(Layers::NAMESPACES) {
        "/tmp".to_owned()
    } else {
        // Without a view of its own there is no private place; the working directory is the only one sure to be there.
        let shared = spec
            .writable
            .first()
            .map_or_else(|| working_dir.to_owned(), |dir| dir.to_path());
        shared.to_string_lossy().into_owned()
    };
    let mut variables = vec![
        ("PATH".to_owned(), search_path(spec)),
        ("HOME".to_owned(), temporary.clone()),
        ("TMPDIR".to_owned(), temporary),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TERM".to_owned(), "dumb".to_owned()),
    ];
    variables.extend(request.env.iter().cloned());
    variables.extend(spec.env.iter().cloned());
    variables
}

fn search_path(spec: &ExecSpec) -> String {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in &spec.read_only {
        let dir = dir.to_path();
        let bin = dir.join("bin");
        if dir.ends_with("bin") {
            dirs.push(dir);
        } else if bin.is_dir() {
            dirs.push(bin);
        }
    }
    let system = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    dirs.extend(system.iter().map(PathBuf::from));
    // A directory whose name holds the separator cannot be on a search path.
    dirs.retain(|dir| !dir.to_string_lossy().contains(':'));
    dirs.iter()
        .map(|dir| dir.to_string_lossy())
        .collect::<Vec<_>>()
        .join(":")
}
