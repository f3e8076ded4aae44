//! Commands that need no model: init, check, agents, tools, prices, config, doctor.

use std::fs;

use crate::world::World;

#[test]
fn init_writes_an_agent_that_is_valid_and_never_overwrites() {
    let world = World::new();
    let ran = world.otto(["init"]).expect(0);
    assert!(
        ran.stdout
            .starts_with("wrote .otto/agents/reviewer.yml\n\nNext:\n  otto check\n"),
        "{ran:?}"
    );
    assert_eq!(world.otto(["check"]).expect(0).stdout, "1 agent is valid\n");
    fs::write(world.path("project/.otto/agents/reviewer.yml"), "mine").unwrap();
    let ran = world.otto(["init"]).expect(2);
    assert!(
        ran.stderr
            .contains("it is already there, and nothing is overwritten"),
        "{ran:?}"
    );
    assert_eq!(
        fs::read_to_string(world.path("project/.otto/agents/reviewer.yml")).unwrap(),
        "mine"
    );
    world.otto(["init", "../evil"]).expect(2);
    assert!(
        world
            .otto(["init", "second"])
            .expect(0)
            .stdout
            .contains("otto run second")
    );
}

#[test]
fn check_shows_every_problem_with_its_place() {
    let world = World::new()
        .file(
            "project/.otto/agents/a.yml",
            "name: a\nmodel: claude-haiku-4-6\ntols: [fs.read]\n",
        )
        .file("config/otto/config.yml", "# nothing\n");
    let ran = world.otto(["check"]).expect(2);
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains(
            "error: unknown key `tols` in the agent file\n  --> .otto/agents/a.yml:3:1\n    |\n  3 | tols: [fs.read]\n    | ^^^^\n"
        ),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("did you mean `claude-haiku-4-5`?"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.ends_with("2 errors in the configuration\n"),
        "{}",
        ran.stderr
    );

    let (code, lines) = world.json(["check"]);
    assert_eq!(code, 2);
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[1]["line"], &lines[1]["column"], &lines[1]["source"]),
        (&3.into(), &1.into(), &".otto/agents/a.yml".into())
    );
    assert_eq!(lines[2]["errors"], 2);
}

#[test]
fn a_broken_configuration_stops_every_command_that_needs_it() {
    let world = World::new()
        .with_agent()
        .file("config/otto/config.yml", "enabled: maybe\n");
    for args in [
        vec!["agents"],
        vec!["run", "helper", "hi"],
        vec!["sessions"],
        vec!["config", "explain"],
    ] {
        let ran = world.otto(&args).expect(2);
        assert!(ran.stderr.contains("config.yml:1:10"), "{args:?} {ran:?}");
    }
}

#[test]
fn agents_are_listed_with_their_limits() {
    let world = World::new().with_agent();
    let ran = world.otto(["agents"]).expect(0);
    assert!(
        ran.stdout.contains("helper")
            && ran.stdout.contains("$0.50")
            && ran.stdout.contains("fs.read grep fs.write"),
        "{ran:?}"
    );
    let (_, lines) = world.json(["agents"]);
    assert_eq!(lines[0]["name"], "helper");
    assert_eq!(lines[0]["model"], "claude-haiku-4-5");
    assert_eq!(
        lines[0]["limits"]["cost"]["picodollars"],
        500_000_000_000_u64
    );
    assert_eq!(
        World::new().otto(["agents"]).expect(0).stderr,
        "no agents yet; `otto init` writes a first one\n"
    );
}

#[test]
fn tools_and_prices_are_listed() {
    let world = World::new();
    let ran = world.otto(["tools"]).expect(0);
    assert!(
        ran.stdout.lines().any(|line| line
            .split_whitespace()
            .take(3)
            .eq(["fs.write", "write", "yes"])),
        "{ran:?}"
    );
    let (_, lines) = world.json(["tools", "fs.read"]);
    assert_eq!(lines[0]["permissions"], serde_json::json!(["read"]));
    assert!(["l1", "l2"].contains(&lines[0]["enforced"].as_str().unwrap()));
    assert_eq!(lines[0]["allowed"], true);
    assert_eq!(lines[0]["input_schema"]["type"], "object");
    assert!(
        world
            .otto(["tools", "fs.raed"])
            .expect(2)
            .stderr
            .contains("there is no tool `fs.raed`")
    );
    let ran = world.otto(["prices"]).expect(0);
    assert!(
        ran.stdout.starts_with("prices: anthropic 20") && ran.stdout.contains("claude-haiku-4-5"),
        "{ran:?}"
    );
    let world = world.file(
        "config/otto/config.yml",
        "tools: [grep]\ntool_limits: { grep: { time: 1s, output: 1k } }\n",
    );
    let (_, lines) = world.json(["tools"]);
    for line in &lines {
        assert_eq!(line["allowed"], line["name"] == "grep", "{line}");
        let allowed_by = line["allowed_by"].as_str().unwrap();
        assert!(allowed_by.contains("config.yml:1"), "{line}");
    }
    let grep = lines.iter().find(|line| line["name"] == "grep").unwrap();
    assert_eq!(grep["timeout_ms"], 1_000);
    assert_eq!(grep["max_output_bytes"], 1_000);
    let world = world.file(
        "config/otto/config.yml",
        "prices: [{ id: mine, context_window: 1k, max_output_tokens: 1k, input: 1, output: 2, cache_read: 0.1, cache_write_5m: 1.25, cache_write_1h: 2 }]\n",
    );
    let (_, lines) = world.json(["prices"]);
    let mine = lines.iter().find(|line| line["model"] == "mine").unwrap();
    assert_eq!(mine["prices"]["cache_write_5m"], "$1.25");
}

#[test]
fn every_effective_value_is_explained() {
    let world = World::new()
        .with_agent()
        .file("config/otto/config.yml", "ceilings: { day: $5 }\n")
        .set("OTTO_DAILY_COST", "$7");
    let ran = world.otto(["config", "explain", "ceilings.day"]).expect(0);
    assert!(ran.stdout.starts_with("ceilings.day = $7.00\n  set by environment variable OTTO_DAILY_COST\n  in place of $5.00 from "), "{ran:?}");
    let (_, lines) = world.json(["config", "explain", "agents.helper"]);
    let cost = lines
        .iter()
        .find(|line| line["key"] == "agents.helper.budgets.cost")
        .unwrap();
    assert_eq!(cost["origin"], ".otto/agents/helper.yml:5");
    world.otto(["config", "explain", "nonsense"]).expect(2);
    let schema: serde_json::Value =
        serde_json::from_str(&world.otto(["config", "schema"]).expect(0).stdout).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["name", "model"]));
    assert!(
        world
            .otto(["config", "env"])
            .expect(0)
            .stdout
            .contains("OTTO_KILL_SWITCH")
    );
}

#[test]
fn doctor_tells_the_level_and_never_the_key() {
    let world = World::new()
        .with_agent()
        .set("ANTHROPIC_API_KEY", "hunter2-hunter2-hunter2");
    let (_, lines) = world.json(["doctor"]);
    let level = lines[0]["level"].as_str().unwrap();
    assert!(["l2", "l1", "none"].contains(&level), "{level}");
    assert!(!lines[0].to_string().contains("hunter2"));
    assert!(
        lines[0]["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["name"] == "enabled" && finding["standing"] == "notice")
    );
}

#[test]
fn the_project_is_named_or_the_current_directory() {
    let world = World::new().with_agent();
    let elsewhere = world.path("home");
    let mut command = world.command(["agents", "--project"]);
    let ran = command
        .arg(world.path("project"))
        .current_dir(&elsewhere)
        .output()
        .unwrap();
    assert!(String::from_utf8(ran.stdout).unwrap().contains("helper"));
    let ran = world.otto(["agents", "--project", "nowhere"]).expect(2);
    assert!(
        ran.stderr.contains("the project directory does not exist"),
        "{ran:?}"
    );
    // A parent's `.otto` is somebody else's.
    fs::create_dir(world.path("project/below")).unwrap();
    let ran = world
        .command(["agents"])
        .current_dir(world.path("project/below"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), "");
}

#[test]
fn an_unknown_name_is_answered_with_the_closest_known_one() {
    let world = World::new().with_agent();
    let ran = world.otto(["config", "explain", "ceilings.dya"]).expect(2);
    assert!(
        ran.stderr.contains("did you mean `ceilings.day`?"),
        "{ran:?}"
    );
    for command in ["plan", "run"] {
        let world = World::new().with_agent().set("OTTO_ENABLED", "true");
        let ran = world.otto([command, "helpr", "hi"]).expect(2);
        assert!(ran.stderr.contains("did you mean `helper`?"), "{ran:?}");
    }
    let world = World::new().file(
        "project/.otto/agents/helper.yml",
        "name: helper\nmodle: x\nmodel: claude-haiku-4-6\ntools: [fs.raed]\nbudgets: { cots: $0.50 }\n",
    );
    let ran = world.otto(["check"]).expect(2);
    for close in ["model", "claude-haiku-4-5", "fs.read", "cost"] {
        let meant = format!("did you mean `{close}`?");
        assert!(ran.stderr.contains(&meant), "{close}: {ran:?}");
    }
}
