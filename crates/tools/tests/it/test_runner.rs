//! `test_runner`: which program is asked for, and what is made of its output.

use std::fs;
use std::time::{Duration, Instant};

use otto_sandbox::{
    Access, Dir, ExecEnd, ExecOutcome, ExecRequest, FailureKind, ToolFailure, WorkerAnswer,
    WorkerCtx, WorkerRequest,
};
use serde_json::{Value, json};

use crate::world::World;

fn dispatch(
    world: &World,
    input: &Value,
    settings: Option<&Value>,
    exec: Option<ExecOutcome>,
) -> WorkerAnswer {
    let dir = Dir::open(&fs::canonicalize(world.wd("")).unwrap(), Access::ReadOnly).unwrap();
    let ctx = WorkerCtx {
        working_dir: Some(dir),
        ..WorkerCtx::compute(Instant::now() + Duration::from_secs(60))
    };
    let request = WorkerRequest {
        tool: "test_runner".to_owned(),
        input: input.to_string(),
        settings: settings.map(ToString::to_string),
        max_output_bytes: 8 * 1024 * 1024,
        time_left: Duration::from_secs(60),
        exec,
        takes_files: false,
    };
    otto_tools::dispatch(&ctx, &request)
}

#[track_caller]
fn asks(world: &World, input: Value, settings: Option<Value>) -> ExecRequest {
    match dispatch(world, &input, settings.as_ref(), None) {
        WorkerAnswer::Exec(request) => request,
        other => panic!("{input}: {other:?}"),
    }
}

#[track_caller]
fn fails(world: &World, input: Value, settings: Option<Value>) -> ToolFailure {
    match dispatch(world, &input, settings.as_ref(), None) {
        WorkerAnswer::Failed(failure) => failure,
        other => panic!("{input}: {other:?}"),
    }
}

#[track_caller]
fn result(world: &World, input: Value, settings: Option<Value>, outcome: ExecOutcome) -> Value {
    match dispatch(world, &input, settings.as_ref(), Some(outcome)) {
        WorkerAnswer::Done { content } => serde_json::from_str(&content).unwrap(),
        other => panic!("{input}: {other:?}"),
    }
}

fn ended(code: i32, stdout: &str, stderr: &str) -> ExecOutcome {
    ExecOutcome {
        end: ExecEnd::Exited(code),
        stdout: stdout.as_bytes().to_vec(),
        stderr: stderr.as_bytes().to_vec(),
        cut: false,
        elapsed: Duration::from_millis(1_500),
    }
}

#[test]
fn the_runner_fits_the_project() {
    for (files, program, first) in [
        (&[("Cargo.toml", "")][..], "cargo", "test"),
        (
            &[("Cargo.toml", ""), (".config/nextest.toml", "")],
            "cargo",
            "nextest",
        ),
        (&[("mix.exs", "")], "mix", "test"),
        (&[("pyproject.toml", "")], "python3", "-m"),
        (&[("conftest.py", "")], "python3", "-m"),
        (
            &[("package.json", r#"{"scripts":{"test":"jest"}}"#)],
            "npm",
            "test",
        ),
        (
            &[(
                "package.json",
                r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#,
            )],
            "node",
            "--test",
        ),
        (&[("package.json", "broken")], "node", "--test"),
    ] {
        let world = World::with_files(files);
        let request = asks(&world, json!({}), None);
        assert_eq!(
            (request.program.as_str(), request.args[0].as_str()),
            (program, first),
            "{files:?}"
        );
        assert_eq!(
            (request.dir.as_str(), request.time_limit),
            ("", Duration::from_secs(300))
        );
    }
    let world = World::with_files(&[("README", ""), ("app/Cargo.toml", "")]);
    assert!(
        fails(&world, json!({}), None)
            .message
            .contains("no tests were recognized")
    );
    let request = asks(
        &world,
        json!({"dir": "./app/", "filter": "name", "args": ["-p", "x y"], "time_limit_s": 7}),
        None,
    );
    assert_eq!(
        (request.dir.as_str(), request.time_limit),
        ("app", Duration::from_secs(7))
    );
    assert_eq!(
        request.args,
        [
            "test",
            "--no-fail-fast",
            "--color",
            "never",
            "-p",
            "x y",
            "name"
        ]
    );
    let settings = json!({"command": ["make", "check"], "time_limit_s": 9});
    let request = asks(&world, json!({}), Some(settings));
    assert_eq!(
        (
            request.program.as_str(),
            request.args.as_slice(),
            request.time_limit.as_secs()
        ),
        ("make", &["check".to_owned()][..], 9)
    );
}

#[test]
fn what_cannot_be_run_is_explained() {
    let world = World::with_files(&[("Cargo.toml", "")]);
    for (input, part) in [
        (json!({"dir": ".."}), "outside"),
        (json!({"dir": "nowhere"}), "no such file"),
        (json!({"dir": "Cargo.toml"}), "not a directory"),
        (json!({"runner": "command"}), "name no `command`"),
        (json!({"filter": "--config=x"}), "not an option"),
        (json!({"args": vec!["x"; 100]}), "at most 32 arguments"),
        (json!({"args": ["a\u{0}b"]}), "NUL"),
        (json!({"time_limit_s": 0}), "from 1 to 3600"),
        (json!({"runner": "rake"}), "unknown variant"),
    ] {
        let failure = fails(&world, input, None);
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    let outcome = ExecOutcome {
        end: ExecEnd::NotStarted("no such program".to_owned()),
        ..ended(0, "", "")
    };
    let WorkerAnswer::Failed(failure) = dispatch(&world, &json!({}), None, Some(outcome)) else {
        panic!("it ran")
    };
    assert_eq!(failure.kind, FailureKind::ForModel);
    assert!(failure.message.contains("cargo test") && failure.message.contains("no such program"));
}

#[test]
fn results_are_structured() {
    let world = World::with_files(&[("Cargo.toml", "")]);
    let sample = include_str!("../samples/cargo_test.txt");
    let read = result(&world, json!({}), None, ended(101, sample, "warning: x"));
    assert_eq!(read["outcome"], "failed");
    assert_eq!(
        read["totals"],
        json!({"passed": 2, "failed": 4, "skipped": 1})
    );
    assert_eq!(
        (read["exit_code"].as_i64(), read["duration_ms"].as_u64()),
        (Some(101), Some(1_500))
    );
    assert_eq!(read["failures"][0]["file"], "src/lib.rs");
    assert_eq!(read["failures"][0]["line"], 9);
    assert_eq!(read["output"], Value::Null, "the failures explain it");
    for (outcome, word, has_output) in [
        (
            ended(
                0,
                "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n",
                "",
            ),
            "passed",
            false,
        ),
        (
            ended(
                0,
                "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored\n",
                "",
            ),
            "no_tests",
            true,
        ),
        (
            ended(101, "", "error: could not compile `x`"),
            "error",
            true,
        ),
        (ended(0, sample, ""), "failed", false),
        (
            ExecOutcome {
                end: ExecEnd::TimedOut,
                ..ended(0, "running 2 tests\ntest a ... ok\n", "")
            },
            "timed_out",
            true,
        ),
        (
            ExecOutcome {
                end: ExecEnd::Signaled(11),
                ..ended(0, "running 2 tests\n", "")
            },
            "crashed",
            true,
        ),
    ] {
        let read = result(&world, json!({}), None, outcome);
        assert_eq!(
            (read["outcome"].as_str(), read["output"].is_string()),
            (Some(word), has_output),
            "{read}"
        );
    }
    let broken = result(
        &world,
        json!({}),
        None,
        ended(101, "", "\u{1b}[31merror\u{1b}[0m: here \u{7}"),
    );
    assert_eq!(broken["output"], "error: here \\u{7}");
}

#[test]
fn formats_are_recognized() {
    let world = World::with_files(&[("x", "")]);
    let settings = || Some(json!({"command": ["./check"]}));
    for (sample, failed) in [
        (include_str!("../samples/cargo_test.txt"), 4),
        (include_str!("../samples/nextest.jsonl"), 4),
        (include_str!("../samples/pytest.txt"), 4),
        (include_str!("../samples/pytest_junit.xml"), 4),
        (include_str!("../samples/mix_test.txt"), 2),
        (include_str!("../samples/node_tap.txt"), 2),
    ] {
        let read = result(&world, json!({}), settings(), ended(1, sample, ""));
        assert_eq!(read["totals"]["failed"], failed, "{read}");
        assert_eq!(
            read["failures"].as_array().map(Vec::len),
            Some(failed),
            "{read}"
        );
    }
    let unknown = result(&world, json!({}), settings(), ended(0, "all good\n", ""));
    assert_eq!(
        (&unknown["outcome"], &unknown["totals"], &unknown["output"]),
        (&json!("passed"), &Value::Null, &json!("all good"))
    );
}

#[test]
fn a_report_file_is_read_only_if_the_run_has_written_it() {
    let world = World::with_files(&[(
        "app/out/junit.xml",
        include_str!("../samples/pytest_junit.xml"),
    )]);
    let settings = || Some(json!({"command": ["./check"], "report": "out/junit.xml"}));
    let read = result(&world, json!({"dir": "app"}), settings(), ended(1, "", ""));
    assert_eq!(read["totals"]["failed"], 4, "{read}");
    let file = fs::File::options()
        .write(true)
        .open(world.wd("app/out/junit.xml"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let read = result(&world, json!({"dir": "app"}), settings(), ended(1, "", ""));
    assert_eq!(read["totals"], Value::Null);
    assert!(
        read["notes"][0].as_str().unwrap().contains("earlier run"),
        "{read}"
    );
    let settings = json!({"command": ["./check"], "report": "../../secret.txt"});
    let read = result(
        &world,
        json!({"dir": "app"}),
        Some(settings),
        ended(1, "", ""),
    );
    assert!(
        read["notes"][0].as_str().unwrap().contains("outside"),
        "{read}"
    );
}

#[test]
fn floods_are_bounded() {
    let world = World::with_files(&[("Cargo.toml", "")]);
    let mut flood = String::from("running 100000 tests\n");
    for i in 0..100_000 {
        flood.push_str(&format!("test t{i} ... FAILED\n"));
    }
    let read = result(
        &world,
        json!({}),
        None,
        ExecOutcome {
            cut: true,
            ..ended(101, &flood, "")
        },
    );
    assert_eq!(read["failures"].as_array().map(Vec::len), Some(50));
    assert_eq!(read["totals"]["failed"], 100_000);
    assert_eq!(
        read["notes"].as_array().map(Vec::len),
        Some(2),
        "{}",
        read["notes"]
    );
    let long = format!(
        "running 1 test\ntest {} ... FAILED\n",
        "n".repeat(1_000_000)
    );
    assert!(
        result(&world, json!({}), None, ended(101, &long, ""))
            .to_string()
            .len()
            < 20_000
    );
    let noise = "\u{fffd}\u{202e}x".repeat(200_000);
    assert!(
        result(&world, json!({}), None, ended(1, &noise, &noise))
            .to_string()
            .len()
            < 200_000
    );
}
