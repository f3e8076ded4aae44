//! What the operator decides about a tool: settings that go before those of agent files, and tighter limits.
//!
//! Invariant: a policy narrows. A key that the operator sets cannot be set by an agent file, and no limit
//! becomes wider than the tool's own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use otto_core::port::tool::ToolDefinition;
use serde_json::{Map, Value};

/// The operator's word on one tool.
#[derive(Clone, Default)]
pub struct ToolPolicy {
    /// Settings as a JSON object. They may hold credentials.
    pub settings: Map<String, Value>,
    /// The longest a call may take.
    pub time: Option<Duration>,
    /// The most bytes of an answer.
    pub max_output_bytes: Option<usize>,
}

impl fmt::Debug for ToolPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only the keys: a value may be a credential.
        f.debug_struct("ToolPolicy")
            .field("settings", &self.settings.keys())
            .field("time", &self.time)
            .field("max_output_bytes", &self.max_output_bytes)
            .finish()
    }
}

impl ToolPolicy {
    /// The tool with the tighter of both limits.
    #[must_use]
    pub fn narrowed(&self, definition: ToolDefinition) -> ToolDefinition {
        ToolDefinition {
            timeout: self
                .time
                .map_or(definition.timeout, |time| time.min(definition.timeout)),
            max_output_bytes: self
                .max_output_bytes
                .map_or(definition.max_output_bytes, |max| {
                    max.min(definition.max_output_bytes)
                }),
            ..definition
        }
    }

    /// The settings of a call: the agent's (JSON text), with the operator's in their place.
    pub(crate) fn over(&self, agent: Option<&Arc<str>>) -> Option<Arc<str>> {
        if self.settings.is_empty() {
            return agent.cloned();
        }
        // The loader has checked that the agent's settings are an object; what is none has no keys to keep.
        let mut merged: Map<String, Value> = agent
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        for (key, value) in &self.settings {
            merged.insert(key.clone(), value.clone());
        }
        Some(Arc::from(Value::Object(merged).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(settings: Value) -> ToolPolicy {
        ToolPolicy {
            settings: settings.as_object().cloned().unwrap_or_default(),
            ..ToolPolicy::default()
        }
    }

    #[test]
    fn the_operators_keys_go_before_those_of_the_agent() {
        let agent: Arc<str> = Arc::from(r#"{"max_bytes":9,"backup":"off"}"#);
        assert_eq!(policy(json!({})).over(Some(&agent)), Some(agent.clone()));
        assert_eq!(policy(json!({})).over(None), None);
        let merged = policy(json!({"max_bytes": 1})).over(Some(&agent)).unwrap();
        let merged: Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(merged, json!({"max_bytes": 1, "backup": "off"}));
        let alone = policy(json!({"max_bytes": 1})).over(None).unwrap();
        assert_eq!(&*alone, r#"{"max_bytes":1}"#);
    }

    #[test]
    fn limits_only_become_tighter() {
        let own = crate::definitions().remove(0);
        let policy = |seconds, bytes| ToolPolicy {
            time: Some(Duration::from_secs(seconds)),
            max_output_bytes: Some(bytes),
            ..ToolPolicy::default()
        };
        let tight = policy(1, 10).narrowed(own.clone());
        assert_eq!(
            (tight.timeout, tight.max_output_bytes),
            (Duration::from_secs(1), 10)
        );
        assert_eq!(policy(100_000, usize::MAX).narrowed(own.clone()), own);
    }

    #[test]
    fn a_credential_is_not_printed() {
        let policy = policy(json!({"headers": {"a.test": {"Authorization": "feathers"}}}));
        assert!(!format!("{policy:?}").contains("feathers"));
    }
}
