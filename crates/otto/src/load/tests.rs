//! The loader against good and bad files; what people see is compared letter by letter.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use otto_core::model::{ModelSpec, PriceTable, TokenPrices};
use otto_core::policy::{Permission, Permissions};
use otto_core::{ModelId, Money, ToolName};

use super::{AGENT_FIELDS, Agents, KnownTool, Level, LoadRequest, load};
use crate::config::tests::matches;
use crate::config::{OperatorConfig, Sources, agent_schema, explain_agent, load_operator};
use crate::diagnostic::{ConfigErrors, SourceFile};
use crate::env::Environment;
use crate::yaml;

/// A project and a user's configuration in a directory of their own.
struct World {
    base: tempfile::TempDir,
    variables: Vec<(String, String)>,
    protected: Vec<PathBuf>,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let world = Self {
            base,
            variables: Vec::new(),
            protected: Vec::new(),
        };
        for dir in [
            "project/.otto/agents",
            "project/work",
            "project/docs",
            "config/otto/agents",
            "home",
        ] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        let (config, home) = (world.path("config"), world.path("home"));
        world
            .set("XDG_CONFIG_HOME", &config.to_string_lossy())
            .set("HOME", &home.to_string_lossy())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.base.path().canonicalize().unwrap().join(below)
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn file(self, below: &str, text: &str) -> Self {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn agent(self, name: &str, text: &str) -> Self {
        self.file(&format!("project/.otto/agents/{name}.yml"), text)
    }

    fn environment(&self) -> Environment {
        Environment::from_pairs(self.variables.clone())
    }

    fn operator(&self) -> Result<OperatorConfig, ConfigErrors> {
        let environment = self.environment();
        load_operator(&Sources {
            environment: &environment,
            project: &self.path("project"),
            system: Some(&self.path("etc/config.yml")),
        })
    }

    fn load(&self) -> Result<Agents, ConfigErrors> {
        let operator = self.operator()?;
        let environment = self.environment();
        load(&LoadRequest {
            project: &self.path("project"),
            operator: &operator,
            tools: &tools(),
            prices: &prices(),
            environment: &environment,
            protected: &self.protected,
        })
    }

    /// What a person sees of the errors, with the base directory written as `BASE`.
    fn errors(&self) -> String {
        let errors = self
            .load()
            .map(|agents| {
                agents
                    .iter()
                    .map(|agent| agent.config.name.clone())
                    .collect::<Vec<_>>()
            })
            .unwrap_err();
        self.portable(&errors.to_string())
    }

    fn portable(&self, text: &str) -> String {
        text.replace(&*self.path("").to_string_lossy(), "BASE/")
    }
}

fn tools() -> Vec<KnownTool> {
    let tool = |name: &str, permissions: &[Permission]| KnownTool {
        name: ToolName::new(name).unwrap(),
        permissions: Permissions::of(permissions),
    };
    vec![
        tool("fs.read", &[Permission::Read]),
        tool("fs.write", &[Permission::Write]),
        tool("grep", &[Permission::Read]),
        tool("http", &[Permission::Net]),
        tool("app.count", &[]),
    ]
}

fn prices() -> PriceTable {
    let price = Money::from_picodollars(1_000_000).unwrap();
    let model = |id: &str| ModelSpec {
        id: ModelId::new(id).unwrap(),
        aliases: Vec::new(),
        context_window: 200_000,
        max_output_tokens: 64_000,
        prices: TokenPrices {
            input: price,
            output: price,
            cache_write_5m: price,
            cache_write_1h: price,
            cache_read: price,
        },
        long_context: None,
        surcharge_percent: 100,
        hidden_prompt_tokens: 0,
    };
    PriceTable::new("test", [model("model-large"), model("model-small")])
}

const FULL: &str = "
name: reviewer
description: Reads a folder and writes a review
model: model-large
system_prompt: You review code. Be brief and exact.
tools: [fs.read, grep, fs.write, http, app.count]
working_dir: work
roots: { docs: docs }
shared: false
budgets: { time: 1h30m, tokens: 200k, cost: $0.50, turns: 30 }
max_output_tokens: 8k
allowed_hosts: [example.com, '*.example.org:8443']
tool_settings:
  app.count: { max: 1000, deep: false, note: '5' }
";

#[test]
fn every_field_reaches_the_agent() {
    let world = World::new().agent("reviewer", FULL);
    let agents = world.load().unwrap();
    let agent = agents.iter().next().unwrap();
    let config = &agent.config;
    assert_eq!(agent.level, Level::Project);
    assert_eq!(config.name.as_str(), "reviewer");
    assert_eq!(&*config.description, "Reads a folder and writes a review");
    assert_eq!(config.model.as_str(), "model-large");
    assert_eq!(
        &*config.system_prompt,
        "You review code. Be brief and exact."
    );
    let tools: Vec<_> = config.tools.iter().map(ToolName::as_str).collect();
    assert_eq!(tools, ["fs.read", "grep", "fs.write", "http", "app.count"]);
    assert_eq!(
        config.working_dir.as_deref(),
        Some(&*world.path("project/work"))
    );
    assert_eq!(config.roots["docs"].path, world.path("project/docs"));
    assert!(!config.shared);
    assert_eq!(config.max_output_tokens, 8_000);
    assert_eq!(
        config
            .allowed_hosts
            .iter()
            .map(|host| &**host)
            .collect::<Vec<_>>(),
        ["example.com", "*.example.org:8443"]
    );
    assert_eq!(
        &*config.tool_settings[&ToolName::new("app.count").unwrap()],
        r#"{"deep":false,"max":1000,"note":"5"}"#
    );
    let budgets = &config.budgets;
    assert_eq!(budgets.time.as_ref().unwrap().value.as_secs(), 5_400);
    assert_eq!(budgets.tokens.as_ref().unwrap().value, 200_000);
    assert_eq!(budgets.cost.as_ref().unwrap().value.to_string(), "$0.50");
    assert_eq!(budgets.turns.as_ref().unwrap().value, 30);
    assert_eq!(
        budgets.cost.as_ref().unwrap().origin.to_string(),
        ".otto/agents/reviewer.yml:10"
    );
    assert!(agents.warnings().is_empty(), "{:?}", agents.warnings());
}

#[test]
fn two_lines_make_an_agent_with_every_default() {
    let world = World::new().agent("a", "name: a\nmodel: model-small\n");
    let agents = world.load().unwrap();
    let config = agents.iter().next().unwrap().config.clone();
    assert!(config.tools.is_empty() && config.working_dir.is_none() && config.roots.is_empty());
    assert_eq!(config.max_output_tokens, 16_384);
    assert_eq!(
        config.budgets.cost.as_ref().unwrap().value,
        Money::from_dollars(1)
    );
    assert_eq!(
        config.budgets.time.as_ref().unwrap().origin.to_string(),
        "default"
    );
}

#[test]
fn the_projects_file_is_used_before_the_users() {
    let world = World::new()
        .agent("mine", "name: reviewer\nmodel: model-large\n")
        .file(
            "config/otto/agents/reviewer.yml",
            "name: reviewer\nmodel: model-small\n",
        )
        .file(
            "config/otto/agents/other.yml",
            "name: other\nmodel: model-small\n",
        );
    let agents = world.load().unwrap();
    let found: Vec<_> = agents
        .iter()
        .map(|agent| {
            (
                agent.config.name.as_str(),
                agent.config.model.as_str(),
                agent.level,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("other", "model-small", Level::User),
            ("reviewer", "model-large", Level::Project)
        ]
    );
    let reviewer = agents.iter().nth(1).unwrap();
    assert_eq!(
        reviewer.hides.as_deref(),
        Some(&*world.path("config/otto/agents/reviewer.yml"))
    );
    assert_eq!(agents.closest("reviwer"), Some("reviewer"));
}

#[test]
fn a_broken_project_file_does_not_uncover_the_users() {
    let world = World::new()
        .agent("reviewer", "name: reviewer\nmodel: nonsense\n")
        .file(
            "config/otto/agents/reviewer.yml",
            "name: reviewer\nmodel: model-small\n",
        );
    assert!(world.load().is_err());
}

#[test]
fn no_directory_is_no_agents_and_no_error() {
    let world = World::new();
    fs::remove_dir_all(world.path("project/.otto")).unwrap();
    fs::remove_dir_all(world.path("config")).unwrap();
    assert_eq!(world.load().unwrap().iter().count(), 0);
}

/// The problems of one agent file, each as `line:column message`.
fn problems(world: &World) -> Vec<String> {
    let short = |diagnostic: &crate::Diagnostic| {
        let at = diagnostic
            .place
            .position
            .as_ref()
            .map(|at| format!("{}:{} ", at.line, at.column))
            .unwrap_or_default();
        world.portable(&format!("{at}{}", diagnostic.message))
    };
    match world.load() {
        Ok(agents) => agents.warnings().iter().map(short).collect(),
        Err(errors) => errors.diagnostics().iter().map(short).collect(),
    }
}

/// What a person sees; the three files are below.
const ALL_AT_ONCE: &str = "\
error: the agent has no `name`
  --> .otto/agents/a.yml
   = expected: name: 1 to 64 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit

error: unknown key `nam` in the agent file
  --> .otto/agents/a.yml:1:1
    |
  1 | nam: a
    | ^^^
    = expected: one of name, description, model, system_prompt, system_prompt_file, tools, working_dir, roots, shared, budgets, max_output_tokens, compact_at, tell_limits, allowed_hosts, tool_settings
    = help: did you mean `name`?

error: no price is known for the model `model-lage`
  --> .otto/agents/a.yml:2:8
    |
  2 | model: model-lage
    |        ^^^^^^^^^^
    = expected: one of model-large, model-small; a model without a price cannot be held to a budget
    = help: did you mean `model-large`?

error: unknown tool `fs.raed`
  --> .otto/agents/a.yml:3:9
    |
  3 | tools: [fs.raed, grep, grep]
    |         ^^^^^^^
    = expected: one of fs.read, fs.write, grep, http, app.count
    = help: did you mean `fs.read`?

error: tool `grep` is listed twice
  --> .otto/agents/a.yml:3:24
    |
  3 | tools: [fs.raed, grep, grep]
    |                        ^^^^
    = expected: each tool once

error: `working_dir`: the directory `missing` does not exist
  --> .otto/agents/a.yml:4:14
    |
  4 | working_dir: missing
    |              ^^^^^^^
    = expected: an existing directory
    = help: create it: mkdir -p BASE/project/missing

error: `time`: `5 parsecs` is not a duration
  --> .otto/agents/a.yml:6:9
    |
  6 |   time: 5 parsecs
    |         ^^^^^^^^^
    = expected: a number with a unit (`d`, `h`, `m`, `s`, `ms`), largest unit first, such as `5m`, `90s` or `1h30m`; at most 366d

error: `tokens`: `-1` is not a count
  --> .otto/agents/a.yml:7:11
    |
  7 |   tokens: -1
    |           ^^
    = expected: a whole number above zero, also with `k` or `M`, such as `50000`, `200k` or `1.5M`; at most 1000000M

error: `cost`: `$0` would forbid everything
  --> .otto/agents/a.yml:8:9
    |
  8 |   cost: $0
    |         ^^
    = expected: US dollars above zero, such as `$0.50` or `2`, below $9,000,000

error: `turns`: `99999999999` is too large
  --> .otto/agents/a.yml:9:10
    |
  9 |   turns: 99999999999
    |          ^^^^^^^^^^^
    = expected: a whole number above zero, such as 30

error: key `turns` stands here a second time
  --> .otto/agents/a.yml:10:3
    |
 10 |   turns: 3
    |   ^^^^^
    = first: .otto/agents/a.yml:9:3
    = help: remove one of them

error: not valid YAML: unclosed bracket '['
  --> .otto/agents/b.yml:2:8
    |
  2 | model: [x
    |        ^

error: `name`: `../c` is not a valid agent name
  --> .otto/agents/c.yml:1:7
    |
  1 | name: ../c
    |       ^^^^
    = expected: 1 to 64 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit

error: `shared`: `yes` is not a boolean
  --> .otto/agents/c.yml:3:9
    |
  3 | shared: yes
    |         ^^^
    = expected: true or false, without quotes

14 errors in the configuration";

#[test]
fn all_errors_of_all_files_are_reported_at_once() {
    let world = World::new()
        .agent(
            "a",
            "nam: a\nmodel: model-lage\ntools: [fs.raed, grep, grep]\nworking_dir: missing\nbudgets:\n  time: 5 parsecs\n  tokens: -1\n  cost: $0\n  turns: 99999999999\n  turns: 3\n",
        )
        .agent("b", "name: b\nmodel: [x\n")
        .agent("c", "name: ../c\nmodel: model-small\nshared: yes\n");
    let shown = world.errors();
    assert_eq!(shown, ALL_AT_ONCE, "\n{shown}");
}

/// A project with something of everything that can be named wrongly.
fn mistakes_world() -> World {
    let world = World::new()
        .file("outside/x", "")
        .file("project/file", "")
        .file("home/secret.md", "secret")
        .file("home/below/x", "")
        .set("OTTO_VAR_TOKEN", "x");
    symlink(world.path("project/work"), world.path("project/link")).unwrap();
    symlink(
        world.path("home/secret.md"),
        world.path("project/prompt-link.md"),
    )
    .unwrap();
    world
}

/// One bad line each, in a file that is otherwise good.
#[test]
fn each_kind_of_mistake_has_its_message() {
    let cases: &[(&str, &[&str])] = &[
        (r#"description: [a]"#, &["3:14 `description` is a list"]),
        (r#"description: "%s""#, &[]),
        (r#"tools: fs.read"#, &["3:8 `tools` is a single value"]),
        (r#"tools: [fs.raed]"#, &["3:9 unknown tool `fs.raed`"]),
        (
            r#"tools: [grep, grep]"#,
            &["3:15 tool `grep` is listed twice"],
        ),
        (
            r#"tools: [~]"#,
            &["3:9 `tools` has an entry without a value"],
        ),
        (
            r#"tools: ["../x"]"#,
            &["3:9 `tools`: `../x` is not a valid tool name"],
        ),
        (
            r#"tools: [grep]"#,
            &["3:8 tool `grep` works on files, and the agent has no `working_dir`"],
        ),
        (
            r#"tools: [fs.write]"#,
            &["3:8 tool `fs.write` works on files, and the agent has no `working_dir`"],
        ),
        (
            r#"working_dir: nowhere"#,
            &["3:14 `working_dir`: the directory `nowhere` does not exist"],
        ),
        (
            r#"working_dir: /"#,
            &["3:14 `working_dir`: `/` is the whole file system"],
        ),
        (
            r#"working_dir: ~/x"#,
            &["3:14 `working_dir`: `~/x`: `~` is not expanded"],
        ),
        (
            r#"working_dir: ../home"#,
            &["3:14 `working_dir`: `../home` is or holds the home directory"],
        ),
        (
            r#"working_dir: .."#,
            &["3:14 `working_dir`: `..` is or holds the home directory"],
        ),
        (
            r#"working_dir: .otto"#,
            &["3:14 `working_dir`: `.otto` is inside `.otto`"],
        ),
        (
            r#"working_dir: link"#,
            &["3:14 `working_dir`: `link` is reached through a symbolic link"],
        ),
        (
            r#"working_dir: file"#,
            &["3:14 `working_dir`: `file` is not a directory"],
        ),
        (
            r#"working_dir: ."#,
            &["3:14 `working_dir`: `.` holds the state directory (BASE/project/var/otto)"],
        ),
        (
            r#"working_dir: ../outside"#,
            &["3:14 `working_dir`: `../outside` is outside of the project"],
        ),
        (
            r#"roots: { src: ../outside }"#,
            &["3:15 `roots`: `../outside` is outside of the project"],
        ),
        (
            r#"roots: { "@src": docs }"#,
            &["3:10 `@src` cannot name a root"],
        ),
        (
            r#"roots: { src: /proc/self/root }"#,
            &["3:15 `roots`: `/proc/self/root` is reached through a symbolic link"],
        ),
        (r#"roots: [docs]"#, &["3:8 `roots` is a list"]),
        (r#"shared: yes"#, &["3:9 `shared`: `yes` is not a boolean"]),
        (
            r#"shared: "true""#,
            &["3:9 `shared`: `true` is not a boolean"],
        ),
        (r#"budgets: 5m"#, &["3:10 `budgets` is a single value"]),
        (
            r#"budgets: { time: 5 }"#,
            &["3:18 `time`: `5` is not a duration"],
        ),
        (
            r#"budgets: { time: 5m, time: 6m }"#,
            &["3:22 key `time` stands here a second time"],
        ),
        (
            r#"budgets: { tokens: 1.5 }"#,
            &["3:20 `tokens`: `1.5` is not a count"],
        ),
        (
            r#"budgets: { tokens: 18446744073709551616 }"#,
            &["3:20 `tokens`: `18446744073709551616` is too large"],
        ),
        (
            r#"budgets: { cost: 1e3 }"#,
            &["3:18 `cost`: `1e3` is not an amount of money"],
        ),
        (
            r#"budgets: { cost: .inf }"#,
            &["3:18 `cost`: `.inf` is not an amount of money"],
        ),
        (
            r#"budgets: { turns: 1.0 }"#,
            &["3:19 `turns`: `1.0` is not a number of turns"],
        ),
        (
            r#"budgets: { tme: 5m }"#,
            &["3:12 unknown key `tme` in `budgets`"],
        ),
        (
            r#"max_output_tokens: 65k"#,
            &["3:20 `max_output_tokens`: 65000 is more than the model can write"],
        ),
        (
            r#"max_output_tokens: 0"#,
            &["3:20 `max_output_tokens`: `0` would forbid everything"],
        ),
        (
            r#"allowed_hosts: [https://example.com]"#,
            &["3:17 `allowed_hosts`: `https://example.com` is a URL, not a host"],
        ),
        (
            r#"allowed_hosts: ["*"]"#,
            &["3:17 `allowed_hosts`: `*` is not a host"],
        ),
        (
            r#"tool_settings: { grep: { a: 1 } }"#,
            &["3:18 settings for `grep`, which is not in `tools`"],
        ),
        (
            r#"tool_settings: { grep: 5 }"#,
            &["3:18 settings for `grep`, which is not in `tools`"],
        ),
        (
            r#"model: model-small"#,
            &["3:1 key `model` stands here a second time"],
        ),
        (
            r#"system_prompt_file: nowhere.md"#,
            &["3:21 `nowhere.md` does not exist"],
        ),
        (
            r#"system_prompt_file: ../home/secret.md"#,
            &["3:21 `../home/secret.md` is outside of the project (BASE/home/secret.md)"],
        ),
        (
            r#"system_prompt_file: prompt-link.md"#,
            &["3:21 `prompt-link.md` is outside of the project (BASE/home/secret.md)"],
        ),
        (
            r#"system_prompt: ${HOME}"#,
            &["3:16 the variable `HOME` is not open to agent files"],
        ),
        (
            r#"system_prompt: ${OTTO_VAR_TOKEN}"#,
            &[
                "3:16 the variable `OTTO_VAR_TOKEN` names a credential, and the model would read this field",
            ],
        ),
        (
            r#"system_prompt: ${OTTO_VAR_MISSING:?name the team}"#,
            &["3:16 the variable `OTTO_VAR_MISSING` is not set: name the team"],
        ),
        (r#"description: !!str x"#, &["3:14 tags are not supported"]),
        (
            r#"<<: { tools: [grep] }"#,
            &["3:1 merge keys are not supported"],
        ),
        (
            r#""name": b"#,
            &["3:1 key `name` stands here a second time"],
        ),
        (
            r#"temperature: 0.5"#,
            &["3:1 unknown key `temperature` in the agent file"],
        ),
    ];
    for (line, expected) in cases {
        let text = format!("name: a\nmodel: model-large\n{line}\n");
        let found = problems(&mistakes_world().agent("a", &text));
        assert_eq!(found, *expected, "{line}");
    }
}

#[test]
fn directories_stay_away_from_ottos_own_files() {
    let agent = |dir: &str| format!("name: a\nmodel: model-small\nworking_dir: {dir}\n");
    let inside = World::new()
        .file("project/work/state/x", "")
        .set("OTTO_STATE_DIR", "work/state")
        .agent("a", &agent("work"));
    assert_eq!(
        problems(&inside),
        ["3:14 `working_dir`: `work` holds the state directory (BASE/project/work/state)"]
    );
    let below = World::new()
        .file("project/work/state/x", "")
        .set("OTTO_STATE_DIR", "work")
        .agent("a", &agent("work/state"));
    assert_eq!(
        problems(&below),
        ["3:14 `working_dir`: `work/state` is inside the state directory"]
    );
    let config = World::new()
        .set("OTTO_STATE_DIR", "/nowhere/state")
        .file("config/otto/agents/a.yml", &agent("../config"));
    assert_eq!(
        problems(&config),
        ["3:14 `working_dir`: `../config` holds the operator's configuration (BASE/config/otto)"]
    );
    let user = World::new().file("project/work/x", "");
    let state = user.path("project/work/state");
    let user = user
        .set("OTTO_STATE_DIR", "/nowhere/state")
        .set("XDG_STATE_HOME", state.to_str().unwrap())
        .agent("a", &agent("work"));
    assert_eq!(
        problems(&user),
        ["3:14 `working_dir`: `work` holds the user's state (BASE/project/work/state/otto)"]
    );
    let mut fenced = World::new().agent("a", &agent("."));
    fenced.protected = vec![fenced.path("project/var/otto")];
    assert_eq!(problems(&fenced), Vec::<String>::new());
}

#[test]
fn a_user_may_name_any_place_and_the_operator_may_open_some_to_projects() {
    let agent = "name: a\nmodel: model-small\ntools: [grep]\nroots: { src: ../outside }\n";
    let users = World::new()
        .file("outside/x", "")
        .file("config/otto/agents/a.yml", agent);
    assert_eq!(problems(&users), Vec::<String>::new());
    let opened = World::new().file("outside/x", "").agent("a", agent);
    let dir = opened.path("outside");
    let opened = opened.file(
        "config/otto/config.yml",
        &format!("directories: [{}]\n", dir.display()),
    );
    assert_eq!(problems(&opened), Vec::<String>::new());
}

#[test]
fn working_directories_overlap_only_by_consent() {
    let agent = |name: &str, dir: &str, shared: bool| {
        format!("name: {name}\nmodel: model-small\nworking_dir: {dir}\nshared: {shared}\n")
    };
    let world = |a: (&str, bool), b: (&str, bool)| {
        World::new()
            .file("project/work/sub/x", "")
            .file("project/work2/x", "")
            .agent("a", &agent("a", a.0, a.1))
            .agent("b", &agent("b", b.0, b.1))
    };
    let none = Vec::<String>::new();
    assert_eq!(problems(&world(("work", false), ("work2", false))), none);
    assert_eq!(problems(&world(("work", true), ("work/sub", true))), none);
    assert_eq!(
        problems(&world(("work", false), ("work", false))),
        ["3:14 the working directory of `b` is also the one of `a`"]
    );
    assert_eq!(
        problems(&world(("work/sub", true), ("work", false))),
        ["3:14 the working directory of `b` holds the one of `a`"]
    );
}

#[test]
fn what_is_not_a_plain_file_is_not_opened() {
    let world = World::new().agent("big", &format!("# {}\n", "x".repeat(1024 * 1024)));
    fs::create_dir(world.path("project/.otto/agents/dir.yml")).unwrap();
    fs::write(world.path("project/.otto/agents/latin.yml"), b"name: \xe9").unwrap();
    fs::write(world.path("project/.otto/agents/ignored.yaml"), b"name: x").unwrap();
    symlink("nowhere", world.path("project/.otto/agents/link.yml")).unwrap();
    symlink("/dev/zero", world.path("project/.otto/agents/zero.yml")).unwrap();
    assert_eq!(
        problems(&world),
        [
            "this file is not read",
            "the agent file is larger than 1048576 bytes",
            "the agent file is not a regular file",
            "the agent file is not UTF-8 text (at byte 6)",
            "the agent file does not exist",
            "the agent file is a link that leads out of the project",
        ]
    );
}

#[test]
fn a_link_out_of_the_project_is_not_quoted_and_one_inside_is_followed() {
    let world = World::new();
    fs::write(world.path("elsewhere"), "root:x:0:0").unwrap();
    symlink(
        world.path("elsewhere"),
        world.path("project/.otto/agents/link.yml"),
    )
    .unwrap();
    let shown = world.errors();
    assert!(shown.contains("leads out of the project"), "{shown}");
    assert!(!shown.contains("root:"), "{shown}");

    let world = World::new();
    fs::write(
        world.path("project/shared.yml"),
        "name: a\nmodel: model-small\n",
    )
    .unwrap();
    symlink(
        world.path("project/shared.yml"),
        world.path("project/.otto/agents/link.yml"),
    )
    .unwrap();
    assert_eq!(problems(&world), Vec::<String>::new());
}

#[test]
fn a_credential_in_a_file_is_refused_and_not_shown() {
    let key = format!("sk-ant-api03-{}", "a1B2".repeat(8));
    let world = World::new().agent(
        "a",
        &format!("name: a\nmodel: model-small # {key}\nsystem_prompt: ${{HOME}} {key}\n"),
    );
    let shown = world.errors();
    assert!(
        shown.starts_with(
            "error: an Anthropic API key stands in this file\n  --> .otto/agents/a.yml:2:22\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("not open to agent files"), "{shown}");
    assert!(!shown.contains("a1B2"), "{shown}");
}

#[test]
fn invisible_text_in_a_prompt_is_pointed_at() {
    let world = World::new().agent(
        "a",
        "name: a\nmodel: model-small\nsystem_prompt: \"be kind\\u200b\\U000E0041\"\n",
    );
    assert_eq!(
        problems(&world),
        ["3:16 `system_prompt` holds 2 invisible characters, the first is U+200B"]
    );
}

#[test]
fn a_prompt_can_come_from_a_file() {
    let world = World::new()
        .file("project/docs/prompt.md", "Be brief.\n\n")
        .agent(
            "a",
            "name: a\nmodel: model-small\nsystem_prompt_file: docs/prompt.md\n",
        );
    assert_eq!(
        &*world
            .load()
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .config
            .system_prompt,
        "Be brief."
    );
    let both = World::new().file("project/docs/prompt.md", "x").agent(
        "a",
        "name: a\nmodel: model-small\nsystem_prompt: x\nsystem_prompt_file: docs/prompt.md\n",
    );
    assert_eq!(
        problems(&both),
        ["4:21 `system_prompt` and `system_prompt_file` are both set"]
    );
}

#[test]
fn the_operator_narrows_what_a_file_says() {
    let world = World::new()
        .file(
            "config/otto/config.yml",
            "ceilings:\n  invocation: { cost: $0.20, time: 1h }\ntools: [fs.read, grep]\nallowed_hosts: ['*.example.com']\n",
        )
        .agent("a", "name: a\nmodel: model-small\nbudgets: { cost: $5, time: 2m }\n")
        .agent("b", "name: b\nmodel: model-small\n");
    let agents = world.load().unwrap();
    let budgets = &agents.iter().next().unwrap().config.budgets;
    let cost = budgets.cost.as_ref().unwrap();
    assert_eq!(
        (
            cost.value.to_string().as_str(),
            world.portable(&cost.origin.to_string()).as_str()
        ),
        ("$0.20", "BASE/config/otto/config.yml:2")
    );
    assert_eq!(budgets.time.as_ref().unwrap().value.as_secs(), 120);
    assert_eq!(
        problems(&world),
        [
            "3:10 `cost`: $5.00 is above the operator's ceiling; $0.20 applies, set by BASE/config/otto/config.yml:2"
        ]
    );
    // A default is narrowed without a word.
    assert_eq!(
        agents
            .iter()
            .nth(1)
            .unwrap()
            .config
            .budgets
            .cost
            .as_ref()
            .unwrap()
            .value
            .to_string(),
        "$0.20"
    );

    let refused = world.agent(
        "c",
        "name: c\nmodel: model-small\ntools: [http]\nallowed_hosts: [example.com, a.example.com]\n",
    );
    let found = problems(&refused);
    assert!(
        found.contains(&"3:9 tool `http` is not on the operator's allowlist".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"4:17 host `example.com` is not on the operator's allowlist".to_owned()),
        "{found:?}"
    );
}

#[test]
fn two_files_cannot_define_one_agent() {
    let world = World::new()
        .agent("a", "name: x\nmodel: model-small\n")
        .agent("b", "name: x\nmodel: model-small\n");
    let shown = world.errors();
    assert!(
        shown.contains("the agent `x` is defined twice")
            && shown.contains("= first: .otto/agents/a.yml:1:7"),
        "{shown}"
    );
}

#[test]
fn every_value_of_an_agent_is_explained() {
    let world = World::new().set("OTTO_VAR_WHAT", "code").agent(
        "reviewer",
        &FULL.replace("review code", "review ${OTTO_VAR_WHAT}"),
    );
    let agents = world.load().unwrap();
    let agent = agents.iter().next().unwrap();
    assert_eq!(
        &*agent.config.system_prompt,
        "You review code. Be brief and exact."
    );
    let explained = explain_agent(agent);
    for field in AGENT_FIELDS {
        // The prompt's file is the origin of the prompt.
        let key = format!("agents.{}.{}", agent.config.name, field.name);
        assert!(
            field.name == "system_prompt_file" || explained.iter().any(|entry| entry.is_of(&key)),
            "{key}"
        );
    }
    let cost = explained
        .iter()
        .find(|entry| entry.key == "agents.reviewer.budgets.cost")
        .unwrap();
    assert_eq!(
        (cost.value.as_str(), &*cost.origin.0),
        ("$0.50", ".otto/agents/reviewer.yml:10")
    );
}

/// What the schema accepts and what the loader accepts is the same, as far as form goes; whether a thing exists
/// is the loader's alone. (A number such as `1e3` is the one difference: a schema sees only its value.)
#[test]
fn schema_and_loader_agree_on_form() {
    let schema = agent_schema();
    let judge = |line: &str| {
        let text = format!("name: a\nmodel: model-large\n{line}\n");
        let file = SourceFile::new("x", text.clone());
        let by_schema = matches(
            &schema,
            &yaml::to_json(&yaml::parse(&file).unwrap().unwrap()),
        );
        let world = World::new()
            .set("OTTO_VAR_SHARED", "true")
            .file("project/docs/x.md", "x")
            .agent("a", &text);
        (by_schema, world.load().is_ok())
    };
    for good in [
        "description: x",
        "tools: [fs.read, grep]\nworking_dir: work",
        "roots: { src: docs }",
        "shared: true",
        "budgets: { time: 1h30m, tokens: 200k, cost: $0.50, turns: 3 }",
        "budgets: { tokens: 5000, cost: 0.5 }",
        "budgets: { cost: 2 }",
        "max_output_tokens: 8k",
        "allowed_hosts: [example.com, '*.example.org:8443']",
        "tools: [app.count]\ntool_settings: { app.count: { a: [1] } }",
        "budgets: { cost: '${OTTO_VAR_COST:-$1}' }",
        "shared: ${OTTO_VAR_SHARED}",
        "system_prompt_file: docs/x.md",
    ] {
        assert_eq!(judge(good), (true, true), "{good}");
    }
    for bad in [
        "nmae: b",
        "tools: fs.read",
        "tools: [app.count, app.count]",
        "roots: [docs]",
        "roots: { '@src': docs }",
        "shared: yes",
        "shared: 1",
        "budgets: 5m",
        "budgets: { time: 5 }",
        "budgets: { time: 5 parsecs }",
        "budgets: { tokens: -1 }",
        "budgets: { tokens: 1.5 }",
        "budgets: { cost: -1 }",
        "budgets: { turns: 0 }",
        "budgets: { turns: 30.5 }",
        "budgets: { tme: 5m }",
        "max_output_tokens: lots",
        "allowed_hosts: [https://example.com]",
        "tools: [app.count]\ntool_settings: { app.count: 5 }",
        "description: [a]",
        "system_prompt: a\nsystem_prompt_file: docs/x.md",
    ] {
        assert_eq!(judge(bad), (false, false), "{bad}");
    }
    let minimal = |value| matches(&schema, &value);
    assert!(minimal(serde_json::json!({"name": "a", "model": "m"})));
    assert!(
        !minimal(serde_json::json!({"name": "a"}))
            && !minimal(serde_json::json!({"name": "../a", "model": "m"}))
    );
}

#[test]
fn settings_of_base_tools_are_checked_by_the_tools() {
    let world = World::new().agent(
        "a",
        "name: a\nmodel: model-small\nworking_dir: work\ntools: [fs.read]\ntool_settings: { fs.read: { no_such_setting: 1 } }\n",
    );
    let found = problems(&world);
    assert!(
        found[0].starts_with("5:27 the settings of `fs.read`: ")
            && found[0].contains("no_such_setting"),
        "{found:?}"
    );
}
