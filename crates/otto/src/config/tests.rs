//! The operator's configuration from its sources, and a checker for the schema of the agent file.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use otto_core::ToolName;
use serde_json::Value;

use super::{OperatorConfig, Sources, load_operator};
use crate::diagnostic::ConfigErrors;
use crate::env::Environment;

struct World {
    base: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl World {
    fn new() -> Self {
        Self {
            base: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn path(&self, below: &str) -> PathBuf {
        self.base.path().join(below)
    }

    fn file(self, below: &str, text: &str) -> Self {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        fs::write(self.path(below), text).unwrap();
        self
    }

    fn load(&self) -> Result<OperatorConfig, ConfigErrors> {
        let mut variables = self.variables.clone();
        variables.push((
            "XDG_CONFIG_HOME",
            self.path("user").to_string_lossy().into_owned(),
        ));
        let environment = Environment::from_pairs(variables);
        let system = self.path("system.yml");
        load_operator(&Sources {
            environment: &environment,
            project: &self.path("project"),
            system: Some(&system),
        })
    }

    fn errors(&self) -> Vec<String> {
        let errors = self.load().unwrap_err();
        errors
            .diagnostics()
            .iter()
            .map(|diagnostic| {
                format!(
                    "{}: {}",
                    self.portable(&diagnostic.place.to_string()),
                    diagnostic.message
                )
            })
            .collect()
    }

    fn portable(&self, text: &str) -> String {
        text.replace(&*self.base.path().to_string_lossy(), "BASE")
    }

    /// The effective value of a key, where it came from, and what it hides.
    fn explained(&self, key: &str) -> String {
        let config = self.load().unwrap();
        let entry = config
            .explanations()
            .iter()
            .find(|entry| entry.key == key)
            .unwrap_or_else(|| panic!("no {key}"));
        let hidden: Vec<String> = entry
            .overridden
            .iter()
            .map(|(value, origin)| format!("{value} ({origin})"))
            .collect();
        self.portable(&format!(
            "{} ({}) hides [{}]",
            entry.value,
            entry.origin,
            hidden.join(", ")
        ))
    }
}

#[test]
fn without_any_source_nothing_is_enabled_and_the_day_has_its_ceiling() {
    let config = World::new().load().unwrap();
    assert!(!config.enabled.value && !config.kill_switch.value && !config.audit.value);
    assert_eq!(config.daily_cost.value.to_string(), "$10.00");
    assert!(config.state_dir.value.ends_with("project/var/otto"));
    assert_eq!(
        config.protected_paths(),
        std::slice::from_ref(&config.state_dir.value)
    );
    assert!(config.tools.is_none() && config.api_key.is_none());
    assert!(
        config
            .explanations()
            .iter()
            .all(|entry| !entry.meaning.is_empty()),
        "{config:#?}"
    );
}

#[test]
fn contexts_have_bounds_that_are_read_and_bounded() {
    let world = World::new();
    assert_eq!(
        world.explained("contexts.memory"),
        "100M (default) hides []"
    );
    assert_eq!(world.explained("contexts.disk"), "none (default) hides []");
    let world = world
        .file(
            "user/otto/config.yml",
            "contexts: { memory: 200M, disk: 10000M }\n",
        )
        .file("system.yml", "contexts: { memory: 50M }\n");
    assert_eq!(
        world.explained("contexts.memory"),
        "200M (BASE/user/otto/config.yml:1) hides [50M (BASE/system.yml:1)]"
    );
    assert_eq!(world.load().unwrap().context_disk.value, 10_000_000_000);
    let none = World::new()
        .file("user/otto/config.yml", "contexts: { disk: none }\n")
        .file("system.yml", "contexts: { disk: 50M }\n");
    assert_eq!(none.load().unwrap().context_disk.value, 0);
    for (wrong, problem) in [
        ("memory: 10k", "`memory`: 10000 bytes are too few"),
        ("disk: 2000000M", "too large"),
        ("disk: 0", "`disk`: `0` would forbid everything"),
        ("disc: 1M", "disc"),
    ] {
        let text = format!("contexts: {{ {wrong} }}\n");
        let errors = World::new().file("user/otto/config.yml", &text).load();
        let errors = errors.unwrap_err().to_string();
        assert!(errors.contains(problem), "{wrong}: {errors}");
    }
}

#[test]
fn artifacts_are_kept_by_age_count_and_size() {
    let world = World::new();
    for (key, value) in [("", "7d"), ("_count", "none"), ("_size", "none")] {
        assert_eq!(
            world.explained(&format!("retention{key}")),
            format!("{value} (default) hides []")
        );
    }
    let world = world
        .file(
            "user/otto/config.yml",
            "retention_count: none\nretention_size: 5000M\n",
        )
        .file("system.yml", "retention_count: 20k\nretention_size: 1M\n");
    assert_eq!(
        world.explained("retention_count"),
        "none (BASE/user/otto/config.yml:1) hides [20k (BASE/system.yml:1)]"
    );
    assert_eq!(
        world.explained("retention_size"),
        "5000M (BASE/user/otto/config.yml:2) hides [1M (BASE/system.yml:2)]"
    );
    let config = world.load().unwrap();
    assert_eq!(config.retention_count.value, None);
    assert_eq!(config.retention_size.value, Some(5_000_000_000));
    for (wrong, problem) in [
        ("retention_count: 0", "`0` would forbid everything"),
        (
            "retention_count: all",
            "`retention_count`: `all` is not a count",
        ),
        ("retention_size: 999999", "999999 bytes are too few"),
        (
            "retention_size: 10G",
            "`retention_size`: `10G` is not a count",
        ),
        ("retention_bytes: 1M", "retention_bytes"),
    ] {
        let errors = World::new().file("user/otto/config.yml", wrong).load();
        let errors = errors.unwrap_err().to_string();
        assert!(errors.contains(problem), "{wrong}: {errors}");
    }
}

#[test]
fn the_bound_on_all_artifacts_is_the_operators() {
    let world = World::new();
    let key = "artifact_bytes_max";
    assert_eq!(world.explained(key), "100000M (default) hides []");
    let world = world.file("user/otto/config.yml", "artifact_bytes_max: 2M\n");
    assert_eq!(
        world.explained(key),
        "2M (BASE/user/otto/config.yml:1) hides []"
    );
    assert_eq!(world.load().unwrap().artifact_bytes_max.value, 2_000_000);
    let wrong = World::new().file("user/otto/config.yml", "artifact_bytes_max: none\n");
    let errors = wrong.load().unwrap_err().to_string();
    assert!(errors.contains("`none` is not a count"), "{errors}");
}

#[test]
fn ceilings_that_are_unset_are_listed_with_what_that_means() {
    let world = World::new();
    assert_eq!(
        world.explained("ceilings.invocation"),
        "unset: the limits of each agent hold as they are (default) hides []"
    );
    for key in ["ceilings.session", "ceilings.workflow", "ceilings.agents"] {
        assert_eq!(
            world.explained(key),
            "unset: no ceiling of its own (default) hides []"
        );
    }
    let world = world.file(
        "user/otto/config.yml",
        "ceilings: { session: { cost: $2 } }\n",
    );
    assert_eq!(
        world.explained("ceilings.session.cost"),
        "$2.00 (BASE/user/otto/config.yml:1) hides []"
    );
}

#[test]
fn the_audit_log_is_kept_whole_until_somebody_sets_a_bound() {
    let world = World::new();
    for key in ["audit_retention", "audit_retention_count"] {
        assert_eq!(world.explained(key), "none (default) hides []");
    }
    let world = world
        .file("user/otto/config.yml", "audit_retention: 90d\n")
        .file(
            "system.yml",
            "audit_retention: none\naudit_retention_count: 2M\n",
        );
    assert_eq!(
        world.explained("audit_retention"),
        "90d (BASE/user/otto/config.yml:1) hides [none (BASE/system.yml:1)]"
    );
    let config = world.load().unwrap();
    assert_eq!(
        config.audit_retention.value,
        Some(Duration::from_secs(90 * 86_400))
    );
    assert_eq!(config.audit_retention_count.value, Some(2_000_000));
    assert!(!config.audit.value, "the mode is another key");
    for (wrong, problem) in [
        ("audit_retention: 0d", "`0d` would forbid everything"),
        (
            "audit_retention: 90",
            "`audit_retention`: `90` is not a duration",
        ),
        ("audit_retention_count: 0", "`0` would forbid everything"),
    ] {
        let errors = World::new().file("user/otto/config.yml", wrong).load();
        let errors = errors.unwrap_err().to_string();
        assert!(errors.contains(problem), "{wrong}: {errors}");
    }
}

#[test]
fn the_first_source_that_sets_a_value_wins() {
    let world = World::new()
        .file("user/otto/config.yml", "enabled: true\nceilings: { day: $5, invocation: { cost: $1 } }\nretention: 30d\ntranscript_messages: 50\n")
        .file("system.yml", "enabled: false\nceilings:\n  day: $3\n  invocation: { cost: $2, time: 10m }\n  agents: { reviewer: { cost: $1.50 } }\n");
    assert_eq!(
        world.explained("enabled"),
        "true (BASE/user/otto/config.yml:1) hides [false (BASE/system.yml:1)]"
    );
    assert_eq!(
        world.explained("ceilings.day"),
        "$5.00 (BASE/user/otto/config.yml:2) hides [$3.00 (BASE/system.yml:3)]"
    );
    assert_eq!(
        world.explained("ceilings.invocation.cost"),
        "$1.00 (BASE/user/otto/config.yml:2) hides [$2.00 (BASE/system.yml:4)]"
    );
    assert_eq!(
        world.explained("ceilings.invocation.time"),
        "10m (BASE/system.yml:4) hides []"
    );
    assert_eq!(
        world.explained("ceilings.agents.reviewer.cost"),
        "$1.50 (BASE/system.yml:5) hides []"
    );
    assert_eq!(
        world.explained("retention"),
        "30d (BASE/user/otto/config.yml:3) hides []"
    );
    assert_eq!(
        world.explained("transcript_messages"),
        "50 (BASE/user/otto/config.yml:4) hides []"
    );
    let world = world
        .set("OTTO_DAILY_COST", "$7")
        .set("OTTO_ENABLED", "false");
    assert_eq!(
        world.explained("ceilings.day"),
        "$7.00 (environment variable OTTO_DAILY_COST) hides [$5.00 (BASE/user/otto/config.yml:2), $3.00 (BASE/system.yml:3)]"
    );
    let config = world.load().unwrap();
    assert!(!config.enabled.value);
    assert_eq!(
        config.ceilings.time.unwrap().origin.to_string(),
        world.path("system.yml:4").to_string_lossy()
    );
}

#[test]
fn a_key_is_never_shown() {
    let world = World::new().set("ANTHROPIC_API_KEY", "hunter2-hunter2");
    let config = world.load().unwrap();
    assert!(config.api_key.is_some());
    assert_eq!(
        world.explained("api_key"),
        "set (not shown) (environment variable ANTHROPIC_API_KEY) hides []"
    );
    assert!(!format!("{config:?} {:?}", config.api_key).contains("hunter2"));
}

#[test]
fn every_problem_of_every_source_is_reported() {
    let world = World::new()
        .set("OTTO_ENABLED", "yes")
        .set("OTTO_DAILY_COST", "lots")
        .set("ANTHROPIC_BASE_URL", "ftp://x")
        .file(
            "user/otto/config.yml",
            "enable: true\nceilings: { day: 0, invocation: { cots: 1 }, session: { time: 5m }, agents: { ../x: { cost: 1 } } }\ntools: [a b, fs.read]\ndirectories: [relative, /]\nvariables: [A-B]\nendpoint: https://u:p@h\nprices: [{ id: m, input: 1 }]\nredact: { bad: '(' }\naudit: no\ntranscript_messages: 1001\n",
        )
        .file("system.yml", "- a list\n");
    let errors = world.errors();
    assert_eq!(
        errors,
        [
            "environment variable OTTO_ENABLED: `yes` is not a boolean",
            "environment variable OTTO_DAILY_COST: `lots` is not an amount of money",
            "environment variable ANTHROPIC_BASE_URL: `ftp://x` is not such an address",
            "BASE/user/otto/config.yml:1:1: unknown key `enable` in the operator's configuration",
            "BASE/user/otto/config.yml:2:18: `day`: `0` would forbid everything",
            "BASE/user/otto/config.yml:2:35: unknown key `cots` in `ceilings.invocation`",
            "BASE/user/otto/config.yml:2:57: unknown key `time` in `ceilings.session`",
            "BASE/user/otto/config.yml:2:79: `../x` is not a valid agent name: expected 1 to 64 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit",
            "BASE/user/otto/config.yml:3:9: `tools`: `a b` is not a valid tool name",
            "BASE/user/otto/config.yml:4:15: `directories`: `relative` is not an absolute path",
            "BASE/user/otto/config.yml:4:25: `directories`: the whole file system cannot be opened to project files",
            "BASE/user/otto/config.yml:5:13: `variables`: `A-B` is not the name of a variable",
            "BASE/user/otto/config.yml:6:11: `endpoint`: `https://u:*@h` is not such an address",
            "BASE/user/otto/config.yml:6:21: a password in a URL stands in this file",
            "BASE/user/otto/config.yml:7:10: `context_window` is missing",
            "BASE/user/otto/config.yml:7:10: `max_output_tokens` is missing",
            "BASE/user/otto/config.yml:7:10: `output` is missing",
            "BASE/user/otto/config.yml:7:10: `cache_read` is missing",
            "BASE/user/otto/config.yml:7:10: `cache_write_5m` is missing",
            "BASE/user/otto/config.yml:7:10: `cache_write_1h` is missing",
            "BASE/user/otto/config.yml:8:16: `redact`: redaction `bad`: not a valid regular expression: unclosed group",
            "BASE/user/otto/config.yml:9:8: `audit`: `no` is not a boolean",
            "BASE/user/otto/config.yml:10:22: `transcript_messages`: `1001` is not such a number",
            "BASE/system.yml:1:1: the operator's configuration is a list",
        ]
    );
}

#[test]
fn variables_that_look_like_ottos_are_pointed_at() {
    let config = World::new()
        .set("OTTO_ENABLE", "true")
        .set("OTTO_VAR_X", "1")
        .load()
        .unwrap();
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("OTTO_ENABLE") && warnings[0].contains("did you mean `OTTO_ENABLED`?"),
        "{warnings:?}"
    );
}

#[test]
fn a_named_file_must_be_there_and_replaces_the_users() {
    let missing = World::new().set("OTTO_CONFIG", "nowhere.yml");
    assert_eq!(
        missing.errors(),
        ["BASE/project/nowhere.yml: the operator's configuration does not exist"]
    );
    let named = World::new()
        .set("OTTO_CONFIG", "../named.yml")
        .file("project/x", "")
        .file("named.yml", "# nothing yet\n")
        .file("user/otto/config.yml", "enabled: true\n");
    assert!(!named.load().unwrap().enabled.value);
}

#[test]
fn the_operators_word_on_tools_is_put_together_and_credentials_are_not_shown() {
    let world = World::new()
        .set("EXAMPLE_TOKEN", "feathers-of-the-canary")
        .file(
            "user/otto/config.yml",
            "tool_settings: { fs.read: { max_bytes: 10 }, http: { max_bytes: 20 } }\n\
             tool_limits: { fs.read: { time: 2s, output: 1k } }\n\
             http_headers: { Api.Example.com: { Authorization: 'Bearer ${EXAMPLE_TOKEN}' } }\n\
             http_rate: { per_minute: 7 }\n\
             programs: { read: [/opt/rust], env: { CI: '1' }, network: none }\n",
        );
    let config = world.load().unwrap();
    let policies = config.tool_policies();
    let of = |name: &str| &policies[&ToolName::new(name).unwrap()];
    assert_eq!(of("fs.read").settings["max_bytes"], 10);
    assert_eq!(of("fs.read").time, Some(Duration::from_secs(2)));
    assert_eq!(of("fs.read").max_output_bytes, Some(1_000));
    assert_eq!(of("http").settings["max_bytes"], 20);
    assert_eq!(
        of("http").settings["headers"]["api.example.com"]["Authorization"],
        "Bearer feathers-of-the-canary"
    );
    let rate = config.http_rate.value;
    assert_eq!((rate.burst, rate.per_minute), (20, 7));
    let exec = config.programs.value.exec_policy();
    assert_eq!(exec.read_only, [PathBuf::from("/opt/rust")]);
    assert_eq!(exec.env, [("CI".to_owned(), "1".to_owned())]);
    assert_eq!(exec.network, otto_sandbox::ExecNetwork::None);
    assert!(!format!("{config:?}{policies:?}").contains("feathers"));
    assert!(!format!("{:?}", config.explanations()).contains("feathers"));
}

#[test]
fn wrong_words_on_tools_are_told_of_with_their_place() {
    let world = World::new().file(
        "user/otto/config.yml",
        "tool_settings: { fs.reed: { max_bytes: 10 }, grep: { no_such: 1 } }\n\
         tool_limits: { grep: { tyme: 2s } }\n\
         http_headers: { a.test: { X: '${NOT_SET}', Y: \"a\\nb\" } }\n\
         http_rate: { burst: 0, per_hour: 9 }\n\
         programs: { read: [relative, /], network: all, env: { 1x: y } }\n",
    );
    let errors = world.errors().join("\n");
    for part in [
        "unknown tool `fs.reed`",
        "the settings of `grep`",
        "unknown key `tyme`",
        "`NOT_SET` is not set",
        "`relative` is not an absolute path",
        "the whole file system",
        "`0` is no such number",
        "unknown key `per_hour`",
        "`all` is neither",
        "`1x` is not the name of a variable",
    ] {
        assert!(errors.contains(part), "{part}\n{errors}");
    }
}

#[test]
fn models_can_be_priced() {
    let world = World::new().file(
        "user/otto/config.yml",
        "prices:\n  - id: my-model\n    context_window: 200k\n    max_output_tokens: 8k\n    input: 3\n    output: $15\n    cache_read: 0.30\n    cache_write_5m: 3.75\n    cache_write_1h: 6\n    long_context: { threshold: 100k, input: 6, output: 22.50, cache_read: 0.60, cache_write_5m: 7.50, cache_write_1h: 12 }\n",
    );
    let model = world.load().unwrap().prices.value.remove(0);
    assert_eq!(model.prices.input.picodollars(), 3_000_000);
    assert_eq!(model.prices.cache_read.picodollars(), 300_000);
    assert_eq!(
        model.long_context.unwrap().prices.output.picodollars(),
        22_500_000
    );
    assert_eq!(
        (
            model.context_window,
            model.surcharge_percent,
            model.hidden_prompt_tokens
        ),
        (200_000, 100, 1_024)
    );
}

/// Checks a value against the part of JSON Schema that `agent_schema` uses. An unknown keyword is a failure:
/// a schema that this does not understand would pass unseen.
pub(crate) fn matches(schema: &Value, value: &Value) -> bool {
    schema
        .as_object()
        .unwrap()
        .iter()
        .all(|(keyword, rule)| match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64() || value.is_i64(),
                "number" => value.is_number(),
                other => panic!("type {other}"),
            },
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => entries(value)
                .all(|(name, value)| rule.get(name).is_none_or(|rule| matches(rule, value))),
            "additionalProperties" => entries(value).all(|(name, value)| {
                let is_known = schema
                    .get("properties")
                    .is_some_and(|known| known.get(name).is_some());
                is_known || (rule.is_object() && matches(rule, value))
            }),
            "propertyNames" => {
                entries(value).all(|(name, _)| matches(rule, &Value::from(name.as_str())))
            }
            "maxProperties" => entries(value).count() as u64 <= rule.as_u64().unwrap(),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| matches(rule, item))),
            "maxItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "uniqueItems" => value
                .as_array()
                .is_none_or(|items| (1..items.len()).all(|i| !items[..i].contains(&items[i]))),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| {
                regex::Regex::new(rule.as_str().unwrap())
                    .unwrap()
                    .is_match(text)
            }),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= rule.as_f64().unwrap()),
            "exclusiveMinimum" => value
                .as_f64()
                .is_none_or(|number| number > rule.as_f64().unwrap()),
            "anyOf" => rule
                .as_array()
                .unwrap()
                .iter()
                .any(|schema| matches(schema, value)),
            "not" => !matches(rule, value),
            other => panic!("keyword {other}"),
        })
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
