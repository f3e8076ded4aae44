//! Deciding the level and attacking it.

use std::path::PathBuf;
use std::sync::Arc;

use otto_core::policy::{Permission, Permissions};
use otto_core::port::tool_host::{Enforcement, HostGrant};

use crate::host::{CallError, Connection, LevelChoice, WorkerHostInner};
use crate::spec::{Layers, SetupFailure, Start, WirePath, WorkerKind};

use super::attacks::{Attack, Attacked};
use super::doctor::{Check, Expectation};
use super::fixes;
use super::scene::{READABLE, Scene, WRITTEN};

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
    proof.exec = match &proof.verdict {
        Err(reason) => Err(reason.clone()),
        Ok(level) => Ok(*level),
    };
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
    let path = inner.config.scratch.clone();
    let scene = Scene::new(&path).map_err(|error| ProveError::Scene { path, error })?;
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
            Err(CallError::Setup(failure)) => return Ok(Reached::No(unreached(level, &failure))),
            Err(other) => return Err(other.into()),
        }
    }
    proof.checks.extend(checks);
    Ok(Reached::Yes)
}

fn unreached(level: Enforcement, failure: &SetupFailure) -> Unreached {
    use crate::spec::Stage;
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
    let steps = steps(kind, scene);
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
    for path in PROGRAMS
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

const PROGRAMS: [&str; 4] = ["/bin/true", "/usr/bin/true", "/bin/sh", "/usr/bin/env"];

/// An attack and what must come of it.
struct Step {
    name: &'static str,
    expectation: Expectation,
    attack: Attack,
}

impl Step {
    fn refused(name: &'static str, attack: Attack) -> Self {
        Self {
            name,
            expectation: Expectation::Refused,
            attack,
        }
    }

    fn when(allowed: bool, name: &'static str, attack: Attack) -> Self {
        let expectation = if allowed {
            Expectation::Allowed
        } else {
            Expectation::Refused
        };
        Self {
            name,
            expectation,
            attack,
        }
    }

    fn judge(&self, domain: &'static str, result: &Attacked) -> Check {
        let passed = match (self.expectation, result.errno) {
            (Expectation::Allowed, None) => true,
            (Expectation::Refused, Some(errno)) => is_refusal(errno),
            _ => false,
        };
        let outcome = match result.errno {
            None => "it succeeded".to_owned(),
            Some(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        };
        Check {
            domain,
            name: self.name,
            expectation: self.expectation,
            passed,
            outcome,
        }
    }
}

/// Numbers that say "you may not" or "there is no such thing for you"; anything else, such as a full table
/// or a bad argument, would pass by accident.
fn is_refusal(errno: i32) -> bool {
    matches!(
        errno,
        libc::EPERM | libc::EACCES | libc::ENOENT | libc::EROFS | libc::ESRCH | libc::ENOSYS
    )
}

fn steps(kind: WorkerKind, scene: &Scene) -> Vec<Step> {
    let otto = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let canary = WirePath::new(&scene.canary());
    vec![
        Step::when(
            kind.reads(),
            "read a file of the working directory",
            Attack::ReadInside(READABLE.to_owned()),
        ),
        Step::when(
            kind.writes(),
            "write a file of the working directory",
            Attack::WriteInside(WRITTEN.to_owned()),
        ),
        Step::when(
            kind.reads(),
            "list the working directory",
            Attack::ListInside,
        ),
        Step::refused("read a file outside", Attack::Open(canary)),
        Step::refused(
            "read /etc/passwd",
            Attack::Open(WirePath::new("/etc/passwd".as_ref())),
        ),
        Step::refused(
            "create a file outside",
            Attack::Create(WirePath::new(&scene.planted())),
        ),
        Step::refused("make an internet socket", Attack::InternetSocket),
        Step::refused("make a unix socket", Attack::UnixSocket),
        Step::refused("make a process", Attack::Fork),
        Step::refused("signal Otto", Attack::Signal(otto)),
        Step::refused("change a limit of Otto", Attack::Limit(otto)),
        Step::refused("trace Otto", Attack::Trace(otto)),
        Step::refused("use io_uring", Attack::IoUring),
        Step::refused("enter a new namespace", Attack::NewNamespace),
    ]
}
