//! The engine: admits invocations, starts their AgentServers, ends them together.
//!
//! It owns what all invocations share (store, provider, tools, registry, leases) and no invocation itself.
//!
//! Invariant: after a stop was ordered (kill switch or shutdown) no new invocation, model call or tool call
//! begins.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use otto_core::SessionId;
use otto_core::agent::{AgentConfig, Budgets, DEFAULTS, Limit};
use otto_core::invocation::{
    CancelReason, InvocationLimits, InvocationSpec, ToolFacts, UnknownCallDecision,
};
use otto_core::ledger::Scope;
use otto_core::model::{CacheUse, ModelSpec};
use otto_core::policy::Permissions;
use otto_core::port::llm_client::LlmClient;
use otto_core::port::store::{
    AuditLog, Blobs, Durability, KillRow, Lease, Store, StoreError, Submission, SubmitOutcome,
};
use otto_core::port::tool::Tool;
use otto_core::redact::Redactor;
use otto_core::task::TaskSpec;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Ticket};
use crate::agent_server::AgentServer;
use crate::agent_supervisor::{Seat, Start};
use crate::audit::AuditTrail;
use crate::cancel::CancelRequests;
use crate::clock::{Clock, IdSource};
use crate::context_store::ContextStore;
use crate::fingerprint::fingerprint;
use crate::health::{Component, Condition, Health, HealthReport};
use crate::kill_switch::{KillPlaces, KillSwitch};
use crate::leases::{LEASE_TTL, Leases};
use crate::metrics::Family;
use crate::scopes::NodeName;
use crate::shutdown::LeftForResume;
use crate::spans::span_of;
use crate::supervisor::{self, Supervisor};
use crate::telemetry::{Telemetry, TelemetryParts};
use crate::{
    Ceilings, CostTracker, Ids, InvocationHandle, InvokeError, Listening, Registry, ToolBus,
    redaction,
};

/// What an engine runs on.
pub struct EngineParts {
    /// Journal, ledger, leases, usage.
    pub store: Arc<dyn Store>,
    /// Where artifacts go; `None` stores none.
    pub blobs: Option<Arc<dyn Blobs>>,
    /// The provider.
    pub client: Arc<dyn LlmClient>,
    /// The tools.
    pub tools: Arc<ToolBus>,
    /// What the tools of an invocation share.
    pub contexts: ContextStore,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn IdSource>,
    /// What masks secrets.
    pub redactor: Arc<Redactor>,
    /// Where the kill switch may be thrown, beside the store's row.
    pub kill: KillPlaces,
    /// The folder in which processes leave each other requests to cancel; `None` where none is shared.
    pub cancel_requests: Option<PathBuf>,
    /// Where telemetry goes, beside the log.
    pub telemetry: TelemetryParts,
    /// Where the audit trail goes; `None` keeps none.
    pub audit: Option<Arc<dyn AuditLog>>,
    /// What the operator has put in force, as `key` and `value (origin)`; the first fact of the trail, noted when
    /// the first invocation begins.
    pub configuration: Vec<(String, String)>,
    /// How it runs.
    pub settings: EngineSettings,
}

/// How an engine runs; operator's matter.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Whether agents may run at all (`OTTO_ENABLED`).
    pub enabled: bool,
    /// Limits of whole scopes.
    pub ceilings: Ceilings,
    /// The rights any agent may have at most.
    pub allowed_permissions: Permissions,
    /// Whether policy only reports. Never lifts a money limit.
    pub audit_mode: bool,
    /// Cache markers of requests.
    pub cache: CacheUse,
    /// Messages that a transcript keeps, the last ones.
    pub transcript_messages: usize,
    /// How many invocations run and wait.
    pub admission: Admission,
    /// Names this process in leases; unique per start.
    pub node: Arc<str>,
}

/// Admits invocations and starts their AgentServers. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    cost_tracker: CostTracker,
}

/// An engine, without keeping it alive: for components that run under its supervisor.
#[derive(Clone)]
pub struct WeakEngine(Weak<Shared>);

impl WeakEngine {
    /// The engine, if it is still there.
    #[must_use]
    pub fn upgrade(&self) -> Option<Engine> {
        self.0.upgrade().map(Engine::of)
    }
}

/// What all AgentServers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Option<Arc<dyn Blobs>>,
    pub(crate) client: Arc<dyn LlmClient>,
    pub(crate) tools: Arc<ToolBus>,
    pub(crate) contexts: ContextStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) redactor: Arc<Redactor>,
    settings: ArcSwap<EngineSettings>,
    pub(crate) node: NodeName,
    pub(crate) registry: Registry,
    pub(crate) leases: Leases,
    pub(crate) kill: KillSwitch,
    pub(crate) cancels: CancelRequests,
    pub(crate) health: Health,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) supervisor: Supervisor,
    pub(crate) audit: AuditTrail,
    /// Limits in every gap, made once: their origin is a text.
    default_budgets: Budgets,
    /// Taken when it is noted.
    configuration: Mutex<Option<Vec<(String, String)>>>,
    /// Cancelled when a shutdown waits no longer: AgentServers are dropped where they are.
    pub(crate) abandon: CancellationToken,
    /// What a shutdown ended.
    pub(crate) left: Mutex<Vec<LeftForResume>>,
    closing: AtomicBool,
    handing_over: AtomicBool,
}

impl Shared {
    /// Notes what is in force, if that has not been done since it was read.
    pub(crate) fn note_configuration(&self) {
        let configuration = self.lock_configuration().take();
        if let Some(configuration) = configuration {
            self.audit.configuration(&configuration);
        }
    }

    fn lock_configuration(&self) -> MutexGuard<'_, Option<Vec<(String, String)>>> {
        // It is replaced whole.
        self.configuration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what a shutdown ends is left unfinished.
    pub(crate) fn begin_to_hand_over(&self) {
        self.handing_over.store(true, Ordering::Release);
    }

    /// Whether what a shutdown ends is left unfinished.
    pub(crate) fn hands_over(&self) -> bool {
        self.handing_over.load(Ordering::Acquire)
    }

    pub(crate) fn settings(&self) -> Arc<EngineSettings> {
        self.settings.load_full()
    }

    /// The lease of a session that this process holds.
    pub(crate) fn lease(&self, session: SessionId, epoch: u64) -> Lease {
        Lease {
            session,
            node: self.node.clone(),
            epoch,
        }
    }

    /// From now on nothing is admitted.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Why everything is to end, if it is.
    pub(crate) fn stop_ordered(&self) -> Option<CancelReason> {
        if self.kill.is_thrown() {
            return Some(CancelReason::KillSwitch);
        }
        let is_closing = self.closing.load(Ordering::Acquire);
        is_closing.then_some(CancelReason::Shutdown)
    }
}

/// How one invocation is started.
#[derive(Debug, Clone, Default)]
pub struct InvokeOptions {
    /// Whether somebody watches.
    pub listening: Listening,
}

/// How an invocation is taken up again.
#[derive(Debug, Clone, Default)]
pub struct ResumeOptions {
    /// Whether somebody watches.
    pub listening: Listening,
    /// Limits that replace the agent's, up to the operator's ceilings.
    pub raise: Budgets,
    /// What becomes of calls that may not be repeated without a person's word.
    pub decision: Option<UnknownCallDecision>,
}

/// How long `health` waits for the store.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// BOUND: length of the title lists show.
const TITLE_CHARS: usize = 200;

impl Engine {
    /// An engine on these parts. Must be called inside a Tokio runtime: it starts the supervised components.
    #[must_use]
    pub fn start(parts: EngineParts) -> Self {
        let health = Health::default();
        let telemetry = Arc::new(Telemetry::new(parts.telemetry));
        let now = parts.clock.now();
        let audit = AuditTrail::new(parts.audit, parts.clock.clone());
        let shared = Arc::new(Shared {
            store: parts.store,
            blobs: parts.blobs,
            client: parts.client,
            tools: parts.tools,
            contexts: parts.contexts,
            clock: parts.clock,
            ids: parts.ids,
            redactor: parts.redactor,
            node: parts.settings.node.clone(),
            settings: ArcSwap::from_pointee(parts.settings),
            registry: Registry::default(),
            leases: Leases::default(),
            kill: KillSwitch::new(parts.kill, now),
            cancels: CancelRequests::new(parts.cancel_requests),
            supervisor: Supervisor::new(health.clone(), telemetry.clone()),
            audit,
            default_budgets: DEFAULTS.budgets(),
            configuration: Mutex::new(Some(parts.configuration)),
            health,
            telemetry,
            abandon: CancellationToken::new(),
            left: Mutex::default(),
            closing: AtomicBool::new(false),
            handing_over: AtomicBool::new(false),
        });
        if let Some(row) = shared.kill.thrown() {
            shared.telemetry.kill_switch_thrown(&row, 0, now);
        }
        for child in supervisor::tree(&shared) {
            shared.supervisor.start(child);
        }
        Self::of(shared)
    }

    fn of(shared: Arc<Shared>) -> Self {
        Self {
            cost_tracker: CostTracker::new(shared.store.clone()),
            shared,
        }
    }

    /// The engine, without keeping it alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.shared))
    }

    /// Starts an invocation of `agent` on `task`.
    ///
    /// Returns once the invocation is recorded; it runs in a Tokio task of its own. Everything that happens
    /// from then on is told by the handle.
    ///
    /// # Errors
    /// When it could not begin; nothing was spent then.
    pub async fn invoke(
        &self,
        agent: Arc<AgentConfig>,
        task: TaskSpec,
        options: InvokeOptions,
    ) -> Result<InvocationHandle, InvokeError> {
        let begun = self.begin(agent, task, options).await;
        begun.inspect_err(|error| self.shared.telemetry.rejected(error))
    }

    async fn begin(
        &self,
        agent: Arc<AgentConfig>,
        task: TaskSpec,
        options: InvokeOptions,
    ) -> Result<InvocationHandle, InvokeError> {
        let ticket = self.admit()?;
        if task.input.trim().is_empty() {
            return Err(InvokeError::EmptyTask {
                agent: agent.name.clone(),
            });
        }
        let model = self.model_of(&agent)?;
        let now = self.shared.clock.now();
        let ids = Ids {
            workflow: task.workflow,
            session: task.session.unwrap_or_else(|| self.shared.ids.session(now)),
            task: self.shared.ids.task(now),
            invocation: self.shared.ids.invocation(now),
        };
        let budgets = self.effective_budgets(&agent, &task.budgets);
        let input = redaction::text(&self.shared.redactor, &task.input);
        let spec = Arc::new(self.spec(&agent, &budgets, &ids, model, input.clone())?);
        // The first hold of money makes it durable, at once; who has to wait for its turn must not be lost meanwhile.
        let durability = if ticket.must_wait() {
            Durability::Synced
        } else {
            Durability::Relaxed
        };
        let submission = Submission {
            invocation: ids.invocation,
            session: ids.session,
            node: self.node(),
            ttl: LEASE_TTL,
            agent: agent.name.clone(),
            model: agent.model.clone(),
            workflow: ids.workflow,
            title: title(&input),
            fingerprint: task
                .idempotency_key
                .as_ref()
                .map(|_| fingerprint(&agent.name, &task)),
            idempotency_key: task.idempotency_key.clone(),
            entries: vec![AgentServer::beginning(now, &spec)],
            durability,
            at: now,
        };
        // Held until it is registered: from its submission on it looks unfinished to a recovery.
        let _beginning = self.shared.registry.take_up(ids.invocation);
        let asked = Instant::now();
        let submitted = self.shared.store.submit(submission).await;
        self.shared.telemetry.store_call("submit", asked.elapsed());
        let lease = match submitted.map_err(store_failed("record the invocation"))? {
            SubmitOutcome::Accepted(lease) => lease,
            SubmitOutcome::Duplicate(earlier) => return Err(InvokeError::Duplicate(earlier)),
            SubmitOutcome::KeyReused(earlier) => return Err(InvokeError::KeyReused(earlier)),
            SubmitOutcome::SessionBusy { node } => {
                return Err(InvokeError::SessionBusy {
                    session: ids.session,
                    node,
                });
            }
            SubmitOutcome::Killed(row) => return Err(InvokeError::Killed { reason: row.reason }),
        };
        let seat = Seat {
            ids,
            agent,
            lease,
            admitted_at: now,
        };
        let start = Start::New { spec, durability };
        Ok(self.spawn(ticket, seat, start, options.listening))
    }

    pub(crate) fn admit(&self) -> Result<Ticket, InvokeError> {
        if let Some(row) = self.shared.kill.thrown() {
            return Err(InvokeError::Killed { reason: row.reason });
        }
        let settings = self.shared.settings();
        if !settings.enabled {
            return Err(InvokeError::NotEnabled);
        }
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(InvokeError::ShuttingDown);
        }
        settings.admission.enter()
    }

    pub(crate) fn model_of(&self, agent: &AgentConfig) -> Result<Arc<ModelSpec>, InvokeError> {
        self.shared
            .client
            .prices()
            .find(&agent.model)
            .cloned()
            .ok_or_else(|| InvokeError::UnknownModel {
                agent: agent.name.clone(),
                model: agent.model.clone(),
            })
    }

    /// The agent's limits, narrowed by the task and the operator, with the defaults in every gap.
    #[must_use]
    pub fn effective_budgets(&self, agent: &AgentConfig, task: &Budgets) -> Budgets {
        let own = agent.budgets.or(&self.shared.default_budgets);
        self.within_ceilings(&own.narrowed_by(task))
    }

    /// These limits, as far as the operator lets them.
    pub(crate) fn within_ceilings(&self, budgets: &Budgets) -> Budgets {
        budgets.narrowed_by(&self.shared.settings().ceilings.invocation)
    }

    /// The limits of an invocation of `agent` under these budgets.
    pub(crate) fn limits(&self, agent: &AgentConfig, budgets: &Budgets) -> InvocationLimits {
        let budgets = budgets.or(&self.shared.default_budgets);
        InvocationLimits {
            time: budgets
                .time
                .unwrap_or_else(|| Limit::new(DEFAULTS.time, "default")),
            turns: budgets
                .turns
                .unwrap_or_else(|| Limit::new(DEFAULTS.turns, "default")),
            repetitions: DEFAULTS.repetitions,
            attempts: DEFAULTS.attempts,
            max_output_tokens: agent.max_output_tokens,
            floor_output_tokens: DEFAULTS.floor_output_tokens,
            parallel_tools: DEFAULTS.parallel_tools,
        }
    }

    pub(crate) fn spec(
        &self,
        agent: &AgentConfig,
        budgets: &Budgets,
        ids: &Ids,
        model: Arc<ModelSpec>,
        input: Arc<str>,
    ) -> Result<InvocationSpec, InvokeError> {
        let snapshot = self.shared.tools.snapshot();
        let mut tools = Vec::with_capacity(agent.tools.len());
        for name in &agent.tools {
            let tool = snapshot
                .find(name)
                .ok_or_else(|| InvokeError::UnknownTool {
                    agent: agent.name.clone(),
                    tool: name.clone(),
                })?;
            if !snapshot.allows(name) && !self.shared.settings().audit_mode {
                return Err(InvokeError::ToolNotAllowed {
                    agent: agent.name.clone(),
                    tool: name.clone(),
                });
            }
            tools.push(facts(&**tool));
        }
        Ok(InvocationSpec {
            invocation: ids.invocation,
            session: ids.session,
            task: ids.task,
            workflow: ids.workflow,
            agent: agent.name.clone(),
            model,
            cache: self.shared.settings().cache,
            system_prompt: agent.system_prompt.clone(),
            tools,
            input,
            compaction: agent.compaction,
            transcript_messages: self.shared.settings().transcript_messages,
            tells_limits: agent.tell_limits,
            limits: self.limits(agent, budgets),
            scopes: self
                .shared
                .settings()
                .ceilings
                .scopes(ids, &agent.name, budgets),
            // Nobody has to be kept from guessing it: it spreads retries.
            seed: u64::from_le_bytes(span_of(ids)),
        })
    }

    /// Notes what the operator has put in force now; for a configuration that was read again.
    pub fn configured(&self, configuration: Vec<(String, String)>) {
        *self.shared.lock_configuration() = Some(configuration);
    }

    /// Throws the kill switch: for what runs here, for every process on the state directory, and durably.
    ///
    /// # Errors
    /// When it could not be made durable or carried to others; what runs here is ended in any case.
    pub async fn kill(&self, reason: &str) -> Result<(), StoreError> {
        self.shared.throw_kill(reason).await
    }

    /// Lifts the kill switch. What is left of it is returned: a process that was started with it keeps it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn lift_kill(&self) -> Result<Option<KillRow>, StoreError> {
        self.shared.lift_kill().await
    }

    /// The kill switch, if thrown, wherever it was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kill_switch(&self) -> Result<Option<KillRow>, StoreError> {
        match self.shared.kill.thrown() {
            Some(row) => Ok(Some(row)),
            None => self.shared.store.kill().await,
        }
    }

    /// The kill switch of this process as it is thrown and lifted.
    #[must_use]
    pub fn kill_switch_changes(&self) -> watch::Receiver<Option<KillRow>> {
        self.shared.kill.changes()
    }

    /// Whether each component can do its work, and if not, why.
    pub async fn health(&self) -> HealthReport {
        let shared = &self.shared;
        let settings = shared.settings();
        let component = |name: &str, condition| Component {
            name: Arc::from(name),
            condition,
        };
        let enabled = if settings.enabled {
            Condition::Ready
        } else {
            Condition::not_ready(
                "agents are switched off: set OTTO_ENABLED=true, or `enabled: true` in config.yml",
            )
        };
        let admission = if shared.closing.load(Ordering::Acquire) {
            Condition::not_ready("Otto is shutting down")
        } else if settings.admission.is_full() {
            Condition::degraded(
                "every place is taken and the queue is full: callers are told to wait",
            )
        } else {
            Condition::Ready
        };
        // Both are asked at once: a store that hangs must not hang whoever asks.
        let asked = tokio::time::timeout(HEALTH_TIMEOUT, async {
            tokio::join!(shared.store.today(), self.kill_switch())
        });
        let (store, kill) = match asked.await {
            Ok((Ok(_), Ok(None))) => (Condition::Ready, Condition::Ready),
            Ok((Ok(_), Ok(Some(row)))) => {
                let reason = format!("thrown: {}", row.reason);
                (Condition::Ready, Condition::not_ready(&reason))
            }
            Ok((Err(error), kill)) => {
                let reason = match kill {
                    Ok(Some(row)) => format!("thrown: {}", row.reason),
                    Ok(None) | Err(_) => "unknown: the store does not answer".to_owned(),
                };
                (
                    Condition::not_ready(&error.to_string()),
                    Condition::not_ready(&reason),
                )
            }
            Ok((Ok(_), Err(error))) => (
                Condition::Ready,
                Condition::not_ready(&format!("unknown: {error}")),
            ),
            Err(_elapsed) => (
                Condition::not_ready("the store does not answer"),
                Condition::not_ready("unknown: the store does not answer"),
            ),
        };
        let mut components = vec![
            component("enabled", enabled),
            component("kill_switch", kill),
            component("admission", admission),
            component("store", store),
        ];
        components.extend(shared.health.reported());
        HealthReport { components }
    }

    /// The numbers of this process, with what is read now: who runs and waits, the day's money, health.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self) -> Result<Vec<Family>, StoreError> {
        let shared = &self.shared;
        let settings = shared.settings();
        let metrics = &shared.telemetry.metrics;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let waiting = settings.admission.waiting();
        metrics
            .invocations_running
            .set(&[], count(shared.registry.count().saturating_sub(waiting)));
        metrics.invocations_waiting.set(&[], count(waiting));
        let today = shared.store.today().await?;
        let day = shared.store.account(Scope::Day(today)).await?;
        metrics.day_spent.set(&[], day.spent_cost.picodollars());
        metrics.day_held.set(&[], day.held_cost.picodollars());
        let limit = settings.ceilings.daily_cost.value;
        metrics.day_limit.set(&[], limit.picodollars());
        for component in self.health().await.components {
            let is_ready = u64::from(component.condition.is_ready());
            metrics
                .component_ready
                .set(&[(&component.name).into()], is_ready);
        }
        Ok(metrics.families())
    }

    /// Says which confinement of tools is in force, for metrics and health; the composition root knows.
    pub fn report_sandbox(&self, level: &'static str, condition: Condition) {
        let gauge = &self.shared.telemetry.metrics.sandbox_level;
        for known in ["l2", "l1", "none"] {
            gauge.set(&[known.into()], u64::from(known == level));
        }
        self.shared.health.report("sandbox", condition);
    }

    /// A changed configuration was applied, or refused with these problems while the last good one stays.
    pub fn report_configuration(&self, reload: Result<usize, &str>) {
        let condition = match reload {
            Ok(agents) => {
                self.shared.telemetry.configuration_applied(agents);
                Condition::Ready
            }
            Err(problems) => {
                self.shared.telemetry.configuration_refused(problems);
                Condition::degraded(&format!(
                    "the changed configuration is refused, the last good one stays: {problems}"
                ))
            }
        };
        self.shared.health.report("configuration", condition);
    }

    /// Exchanges the settings for all invocations from now on; running ones keep theirs.
    pub fn change_settings(&self, change: impl Fn(&mut EngineSettings)) {
        self.shared.settings.rcu(|current| {
            let mut next = EngineSettings::clone(current);
            change(&mut next);
            next
        });
    }

    /// What the tools of invocations share, and whatever else the application keeps by context.
    #[must_use]
    pub fn contexts(&self) -> &ContextStore {
        &self.shared.contexts
    }

    /// What components report of themselves.
    #[must_use]
    pub fn component_health(&self) -> &Health {
        &self.shared.health
    }

    /// The supervisor, to start further components under it.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.shared.supervisor
    }

    /// Running invocations.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Usage questions.
    #[must_use]
    pub const fn cost_tracker(&self) -> &CostTracker {
        &self.cost_tracker
    }

    /// The tools.
    #[must_use]
    pub fn tools(&self) -> &Arc<ToolBus> {
        &self.shared.tools
    }

    /// What masks secrets.
    #[must_use]
    pub fn redactor(&self) -> &Arc<Redactor> {
        &self.shared.redactor
    }

    /// The store, for lists and journals.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The artifacts, if they are stored.
    #[must_use]
    pub fn blobs(&self) -> Option<&Arc<dyn Blobs>> {
        self.shared.blobs.as_ref()
    }

    /// The settings in force now.
    #[must_use]
    pub fn settings(&self) -> Arc<EngineSettings> {
        self.shared.settings()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn node(&self) -> NodeName {
        self.shared.node.clone()
    }
}

fn facts(tool: &dyn Tool) -> ToolFacts {
    let definition = tool.definition();
    ToolFacts {
        name: definition.name.clone(),
        description: definition.description.clone(),
        input_schema: definition.input_schema.clone(),
        side_effects: definition.side_effects,
        repeatability: definition.repeatability,
    }
}

/// The first line of a task, for lists; the task itself if it is no longer than that.
fn title(input: &Arc<str>) -> Arc<str> {
    let line = input.trim().lines().next().unwrap_or_default();
    let end = line.char_indices().nth(TITLE_CHARS);
    let title = end.map_or(line, |(end, _)| &line[..end]);
    if title.len() == input.len() {
        return input.clone();
    }
    Arc::from(title)
}

pub(crate) fn store_failed(attempted: &'static str) -> impl Fn(StoreError) -> InvokeError {
    move |source| InvokeError::Store { attempted, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_and_no_longer_than_its_bound() {
        let titled = |input: &str| title(&Arc::from(input));
        assert_eq!(&*titled("Add 2 and 40."), "Add 2 and 40.");
        assert_eq!(&*titled("\n  Review src/.  \nBe brief."), "Review src/.  ");
        let long = "é".repeat(TITLE_CHARS + 1);
        assert_eq!(*titled(&long), "é".repeat(TITLE_CHARS));
        let input: Arc<str> = Arc::from("kept once");
        assert!(Arc::ptr_eq(&title(&input), &input));
    }
}
