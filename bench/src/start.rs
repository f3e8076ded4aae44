//! A start on what an earlier process has left: ten thousand sessions, some of them in the middle.
//!
//! It goes through the real recovery: open the store, end the leases of the dead, find what is unfinished, fold
//! each journal, charge its open call and make it again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use otto::core::agent::Limit;
use otto::{AgentBuilder, Ceilings, Money, Otto};

use crate::measure::median;
use crate::runtime::{MODEL, Model, Talk};
use crate::table::Row;

/// Sessions that have ended.
const ENDED: usize = 9_900;
/// Sessions that were running.
const RUNNING: usize = 100;
/// Sessions that are begun at once while the directory is filled.
const AT_ONCE: usize = 100;
const ROUNDS: usize = 5;

pub(crate) fn rows(dir: &Path) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measured(&dir.join("start")))
}

async fn measured(state: &Path) -> Result<Vec<Row>> {
    let otto = open(state, Talk::Calls(0)).await?;
    for _ in 0..ENDED / AT_ONCE {
        let ending = (0..AT_ONCE).map(|_| async {
            let report = otto
                .agent("agent")?
                .invoke("Say that you are done.")
                .await?;
            ensure!(
                report.text() == "Done.",
                "unexpected end: {}",
                report.outcome
            );
            Ok(())
        });
        futures_util::future::try_join_all(ending).await?;
    }
    otto.shutdown(Duration::from_secs(5)).await;
    drop(otto);
    let otto = open(state, Talk::Silent).await?;
    let mut running = Vec::new();
    for _ in 0..RUNNING {
        running.push(otto.agent("agent")?.invoke_stream("Go on and on.").await?);
    }
    until_held(&otto, &running).await?;
    die(otto, running).await;

    let (mut opened, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let otto = open(state, Talk::Silent).await?;
        opened.push(start.elapsed().as_secs_f64());
        let recovery = otto.recover().await?;
        ready.push(start.elapsed().as_secs_f64());
        ensure!(
            recovery.resumed.len() == RUNNING,
            "{} of {RUNNING} were taken up: {:?}",
            recovery.resumed.len(),
            recovery.left.first()
        );
        die(otto, Vec::new()).await;
    }
    let row = |what: &str, times: Vec<f64>| {
        let time = median(times);
        Row::alone(
            what,
            format!("{:.0} ms", time * 1e3),
            "below 500 ms",
            time < 0.5,
        )
    };
    Ok(vec![
        row("start on 10,000 sessions, open", opened),
        row("the same, and 100 that were running taken up", ready),
    ])
}

async fn open(state: &Path, talk: Talk) -> Result<Otto> {
    let agent = AgentBuilder::new("agent", MODEL)
        .budgets(otto::Budgets {
            cost: Some(Limit::new(Money::from_dollars(1_000), "benchmark")),
            ..otto::Budgets::default()
        })
        .build()?;
    Ok(Otto::builder()
        .enabled(true)
        .client(Arc::new(Model::new(talk)))
        .agent(agent)
        .ceilings(Ceilings::daily(Limit::new(Money::MAX, "benchmark")))
        .state_dir(state)
        .open()
        .await?)
}

/// Waits until each of them has come to its model call.
async fn until_held(otto: &Otto, running: &[otto::InvocationHandle]) -> Result<()> {
    let tracker = otto.engine().cost_tracker();
    for handle in running {
        let scope = otto::core::ledger::Scope::Invocation(handle.ids().invocation);
        while tracker.account(scope.clone()).await?.held_cost == Money::ZERO {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Ends the process, as far as the state is concerned: what runs comes to no end and is there to be taken up.
async fn die(otto: Otto, running: Vec<otto::InvocationHandle>) {
    otto.hand_over(Duration::from_secs(5)).await;
    drop((otto, running));
}
