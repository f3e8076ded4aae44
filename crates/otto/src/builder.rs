//! Putting an Otto together: store, provider, tools, limits.
//!
//! Everything has a safe default; what has none (enabling, a provider) must be said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use otto_anthropic::{AnthropicClient, AnthropicConfig};
use otto_core::ToolName;
use otto_core::agent::{AgentConfig, DEFAULTS, Limit, Origin};
use otto_core::model::CacheUse;
use otto_core::policy::{Permission, Permissions};
use otto_core::port::contexts::ContextFiles;
use otto_core::port::llm_client::LlmClient;
use otto_core::port::store::{AuditLog, Blobs, Store, StoreError};
use otto_core::port::tool::Tool;
use otto_core::port::tool_host::ToolHost;
use otto_core::redact::Redactor;
use otto_core::transcript::DEFAULT_MESSAGES;
use otto_engine::clock::{Clock, IdSource, RandomIds, SystemClock};
use otto_engine::{
    Admission, Ceilings, ContextStore, DEFAULT_MAX_BYTES, Engine, EngineParts, EngineSettings,
    KillPlaces, TelemetryParts, ToolBus, ToolBusError,
};
use otto_store_embedded::{
    DEFAULT_ARTIFACT_BYTES_MAX, EmbeddedStore, RetentionPolicy, StoreConfig,
};
use otto_store_memory::MemoryStore;
use otto_tools::ToolPolicy;

use crate::ask_person::AskPerson;
use crate::audit_retention::{self, AuditRetention};
use crate::otto::{Inner, Otto};
use crate::retention;
use crate::user::{self, DayBook, DayStore};

/// Puts an Otto together.
pub struct Builder {
    enabled: bool,
    keep: Keep,
    node: Option<Arc<str>>,
    client: Option<Arc<dyn LlmClient>>,
    host: Option<Arc<dyn ToolHost>>,
    tools: Vec<Arc<dyn Tool>>,
    agents: Vec<AgentConfig>,
    ceilings: Ceilings,
    allowed_permissions: Permissions,
    allowed_tools: Option<BTreeSet<ToolName>>,
    tool_policies: BTreeMap<ToolName, ToolPolicy>,
    configuration: Vec<(String, String)>,
    redactor: Option<Redactor>,
    audit_mode: bool,
    audit_log: Option<Arc<dyn AuditLog>>,
    transcript_messages: usize,
    cache: CacheUse,
    admission: Admission,
    killed: Option<Arc<str>>,
    retention: RetentionPolicy,
    audit_retention: AuditRetention,
    context_memory: usize,
    context_disk: u64,
    artifact_bytes_max: u64,
    telemetry: TelemetryParts,
    user_state_dir: Option<PathBuf>,
    ask_person: Vec<ToolName>,
    #[cfg(feature = "otel")]
    otlp: Option<(Arc<crate::otlp::OtlpConfig>, Arc<crate::otlp::Waiting>)>,
}

enum Keep {
    InMemory,
    InDirectory(PathBuf),
    /// At its default place inside a project: only if Otto made it for this user.
    InProject(PathBuf),
    In {
        store: Arc<dyn Store>,
        blobs: Option<Arc<dyn Blobs>>,
    },
}

/// Why an Otto could not be opened. Nothing was changed then, except that its state directory may exist.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No provider was named.
    #[error("no provider: call `Builder::anthropic` or `Builder::client`")]
    NoProvider,
    /// There is no key for the provider.
    #[error(
        "no key for the provider: set ANTHROPIC_API_KEY in the environment; `otto demo` works without one"
    )]
    NoKey,
    /// The provider's address is not a URL.
    #[error(
        "the provider's address `{endpoint}`, set by {origin}, is not a URL such as https://api.anthropic.com"
    )]
    Endpoint {
        /// The address.
        endpoint: Arc<str>,
        /// Where it was set.
        origin: Origin,
    },
    /// The provider's configuration is wrong.
    #[error("configure the provider")]
    Provider(#[from] otto_anthropic::ConfigError),
    /// The state directory cannot be used.
    #[error("open the state directory `{}`", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A redaction pattern or secret cannot be used.
    #[error("prepare redaction")]
    Redaction(#[from] otto_core::redact::RedactionError),
    /// Two tools have the same name.
    #[error("register the tools")]
    Tools(#[from] ToolBusError),
}

/// The file in the state directory that throws the kill switch by being there.
pub const KILL_FILE: &str = "KILL";
/// The folder in the state directory that holds requests to cancel.
const CANCEL_FOLDER: &str = "cancel";
/// The row is read this often where the file carries the word: for a throw whose file could not be written.
const ROW_BEHIND_FILE: Duration = Duration::from_secs(1);
/// The row is read this often where only it carries the word.
const ROW_ALONE: Duration = Duration::from_millis(50);

/// BOUND: invocations that run at once, and that wait behind them.
const MAX_RUNNING: usize = 10_000;
const MAX_WAITING: usize = 10_000;

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            enabled: false,
            keep: Keep::InMemory,
            node: None,
            client: None,
            host: None,
            tools: Vec::new(),
            agents: Vec::new(),
            ceilings: Ceilings::daily(Limit::new(DEFAULTS.daily_cost, "default")),
            allowed_permissions: Permissions::of(&Permission::ALL),
            allowed_tools: None,
            tool_policies: BTreeMap::new(),
            configuration: Vec::new(),
            redactor: None,
            audit_mode: false,
            audit_log: None,
            transcript_messages: DEFAULT_MESSAGES,
            cache: CacheUse::FiveMinutes,
            admission: Admission::new(MAX_RUNNING, MAX_WAITING),
            killed: None,
            retention: RetentionPolicy {
                max_age: None,
                max_count: None,
                max_bytes: None,
            },
            audit_retention: AuditRetention::default(),
            context_memory: DEFAULT_MAX_BYTES,
            context_disk: 0,
            artifact_bytes_max: DEFAULT_ARTIFACT_BYTES_MAX,
            telemetry: TelemetryParts::default(),
            user_state_dir: None,
            ask_person: Vec::new(),
            #[cfg(feature = "otel")]
            otlp: None,
        }
    }

    /// Lets agents run. Without it every invocation is refused.
    #[must_use]
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Keeps journal, ledger and artifacts in this directory. The default keeps them in memory.
    #[must_use]
    pub fn state_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.keep = Keep::InDirectory(path.as_ref().to_owned());
        self
    }

    /// As [`Builder::state_dir`], for a directory that a project may have brought along: it is used only if
    /// Otto made it for this user, which needs [`Builder::user_state_dir`].
    pub(crate) fn state_dir_in_project(mut self, path: &Path) -> Self {
        self.keep = Keep::InProject(path.to_owned());
        self
    }

    /// Shares the daily ceiling with every Otto that names the same directory, whatever its state directory.
    /// Without it the ceiling holds for each state directory on its own.
    #[must_use]
    pub fn user_state_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.user_state_dir = Some(path.as_ref().to_owned());
        self
    }

    /// Tools whose interrupted calls wait for a person's word before the invocation goes on.
    #[must_use]
    pub fn ask_person(mut self, tools: impl IntoIterator<Item = ToolName>) -> Self {
        self.ask_person.extend(tools);
        self
    }

    /// Keeps everything in memory, as a builder does that was told nothing else.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.keep = Keep::InMemory;
        self
    }

    /// Keeps everything in a store of your own.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>, blobs: Option<Arc<dyn Blobs>>) -> Self {
        self.keep = Keep::In { store, blobs };
        self
    }

    /// The name of this process in leases, unique for each start; for a store of your own that was opened under a
    /// name. A store that learns of a process's death can end only the leases that bear the name it knows.
    #[must_use]
    pub fn node(mut self, node: impl Into<Arc<str>>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Keeps the audit log here; for a store of your own. A state directory keeps it by itself.
    #[must_use]
    pub fn audit_log(mut self, log: Arc<dyn AuditLog>) -> Self {
        self.audit_log = Some(log);
        self
    }

    /// Calls Anthropic's models.
    ///
    /// # Errors
    /// When the address or the key cannot be used.
    pub fn anthropic(self, config: AnthropicConfig) -> Result<Self, OpenError> {
        Ok(self.anthropic_client(AnthropicClient::new(config)?))
    }

    pub(crate) fn anthropic_client(mut self, client: AnthropicClient) -> Self {
        // Its name in the semantic conventions.
        self.telemetry.provider = Arc::from("anthropic");
        self.client(Arc::new(client))
    }

    /// Calls a provider of your own.
    #[must_use]
    pub fn client(mut self, client: Arc<dyn LlmClient>) -> Self {
        self.client = Some(client);
        self
    }

    /// Offers Otto's own tools, run by this host.
    #[must_use]
    pub fn base_tools(mut self, host: Arc<dyn ToolHost>) -> Self {
        self.host = Some(host);
        self
    }

    /// Offers a tool of your own. It runs in this process, as trusted code.
    #[must_use]
    pub fn tool(mut self, tool: impl Tool + 'static) -> Self {
        self.tools.push(Arc::new(tool));
        self
    }

    /// Adds an agent.
    #[must_use]
    pub fn agent(mut self, agent: AgentConfig) -> Self {
        self.agents.push(agent);
        self
    }

    /// Adds agents.
    #[must_use]
    pub fn agents(mut self, agents: impl IntoIterator<Item = AgentConfig>) -> Self {
        self.agents.extend(agents);
        self
    }

    /// Sets the limits of whole scopes. The default is 10 USD for everything on one UTC day.
    #[must_use]
    pub fn ceilings(mut self, ceilings: Ceilings) -> Self {
        self.ceilings = ceilings;
        self
    }

    /// The rights that any agent may have at most. The default is all.
    #[must_use]
    pub const fn allowed_permissions(mut self, permissions: Permissions) -> Self {
        self.allowed_permissions = permissions;
        self
    }

    /// The tools that may be used at all (`None` for all), and the operator's word on single base tools.
    #[must_use]
    pub fn tool_policy(
        mut self,
        allowed: Option<BTreeSet<ToolName>>,
        policies: BTreeMap<ToolName, ToolPolicy>,
    ) -> Self {
        self.allowed_tools = allowed;
        self.tool_policies = policies;
        self
    }

    /// What is in force, as `key` and `value (origin)`, for the audit log.
    #[must_use]
    pub(crate) fn configuration(mut self, configuration: Vec<(String, String)>) -> Self {
        self.configuration = configuration;
        self
    }

    /// What masks secrets. The default masks the common credential formats.
    #[must_use]
    pub fn redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = Some(redactor);
        self
    }

    /// Policy only reports what it would deny. Money limits hold all the same.
    #[must_use]
    pub const fn audit_mode(mut self, audit_mode: bool) -> Self {
        self.audit_mode = audit_mode;
        self
    }

    /// How many messages a transcript keeps, the last ones: 200 where nothing is said, at most 1,000. A transcript
    /// never begins between a call and its result. The journal keeps everything.
    #[must_use]
    pub const fn transcript_messages(mut self, messages: usize) -> Self {
        self.transcript_messages = messages;
        self
    }

    /// How many invocations run and wait.
    #[must_use]
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Which prompt cache markers requests carry. The default is five minutes.
    #[must_use]
    pub const fn cache(mut self, cache: CacheUse) -> Self {
        self.cache = cache;
        self
    }

    /// Starts with the kill switch thrown, for this reason, if there is one. It holds for the life of the process.
    #[must_use]
    pub fn killed(mut self, reason: Option<&str>) -> Self {
        self.killed = reason.map(Arc::from);
        self
    }

    /// Removes artifacts that are older than this, once an hour. The default keeps them.
    #[must_use]
    pub const fn retention(mut self, age: Duration) -> Self {
        self.retention.max_age = Some(age);
        self
    }

    /// Keeps at most this many artifacts, of all sessions together: once an hour the oldest beyond it are removed.
    /// Pinned sessions and sessions in use are passed over.
    #[must_use]
    pub const fn retention_count(mut self, artifacts: u64) -> Self {
        self.retention.max_count = Some(artifacts);
        self
    }

    /// As [`Builder::retention_count`], by their bytes.
    #[must_use]
    pub const fn retention_size(mut self, bytes: u64) -> Self {
        self.retention.max_bytes = Some(bytes);
        self
    }

    /// The most bytes of artifacts at any time, of all sessions together: 100 GB where nothing is said. Above it storing
    /// another one fails, until the retention has made room.
    #[must_use]
    pub const fn artifact_bytes_max(mut self, bytes: u64) -> Self {
        self.artifact_bytes_max = bytes;
        self
    }

    /// Removes records of the audit log that are older than this, once an hour, from its front. The default keeps
    /// them. The log says itself from where on it is there, and anchors of removed records cannot be compared any
    /// more.
    #[must_use]
    pub const fn audit_retention(mut self, age: Duration) -> Self {
        self.audit_retention.max_age = Some(age);
        self
    }

    /// As [`Builder::audit_retention`], by the number of records.
    #[must_use]
    pub const fn audit_retention_count(mut self, records: u64) -> Self {
        self.audit_retention.max_count = Some(records);
        self
    }

    /// How many bytes the data of contexts may take in memory, with their keys: 100 MB where nothing is said. What
    /// goes beyond moves to disk, if [`Builder::context_disk`] gives room there, or is refused.
    #[must_use]
    pub const fn context_memory(mut self, bytes: usize) -> Self {
        self.context_memory = bytes;
        self
    }

    /// How many bytes of contexts may stand on disk beside those in memory, in files below the state directory that
    /// go with their context: none where nothing is said, and none where there is no state directory. The files
    /// hold what tools wrote, unredacted.
    #[must_use]
    pub const fn context_disk(mut self, bytes: u64) -> Self {
        self.context_disk = bytes;
        self
    }

    /// Where finished spans go, and what the provider is called in them.
    #[must_use]
    pub fn telemetry(mut self, telemetry: TelemetryParts) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Sends traces and metrics to an OpenTelemetry receiver. Content is never sent.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn otlp(mut self, config: crate::otlp::OtlpConfig) -> Self {
        let waiting = Arc::new(crate::otlp::Waiting::default());
        self.telemetry.spans = Some(waiting.clone());
        self.otlp = Some((Arc::new(config), waiting));
        self
    }

    /// Opens the Otto. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When a part is missing or cannot be used.
    pub async fn open(self) -> Result<Otto, OpenError> {
        let client = self.client.ok_or(OpenError::NoProvider)?;
        let clock = Arc::new(SystemClock::start());
        let ids = Arc::new(RandomIds);
        // A name of its own for every start: whoever comes after a crash is a new node and takes the leases over.
        let node: Arc<str> = self
            .node
            .unwrap_or_else(|| Arc::from(format!("{}", ids.session(clock.now()))));
        let state_dir = match &self.keep {
            Keep::InDirectory(path) | Keep::InProject(path) => Some(path.clone()),
            Keep::InMemory | Keep::In { .. } => None,
        };
        let redactor = Arc::new(self.redactor.unwrap_or_else(Redactor::built_in));
        if self.enabled && !self.agents.is_empty() {
            let redactor = redactor.clone();
            // While the store is opened; the first task waits for it where it has not ended.
            drop(tokio::task::spawn_blocking(move || redactor.prepare()));
        }
        let keep = claimed(self.keep, self.user_state_dir.as_deref(), &node)?;
        let Opened {
            store,
            blobs,
            checkpointer,
            audit,
            context_files,
        } = open_store(keep, &node, self.artifact_bytes_max).await?;
        let contexts = match context_files {
            Some(files) if self.context_disk > 0 => {
                ContextStore::with_files(self.context_memory, self.context_disk, files)
            }
            _ => ContextStore::new(self.context_memory),
        };
        let audit = self.audit_log.or(audit);
        let day_book = self
            .user_state_dir
            .as_ref()
            .map(|dir| Arc::new(DayBook::new(dir, self.ceilings.daily_cost.clone())));
        let store = match &day_book {
            Some(book) => Arc::new(DayStore::new(store, book.clone(), clock.clone())),
            None => store,
        };
        let kill = KillPlaces {
            process: self.killed,
            file: state_dir.as_ref().map(|path| path.join(KILL_FILE)),
            row_every: Some(if state_dir.is_some() {
                ROW_BEHIND_FILE
            } else {
                ROW_ALONE
            }),
        };
        let base = self
            .host
            .as_ref()
            .map(|host| otto_tools::catalog(host, &self.tool_policies))
            .unwrap_or_default();
        let base = AskPerson::among(base, &self.ask_person);
        let tools = ToolBus::new(AskPerson::among(self.tools, &self.ask_person))?;
        tools.exchange(&[], &base, self.allowed_tools)?;
        let prices = client.prices();
        #[cfg(feature = "otel")]
        let provider = self.telemetry.provider.clone();
        let engine = Engine::start(EngineParts {
            store,
            blobs,
            client,
            tools: Arc::new(tools),
            contexts,
            clock: clock.clone(),
            ids: ids.clone(),
            redactor,
            kill,
            cancel_requests: state_dir.as_ref().map(|path| path.join(CANCEL_FOLDER)),
            telemetry: self.telemetry,
            audit: audit.clone(),
            configuration: self.configuration,
            settings: EngineSettings {
                enabled: self.enabled,
                ceilings: self.ceilings,
                allowed_permissions: self.allowed_permissions,
                audit_mode: self.audit_mode,
                transcript_messages: self.transcript_messages,
                cache: self.cache,
                admission: self.admission,
                node,
            },
        });
        #[cfg(feature = "otel")]
        if let Some((config, waiting)) = self.otlp {
            let child = crate::otlp::child(config, provider, waiting, engine.downgrade());
            engine.supervisor().start(child);
        }
        if let Some(checkpointer) = checkpointer.clone()
            && self.retention.has_bound()
        {
            let health = engine.component_health().clone();
            let child = retention::child(checkpointer, self.retention, health);
            engine.supervisor().start(child);
        }
        if let Some(log) = &audit
            && self.audit_retention.has_bound()
        {
            let health = engine.component_health().clone();
            let log = Arc::downgrade(log);
            let child = audit_retention::child(log, self.audit_retention, clock.clone(), health);
            engine.supervisor().start(child);
        }
        let agents: BTreeMap<_, _> = self
            .agents
            .into_iter()
            .map(|agent| (agent.name.clone(), Arc::new(agent)))
            .collect();
        Ok(Otto {
            inner: Arc::new(Inner {
                engine,
                agents: RwLock::new(agents),
                prices,
                day_book,
                embedded: checkpointer,
                new_workflow: Box::new(move || ids.workflow(clock.now())),
                state_dir,
                audit,
            }),
        })
    }
}

/// What was opened.
struct Opened {
    store: Arc<dyn Store>,
    blobs: Option<Arc<dyn Blobs>>,
    /// The embedded store, whose artifacts are swept.
    checkpointer: Option<Weak<EmbeddedStore>>,
    /// Kept where the state is kept on disk: in memory nobody could look at it later.
    audit: Option<Arc<dyn AuditLog>>,
    /// Where contexts go that memory has no room for.
    context_files: Option<Arc<dyn ContextFiles>>,
}

/// A state directory that may be used: one inside a project is checked, and marked if it is new.
fn claimed(keep: Keep, user_state_dir: Option<&Path>, mark: &str) -> Result<Keep, OpenError> {
    let Keep::InProject(path) = keep else {
        return Ok(keep);
    };
    match user::claim(&path, user_state_dir, mark) {
        Ok(()) => Ok(Keep::InDirectory(path)),
        Err(source) => Err(OpenError::Store { path, source }),
    }
}

async fn open_store(
    keep: Keep,
    node: &Arc<str>,
    artifact_bytes_max: u64,
) -> Result<Opened, OpenError> {
    match keep {
        Keep::InMemory => {
            let store = Arc::new(MemoryStore::new());
            Ok(Opened {
                store: store.clone(),
                blobs: Some(store),
                checkpointer: None,
                audit: None,
                context_files: None,
            })
        }
        Keep::In { store, blobs } => Ok(Opened {
            store,
            blobs,
            checkpointer: None,
            audit: None,
            context_files: None,
        }),
        Keep::InDirectory(path) | Keep::InProject(path) => {
            let config = StoreConfig {
                artifact_bytes_max,
                ..StoreConfig::new(path.clone(), node.clone())
            };
            // Opening reads and may migrate a file: not on the async threads.
            let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(config)).await;
            let failed = |source| OpenError::Store {
                path: path.clone(),
                source,
            };
            let store = opened
                .map_err(|panic| {
                    failed(StoreError::Unavailable {
                        detail: Arc::from(panic.to_string()),
                    })
                })?
                .map_err(failed)?;
            let store = Arc::new(store);
            Ok(Opened {
                checkpointer: Some(Arc::downgrade(&store)),
                context_files: Some(store.context_files()),
                store: store.clone(),
                blobs: Some(store.clone()),
                audit: Some(store),
            })
        }
    }
}
