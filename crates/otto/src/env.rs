//! Every environment variable that Otto reads, in one list, and the environment as a value.
//!
//! Nothing else in Otto reads the process environment: the list makes the documentation, and a test of the
//! loader hands in an environment of its own.
//!
//! Invariant: the value of a variable never appears in a `Debug` output.

use std::collections::BTreeMap;
use std::fmt;

/// An environment variable that Otto reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub meaning: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
}

/// Switches agents on.
pub const OTTO_ENABLED: &str = "OTTO_ENABLED";
/// Throws the kill switch at start.
pub const OTTO_KILL_SWITCH: &str = "OTTO_KILL_SWITCH";
/// Where journal, ledger and artifacts are kept.
pub const OTTO_STATE_DIR: &str = "OTTO_STATE_DIR";
/// The project directory.
pub const OTTO_PROJECT: &str = "OTTO_PROJECT";
/// The operator's configuration file.
pub const OTTO_CONFIG: &str = "OTTO_CONFIG";
/// The daily ceiling.
pub const OTTO_DAILY_COST: &str = "OTTO_DAILY_COST";
/// Audit mode.
pub const OTTO_AUDIT: &str = "OTTO_AUDIT";
/// What is logged.
pub const OTTO_LOG: &str = "OTTO_LOG";
/// How the log looks.
pub const OTTO_LOG_FORMAT: &str = "OTTO_LOG_FORMAT";
/// Where the log goes.
pub const OTTO_LOG_FILE: &str = "OTTO_LOG_FILE";
/// Where traces and metrics go.
pub const OTEL_EXPORTER_OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// What is sent along with them.
pub const OTEL_EXPORTER_OTLP_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// The name of this service in traces.
pub const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// How often metrics are sent.
pub const OTEL_METRIC_EXPORT_INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";
/// The token of `otto serve`.
pub const OTTO_SERVER_TOKEN: &str = "OTTO_SERVER_TOKEN";
/// The provider's key.
pub const ANTHROPIC_API_KEY: &str = "ANTHROPIC_API_KEY";
/// The provider's address.
pub const ANTHROPIC_BASE_URL: &str = "ANTHROPIC_BASE_URL";
/// Base of the user's configuration.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// Base of the user's state.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// The user's home directory.
pub const HOME: &str = "HOME";

/// Every variable Otto reads, in the order of the documentation. Variables that begin with `OTTO_VAR_` are
/// read in addition, where an agent file names them.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: OTTO_ENABLED,
        meaning: "`true` lets agents run. Without it, and without `enabled: true` in the operator's config.yml, no agent starts.",
        default: "false",
    },
    Variable {
        name: OTTO_KILL_SWITCH,
        meaning: "`true` throws the kill switch at start: no agent, model call or tool starts; stored data stays readable.",
        default: "false",
    },
    Variable {
        name: OTTO_STATE_DIR,
        meaning: "Directory of journal, ledger and artifacts.",
        default: "`var/otto` in the project directory",
    },
    Variable {
        name: OTTO_PROJECT,
        meaning: "The project directory, which holds `.otto/`. The option `--project` goes before it.",
        default: "the current directory",
    },
    Variable {
        name: OTTO_CONFIG,
        meaning: "The operator's configuration file, in place of the user's `otto/config.yml`.",
        default: "`$XDG_CONFIG_HOME/otto/config.yml`",
    },
    Variable {
        name: OTTO_DAILY_COST,
        meaning: "The most that everything together may cost on one UTC day, such as `$25`.",
        default: "$10.00",
    },
    Variable {
        name: OTTO_AUDIT,
        meaning: "`true` logs what policy would deny instead of denying it. Money limits hold all the same.",
        default: "false",
    },
    Variable {
        name: OTTO_LOG,
        meaning: "What is logged, as a filter such as `info`, `otto=debug,warn` or `off`.",
        default: "`info` for `otto serve`, else `off`",
    },
    Variable {
        name: OTTO_LOG_FORMAT,
        meaning: "How the log looks: `pretty` for people, `json` with one object on a line for programs.",
        default: "pretty",
    },
    Variable {
        name: OTTO_LOG_FILE,
        meaning: "A file that the log is appended to, in place of standard error. Made readable for its owner only.",
        default: "standard error",
    },
    Variable {
        name: OTEL_EXPORTER_OTLP_ENDPOINT,
        meaning: "The base address of an OpenTelemetry receiver (OTLP over HTTP, JSON), such as `http://127.0.0.1:4318`. Traces and metrics are sent there, without content.",
        default: "none: nothing is sent",
    },
    Variable {
        name: OTEL_EXPORTER_OTLP_HEADERS,
        meaning: "Headers for the receiver, as `name=value,name=value`. Values are treated as secrets.",
        default: "none",
    },
    Variable {
        name: OTEL_SERVICE_NAME,
        meaning: "What this service is called in traces and metrics.",
        default: "otto",
    },
    Variable {
        name: OTEL_METRIC_EXPORT_INTERVAL,
        meaning: "Milliseconds between two sends of metrics; at least 100.",
        default: "60000",
    },
    Variable {
        name: OTTO_SERVER_TOKEN,
        meaning: "A token for `otto serve` that allows everything; at least 16 characters. Further tokens stand in the operator's config.yml as their SHA-256.",
        default: "none; without any token only this machine is served, and openly",
    },
    Variable {
        name: ANTHROPIC_API_KEY,
        meaning: "The key for the provider. Read from here only, never from a file, and never shown.",
        default: "none; `otto demo` needs none",
    },
    Variable {
        name: ANTHROPIC_BASE_URL,
        meaning: "The address of the provider, or of `otto sim`.",
        default: "https://api.anthropic.com",
    },
    Variable {
        name: "HTTPS_PROXY",
        meaning: "A proxy for calls of the provider; also `https_proxy`, `ALL_PROXY`, and `HTTP_PROXY` for plain addresses.",
        default: "none",
    },
    Variable {
        name: "NO_PROXY",
        meaning: "Hosts that are reached without the proxy; also `no_proxy`.",
        default: "none",
    },
    Variable {
        name: XDG_CONFIG_HOME,
        meaning: "Base of the user's configuration: `otto/config.yml` and `otto/agents/` below it.",
        default: "`$HOME/.config`",
    },
    Variable {
        name: XDG_STATE_HOME,
        meaning: "Base of the user's state: what all projects of this user have spent today, and which state directories are theirs.",
        default: "`$HOME/.local/state`",
    },
    Variable {
        name: HOME,
        meaning: "The user's home directory. No agent may have it as working directory.",
        default: "none",
    },
    Variable {
        name: "NO_COLOR",
        meaning: "Any value switches colours off.",
        default: "colours on a terminal",
    },
];

/// An environment: names and values, taken once.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables }
    }

    /// An environment of these variables.
    #[must_use]
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            variables: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    /// The value of a variable. An empty value counts as not set, as shells treat it.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The names of all variables that are set, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, _)| name.as_str())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_debugged_and_empty_is_unset() {
        let environment = Environment::from_pairs([("A", "hunter2"), ("B", "")]);
        assert_eq!(format!("{environment:?}"), r#"{"A"}"#);
        assert_eq!(environment.variable("A"), Some("hunter2"));
        assert_eq!(environment.variable("B"), None);
    }

    #[test]
    fn the_documentation_has_every_variable_as_it_is_here() {
        let page = include_str!("../../../docs/configuration.md");
        for Variable {
            name,
            meaning,
            default,
        } in VARIABLES
        {
            let row = format!("| `{name}` | {meaning} | {default} |\n");
            assert!(page.contains(&row), "docs/configuration.md lacks:\n{row}");
        }
    }

    #[test]
    fn every_name_is_listed_once() {
        let mut names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VARIABLES.len());
    }
}
