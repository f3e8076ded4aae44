//! Every base tool through `otto run`: real files, a real server on loopback, and the tests of real projects.
//!
//! What needs a toolchain that is not installed says so and is skipped, unless `OTTO_TEST_REQUIRE_TOOLS=1` is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::listener::{Listener, answer};
use crate::world::World;

/// What a tool call came to: tool, ending, content.
type Call = (String, String, String);

fn agent(tools: &str, more: &str) -> String {
    format!(
        "name: helper\nmodel: claude-haiku-4-5\ntools: [{tools}]\nworking_dir: .\nbudgets: {{ cost: $0.50, time: 10m }}\n{more}"
    )
}

#[track_caller]
fn run(world: &World) -> Vec<Call> {
    let (code, lines) = world.json(["run", "helper", "work"]);
    assert_eq!(code, 0, "{lines:#?}");
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .iter()
        .filter(|line| line["type"] == "tool_finished")
        .map(|line| {
            (
                text(line, "tool"),
                text(line, "ending"),
                text(line, "content"),
            )
        })
        .collect()
}

#[test]
fn every_base_tool_works_on_real_files_and_a_real_server() {
    let server = Listener::start(|request| {
        let body = if request.starts_with("POST") {
            request.rsplit("\r\n\r\n").next().unwrap_or_default()
        } else {
            "hello from the server"
        };
        answer("200 OK", "Content-Type: text/plain\r\n", body)
    });
    let url = format!("http://{}", server.address);
    let script = format!(
        r#"
turns:
  - tool: {{ name: fs.list, input: {{ path: ., depth: 2 }} }}
  - tool: {{ name: fs.read, input: {{ path: src/a.txt, offset: 2, limit: 1 }} }}
  - tool: {{ name: grep, input: {{ pattern: "b[a-z]+", glob: "*.txt" }} }}
  - tool: {{ name: json, input: {{ action: query, path: data.json, query: "$.items[?@.price > 5].name" }} }}
  - tool: {{ name: yaml, input: {{ action: generate, path: data.json }} }}
  - tool: {{ name: fs.write, input: {{ path: out/new.txt, content: "made\n" }} }}
  - tool: {{ name: fs.edit, input: {{ path: src/a.txt, old: beta, new: gamma }} }}
  - tool: {{ name: http, input: {{ url: "{url}/x" }} }}
  - tool: {{ name: http, input: {{ url: "{url}/y", method: POST, json: {{ a: 1 }} }} }}
  - text: done
"#
    );
    let world = World::new()
        .file(
            "project/.otto/agents/helper.yml",
            &agent(
                "fs.list, fs.read, grep, json, yaml, fs.write, fs.edit, http",
                &format!("allowed_hosts: [\"{}\"]\n", server.address),
            ),
        )
        .file(
            "config/otto/config.yml",
            &format!("private_hosts: [\"{}\"]\n", server.address),
        )
        .file("project/src/a.txt", "alpha\nbeta\n")
        .file(
            "project/data.json",
            r#"{"items": [{"name": "pen", "price": 2}, {"name": "book", "price": 9}]}"#,
        )
        .with_model(&script);
    let calls = run(&world);
    let expected = [
        ("fs.list", "a.txt\t11"),
        ("fs.read", "beta\n"),
        ("grep", "src/a.txt:2:beta"),
        ("json", "book"),
        ("yaml", "price: 9"),
        ("fs.write", "created `out/new.txt`"),
        ("fs.edit", "src/a.txt"),
        ("http", "hello from the server"),
        ("http", r#"{"a":1}"#),
    ];
    assert_eq!(calls.len(), expected.len(), "{calls:#?}");
    for ((tool, ending, content), (name, part)) in calls.iter().zip(expected) {
        assert_eq!(
            (tool.as_str(), ending.as_str()),
            (name, "succeeded"),
            "{content}"
        );
        assert!(
            content
                .replace(": ", ":")
                .contains(&part.replace(": ", ":")),
            "{tool}: {content}"
        );
    }
    let written = std::fs::read_to_string(world.path("project/out/new.txt")).unwrap();
    assert_eq!(written, "made\n");
    let edited = std::fs::read_to_string(world.path("project/src/a.txt")).unwrap();
    assert_eq!(edited, "alpha\ngamma\n");
}

/// Runs the tests of the project in the working directory and gives the answer of `test_runner`.
#[track_caller]
fn tests_of(world: World, input: &str) -> Value {
    let world = world.with_model(&format!(
        "turns:\n  - tool: {{ name: test_runner, input: {input} }}\n  - text: done\n"
    ));
    let calls = run(&world);
    let (_, ending, content) = &calls[0];
    assert_eq!(ending, "succeeded", "{content}");
    serde_json::from_str(content).unwrap()
}

fn project(more: &str) -> World {
    World::new().file(
        "project/.otto/agents/helper.yml",
        &agent("test_runner", more),
    )
}

/// One test passes, one fails at this place with this message.
#[track_caller]
fn one_of_each(answer: &Value, runner: &str, file: &str, line: u64, message: &str) {
    assert_eq!(answer["outcome"], "failed", "{answer:#}");
    assert_eq!(answer["runner"], runner, "{answer:#}");
    assert_eq!(answer["totals"]["passed"], 1, "{answer:#}");
    assert_eq!(answer["totals"]["failed"], 1, "{answer:#}");
    let failure = &answer["failures"][0];
    assert!(
        failure["file"].as_str().unwrap().ends_with(file),
        "{answer:#}"
    );
    assert_eq!(failure["line"], line, "{answer:#}");
    assert!(
        failure["message"].as_str().unwrap().contains(message),
        "{answer:#}"
    );
}

/// A crate of two tests, and the directories of programs that the operator lists for it.
fn rust_crate(listed: &[&Path]) -> World {
    let listed: Vec<String> = listed
        .iter()
        .map(|dir| format!("{:?}", dir.display().to_string()))
        .collect();
    project("")
        .file(
            "config/otto/config.yml",
            &format!("programs: {{ read: [{}], env: {{ CARGO_NET_OFFLINE: \"true\" }} }}\n", listed.join(", ")),
        )
        .file(
            "project/Cargo.toml",
            "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
        )
        .file(
            "project/src/lib.rs",
            "#[test]\nfn adds() {\n    assert_eq!(1 + 1, 2);\n}\n\n#[test]\nfn subtracts() {\n    assert_eq!(3 - 1, 1, \"three less one\");\n}\n",
        )
}

/// The toolchain that runs this test, not the one that a shim would choose.
fn toolchain() -> PathBuf {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap());
    cargo.ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn the_tests_of_a_rust_crate_run_with_a_toolchain_the_operator_lists() {
    let answer = tests_of(rust_crate(&[&toolchain()]), "{}");
    one_of_each(&answer, "cargo", "src/lib.rs", 8, "three less one");
}

#[test]
fn the_tests_of_a_rust_crate_run_with_nextest() {
    // No package of Debian has it, so nobody is asked to install it.
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let Some(dir) =
        std::env::split_paths(&search_path).find(|dir| dir.join("cargo-nextest").is_file())
    else {
        eprintln!("skipped: cargo-nextest is on no search path");
        return;
    };
    // The directory alone may hold shims as well; the toolchain comes first.
    let world = rust_crate(&[&toolchain(), &dir]).file("project/.config/nextest.toml", "");
    let answer = tests_of(world, "{}");
    one_of_each(&answer, "nextest", "src/lib.rs", 8, "three less one");
}

#[test]
fn the_tests_of_a_python_project_run() {
    if !is_installed(
        "/usr/bin/python3",
        &["-m", "pytest", "--version"],
        "python3-pytest",
    ) {
        return;
    }
    let world = project("").file("project/pytest.ini", "[pytest]\n").file(
        "project/test_sums.py",
        "def test_adds():\n    assert 1 + 1 == 2\n\n\ndef test_subtracts():\n    assert 3 - 1 == 1, 'three less one'\n",
    );
    let answer = tests_of(world, "{}");
    one_of_each(&answer, "pytest", "test_sums.py", 6, "three less one");
}

const SUMS_IN_JAVASCRIPT: &str = "const test = require('node:test');\nconst assert = require('node:assert');\n\ntest('adds', () => assert.strictEqual(1 + 1, 2));\ntest('subtracts', () => {\n  assert.strictEqual(3 - 1, 1, 'three less one');\n});\n";

#[test]
fn the_tests_of_a_javascript_project_run() {
    if !is_installed("/usr/bin/node", &["--version"], "nodejs") {
        return;
    }
    let world = project("")
        .file("project/package.json", "{\"name\": \"tiny\"}")
        .file("project/sums.test.js", SUMS_IN_JAVASCRIPT);
    let answer = tests_of(world, "{}");
    // Node names the line where the test begins.
    one_of_each(&answer, "node", "sums.test.js", 5, "three less one");
}

#[test]
fn the_test_script_of_a_javascript_project_runs() {
    if !is_installed("/usr/bin/npm", &["--version"], "npm") {
        return;
    }
    let world = project("")
        .file(
            "project/package.json",
            r#"{"name": "tiny", "scripts": {"test": "node --test --test-reporter=tap"}}"#,
        )
        .file("project/sums.test.js", SUMS_IN_JAVASCRIPT);
    let answer = tests_of(world, "{}");
    one_of_each(&answer, "npm", "sums.test.js", 5, "three less one");
}

#[test]
fn the_tests_of_an_elixir_project_run() {
    if !is_installed("/usr/bin/mix", &["--version"], "elixir") {
        return;
    }
    let world = project("")
        .file(
            "project/mix.exs",
            "defmodule Tiny.MixProject do\n  use Mix.Project\n  def project, do: [app: :tiny, version: \"0.1.0\"]\nend\n",
        )
        .file("project/lib/tiny.ex", "defmodule Tiny do\n  def add(a, b), do: a + b\nend\n")
        .file("project/test/test_helper.exs", "ExUnit.start()\n")
        .file(
            "project/test/tiny_test.exs",
            "defmodule TinyTest do\n  use ExUnit.Case\n\n  test \"adds\" do\n    assert Tiny.add(1, 1) == 2\n  end\n\n  test \"subtracts\" do\n    assert Tiny.add(3, -1) == 1, \"three less one\"\n  end\nend\n",
        );
    let answer = tests_of(world, "{}");
    one_of_each(&answer, "mix", "test/tiny_test.exs", 9, "three less one");
}

#[test]
fn a_configured_command_runs_without_home_keys_and_network() {
    let outside = Listener::start(|_| answer("200 OK", "", "reached"));
    let world = World::new()
        .file(
            "project/.otto/agents/helper.yml",
            &agent("test_runner", "tool_settings: { test_runner: { command: [never-this] } }\n"),
        )
        .file(
            "config/otto/config.yml",
            "tool_settings: { test_runner: { command: [sh, check.sh], format: tap } }\nprograms: { env: { FLAVOR: plain } }\n",
        )
        .file(
            "project/check.sh",
            &format!(
                r#"
say() {{ if eval "$2"; then echo "ok - $1"; else echo "not ok - $1"; fi; }}
echo TAP version 13
say home '[ "$HOME" = /tmp ]'
say temporary 'echo x > "$TMPDIR/x" && [ -s /tmp/x ]'
say null 'echo x > /dev/null'
say random 'head -c 1 /dev/urandom > /dev/null'
say variable '[ "$FLAVOR" = plain ]'
say keys '! env | grep -q -e API_KEY -e OTTO_'
say project 'echo x > built && rm built'
say network '! timeout 2 bash -c "exec 3<>/dev/tcp/{}/{}" 2>/dev/null'
echo 1..8
"#,
                outside.address.ip(),
                outside.address.port()
            ),
        );
    let answer = tests_of(world, "{}");
    assert_eq!(answer["outcome"], "passed", "{answer:#}");
    assert_eq!(answer["totals"]["passed"], 8, "{answer:#}");
    assert_eq!(outside.connections(), 0);
}

#[test]
fn a_program_that_does_not_end_is_ended_with_its_children() {
    let world =
        project("tool_settings: { test_runner: { command: [sh, -c, 'sleep 300 & sleep 300'] } }\n");
    let answer = tests_of(world, "{ time_limit_s: 1 }");
    assert_eq!(answer["outcome"], "timed_out", "{answer:#}");
}

#[test]
fn the_operators_limits_hold_for_single_calls() {
    let world = World::new()
        .file("project/.otto/agents/helper.yml", &agent("fs.read", ""))
        .file(
            "config/otto/config.yml",
            "tool_limits: { fs.read: { output: 100 } }\n",
        )
        .file("project/long.txt", &"x".repeat(5_000))
        .with_model(
            "turns:\n  - tool: { name: fs.read, input: { path: long.txt } }\n  - text: done\n",
        );
    let calls = run(&world);
    assert!(calls[0].2.len() < 200, "{}", calls[0].2);
    assert!(calls[0].2.contains("cut"), "{}", calls[0].2);
}

/// Whether a program is there; says so if it is not, and fails where the tests must not be skipped.
#[expect(
    clippy::print_stderr,
    reason = "a skipped test says so where test output is read"
)]
#[track_caller]
fn is_installed(program: &str, args: &[&str], package: &str) -> bool {
    let ran = Command::new(program).args(args).output();
    let is_there = ran.is_ok_and(|output| output.status.success());
    if !is_there {
        let required = std::env::var_os("OTTO_TEST_REQUIRE_TOOLS").is_some();
        assert!(
            !required,
            "{program} does not run; install the Debian package {package}"
        );
        eprintln!("skipped: {program} does not run (Debian package {package})");
    }
    is_there
}
