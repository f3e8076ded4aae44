//! System call filters, compiled once in the launcher and installed in each new process.
//!
//! Workers and egress processes get an *allowlist*: what is not named is refused with `EPERM`. Programs in
//! the exec sandbox get a *denylist*, because nobody can list what a compiler or a test suite calls; their
//! boundary is the namespace, and the filter takes away what namespaces do not cover.
//!
//! A filter compares numbers, never memory: rules about arguments exist only where the argument is a plain
//! number, and they compare exactly as many bits as the kernel uses.

mod build;
mod egress;
mod exec;
mod worker;

use seccompiler::BpfProgram;

use crate::spec::{SetupFailure, Stage, WorkerKind};

/// Every filter of the production processes.
#[derive(Debug)]
pub(crate) struct Filters {
    workers: Vec<(WorkerKind, BpfProgram)>,
    egress: BpfProgram,
    exec_l1: Vec<BpfProgram>,
    exec_l2: Vec<BpfProgram>,
}

/// Which of the two exec filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecFilter {
    /// No sockets at all, and no way out of the process group.
    WithoutNamespaces,
    /// Sockets of the kinds that live in the private network namespace.
    InNamespaces,
}

impl Filters {
    /// Compiles all filters for the processor this runs on.
    pub(crate) fn compile() -> Result<Self, SetupFailure> {
        let mut workers = Vec::new();
        for kind in WorkerKind::ALL {
            workers.push((kind, worker::filter(kind)?));
        }
        Ok(Self {
            workers,
            egress: egress::filter()?,
            exec_l1: exec::filters(ExecFilter::WithoutNamespaces)?,
            exec_l2: exec::filters(ExecFilter::InNamespaces)?,
        })
    }

    /// Installs the filter of a worker. The process keeps it until it ends.
    pub(crate) fn enter_worker(&self, kind: WorkerKind) -> Result<(), SetupFailure> {
        let filter = self.workers.iter().find(|(known, _)| *known == kind);
        let (_, filter) = filter.ok_or_else(|| {
            SetupFailure::refused(Stage::Seccomp, "no filter for this kind of worker")
        })?;
        enter(filter)
    }

    /// Installs the filter of an egress process.
    pub(crate) fn enter_egress(&self) -> Result<(), SetupFailure> {
        enter(&self.egress)
    }

    /// Installs the filters of a program.
    pub(crate) fn enter_exec(&self, which: ExecFilter) -> Result<(), SetupFailure> {
        let filters = match which {
            ExecFilter::WithoutNamespaces => &self.exec_l1,
            ExecFilter::InNamespaces => &self.exec_l2,
        };
        filters.iter().try_for_each(enter)
    }
}

fn enter(filter: &BpfProgram) -> Result<(), SetupFailure> {
    seccompiler::apply_filter(filter).map_err(|error| {
        SetupFailure::refused(Stage::Seccomp, format!("install the filter: {error}"))
    })
}
