//! What the operator adds to the built-in patterns, and what can be wrong with it.
//!
//! Invariant: no error and no debug output shows a secret's value.

use std::fmt;

/// What is masked besides the built-in patterns.
#[derive(Debug, Clone, Default)]
pub struct RedactionConfig {
    /// Patterns of the operator.
    pub patterns: Vec<OperatorPattern>,
    /// Values that are masked wherever they occur.
    pub secrets: Vec<ExactSecret>,
}

/// A pattern of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPattern {
    /// Shown in the label: 1 to 64 of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// A regular expression in the syntax of the `regex` crate. It matches within one line, and `^` and `$`
    /// mean the line. If it has a group named `secret`, only that is masked.
    pub pattern: String,
}

/// A value that is masked wherever it occurs: as it is, escaped for JSON, in base64 and URL-encoded.
#[derive(Clone)]
pub struct ExactSecret {
    /// Shown in the label: 1 to 64 of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The value.
    pub value: String,
}

impl fmt::Debug for ExactSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactSecret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Most patterns and most secrets of one configuration.
pub(super) const MAX_ENTRIES: usize = 256;
/// Longest pattern.
pub(super) const MAX_PATTERN_BYTES: usize = 2_048;
/// Longest name.
const MAX_NAME_BYTES: usize = 64;

/// A redaction configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct RedactionError {
    /// The problems, in the order of the configuration; not empty.
    pub problems: Vec<RedactionProblem>,
}

/// One thing that is wrong with a redaction configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactionProblem {
    /// The name of the pattern or secret, shortened and escaped.
    pub name: String,
    /// What is wrong, and what is expected.
    pub what: String,
}

impl RedactionProblem {
    pub(super) fn new(name: &str, what: impl Into<String>) -> Self {
        let name = name
            .chars()
            .take(MAX_NAME_BYTES)
            .flat_map(char::escape_default)
            .collect();
        Self {
            name,
            what: what.into(),
        }
    }
}

impl fmt::Display for RedactionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redaction `{}`: {}", self.name, self.what)
    }
}

/// Whether a name can stand in a label.
pub(super) fn check_name(name: &str) -> Result<(), RedactionProblem> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(RedactionProblem::new(
            name,
            "expected a name of 1 to 64 letters, digits, `-`, `_` and `.`",
        ))
    }
}
