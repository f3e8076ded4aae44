//! The sums of `otto usage --json` over ten thousand invocations, compared with the provider's bill.
//!
//! The real library on the embedded store, 64 invocations at a time; a provider in this process that keeps its
//! bill per call, is overloaded at times (not billed, asked again), and at times breaks off before its usage
//! record (billed, and charged at the hold, which is never less). The sums come from the real command.
//!
//! Invariant: what the command says is charged equals, to the picodollar, the bill of all calls with a usage
//! record plus the holds of all calls without one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use otto::core::EffectId;
use otto::core::invocation::{
    Billing, Event, ModelFailure, ModelFailureKind, ModelFinish, StopReason,
};
use otto::core::journal;
use otto::core::message::{Block, BlockView};
use otto::core::port::llm_client::{ModelCall, ModelEvent, ModelStream};
use otto::{
    Ceilings, InvocationId, InvocationQuery, Limit, LlmClient, Money, Otto, PriceTable, Usage,
};
use otto_sim::conformance::draw::Draw;

use crate::scenario::{agents, command};

/// Invocations at a time.
const AT_ONCE: u64 = 64;
/// Decides what the provider does.
const SEED: u64 = 20_261_128;

/// What the comparison saw.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) invocations: u64,
    pub(crate) calls: u64,
    pub(crate) not_billed: u64,
    pub(crate) without_record: u64,
    pub(crate) charged: u64,
    pub(crate) elapsed: Duration,
}

/// Runs `invocations` invocations in a state directory below `dir` and compares.
pub(crate) fn compare(dir: &Path, invocations: u64) -> Result<Sums> {
    let begun = Instant::now();
    let provider = Arc::new(Provider {
        prices: Arc::new(PriceTable::new("usage", [agents::model()])),
        calls: AtomicU64::new(0),
        bills: Mutex::default(),
    });
    command::prepare(dir)?;
    let expected = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let otto = open(dir, provider.clone()).await?;
            run(&otto, invocations).await?;
            let expected = expected(&otto, &provider).await?;
            otto.shutdown(Duration::from_secs(5)).await;
            anyhow::Ok(expected)
        })?;
    let lines = command::lines(dir, &["usage", "--by", "day,agent,model"])?;
    let sum = |field: &str| -> u64 {
        lines
            .iter()
            .filter_map(|line| line[field].as_u64().or(line[field]["picodollars"].as_u64()))
            .sum()
    };
    let charged = sum("charged");
    ensure!(
        charged == expected.charged,
        "`otto usage` says {charged} picodollars, the bill says {}",
        expected.charged
    );
    Ok(Sums {
        charged,
        elapsed: begun.elapsed(),
        ..expected
    })
}

async fn open(dir: &Path, provider: Arc<Provider>) -> Result<Otto> {
    Ok(Otto::builder()
        .enabled(true)
        .state_dir(crate::scenario::state_dir(dir))
        .client(provider)
        .ceilings(Ceilings::daily(Limit::new(
            Money::from_dollars(1_000_000),
            "the comparison",
        )))
        .agent(agents::agent_without_tools("$5.00")?)
        .open()
        .await?)
}

async fn run(otto: &Otto, invocations: u64) -> Result<()> {
    let agent = otto.agent(agents::AGENT)?;
    let started = AtomicU64::new(0);
    let worker = async || -> Result<()> {
        while started.fetch_add(1, Ordering::Relaxed) < invocations {
            agent.invoke("Say something.").await?;
        }
        Ok(())
    };
    let workers: Vec<_> = (0..AT_ONCE).map(|_| worker()).collect();
    futures_util::future::try_join_all(workers).await?;
    Ok(())
}

/// What must have been charged: from the bill where the journal has a usage record, else the hold.
async fn expected(otto: &Otto, provider: &Provider) -> Result<Sums> {
    let bills = provider
        .bills
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut sums = Sums {
        invocations: 0,
        calls: 0,
        not_billed: 0,
        without_record: 0,
        charged: 0,
        elapsed: Duration::ZERO,
    };
    let mut billed_calls = 0;
    let query = InvocationQuery {
        limit: Some(u32::MAX),
        ..InvocationQuery::default()
    };
    for record in otto.invocations(query).await? {
        sums.invocations += 1;
        let mut holds = BTreeMap::new();
        let mut open = None;
        for line in otto.journal(record.invocation).await? {
            let (_, event) = journal::decode(&line)?;
            match event {
                Event::ReservationGranted { effect, grant } => {
                    holds.insert(effect, grant.held_cost.picodollars());
                    open = Some(effect);
                    sums.calls += 1;
                }
                Event::ModelFinished { finish, .. } => {
                    let effect = open.take().context("a reply belongs to a hold")?;
                    let bill = bills.get(&(record.invocation, effect)).copied();
                    let bill = bill.context("a reply is on the bill")?;
                    billed_calls += 1;
                    ensure!(
                        bill <= holds[&effect],
                        "{bill} was billed under {}",
                        holds[&effect]
                    );
                    if finish.usage.is_some() {
                        sums.charged += bill;
                    } else {
                        sums.without_record += 1;
                        sums.charged += holds[&effect];
                    }
                }
                Event::ModelFailed { failure, .. } => {
                    let effect = open.take().context("a failure belongs to a hold")?;
                    let bill = bills.get(&(record.invocation, effect)).copied();
                    if failure.billing == Billing::NotBilled {
                        ensure!(bill.is_none(), "a call that was not billed is on the bill");
                        sums.not_billed += 1;
                    } else {
                        billed_calls += usize::from(bill.is_some());
                        ensure!(bill.unwrap_or(0) <= holds[&effect], "billed above the hold");
                        sums.without_record += 1;
                        sums.charged += holds[&effect];
                    }
                }
                _ => {}
            }
        }
        ensure!(open.is_none(), "{} left a hold open", record.invocation);
    }
    ensure!(
        billed_calls == bills.len(),
        "{} calls are on the bill, the journals know of {billed_calls}",
        bills.len()
    );
    Ok(sums)
}

/// A provider that answers with a few words and keeps its bill by call.
struct Provider {
    prices: Arc<PriceTable>,
    calls: AtomicU64,
    bills: Mutex<BTreeMap<(InvocationId, EffectId), u64>>,
}

impl LlmClient for Provider {
    fn prices(&self) -> Arc<PriceTable> {
        self.prices.clone()
    }

    fn call(&self, call: ModelCall) -> ModelStream {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut draw = Draw::new(SEED ^ number.wrapping_mul(0x9E37_79B9));
        let failed = |kind, billing| {
            ModelEvent::Failed(ModelFailure {
                kind,
                message: Arc::from("planted"),
                billing,
                // At once, with a little jitter.
                retry_after: Some(Duration::ZERO),
                should_retry: None,
                status: None,
                request_id: None,
            })
        };
        if draw.below(100) < 10 {
            let events = [failed(ModelFailureKind::Overloaded, Billing::NotBilled)];
            return Box::pin(futures_util::stream::iter(events));
        }
        let usage = Usage {
            input_tokens: 400 + draw.below(100),
            output_tokens: 1 + draw.below(150),
            ..Usage::default()
        };
        let cost = call
            .conversation
            .model
            .cost(&usage)
            .expect("a small amount");
        let reservation = call.request.reservation;
        self.bills
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(
                (reservation.invocation, reservation.effect),
                cost.picodollars(),
            );
        let block = ModelEvent::BlockFinished {
            index: 0,
            block: Arc::new(Block {
                raw: Arc::from("{\"words\":1}"),
                view: BlockView::Text(Arc::from("Words.")),
            }),
        };
        let end = match draw.below(100) {
            0..5 => failed(ModelFailureKind::CutStream, Billing::Unknown),
            kind => ModelEvent::Finished(ModelFinish {
                stop: StopReason::EndTurn,
                usage: (kind >= 10).then_some(usage),
                served_by: None,
            }),
        };
        Box::pin(futures_util::stream::iter([block, end]))
    }
}
