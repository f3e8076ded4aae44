//! The AgentSupervisor: starts AgentServers on demand, starts them again from their journal when they panic,
//! and lets go of what they held when they end.
//!
//! Each invocation has a Tokio task of its own. Nothing of one is shared with another but what stands behind
//! a port, so a panic, a stuck tool or a runaway stream in one changes nothing for another.
//!
//! Invariant: whatever way a task ends (outcome, panics beyond the rule, shutdown that could not wait), its
//! place, its entry in the registry and its lease are given back.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use otto_core::agent::AgentConfig;
use otto_core::invocation::{
    CancelReason, Event, Failure, Invocation, InvocationLimits, InvocationSpec, Outcome, Totals,
};
use otto_core::ledger::ScopeLimits;
use otto_core::policy::Permissions;
use otto_core::port::llm_client::Conversation;
use otto_core::port::store::{Durability, Lease};
use otto_core::{Money, Timestamp};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use crate::admission::Ticket;
use crate::agent_server::{AgentServer, PendingJournal};
use crate::audit::Beginning;
use crate::engine::{Engine, Shared};
use crate::few::Few;
use crate::recovery::{Journaled, Recovered};
use crate::restarts::{Ending, RestartRule, Restarts, Verdict};
use crate::running::Running;
use crate::scopes::in_force;
use crate::shutdown::LeftForResume;
use crate::telemetry::{self, InvocationWatch};
use crate::timers::Timers;
use crate::{Ids, InvocationHandle, ListenerEvent, Listening, Report};

/// Who is invoked, and by what right.
pub(crate) struct Seat {
    pub(crate) ids: Ids,
    /// As it is configured; what is in force for this invocation follows from its journal.
    pub(crate) agent: Arc<AgentConfig>,
    pub(crate) lease: Lease,
    pub(crate) admitted_at: Timestamp,
}

/// Where an AgentServer begins.
pub(crate) enum Start {
    /// The journal holds the beginning, which is durable or will be with the first hold.
    New {
        spec: Arc<InvocationSpec>,
        durability: Durability,
    },
    Resumed(Box<Recovered>),
}

/// What the task of an invocation keeps of its seat, as little as it can while it waits.
struct Post {
    running: Arc<Running>,
    agent: Arc<AgentConfig>,
    epoch: u64,
}

impl Engine {
    /// Starts the AgentServer of an invocation whose session is leased.
    pub(crate) fn spawn(
        &self,
        ticket: Ticket,
        seat: Seat,
        start: Start,
        listening: Listening,
    ) -> InvocationHandle {
        let shared = self.shared().clone();
        let (sender, receiver) = listening.capacity().map(broadcast::channel).unzip();
        let durable = match &start {
            Start::New {
                durability: Durability::Relaxed,
                ..
            } => 0,
            Start::New {
                durability: Durability::Synced,
                ..
            } => AgentServer::BEGINNING,
            Start::Resumed(recovered) => recovered.journaled.last_sequence,
        };
        let Seat {
            ids,
            agent,
            lease,
            admitted_at,
        } = seat;
        let running = Running::new(ids, agent.name.clone(), admitted_at, sender, durable);
        let (report_sender, report) = oneshot::channel();
        let handle = InvocationHandle {
            running: running.clone(),
            events: receiver,
            report,
        };
        let registration = shared.registry.register(running.clone());
        shared.leases.hold(ids.session, lease.epoch);
        // Whoever throws the switch or shuts down marks that first and looks through the registry then: one of
        // both sees this invocation.
        if let Some(reason) = shared.stop_ordered() {
            running.request_stop(reason);
        }
        if matches!(start, Start::Resumed(_)) {
            shared.obey_cancel_request(&running);
        }
        let span = telemetry::span(&ids, &agent.name);
        let post = Post {
            running,
            agent,
            epoch: lease.epoch,
        };
        let work = async move {
            let report = tokio::select! {
                biased;
                // A shutdown that could not wait: the journal is what a crash would have left.
                () = shared.abandon.cancelled() => None,
                report = drive(&shared, ticket, &post, start) => Some(report),
            };
            let session = post.running.ids.session;
            if let Some(epoch) = shared.leases.let_go(session) {
                // A lease that cannot be given back runs out by itself.
                let _ = shared.store.release(shared.lease(session, epoch)).await;
            }
            let is_left = report.as_ref().is_none_or(|report| {
                matches!(
                    report.outcome,
                    Outcome::Cancelled {
                        reason: CancelReason::Shutdown
                    }
                )
            });
            if is_left {
                shared.note_left(LeftForResume {
                    ids: post.running.ids,
                    agent: post.agent.name.clone(),
                    was_abandoned: report.is_none(),
                });
            }
            drop(registration);
            if let Some(report) = report {
                // The caller may have dropped its handle; the report is in the store as well.
                let _ = report_sender.send(Box::new(report));
            }
        };
        tokio::spawn(work.instrument(span));
        handle
    }
}

/// Waits for a place, then runs the AgentServer to its end.
async fn drive(shared: &Arc<Shared>, ticket: Ticket, post: &Post, start: Start) -> Report {
    // Who is to end need not wait for a place: it begins nothing, it only writes down that it ends.
    let _permit = tokio::select! {
        biased;
        permit = ticket.admitted() => permit,
        _ = post.running.stop_requested() => None,
    };
    // In a place of its own: it is many times what an invocation takes that waits.
    Box::pin(supervise(shared, post, start)).await
}

/// Runs an AgentServer and starts it again from its journal when it panics.
async fn supervise(shared: &Arc<Shared>, post: &Post, start: Start) -> Report {
    let mut restarts = Restarts::new(RestartRule::AGENT);
    let mut started = start;
    for count in 1.. {
        let (mut server, first) = agent_server(shared, post, started);
        if let Ok(report) = AssertUnwindSafe(server.run(first)).catch_unwind().await {
            return report;
        }
        shared
            .telemetry
            .agent_restarted(&post.running.ids, &post.agent.name, count);
        server.tell(|| ListenerEvent::Restarted);
        drop(server);
        match restarts.decide(Instant::now(), Ending::Panicked) {
            Verdict::Again(wait) if wait.is_zero() => {}
            Verdict::Again(wait) => tokio::time::sleep(wait).await,
            Verdict::Done | Verdict::GivenUp => break,
        }
        started = match crate::recovery::after_panic(shared, post.running.ids.invocation).await {
            Ok(recovered) => Start::Resumed(Box::new(recovered)),
            Err(error) => return failed_report(shared, post, &error.to_string()),
        };
    }
    failed_report(shared, post, "its AgentServer panicked again and again")
}

fn agent_server(shared: &Arc<Shared>, post: &Post, start: Start) -> (AgentServer, Event) {
    let ids = post.running.ids;
    let is_resumed = matches!(start, Start::Resumed(_));
    let (machine, journal, first, spec, charged) = match start {
        Start::New { spec, .. } => {
            let first = Event::Started(spec.clone());
            (
                Invocation::default(),
                PendingJournal::after(AgentServer::BEGINNING),
                first,
                spec,
                Money::ZERO,
            )
        }
        Start::Resumed(recovered) => {
            let Recovered {
                journaled:
                    Journaled {
                        machine,
                        last_sequence,
                        spec,
                    },
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
    let agent = match &first {
        Event::Resumed(resumption) => under(&post.agent, &resumption.limits, &resumption.scopes),
        _ => under(&post.agent, &spec.limits, &spec.scopes),
    };
    let snapshot = shared.tools.snapshot();
    let needed = spec
        .tools
        .iter()
        .filter_map(|facts| snapshot.find(&facts.name));
    let listed = needed.fold(Permissions::NONE, |sum, tool| {
        sum.union(tool.definition().permissions)
    });
    let watch = InvocationWatch::new(
        shared.telemetry.clone(),
        ids,
        post.agent.name.clone(),
        spec.model.id.clone(),
    );
    watch.begun(is_resumed);
    let granted = listed.intersection(shared.settings().allowed_permissions);
    let beginning = if is_resumed {
        Beginning::Resumed
    } else {
        Beginning::New
    };
    shared.note_configuration();
    shared.audit.started(beginning, &ids, &agent, granted);
    let server = AgentServer {
        shared: shared.clone(),
        watch,
        ids,
        agent,
        granted,
        conversation: Arc::new(Conversation {
            model: spec.model.clone(),
            system_prompt: spec.system_prompt.clone(),
            tools: spec.tools.clone(),
            cache: spec.cache,
            user_id: None,
        }),
        machine,
        lease: shared.lease(ids.session, post.epoch),
        journal,
        inbox: VecDeque::new(),
        model: None,
        tools: JoinSet::new(),
        calls: Few::new(),
        data: None,
        timers: Timers::default(),
        settles: Vec::new(),
        running: post.running.clone(),
        events: post.running.sender(),
        has_heard_stop: false,
        charged,
        fenced: false,
        store_error: None,
        last_failure: None,
        has_acted: false,
        told_ends: Vec::new(),
        report: None,
    };
    (server, first)
}

/// The agent with the limits that are in force for this invocation, which its tools may ask for.
fn under(
    agent: &Arc<AgentConfig>,
    limits: &InvocationLimits,
    scopes: &[ScopeLimits],
) -> Arc<AgentConfig> {
    let budgets = in_force(limits, scopes);
    if budgets == agent.budgets {
        return agent.clone();
    }
    Arc::new(AgentConfig {
        budgets,
        ..AgentConfig::clone(agent)
    })
}

fn failed_report(shared: &Shared, post: &Post, why: &str) -> Report {
    let duration = shared.clock.now().since(post.running.since);
    Report {
        ids: post.running.ids,
        agent: post.agent.name.clone(),
        outcome: Outcome::Failed {
            failure: Failure::Internal {
                message: Arc::from(why),
            },
        },
        artifacts: Vec::new(),
        artifact_error: None,
        store_error: None,
        totals: Totals::default(),
        charged: Money::ZERO,
        turns: 0,
        duration,
        time_used: duration,
    }
}
