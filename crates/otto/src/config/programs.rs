//! `programs`: what programs get that `test_runner` starts.
//!
//! Without a word of the operator they find the system's own programs and libraries, the working directory, and
//! nothing else; a toolchain in somebody's home must be listed to be seen.

use std::path::PathBuf;

use otto_sandbox::{ExecNetwork, ExecPolicy};

use super::file::{absolute_dir, variable_name};
use crate::decode::{Decoder, Field};
use crate::load::shown_path;
use crate::yaml::Node;

// BOUND: entries of each list.
const MAX_ENTRIES: usize = 64;

/// What programs get beside the system's directories and the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Directories they can read and run from, such as toolchains; the `bin` of each is on their search path.
    pub read: Vec<PathBuf>,
    /// Directories they can change as well, such as a cache of packages.
    pub write: Vec<PathBuf>,
    /// Variables that every program gets.
    pub env: Vec<(String, String)>,
    /// Whether they find a loopback interface of their own. Never any other network.
    pub loopback: bool,
    /// Whether they may run where the kernel offers no namespaces.
    pub at_l1: bool,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            read: Vec::new(),
            write: Vec::new(),
            env: Vec::new(),
            loopback: true,
            at_l1: false,
        }
    }
}

impl Programs {
    /// The same, as the sandbox takes it.
    #[must_use]
    pub fn exec_policy(&self) -> ExecPolicy {
        ExecPolicy {
            allow_l1: self.at_l1,
            read_only: self.read.clone(),
            writable: self.write.clone(),
            env: self.env.clone(),
            network: if self.loopback {
                ExecNetwork::Loopback
            } else {
                ExecNetwork::None
            },
            ..ExecPolicy::default()
        }
    }

    /// Every listed directory.
    pub fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.read.iter().chain(&self.write)
    }

    pub(super) fn shown(&self) -> String {
        let paths = |paths: &[PathBuf]| {
            let paths: Vec<String> = paths.iter().map(|path| shown_path(path)).collect();
            paths.join(", ")
        };
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "read: [{}], write: [{}], env: [{}], network: {}, at_l1: {}",
            paths(&self.read),
            paths(&self.write),
            names.join(", "),
            if self.loopback { "loopback" } else { "none" },
            self.at_l1,
        )
    }
}

const FIELDS: &[Field] = &[READ, WRITE, ENV, NETWORK, AT_L1];

const READ: Field = Field {
    name: "read",
    form: "a list of absolute paths",
    meaning: "Directories that programs can read and run from; the `bin` of each is on their search path.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const WRITE: Field = Field {
    name: "write",
    form: "a list of absolute paths",
    meaning: "Directories that programs can change as well.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const ENV: Field = Field {
    name: "env",
    form: "names and values, such as { CARGO_NET_OFFLINE: \"true\" }",
    meaning: "Variables that every program gets.",
    default: "none",
    schema: r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
};
const NETWORK: Field = Field {
    name: "network",
    form: "loopback or none",
    meaning: "Whether programs find a loopback interface of their own.",
    default: "loopback",
    schema: r#"{"enum":["loopback","none"]}"#,
};
const AT_L1: Field = Field {
    name: "at_l1",
    form: "true or false",
    meaning: "Whether programs may run where the kernel offers no namespaces; never as uid 0.",
    default: "false",
    schema: r#"{"type":"boolean"}"#,
};

/// Reads the mapping.
pub(super) fn decode(decoder: &mut Decoder<'_>, node: &Node) -> Option<Programs> {
    let fields = decoder.fields(node, "`programs`", FIELDS)?;
    let mut programs = Programs::default();
    let mut is_whole = true;
    let mut list = |decoder: &mut Decoder<'_>, field: &Field, into: &mut Vec<PathBuf>| {
        let Some(node) = fields.value(field.name) else {
            return;
        };
        let items = decoder.items(node, field, MAX_ENTRIES);
        is_whole &= items.is_some();
        for item in items.unwrap_or_default() {
            match decoder.value(item, field, absolute_dir) {
                Some(path) => into.push(path),
                None => is_whole = false,
            }
        }
    };
    list(decoder, &READ, &mut programs.read);
    list(decoder, &WRITE, &mut programs.write);
    if let Some(node) = fields.value(ENV.name) {
        let entries = decoder.unique_entries(node, "`programs.env`", ENV.form);
        is_whole &= entries.is_some();
        for (key, value) in entries.unwrap_or_default() {
            let value = decoder.value(value, &ENV, |text| {
                variable_name(&key.name).map(|name| (name, text.to_owned()))
            });
            match value {
                Some(pair) => programs.env.push(pair),
                None => is_whole = false,
            }
        }
    }
    if let Some(node) = fields.value(NETWORK.name) {
        match decoder.value(node, &NETWORK, |text| match text {
            "loopback" => Ok(true),
            "none" => Ok(false),
            other => Err(format!("{} is neither", crate::diagnostic::quoted(other))),
        }) {
            Some(loopback) => programs.loopback = loopback,
            None => is_whole = false,
        }
    }
    if let Some(node) = fields.value(AT_L1.name) {
        match decoder.boolean(node, &AT_L1) {
            Some(at_l1) => programs.at_l1 = at_l1,
            None => is_whole = false,
        }
    }
    is_whole.then_some(programs)
}
