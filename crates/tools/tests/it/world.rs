//! A working directory with an agent in it, and secrets around it that no call may reach.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{AgentConfig, Budgets, DEFAULTS, Origin, Root};
use otto_core::policy::Permissions;
use otto_core::port::BoxFuture;
use otto_core::port::contexts::{ContextChange, ContextData, ContextError};
use otto_core::port::tool::{
    BudgetGuard, Cancellation, CorrelationIds, Tool, ToolContext, ToolError, ToolErrorKind,
};
use otto_core::port::tool_host::ToolHost;
use otto_core::{
    AgentName, ContextId, InvocationId, ModelId, Money, SessionId, TaskId, Timestamp, ToolCallId,
    ToolName,
};
use otto_sandbox::InProcessHost;
use tempfile::TempDir;

/// What lies outside the working directory.
pub(crate) const SECRET: &str = "the-secret-outside";

pub(crate) struct World {
    /// Holds everything; removed at the end.
    base: TempDir,
    tools: Vec<Arc<dyn Tool>>,
    pub(crate) settings: BTreeMap<ToolName, Arc<str>>,
    pub(crate) time: Duration,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// `base/wd` is the working directory, `base/docs` the read-only root `docs`, `base/secret.txt` and
    /// `base/wd-evil/secret.txt` are outside.
    pub(crate) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        for dir in ["wd", "docs", "wd-evil"] {
            fs::create_dir(base.path().join(dir)).unwrap();
        }
        fs::write(base.path().join("secret.txt"), SECRET).unwrap();
        fs::write(base.path().join("wd-evil/secret.txt"), SECRET).unwrap();
        let host: Arc<dyn ToolHost> = Arc::new(InProcessHost::new(otto_tools::dispatch));
        Self {
            base,
            tools: otto_tools::catalog(&host, &BTreeMap::new()),
            settings: BTreeMap::new(),
            time: Duration::from_secs(60),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn with_files(files: &[(&str, &str)]) -> Self {
        let world = Self::new();
        for (path, content) in files {
            world.put(path, content);
        }
        world
    }

    /// The place of `path` in the working directory.
    pub(crate) fn wd(&self, path: &str) -> PathBuf {
        self.base.path().join("wd").join(path)
    }

    /// The place of `path` beside the working directory.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        self.base.path().join(path)
    }

    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.wd(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        fs::read_to_string(self.wd(path)).unwrap()
    }

    /// Names in a directory of the working directory, sorted.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.wd(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn set(&mut self, tool: &str, settings: &str) {
        self.settings
            .insert(ToolName::new(tool).unwrap(), Arc::from(settings));
    }

    /// One call, from its JSON text to what the model would get.
    pub(crate) fn call_text(&self, tool: &str, input: &str) -> Result<String, ToolError> {
        let tool = self
            .tools
            .iter()
            .find(|known| known.definition().name.as_str() == tool)
            .unwrap();
        let ctx = self.context(tool.definition().permissions);
        let output = self.runtime.block_on(tool.call(&ctx, input))?;
        assert!(
            output.content.len() <= tool.definition().max_output_bytes,
            "the answer is bounded"
        );
        Ok(output.content)
    }

    pub(crate) fn call(&self, tool: &str, input: serde_json::Value) -> Result<String, ToolError> {
        self.call_text(tool, &input.to_string())
    }

    /// The answer of a call that must work.
    #[track_caller]
    pub(crate) fn ok(&self, tool: &str, input: serde_json::Value) -> String {
        self.call(tool, input.clone())
            .unwrap_or_else(|error| panic!("{tool} {input}: {error}"))
    }

    /// The message of a call that must fail for the model or be denied.
    #[track_caller]
    pub(crate) fn err(&self, tool: &str, input: serde_json::Value) -> String {
        match self.call(tool, input.clone()) {
            Ok(content) => panic!("{tool} {input} worked: {content}"),
            Err(error) => {
                assert!(
                    matches!(
                        error.kind,
                        ToolErrorKind::ForModel | ToolErrorKind::Denied(_)
                    ),
                    "{tool} {input}: {error:?}"
                );
                assert!(
                    input.to_string().contains(self.place())
                        || !error.message.contains(self.place()),
                    "the error names a place outside the grant: {error}"
                );
                error.message
            }
        }
    }

    fn place(&self) -> &str {
        self.base.path().to_str().unwrap()
    }

    pub(crate) fn context(&self, granted: Permissions) -> ToolContext {
        let at = Timestamp::from_millis(0);
        ToolContext {
            agent: Arc::new(self.agent()),
            granted,
            budget: Arc::new(NoBudget),
            ids: CorrelationIds {
                workflow: None,
                session: SessionId::from_parts(at, [0; 10]),
                task: TaskId::from_parts(at, [0; 10]),
                invocation: InvocationId::from_parts(at, [0; 10]),
                call: ToolCallId(Arc::from("call")),
            },
            time_left: self.time,
            cancellation: Arc::new(Never),
            data: Arc::new(NoData),
            audit: None,
        }
    }

    fn agent(&self) -> AgentConfig {
        AgentConfig {
            name: AgentName::new("tester").unwrap(),
            description: Arc::from(""),
            model: ModelId::new("none").unwrap(),
            system_prompt: Arc::from(""),
            tools: Vec::new(),
            working_dir: Some(real(&self.base.path().join("wd"))),
            roots: BTreeMap::from([(
                Arc::from("docs"),
                Root {
                    path: real(&self.base.path().join("docs")),
                },
            )]),
            budgets: Budgets::default(),
            max_output_tokens: DEFAULTS.max_output_tokens,
            compaction: None,
            tell_limits: false,
            allowed_hosts: Vec::new(),
            shared: false,
            tool_settings: self.settings.clone(),
            origin: Origin::new("test"),
        }
    }
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap()
}

struct NoBudget;

impl BudgetGuard for NoBudget {
    fn cost_left(&self) -> Option<Money> {
        None
    }

    fn tokens_left(&self) -> Option<u64> {
        None
    }

    fn time_left(&self) -> Duration {
        Duration::MAX
    }
}

/// The base tools keep nothing in contexts.
struct NoData;

impl ContextData for NoData {
    fn id(&self) -> ContextId {
        ContextId::from_bytes([0; 16])
    }

    fn read<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<Arc<[u8]>>, ContextError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn update<'a>(
        &'a self,
        _key: &'a str,
        _change: ContextChange<'a>,
    ) -> BoxFuture<'a, Result<(), ContextError>> {
        Box::pin(std::future::ready(Err(ContextError::Gone(self.id()))))
    }
}

struct Never;

impl Cancellation for Never {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
