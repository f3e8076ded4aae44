//! What a test stands in: a directory tree with an inside and an outside, a host at some level, a witness.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use otto_core::policy::{Permission, Permissions};
use otto_core::port::BoxFuture;
use otto_core::port::tool::{AuditLog, Cancellation, ToolError};
use otto_core::port::tool_host::{HostGrant, HostRequest, ToolHost};
use otto_core::{AgentName, ToolName};
use otto_sandbox::{HostConfig, LevelChoice, WorkerHost, booted};

/// A tree that is removed when dropped.
pub struct Tree {
    _root: tempfile::TempDir,
    pub root: PathBuf,
}

/// The content of files that no worker may read.
pub const SECRET: &str = "SECRET outside";
pub const INSIDE: &str = "inside";

impl Tree {
    /// `work` with a few files, `outside` with a canary, `work-evil` whose name extends the other.
    pub fn new() -> Self {
        let temp = tempfile::tempdir().expect("a directory for the test");
        let root = temp.path().canonicalize().expect("the directory is there");
        // A normal user runs through here as well.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("our own directory");
        let tree = Self { _root: temp, root };
        for dir in ["work", "work/sub", "outside", "work-evil", "scratch"] {
            fs::create_dir(tree.path(dir)).expect("a new directory");
        }
        for (file, content) in [
            ("work/file", INSIDE),
            ("work/sub/file", INSIDE),
            ("outside/canary", SECRET),
            ("work-evil/canary", SECRET),
        ] {
            fs::write(tree.path(file), content).expect("a new file");
        }
        for (link, target) in [
            ("work/link-out", "../outside/canary"),
            ("work/link-abs", "/etc/passwd"),
            ("work/link-dir", "../outside"),
        ] {
            std::os::unix::fs::symlink(target, tree.path(link)).expect("a new link");
        }
        tree
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub fn text(&self, below: &str) -> String {
        self.path(below).display().to_string()
    }

    pub fn config(&self, level: LevelChoice) -> HostConfig {
        HostConfig {
            level,
            ..HostConfig::new(self.path("scratch"))
        }
    }

    pub fn host(&self, level: LevelChoice) -> WorkerHost {
        booted().host(self.config(level))
    }
}

/// A runtime for one test.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(future)
}

/// One call.
pub struct Call {
    pub agent: String,
    pub tool: String,
    pub input: String,
    pub grant: HostGrant,
    pub time_left: Duration,
    pub cancellation: Arc<dyn Cancellation>,
    pub audit: Option<Arc<dyn AuditLog>>,
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

/// The agent of a test that needs one.
pub const AGENT: &str = "tester";

pub const NOTHING: &[Permission] = &[];
pub const READ: &[Permission] = &[Permission::Read];
pub const WRITE: &[Permission] = &[Permission::Write];
pub const READ_WRITE: &[Permission] = &[Permission::Read, Permission::Write];
pub const EXEC: &[Permission] = &[Permission::Exec];
pub const NET: &[Permission] = &[Permission::Net];

impl Call {
    pub fn new(
        tool: &str,
        input: impl Into<String>,
        permissions: &[Permission],
        working_dir: &Path,
    ) -> Self {
        Self {
            agent: AGENT.to_owned(),
            tool: tool.to_owned(),
            input: input.into(),
            grant: HostGrant {
                permissions: Permissions::of(permissions),
                working_dir: Some(working_dir.to_owned()),
                ..HostGrant::default()
            },
            time_left: Duration::from_secs(60),
            cancellation: Arc::new(Never),
            audit: None,
        }
    }

    pub fn of(self, agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            ..self
        }
    }

    pub fn within(self, time_left: Duration) -> Self {
        Self { time_left, ..self }
    }

    pub async fn run(self, host: &WorkerHost) -> Result<String, ToolError> {
        let request = HostRequest {
            agent: AgentName::new(&self.agent).expect("a name"),
            tool: ToolName::new(&self.tool).expect("a name"),
            input: self.input.into(),
            grant: self.grant,
            settings: None,
            time_left: self.time_left,
            cancellation: self.cancellation,
            audit: self.audit,
        };
        host.run(request).await.map(|output| output.content)
    }
}

/// A process that waits to be attacked, and ends with the test.
pub struct Witness(Child);

impl Witness {
    pub fn new() -> Self {
        let child = Command::new("/proc/self/exe")
            .arg("--witness")
            .stdin(Stdio::piped())
            .spawn();
        Self(child.expect("the test can be started once more"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
