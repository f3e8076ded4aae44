//! The operator's configuration file.
//!
//! It holds no credential (a file with one is refused) and inserts no variables: it is the file that says
//! which variables others may insert.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::agent::Budgets;
use otto_core::ledger::Period;
use otto_core::redact::{OperatorPattern, RedactionConfig, Redactor};
use otto_core::transcript::MAX_MESSAGES;
use otto_core::{AgentName, BudgetName, ToolName};
use otto_engine::SharedBudget;

use super::layers::Layer;
use super::{Presence, Setting, Sources, http_rate, prices, programs, server, tool_policies};
use crate::decode::{Decoder, Field, Fields};
use crate::diagnostic::{ConfigErrors, Diagnostic, Place, SourceFile, quoted};
use crate::limits;
use crate::load::interpolate::Reader;
use crate::load::{
    BUDGET_FIELDS, COUNT_SCHEMA, DURATION_SCHEMA, HOST_FORM, MONEY_SCHEMA, ReadError, normalised,
    parse_host, read_budgets, read_text,
};
use crate::yaml::{MAX_FILE_BYTES, Node};

/// BOUND: entries of the lists of the operator's file.
const MAX_ENTRIES: usize = 1_000;

pub(super) const ENDPOINT_FORM: &str = "an address such as https://api.anthropic.com or http://127.0.0.1:8080, without user, query or fragment";

const TRANSCRIPT_FORM: &str = "a whole number from 1 to 1000";

/// The keys of the operator's configuration file, in the order of the documentation.
pub const OPERATOR_FIELDS: &[Field] = &[
    ENABLED,
    STATE_DIR,
    CEILINGS,
    BUDGETS,
    TOOLS,
    TOOL_SETTINGS,
    TOOL_LIMITS,
    PROGRAMS,
    ASK_PERSON,
    ALLOWED_HOSTS,
    PRIVATE_HOSTS,
    HTTP_RATE,
    HTTP_HEADERS,
    DIRECTORIES,
    VARIABLES,
    ENDPOINT,
    PRICES,
    REDACT,
    RETENTION,
    RETENTION_COUNT,
    RETENTION_SIZE,
    ARTIFACT_BYTES_MAX,
    AUDIT_RETENTION,
    AUDIT_RETENTION_COUNT,
    CONTEXTS,
    TRANSCRIPT_MESSAGES,
    AUDIT,
    SERVER,
];

/// The keys below `ceilings`.
pub(super) const CEILING_FIELDS: &[Field] = &[DAY, INVOCATION, SESSION, WORKFLOW, AGENTS];

const ENABLED: Field = Field {
    name: "enabled",
    form: "true or false",
    meaning: "Whether agents may run at all.",
    default: "false",
    schema: r#"{"type":"boolean"}"#,
};
const STATE_DIR: Field = Field {
    name: "state_dir",
    form: "a path, absolute or relative to the project directory",
    meaning: "Where journal, ledger and artifacts are kept.",
    default: "var/otto in the project directory",
    schema: r#"{"type":"string","minLength":1}"#,
};
const CEILINGS: Field = Field {
    name: "ceilings",
    form: "a mapping such as { day: $10, invocation: { cost: $2, time: 30m } }",
    meaning: "The most that anything may use. Agents and tasks can only be tighter.",
    default: "a day of $10.00",
    schema: r#"{"type":"object"}"#,
};
const BUDGETS: Field = Field {
    name: "budgets",
    form: "names with limits, such as { research: { cost: $5, per: day, agents: [scout, reviewer] } }",
    meaning: "Budgets that several agents draw on together.",
    default: "none",
    schema: r#"{"type":"object"}"#,
};
const PER: Field = Field {
    name: "per",
    form: "`day`, or `ever` for a budget that never begins anew",
    meaning: "When the budget begins anew: with each UTC day, or never.",
    default: "day",
    schema: r#"{"enum":["day","ever"]}"#,
};
const DRAWN_BY: Field = Field {
    name: "agents",
    form: "a list of agent names",
    meaning: "The agents that draw on it.",
    default: "every agent",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const DAY: Field = Field {
    name: "day",
    form: limits::MONEY_FORM,
    meaning: "The most that everything together may cost on one UTC day.",
    default: "$10.00",
    schema: MONEY_SCHEMA,
};
const INVOCATION: Field = Field {
    name: "invocation",
    form: "limits such as { time: 30m, tokens: 2M, cost: $2, turns: 100 }",
    meaning: "The most of each invocation.",
    default: "none beyond what agents say",
    schema: r#"{"type":"object"}"#,
};
const SESSION: Field = Field {
    name: "session",
    form: "limits such as { cost: $5, tokens: 5M }",
    meaning: "The most of all invocations of a session together.",
    default: "none",
    schema: r#"{"type":"object"}"#,
};
const WORKFLOW: Field = Field {
    name: "workflow",
    form: "limits such as { cost: $20 }",
    meaning: "The most of all invocations of a workflow together.",
    default: "none",
    schema: r#"{"type":"object"}"#,
};
const AGENTS: Field = Field {
    name: "agents",
    form: "agent names with limits, such as { reviewer: { cost: $3 } }",
    meaning: "The most of all invocations of an agent on one UTC day.",
    default: "none",
    schema: r#"{"type":"object"}"#,
};
const TOOLS: Field = Field {
    name: "tools",
    form: "a list of tool names, such as [fs.read, grep]",
    meaning: "The tools that agents may list. An agent gets a tool only if both lists have it.",
    default: "all tools",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const TOOL_SETTINGS: Field = Field {
    name: "tool_settings",
    form: "tool names with settings, such as { fs.read: { max_bytes: 65536 } }",
    meaning: "Settings of tools; a key that is set here goes before the same key of every agent file.",
    default: "none",
    schema: r#"{"type":"object","additionalProperties":{"type":"object"}}"#,
};
const TOOL_LIMITS: Field = Field {
    name: "tool_limits",
    form: "tool names with limits, such as { http: { time: 10s, output: 64k } }",
    meaning: "Limits of single calls, tighter than the tool's own.",
    default: "the tools' own",
    schema: r#"{"type":"object","additionalProperties":{"type":"object"}}"#,
};
const PROGRAMS: Field = Field {
    name: "programs",
    form: "a mapping such as { read: [/opt/rust], env: { CI: \"1\" }, network: none }",
    meaning: "What programs get that `test_runner` starts, beside the system's directories and the working directory.",
    default: "nothing more, and a loopback interface of their own",
    schema: r#"{"type":"object"}"#,
};
const HTTP_HEADERS: Field = Field {
    name: "http_headers",
    form: "hosts with headers, such as { api.example.com: { Authorization: \"Bearer ${EXAMPLE_TOKEN}\" } }",
    meaning: "Headers that `http` sends to exactly these hosts over TLS; `${NAME}` inserts an environment variable, and the model never sees the value.",
    default: "none",
    schema: r#"{"type":"object","additionalProperties":{"type":"object"}}"#,
};
const ASK_PERSON: Field = Field {
    name: "ask_person",
    form: "a list of tool names, such as [http]",
    meaning: "Tools whose interrupted calls wait for a person's word: `otto resume --decide`.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const ALLOWED_HOSTS: Field = Field {
    name: "allowed_hosts",
    form: HOST_FORM,
    meaning: "The hosts that agents may list for the `http` tool.",
    default: "all public hosts",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const PRIVATE_HOSTS: Field = Field {
    name: "private_hosts",
    form: HOST_FORM,
    meaning: "Hosts that may be reached although their address is private or loopback.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const HTTP_RATE: Field = Field {
    name: "http_rate",
    form: "a mapping such as { burst: 5, per_minute: 30 }",
    meaning: "How often one agent may connect to one host: so many times at once, and so many times a minute after that.",
    default: "{ burst: 20, per_minute: 120 }",
    schema: r#"{"type":"object"}"#,
};
const DIRECTORIES: Field = Field {
    name: "directories",
    form: "a list of absolute paths",
    meaning: "Directories outside of the project that a project's agent files may name.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const VARIABLES: Field = Field {
    name: "variables",
    form: "a list of names of environment variables",
    meaning: "Variables that agent files may insert, beside those that begin with OTTO_VAR_.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"string"}}"#,
};
const ENDPOINT: Field = Field {
    name: "endpoint",
    form: ENDPOINT_FORM,
    meaning: "The provider's address.",
    default: "https://api.anthropic.com",
    schema: r#"{"type":"string"}"#,
};
const PRICES: Field = Field {
    name: "prices",
    form: "a list of models with their prices",
    meaning: "Prices of models beside the built-in table; an entry replaces a built-in one of the same id.",
    default: "none",
    schema: r#"{"type":"array","items":{"type":"object"}}"#,
};
const REDACT: Field = Field {
    name: "redact",
    form: "names with regular expressions, such as { customer: 'CUST-[0-9]{6}' }",
    meaning: "Patterns of what is redacted in everything stored or shown, beside the built-in ones.",
    default: "none",
    schema: r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
};
const RETENTION: Field = Field {
    name: "retention",
    form: limits::DURATION_FORM,
    meaning: "How long artifacts are kept.",
    default: "7d",
    schema: DURATION_SCHEMA,
};
const RETENTION_COUNT: Field = Field {
    name: "retention_count",
    form: OPTIONAL_COUNT_FORM,
    meaning: "How many artifacts are kept, of all sessions together; the oldest go first.",
    default: "none",
    schema: OPTIONAL_COUNT_SCHEMA,
};
const RETENTION_SIZE: Field = Field {
    name: "retention_size",
    form: OPTIONAL_BYTES_FORM,
    meaning: "How many bytes of artifacts are kept, of all sessions together; the oldest go first.",
    default: "none",
    schema: OPTIONAL_COUNT_SCHEMA,
};
const ARTIFACT_BYTES_MAX: Field = Field {
    name: "artifact_bytes_max",
    form: BYTES_FORM,
    meaning: "The most bytes of artifacts at any time, of all sessions together; above it storing another one fails.",
    default: "100000M",
    schema: COUNT_SCHEMA,
};
const AUDIT_RETENTION: Field = Field {
    name: "audit_retention",
    form: "`none`, or a number with a unit, as for `retention`; at most 366d",
    meaning: "How long records of the audit log are kept; older ones are removed from its front, and the log says so.",
    default: "none, which keeps them",
    schema: DURATION_SCHEMA,
};
const AUDIT_RETENTION_COUNT: Field = Field {
    name: "audit_retention_count",
    form: OPTIONAL_COUNT_FORM,
    meaning: "How many records of the audit log are kept; the oldest go first. A busy Otto writes up to 20 a second.",
    default: "none, which keeps them",
    schema: OPTIONAL_COUNT_SCHEMA,
};
const OPTIONAL_COUNT_FORM: &str =
    "`none`, or a whole number above zero, also with `k` or `M`, such as `20k`; at most 1000000M";
const OPTIONAL_COUNT_SCHEMA: &str = r#"{"type":["integer","string"]}"#;
const CONTEXTS: Field = Field {
    name: "contexts",
    form: "a mapping such as { memory: 100M, disk: 10000M }",
    meaning: "How much data the tools of all running invocations may share.",
    default: "100M in memory, none on disk",
    schema: r#"{"type":"object"}"#,
};
const CONTEXT_MEMORY: Field = Field {
    name: "memory",
    form: BYTES_FORM,
    meaning: "Bytes in memory.",
    default: "100M",
    schema: COUNT_SCHEMA,
};
const CONTEXT_DISK: Field = Field {
    name: "disk",
    form: OPTIONAL_BYTES_FORM,
    meaning: "Bytes on disk beside those in memory, in files of the state directory, for the contexts that were used longest ago.",
    default: "none",
    schema: OPTIONAL_COUNT_SCHEMA,
};
/// The keys below `contexts`.
pub(super) const CONTEXT_FIELDS: &[Field] = &[CONTEXT_MEMORY, CONTEXT_DISK];
const BYTES_FORM: &str =
    "bytes from 1M to 1000000M, such as `200M`; `k` stands for a thousand, `M` for a million";
const OPTIONAL_BYTES_FORM: &str = "`none`, or bytes from 1M to 1000000M, such as `10000M`; `k` stands for a thousand, `M` for a million";
/// BOUND: below that, contexts and artifacts are of no use.
const BYTES_MIN: u64 = 1_000_000;
const TRANSCRIPT_MESSAGES: Field = Field {
    name: "transcript_messages",
    form: TRANSCRIPT_FORM,
    meaning: "How many messages a transcript keeps, the last ones; the journal keeps everything.",
    default: "200",
    schema: r#"{"type":"integer","minimum":1,"maximum":1000}"#,
};
const AUDIT: Field = Field {
    name: "audit",
    form: "true or false",
    meaning: "Whether policy only reports what it would deny. Money limits hold all the same.",
    default: "false",
    schema: r#"{"type":"boolean"}"#,
};

const SERVER: Field = Field {
    name: "server",
    form: "a mapping such as { hosts: [otto.example.com], tokens: [...] }",
    meaning: "Who may talk to `otto serve`: names it is reached under, and tokens by their SHA-256.",
    default: "no names beside its address, no tokens",
    schema: r#"{"type":"object"}"#,
};

/// Reads a file, if it is there.
pub(super) fn read(
    path: &Path,
    presence: Presence,
    sources: &Sources<'_>,
    problems: &mut ConfigErrors,
) -> Option<Layer> {
    let shown = path.to_string_lossy();
    let text = match read_text(path, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(ReadError::Missing) if presence == Presence::Optional => return None,
        Err(error) => {
            let diagnostic = Diagnostic::error(
                Place::whole(&shown),
                format!("the operator's configuration {error}"),
            );
            problems.push(match presence {
                Presence::Required => {
                    diagnostic.help("the environment variable OTTO_CONFIG names this file")
                }
                Presence::Optional => diagnostic,
            });
            return None;
        }
    };
    // A file of comments alone says nothing, which is a way to start.
    if text
        .lines()
        .all(|line| line.trim_start().starts_with('#') || line.trim().is_empty())
    {
        return None;
    }
    let source = SourceFile::new(&shown, text);
    let mut decoder = Decoder::new(&source, None);
    let layer = decode(&mut decoder, sources);
    problems.extend(decoder.into_problems());
    layer
}

fn decode(decoder: &mut Decoder<'_>, sources: &Sources<'_>) -> Option<Layer> {
    let tree = decoder.tree()?;
    let fields = decoder.fields(&tree, "the operator's configuration", OPERATOR_FIELDS)?;
    let mut layer = Layer::default();
    let mut of = Reading {
        decoder,
        fields: &fields,
    };
    layer.enabled = of.setting(&ENABLED, |decoder, node, field| {
        decoder.boolean(node, field)
    });
    layer.audit = of.setting(&AUDIT, |decoder, node, field| decoder.boolean(node, field));
    layer.state_dir = of.setting(&STATE_DIR, |decoder, node, field| {
        path(decoder, node, field, sources.project)
    });
    layer.tools = of.values(&TOOLS, ToolName::new);
    layer.ask_person = of.values(&ASK_PERSON, ToolName::new);
    layer.budgets = of.setting(&BUDGETS, shared_budgets);
    layer.allowed_hosts = of.values(&ALLOWED_HOSTS, parse_host);
    layer.private_hosts = of.values(&PRIVATE_HOSTS, parse_host);
    layer.http_rate = of.setting(&HTTP_RATE, |decoder, node, _| {
        http_rate::decode(decoder, node)
    });
    layer.tool_settings = of.setting(&TOOL_SETTINGS, tool_policies::settings);
    layer.tool_limits = of.setting(&TOOL_LIMITS, tool_policies::tool_limits);
    layer.programs = of.setting(&PROGRAMS, |decoder, node, _| {
        programs::decode(decoder, node)
    });
    layer.http_headers = of.setting(&HTTP_HEADERS, |decoder, node, field| {
        tool_policies::headers(decoder, node, field, sources.environment)
    });
    layer.directories = of.values(&DIRECTORIES, absolute_dir);
    layer.variables = of.values(&VARIABLES, variable_name);
    layer.endpoint = of.value(&ENDPOINT, parse_endpoint);
    layer.prices = of.list(&PRICES, |decoder, node, _| prices::decode(decoder, node));
    layer.redact = of.setting(&REDACT, patterns);
    layer.retention = of.setting(&RETENTION, |decoder, node, field| {
        decoder
            .limit(node, field, limits::parse_duration)
            .map(|limit| limit.value)
    });
    layer.retention_count = of.value(&RETENTION_COUNT, or_none(count));
    layer.retention_size = of.value(&RETENTION_SIZE, or_none(bytes));
    layer.artifact_bytes_max = of.value(&ARTIFACT_BYTES_MAX, bytes);
    layer.audit_retention = of.setting(&AUDIT_RETENTION, |decoder, node, field| {
        let time = |text: &str| limits::parse_duration(text).map_err(|error| error.problem());
        decoder.value(node, field, or_none(time))
    });
    layer.audit_retention_count = of.value(&AUDIT_RETENTION_COUNT, or_none(count));
    contexts(&mut of, &mut layer);
    layer.transcript_messages = of.value(&TRANSCRIPT_MESSAGES, transcript_messages);
    ceilings(&mut of, &mut layer);
    serving(&mut of, &mut layer);
    Some(layer)
}

fn transcript_messages(text: &str) -> Result<usize, String> {
    let messages = text.parse().ok().filter(|messages| {
        text.bytes().all(|b| b.is_ascii_digit()) && (1..=MAX_MESSAGES).contains(messages)
    });
    messages.ok_or_else(|| {
        let given = quoted(text);
        format!("{given} is not such a number: expected {TRANSCRIPT_FORM}")
    })
}

/// Reads fields of the top mapping.
struct Reading<'a, 'd, 'n> {
    decoder: &'a mut Decoder<'d>,
    fields: &'a Fields<'n>,
}

impl Reading<'_, '_, '_> {
    fn setting<T>(
        &mut self,
        field: &Field,
        read: impl FnOnce(&mut Decoder<'_>, &Node, &Field) -> Option<T>,
    ) -> Option<Setting<T>> {
        let node = self.fields.value(field.name)?;
        let value = read(self.decoder, node, field)?;
        Some(Setting {
            value,
            origin: self.decoder.place(node).origin(),
        })
    }

    /// A single value that `parse` reads.
    fn value<T, E: Display>(
        &mut self,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Setting<T>> {
        self.setting(field, |decoder, node, field| {
            decoder.value(node, field, parse)
        })
    }

    /// A list of such values.
    fn values<T, E: Display>(
        &mut self,
        field: &Field,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Setting<Vec<T>>> {
        self.list(field, |decoder, node, field| {
            decoder.value(node, field, &parse)
        })
    }

    fn list<T>(
        &mut self,
        field: &Field,
        read: impl Fn(&mut Decoder<'_>, &Node, &Field) -> Option<T>,
    ) -> Option<Setting<Vec<T>>> {
        self.setting(field, |decoder, node, field| {
            let items = decoder.items(node, field, MAX_ENTRIES)?;
            // All items are read, so that all problems are found; one broken item breaks the list.
            let read: Vec<Option<T>> = items
                .iter()
                .map(|item| read(decoder, item, field))
                .collect();
            read.into_iter().collect()
        })
    }
}

fn contexts(of: &mut Reading<'_, '_, '_>, layer: &mut Layer) {
    let Some(node) = of.fields.value(CONTEXTS.name) else {
        return;
    };
    let Some(fields) = of.decoder.fields(node, "`contexts`", CONTEXT_FIELDS) else {
        return;
    };
    let mut of = Reading {
        decoder: &mut *of.decoder,
        fields: &fields,
    };
    layer.context_memory = of.value(&CONTEXT_MEMORY, bytes);
    layer.context_disk = of.setting(&CONTEXT_DISK, |decoder, node, field| {
        decoder
            .value(node, field, or_none(bytes))
            .map(Option::unwrap_or_default)
    });
}

fn count(text: &str) -> Result<u64, String> {
    limits::parse_count(text).map_err(|error| error.problem())
}

fn bytes(text: &str) -> Result<u64, String> {
    match count(text)? {
        bytes if bytes < BYTES_MIN => Err(format!("{bytes} bytes are too few")),
        bytes => Ok(bytes),
    }
}

/// A reader that also takes `none`, which takes back what a file behind this one says.
fn or_none<T>(
    read: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text {
        "none" => Ok(None),
        text => read(text).map(Some),
    }
}

fn serving(of: &mut Reading<'_, '_, '_>, layer: &mut Layer) {
    let Some(node) = of.fields.value(SERVER.name) else {
        return;
    };
    let Some(fields) = of.decoder.fields(node, "`server`", server::SERVER_FIELDS) else {
        return;
    };
    let mut of = Reading {
        decoder: &mut *of.decoder,
        fields: &fields,
    };
    layer.server_hosts = of.values(&server::HOSTS, server::host);
    layer.server_tokens = of.list(&server::TOKENS, |decoder, node, _| {
        server::token(decoder, node)
    });
}

fn ceilings(of: &mut Reading<'_, '_, '_>, layer: &mut Layer) {
    let Some(node) = of.fields.value(CEILINGS.name) else {
        return;
    };
    let Some(fields) = of.decoder.fields(node, "`ceilings`", CEILING_FIELDS) else {
        return;
    };
    let decoder = &mut *of.decoder;
    if let Some(node) = fields.value(DAY.name) {
        layer.daily_cost = decoder
            .limit(node, &DAY, limits::parse_money)
            .map(Setting::from);
    }
    if let Some(node) = fields.value(INVOCATION.name) {
        layer.invocation = budgets(decoder, node, "`ceilings.invocation`", BUDGET_FIELDS);
    }
    if let Some(node) = fields.value(SESSION.name) {
        layer.session = budgets(decoder, node, "`ceilings.session`", amounts());
    }
    if let Some(node) = fields.value(WORKFLOW.name) {
        layer.workflow = budgets(decoder, node, "`ceilings.workflow`", amounts());
    }
    if let Some(node) = fields.value(AGENTS.name) {
        layer.agents = agents(decoder, node);
    }
}

/// Limits that make sense over several invocations: tokens and cost.
fn amounts() -> &'static [Field] {
    // The table is in the order time, tokens, cost, turns; a test holds it to that.
    &BUDGET_FIELDS[1..3]
}

fn budgets(decoder: &mut Decoder<'_>, node: &Node, what: &str, known: &[Field]) -> Budgets {
    decoder
        .fields(node, what, known)
        .and_then(|fields| read_budgets(decoder, &fields))
        .unwrap_or_default()
}

fn agents(decoder: &mut Decoder<'_>, node: &Node) -> BTreeMap<AgentName, Budgets> {
    let mut agents = BTreeMap::new();
    for (key, value) in decoder
        .unique_entries(node, "`ceilings.agents`", AGENTS.form)
        .unwrap_or_default()
    {
        match AgentName::new(&key.name) {
            Ok(name) => {
                let limits = budgets(
                    decoder,
                    value,
                    &format!("the ceilings of `{name}`"),
                    amounts(),
                );
                agents.insert(name, limits);
            }
            Err(error) => {
                let place = key.at.in_file(decoder.file);
                decoder.report(Diagnostic::error(place, error.to_string()));
            }
        }
    }
    agents
}

/// Named budgets, each with a limit on cost or tokens.
fn shared_budgets(
    decoder: &mut Decoder<'_>,
    node: &Node,
    field: &Field,
) -> Option<Vec<SharedBudget>> {
    let mut read = Vec::new();
    for (key, value) in decoder.unique_entries(node, "`budgets`", field.form)? {
        match BudgetName::new(&key.name) {
            Ok(name) => read.push(shared_budget(decoder, name, value)),
            Err(error) => {
                let place = key.at.in_file(decoder.file);
                decoder.report(Diagnostic::error(place, error.to_string()));
                read.push(None);
            }
        }
    }
    read.into_iter().collect()
}

fn shared_budget(decoder: &mut Decoder<'_>, name: BudgetName, node: &Node) -> Option<SharedBudget> {
    let known = [amounts(), &[PER, DRAWN_BY]].concat();
    let fields = decoder.fields(node, &format!("the budget `{name}`"), &known)?;
    let limits = read_budgets(decoder, &fields)?;
    if limits.cost.is_none() && limits.tokens.is_none() {
        decoder.error(
            node,
            format!("the budget `{name}` limits nothing"),
            "`cost`, `tokens` or both",
        );
        return None;
    }
    let period = match fields.value(PER.name) {
        None => Period::Day,
        Some(node) => decoder.value(node, &PER, |text| match text {
            "day" => Ok(Period::Day),
            "ever" => Ok(Period::Ever),
            other => Err(format!("{} is no period", quoted(other))),
        })?,
    };
    let agents = match fields.value(DRAWN_BY.name) {
        None => None,
        Some(node) => {
            let items = decoder.items(node, &DRAWN_BY, MAX_ENTRIES)?;
            let names: Vec<Option<AgentName>> = items
                .iter()
                .map(|item| decoder.value(item, &DRAWN_BY, AgentName::new))
                .collect();
            Some(names.into_iter().collect::<Option<Vec<_>>>()?)
        }
    };
    Some(SharedBudget {
        name,
        period,
        agents,
        limits,
    })
}

fn path(decoder: &mut Decoder<'_>, node: &Node, field: &Field, base: &Path) -> Option<PathBuf> {
    let text = decoder.text(node, field, Reader::Otto)?;
    if text.starts_with('~') {
        decoder.error(
            node,
            format!("`{}`: `~` is not expanded", field.name),
            field.form,
        );
        return None;
    }
    Some(normalised(&base.join(text)))
}

pub(super) fn absolute_dir(text: &str) -> Result<PathBuf, String> {
    let path = normalised(Path::new(text));
    match path.is_absolute() {
        true if path.parent().is_some() => Ok(path),
        true => Err("the whole file system cannot be opened to project files".to_owned()),
        false => Err(format!("{} is not an absolute path", quoted(text))),
    }
}

pub(super) fn variable_name(text: &str) -> Result<String, String> {
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit());
    if is_name && !text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not the name of a variable", quoted(text)))
    }
}

/// Named patterns; each is tried on its own, so that a broken one is told of with its place.
fn patterns(decoder: &mut Decoder<'_>, node: &Node, field: &Field) -> Option<Vec<OperatorPattern>> {
    let mut read = Vec::new();
    for (key, value) in decoder.unique_entries(node, "`redact`", field.form)? {
        let pattern = decoder.value(value, field, |text| {
            let pattern = OperatorPattern {
                name: key.name.clone(),
                pattern: text.to_owned(),
            };
            let config = RedactionConfig {
                patterns: vec![pattern.clone()],
                secrets: Vec::new(),
            };
            Redactor::new(&config).map(|_| pattern)
        });
        read.push(pattern);
    }
    read.into_iter().collect()
}

/// Checks the provider's address: http or https, a host, nothing that could carry a credential.
pub(super) fn parse_endpoint(text: &str) -> Result<Arc<str>, String> {
    let url = text.trim_end_matches('/');
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let is_plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\' | '"' | '<' | '>');
    match rest {
        Some(rest)
            if !rest.is_empty()
                && !rest.starts_with('/')
                && !rest.starts_with(':')
                && rest.chars().all(is_plain) =>
        {
            Ok(Arc::from(url))
        }
        _ => Err(format!("{} is not such an address", quoted(text))),
    }
}
