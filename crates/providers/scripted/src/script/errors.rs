//! What is wrong with a script, all of it at once.

use std::fmt;

use crate::limits;

/// One problem of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Line in the script, from 1.
    pub line: u64,
    /// Column in the line, from 1.
    pub column: u64,
    /// The value concerned, such as `turns.2.text`; empty for the script itself.
    pub place: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl ScriptError {
    pub(crate) fn new(line: u64, column: u64, place: String, problem: String) -> Self {
        Self {
            line,
            column,
            place,
            problem,
        }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.place.is_empty() {
            write!(f, "`{}`: ", self.place)?;
        }
        f.write_str(&self.problem)
    }
}

/// All problems of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptErrors {
    origin: String,
    errors: Vec<ScriptError>,
}

impl ScriptErrors {
    pub(crate) fn new(origin: &str, mut errors: Vec<ScriptError>) -> Self {
        errors.sort_by_key(|error| (error.line, error.column));
        // BOUND: nobody reads more, and a hostile script could make one error per node.
        errors.truncate(limits::SCRIPT_ERRORS);
        // The origin is a path somebody typed or a program made up: it must not carry control bytes into a terminal.
        let origin = origin.chars().take(200).flat_map(escape_control).collect();
        Self { origin, errors }
    }

    /// The problems in the order of the script; never empty.
    #[must_use]
    pub fn errors(&self) -> &[ScriptError] {
        &self.errors
    }
}

impl fmt::Display for ScriptErrors {
    /// One line per problem: `origin:line:column: place: problem`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{error}", self.origin)?;
        }
        Ok(())
    }
}

impl std::error::Error for ScriptErrors {}

/// A character as it may be shown: control characters are escaped.
pub(crate) fn escape_control(c: char) -> impl Iterator<Item = char> {
    let escaped = if c.is_control() {
        Some(c.escape_default())
    } else {
        None
    };
    let plain = if c.is_control() { None } else { Some(c) };
    escaped.into_iter().flatten().chain(plain)
}

/// A foreign text for a message: at most 60 characters, control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(escape_control).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
