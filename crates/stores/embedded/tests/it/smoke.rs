//! One invocation from submission to its end.

use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::Limit;
use otto_core::id::ReservationId;
use otto_core::invocation::OutcomeKind;
use otto_core::ledger::{Quote, ReserveOutcome, ReserveRequest, ScopeKey, ScopeLimits, Settlement};
use otto_core::model::Usage;
use otto_core::port::store::*;
use otto_core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId, Timestamp};
use otto_store_embedded::{EmbeddedStore, StoreConfig};

#[tokio::test]
async fn an_invocation_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("var/otto");
    let at = Timestamp::from_millis(1_795_392_000_000);
    let session = SessionId::from_parts(at, [1; 10]);
    let invocation = InvocationId::from_parts(at, [2; 10]);
    let entry = |sequence| Entry {
        sequence,
        payload: Arc::from(format!("{{\"n\":{sequence}}}")),
    };
    {
        let store = EmbeddedStore::open(StoreConfig::new(&state, "node")).unwrap();
        let submission = Submission {
            invocation,
            session,
            node: Arc::from("node"),
            ttl: Duration::from_secs(30),
            agent: AgentName::new("reviewer").unwrap(),
            model: ModelId::new("m").unwrap(),
            workflow: None,
            title: Arc::from("Review"),
            idempotency_key: None,
            fingerprint: None,
            entries: Vec::new(),
            durability: Durability::Relaxed,
            at,
        };
        let SubmitOutcome::Accepted(lease) = store.submit(submission.clone()).await.unwrap() else {
            panic!()
        };
        let id = ReservationId {
            invocation,
            effect: EffectId(1),
        };
        let request = ReserveRequest {
            id,
            scopes: vec![
                ScopeLimits {
                    scope: ScopeKey::Invocation(invocation),
                    cost: Some(Limit::new(Money::from_dollars(1), "test")),
                    tokens: None,
                },
                ScopeLimits {
                    scope: ScopeKey::Day,
                    cost: Some(Limit::new(Money::from_dollars(10), "test")),
                    tokens: None,
                },
            ],
            quote: Quote {
                prompt_tokens: 10,
                prompt_cost: Money::from_picodollars(1000).unwrap(),
                output_price: Money::from_picodollars(5).unwrap(),
                output_wanted: 100,
                output_floor: 10,
            },
        };
        let reply = store
            .reserve(ReserveCall {
                lease: lease.clone(),
                request,
                after: 0,
                entries: vec![entry(1), entry(2)],
                look_ahead: otto_core::ledger::LookAhead::None,
            })
            .await
            .unwrap();
        assert!(
            matches!(reply, ReserveReply::Ledger(ReserveOutcome::Granted(_))),
            "{reply:?}"
        );
        let usage = Usage {
            input_tokens: 7,
            output_tokens: 20,
            ..Usage::default()
        };
        let settle = SettleCall {
            lease: lease.clone(),
            reservation: id,
            settlement: Settlement::Used {
                usage,
                cost: Money::from_picodollars(800).unwrap(),
            },
            attribution: Attribution {
                session,
                agent: submission.agent.clone(),
                workflow: None,
                model: submission.model.clone(),
                at,
            },
            entries: vec![entry(3)],
            durability: Durability::Relaxed,
        };
        let reply = store.settle(settle).await.unwrap();
        assert!(matches!(reply, SettleReply::Ledger(_)), "{reply:?}");
        let finish = Finish {
            lease: lease.clone(),
            invocation,
            outcome: OutcomeKind::Completed,
            summary: Arc::from("completed"),
            result: Arc::from("fine"),
            after: 0,
            entries: vec![entry(4)],
            artifacts: Vec::new(),
            resumable: false,
            at,
        };
        assert_eq!(store.finish(finish).await.unwrap().outcome, Outcome::Done);
        let draft = ArtifactDraft {
            session,
            invocation,
            kind: ArtifactKind::Result,
            name: Arc::from("r.md"),
            content: Arc::from(&b"fine"[..]),
        };
        let artifact = store.put(draft.clone()).await.unwrap();
        assert_eq!(store.put(draft).await.unwrap(), artifact);
        assert_eq!(store.get(artifact).await.unwrap(), b"fine");
    }
    let store = EmbeddedStore::open(StoreConfig::new(&state, "other")).unwrap();
    assert_eq!(
        store.read(invocation).await.unwrap(),
        (1..=4).map(entry).collect::<Vec<_>>()
    );
    let record = &store.invocations(InvocationQuery::default()).await.unwrap()[0];
    assert_eq!(
        (record.outcome, record.cost.picodollars(), record.tokens),
        (Some(OutcomeKind::Completed), 800, 27)
    );
    assert_eq!(store.list(session).await.unwrap().len(), 1);
    let sums = store
        .usage(UsageQuery {
            group_by: vec![UsageGroup::Agent, UsageGroup::Day],
            ..UsageQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (sums.len(), sums[0].calls, sums[0].cost.picodollars()),
        (1, 1, 800)
    );
    assert!(store.unfinished().await.unwrap().is_empty());
}
