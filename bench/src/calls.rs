//! What a caller of a store's ledger does, over and over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::ledger::{LookAhead, Quote, ReserveRequest, ScopeKey, ScopeLimits, Settlement};
use otto_core::model::Usage;
use otto_core::port::store::{
    Attribution, Dispatch, Durability, Lease, ReserveCall, SettleCall, Submission, SubmitOutcome,
};
use otto_core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp};

/// An invocation that holds its session's lease.
#[derive(Clone)]
pub(crate) struct Caller {
    lease: Lease,
    submission: Submission,
}

impl Caller {
    /// Submits invocation `number` in a session of its own.
    pub(crate) async fn submit(store: &impl Dispatch, number: u64) -> Result<Self> {
        let at = Timestamp::from_millis(number);
        let submission = Submission {
            invocation: InvocationId::from_parts(at, [2; 10]),
            session: SessionId::from_parts(at, [1; 10]),
            node: Arc::from("bench"),
            ttl: Duration::from_secs(3_600),
            agent: AgentName::new("bench")?,
            model: ModelId::new("m")?,
            workflow: None,
            title: Arc::from("bench"),
            idempotency_key: None,
            fingerprint: None,
            entries: Vec::new(),
            durability: Durability::Relaxed,
            at,
        };
        match store.submit(submission.clone()).await? {
            SubmitOutcome::Accepted(lease) => Ok(Self { lease, submission }),
            other => bail!("expected the lease, got {other:?}"),
        }
    }

    /// A reserve in the day and up to three scopes more, durable by itself.
    pub(crate) fn reserve(&self, effect: u64, scopes: usize) -> ReserveCall {
        let keys = [
            ScopeKey::Day,
            ScopeKey::Invocation(self.submission.invocation),
            ScopeKey::Session(self.submission.session),
            ScopeKey::Agent(self.submission.agent.clone()),
        ];
        let limits = |scope: ScopeKey| ScopeLimits {
            scope,
            cost: Some(Limit::new(Money::MAX, "bench.yml:7")),
            tokens: None,
        };
        let quote = Quote {
            prompt_tokens: 1_000,
            prompt_cost: Money::ZERO,
            output_price: Money::ZERO,
            output_wanted: 1_000,
            output_floor: 1,
        };
        ReserveCall {
            lease: self.lease.clone(),
            request: ReserveRequest {
                id: self.id(effect),
                scopes: keys.into_iter().take(scopes).map(limits).collect(),
                quote,
            },
            after: 0,
            entries: Vec::new(),
            look_ahead: LookAhead::None,
        }
    }

    /// The settlement of a reserve.
    pub(crate) fn settle(&self, effect: u64, durability: Durability) -> SettleCall {
        SettleCall {
            lease: self.lease.clone(),
            reservation: self.id(effect),
            settlement: Settlement::Used {
                usage: Usage {
                    output_tokens: 10,
                    ..Usage::default()
                },
                cost: Money::ZERO,
            },
            attribution: Attribution {
                session: self.submission.session,
                agent: self.submission.agent.clone(),
                workflow: None,
                model: self.submission.model.clone(),
                at: Timestamp::EPOCH,
            },
            entries: Vec::new(),
            durability,
        }
    }

    fn id(&self, effect: u64) -> ReservationId {
        ReservationId {
            invocation: self.submission.invocation,
            effect: EffectId(effect),
        }
    }
}
