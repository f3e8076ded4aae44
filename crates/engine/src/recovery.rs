//! Taking invocations up again: after a crash, a shutdown, a panic, or with a raised limit.
//!
//! Invariant: the machine is what its journal says; nothing is taken from the memory of whoever ran it before.

use std::sync::Arc;

use otto_core::agent::{AgentConfig, Budgets, Limit};
use otto_core::invocation::{Invocation, InvocationSpec, Resumption, UnknownCallDecision};
use otto_core::journal;
use otto_core::ledger::Scope;
use otto_core::port::store::{ClaimOutcome, InvocationQuery, StoreError};
use otto_core::{InvocationId, Money, SessionId};

use crate::agent_supervisor::{Seat, Start};
use crate::engine::{Engine, InvokeOptions, ResumeOptions, Shared, store_failed};
use crate::leases::LEASE_TTL;
use crate::scopes::in_force;
use crate::{Ids, InvocationHandle, InvokeError, Listening};

/// An invocation as its journal tells it.
pub(crate) struct Journaled {
    pub(crate) machine: Invocation,
    pub(crate) last_sequence: u64,
    pub(crate) spec: Arc<InvocationSpec>,
}

/// A machine folded from its journal, and what holds from now on.
pub(crate) struct Recovered {
    pub(crate) journaled: Journaled,
    pub(crate) resumption: Arc<Resumption>,
    /// Charged before it was taken up again.
    pub(crate) charged: Money,
}

/// Why a journal could not be folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error("read its journal: {0}")]
    Store(#[from] StoreError),
    #[error("replay its journal: {0}")]
    Journal(#[from] journal::FoldError),
    #[error("its journal is empty: it had not begun when Otto ended")]
    Empty,
}

impl RecoveryError {
    /// For whoever wanted to take up this invocation. A store that fails, or finds the journal damaged, is no reason
    /// that lies in the invocation.
    fn of(self, invocation: InvocationId) -> InvokeError {
        match self {
            Self::Store(source) => store_failed("read the journal of the invocation")(source),
            Self::Journal(_) | Self::Empty => InvokeError::NotResumable {
                what: format!("invocation {invocation}"),
                why: self.to_string(),
            },
        }
    }
}

/// Under which limits an invocation goes on.
enum Terms {
    /// Those in its journal.
    AsBefore,
    /// Those in its journal, some of them raised.
    Raised(Budgets, Option<UnknownCallDecision>),
}

impl Engine {
    /// Takes an invocation up again, with the agent as it is configured now.
    ///
    /// # Errors
    /// When it cannot be resumed, with the reason; nothing was spent then.
    pub async fn resume(
        &self,
        agent: Arc<AgentConfig>,
        invocation: InvocationId,
        options: ResumeOptions,
    ) -> Result<InvocationHandle, InvokeError> {
        let terms = Terms::Raised(options.raise, options.decision);
        self.take_up(agent, invocation, terms, options.listening)
            .await
    }

    /// Takes an invocation up again whose Otto is gone, under the limits in its journal. A call that needs a
    /// person's word parks it.
    ///
    /// # Errors
    /// As [`Engine::resume`]; [`InvokeError::SessionBusy`] when its Otto lives after all.
    pub async fn recover(
        &self,
        agent: Arc<AgentConfig>,
        invocation: InvocationId,
        options: InvokeOptions,
    ) -> Result<InvocationHandle, InvokeError> {
        self.take_up(agent, invocation, Terms::AsBefore, options.listening)
            .await
    }

    async fn take_up(
        &self,
        agent: Arc<AgentConfig>,
        invocation: InvocationId,
        terms: Terms,
        listening: Listening,
    ) -> Result<InvocationHandle, InvokeError> {
        let ticket = self.admit()?;
        let shared = self.shared();
        let not_resumable = |why: String| InvokeError::NotResumable {
            what: format!("invocation {invocation}"),
            why,
        };
        // Held until it is registered: asking twice at once is one resumption.
        let _taking_up = shared
            .registry
            .take_up(invocation)
            .ok_or_else(|| not_resumable("it is running".to_owned()))?;
        let query = InvocationQuery {
            invocation: Some(invocation),
            ..InvocationQuery::default()
        };
        let records = shared
            .store
            .invocations(query)
            .await
            .map_err(store_failed("look up the invocation"))?;
        let record = records
            .first()
            .ok_or_else(|| not_resumable("it is unknown here".to_owned()))?;
        if let Some(outcome) = record.outcome
            && !record.resumable
        {
            return Err(not_resumable(format!("it has ended: {outcome}")));
        }
        let session = record.session;
        let claimed = shared.store.claim(session, self.node(), LEASE_TTL).await;
        let lease = match claimed.map_err(store_failed("claim the session"))? {
            ClaimOutcome::Claimed(lease) => lease,
            ClaimOutcome::Held { node } => return Err(InvokeError::SessionBusy { session, node }),
        };
        let recovered = match self.recovered(&agent, invocation, terms).await {
            Ok(recovered) => recovered,
            Err(refused) => {
                // Nothing runs under it: the next one need not wait until it runs out. If it cannot be given back, it
                // does that.
                if shared.leases.epoch(session).is_none() {
                    let _ = shared.store.release(lease).await;
                }
                return Err(refused);
            }
        };
        let seat = Seat {
            ids: ids_of(&recovered.journaled.spec),
            agent,
            lease,
            admitted_at: shared.clock.now(),
        };
        Ok(self.spawn(ticket, seat, Start::Resumed(Box::new(recovered)), listening))
    }

    /// An invocation as its journal has it, and on which terms it goes on.
    async fn recovered(
        &self,
        agent: &AgentConfig,
        invocation: InvocationId,
        terms: Terms,
    ) -> Result<Recovered, InvokeError> {
        let shared = self.shared();
        let journaled = journaled(shared, invocation)
            .await
            .map_err(|error| error.of(invocation))?;
        let spec = &journaled.spec;
        let resumption = match terms {
            Terms::AsBefore => as_before(spec),
            Terms::Raised(raise, decision) => {
                let before = in_force(&spec.limits, &spec.scopes);
                if let Some(why) = lowered(&before, &raise) {
                    return Err(InvokeError::NotResumable {
                        what: format!("invocation {invocation}"),
                        why,
                    });
                }
                // Whoever resumes it on purpose wants it to go on.
                shared.cancels.withdraw(invocation);
                // What the task had narrowed, or somebody raised before, stays.
                let budgets = self.within_ceilings(&raise.or(&before));
                self.resumption(agent, &budgets, &ids_of(spec), decision)
            }
        };
        let charged = charged(shared, invocation)
            .await
            .map_err(store_failed("look up what it was charged"))?;
        Ok(Recovered {
            journaled,
            resumption,
            charged,
        })
    }

    /// The newest invocation of a session that can be taken up again.
    ///
    /// # Errors
    /// When there is none, with the reason.
    pub async fn resumable_in(&self, session: SessionId) -> Result<InvocationId, InvokeError> {
        let query = InvocationQuery {
            session: Some(session),
            ..InvocationQuery::default()
        };
        let store = &self.shared().store;
        let records = store
            .invocations(query)
            .await
            .map_err(store_failed("look up the session"))?;
        let not_resumable = |why: &str| InvokeError::NotResumable {
            what: format!("session {session}"),
            why: why.to_owned(),
        };
        if records.is_empty() {
            return Err(not_resumable("it is unknown here"));
        }
        records
            .iter()
            .find(|record| record.outcome.is_none() || record.resumable)
            .map(|record| record.invocation)
            .ok_or_else(|| not_resumable("all its invocations have ended for good"))
    }

    /// The limits that an invocation is under, as its journal has them: those of its agent and task, or what they were
    /// raised to since.
    ///
    /// # Errors
    /// When its journal cannot be read.
    pub async fn limits_of(&self, invocation: InvocationId) -> Result<Budgets, InvokeError> {
        let Journaled { spec, .. } = journaled(self.shared(), invocation)
            .await
            .map_err(|error| error.of(invocation))?;
        Ok(in_force(&spec.limits, &spec.scopes))
    }

    fn resumption(
        &self,
        agent: &AgentConfig,
        budgets: &Budgets,
        ids: &Ids,
        decision: Option<UnknownCallDecision>,
    ) -> Arc<Resumption> {
        Arc::new(Resumption {
            limits: self.limits(agent, budgets),
            scopes: self.settings().ceilings.scopes(ids, &agent.name, budgets),
            decision,
        })
    }
}

/// The state of an invocation whose AgentServer has panicked, with its limits as they were.
pub(crate) async fn after_panic(
    shared: &Arc<Shared>,
    invocation: InvocationId,
) -> Result<Recovered, RecoveryError> {
    let journaled = journaled(shared, invocation).await?;
    let resumption = as_before(&journaled.spec);
    let charged = charged(shared, invocation).await?;
    Ok(Recovered {
        journaled,
        resumption,
        charged,
    })
}

/// Which raised limit is none: it is below the one in force.
fn lowered(before: &Budgets, raise: &Budgets) -> Option<String> {
    fn below<T: PartialOrd>(
        name: &str,
        before: Option<&Limit<T>>,
        raise: Option<&Limit<T>>,
        show: impl Fn(&T) -> String,
    ) -> Option<String> {
        let (before, raise) = before.zip(raise)?;
        (raise.value < before.value).then(|| {
            format!(
                "its {name} limit is {} (set by {}) and can only be raised, not set to {}",
                show(&before.value),
                before.origin,
                show(&raise.value)
            )
        })
    }
    below(
        "cost",
        before.cost.as_ref(),
        raise.cost.as_ref(),
        Money::to_string,
    )
    .or_else(|| {
        below(
            "token",
            before.tokens.as_ref(),
            raise.tokens.as_ref(),
            u64::to_string,
        )
    })
    .or_else(|| {
        below(
            "turn",
            before.turns.as_ref(),
            raise.turns.as_ref(),
            u32::to_string,
        )
    })
    .or_else(|| {
        below("time", before.time.as_ref(), raise.time.as_ref(), |time| {
            format!("{time:?}")
        })
    })
}

/// The limits and scopes in the journal.
fn as_before(spec: &InvocationSpec) -> Arc<Resumption> {
    Arc::new(Resumption {
        limits: spec.limits.clone(),
        scopes: spec.scopes.clone(),
        decision: None,
    })
}

/// What the ledger has charged to an invocation so far.
async fn charged(shared: &Shared, invocation: InvocationId) -> Result<Money, StoreError> {
    let account = shared.store.account(Scope::Invocation(invocation)).await?;
    Ok(account.spent_cost)
}

async fn journaled(shared: &Shared, invocation: InvocationId) -> Result<Journaled, RecoveryError> {
    let entries = shared.store.read(invocation).await?;
    let machine = journal::fold(&entries)?;
    let spec = machine.spec().cloned().ok_or(RecoveryError::Empty)?;
    Ok(Journaled {
        machine,
        last_sequence: entries.last().map_or(0, |entry| entry.sequence),
        spec,
    })
}

fn ids_of(spec: &InvocationSpec) -> Ids {
    Ids {
        workflow: spec.workflow,
        session: spec.session,
        task: spec.task,
        invocation: spec.invocation,
    }
}
