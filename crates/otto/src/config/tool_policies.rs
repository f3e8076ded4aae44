//! `tool_settings`, `tool_limits` and `http_headers`: the operator's word on single tools.
//!
//! Invariant: the value of a header is read from the environment, held as a secret, and shown nowhere.

use std::collections::BTreeMap;
use std::fmt;

use otto_core::ToolName;
use otto_tools::ToolPolicy;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::decode::{Decoder, Field};
use crate::diagnostic::{Diagnostic, one_of, quoted};
use crate::env::Environment;
use crate::limits;
use crate::suggest::closest;
use crate::yaml::{self, Key, Node};

/// A header that the `http` tool sends to one host.
#[derive(Clone)]
pub struct HttpHeader {
    /// Exactly this host.
    pub host: String,
    /// The header's name.
    pub name: String,
    /// Its value, with the variables inserted.
    pub value: SecretString,
}

impl fmt::Debug for HttpHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.name, self.host)
    }
}

const LIMIT_FIELDS: &[Field] = &[TIME, OUTPUT];

const TIME: Field = Field {
    name: "time",
    form: limits::DURATION_FORM,
    meaning: "The longest a call of the tool may take.",
    default: "the tool's own",
    schema: r#"{"type":"string"}"#,
};
const OUTPUT: Field = Field {
    name: "output",
    form: "a number of bytes, such as 65536 or 64k",
    meaning: "The most bytes of an answer; what is longer is cut, with a note to the model.",
    default: "the tool's own",
    schema: r#"{"type":["integer","string"]}"#,
};

/// Reads `tool_settings`.
pub(super) fn settings(
    decoder: &mut Decoder<'_>,
    node: &Node,
    field: &Field,
) -> Option<BTreeMap<ToolName, ToolPolicy>> {
    of_tools(decoder, node, field, |decoder, name, value| {
        let what = format!("the settings of `{name}`");
        decoder.entries(value, &what, field.form)?;
        let repeated = yaml::duplicate_keys(decoder.file, value);
        let is_clean = repeated.is_empty();
        for diagnostic in repeated {
            decoder.report(diagnostic);
        }
        let json = yaml::to_json(value);
        if let Ok(Err(problem)) = otto_tools::check_settings(name.as_str(), &json.to_string()) {
            let message = format!("{what}: {}", crate::text::visible(&problem.message));
            decoder.error(
                value,
                message,
                format!("settings as `otto tools {name}` documents them"),
            );
            return None;
        }
        let Value::Object(settings) = json else {
            return None;
        };
        is_clean.then_some(ToolPolicy {
            settings,
            ..ToolPolicy::default()
        })
    })
}

/// Reads `tool_limits`.
pub(super) fn tool_limits(
    decoder: &mut Decoder<'_>,
    node: &Node,
    field: &Field,
) -> Option<BTreeMap<ToolName, ToolPolicy>> {
    of_tools(decoder, node, field, |decoder, name, value| {
        let fields = decoder.fields(value, &format!("the limits of `{name}`"), LIMIT_FIELDS)?;
        let mut policy = ToolPolicy::default();
        if let Some(node) = fields.value(TIME.name) {
            policy.time = Some(decoder.limit(node, &TIME, limits::parse_duration)?.value);
        }
        if let Some(node) = fields.value(OUTPUT.name) {
            let bytes = decoder.limit(node, &OUTPUT, limits::parse_count)?.value;
            policy.max_output_bytes = Some(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        Some(policy)
    })
}

/// Reads a mapping from base tools to something.
fn of_tools(
    decoder: &mut Decoder<'_>,
    node: &Node,
    field: &Field,
    mut read: impl FnMut(&mut Decoder<'_>, &ToolName, &Node) -> Option<ToolPolicy>,
) -> Option<BTreeMap<ToolName, ToolPolicy>> {
    let what = format!("`{}`", field.name);
    let mut policies = BTreeMap::new();
    let mut is_whole = true;
    for (key, value) in decoder.unique_entries(node, &what, field.form)? {
        match known(decoder, key, &what).and_then(|name| Some((read(decoder, &name, value)?, name)))
        {
            Some((policy, name)) => {
                policies.insert(name, policy);
            }
            None => is_whole = false,
        }
    }
    is_whole.then_some(policies)
}

fn known(decoder: &mut Decoder<'_>, key: &Key, what: &str) -> Option<ToolName> {
    let definitions = otto_tools::definitions();
    let names = || definitions.iter().map(|tool| tool.name.as_str());
    if let Some(tool) = definitions
        .iter()
        .find(|tool| tool.name.as_str() == key.name)
    {
        return Some(tool.name.clone());
    }
    let place = key.at.in_file(decoder.file);
    decoder.report(
        Diagnostic::error(
            place,
            format!("unknown tool {} in {what}", quoted(&key.name)),
        )
        .expected(one_of(names()))
        .suggest(closest(&key.name, names())),
    );
    None
}

/// Reads `http_headers`: hosts with headers, whose values insert variables with `${NAME}`.
pub(super) fn headers(
    decoder: &mut Decoder<'_>,
    node: &Node,
    field: &Field,
    environment: &Environment,
) -> Option<Vec<HttpHeader>> {
    let mut headers = Vec::new();
    let mut is_whole = true;
    for (host, value) in decoder.unique_entries(node, "`http_headers`", field.form)? {
        let what = format!("the headers of {}", quoted(&host.name));
        let entries = decoder.unique_entries(value, &what, field.form);
        is_whole &= entries.is_some();
        for (name, value) in entries.unwrap_or_default() {
            let read = decoder.value(value, field, |text| {
                let value = insert(text, environment)?;
                let json = headers_json([(host.name.as_str(), name.name.as_str(), value.as_str())]);
                match otto_tools::check_settings("http", &json.to_string()) {
                    Ok(Err(problem)) => Err(crate::text::visible(&problem.message).into_owned()),
                    _ => Ok(SecretString::from(value)),
                }
            });
            match read {
                Some(value) => headers.push(HttpHeader {
                    host: host.name.to_ascii_lowercase(),
                    name: name.name.clone(),
                    value,
                }),
                None => is_whole = false,
            }
        }
    }
    is_whole.then_some(headers)
}

/// Inserts `${NAME}`. The operator names the variable here, so no other list has to.
fn insert(text: &str, environment: &Environment) -> Result<String, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, behind) = rest.split_at(at);
        whole.push_str(before);
        let (name, behind) = behind[2..]
            .split_once('}')
            .ok_or_else(|| "`${` is not closed by `}`".to_owned())?;
        let value = environment
            .variable(name)
            .ok_or_else(|| format!("the environment variable {} is not set", quoted(name)))?;
        whole.push_str(value.trim());
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

fn headers_json<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Value {
    let mut hosts: Map<String, Value> = Map::new();
    for (host, name, value) in headers {
        let of_host = hosts
            .entry(host)
            .or_insert_with(|| Value::Object(Map::new()));
        of_host[name] = Value::from(value);
    }
    serde_json::json!({ "headers": hosts })
}

/// The policies of all tools, put together from what the operator says in three places.
pub(super) fn together(
    settings: &BTreeMap<ToolName, ToolPolicy>,
    limits: &BTreeMap<ToolName, ToolPolicy>,
    headers: &[HttpHeader],
) -> BTreeMap<ToolName, ToolPolicy> {
    let mut policies = settings.clone();
    for (name, limit) in limits {
        let policy = policies.entry(name.clone()).or_default();
        policy.time = limit.time;
        policy.max_output_bytes = limit.max_output_bytes;
    }
    if !headers.is_empty()
        && let Ok(http) = ToolName::new("http")
    {
        let json = headers_json(headers.iter().map(|header| {
            let value = header.value.expose_secret();
            (header.host.as_str(), header.name.as_str(), value)
        }));
        if let Value::Object(json) = json {
            policies.entry(http).or_default().settings.extend(json);
        }
    }
    policies
}

pub(super) fn shown_settings(policies: &BTreeMap<ToolName, ToolPolicy>) -> String {
    let of_tool = |(name, policy): (&ToolName, &ToolPolicy)| {
        format!("{name}: {}", Value::Object(policy.settings.clone()))
    };
    format!(
        "{{ {} }}",
        policies.iter().map(of_tool).collect::<Vec<_>>().join(", ")
    )
}

pub(super) fn shown_limits(policies: &BTreeMap<ToolName, ToolPolicy>) -> String {
    let of_tool = |(name, policy): (&ToolName, &ToolPolicy)| {
        let time = policy
            .time
            .map(|time| format!("time: {}", limits::show_duration(time)));
        let output = policy
            .max_output_bytes
            .map(|bytes| format!("output: {bytes}"));
        let both: Vec<String> = time.into_iter().chain(output).collect();
        format!("{name}: {{ {} }}", both.join(", "))
    };
    format!(
        "{{ {} }}",
        policies.iter().map(of_tool).collect::<Vec<_>>().join(", ")
    )
}

pub(super) fn shown_headers(headers: &[HttpHeader]) -> String {
    let names: Vec<String> = headers.iter().map(|header| format!("{header:?}")).collect();
    format!("[{}] (values not shown)", names.join(", "))
}
