//! What `otto doctor` says about the sandbox: plain data, for the caller to print.

use otto_core::port::tool::ToolError;
use otto_core::port::tool_host::Enforcement;

use crate::host::WorkerHost;

use super::Proof;
use super::fixes;

/// The state of the sandbox on this host.
#[derive(Debug, Clone)]
pub struct DoctorReport {
    /// What is enforced for tools. [`Enforcement::None`] when nothing can run, or by the operator's word.
    pub level: Enforcement,
    /// Why no tool can run, with the fix; `None` when tools can run.
    pub refusal: Option<String>,
    /// Why no program can run, with the fix; `None` when programs can run.
    pub exec_refusal: Option<String>,
    /// What the confinement is made of.
    pub mechanisms: Vec<Mechanism>,
    /// Each attack and control of the self-test.
    pub checks: Vec<Check>,
    /// Whether the operator's audit mode lets calls have more than the agent was granted; see
    /// [`crate::HostConfig::audit_mode`].
    pub audit_mode: bool,
    /// The user Otto runs as.
    pub uid: u32,
    /// The running kernel.
    pub kernel: String,
}

/// One mechanism of the kernel.
#[derive(Debug, Clone)]
pub struct Mechanism {
    /// Its name.
    pub name: &'static str,
    /// Whether it works here.
    pub works: bool,
    /// Its version, or what is known about it.
    pub detail: String,
    /// How to get it, if it does not work.
    pub fix: Option<String>,
}

/// What must come of an attack or control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expectation {
    /// It has to work.
    Allowed,
    /// The kernel has to refuse it.
    Refused,
}

/// One attack or control of the self-test.
#[derive(Debug, Clone)]
pub struct Check {
    /// The kind of process that tried it.
    pub domain: &'static str,
    /// What was tried.
    pub name: &'static str,
    /// What must come of it.
    pub expectation: Expectation,
    /// Whether that came of it.
    pub passed: bool,
    /// What the kernel said.
    pub outcome: String,
}

impl WorkerHost {
    /// Examines the sandbox of this host. Runs the self-test if it has not run yet.
    ///
    /// # Errors
    /// [`otto_core::port::tool::ToolErrorKind::ForOperator`] when there is no launcher to examine.
    pub async fn doctor(&self) -> Result<DoctorReport, ToolError> {
        Ok(report(self.proof().await?, self.inner.config.audit_mode))
    }
}

fn report(proof: &Proof, audit_mode: bool) -> DoctorReport {
    DoctorReport {
        level: proof.verdict.as_ref().copied().unwrap_or(Enforcement::None),
        refusal: proof.verdict.as_ref().err().cloned(),
        exec_refusal: proof.exec.as_ref().err().cloned(),
        mechanisms: mechanisms(proof),
        checks: proof.checks.clone(),
        audit_mode,
        uid: rustix::process::geteuid().as_raw(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    }
}

fn mechanisms(proof: &Proof) -> Vec<Mechanism> {
    vec![landlock(proof), seccomp(), namespaces(proof)]
}

fn landlock(proof: &Proof) -> Mechanism {
    let name = "landlock";
    match proof.landlock {
        Ok(abi) => Mechanism {
            name,
            works: true,
            detail: format!("version {abi}"),
            fix: None,
        },
        Err(errno) => Mechanism {
            name,
            works: false,
            detail: errno.map_or_else(
                || "not available".to_owned(),
                |errno| std::io::Error::from_raw_os_error(errno).to_string(),
            ),
            fix: Some(fixes::for_landlock(errno).to_owned()),
        },
    }
}

fn seccomp() -> Mechanism {
    let actions =
        std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let works = actions.split_whitespace().any(|action| action == "errno");
    Mechanism {
        name: "seccomp",
        works,
        detail: if works {
            "filters".to_owned()
        } else {
            "the kernel lists no filter actions".to_owned()
        },
        fix: (!works).then(|| "use a kernel with CONFIG_SECCOMP_FILTER=y".to_owned()),
    }
}

fn namespaces(proof: &Proof) -> Mechanism {
    let failed = proof
        .unreached
        .iter()
        .find(|unreached| unreached.level == Enforcement::L2);
    let tried = failed.is_some() || proof.verdict == Ok(Enforcement::L2);
    Mechanism {
        name: "namespaces",
        works: failed.is_none() && tried,
        detail: match failed {
            Some(unreached) => unreached.why.clone(),
            None if tried => "user, mount, pid, net, ipc, uts".to_owned(),
            None => "not tried".to_owned(),
        },
        fix: failed.map(|unreached| unreached.fix.clone()),
    }
}
