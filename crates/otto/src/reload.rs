//! Hot reload: the configuration's directories are watched, a changed configuration is checked whole and then
//! put in place of the old one.
//!
//! The directories are watched, not the files: an editor that saves by renaming replaces the file. Any event,
//! an overflow of the kernel's queue included, means the same: read everything again, 200 ms after the last.
//! What no event tells (a file on another machine, a prompt file elsewhere in the project) is found by a
//! rescan every half minute.
//!
//! Invariant: what is in force is always one whole configuration that was valid. A broken one changes nothing
//! but the component `configuration`, which says what is wrong; running invocations keep what they began with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use otto_core::model::PriceTable;
use otto_core::port::tool_host::ToolHost;
use otto_engine::{Child, Condition, RestartRule};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Explanation, OperatorConfig, Sources};
use crate::env::Environment;
use crate::load::{self, Agents, KnownTool, LoadRequest, PROJECT_AGENTS};
use crate::otto::{Inner, Otto};
use crate::wiring::ceilings;

/// Makes a tool host for an operator's configuration.
pub type MakeHost = Arc<dyn Fn(&OperatorConfig) -> Arc<dyn ToolHost> + Send + Sync>;

/// What is watched, and what it is checked against.
#[derive(Clone)]
pub struct ConfigWatch {
    /// The project directory, as [`load::project_dir`] gives it.
    pub project: PathBuf,
    /// The environment that was read at the start; it does not change.
    pub environment: Environment,
    /// The system's file; [`config::SYSTEM_CONFIG`] outside of tests.
    pub system: Option<PathBuf>,
    /// The tools that agents may list.
    pub tools: Vec<KnownTool>,
    /// Makes the host of the base tools anew when the operator's configuration has changed; `None` without base
    /// tools, or to keep the one that is there.
    pub host: Option<MakeHost>,
}

/// The last look at the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// How many looks there were.
    pub looks: u64,
    /// How many changed configurations were applied.
    pub applied: u64,
    /// What is wrong with the configuration as it stands, if anything is; the last good one is in force.
    pub problems: Option<Arc<str>>,
}

/// The component's name.
const NAME: &str = "configuration";
/// How long nothing must have changed before everything is read again.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// BOUND: for something that changes all the time.
const DEBOUNCE_MAX: Duration = Duration::from_secs(2);
/// How often everything is read again without an event.
const RESCAN: Duration = Duration::from_secs(30);
/// Operator keys that are read once, by their beginning: what they configure is built at the start.
const AT_START: &[&str] = &[
    "state_dir",
    "endpoint",
    "prices",
    "private_hosts",
    "http_rate",
    "redact",
    "retention",
    "audit_retention",
    "contexts",
];

impl Otto {
    /// Watches the configuration from now on, as a supervised component. The receiver tells of every look.
    ///
    /// Applied without a restart: agent files, and of the operator's configuration what [`crate::load`] checks
    /// against (tools, hosts, directories, variables), `enabled`, `ceilings`, `transcript_messages` and `audit`. Other changed keys
    /// are named by the component `configuration` as waiting for a restart.
    pub fn watch_configuration(&self, watch: ConfigWatch) -> watch::Receiver<Reloaded> {
        let (told, receiver) = watch::channel(Reloaded::default());
        let inner = Arc::downgrade(&self.inner);
        let told = Arc::new(told);
        let child = Child::new(NAME, RestartRule::INFRASTRUCTURE, move |stop| {
            let state = Reloader {
                inner: inner.clone(),
                watch: Arc::new(watch.clone()),
                told: told.clone(),
                at_start: None,
                tools_follow: None,
                is_waiting: false,
            };
            Box::pin(state.run(stop))
        });
        self.engine().supervisor().start(child);
        receiver
    }
}

struct Reloader {
    inner: Weak<Inner>,
    watch: Arc<ConfigWatch>,
    told: Arc<watch::Sender<Reloaded>>,
    /// The keys of [`AT_START`] as they were first read.
    at_start: Option<BTreeMap<String, String>>,
    /// The operator's configuration that the tools follow.
    tools_follow: Option<Vec<Explanation>>,
    /// Whether a changed key waits for a restart.
    is_waiting: bool,
}

/// What a look found.
type Looked = Result<(OperatorConfig, Agents), String>;

impl Reloader {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            // A new watcher for each look: a directory that came or was replaced has a new identity.
            let (sender, mut changed) = mpsc::channel(1);
            let watcher = self.watcher(sender);
            // Watched first, read then: a change in between is told.
            if !self.look().await {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RESCAN) => {}
                Some(()) = changed.recv() => settle(&mut changed).await,
            }
            drop(watcher);
        }
    }

    /// A watcher of every directory that exists; `None` where the kernel has none to give: the rescan is left.
    fn watcher(&self, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let passages = self.passages();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let is_ours = event.as_ref().is_ok_and(|event| {
                    !event.kind.is_access()
                        && (event.need_rescan()
                            || event.paths.is_empty()
                            || event.paths.iter().any(|path| !is_noise(path, &passages)))
                });
                if is_ours || event.is_err() {
                    // A full channel has told already.
                    let _ = changed.try_send(());
                }
            })
            .ok()?;
        for directory in self.directories() {
            // One that is not there is found by the watch of the one above it.
            let _ = watcher.watch(&directory, RecursiveMode::NonRecursive);
        }
        Some(watcher)
    }

    fn directories(&self) -> Vec<PathBuf> {
        let agents = self.watch.project.join(PROJECT_AGENTS);
        let mut directories: Vec<PathBuf> = self
            .passages()
            .into_iter()
            .map(|(directory, _)| directory)
            .collect();
        directories.extend(agents.parent().map(Path::to_owned));
        directories.push(agents);
        let system = self.watch.system.as_deref();
        let sources = sources(&self.watch, system);
        for file in config::files(&sources) {
            directories.extend(file.parent().map(Path::to_owned));
        }
        if let Some(user) = config::user_dir(&sources) {
            directories.push(user.join("agents"));
            directories.push(user);
        }
        directories
    }

    /// Directories of others, watched for the one entry that leads to ours: agents write into the project,
    /// other programs into the user's configuration.
    fn passages(&self) -> Vec<(PathBuf, OsString)> {
        let mut passages = vec![(self.watch.project.clone(), OsString::from(".otto"))];
        if let Some(user) = config::user_dir(&sources(&self.watch, None))
            && let (Some(parent), Some(name)) = (user.parent(), user.file_name())
        {
            passages.push((parent.to_owned(), name.to_owned()));
        }
        passages
    }

    /// Reads everything and applies it if it is good and new. Says whether Otto is still there.
    async fn look(&mut self) -> bool {
        let Some(inner) = self.inner.upgrade() else {
            return false;
        };
        let (watch, prices) = (self.watch.clone(), inner.prices.clone());
        let read = tokio::task::spawn_blocking(move || read(&watch, &prices)).await;
        let looked = read.unwrap_or_else(|panic| Err(format!("read the configuration: {panic}")));
        let is_first = self.at_start.is_none();
        let looked = looked.and_then(|(operator, agents)| {
            self.renew_tools(&inner, &operator)?;
            Ok((operator, agents))
        });
        match looked {
            Ok((operator, agents)) => {
                let is_applied = apply(&inner, &operator, &agents);
                let was_broken = self.told.borrow().problems.is_some();
                if is_applied || was_broken || is_first {
                    inner.engine.report_configuration(Ok(agents.iter().count()));
                }
                self.name_what_waits(&inner, &operator);
                self.tell(|told| {
                    told.applied += u64::from(is_applied);
                    told.problems = None;
                });
            }
            Err(problems) => {
                let is_news = self.told.borrow().problems.as_deref() != Some(&*problems);
                if is_news {
                    inner.engine.report_configuration(Err(&problems));
                }
                self.tell(|told| told.problems = Some(Arc::from(problems)));
            }
        }
        true
    }

    /// Gives the base tools the operator's new policy, if it has changed since the last look.
    fn renew_tools(&mut self, inner: &Arc<Inner>, operator: &OperatorConfig) -> Result<(), String> {
        let now = operator.explanations();
        let is_same = self.tools_follow.as_deref().is_none_or(|then| then == now);
        if let (false, Some(make_host)) = (is_same, &self.watch.host) {
            let otto = Otto {
                inner: inner.clone(),
            };
            otto.reload_tools(operator, &make_host(operator))
                .map_err(|error| format!("renew the tools: {error}"))?;
        }
        self.tools_follow = Some(now.to_vec());
        Ok(())
    }

    fn name_what_waits(&mut self, inner: &Inner, operator: &OperatorConfig) {
        let now: BTreeMap<String, String> = operator
            .explanations()
            .iter()
            .filter(|known| AT_START.iter().any(|key| known.key.starts_with(key)))
            .map(|known| (known.key.clone(), known.value.clone()))
            .collect();
        let Some(at_start) = &self.at_start else {
            self.at_start = Some(now);
            return;
        };
        let waiting: Vec<&str> = now
            .iter()
            .filter(|(key, value)| at_start.get(*key) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect();
        let health = inner.engine.component_health();
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            let reason = format!("changed, and read at the next start: {keys}");
            health.report(NAME, Condition::degraded(&reason));
        } else if self.is_waiting {
            // Changed back.
            health.report(NAME, Condition::Ready);
        }
        self.is_waiting = !waiting.is_empty();
    }

    fn tell(&self, change: impl FnOnce(&mut Reloaded)) {
        self.told.send_modify(|told| {
            told.looks += 1;
            change(told);
        });
    }
}

/// Waits until nothing has changed for a while.
async fn settle(changed: &mut mpsc::Receiver<()>) {
    let latest = Instant::now() + DEBOUNCE_MAX;
    loop {
        let quiet = (Instant::now() + DEBOUNCE).min(latest);
        match tokio::time::timeout_at(quiet, changed.recv()).await {
            Ok(Some(())) if Instant::now() < latest => {}
            _ => return,
        }
    }
}

/// Whether a path lies in a directory of others and does not lead to ours.
fn is_noise(path: &Path, passages: &[(PathBuf, OsString)]) -> bool {
    passages
        .iter()
        .any(|(directory, ours)| path.parent() == Some(directory) && path.file_name() != Some(ours))
}

fn sources<'a>(watch: &'a ConfigWatch, system: Option<&'a Path>) -> Sources<'a> {
    Sources {
        environment: &watch.environment,
        project: &watch.project,
        system,
    }
}

fn read(watch: &ConfigWatch, prices: &PriceTable) -> Looked {
    let operator = config::load_operator(&sources(watch, watch.system.as_deref()))
        .map_err(|errors| errors.to_string())?;
    let agents = load::load(&LoadRequest {
        project: &watch.project,
        operator: &operator,
        tools: &watch.tools,
        prices,
        environment: &watch.environment,
        protected: &operator.protected_paths(),
    })
    .map_err(|errors| errors.to_string())?;
    Ok((operator, agents))
}

/// Puts it in force; says whether anything is new.
fn apply(inner: &Arc<Inner>, operator: &OperatorConfig, agents: &Agents) -> bool {
    let otto = Otto {
        inner: inner.clone(),
    };
    let next: Vec<_> = agents.iter().map(|agent| agent.config.clone()).collect();
    let settings = inner.engine.settings();
    let next_ceilings = ceilings(operator);
    let is_same = otto.agents() == next
        && settings.enabled == operator.enabled.value
        && settings.audit_mode == operator.audit.value
        && settings.ceilings == next_ceilings
        && settings.transcript_messages == operator.transcript_messages.value;
    if is_same {
        return false;
    }
    inner.engine.change_settings(|settings| {
        settings.enabled = operator.enabled.value;
        settings.audit_mode = operator.audit.value;
        settings.ceilings = next_ceilings.clone();
        settings.transcript_messages = operator.transcript_messages.value;
    });
    otto.replace_agents(next.iter().map(|agent| (**agent).clone()));
    true
}

#[cfg(test)]
mod tests;
