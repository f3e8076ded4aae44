//! Whoever runs Otto's own tools: the confined workers, or a test's stand-in.
//!
//! The host gets a tool's name, its input and what the agent was granted; it never gets code or a path that
//! is not below the grant. What comes back is hostile input until it has been bounded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Permissions;
use crate::port::BoxFuture;
use crate::port::tool::{AuditLog, Cancellation, ToolError, ToolOutput};
use crate::{AgentName, ToolName};

/// Runs calls of Otto's own tools inside the boundary.
pub trait ToolHost: Send + Sync {
    /// Runs one call to its end, its deadline or its cancellation.
    ///
    /// # Errors
    /// As [`crate::port::tool::Tool::call`].
    fn run(&self, request: HostRequest) -> BoxFuture<'_, Result<ToolOutput, ToolError>>;

    /// How strongly calls are confined, for people: `l2`, `l1`, `none`.
    fn enforcement(&self) -> Enforcement;
}

/// How strongly calls are confined by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Enforcement {
    /// Not at all.
    None,
    /// Landlock and seccomp.
    L1,
    /// Namespaces, Landlock and seccomp.
    L2,
}

impl Enforcement {
    /// `none`, `l1` or `l2`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

/// One call of one of Otto's own tools.
#[derive(Clone)]
pub struct HostRequest {
    /// The agent it runs for; workers are never shared between agents.
    pub agent: AgentName,
    /// The tool.
    pub tool: ToolName,
    /// Its input: a JSON object as text.
    pub input: Arc<str>,
    /// What may be touched.
    pub grant: HostGrant,
    /// Settings of the tool as JSON text, from the agent file and the operator.
    pub settings: Option<Arc<str>>,
    /// Time left for the call.
    pub time_left: Duration,
    /// Fires when the call is to end early.
    pub cancellation: Arc<dyn Cancellation>,
    /// Where a host in audit mode tells of what it lets pass although the grant does not name it. A host that
    /// is not in audit mode lets nothing pass and tells nothing.
    pub audit: Option<Arc<dyn AuditLog>>,
}

/// What an agent's calls may touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostGrant {
    /// Rights of this call.
    pub permissions: Permissions,
    /// The part of `permissions` that policy refuses and only audit mode lets pass. A host that the operator
    /// has not put into audit mode itself denies a call for which this is not empty.
    pub beyond: Permissions,
    /// The working directory; absolute.
    pub working_dir: Option<PathBuf>,
    /// Read-only roots by name; absolute.
    pub roots: Vec<(Arc<str>, PathBuf)>,
    /// Hosts that may be reached.
    pub allowed_hosts: Vec<Arc<str>>,
}
