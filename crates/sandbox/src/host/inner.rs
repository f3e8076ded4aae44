//! What a host consists of, and what it tells the launcher about a worker.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use otto_core::port::tool::ToolError;
use otto_core::port::tool_host::HostGrant;
use tokio::sync::{OnceCell, Semaphore};

use crate::boot::Booted;
use crate::egress::{EgressPolicy, HostRule};
use crate::probe::Proof;
use crate::spec::{Layers, WorkerKind, WorkerSpec};

use super::{HostConfig, PinError, Pins, Pool};

/// The shared part of a host.
pub(crate) struct Inner {
    pub(crate) booted: Booted,
    pub(crate) config: HostConfig,
    pub(crate) private_hosts: Result<Vec<HostRule>, String>,
    pub(crate) pins: Pins,
    pub(crate) pool: Arc<Pool>,
    pub(crate) programs: Arc<Semaphore>,
    /// Calls that workers have begun lately, in the order in which they asked.
    pub(crate) turns: Semaphore,
    pub(crate) proof: OnceCell<Proof>,
    /// Layers of the workers when a test takes some away; `None` in production.
    pub(crate) layers: Option<Layers>,
    /// Whether somebody ends idle workers already.
    pub(crate) reaping: AtomicBool,
}

impl Inner {
    pub(crate) fn new(booted: Booted, config: HostConfig, layers: Option<Layers>) -> Self {
        let parse = |text: &String| HostRule::parse(text).map_err(|error| error.to_string());
        Self {
            booted,
            private_hosts: config.private_hosts.iter().map(parse).collect(),
            pins: Pins::default(),
            pool: Arc::new(Pool::new(config.workers_per_grant, config.max_workers)),
            programs: Arc::new(Semaphore::new(config.exec.at_once.max(1))),
            turns: Semaphore::new(turns()),
            proof: OnceCell::new(),
            layers,
            reaping: AtomicBool::new(false),
            config,
        }
    }

    /// The layers of production workers; known once the confinement is proven.
    pub(crate) fn layers(&self) -> Result<Layers, ToolError> {
        if let Some(layers) = self.layers {
            return Ok(layers);
        }
        match self.proof.get().map(|proof| &proof.verdict) {
            Some(Ok(level)) => Ok(Layers::of(*level)),
            Some(Err(reason)) => Err(ToolError::for_operator(reason.clone())),
            None => Err(ToolError::for_operator(
                "sandbox_unavailable: the confinement is not proven yet",
            )),
        }
    }

    /// What a worker of this kind is told for this grant.
    pub(crate) fn worker_spec(
        &self,
        kind: WorkerKind,
        layers: Layers,
        grant: &HostGrant,
    ) -> Result<WorkerSpec, ToolError> {
        let unusable = |error: PinError| {
            ToolError::for_operator(format!("open a directory of the agent: {error}"))
        };
        let files = kind.reads() || kind.writes();
        let working_dir = match &grant.working_dir {
            Some(path) if files => Some(self.pins.pin(path).map_err(unusable)?),
            _ => None,
        };
        let mut roots = Vec::new();
        if kind.reads() {
            for (name, path) in &grant.roots {
                roots.push((name.to_string(), self.pins.pin(path).map_err(unusable)?));
            }
        }
        let egress = match kind {
            WorkerKind::Http => Some(self.egress_policy(grant)?),
            _ => None,
        };
        let own = self.own_files_in(grant.working_dir.as_deref());
        let protected = PROTECTED
            .iter()
            .map(ToString::to_string)
            .chain(own)
            .collect();
        Ok(WorkerSpec {
            kind,
            layers,
            working_dir,
            roots,
            protected,
            egress,
            audit: self.config.audit_mode,
        })
    }

    /// Otto's own files below this working directory, relative to it.
    pub(crate) fn own_files_in(&self, working_dir: Option<&Path>) -> impl Iterator<Item = String> {
        self.config.protected.iter().filter_map(move |path| {
            let below = path.strip_prefix(working_dir?).ok()?;
            below
                .to_str()
                .filter(|below| !below.is_empty())
                .map(str::to_owned)
        })
    }

    fn egress_policy(&self, grant: &HostGrant) -> Result<EgressPolicy, ToolError> {
        let mut allowed = Vec::new();
        for text in &grant.allowed_hosts {
            let rule = HostRule::parse(text).map_err(|error| {
                ToolError::for_operator(format!(
                    "allowed host `{}`: {error}",
                    text.escape_default()
                ))
            })?;
            allowed.push(rule);
        }
        let private = self.private_hosts.clone().map_err(|error| {
            ToolError::for_operator(format!("private hosts of the operator: {error}"))
        })?;
        let rate = self
            .config
            .connect_rate
            .share(self.config.workers_per_grant);
        Ok(EgressPolicy {
            allowed,
            private,
            rate,
            audit: self.config.audit_mode,
        })
    }
}

/// How many calls begin side by side.
fn turns() -> usize {
    // BOUND: a few for each processor, so that none waits while an answer is on its way. With more of them the
    // kernel takes the processor from one process for the next, all run slower, and who waits longest is left to
    // chance.
    const FOR_EACH_PROCESSOR: usize = 4;
    std::thread::available_parallelism().map_or(1, NonZero::get) * FOR_EACH_PROCESSOR
}

/// Paths below a working directory that no worker may change, whatever it was granted.
pub(crate) const PROTECTED: [&str; 2] = [".otto", ".git"];
