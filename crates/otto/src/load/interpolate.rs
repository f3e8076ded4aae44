//! `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in the values of agent files.
//!
//! Insertion happens after parsing, in one pass: what is inserted is a value, never structure, and is not
//! searched again. Only variables that the operator lists or whose name begins with `OTTO_VAR_` exist here, so
//! a project file cannot ask for whatever the environment happens to hold.
//!
//! Invariant: no credential gets into a field that the model sees.

use std::collections::BTreeSet;
use std::fmt;

use super::credentials;
use crate::diagnostic::quoted;
use crate::env::Environment;
use crate::text::visible_start;

/// Variables with this prefix are open to agent files.
pub const OPEN_PREFIX: &str = "OTTO_VAR_";

/// BOUND: bytes of a value after insertion.
const MAX_VALUE_BYTES: usize = 256 * 1024;

/// Who reads a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It is sent to the model, as prompt or as tool definition.
    Model,
    /// It stays inside Otto.
    Otto,
}

/// Inserts variables into values.
#[derive(Debug)]
pub(crate) struct Interpolator<'a> {
    environment: &'a Environment,
    listed: BTreeSet<&'a str>,
}

/// Why a value could not be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    fn help(self, help: impl fmt::Display) -> Self {
        Self {
            help: Some(help.to_string()),
            ..self
        }
    }
}

impl<'a> Interpolator<'a> {
    /// Inserts from `environment` what begins with [`OPEN_PREFIX`] or is listed.
    pub(crate) fn new(
        environment: &'a Environment,
        listed: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            environment,
            listed: listed.into_iter().collect(),
        }
    }

    /// The value with its variables inserted. `$${` stands for a literal `${`.
    pub(crate) fn insert(&self, value: &str, reader: Reader) -> Result<String, Failure> {
        let mut result = String::with_capacity(value.len());
        let mut rest = value;
        while let Some(dollar) = rest.find("${") {
            if rest[..dollar].ends_with('$') {
                result.push_str(&rest[..dollar - 1]);
                result.push_str("${");
                rest = &rest[dollar + 2..];
                continue;
            }
            result.push_str(&rest[..dollar]);
            let inside = &rest[dollar + 2..];
            let end = inside.find('}').ok_or_else(|| {
                Failure::new("`${` without its `}`")
                    .help("close it, or write `$${` for a literal `${`")
            })?;
            result.push_str(&self.expand(&inside[..end], reader)?);
            if result.len() > MAX_VALUE_BYTES {
                return Err(Failure::new(format!(
                    "longer than {MAX_VALUE_BYTES} bytes after inserting variables"
                )));
            }
            rest = &inside[end + 1..];
        }
        result.push_str(rest);
        Ok(result)
    }

    fn expand(&self, expression: &str, reader: Reader) -> Result<String, Failure> {
        let length = expression
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .count();
        let (name, operation) = expression.split_at(length);
        let named = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        let (default, message) = (operation.strip_prefix(":-"), operation.strip_prefix(":?"));
        if !named || !(operation.is_empty() || default.is_some() || message.is_some()) {
            return Err(Failure::new(format!("{} is not a variable", quoted(&format!("${{{expression}}}"))))
                .help("write `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, or `$${` for a literal `${`"));
        }
        if !name.starts_with(OPEN_PREFIX) && !self.listed.contains(name) {
            return Err(Failure::new(format!("the variable `{name}` is not open to agent files")).help(format_args!(
                "use a variable whose name begins with `{OPEN_PREFIX}`, or let the operator list `{name}` under `variables` in config.yml"
            )));
        }
        if reader == Reader::Model && credentials::is_credential_name(name) {
            return Err(Failure::new(format!(
                "the variable `{name}` names a credential, and the model would read this field"
            ))
            .help("credentials never go to a model; keep them out of prompts and descriptions"));
        }
        match (self.environment.variable(name), default, message) {
            (Some(value), ..)
                if reader == Reader::Model && !credentials::find(value).is_empty() =>
            {
                Err(Failure::new(format!(
                    "the variable `{name}` holds a credential, and the model would read this field"
                )))
            }
            (Some(value), ..) => Ok(value.to_owned()),
            (None, Some(default), _) => Ok(default.to_owned()),
            (None, None, Some(message)) if !message.is_empty() => Err(Failure::new(format!(
                "the variable `{name}` is not set: {}",
                visible_start(message, 200)
            ))),
            (None, None, _) => Err(
                Failure::new(format!("the variable `{name}` is not set")).help(format_args!(
                    "set it, or give a default: `${{{name}:-value}}`"
                )),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::from_pairs([
            ("OTTO_VAR_REGION", "eu"),
            ("OTTO_VAR_NESTED", "${OTTO_VAR_REGION}"),
            ("OTTO_VAR_EMPTY", ""),
            ("OTTO_VAR_API_KEY", "whatever"),
            ("OTTO_VAR_LEAK", &format!("sk-ant-{}", "a1b2".repeat(8))),
            ("TEAM", "core"),
            ("HOME", "/home/me"),
        ])
    }

    fn insert(value: &str, reader: Reader) -> Result<String, String> {
        let environment = environment();
        Interpolator::new(&environment, ["TEAM"])
            .insert(value, reader)
            .map_err(|failure| failure.message)
    }

    #[test]
    fn variables_are_inserted_once() {
        for (value, expected) in [
            ("plain", "plain"),
            ("$5 and $NAME", "$5 and $NAME"),
            ("in ${OTTO_VAR_REGION}/${TEAM}", "in eu/core"),
            ("${OTTO_VAR_NESTED}", "${OTTO_VAR_REGION}"),
            ("${OTTO_VAR_MISSING:-x y}", "x y"),
            ("${OTTO_VAR_EMPTY:-filled}", "filled"),
            ("${OTTO_VAR_REGION:-other}", "eu"),
            ("${OTTO_VAR_MISSING:-}", ""),
            ("literal $${OTTO_VAR_REGION}", "literal ${OTTO_VAR_REGION}"),
        ] {
            assert_eq!(
                insert(value, Reader::Model).as_deref(),
                Ok(expected),
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_not_open_is_refused() {
        for (value, message) in [
            ("${HOME}", "the variable `HOME` is not open to agent files"),
            (
                "${OTTO_VAR_MISSING}",
                "the variable `OTTO_VAR_MISSING` is not set",
            ),
            (
                "${OTTO_VAR_MISSING:?say which}",
                "the variable `OTTO_VAR_MISSING` is not set: say which",
            ),
            (
                "${OTTO_VAR_EMPTY}",
                "the variable `OTTO_VAR_EMPTY` is not set",
            ),
            ("${OTTO_VAR_REGION", "`${` without its `}`"),
            ("${}", "`${}` is not a variable"),
            ("${1A}", "`${1A}` is not a variable"),
            (
                "${OTTO_VAR_REGION:+x}",
                "`${OTTO_VAR_REGION:+x}` is not a variable",
            ),
        ] {
            assert_eq!(insert(value, Reader::Otto).unwrap_err(), message);
        }
    }

    #[test]
    fn credentials_stay_out_of_what_the_model_reads() {
        assert!(
            insert("${OTTO_VAR_API_KEY}", Reader::Model)
                .unwrap_err()
                .contains("names a credential")
        );
        assert!(
            insert("${OTTO_VAR_LEAK}", Reader::Model)
                .unwrap_err()
                .contains("holds a credential")
        );
        assert_eq!(
            insert("${OTTO_VAR_API_KEY}", Reader::Otto).as_deref(),
            Ok("whatever")
        );
    }
}
