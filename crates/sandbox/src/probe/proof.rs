//! Deciding the level and attacking it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use otto_core::policy::{Permission, Permissions};
use otto_core::port::tool_host::{Enforcement, HostGrant};

use crate::ctx::ExecEnd;
use crate::host::{CallError, Connection, LevelChoice, WorkerHostInner, exec};
use crate::spec::{ExecProgram, Layers, SetupFailure, Stage, Start, WirePath, WorkerKind};
use crate::wire;

use super::attacks::{Attack, Attacked};
use super::doctor::{Check, Expectation};
use super::fixes;
use super::scene::Scene;
use super::steps::{self, Step};

/// What was tried and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    /// The level that holds, or why no tool may run, with the fix.
    pub(crate) verdict: Result<Enforcement, String>,
    /// Why programs may not run although other tools may.
    pub(crate) exec: Result<Enforcement, String>,
    /// Why a level that was tried is not reached.
    pub(crate) unreached: Vec<Unreached>,
    /// Each attack and control.
    pub(crate) checks: Vec<Check>,
    /// Landlock's version here, or the error number of asking for it.
    pub(crate) landlock: Result<i32, Option<i32>>,
}

/// A level that this host does not reach.
#[derive(Debug, Clone)]
pub(crate) struct Unreached {
    pub(crate) level: Enforcement,
    pub(crate) why: String,
    pub(crate) fix: String,
}

// BOUND: below this version of Landlock a read-only domain can still empty files; only a read-only mount
// makes up for it.
const MIN_LANDLOCK_WITHOUT_NAMESPACES: i32 = 3;

/// Decides the level and attacks it.
///
/// # Errors
/// When the launcher cannot be used, or not in time; asking again later may help.
pub(crate) async fn prove(inner: &Arc<WorkerHostInner>) -> Result<Proof, ProveError> {
    if let Some(error) = inner.booted.error() {
        return Err(ProveError::Boot(error.clone()));
    }
    let mut proof = Proof {
        verdict: Ok(Enforcement::None),
        exec: Ok(Enforcement::None),
        unreached: Vec::new(),
        checks: Vec::new(),
        landlock: crate::sys::landlock_abi().map_err(|error| error.raw_os_error()),
    };
    let levels: &[Enforcement] = match inner.config.level {
        LevelChoice::OperatorOptOut => return Ok(proof),
        LevelChoice::Strongest => &[Enforcement::L2, Enforcement::L1],
        LevelChoice::ForcedL1 => &[Enforcement::L1],
        LevelChoice::ForcedL2 => &[Enforcement::L2],
    };
    for level in levels {
        match attack_level(inner, *level, &mut proof).await? {
            Reached::Yes => {
                proof.exec = match inner.exec_level(*level) {
                    Ok(level) => attack_exec(inner, level, &mut proof).await?,
                    Err(reason) => Err(reason),
                };
                conclude(&mut proof, *level);
                return Ok(proof);
            }
            Reached::No(unreached) => proof.unreached.push(unreached),
        }
    }
    let reasons: Vec<String> = proof
        .unreached
        .iter()
        .map(|unreached| {
            format!(
                "{}: {}; fix: {}",
                unreached.level.as_str(),
                unreached.why,
                unreached.fix
            )
        })
        .collect();
    let reason = format!(
        "sandbox_unavailable: this host cannot confine tools ({})",
        reasons.join(" / ")
    );
    proof.exec = Err(reason.clone());
    proof.verdict = Err(reason);
    Ok(proof)
}

enum Reached {
    Yes,
    No(Unreached),
}

/// Why nothing could be proven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProveError {
    #[error(transparent)]
    Boot(crate::boot::BootError),
    #[error("make the directory of the self-test in {path}: {error}")]
    Scene {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("start a worker for the self-test: {0}")]
    Worker(#[from] CallError),
    #[error("{0}")]
    Spec(String),
}

fn conclude(proof: &mut Proof, level: Enforcement) {
    let failed: Vec<&Check> = proof.checks.iter().filter(|check| !check.passed).collect();
    proof.verdict = if failed.is_empty() {
        Ok(level)
    } else {
        let what: Vec<String> = failed
            .iter()
            .map(|check| {
                format!(
                    "{} in a {} worker: {}",
                    check.name, check.domain, check.outcome
                )
            })
            .collect();
        Err(format!(
            "sandbox_unavailable: the self-test at level {} failed ({}); no tool runs until it passes: run `otto \
             doctor`, and report it if the kernel is not modified",
            level.as_str(),
            what.join("; ")
        ))
    };
    if let Err(reason) = &proof.verdict {
        proof.exec = Err(reason.clone());
    }
}

/// Attacks the sandbox of programs. A sandbox that cannot be built is a reason to run no programs, not to
/// run no tools.
async fn attack_exec(
    inner: &Arc<WorkerHostInner>,
    level: Enforcement,
    proof: &mut Proof,
) -> Result<Result<Enforcement, String>, ProveError> {
    if let Some(dir) = inner.listed_dir_that_holds_state() {
        return Ok(Err(format!(
            "sandbox_unavailable: {} is listed for programs and holds Otto's own files, so programs could read \
             them; list only the directories of toolchains and caches",
            dir.display()
        )));
    }
    let scene = new_scene(inner)?;
    // A server of this host, outside the sandbox.
    let server = std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|server| Ok((server.local_addr()?, server)));
    let (address, _server) = server.map_err(|error| {
        ProveError::Spec(format!("listen on loopback for the self-test: {error}"))
    })?;
    let steps = steps::of_program(&scene, address.port());
    let attacks: Vec<Attack> = steps.iter().map(|step| step.attack.clone()).collect();
    let program = ExecProgram::Attack(wire::encode(&attacks).map_err(CallError::from)?);
    let layers = inner.layers.unwrap_or(Layers::of(level));
    let spec = inner
        .exec_spec(&scene.working_dir(), layers, program)
        .map_err(|error| ProveError::Spec(error.message))?;
    inner.pins.unpin(&scene.working_dir());
    let outcome = match exec::run(inner, spec).await {
        Ok(outcome) => outcome,
        Err(CallError::Setup(failure)) => {
            let fix = fixes::for_programs(&failure);
            return Ok(Err(format!(
                "sandbox_unavailable: the sandbox of programs cannot be built ({failure}); fix: {fix}"
            )));
        }
        Err(other) => return Err(other.into()),
    };
    if let ExecEnd::NotStarted(reason) = &outcome.end {
        return Ok(Err(format!(
            "sandbox_unavailable: the sandbox of programs cannot be built ({reason})"
        )));
    }
    let results: Vec<Attacked> = wire::decode(&outcome.stdout).map_err(CallError::from)?;
    if results.len() != steps.len() {
        return Err(CallError::Protocol(
            "it gave another number of results than it was given attacks",
        )
        .into());
    }
    proof.checks.extend(
        steps
            .iter()
            .zip(&results)
            .map(|(step, result)| step.judge(EXEC_DOMAIN, result)),
    );
    proof.checks.push(daemon_is_gone(&scene).await);
    Ok(Ok(level))
}

const EXEC_DOMAIN: &str = "exec";

/// The process that was left behind held a lock; if it is dead, the lock is free.
async fn daemon_is_gone(scene: &Scene) -> Check {
    // BOUND: the kernel empties a namespace in a few milliseconds; a busy machine gets a second.
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    let mut passed = false;
    for _ in 0..TRIES {
        let free = std::fs::File::options()
            .append(true)
            .open(scene.lock())
            .is_ok_and(|file| file.try_lock().is_ok());
        if free {
            passed = true;
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Check {
        domain: EXEC_DOMAIN,
        name: "outlive the sandbox as a daemon",
        expectation: Expectation::Refused,
        passed,
        outcome: if passed {
            "it was killed".to_owned()
        } else {
            "it still lives".to_owned()
        },
    }
}

fn new_scene(inner: &WorkerHostInner) -> Result<Scene, ProveError> {
    let path = inner.config.scratch.clone();
    Scene::new(&path).map_err(|error| ProveError::Scene { path, error })
}

async fn attack_level(
    inner: &Arc<WorkerHostInner>,
    level: Enforcement,
    proof: &mut Proof,
) -> Result<Reached, ProveError> {
    match proof.landlock {
        Err(errno) => {
            let why = "the kernel does not offer Landlock".to_owned();
            return Ok(Reached::No(Unreached {
                level,
                why,
                fix: fixes::for_landlock(errno).to_owned(),
            }));
        }
        Ok(abi) if level == Enforcement::L1 && abi < MIN_LANDLOCK_WITHOUT_NAMESPACES => {
            let why = format!("Landlock version {abi} is too old");
            return Ok(Reached::No(Unreached {
                level,
                why,
                fix: fixes::FOR_OLD_LANDLOCK.to_owned(),
            }));
        }
        Ok(_) => {}
    }
    let scene = new_scene(inner)?;
    // All kinds at once: most of the time goes by in the kernel.
    let compute = attack_kind(inner, level, WorkerKind::Compute, &scene);
    let read = attack_kind(inner, level, WorkerKind::Read, &scene);
    let write = attack_kind(inner, level, WorkerKind::Write, &scene);
    let both = attack_kind(inner, level, WorkerKind::ReadWrite, &scene);
    let http = attack_kind(inner, level, WorkerKind::Http, &scene);
    let results = tokio::join!(compute, read, write, both, http);
    let mut checks = Vec::new();
    for result in [results.0, results.1, results.2, results.3, results.4] {
        match result {
            Ok(more) => checks.extend(more),
            // A machine that is short of something right now says nothing about what it can do.
            Err(CallError::Setup(failure)) if !is_passing(&failure) => {
                return Ok(Reached::No(unreached(level, &failure)));
            }
            Err(other) => return Err(other.into()),
        }
    }
    proof.checks.extend(checks);
    Ok(Reached::Yes)
}

/// Whether the same start may work a moment later. Taking it for a missing mechanism would lower the level
/// for the whole life of the process.
fn is_passing(failure: &SetupFailure) -> bool {
    matches!(
        failure.errno,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EINTR
    )
}

fn unreached(level: Enforcement, failure: &SetupFailure) -> Unreached {
    let fix = match failure.stage {
        Stage::Landlock => fixes::for_landlock(Some(failure.errno)).to_owned(),
        Stage::Seccomp => {
            "use a kernel with CONFIG_SECCOMP_FILTER=y, and a container runtime that lets filters be stacked".to_owned()
        }
        _ if level == Enforcement::L2 => fixes::for_namespaces(failure),
        _ => "see the error of the system".to_owned(),
    };
    Unreached {
        level,
        why: failure.to_string(),
        fix,
    }
}

/// Starts one worker and lets it try everything.
async fn attack_kind(
    inner: &Arc<WorkerHostInner>,
    level: Enforcement,
    kind: WorkerKind,
    scene: &Scene,
) -> Result<Vec<Check>, CallError> {
    let grant = HostGrant {
        permissions: permissions(kind),
        beyond: Permissions::NONE,
        working_dir: Some(scene.working_dir()),
        roots: Vec::new(),
        allowed_hosts: Vec::new(),
    };
    let layers = inner.layers.unwrap_or(Layers::of(level));
    let spec = inner
        .worker_spec(kind, layers, &grant)
        .map_err(|error| std::io::Error::other(error.message))?;
    inner.pins.unpin(&scene.working_dir());
    let start = Start::Worker(spec);
    let steps = steps::of_worker(kind, level, scene);
    let attacks: Vec<Attack> = steps.iter().map(|step| step.attack.clone()).collect();
    let (mut worker, _) = Connection::start_worker(&inner.booted, &start).await?;
    let results = worker.attack(&attacks).await?;
    if results.len() != steps.len() {
        return Err(CallError::Protocol(
            "it gave another number of results than it was given attacks",
        ));
    }
    let mut checks: Vec<Check> = steps
        .iter()
        .zip(&results)
        .map(|(step, result)| step.judge(kind.as_str(), result))
        .collect();
    // Running a program is tried last and alone: if it works, there is nobody left to say so.
    for path in steps::PROGRAMS
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .take(1)
    {
        let step = Step::refused("run a program", Attack::Execute(WirePath::new(&path)));
        let result = match worker.attack(std::slice::from_ref(&step.attack)).await {
            Ok(results) => results
                .into_iter()
                .next()
                .ok_or(CallError::Protocol("it gave no result"))?,
            Err(_) => Attacked { errno: None },
        };
        checks.push(step.judge(kind.as_str(), &result));
    }
    Ok(checks)
}

fn permissions(kind: WorkerKind) -> Permissions {
    match kind {
        WorkerKind::Compute => Permissions::NONE,
        WorkerKind::Read => Permissions::of(&[Permission::Read]),
        WorkerKind::Write => Permissions::of(&[Permission::Write]),
        WorkerKind::ReadWrite => Permissions::of(&[Permission::Read, Permission::Write]),
        WorkerKind::Http => Permissions::of(&[Permission::Net]),
    }
}
