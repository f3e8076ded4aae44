//! The tools of a conversation, as the wire names and describes them.
//!
//! Otto's tool names may hold dots (`fs.read`), the wire's may not (`^[a-zA-Z0-9_-]{1,64}$`): a dot becomes an
//! underscore on the way out and the conversation's own table leads back. Two tools that would share a wire
//! name are refused, never guessed apart.
//!
//! The definitions are encoded once per set of tools and copied into each request.
//!
//! Invariant: a wire name leads to exactly one tool of the set, or to none.

use otto_core::ToolName;
use otto_core::invocation::ToolFacts;

use crate::codec::EncodeError;
use crate::codec::json_text::{is_object, push_key, push_string};

/// The tools offered in a conversation.
#[derive(Debug)]
pub struct WireTools {
    facts: Vec<ToolFacts>,
    /// Wire name to Otto's name, sorted by wire name.
    names: Vec<(Box<str>, ToolName)>,
    /// The definitions, separated by commas.
    definitions: String,
}

impl WireTools {
    /// Encodes a set of tools.
    ///
    /// # Errors
    /// When two tools share a wire name, or a schema is not a JSON object.
    pub fn new(facts: &[ToolFacts]) -> Result<Self, EncodeError> {
        let mut names: Vec<(Box<str>, ToolName)> = facts
            .iter()
            .map(|tool| (wire_name(&tool.name), tool.name.clone()))
            .collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(pair) = names.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(EncodeError::ToolNameClash {
                first: pair[0].1.clone(),
                second: pair[1].1.clone(),
                wire: pair[0].0.clone(),
            });
        }
        let mut definitions = String::new();
        for tool in facts {
            if !is_object(&tool.input_schema) {
                return Err(EncodeError::InvalidSchema {
                    tool: tool.name.clone(),
                });
            }
            if !definitions.is_empty() {
                definitions.push(',');
            }
            definitions.push('{');
            push_key(&mut definitions, "name");
            push_string(&mut definitions, &wire_name(&tool.name));
            if !tool.description.is_empty() {
                push_key(&mut definitions, "description");
                push_string(&mut definitions, &tool.description);
            }
            push_key(&mut definitions, "input_schema");
            definitions.push_str(&tool.input_schema);
            definitions.push('}');
        }
        Ok(Self {
            facts: facts.to_vec(),
            names,
            definitions,
        })
    }

    /// The tool of that wire name.
    #[must_use]
    pub fn find(&self, wire_name: &str) -> Option<&ToolName> {
        let at = self
            .names
            .binary_search_by(|(known, _)| (**known).cmp(wire_name))
            .ok()?;
        Some(&self.names[at].1)
    }

    /// Whether this is the encoding of exactly these tools.
    #[must_use]
    pub fn is_for(&self, facts: &[ToolFacts]) -> bool {
        self.facts == facts
    }

    /// The definitions as JSON, separated by commas; empty without tools.
    pub(super) fn definitions(&self) -> &str {
        &self.definitions
    }
}

fn wire_name(name: &ToolName) -> Box<str> {
    name.as_str().replace('.', "_").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use otto_core::invocation::{Repeatability, SideEffects};

    use super::*;

    fn tool(name: &str, schema: &str) -> ToolFacts {
        ToolFacts {
            name: ToolName::new(name).unwrap(),
            description: Arc::from("says \"hello\""),
            input_schema: Arc::from(schema),
            side_effects: SideEffects::None,
            repeatability: Repeatability::Repeatable,
        }
    }

    #[test]
    fn dots_become_underscores_and_come_back() {
        let facts = [tool("fs.read", "{\"type\":\"object\"}"), tool("grep", "{}")];
        let tools = WireTools::new(&facts).unwrap();
        assert_eq!(tools.find("fs_read"), Some(&facts[0].name));
        assert_eq!(tools.find("grep"), Some(&facts[1].name));
        for unknown in ["fs.read", "FS_READ", "Grep", "", "fs_rea", "fs_readd"] {
            assert_eq!(tools.find(unknown), None, "{unknown}");
        }
        let expected = r#"{"name":"fs_read","description":"says \"hello\"","input_schema":{"type":"object"}},{"name":"grep","description":"says \"hello\"","input_schema":{}}"#;
        assert_eq!(tools.definitions(), expected);
        assert!(tools.is_for(&facts) && !tools.is_for(&facts[..1]));
    }

    #[test]
    fn a_clash_is_an_error() {
        let error = WireTools::new(&[tool("fs.read", "{}"), tool("fs_read", "{}")]).unwrap_err();
        assert!(
            matches!(error, EncodeError::ToolNameClash { .. }),
            "{error}"
        );
        assert!(WireTools::new(&[tool("a", "{}"), tool("a", "{}")]).is_err());
    }

    #[test]
    fn a_schema_that_is_no_object_is_an_error() {
        for schema in ["", "[]", "true", "{", "{},\"x\":1"] {
            let error = WireTools::new(&[tool("a", schema)]).unwrap_err();
            assert!(
                matches!(error, EncodeError::InvalidSchema { .. }),
                "{schema}"
            );
        }
    }
}
