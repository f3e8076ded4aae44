//! `otto run` against a scripted model: outcomes, exit codes, limits, bad input.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::world::World;

const HELLO: &str = "turns: [{ text: 'You asked: {{ task }}' }]";

const READS: &str = "
turns:
  - text: I look.
    tool: { name: fs.read, input: { path: notes.txt } }
  - text: 'It says: {{ result.fs_read | nth 0 }}'
";

#[test]
fn the_answer_goes_to_standard_output_and_the_rest_to_standard_error() {
    let world = World::new().with_agent().with_model(HELLO);
    let ran = world.otto(["run", "helper", "hello", "there"]).expect(0);
    assert_eq!(ran.stdout, "You asked: hello there\n");
    for expected in [
        "helper on claude-haiku-4-5, at most $0.50, 1m, 1M tokens, 50 turns\n",
        "daily ceiling for everything: $10.00 (default); raise it with OTTO_DAILY_COST",
        "completed after ",
        ".otto/agents/helper.yml:5",
        "sha-256",
        "\nsession ",
        "next: otto show ",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("test-key-of-nobody"));
}

#[test]
fn tools_work_on_the_project_and_are_told_of() {
    let world = World::new()
        .with_agent()
        .with_model(READS)
        .file("project/notes.txt", "buy milk\n");
    let ran = world.otto(["run", "helper", "look"]).expect(0);
    assert!(ran.stdout.ends_with("It says: buy milk\n"), "{ran:?}");
    let line = ran
        .stderr
        .lines()
        .find(|line| line.contains("fs.read path=notes.txt"))
        .unwrap_or_else(|| panic!("{ran:?}"));
    assert!(line.contains(" ok "), "{line}");
}

#[test]
fn programs_get_one_object_per_line() {
    let world = World::new()
        .with_agent()
        .with_model(READS)
        .file("project/notes.txt", "buy milk\n");
    let (code, lines) = world.json(["run", "helper", "look"]);
    assert_eq!(code, 0);
    let types: Vec<&str> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!((types[0], *types.last().unwrap()), ("started", "report"));
    let started = lines
        .iter()
        .find(|line| line["type"] == "tool_started")
        .unwrap();
    assert_eq!(started["input"]["path"], "notes.txt");
    let finished = lines
        .iter()
        .find(|line| line["type"] == "tool_finished")
        .unwrap();
    assert_eq!(finished["ending"], "succeeded");
    let text: String = lines
        .iter()
        .filter(|line| line["type"] == "text")
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    let report = lines.last().unwrap();
    assert!(text.ends_with(report["text"].as_str().unwrap()));
    assert_eq!(
        (&report["outcome"], &report["exit_code"], &report["turns"]),
        (&"completed".into(), &0.into(), &2.into())
    );
    let settled: u64 = lines
        .iter()
        .filter(|line| line["type"] == "settled")
        .map(|line| line["charged"]["picodollars"].as_u64().unwrap())
        .sum();
    assert_eq!(report["charged"]["picodollars"], settled);
    assert_eq!(report["artifacts"][0]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn nothing_runs_until_it_is_enabled() {
    let world = World::new()
        .with_agent()
        .with_model(HELLO)
        .set("OTTO_ENABLED", "");
    let ran = world.otto(["run", "helper", "hi"]).expect(5);
    assert_eq!(
        ran.stderr,
        "error: Otto is not enabled\nhint: agents are off until somebody switches them on: set OTTO_ENABLED=true, or write `enabled: true` into ~/.config/otto/config.yml\n"
    );
    assert_eq!(world.server().stats().requests, 0);
    let world = world.file("config/otto/config.yml", "enabled: true\n");
    world.otto(["run", "helper", "hi"]).expect(0);
    let world = world.set("OTTO_KILL_SWITCH", "true");
    let ran = world.otto(["run", "helper", "hi"]).expect(5);
    assert!(
        ran.stderr
            .contains("the kill switch is thrown, by environment variable OTTO_KILL_SWITCH"),
        "{ran:?}"
    );
}

#[test]
fn wrong_command_lines_are_told_of_before_anything_happens() {
    let world = World::new().with_agent().with_model(HELLO);
    for (args, expected) in [
        (vec!["run", "helpr", "hi"], "did you mean `helper`?"),
        (
            vec!["run", "helper"],
            "required arguments were not provided",
        ),
        (
            vec!["run", "helper", "hi", "--cost", "-1"],
            "`-1` is not an amount of money",
        ),
        (
            vec!["run", "helper", "hi", "--cost=5 parsecs"],
            "`5 parsecs` is not an amount of money",
        ),
        (
            vec!["run", "helper", "hi", "--time", "5"],
            "`5` is not a duration",
        ),
        (
            vec!["run", "helper", "hi", "--session", "../../etc"],
            "not a valid session id",
        ),
        (
            vec!["run", "helper", ""],
            "the task for agent `helper` is empty",
        ),
        (vec!["rum"], "unrecognized subcommand"),
        (vec![], "Usage: otto"),
    ] {
        let ran = world.otto(&args).expect(2);
        assert!(ran.stderr.contains(expected), "{args:?}\n{}", ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    assert_eq!(world.server().stats().requests, 0);
}

#[test]
fn a_missing_key_is_told_of_with_what_works_without() {
    let world = World::new().with_agent().set("OTTO_ENABLED", "true");
    let ran = world.otto(["run", "helper", "hi"]).expect(2);
    assert!(
        ran.stderr.contains("set ANTHROPIC_API_KEY") && ran.stderr.contains("otto demo"),
        "{ran:?}"
    );
}

#[test]
fn a_task_can_come_from_standard_input() {
    let world = World::new().with_agent().with_model(HELLO);
    let mut child = world
        .command(["run", "helper", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from a pipe")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "You asked: from a pipe\n"
    );
}

#[test]
fn a_budget_that_is_too_small_sends_nothing_and_names_the_limit() {
    let world = World::new().with_agent().with_model(HELLO);
    let ran = world
        .otto(["run", "helper", "hi", "--cost", "$0.000001"])
        .expect(3);
    for expected in [
        "cost limit of $0.000001 reached in invocation ",
        "$0.00 spent",
        "limit set by --cost",
        "otto resume ",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}\n{}", ran.stderr);
    }
    assert_eq!(world.server().stats().requests, 0);
    let world = world.set("OTTO_DAILY_COST", "$0.000001");
    let ran = world.otto(["run", "helper", "hi"]).expect(3);
    assert!(
        ran.stderr
            .contains("limit set by environment variable OTTO_DAILY_COST"),
        "{ran:?}"
    );
}

#[test]
fn providers_that_fail_have_their_code_and_words() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: never, faults: [{ attempt: all, status: 401, error: { message: invalid x-api-key } }] }]");
    let ran = world.otto(["run", "helper", "hi"]).expect(6);
    assert!(
        ran.stderr.contains("provider failed") && ran.stderr.contains("invalid x-api-key"),
        "{ran:?}"
    );
    // Nobody listens on this port.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let world = world
        .set("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}"))
        .set("OTTO_STATE_DIR", "../state2");
    let ran = world.otto(["run", "helper", "hi", "--time", "2s"]);
    assert!(matches!(ran.code, 4 | 6), "{ran:?}");
}

#[test]
fn refusals_and_deadlines_have_their_codes() {
    let world = World::new().with_agent().with_model(
        "turns: [{ text: no, stop: { reason: refusal, category: cyber, explanation: not this } }]",
    );
    let ran = world.otto(["run", "helper", "hi"]).expect(5);
    assert!(ran.stderr.contains("refused by the provider"), "{ran:?}");
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: never, faults: [{ attempt: all, stall: before }] }]");
    let ran = world
        .otto(["run", "helper", "hi", "--time", "300ms"])
        .expect(4);
    assert!(ran.stderr.contains("limit set by --time"), "{ran:?}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_of() {
    let world = World::new()
        .with_agent()
        .with_model(HELLO)
        .file("home/file", "")
        .set("OTTO_STATE_DIR", "../home/file/below");
    let ran = world.otto(["run", "helper", "hi"]).expect(1);
    assert!(ran.stderr.contains("file/below"), "{ran:?}");
    assert_eq!(world.server().stats().requests, 0);
    let world = World::new().with_agent().with_model(HELLO).file(
        "project/var/otto/otto.db",
        "this is no database, and long enough to be read as one",
    );
    let ran = world.otto(["run", "helper", "hi"]).expect(1);
    assert!(ran.stderr.contains("otto.db"), "{ran:?}");
    assert_eq!(
        fs::read_to_string(world.path("project/var/otto/otto.db")).unwrap(),
        "this is no database, and long enough to be read as one"
    );
}

#[test]
fn an_agent_cannot_touch_ottos_own_state_in_its_working_directory() {
    let script = "
turns:
  - tool: { name: fs.write, as: forge, input: { path: var/otto/otto.db, content: forged } }
  - text: '{{ failed.forge | then \"refused\" | default \"FORGED\" }}'
";
    let world = World::new().with_agent().with_model(script);
    let ran = world.otto(["run", "helper", "forge"]).expect(0);
    assert_eq!(ran.stdout, "refused\n", "{ran:?}");
    world.otto(["sessions"]).expect(0);
}

#[test]
fn a_refusal_says_who_refused() {
    let script = "
turns:
  - tools:
      - { name: fs.read, as: passwd, input: { path: /etc/passwd } }
      - { name: fs.write, as: outside, input: { path: ../out, content: x } }
      - { name: fs.write, as: own, input: { path: .otto/agents/helper.yml, content: x } }
  - text: done
";
    let world = World::new().with_agent().with_model(script);
    let (_, lines) = world.json(["run", "helper", "try"]);
    let refusals: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line["type"] == "tool_finished")
        .map(|line| {
            assert_eq!(line["ending"], "denied", "{line}");
            let word = |key: &str| line[key].as_str().unwrap();
            (
                word("refused_by"),
                word("content").split(": ").next().unwrap(),
            )
        })
        .collect();
    let count = |by, words| {
        refusals
            .iter()
            .filter(|found| **found == (by, words))
            .count()
    };
    assert_eq!(count("kernel", "Refused by the kernel"), 2, "{lines:#?}");
    assert_eq!(
        count("path_rule", "Refused by the path rule"),
        1,
        "{lines:#?}"
    );
}
