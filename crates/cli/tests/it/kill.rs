//! Each trigger of the kill switch on the real binary: what runs stops, nothing new begins, what is stored
//! stays, until it is lifted.
//!
//! Shown by the process's own log, not by a stopwatch: behind the record `kill_switch_thrown` there is no
//! record of a beginning, ever. That the switch arrives within 100 ms is a promise on a machine that gives
//! the process its time; on one that does not, a trial says nothing, so the best of several has to keep it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::world::World;

/// Works without end: a model call and a tool call every few milliseconds.
pub(crate) const BUSY: &str = r#"
conversations:
  - when: 'task | keep "^quick"'
    turns: [{ text: done }]
  - turns:
      - text: I look.
        tool: { name: grep, input: { pattern: "a{{ turn }}b" } }
        repeat: forever
"#;

/// From the acknowledgment of a trigger to the last beginning.
pub(crate) const BOUND: Duration = Duration::from_millis(100);
/// BOUND: trials of one trigger.
pub(crate) const TRIALS: usize = 5;

pub(crate) fn world(script: &str) -> World {
    World::new()
        .with_model(script)
        .file(
            "project/.otto/agents/helper.yml",
            "name: helper\nmodel: claude-haiku-4-5\ntools: [grep]\nworking_dir: .\nbudgets: { cost: $9, time: 5m, turns: 9000, tokens: 900M }\n",
        )
        .file("project/notes.txt", "buy milk\n")
        .set("OTTO_LOG", "otto=info")
        .set("OTTO_LOG_FORMAT", "json")
}

/// An `otto run` that is at work.
struct AtWork {
    child: Child,
    rest: std::thread::JoinHandle<Vec<String>>,
}

impl AtWork {
    /// Starts it, and waits until a tool call of it has ended.
    fn start(world: &World, log: &str) -> Self {
        let mut child = world
            .command(["run", "helper", "go", "--json"])
            .env("OTTO_LOG_FILE", world.path(log))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let is_at_work = lines.any(|line| line.contains(r#""type":"tool_finished""#));
        assert!(is_at_work, "it ended before it called a tool");
        // Read on, so that it never waits for us.
        let rest = std::thread::spawn(move || lines.collect());
        Self { child, rest }
    }

    /// Its exit code and last line.
    fn end(mut self) -> (i32, Value) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let lines = self.rest.join().unwrap();
        let report = lines.last().expect("it reports");
        (code, serde_json::from_str(report).unwrap())
    }
}

pub(crate) fn log_of(world: &World, log: &str) -> Vec<Value> {
    fs::read_to_string(world.path(log))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn is_beginning(record: &Value) -> bool {
    ["model_call_started", "tool_started", "invocation_started"]
        .iter()
        .any(|event| record["event"] == *event)
}

fn time_of(record: &Value) -> SystemTime {
    let text = record["timestamp"].as_str().unwrap();
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// When the last thing began that a process began, of which its log says that it obeyed the switch.
#[track_caller]
pub(crate) fn last_beginning(records: &[Value]) -> SystemTime {
    let thrown = records
        .iter()
        .position(|record| record["event"] == "kill_switch_thrown")
        .expect("the process tells that it obeys");
    let begun: Vec<_> = records[thrown..]
        .iter()
        .filter(|record| is_beginning(record))
        .collect();
    assert!(begun.is_empty(), "begun behind the switch: {begun:#?}");
    let last = records[..thrown]
        .iter()
        .rfind(|record| is_beginning(record));
    time_of(last.expect("it was at work"))
}

/// Throws the switch with `trigger` while an agent is at work, and looks at what it did.
fn shows_a_stop(trigger: impl Fn(&World, &Child)) {
    let world = world(BUSY);
    let mut late = Vec::new();
    for trial in 0..TRIALS {
        let log = format!("log-{trial}.json");
        let at_work = AtWork::start(&world, &log);
        trigger(&world, &at_work.child);
        let acknowledged = SystemTime::now();
        let (code, report) = at_work.end();
        assert_eq!(
            (code, &report["outcome"]),
            (7, &"cancelled".into()),
            "{report}"
        );
        assert!(report.to_string().contains("kill switch"), "{report}");

        let last = last_beginning(&log_of(&world, &log));

        // It holds, also for processes that come now; what is stored can be read.
        let requests = world.server().stats().requests;
        let refused = world.otto(["run", "helper", "quick"]).expect(5);
        assert!(refused.stderr.contains("kill switch"), "{refused:?}");
        assert_eq!(world.server().stats().requests, requests);
        let session = report["session"].as_str().unwrap();
        world.otto(["show", session]).expect(0);
        world.otto(["kill", "--lift"]).expect(0);
        world.otto(["run", "helper", "quick"]).expect(0);

        match last.duration_since(acknowledged) {
            Ok(after) if after > BOUND => late.push(after),
            _ => return,
        }
    }
    panic!("in no trial did the last beginning come within {BOUND:?}: {late:?}");
}

#[test]
fn the_command_stops_every_process_on_the_state_directory() {
    shows_a_stop(|world, _| {
        world.otto(["kill", "a drill"]).expect(0);
    });
}

#[test]
fn the_file_stops_by_being_there() {
    shows_a_stop(|world, _| {
        fs::write(world.path("project/var/otto/KILL"), "").unwrap();
    });
}

#[test]
fn the_signal_stops() {
    shows_a_stop(|_, child| signal(child, "USR1"));
}

#[test]
fn the_environment_stops_from_the_start() {
    let world = world(BUSY).set("OTTO_KILL_SWITCH", "true");
    let ran = world.otto(["run", "helper", "quick"]).expect(5);
    assert!(ran.stderr.contains("OTTO_KILL_SWITCH"), "{ran:?}");
    assert_eq!(world.server().stats().requests, 0);
    // It cannot be lifted from outside while it is set, and says so.
    let ran = world.otto(["kill", "--lift"]).expect(5);
    assert!(ran.stderr.contains("unset OTTO_KILL_SWITCH"), "{ran:?}");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn the_doctor_tells_of_a_thrown_switch_and_how_to_lift_it() {
    let world = world(BUSY);
    // In the state directory alone, before anything was stored, and in the store.
    for is_stored in [false, true] {
        if is_stored {
            world.otto(["run", "helper", "quick"]).expect(0);
        }
        world.otto(["kill", "drill"]).expect(0);
        let told = world.otto(["doctor"]);
        assert!(told.stdout.contains("no agent runs"), "{told:?}");
        assert!(told.stdout.contains("otto kill --lift"), "{told:?}");
        world.otto(["kill", "--lift"]).expect(0);
        let told = world.otto(["doctor"]);
        assert!(!told.stdout.contains("no agent runs"), "{told:?}");
    }
}
