//! The engine: admits invocations, starts their AgentServers, ends them together.
//!
//! It owns what all invocations share (store, provider, tools, registry, leases) and no invocation itself.
//!
//! Invariant: after a stop was ordered (kill switch or shutdown) no new invocation, model call or tool call
//! begins.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use otto_core::agent::{AgentConfig, Budgets, DEFAULTS, Limit};
use otto_core::invocation::{
    CancelReason, Event, Failure, InvocationLimits, InvocationSpec, Outcome, ToolFacts,
    UnknownCallDecision,
};
use otto_core::model::{CacheUse, ModelSpec};
use otto_core::policy::Permissions;
use otto_core::port::llm_client::{Conversation, LlmClient};
use otto_core::port::store::{Blobs, KillRow, Lease, Store, StoreError, Submission, SubmitOutcome};
use otto_core::port::tool::Tool;
use otto_core::redact::Redactor;
use otto_core::task::TaskSpec;
use otto_core::{Money, Timestamp};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;

use crate::admission::{Admission, Ticket};
use crate::agent_server::{AgentServer, PendingJournal};
use crate::clock::{Clock, IdSource};
use crate::leases::{LEASE_TTL, Leases};
use crate::registry::Watched;
use crate::scopes::NodeName;
use crate::timers::Timers;
use crate::{
    Ceilings, CostTracker, Ids, InvocationHandle, InvokeError, ListenerEvent, Listening, Registry,
    Report, ToolBus, redaction, telemetry,
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
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn IdSource>,
    /// What masks secrets.
    pub redactor: Arc<Redactor>,
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

/// What all AgentServers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Option<Arc<dyn Blobs>>,
    pub(crate) client: Arc<dyn LlmClient>,
    pub(crate) tools: Arc<ToolBus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) settings: EngineSettings,
    pub(crate) registry: Registry,
    pub(crate) leases: Leases,
    closing: AtomicBool,
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

/// How often a panicking AgentServer is restarted from its journal.
const MAX_RESTARTS: u32 = 3;
/// BOUND: length of the title lists show.
const TITLE_CHARS: usize = 200;

impl Engine {
    /// An engine on these parts. Must be called inside a Tokio runtime: it starts the keeper of the leases.
    #[must_use]
    pub fn start(parts: EngineParts) -> Self {
        let shared = Arc::new(Shared {
            store: parts.store,
            blobs: parts.blobs,
            client: parts.client,
            tools: parts.tools,
            clock: parts.clock,
            ids: parts.ids,
            redactor: parts.redactor,
            settings: parts.settings,
            registry: Registry::default(),
            leases: Leases::default(),
            closing: AtomicBool::new(false),
        });
        tokio::spawn(
            shared
                .leases
                .clone()
                .keep(Arc::downgrade(&shared.store), shared.registry.clone()),
        );
        let cost_tracker = CostTracker::new(shared.store.clone());
        Self {
            shared,
            cost_tracker,
        }
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
        let agent = Arc::new(AgentConfig {
            budgets: self.effective_budgets(&agent, &task.budgets),
            ..AgentConfig::clone(&agent)
        });
        let input = redaction::text(&self.shared.redactor, &task.input);
        let spec = self.spec(&agent, &ids, model, input.clone())?;
        let submission = Submission {
            invocation: ids.invocation,
            session: ids.session,
            node: self.node(),
            ttl: LEASE_TTL,
            agent: agent.name.clone(),
            model: agent.model.clone(),
            workflow: ids.workflow,
            title: title(&input),
            idempotency_key: task.idempotency_key.clone(),
            at: now,
        };
        let submitted = self.shared.store.submit(submission).await;
        let lease = match submitted.map_err(store_failed("record the invocation"))? {
            SubmitOutcome::Accepted(lease) => lease,
            SubmitOutcome::Duplicate(earlier) => return Err(InvokeError::Duplicate(earlier)),
            SubmitOutcome::SessionBusy { node } => {
                return Err(InvokeError::SessionBusy {
                    session: ids.session,
                    node,
                });
            }
            SubmitOutcome::Killed(row) => return Err(InvokeError::Killed { reason: row.reason }),
        };
        telemetry::started(&ids, &agent.name, agent.model.as_str());
        let seat = Seat {
            ids,
            agent,
            lease,
            admitted_at: now,
        };
        Ok(self.spawn(ticket, seat, Start::New(Arc::new(spec)), options.listening))
    }

    pub(crate) fn admit(&self) -> Result<Ticket, InvokeError> {
        if !self.shared.settings.enabled {
            return Err(InvokeError::NotEnabled);
        }
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(InvokeError::ShuttingDown);
        }
        self.shared.settings.admission.enter()
    }

    fn model_of(&self, agent: &AgentConfig) -> Result<Arc<ModelSpec>, InvokeError> {
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
    pub(crate) fn effective_budgets(&self, agent: &AgentConfig, task: &Budgets) -> Budgets {
        agent
            .budgets
            .or(&default_budgets())
            .narrowed_by(task)
            .narrowed_by(&self.shared.settings.ceilings.invocation)
    }

    pub(crate) fn limits(&self, agent: &AgentConfig) -> InvocationLimits {
        let budgets = agent.budgets.or(&default_budgets());
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

    fn spec(
        &self,
        agent: &AgentConfig,
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
            tools.push(facts(&**tool));
        }
        let seed = self.shared.ids.random();
        Ok(InvocationSpec {
            invocation: ids.invocation,
            session: ids.session,
            task: ids.task,
            workflow: ids.workflow,
            agent: agent.name.clone(),
            model,
            cache: self.shared.settings.cache,
            system_prompt: agent.system_prompt.clone(),
            tools,
            input,
            limits: self.limits(agent),
            scopes: self
                .shared
                .settings
                .ceilings
                .scopes(ids, &agent.name, &agent.budgets),
            seed: u64::from_le_bytes(seed[..8].try_into().expect("ten bytes hold eight")),
        })
    }

    /// Starts the AgentServer of an invocation whose session is leased.
    pub(crate) fn spawn(
        &self,
        ticket: Ticket,
        seat: Seat,
        start: Start,
        listening: Listening,
    ) -> InvocationHandle {
        let (stop_sender, stop) = watch::channel(None);
        let (sender, receiver) = listening.capacity().map(broadcast::channel).unzip();
        let (progress, _) = watch::channel(0);
        let (report_sender, report) = oneshot::channel();
        let handle = InvocationHandle {
            ids: seat.ids,
            stop: stop_sender.clone(),
            events: receiver,
            report,
        };
        let registration = self.shared.registry.register(
            seat.ids,
            seat.agent.name.clone(),
            seat.admitted_at,
            stop_sender.clone(),
            Watched {
                events: sender.clone(),
                progress: progress.clone(),
            },
        );
        self.shared.leases.hold(&seat.lease);
        let shared = self.shared.clone();
        let channels = Channels {
            stop,
            stop_sender,
            events: sender,
            progress,
        };
        tokio::spawn(async move {
            let permit = ticket.admitted().await;
            let report = supervise(&shared, &seat, start, &channels).await;
            drop(permit);
            if let Some(lease) = shared.leases.let_go(seat.ids.session) {
                // A lease that cannot be given back runs out by itself.
                let _ = shared.store.release(lease).await;
            }
            drop(registration);
            // The caller may have dropped its handle; the report is in the store as well.
            let _ = report_sender.send(report);
        });
        handle
    }

    /// Throws the kill switch: durably, then for every running invocation.
    ///
    /// # Errors
    /// When it could not be made durable; running invocations are ended in any case.
    pub async fn kill(&self, reason: &str) -> Result<(), StoreError> {
        self.shared.registry.stop_all(CancelReason::KillSwitch);
        let row = KillRow {
            reason: Arc::from(reason),
            at: self.shared.clock.now(),
        };
        self.shared.store.set_kill(Some(row)).await
    }

    /// Ends every running invocation as killed, without touching the durable switch (another process threw it).
    pub fn obey_kill(&self) {
        self.shared.registry.stop_all(CancelReason::KillSwitch);
    }

    /// Lifts the kill switch.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn lift_kill(&self) -> Result<(), StoreError> {
        self.shared.store.set_kill(None).await
    }

    /// Stops admission, asks every invocation to end at its next durable point, and waits for them, at most
    /// `grace`. Returns how many are left for recovery.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.registry.stop_all(CancelReason::Shutdown);
        let all_ended = async {
            while self.shared.registry.count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // What has not ended by then is recovered from its journal.
        let _ = tokio::time::timeout(grace, all_ended).await;
        self.shared.registry.count()
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

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.shared.settings
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn node(&self) -> NodeName {
        self.shared.settings.node.clone()
    }
}

/// Who is invoked, and by what right.
pub(crate) struct Seat {
    pub(crate) ids: Ids,
    pub(crate) agent: Arc<AgentConfig>,
    pub(crate) lease: Lease,
    pub(crate) admitted_at: Timestamp,
}

/// Where an AgentServer begins.
pub(crate) enum Start {
    New(Arc<InvocationSpec>),
    Resumed(Box<crate::recovery::Recovered>),
}

struct Channels {
    stop: watch::Receiver<Option<CancelReason>>,
    stop_sender: watch::Sender<Option<CancelReason>>,
    events: Option<broadcast::Sender<ListenerEvent>>,
    progress: watch::Sender<u64>,
}

/// Runs an AgentServer and restarts it from its journal when it panics (`Restart::OnFailure`).
async fn supervise(shared: &Arc<Shared>, seat: &Seat, start: Start, channels: &Channels) -> Report {
    let mut begin = Some(start);
    for restarts in 0..=MAX_RESTARTS {
        let started = match begin.take() {
            Some(start) => start,
            None => match crate::recovery::after_panic(shared, seat).await {
                Ok(recovered) => Start::Resumed(Box::new(recovered)),
                Err(error) => return failed_report(shared, seat, &error.to_string()),
            },
        };
        let (mut server, first) = agent_server(shared, seat, started, channels);
        match AssertUnwindSafe(server.run(first)).catch_unwind().await {
            Ok(report) => return report,
            Err(_panic) => {
                telemetry::restarted(&seat.ids, &seat.agent.name, restarts + 1);
                server.tell(|| ListenerEvent::Restarted);
            }
        }
    }
    failed_report(shared, seat, "its AgentServer panicked again and again")
}

fn agent_server(
    shared: &Arc<Shared>,
    seat: &Seat,
    start: Start,
    channels: &Channels,
) -> (AgentServer, Event) {
    let (machine, journal, first, spec, charged) = match start {
        Start::New(spec) => {
            let first = Event::Started(spec.clone());
            (
                otto_core::invocation::Invocation::default(),
                PendingJournal::after(0),
                first,
                spec,
                Money::ZERO,
            )
        }
        Start::Resumed(recovered) => {
            let crate::recovery::Recovered {
                machine,
                last_sequence,
                spec,
                resumption,
                charged,
            } = *recovered;
            (
                machine,
                PendingJournal::after(last_sequence),
                Event::Resumed(resumption),
                spec,
                charged,
            )
        }
    };
    let snapshot = shared.tools.snapshot();
    let needed = spec
        .tools
        .iter()
        .filter_map(|facts| snapshot.find(&facts.name));
    let listed = needed.fold(Permissions::NONE, |sum, tool| {
        sum.union(tool.definition().permissions)
    });
    let server = AgentServer {
        shared: shared.clone(),
        ids: seat.ids,
        agent: seat.agent.clone(),
        granted: listed.intersection(shared.settings.allowed_permissions),
        conversation: Arc::new(Conversation {
            model: spec.model.clone(),
            system_prompt: spec.system_prompt.clone(),
            tools: spec.tools.clone(),
            cache: spec.cache,
            user_id: None,
        }),
        machine,
        lease: seat.lease.clone(),
        journal,
        inbox: std::collections::VecDeque::new(),
        model: None,
        tools: JoinSet::new(),
        running: std::collections::BTreeMap::new(),
        timers: Timers::default(),
        settles: Vec::new(),
        stop: Some(channels.stop.clone()),
        stop_sender: channels.stop_sender.clone(),
        events: channels.events.clone(),
        progress: channels.progress.clone(),
        admitted_at: seat.admitted_at,
        charged,
        fenced: false,
        store_error: None,
        last_failure: None,
        report: None,
    };
    (server, first)
}

fn failed_report(shared: &Shared, seat: &Seat, why: &str) -> Report {
    Report {
        ids: seat.ids,
        agent: seat.agent.name.clone(),
        outcome: Outcome::Failed {
            failure: Failure::Internal {
                message: Arc::from(why),
            },
        },
        artifacts: Vec::new(),
        artifact_error: None,
        store_error: None,
        totals: otto_core::invocation::Totals::default(),
        charged: Money::ZERO,
        turns: 0,
        duration: shared.clock.now().since(seat.admitted_at),
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

fn default_budgets() -> Budgets {
    Budgets {
        time: Some(Limit::new(DEFAULTS.time, "default")),
        tokens: Some(Limit::new(DEFAULTS.tokens, "default")),
        cost: Some(Limit::new(DEFAULTS.cost, "default")),
        turns: Some(Limit::new(DEFAULTS.turns, "default")),
    }
}

/// The first line of a task, for lists.
fn title(input: &str) -> Arc<str> {
    let line = input.trim().lines().next().unwrap_or_default();
    Arc::from(line.chars().take(TITLE_CHARS).collect::<String>())
}

pub(crate) fn store_failed(attempted: &'static str) -> impl Fn(StoreError) -> InvokeError {
    move |source| InvokeError::Store { attempted, source }
}
