//! A digest of what was asked, kept beside an idempotency key.
//!
//! Invariant: two tasks have the same digest if and only if agent, input, limits, session and workflow are the
//! same; who set a limit does not matter.

use std::sync::Arc;

use otto_core::AgentName;
use otto_core::task::TaskSpec;
use sha2::{Digest, Sha256};

/// The digest of a task for an agent, as hexadecimal text.
pub(crate) fn fingerprint(agent: &AgentName, task: &TaskSpec) -> Arc<str> {
    let budgets = &task.budgets;
    let number = |value: Option<u128>| value.map(|value| value.to_string());
    let fields = [
        Some(agent.to_string()),
        Some(task.input.to_string()),
        task.session.map(|id| id.to_string()),
        task.workflow.map(|id| id.to_string()),
        number(budgets.time.as_ref().map(|limit| limit.value.as_nanos())),
        number(budgets.tokens.as_ref().map(|limit| limit.value.into())),
        number(
            budgets
                .cost
                .as_ref()
                .map(|limit| limit.value.picodollars().into()),
        ),
        number(budgets.turns.as_ref().map(|limit| limit.value.into())),
    ];
    let mut digest = Sha256::new();
    for field in fields {
        // Lengths keep neighbors apart; an absent field differs from an empty one.
        match field {
            None => digest.update([0]),
            Some(text) => {
                digest.update([1]);
                digest.update(text.len().to_le_bytes());
                digest.update(text);
            }
        }
    }
    let hex = digest
        .finalize()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            hex.push_str(&format!("{byte:02x}"));
            hex
        });
    Arc::from(hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use otto_core::agent::{Budgets, Limit};

    #[test]
    fn every_field_counts_and_origins_do_not() {
        let agent = |name: &str| AgentName::new(name).unwrap();
        let limited = |tokens, origin: &str| TaskSpec {
            budgets: Budgets {
                tokens: Some(Limit::new(tokens, origin)),
                ..Budgets::default()
            },
            ..TaskSpec::new("go")
        };
        let base = fingerprint(&agent("a"), &TaskSpec::new("go"));
        assert_eq!(base.len(), 64);
        let others = [
            fingerprint(&agent("b"), &TaskSpec::new("go")),
            fingerprint(&agent("a"), &TaskSpec::new("go ")),
            fingerprint(&agent("a"), &limited(1, "x")),
            fingerprint(&agent("a"), &limited(2, "x")),
            fingerprint(
                &agent("a"),
                &TaskSpec {
                    budgets: Budgets {
                        turns: Some(Limit::new(1, "x")),
                        ..Budgets::default()
                    },
                    ..TaskSpec::new("go")
                },
            ),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "{index}");
            assert!(!others[..index].contains(other), "{index}");
        }
        assert_eq!(
            fingerprint(&agent("a"), &limited(1, "x")),
            fingerprint(&agent("a"), &limited(1, "y"))
        );
    }
}
