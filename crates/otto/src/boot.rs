//! The sandbox as an application sees it: started at the first line of `main`, asked for a tool host later.
//!
//! Invariant: what the loader lets a working directory hold is what the host protects; both read
//! [`OperatorConfig::protected_paths`].

use std::path::Path;

pub use otto_sandbox::Booted;
use otto_sandbox::{HostConfig, WorkerHost};

use crate::config::OperatorConfig;

/// Starts the launcher of the sandbox, or becomes it. To be called at the first line of `main`, before any
/// thread and before the async runtime.
///
/// Does not fail: a launcher that cannot be started is reported when the first tool is to run, and by
/// `otto doctor`.
#[must_use]
pub fn boot() -> Booted {
    otto_sandbox::boot(otto_tools::dispatch)
}

/// A host that runs the base tools in confined workers. Starts nothing yet.
///
/// `scratch` is an existing directory in which the sandbox's self-test may make one of its own.
#[must_use]
pub fn worker_host(booted: &Booted, operator: &OperatorConfig, scratch: &Path) -> WorkerHost {
    let mut config = HostConfig::new(scratch);
    config.protected = operator.protected_paths();
    config.audit_mode = operator.audit.value;
    config.private_hosts = operator
        .private_hosts
        .value
        .iter()
        .map(ToString::to_string)
        .collect();
    config.connect_rate = operator.http_rate.value;
    config.exec = operator.programs.value.exec_policy();
    booted.host(config)
}
