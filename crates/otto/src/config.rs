//! The operator's configuration: ceilings and policy that no project file can widen.
//!
//! It comes, in this order, from the environment, from the user's `otto/config.yml`, from `/etc/otto/config.yml`
//! and from the defaults; the first that sets a value wins, value by value. Nothing of it is ever read from a
//! project: a cloned repository does not decide what it may cost or touch. Credentials come from the
//! environment only.
//!
//! Invariant: every effective value knows where it was set.

mod explain;
mod file;
mod http_rate;
mod layers;
mod prices;
mod programs;
mod reference;
mod schema;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod tool_policies;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{Budgets, Limit, Origin};
use otto_core::model::ModelSpec;
use otto_core::redact::OperatorPattern;
use otto_core::{AgentName, Money, ToolName};
use otto_engine::SharedBudget;
use otto_sandbox::ConnectRate;
use otto_tools::ToolPolicy;
use secrecy::SecretString;

use crate::diagnostic::{ConfigErrors, Diagnostic};
use crate::env::{self, Environment};

pub use explain::{Explanation, closest_key, explain_agent};
pub use file::OPERATOR_FIELDS;
pub use programs::Programs;
pub use reference::reference;
pub use schema::agent_schema;
pub use server::{ServerScope, ServerToken};
pub use tool_policies::HttpHeader;

/// Where the system's operator configuration stands.
pub const SYSTEM_CONFIG: &str = "/etc/otto/config.yml";

/// Where journal, ledger and artifacts are kept, seen from the project directory, unless somebody says
/// otherwise (requirement 7).
pub const DEFAULT_STATE_DIR: &str = "var/otto";

/// How long artifacts are kept by default: 7 days (requirement 7).
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// The provider's address.
pub const DEFAULT_ENDPOINT: &str = "https://api.anthropic.com";

/// A value and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it was set.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// A value set at `origin`.
    #[must_use]
    pub fn new(value: T, origin: &str) -> Self {
        Self {
            value,
            origin: Origin::new(origin),
        }
    }

    /// A value that nobody set.
    #[must_use]
    pub fn default_value(value: T) -> Self {
        Self::new(value, "default")
    }
}

impl<T> From<Limit<T>> for Setting<T> {
    fn from(limit: Limit<T>) -> Self {
        Self {
            value: limit.value,
            origin: limit.origin,
        }
    }
}

impl<T> From<Setting<T>> for Limit<T> {
    fn from(setting: Setting<T>) -> Self {
        Self {
            value: setting.value,
            origin: setting.origin,
        }
    }
}

/// The operator's configuration in force.
#[derive(Clone)]
pub struct OperatorConfig {
    /// Whether agents may run at all. Off by default.
    pub enabled: Setting<bool>,
    /// Whether the environment threw the kill switch at start.
    pub kill_switch: Setting<bool>,
    /// Whether policy only reports. Money limits hold all the same.
    pub audit: Setting<bool>,
    /// Where journal, ledger and artifacts are kept; absolute.
    pub state_dir: Setting<PathBuf>,
    /// The most that everything may cost on one UTC day.
    pub daily_cost: Limit<Money>,
    /// Ceilings of each invocation.
    pub ceilings: Budgets,
    /// Ceilings of each session; cost and tokens.
    pub session_ceilings: Budgets,
    /// Ceilings of each workflow; cost and tokens.
    pub workflow_ceilings: Budgets,
    /// Ceilings of single agents on one UTC day; cost and tokens.
    pub agent_ceilings: BTreeMap<AgentName, Budgets>,
    /// Named budgets that several agents draw on.
    pub shared_budgets: Setting<Vec<SharedBudget>>,
    /// The tools that agents may list. `None`: all that exist.
    pub tools: Option<Setting<Vec<ToolName>>>,
    /// Tools whose interrupted calls wait for a person's word.
    pub ask_person: Setting<Vec<ToolName>>,
    /// The hosts that agents may list. `None`: all public ones.
    pub allowed_hosts: Option<Setting<Vec<Arc<str>>>>,
    /// Hosts that may be reached although their address is private or loopback.
    pub private_hosts: Setting<Vec<Arc<str>>>,
    /// How often one agent may connect to one host.
    pub http_rate: Setting<ConnectRate>,
    /// The provider's address, without a slash at its end.
    pub endpoint: Setting<Arc<str>>,
    /// The provider's key.
    pub api_key: Option<Setting<SecretString>>,
    /// Prices beside the built-in table; they replace built-in entries of the same id.
    pub prices: Setting<Vec<ModelSpec>>,
    /// Patterns of what is redacted beside the built-in ones.
    pub redact: Setting<Vec<OperatorPattern>>,
    /// How long artifacts are kept.
    pub retention: Setting<Duration>,
    /// How many artifacts are kept; without a number, all that are young enough.
    pub retention_count: Setting<Option<u64>>,
    /// How many bytes of artifacts are kept; without a number, all that are young enough.
    pub retention_size: Setting<Option<u64>>,
    /// The most bytes of artifacts at any time.
    pub artifact_bytes_max: Setting<u64>,
    /// How long records of the audit log are kept; without a time, for ever.
    pub audit_retention: Setting<Option<Duration>>,
    /// How many records of the audit log are kept; without a number, all that are young enough.
    pub audit_retention_count: Setting<Option<u64>>,
    /// Bytes that the data of contexts may take in memory.
    pub context_memory: Setting<u64>,
    /// Bytes of contexts that may stand on disk beside those; zero moves none there.
    pub context_disk: Setting<u64>,
    /// How many messages a transcript keeps, the last ones.
    pub transcript_messages: Setting<usize>,
    /// Variables that agent files may insert beside those with the open prefix.
    pub variables: Setting<Vec<String>>,
    /// Directories outside of the project that project files may name; absolute.
    pub directories: Setting<Vec<PathBuf>>,
    /// Settings of tools, before those of agent files.
    pub tool_settings: Setting<BTreeMap<ToolName, ToolPolicy>>,
    /// Limits of single calls.
    pub tool_limits: Setting<BTreeMap<ToolName, ToolPolicy>>,
    /// What programs get.
    pub programs: Setting<Programs>,
    /// Headers of the `http` tool.
    pub http_headers: Setting<Vec<HttpHeader>>,
    /// The token of the environment for `otto serve`; it allows everything.
    pub server_token: Option<Setting<SecretString>>,
    /// Further tokens for `otto serve`.
    pub server_tokens: Setting<Vec<ServerToken>>,
    /// Names beside its address under which `otto serve` is reached.
    pub server_hosts: Setting<Vec<Arc<str>>>,
    /// The user's home directory, if known.
    pub home: Option<PathBuf>,
    /// The directory of the user's configuration, if known: `config.yml` and `agents/`.
    pub config_dir: Option<PathBuf>,
    /// The directory of the user's state, if known: what this user has spent today in all projects, and which
    /// state directories are theirs.
    pub user_state_dir: Option<PathBuf>,
    explanations: Vec<Explanation>,
    warnings: Vec<Diagnostic>,
}

impl OperatorConfig {
    /// The defaults for a project, as if there were no file and no environment. Agents are not enabled.
    #[must_use]
    pub fn defaults(project: &Path) -> Self {
        let environment = Environment::default();
        let sources = Sources {
            environment: &environment,
            project,
            system: None,
        };
        layers::merge(&sources, Vec::new())
    }

    /// The tools that may be used; `None` for all.
    #[must_use]
    pub fn allowed_tools(&self) -> Option<BTreeSet<ToolName>> {
        let allowed = self.tools.as_ref()?;
        Some(allowed.value.iter().cloned().collect())
    }

    /// The operator's word on each tool, from `tool_settings`, `tool_limits` and `http_headers`.
    #[must_use]
    pub fn tool_policies(&self) -> BTreeMap<ToolName, ToolPolicy> {
        tool_policies::together(
            &self.tool_settings.value,
            &self.tool_limits.value,
            &self.http_headers.value,
        )
    }

    /// Every effective value with its origin, in the order of the documentation.
    #[must_use]
    pub fn explanations(&self) -> &[Explanation] {
        &self.explanations
    }

    /// What somebody should look at.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Whether the state directory is at its default place inside the project, because nobody named one.
    #[must_use]
    pub fn has_default_state_dir(&self) -> bool {
        &*self.state_dir.origin.0 == "default"
    }

    /// Paths of Otto's own that may lie inside a working directory, because the tool host protects them from
    /// every tool: the state directory at its default place inside the project. One that somebody chose is not
    /// among them; it belongs outside.
    #[must_use]
    pub fn protected_paths(&self) -> Vec<PathBuf> {
        // The host names what it protects as text.
        let is_text = self.state_dir.value.to_str().is_some();
        if self.has_default_state_dir() && is_text {
            vec![self.state_dir.value.clone()]
        } else {
            Vec::new()
        }
    }
}

impl fmt::Debug for OperatorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorConfig")
            .field("explanations", &self.explanations)
            .finish_non_exhaustive()
    }
}

/// Where the operator's configuration is read from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The project directory; a relative state directory is seen from here.
    pub project: &'a Path,
    /// The system's file; [`SYSTEM_CONFIG`] outside of tests.
    pub system: Option<&'a Path>,
}

impl Sources<'_> {
    fn home(&self) -> Option<PathBuf> {
        self.absolute(env::HOME)
    }

    /// `$XDG_CONFIG_HOME/otto`, or `$HOME/.config/otto`. A relative path there is ignored, as the XDG base
    /// directory specification (version 0.8) demands.
    fn config_dir(&self) -> Option<PathBuf> {
        let base = self
            .absolute(env::XDG_CONFIG_HOME)
            .or_else(|| Some(self.home()?.join(".config")))?;
        Some(base.join("otto"))
    }

    /// `$XDG_STATE_HOME/otto`, or `$HOME/.local/state/otto`, by the same specification.
    fn user_state_dir(&self) -> Option<PathBuf> {
        let base = self
            .absolute(env::XDG_STATE_HOME)
            .or_else(|| Some(self.home()?.join(".local/state")))?;
        Some(base.join("otto"))
    }

    fn absolute(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.environment.variable(name)?);
        path.is_absolute().then_some(path)
    }

    /// The operator's files that may exist, the first wins; and whether it must be there.
    fn files(&self) -> Vec<(PathBuf, Presence)> {
        let user = match self.environment.variable(env::OTTO_CONFIG) {
            Some(path) => Some((self.project.join(path), Presence::Required)),
            None => self
                .config_dir()
                .map(|dir| (dir.join("config.yml"), Presence::Optional)),
        };
        let system = self
            .system
            .map(|path| (path.to_owned(), Presence::Optional));
        user.into_iter().chain(system).collect()
    }
}

/// The operator's files that are read, whether they exist or not.
pub(crate) fn files(sources: &Sources<'_>) -> Vec<PathBuf> {
    sources.files().into_iter().map(|(path, _)| path).collect()
}

/// The directory of the user's configuration, if known.
pub(crate) fn user_dir(sources: &Sources<'_>) -> Option<PathBuf> {
    sources.config_dir()
}

/// Whether a missing file is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

/// Reads the operator's configuration from all its sources.
///
/// # Errors
/// Every problem of every source.
pub fn load_operator(sources: &Sources<'_>) -> Result<OperatorConfig, ConfigErrors> {
    let mut problems = ConfigErrors::default();
    let mut given = vec![layers::of_environment(sources, &mut problems)];
    for (path, presence) in sources.files() {
        given.extend(file::read(&path, presence, sources, &mut problems));
    }
    problems.extend(layers::unknown_variables(sources.environment));
    if problems.has_errors() {
        return Err(problems);
    }
    let mut config = layers::merge(sources, given);
    config.warnings = problems.into_diagnostics();
    Ok(config)
}
