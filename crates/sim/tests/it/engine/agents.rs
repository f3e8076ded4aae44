//! The agents of the worlds, and an engine on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{AgentConfig, Budgets, Limit, Origin};
use otto_core::model::CacheUse;
use otto_core::policy::Permissions;
use otto_core::redact::Redactor;
use otto_core::{AgentName, ModelId, Money, ToolName};
use otto_engine::clock::{IdSource, RandomIds, SystemClock};
use otto_engine::{
    Admission, Ceilings, ContextStore, DEFAULT_MAX_BYTES, Engine, EngineParts, EngineSettings,
    KillPlaces, TelemetryParts, ToolBus,
};
use otto_store_memory::MemoryStore;

use super::{Chance, World, model, tools};

/// What any invocation may cost.
pub(crate) const COST_LIMIT: Money = Money::from_dollars(2);

pub(crate) fn agent(chance: &Chance) -> Arc<AgentConfig> {
    let time = if chance.happens(15) {
        Duration::from_secs(10)
    } else {
        Duration::from_secs(300)
    };
    Arc::new(AgentConfig {
        name: AgentName::new("worker").unwrap(),
        description: Arc::from(""),
        model: ModelId::new(model::MODEL).unwrap(),
        system_prompt: Arc::from("Work."),
        tools: tools::NAMES
            .into_iter()
            .map(|name| ToolName::new(name).unwrap())
            .collect(),
        working_dir: None,
        roots: BTreeMap::new(),
        budgets: Budgets {
            time: Some(Limit::new(time, "test")),
            cost: Some(Limit::new(COST_LIMIT, "test")),
            ..Budgets::default()
        },
        max_output_tokens: 1_000,
        compaction: None,
        tell_limits: false,
        allowed_hosts: Vec::new(),
        shared: false,
        tool_settings: BTreeMap::new(),
        origin: Origin::new("test"),
    })
}

/// Ids drawn from the world's seed.
struct WorldIds(Arc<Chance>);

impl IdSource for WorldIds {
    fn random(&self) -> [u8; 10] {
        let (a, b) = (self.0.next().to_le_bytes(), self.0.next().to_le_bytes());
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&a);
        bytes[8..].copy_from_slice(&b[..2]);
        bytes
    }
}

pub(crate) fn engine(world: &World, node: &str) -> Engine {
    Engine::start(EngineParts {
        store: world.store.clone(),
        client: world.model.clone(),
        tools: Arc::new(ToolBus::new(tools::all(&world.deeds)).unwrap()),
        ids: Arc::new(WorldIds(world.chance.clone())),
        ..parts(node, Admission::new(64, 64))
    })
}

/// Parts of an engine with nothing of its own: an empty store in memory, no tool, a model that is not asked.
pub(crate) fn parts(node: &str, admission: Admission) -> EngineParts {
    EngineParts {
        store: Arc::new(MemoryStore::new()),
        blobs: None,
        client: Arc::new(model::FakeModel::new(Arc::new(Chance::new(0)))),
        tools: Arc::default(),
        contexts: ContextStore::new(DEFAULT_MAX_BYTES),
        clock: Arc::new(SystemClock::start()),
        ids: Arc::new(RandomIds),
        redactor: Arc::new(Redactor::built_in()),
        kill: KillPlaces::default(),
        cancel_requests: None,
        telemetry: TelemetryParts::default(),
        audit: None,
        configuration: Vec::new(),
        settings: EngineSettings {
            enabled: true,
            ceilings: Ceilings::daily(Limit::new(Money::from_dollars(1_000_000), "test")),
            allowed_permissions: Permissions::NONE,
            audit_mode: false,
            transcript_messages: 200,
            cache: CacheUse::FiveMinutes,
            admission,
            node: Arc::from(node),
        },
    }
}
