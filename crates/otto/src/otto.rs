//! An Otto that runs: agents by name, invocations, queries.
//!
//! Invariant: everything here goes through the engine; nothing touches store, provider or tools around it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use otto_core::agent::{AgentConfig, Budgets, Limit};
use otto_core::invocation::OpenCall;
use otto_core::model::PriceTable;
use otto_core::port::store::{
    ArtifactRef, AuditHead, AuditLog, Entry, InvocationQuery, InvocationRecord, KillRow,
    StoreError, UsageGroup, UsageQuery,
};
use otto_core::port::tool_host::ToolHost;
use otto_core::task::TaskSpec;
use otto_core::transcript::Transcript;
use otto_core::{AgentName, InvocationId, Money, SessionId, ToolName, WorkflowId};
use otto_engine::{
    CancelError, Cancelling, ContextStore, Engine, HealthReport, InvocationHandle, InvokeError,
    InvokeOptions, Listening, Report, ResumeOptions, ShutdownReport, ToolBus, ToolBusError,
    UsageReport, metrics::Family,
};

use otto_store_embedded::{Cleaned, EmbeddedStore, ScrubReport, VerifyReport};

use tokio::sync::watch;

use crate::ask_person::AskPerson;
use crate::audit::Audit;
use crate::builder::Builder;
use crate::config::OperatorConfig;
use crate::redacted::{self, Redacted};
use crate::sessions::{self, SessionSummary};
use crate::suggest::closest;
use crate::tool_usage::{self, ToolUsage};
use crate::upkeep;
use crate::user::DayBook;

/// BOUND: events kept for whoever looks at an invocation that is followed by its journal.
const FOLLOWED_EVENTS: usize = 64;

/// BOUND: invocations that a list of sessions is made from.
const GROUPED_INVOCATIONS: u32 = 10_000;

/// A running Otto. Cheap to clone; all clones are the same Otto.
#[derive(Clone)]
pub struct Otto {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) agents: RwLock<BTreeMap<AgentName, Arc<AgentConfig>>>,
    pub(crate) prices: Arc<PriceTable>,
    pub(crate) day_book: Option<Arc<DayBook>>,
    pub(crate) embedded: Option<Weak<EmbeddedStore>>,
    pub(crate) new_workflow: Box<dyn Fn() -> WorkflowId + Send + Sync>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) audit: Option<Arc<dyn AuditLog>>,
}

/// What a check of everything stored has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The database.
    pub database: VerifyReport,
    /// The artifacts.
    pub artifacts: ScrubReport,
}

/// No agent of that name is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no agent `{name}`{hint}")]
pub struct UnknownAgent {
    name: String,
    hint: String,
}

/// What became of invocations whose Otto is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// They run again.
    pub resumed: Vec<InvocationRecord>,
    /// They do not, and why.
    pub left: Vec<(InvocationRecord, String)>,
}

/// An agent of a running Otto, ready to be invoked.
#[derive(Clone)]
pub struct Agent {
    otto: Otto,
    config: Arc<AgentConfig>,
}

impl Otto {
    /// Begins to put an Otto together.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The agent of that name, as it is configured now.
    ///
    /// # Errors
    /// When there is none; the message names those that are there.
    pub fn agent(&self, name: &str) -> Result<Agent, UnknownAgent> {
        let agents = self
            .inner
            .agents
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let config = AgentName::new(name)
            .ok()
            .and_then(|name| agents.get(&name).cloned());
        match config {
            Some(config) => Ok(Agent {
                otto: self.clone(),
                config,
            }),
            None => {
                let names: Vec<&str> = agents.keys().map(AgentName::as_str).collect();
                let hint = if names.is_empty() {
                    ": none is configured; `otto init` writes one".to_owned()
                } else {
                    let close = closest(name, names.iter().copied())
                        .map_or_else(String::new, |close| format!("; did you mean `{close}`?"));
                    format!("; configured are: {}{close}", names.join(", "))
                };
                let name = name
                    .chars()
                    .take(80)
                    .flat_map(char::escape_default)
                    .collect();
                Err(UnknownAgent { name, hint })
            }
        }
    }

    /// The configured agents by name.
    #[must_use]
    pub fn agents(&self) -> Vec<Arc<AgentConfig>> {
        let agents = self
            .inner
            .agents
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        agents.values().cloned().collect()
    }

    /// Exchanges the configured agents. Running invocations keep the configuration they began with.
    pub fn replace_agents(&self, agents: impl IntoIterator<Item = AgentConfig>) {
        let next = agents
            .into_iter()
            .map(|agent| (agent.name.clone(), Arc::new(agent)))
            .collect();
        *self
            .inner
            .agents
            .write()
            .unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Takes the newest resumable invocation of a session up again.
    ///
    /// # Errors
    /// When nothing of the session can be resumed, or its agent is no longer configured.
    pub async fn resume(
        &self,
        session: SessionId,
        options: ResumeOptions,
    ) -> Result<InvocationHandle, InvokeError> {
        let invocation = self.inner.engine.resumable_in(session).await?;
        let query = InvocationQuery {
            invocation: Some(invocation),
            ..InvocationQuery::default()
        };
        let found = self.inner.engine.store().invocations(query).await;
        let records = found.map_err(|source| InvokeError::Store {
            attempted: "look up the invocation",
            source,
        })?;
        let not_resumable = |why: String| InvokeError::NotResumable {
            what: format!("session {session}"),
            why,
        };
        let record = records
            .first()
            .ok_or_else(|| not_resumable("its invocation is gone".to_owned()))?;
        let agent = self
            .agent(record.agent.as_str())
            .map_err(|error| not_resumable(error.to_string()))?;
        self.inner
            .engine
            .resume(agent.config, invocation, options)
            .await
    }

    /// The session that an invocation belongs to; `None` for an invocation that is not stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn session_of(
        &self,
        invocation: InvocationId,
    ) -> Result<Option<SessionId>, StoreError> {
        let query = InvocationQuery {
            invocation: Some(invocation),
            ..InvocationQuery::default()
        };
        let found = self.invocations(query).await?;
        Ok(found.first().map(|record| record.session))
    }

    /// Invocations that did not end and whose Otto is gone, oldest first. Nothing is started by looking.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<InvocationRecord>, StoreError> {
        self.inner.engine.store().unfinished().await
    }

    /// Takes up what an Otto left behind that was shut down or died, under the limits it had. What cannot be
    /// taken up is listed with the reason: an agent that is no longer configured, a session that another
    /// process drives, or everything while agents are off or the kill switch is thrown.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recover(&self) -> Result<Recovery, StoreError> {
        let mut recovery = Recovery::default();
        let unfinished = self.unfinished().await?;
        if unfinished.is_empty() {
            return Ok(recovery);
        }
        let killed = self.kill_switch().await?;
        let registry = self.inner.engine.registry();
        for record in unfinished {
            if registry.is_driven(record.invocation) {
                continue;
            }
            let taken_up = match &killed {
                Some(row) => Err(format!("the kill switch is thrown: {}", row.reason)),
                None => self.take_up(&record).await,
            };
            match taken_up {
                Ok(()) => recovery.resumed.push(record),
                // It ran here when it was listed.
                Err(_) if self.has_ended(record.invocation).await? => {}
                Err(why) => recovery.left.push((record, why)),
            }
        }
        Ok(recovery)
    }

    async fn has_ended(&self, invocation: InvocationId) -> Result<bool, StoreError> {
        let query = InvocationQuery {
            invocation: Some(invocation),
            ..InvocationQuery::default()
        };
        let records = self.invocations(query).await?;
        Ok(records.iter().all(|record| record.outcome.is_some()))
    }

    async fn take_up(&self, record: &InvocationRecord) -> Result<(), String> {
        let agent = self
            .agent(record.agent.as_str())
            .map_err(|error| error.to_string())?;
        let options = InvokeOptions {
            listening: Listening::UpTo(FOLLOWED_EVENTS),
        };
        let engine = &self.inner.engine;
        engine
            .recover(agent.config, record.invocation, options)
            .await
            .map(drop)
            .map_err(|error| match &error {
                InvokeError::Store { source, .. } => format!("{error}: {source}"),
                _ => error.to_string(),
            })
    }

    /// Invocations, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn invocations(
        &self,
        query: InvocationQuery,
    ) -> Result<Vec<InvocationRecord>, StoreError> {
        self.inner.engine.store().invocations(query).await
    }

    /// Sessions, the one with the newest invocation first, at most `limit`; of the newest 10,000 invocations.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sessions(
        &self,
        agent: Option<AgentName>,
        limit: u32,
    ) -> Result<Vec<SessionSummary>, StoreError> {
        let query = InvocationQuery {
            agent,
            limit: Some(GROUPED_INVOCATIONS),
            ..InvocationQuery::default()
        };
        let mut sessions = sessions::group(self.invocations(query).await?);
        sessions.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(sessions)
    }

    /// The artifacts of a session.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn artifacts(&self, session: SessionId) -> Result<Vec<ArtifactRef>, StoreError> {
        match self.inner.engine.blobs() {
            Some(blobs) => blobs.list(session).await,
            None => Ok(Vec::new()),
        }
    }

    /// The content of an artifact, checked against its reference.
    ///
    /// # Errors
    /// When it is gone or damaged.
    pub async fn read_artifact(&self, artifact: ArtifactRef) -> Result<Vec<u8>, StoreError> {
        match self.inner.engine.blobs() {
            Some(blobs) => blobs.get(artifact).await,
            None => Err(StoreError::NotFound {
                what: artifact.path,
            }),
        }
    }

    /// The journaled events of an invocation, as encoded text, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn journal(&self, invocation: InvocationId) -> Result<Vec<Arc<str>>, StoreError> {
        let entries = self.inner.engine.store().read(invocation).await?;
        Ok(entries.into_iter().map(|entry| entry.payload).collect())
    }

    /// The journal entries of an invocation after a sequence, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn journal_after(
        &self,
        invocation: InvocationId,
        after: u64,
    ) -> Result<Vec<Entry>, StoreError> {
        self.inner
            .engine
            .store()
            .read_after(invocation, after)
            .await
    }

    /// The transcript of an invocation as far as its journal goes: its last messages
    /// (see [`Builder::transcript_messages`](crate::Builder::transcript_messages)).
    ///
    /// # Errors
    /// When the store cannot be read or the journal cannot be folded.
    pub async fn transcript(&self, invocation: InvocationId) -> Result<Transcript, StoreError> {
        let entries = self.inner.engine.store().read(invocation).await?;
        let machine = otto_core::journal::fold(&entries).map_err(damaged)?;
        Ok(Transcript::of(&invocation, &machine))
    }

    /// Everything that was said in an invocation: also the messages that compaction has replaced in what the model
    /// sees, each time followed by what they were replaced by.
    ///
    /// # Errors
    /// When the store cannot be read or the journal cannot be folded.
    pub async fn full_transcript(
        &self,
        invocation: InvocationId,
    ) -> Result<Transcript, StoreError> {
        let entries = self.inner.engine.store().read(invocation).await?;
        let said = otto_core::journal::everything_said(&entries).map_err(damaged)?;
        Ok(Transcript::whole(&invocation, said))
    }

    /// Redacts everything stored of a session again, with the patterns in force: its journal, its words and its
    /// artifacts. `None` where there is no state directory.
    ///
    /// # Errors
    /// When the session is unknown or running, or something cannot be read or written.
    pub async fn redact_session(&self, session: SessionId) -> Result<Option<Cleaned>, StoreError> {
        let Some(state_dir) = self.state_dir() else {
            return Ok(None);
        };
        let redactor = self.inner.engine.redactor().clone();
        upkeep::redact_session(state_dir, session, redactor)
            .await
            .map(Some)
    }

    /// What redaction makes of a text, with the patterns in force.
    #[must_use]
    pub fn redact(&self, text: &str) -> Redacted {
        redacted::redact(self.inner.engine.redactor(), text)
    }

    /// The tool calls of an invocation that were started and have no result, with their exact inputs. For a
    /// parked invocation: those that wait for a person's word.
    ///
    /// # Errors
    /// When the store cannot be read or the journal cannot be folded.
    pub async fn open_calls(&self, invocation: InvocationId) -> Result<Vec<OpenCall>, StoreError> {
        let entries = self.inner.engine.store().read(invocation).await?;
        let machine = otto_core::journal::fold(&entries).map_err(|error| StoreError::Damaged {
            detail: Arc::from(error.to_string()),
        })?;
        Ok(machine.open_calls())
    }

    /// Data by context, in memory and, where it is configured, on disk: what the tools of running invocations
    /// share ([`ToolContext::data`](crate::ToolContext::data), under the bytes of the invocation's id), and what
    /// you keep there yourself.
    #[must_use]
    pub fn contexts(&self) -> &ContextStore {
        self.inner.engine.contexts()
    }

    /// Sums of usage. The sum of all rows equals the sum of all settlements, to the picodollar.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usage(&self, query: UsageQuery) -> Result<UsageReport, StoreError> {
        self.inner.engine.cost_tracker().usage(query).await
    }

    /// What the answers to each tool's results cost, in the invocations that a query finds; it reads their journals.
    /// What the query is grouped by does not matter.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn usage_by_tool(
        &self,
        query: UsageQuery,
    ) -> Result<BTreeMap<String, ToolUsage>, StoreError> {
        let query = UsageQuery {
            group_by: vec![UsageGroup::Invocation],
            ..query
        };
        let mut sums = BTreeMap::new();
        for row in self.usage(query).await?.rows {
            let id = row.key.get(&UsageGroup::Invocation);
            let Some(invocation) = id.and_then(|id| id.parse().ok()) else {
                continue;
            };
            let lines = self.journal(invocation).await?;
            tool_usage::add_invocation(&mut sums, &lines, row.cost);
        }
        Ok(sums)
    }

    /// What this user has spent and held today in all projects, with the ceiling; `None` when the daily
    /// ceiling is not shared (see [`Builder::user_state_dir`]).
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn day_of_user(&self) -> Result<Option<(Money, Limit<Money>)>, StoreError> {
        let Some(book) = &self.inner.day_book else {
            return Ok(None);
        };
        let today = self.inner.engine.cost_tracker().today().await?;
        Ok(Some((book.spent(today)?, book.ceiling().clone())))
    }

    /// Reads everything that is stored and checks it: the database, its ledger and journals, the chain of the
    /// audit log (against `anchor`, an end of it that was kept elsewhere), and every artifact. `None` for a
    /// store that is not the embedded one.
    ///
    /// # Errors
    /// When it cannot be read at all. What is wrong with it is in the answer.
    pub async fn verify(&self, anchor: Option<AuditHead>) -> Result<Option<Verified>, StoreError> {
        let embedded = self.inner.embedded.as_ref().and_then(Weak::upgrade);
        let Some(store) = embedded else {
            return Ok(None);
        };
        Ok(Some(Verified {
            database: store.verify(anchor).await?,
            artifacts: store.checkpointer().scrub().await?,
        }))
    }

    /// Keeps the artifacts of a session whatever the retention says, or lets it decide again.
    ///
    /// # Errors
    /// `NotFound` for a session that was never recorded, `Invalid` for a store that is not the embedded one;
    /// when the store cannot be written.
    pub async fn set_pinned(&self, session: SessionId, pin: Pin) -> Result<(), StoreError> {
        let embedded = self.inner.embedded.as_ref().and_then(Weak::upgrade);
        let store = embedded.ok_or_else(|| StoreError::Invalid {
            detail: Arc::from(format!(
                "pin session {session}: only a store in a state directory has a retention"
            )),
        })?;
        match pin {
            Pin::Keep => store.checkpointer().pin(session).await,
            Pin::Release => store.checkpointer().unpin(session).await,
        }
    }

    /// A new workflow, for tasks that are to share one budget.
    #[must_use]
    pub fn new_workflow(&self) -> WorkflowId {
        (self.inner.new_workflow)()
    }

    /// Throws the kill switch: nothing new begins, everything that runs is ended, until it is lifted.
    ///
    /// # Errors
    /// When it could not be made durable; running invocations are ended in any case.
    pub async fn kill(&self, reason: &str) -> Result<(), StoreError> {
        self.inner.engine.kill(reason).await
    }

    /// Lifts the kill switch. What is left of it is returned: a process that was started with it keeps it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn lift_kill(&self) -> Result<Option<KillRow>, StoreError> {
        self.inner.engine.lift_kill().await
    }

    /// The kill switch, if thrown, wherever it was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kill_switch(&self) -> Result<Option<KillRow>, StoreError> {
        self.inner.engine.kill_switch().await
    }

    /// The kill switch of this process as it is thrown and lifted.
    #[must_use]
    pub fn kill_switch_changes(&self) -> watch::Receiver<Option<KillRow>> {
        self.inner.engine.kill_switch_changes()
    }

    /// Asks an invocation to end, in whichever process on the state directory it runs. One that nobody drives ends
    /// as soon as it is taken up, unless [`Otto::resume`] does that on purpose.
    ///
    /// # Errors
    /// When there is no such invocation, it has ended, or it cannot be reached.
    pub async fn cancel(&self, invocation: InvocationId) -> Result<Cancelling, CancelError> {
        self.inner.engine.cancel(invocation).await
    }

    /// As [`Otto::shutdown`], for a process that is to be started again: what runs stays unfinished, and
    /// [`Otto::recover`] of the next one takes it up.
    pub async fn hand_over(&self, bound: Duration) -> ShutdownReport {
        self.inner.engine.hand_over(bound).await
    }

    /// The prices in force.
    #[must_use]
    pub fn prices(&self) -> &PriceTable {
        &self.inner.prices
    }

    /// The tools available now; register, replace and remove through it.
    #[must_use]
    pub fn tools(&self) -> &ToolBus {
        self.inner.engine.tools()
    }

    /// Puts another operator's configuration in force for the tools: allowlist, settings, limits, and a host for
    /// what workers and programs get. Calls in flight finish on the old one; the application's own tools stay.
    ///
    /// # Errors
    /// When an own tool of the application has the name of a base tool; nothing is changed then.
    pub fn reload_tools(
        &self,
        operator: &OperatorConfig,
        host: &Arc<dyn ToolHost>,
    ) -> Result<(), ToolBusError> {
        let names: Vec<ToolName> = otto_tools::definitions()
            .into_iter()
            .map(|tool| tool.name)
            .collect();
        let base = otto_tools::catalog(host, &operator.tool_policies());
        let base = AskPerson::among(base, &operator.ask_person.value);
        self.tools()
            .exchange(&names, &base, operator.allowed_tools())?;
        self.inner
            .engine
            .configured(crate::wiring::in_force(operator));
        Ok(())
    }

    /// The audit log; `None` where the state is in memory.
    #[must_use]
    pub fn audit(&self) -> Option<Audit> {
        let log = self.inner.audit.clone()?;
        Some(Audit { log })
    }

    /// The engine, for what has no shorter way here.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Where state is kept; `None` in memory.
    #[must_use]
    pub fn state_dir(&self) -> Option<&std::path::Path> {
        self.inner.state_dir.as_deref()
    }

    /// Whether each component can do its work, and if not, why.
    pub async fn health(&self) -> HealthReport {
        self.inner.engine.health().await
    }

    /// The numbers of this process; `docs/operations.md` lists them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self) -> Result<Vec<Family>, StoreError> {
        self.inner.engine.metrics().await
    }

    /// Ends: no new invocation, running ones stop at their next durable point, at most `bound`; components end
    /// in the reverse of their start. The report names what was left for `resume`.
    pub async fn shutdown(&self, bound: Duration) -> ShutdownReport {
        let report = self.inner.engine.shutdown(bound).await;
        if let Some(book) = &self.inner.day_book {
            book.give_back();
        }
        report
    }
}

fn damaged(error: otto_core::journal::FoldError) -> StoreError {
    StoreError::Damaged {
        detail: Arc::from(error.to_string()),
    }
}

impl Agent {
    pub(crate) const fn otto(&self) -> &Otto {
        &self.otto
    }

    /// The agent's configuration.
    #[must_use]
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// The limits that an invocation of a task with these limits would be under: the agent's, narrowed by the task's and
    /// by the operator's ceilings. See [`not_granted`](crate::not_granted).
    #[must_use]
    pub fn limits_for(&self, task: &Budgets) -> Budgets {
        let engine = &self.otto.inner.engine;
        engine.effective_budgets(&self.config, task)
    }

    /// Invokes the agent and waits for its end.
    ///
    /// # Errors
    /// When it could not begin. A budget, a deadline, a refusal are outcomes in the report, not errors. An answer that
    /// the store could not keep is [`InvokeError::NotStored`], with the report in it.
    pub async fn invoke(&self, task: impl Into<TaskSpec>) -> Result<Report, InvokeError> {
        let options = InvokeOptions {
            listening: Listening::Off,
        };
        let handle = self
            .otto
            .inner
            .engine
            .invoke(self.config.clone(), task.into(), options)
            .await?;
        handle.report().await
    }

    /// As [`Agent::invoke_stream`], with room for fewer events: for many invocations that are followed by their
    /// journal and looked at by few.
    ///
    /// # Errors
    /// When it could not begin.
    pub async fn invoke_followed(
        &self,
        task: impl Into<TaskSpec>,
    ) -> Result<InvocationHandle, InvokeError> {
        let options = InvokeOptions {
            listening: Listening::UpTo(FOLLOWED_EVENTS),
        };
        self.otto
            .inner
            .engine
            .invoke(self.config.clone(), task.into(), options)
            .await
    }

    /// Invokes the agent and returns at once with a handle to watch, cancel and await it.
    ///
    /// # Errors
    /// When it could not begin.
    pub async fn invoke_stream(
        &self,
        task: impl Into<TaskSpec>,
    ) -> Result<InvocationHandle, InvokeError> {
        let options = InvokeOptions {
            listening: Listening::On,
        };
        self.otto
            .inner
            .engine
            .invoke(self.config.clone(), task.into(), options)
            .await
    }
}

/// Whether the artifacts of a session outlive the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// They stay.
    Keep,
    /// The retention decides.
    Release,
}
