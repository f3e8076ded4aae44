//! The kill switch of the library, thrown and lifted: what was acknowledged holds after a restart.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use otto::{InvokeError, Otto};

use super::agents::{AGENT, agent_without_tools, provider};
use super::{Aftermath, SAYS_IT, Scenario, no_environment, nothing, state_dir};
use crate::said::{Mouth, say};

/// How often it is thrown and lifted before it stays thrown.
const ROUNDS: usize = 2;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "kill-file",
        prepare: nothing,
        drive: |dir, mouth| runtime()?.block_on(drive(dir, mouth)),
        check: |dir, after| runtime()?.block_on(check(dir, after)),
        environment: no_environment,
        stride: 2,
        loses_power: true,
        reports: SAYS_IT,
    }]
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

async fn open(dir: &Path, mouth: &Mouth) -> Result<Otto> {
    let builder = Otto::builder()
        .enabled(true)
        .state_dir(state_dir(dir))
        .client(provider(mouth))
        .agent(agent_without_tools("$1.00")?);
    Ok(builder.open().await?)
}

async fn drive(dir: &Path, mouth: &Mouth) -> Result<()> {
    let worked = async {
        let otto = open(dir, mouth).await?;
        for _ in 0..ROUNDS {
            say!(mouth, "throwing");
            otto.kill("a drill").await?;
            say!(mouth, "thrown");
            say!(mouth, "lifting");
            otto.lift_kill().await?;
            say!(mouth, "lifted");
        }
        say!(mouth, "throwing");
        otto.kill("a drill").await?;
        say!(mouth, "thrown");
        anyhow::Ok(())
    };
    if let Err(error) = worked.await {
        let text = format!("{error:#}");
        ensure!(
            text.contains(';'),
            "the error does not say what to do: {text}"
        );
        say!(mouth, "error {}", text.replace('\n', " "));
    }
    Ok(())
}

/// An acknowledged throw holds and starts nothing, an acknowledged lift is one; either works again.
async fn check(dir: &Path, after: &Aftermath) -> Result<()> {
    let mouth = Mouth::open(&after.said)?;
    let otto = open(dir, &mouth)
        .await
        .context("open the library after the crash")?;
    let thrown = otto.kill_switch().await?;
    let words = ["throwing", "thrown", "lifting", "lifted"];
    let lines = after.facts.lines();
    let last = lines
        .iter()
        .rev()
        .find(|line| words.contains(&line.as_str()));
    match last.map(String::as_str) {
        Some("thrown") => ensure!(thrown.is_some(), "the throw was acknowledged and is lost"),
        None | Some("lifted") => ensure!(
            thrown.is_none(),
            "nobody has thrown it, or lifted it was: {thrown:?}"
        ),
        Some(_) => {}
    }
    if thrown.is_some() {
        let begun = otto.agent(AGENT)?.invoke("Work.").await;
        ensure!(
            matches!(begun, Err(InvokeError::Killed { .. })),
            "something began while the switch is thrown: {begun:?}"
        );
    }
    otto.kill("again").await?;
    ensure!(
        otto.kill_switch().await?.is_some(),
        "it is not thrown again"
    );
    otto.lift_kill().await?;
    ensure!(otto.kill_switch().await?.is_none(), "it is not lifted");
    Ok(())
}
