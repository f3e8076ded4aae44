//! Layers of the operator's configuration: what one source says, and the merge of all.
//!
//! Invariant: a value is taken from the first source that sets it, whole; nothing is mixed inside a value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::{Budgets, DEFAULTS, Limit, Origin};
use otto_core::ledger::Period;
use otto_core::model::ModelSpec;
use otto_core::redact::OperatorPattern;
use otto_core::transcript::DEFAULT_MESSAGES;
use otto_core::{AgentName, Money, ToolName};
use otto_engine::{DEFAULT_MAX_BYTES, SharedBudget};
use otto_sandbox::ConnectRate;
use otto_store_embedded::DEFAULT_ARTIFACT_BYTES_MAX;
use otto_tools::ToolPolicy;
use secrecy::SecretString;

use super::file::{self, OPERATOR_FIELDS};
use super::http_rate;
use super::tool_policies::{self, HttpHeader};
use super::{
    DEFAULT_ENDPOINT, DEFAULT_RETENTION, DEFAULT_STATE_DIR, Explanation, OperatorConfig, Programs,
    ServerToken, Setting, Sources,
};
use crate::diagnostic::{ConfigErrors, Diagnostic, Place, one_of, quoted};
use crate::env::{self, Environment};
use crate::limits::{self, show_count, show_duration};
use crate::load::{OPEN_PREFIX, normalised, shown_path};
use crate::suggest::closest;

/// What one source says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) enabled: Option<Setting<bool>>,
    pub(super) kill_switch: Option<Setting<bool>>,
    pub(super) audit: Option<Setting<bool>>,
    pub(super) state_dir: Option<Setting<PathBuf>>,
    pub(super) daily_cost: Option<Setting<Money>>,
    pub(super) invocation: Budgets,
    pub(super) session: Budgets,
    pub(super) workflow: Budgets,
    pub(super) agents: BTreeMap<AgentName, Budgets>,
    pub(super) budgets: Option<Setting<Vec<SharedBudget>>>,
    pub(super) tools: Option<Setting<Vec<ToolName>>>,
    pub(super) ask_person: Option<Setting<Vec<ToolName>>>,
    pub(super) allowed_hosts: Option<Setting<Vec<Arc<str>>>>,
    pub(super) private_hosts: Option<Setting<Vec<Arc<str>>>>,
    pub(super) http_rate: Option<Setting<ConnectRate>>,
    pub(super) endpoint: Option<Setting<Arc<str>>>,
    pub(super) api_key: Option<Setting<SecretString>>,
    pub(super) prices: Option<Setting<Vec<ModelSpec>>>,
    pub(super) redact: Option<Setting<Vec<OperatorPattern>>>,
    pub(super) retention: Option<Setting<Duration>>,
    pub(super) retention_count: Option<Setting<Option<u64>>>,
    pub(super) retention_size: Option<Setting<Option<u64>>>,
    pub(super) artifact_bytes_max: Option<Setting<u64>>,
    pub(super) audit_retention: Option<Setting<Option<Duration>>>,
    pub(super) audit_retention_count: Option<Setting<Option<u64>>>,
    pub(super) context_memory: Option<Setting<u64>>,
    pub(super) context_disk: Option<Setting<u64>>,
    pub(super) transcript_messages: Option<Setting<usize>>,
    pub(super) variables: Option<Setting<Vec<String>>>,
    pub(super) directories: Option<Setting<Vec<PathBuf>>>,
    pub(super) tool_settings: Option<Setting<BTreeMap<ToolName, ToolPolicy>>>,
    pub(super) tool_limits: Option<Setting<BTreeMap<ToolName, ToolPolicy>>>,
    pub(super) programs: Option<Setting<Programs>>,
    pub(super) http_headers: Option<Setting<Vec<HttpHeader>>>,
    pub(super) server_token: Option<Setting<SecretString>>,
    pub(super) server_tokens: Option<Setting<Vec<ServerToken>>>,
    pub(super) server_hosts: Option<Setting<Vec<Arc<str>>>>,
}

/// What the environment says.
pub(super) fn of_environment(sources: &Sources<'_>, problems: &mut ConfigErrors) -> Layer {
    let mut reader = EnvironmentReader {
        environment: sources.environment,
        problems,
    };
    let state_dir = reader.read(env::OTTO_STATE_DIR, "a path", |text| {
        if text.starts_with('~') {
            Err("`~` is not expanded here".to_owned())
        } else {
            Ok(normalised(&sources.project.join(text)))
        }
    });
    Layer {
        enabled: reader.boolean(env::OTTO_ENABLED),
        kill_switch: reader.boolean(env::OTTO_KILL_SWITCH),
        audit: reader.boolean(env::OTTO_AUDIT),
        state_dir,
        daily_cost: reader.read(env::OTTO_DAILY_COST, limits::MONEY_FORM, |text| {
            limits::parse_money(text).map_err(|error| error.problem())
        }),
        endpoint: reader.read(
            env::ANTHROPIC_BASE_URL,
            file::ENDPOINT_FORM,
            file::parse_endpoint,
        ),
        // The value is secret: not even its form is judged here; the provider does.
        api_key: secret(sources.environment, env::ANTHROPIC_API_KEY),
        server_token: secret(sources.environment, env::OTTO_SERVER_TOKEN),
        ..Layer::default()
    }
}

fn secret(environment: &Environment, name: &str) -> Option<Setting<SecretString>> {
    environment.variable(name).map(|secret| Setting {
        value: SecretString::from(secret.trim()),
        origin: origin(name),
    })
}

fn origin(name: &str) -> Origin {
    Origin::new(&format!("environment variable {name}"))
}

struct EnvironmentReader<'a> {
    environment: &'a Environment,
    problems: &'a mut ConfigErrors,
}

impl EnvironmentReader<'_> {
    fn read<T>(
        &mut self,
        name: &str,
        form: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Setting<T>> {
        let text = self.environment.variable(name)?;
        match parse(text) {
            Ok(value) => Some(Setting {
                value,
                origin: origin(name),
            }),
            Err(problem) => {
                let place = Place::whole(&format!("environment variable {name}"));
                self.problems
                    .push(Diagnostic::error(place, problem).expected(form));
                None
            }
        }
    }

    fn boolean(&mut self, name: &str) -> Option<Setting<bool>> {
        self.read(name, "true or false", |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("{} is not a boolean", quoted(other))),
        })
    }
}

/// A warning for each variable that looks like one of Otto's and is none: `OTTO_ENABLE` switches nothing on.
pub(super) fn unknown_variables(environment: &Environment) -> Vec<Diagnostic> {
    let known = || {
        env::VARIABLES
            .iter()
            .map(|variable| variable.name)
            .filter(|name| name.starts_with("OTTO_"))
    };
    environment
        .names()
        .filter(|name| {
            name.starts_with("OTTO_")
                && !name.starts_with(OPEN_PREFIX)
                && !known().any(|other| other == *name)
        })
        .map(|name| {
            Diagnostic::warning(
                Place::whole(&format!("environment variable {name}")),
                "Otto does not know this variable",
            )
            .expected(one_of(known()))
            .suggest(closest(name, known()))
        })
        .collect()
}

/// The configuration in force: for each value the first layer that sets it, else the default.
pub(super) fn merge(sources: &Sources<'_>, layers: Vec<Layer>) -> OperatorConfig {
    let mut merge = Merge {
        layers,
        explanations: Vec::new(),
    };
    let word = |flag: &bool| flag.to_string();
    let path = |path: &PathBuf| shown_path(path);
    let texts = |items: &Vec<String>| format!("[{}]", items.join(", "));
    let hosts = |hosts: &Vec<Arc<str>>| format!("[{}]", hosts.join(", "));

    let enabled = merge.pick("enabled", |layer| &layer.enabled, false, word);
    let kill_switch = merge.pick("kill_switch", |layer| &layer.kill_switch, false, word);
    let audit = merge.pick("audit", |layer| &layer.audit, false, word);
    let state_dir = merge.pick(
        "state_dir",
        |layer| &layer.state_dir,
        sources.project.join(DEFAULT_STATE_DIR),
        path,
    );
    let daily_cost = merge.pick(
        "ceilings.day",
        |layer| &layer.daily_cost,
        DEFAULTS.daily_cost,
        Money::to_string,
    );
    let ceilings = merge.budgets("ceilings.invocation", UNSET_INVOCATION, |layer| {
        layer.invocation.clone()
    });
    let session_ceilings = merge.budgets("ceilings.session", UNSET, |layer| layer.session.clone());
    let workflow_ceilings =
        merge.budgets("ceilings.workflow", UNSET, |layer| layer.workflow.clone());
    let agent_ceilings = merge.agents();
    let shared_budgets = merge.pick(
        "budgets",
        |layer| &layer.budgets,
        Vec::new(),
        |budgets| listed(budgets.iter().map(shown_budget)),
    );
    let tool_names = |tools: &Vec<ToolName>| listed(tools.iter().map(ToString::to_string));
    let tools = merge.pick_optional("tools", |layer| &layer.tools, "all tools", tool_names);
    let ask_person = merge.pick(
        "ask_person",
        |layer| &layer.ask_person,
        Vec::new(),
        tool_names,
    );
    let allowed_hosts = merge.pick_optional(
        "allowed_hosts",
        |layer| &layer.allowed_hosts,
        "all public hosts",
        hosts,
    );
    let private_hosts = merge.pick(
        "private_hosts",
        |layer| &layer.private_hosts,
        Vec::new(),
        hosts,
    );
    let http_rate = merge.pick(
        "http_rate",
        |layer| &layer.http_rate,
        ConnectRate::default(),
        http_rate::shown,
    );
    let tool_settings = merge.pick(
        "tool_settings",
        |layer| &layer.tool_settings,
        BTreeMap::new(),
        tool_policies::shown_settings,
    );
    let tool_limits = merge.pick(
        "tool_limits",
        |layer| &layer.tool_limits,
        BTreeMap::new(),
        tool_policies::shown_limits,
    );
    let programs = merge.pick(
        "programs",
        |layer| &layer.programs,
        Programs::default(),
        Programs::shown,
    );
    let http_headers = merge.pick(
        "http_headers",
        |layer| &layer.http_headers,
        Vec::new(),
        |headers| tool_policies::shown_headers(headers),
    );
    let endpoint = merge.pick(
        "endpoint",
        |layer| &layer.endpoint,
        Arc::from(DEFAULT_ENDPOINT),
        |url| url.to_string(),
    );
    let api_key = merge.pick_optional(
        "api_key",
        |layer| &layer.api_key,
        "not set",
        |_| "set (not shown)".to_owned(),
    );
    let prices = merge.pick(
        "prices",
        |layer| &layer.prices,
        Vec::new(),
        |models| listed(models.iter().map(|model| model.id.to_string())),
    );
    let redact = merge.pick(
        "redact",
        |layer| &layer.redact,
        Vec::new(),
        |patterns| listed(patterns.iter().map(|pattern| pattern.name.clone())),
    );
    let retention = merge.pick(
        "retention",
        |layer| &layer.retention,
        DEFAULT_RETENTION,
        |time| show_duration(*time),
    );
    let retention_count = merge.pick(
        "retention_count",
        |layer| &layer.retention_count,
        None,
        shown_count,
    );
    let retention_size = merge.pick(
        "retention_size",
        |layer| &layer.retention_size,
        None,
        shown_count,
    );
    let artifact_bytes_max = merge.pick(
        "artifact_bytes_max",
        |layer| &layer.artifact_bytes_max,
        DEFAULT_ARTIFACT_BYTES_MAX,
        |bytes| show_count(*bytes),
    );
    let audit_retention = merge.pick(
        "audit_retention",
        |layer| &layer.audit_retention,
        None,
        |time| time.map_or_else(|| "none".to_owned(), show_duration),
    );
    let audit_retention_count = merge.pick(
        "audit_retention_count",
        |layer| &layer.audit_retention_count,
        None,
        shown_count,
    );
    let context_memory = merge.pick(
        "contexts.memory",
        |layer| &layer.context_memory,
        DEFAULT_MAX_BYTES as u64,
        |bytes| show_count(*bytes),
    );
    let context_disk = merge.pick(
        "contexts.disk",
        |layer| &layer.context_disk,
        0,
        |bytes| shown_count(&(*bytes > 0).then_some(*bytes)),
    );
    let transcript_messages = merge.pick(
        "transcript_messages",
        |layer| &layer.transcript_messages,
        DEFAULT_MESSAGES,
        ToString::to_string,
    );
    let variables = merge.pick("variables", |layer| &layer.variables, Vec::new(), texts);
    let directories = merge.pick(
        "directories",
        |layer| &layer.directories,
        Vec::new(),
        |dirs| listed(dirs.iter().map(|dir| shown_path(dir))),
    );
    let server_token = merge.pick_optional(
        "server_token",
        |layer| &layer.server_token,
        "not set",
        |_| "set (not shown)".to_owned(),
    );
    let server_tokens = merge.pick(
        "server.tokens",
        |layer| &layer.server_tokens,
        Vec::new(),
        |tokens| {
            let shown = |token: &ServerToken| format!("{} ({})", token.name, token.scope.as_str());
            listed(tokens.iter().map(shown))
        },
    );
    let server_hosts = merge.pick(
        "server.hosts",
        |layer| &layer.server_hosts,
        Vec::new(),
        hosts,
    );
    OperatorConfig {
        enabled,
        kill_switch,
        audit,
        state_dir,
        daily_cost: daily_cost.into(),
        ceilings,
        session_ceilings,
        workflow_ceilings,
        agent_ceilings,
        shared_budgets,
        tools,
        ask_person,
        allowed_hosts,
        private_hosts,
        http_rate,
        endpoint,
        api_key,
        prices,
        redact,
        retention,
        retention_count,
        retention_size,
        artifact_bytes_max,
        audit_retention,
        audit_retention_count,
        context_memory,
        context_disk,
        transcript_messages,
        variables,
        directories,
        tool_settings,
        tool_limits,
        programs,
        http_headers,
        server_token,
        server_tokens,
        server_hosts,
        home: sources.home(),
        config_dir: sources.config_dir(),
        user_state_dir: sources.user_state_dir(),
        explanations: merge.explanations,
        warnings: Vec::new(),
    }
}

fn shown_count(count: &Option<u64>) -> String {
    count.map_or_else(|| "none".to_owned(), show_count)
}

fn listed(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// `research: $5.00 and 2M tokens per day by scout, reviewer`
fn shown_budget(budget: &SharedBudget) -> String {
    let cost = budget.limits.cost.as_ref();
    let tokens = budget.limits.tokens.as_ref();
    let limits: Vec<String> = [
        cost.map(|limit| limit.value.to_string()),
        tokens.map(|limit| format!("{} tokens", show_count(limit.value))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let per = match budget.period {
        Period::Day => " per day",
        Period::Ever => "",
    };
    let by = match &budget.agents {
        None => String::new(),
        Some(agents) => {
            let names: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
            format!(" by {}", names.join(", "))
        }
    };
    format!("{}: {}{per}{by}", budget.name, limits.join(" and "))
}

/// What it means that nothing limits what agents may say of one invocation.
const UNSET_INVOCATION: &str = "unset: the limits of each agent hold as they are";
/// What it means that nothing limits one of the larger scopes.
const UNSET: &str = "unset: no ceiling of its own";

struct Merge {
    layers: Vec<Layer>,
    explanations: Vec<Explanation>,
}

impl Merge {
    /// The first value, and an explanation that also names those behind it.
    fn pick<T: Clone>(
        &mut self,
        key: &str,
        of: impl Fn(&Layer) -> &Option<Setting<T>>,
        default: T,
        show: impl Fn(&T) -> String,
    ) -> Setting<T> {
        let mut given: Vec<Setting<T>> = self
            .layers
            .iter()
            .filter_map(|layer| of(layer).clone())
            .collect();
        given.push(Setting::default_value(default));
        self.explain(
            key,
            given
                .iter()
                .map(|setting| (show(&setting.value), setting.origin.clone()))
                .collect(),
        );
        given.swap_remove(0)
    }

    /// As [`Merge::pick`], for a value that may be absent.
    fn pick_optional<T: Clone>(
        &mut self,
        key: &str,
        of: impl Fn(&Layer) -> &Option<Setting<T>>,
        absent: &str,
        show: impl Fn(&T) -> String,
    ) -> Option<Setting<T>> {
        let given: Vec<Setting<T>> = self
            .layers
            .iter()
            .filter_map(|layer| of(layer).clone())
            .collect();
        let mut shown: Vec<_> = given
            .iter()
            .map(|setting| (show(&setting.value), setting.origin.clone()))
            .collect();
        shown.push((absent.to_owned(), Origin::new("default")));
        self.explain(key, shown);
        given.into_iter().next()
    }

    fn explain(&mut self, key: &str, mut values: Vec<(String, Origin)>) {
        let (value, origin) = values.remove(0);
        // A default behind a value that somebody set is no news; another file is.
        values.retain(|(_, origin)| &*origin.0 != "default");
        let meaning = OPERATOR_FIELDS
            .iter()
            .chain(file::CEILING_FIELDS)
            .chain(file::CONTEXT_FIELDS)
            .find(|field| {
                let below = ["ceilings.", "contexts."].iter();
                below
                    .fold(key, |key, part| key.strip_prefix(part).unwrap_or(key))
                    .split('.')
                    .next()
                    == Some(field.name)
            })
            .map_or_else(|| environment_only(key), |field| field.meaning);
        self.explanations.push(Explanation {
            key: key.to_owned(),
            value,
            origin,
            overridden: values,
            meaning,
        });
    }

    /// The tightest limits of all layers. Where none is set, `unset` says what that means.
    fn budgets(&mut self, key: &str, unset: &str, of: impl Fn(&Layer) -> Budgets) -> Budgets {
        let budgets = self
            .layers
            .iter()
            .fold(Budgets::default(), |merged, layer| merged.or(&of(layer)));
        let all: Vec<Budgets> = self.layers.iter().map(of).collect();
        if budgets == Budgets::default() {
            self.explain(key, vec![(unset.to_owned(), Origin::new("default"))]);
            return budgets;
        }
        let mut shown = |name: &str, values: Vec<(String, Origin)>| {
            if !values.is_empty() {
                self.explain(&format!("{key}.{name}"), values);
            }
        };
        shown(
            "time",
            values(
                &all,
                |budgets| budgets.time.clone(),
                |time| show_duration(*time),
            ),
        );
        shown(
            "tokens",
            values(
                &all,
                |budgets| budgets.tokens.clone(),
                |count| show_count(*count),
            ),
        );
        shown(
            "cost",
            values(&all, |budgets| budgets.cost.clone(), Money::to_string),
        );
        shown(
            "turns",
            values(&all, |budgets| budgets.turns.clone(), u32::to_string),
        );
        budgets
    }

    fn agents(&mut self) -> BTreeMap<AgentName, Budgets> {
        let names: BTreeSet<AgentName> = self
            .layers
            .iter()
            .flat_map(|layer| layer.agents.keys().cloned())
            .collect();
        if names.is_empty() {
            let unset = vec![(UNSET.to_owned(), Origin::new("default"))];
            self.explain("ceilings.agents", unset);
        }
        names
            .into_iter()
            .map(|name| {
                let key = format!("ceilings.agents.{name}");
                let budgets = self.budgets(&key, UNSET, |layer| {
                    layer.agents.get(&name).cloned().unwrap_or_default()
                });
                (name, budgets)
            })
            .collect()
    }
}

fn values<T>(
    all: &[Budgets],
    of: impl Fn(&Budgets) -> Option<Limit<T>>,
    show: impl Fn(&T) -> String,
) -> Vec<(String, Origin)> {
    all.iter()
        .filter_map(of)
        .map(|limit| (show(&limit.value), limit.origin))
        .collect()
}

fn environment_only(key: &str) -> &'static str {
    let name = match key {
        "kill_switch" => env::OTTO_KILL_SWITCH,
        "api_key" => env::ANTHROPIC_API_KEY,
        "server_token" => env::OTTO_SERVER_TOKEN,
        _ => return "",
    };
    env::VARIABLES
        .iter()
        .find(|variable| variable.name == name)
        .map_or("", |variable| variable.meaning)
}
