//! Fake tools: one that looks, one that acts, one that may act again. What they do is counted, and each act
//! checks first that a crash at this very moment would not forget it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otto_core::invocation::{Event, Repeatability, Resumption, SideEffects};
use otto_core::policy::Permissions;
use otto_core::port::BoxFuture;
use otto_core::port::tool::{Tool, ToolContext, ToolDefinition, ToolError, ToolOutput};
use otto_core::{InvocationId, ToolCallId, ToolName, journal};

use super::Chance;
use super::store::TroubledStore;

pub(crate) const NAMES: [&str; 3] = ["look", "act", "put"];

/// What was done, and what was wrong with it.
pub(crate) struct Deeds {
    chance: Arc<Chance>,
    store: Arc<TroubledStore>,
    acts: Mutex<BTreeMap<(InvocationId, ToolCallId), u64>>,
    wrongs: Mutex<Vec<String>>,
}

impl Deeds {
    pub(crate) fn new(chance: Arc<Chance>, store: Arc<TroubledStore>) -> Self {
        Self {
            chance,
            store,
            acts: Mutex::default(),
            wrongs: Mutex::default(),
        }
    }

    /// Calls with side effects that have begun.
    pub(crate) fn done(&self) -> u64 {
        self.acts.lock().unwrap().values().sum()
    }

    #[track_caller]
    pub(crate) fn must_be_clean(&self) {
        let wrongs = self.wrongs.lock().unwrap();
        assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    }

    fn wrong(&self, what: String) {
        self.wrongs.lock().unwrap().push(what);
    }

    async fn begins(&self, ctx: &ToolContext, repeatability: Repeatability) {
        let (invocation, call) = (ctx.ids.invocation, ctx.ids.call.clone());
        if !self.would_survive(invocation, &call).await {
            self.wrong(format!(
                "call {call} of {invocation} begins, and a crash would forget it"
            ));
        }
        let mut acts = self.acts.lock().unwrap();
        let count = acts.entry((invocation, call.clone())).or_insert(0);
        *count += 1;
        if *count > 1 && repeatability != Repeatability::Repeatable {
            drop(acts);
            self.wrong(format!("call {call} of {invocation} runs again"));
        }
    }

    /// Whether an engine that came back now would know of the call.
    async fn would_survive(&self, invocation: InvocationId, call: &ToolCallId) -> bool {
        let entries = self.store.durable_journal(invocation).await;
        let Ok(mut machine) = journal::fold(&entries) else {
            return false;
        };
        let Some(spec) = machine.spec().cloned() else {
            return false;
        };
        let resumption = Resumption {
            limits: spec.limits.clone(),
            scopes: spec.scopes.clone(),
            decision: None,
        };
        let at = entries
            .last()
            .and_then(|entry| journal::decode(&entry.payload).ok());
        let at = at.map(|(at, _)| at).unwrap_or_default();
        machine.step(at, Event::Resumed(Arc::new(resumption)));
        machine
            .history()
            .iter()
            .flat_map(|message| message.tool_calls())
            .any(|known| known.id == *call)
    }
}

/// One of the fake tools.
pub(crate) struct FakeTool {
    definition: ToolDefinition,
    deeds: Arc<Deeds>,
}

pub(crate) fn all(deeds: &Arc<Deeds>) -> Vec<Arc<dyn Tool>> {
    let kinds = [
        (SideEffects::None, Repeatability::Repeatable),
        (SideEffects::Some, Repeatability::Unknown),
        (SideEffects::Some, Repeatability::Repeatable),
    ];
    NAMES
        .into_iter()
        .zip(kinds)
        .map(|(name, (side_effects, repeatability))| {
            let definition = ToolDefinition {
                name: ToolName::new(name).unwrap(),
                description: Arc::from("Does what its name says."),
                input_schema: Arc::from(r#"{"type":"object"}"#),
                permissions: Permissions::NONE,
                side_effects,
                repeatability,
                timeout: Duration::from_secs(5),
                max_output_bytes: 1_000,
            };
            Arc::new(FakeTool {
                definition,
                deeds: deeds.clone(),
            }) as Arc<dyn Tool>
        })
        .collect()
}

impl Tool for FakeTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn call<'a>(
        &'a self,
        ctx: &'a ToolContext,
        _input: &'a str,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            if self.definition.side_effects == SideEffects::Some {
                self.deeds.begins(ctx, self.definition.repeatability).await;
            }
            let chance = &self.deeds.chance;
            tokio::time::sleep(chance.delay(6_000)).await;
            assert!(!chance.happens(3), "planted: the tool panics");
            if chance.happens(10) {
                return Err(ToolError::for_model("It did not work."));
            }
            Ok(ToolOutput {
                content: format!("{} did {}", self.definition.name, chance.next()),
            })
        })
    }
}
