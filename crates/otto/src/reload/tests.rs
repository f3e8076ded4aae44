//! A configuration that changes, breaks and heals under a running Otto.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use otto_core::port::llm_client::{LlmClient, ModelCall, ModelStream};
use otto_engine::Condition;
use tokio::sync::watch;

use super::{ConfigWatch, Reloaded};
use crate::Otto;
use crate::env::Environment;
use crate::load::KnownTool;

/// BOUND: a look must come within this time; it takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

struct Silent;

impl LlmClient for Silent {
    fn prices(&self) -> Arc<otto_core::model::PriceTable> {
        Arc::new(otto_anthropic::price_table())
    }

    fn call(&self, _: ModelCall) -> ModelStream {
        Box::pin(futures_util::stream::pending())
    }
}

struct World {
    folder: tempfile::TempDir,
    otto: Otto,
    told: watch::Receiver<Reloaded>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(folder.path()).unwrap();
        for dir in ["project", "config"] {
            fs::create_dir(base.join(dir)).unwrap();
        }
        let otto = Otto::builder()
            .client(Arc::new(Silent))
            .open()
            .await
            .unwrap();
        let config_home = base.join("config").to_string_lossy().into_owned();
        let told = otto.watch_configuration(ConfigWatch {
            project: base.join("project"),
            environment: Environment::from_pairs([("XDG_CONFIG_HOME", config_home)]),
            system: None,
            tools: KnownTool::base_tools(),
            host: None,
        });
        let mut world = Self { folder, otto, told };
        world.until(|told| told.looks > 0).await;
        world
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As editors do it: beside, then over it.
        let draft = path.with_extension("tmp~");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, &path).unwrap();
    }

    fn path(&self, below: &str) -> PathBuf {
        fs::canonicalize(self.folder.path()).unwrap().join(below)
    }

    async fn until(&mut self, holds: impl FnMut(&Reloaded) -> bool) -> Reloaded {
        let waited = tokio::time::timeout(PATIENCE, self.told.wait_for(holds)).await;
        waited.expect("a look comes").unwrap().clone()
    }

    async fn condition(&self) -> Condition {
        let report = self.otto.health().await;
        let found = report
            .components
            .into_iter()
            .find(|component| &*component.name == super::NAME);
        found.expect("the component is listed").condition
    }
}

fn agent(cost: &str) -> String {
    format!("name: helper\nmodel: claude-haiku-4-5\nbudgets: {{ cost: {cost} }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_applied_and_a_broken_one_keeps_the_last_good_one() {
    let mut world = World::new().await;
    assert!(world.otto.agent("helper").is_err());

    // The directory does not exist yet.
    world.write("project/.otto/agents/helper.yml", &agent("$0.10"));
    world.until(|told| told.applied == 1).await;
    let before = world.otto.agent("helper").unwrap();

    world.write(
        "project/.otto/agents/helper.yml",
        "name: helper\nmodle: x\n",
    );
    let told = world.until(|told| told.problems.is_some()).await;
    assert!(told.problems.unwrap().contains("modle"));
    assert!(
        world.otto.agent("helper").is_ok(),
        "the last good one stays"
    );
    let Condition::Degraded { reason } = world.condition().await else {
        panic!("a broken configuration is told of");
    };
    assert!(reason.contains("helper.yml:2"), "{reason}");

    world.write("project/.otto/agents/helper.yml", &agent("$0.20"));
    world
        .until(|told| told.applied == 2 && told.problems.is_none())
        .await;
    assert_eq!(world.condition().await, Condition::Ready);
    let cost = |agent: &crate::Agent| agent.config().budgets.cost.as_ref().unwrap().value;
    assert_eq!(cost(&before).to_string(), "$0.10", "who has it keeps it");
    assert_eq!(
        cost(&world.otto.agent("helper").unwrap()).to_string(),
        "$0.20"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_ceilings_are_applied_and_what_needs_a_restart_is_named() {
    let mut world = World::new().await;
    assert!(!world.otto.engine().settings().enabled);
    world.write(
        "config/otto/config.yml",
        "enabled: true\nceilings: { day: $3 }\nretention: 2d\n",
    );
    world.until(|told| told.applied == 1).await;
    let settings = world.otto.engine().settings();
    assert!(settings.enabled);
    assert_eq!(settings.ceilings.daily_cost.value.to_string(), "$3.00");
    let condition = world.condition().await;
    assert!(condition.is_ready());
    assert!(
        condition
            .reason()
            .is_some_and(|reason| reason.contains("retention")),
        "{condition:?}"
    );
}
