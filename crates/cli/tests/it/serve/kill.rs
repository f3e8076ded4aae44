//! The kill switch on a running server: what is at work stops, and the programs that its tools run are gone.
//!
//! As in `kill.rs`, a machine that gives a process no time says nothing, so the best of several trials has to keep
//! the bound.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::follow::follow;
use super::{Served, client, in_async, json};
use crate::kill::{BOUND, BUSY, TRIALS, last_beginning, log_of, world};
use crate::sse::Told;
use crate::world::{PATIENCE, World};

async fn create(served: &Served) -> String {
    let body = json!({"agent": "helper", "task": "go"});
    let create = client()
        .post(format!("{}/v1/invocations", served.url))
        .json(&body);
    let (status, ids) = json(create).await;
    assert_eq!(status, 202, "{ids}");
    ids["events"].as_str().unwrap().to_owned()
}

async fn throw_over_http(served: &Served) {
    let throw = client()
        .put(format!("{}/v1/kill", served.url))
        .json(&json!({"reason": "a drill"}));
    assert_eq!(json(throw).await.0, 204);
}

/// It was ended by the switch.
#[track_caller]
fn was_killed(told: &[Told]) {
    let last = told.last().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["outcome"]),
        ("finished", &json!("cancelled"))
    );
    assert!(last.data.to_string().contains("kill switch"), "{last:?}");
}

#[test]
fn the_request_stops_what_is_at_work() {
    let mut late = Vec::new();
    for _ in 0..TRIALS {
        let world = world(BUSY);
        let world = {
            let log = world.path("log.json");
            world.set("OTTO_LOG_FILE", log.to_str().unwrap())
        };
        let served = Served::start(&world);
        let (told, acknowledged) = in_async(async {
            let events = create(&served).await;
            tokio::time::timeout(PATIENCE, world.server().asked(3))
                .await
                .expect("it gets to work");
            throw_over_http(&served).await;
            let acknowledged = SystemTime::now();
            (follow(&served.url, &events, None).await, acknowledged)
        });
        was_killed(&told);
        let last = last_beginning(&log_of(&world, "log.json"));
        in_async(async {
            let again = client()
                .post(format!("{}/v1/invocations", served.url))
                .json(&json!({"agent": "helper", "task": "quick"}));
            let (status, problem) = json(again).await;
            assert_eq!(
                (status, &problem["type"]),
                (503, &json!("urn:otto:problem:killed"))
            );
        });
        match last.duration_since(acknowledged) {
            Ok(after) if after > BOUND => late.push(after),
            _ => return,
        }
    }
    panic!("in no trial did the last beginning come within {BOUND:?}: {late:?}");
}

#[derive(Debug, Clone, Copy)]
enum Trigger {
    Command,
    File,
    Signal,
    Http,
}

impl Trigger {
    fn throw(self, world: &World, served: &Served) {
        match self {
            Self::Command => drop(world.otto(["kill", "a drill"]).expect(0)),
            Self::File => fs::write(world.path("project/var/otto/KILL"), "").unwrap(),
            Self::Signal => served.signal("USR1"),
            Self::Http => in_async(throw_over_http(served)),
        }
    }
}

#[test]
fn each_trigger_ends_the_programs_that_tools_run() {
    for trigger in [
        Trigger::Command,
        Trigger::File,
        Trigger::Signal,
        Trigger::Http,
    ] {
        let late: Vec<Duration> = (0..TRIALS)
            .map(|trial| until_gone(trigger, trial))
            .take_while(|after| *after > BOUND)
            .collect();
        assert!(
            late.len() < TRIALS,
            "in no trial were the programs gone within {BOUND:?} of {trigger:?}: {late:?}"
        );
    }
}

/// How long after the acknowledgment of a trigger the last program of a running tool was gone.
fn until_gone(trigger: Trigger, trial: usize) -> Duration {
    // A length of sleep that nobody else sleeps finds the programs among all of the machine.
    let length = format!("300.{}{}{trial}", std::process::id(), trigger as u32);
    let world = World::new()
        .file(
            "project/.otto/agents/helper.yml",
            &format!(
                "name: helper\nmodel: claude-haiku-4-5\ntools: [test_runner]\nworking_dir: .\nbudgets: {{ cost: $0.50, time: 5m }}\n\
                 tool_settings: {{ test_runner: {{ command: [sh, -c, 'sleep {length} & sleep {length}'] }} }}\n"
            ),
        )
        .with_model("turns: [{ tool: { name: test_runner, input: {} } }, { text: done }]");
    let served = Served::start(&world);
    let events = in_async(create(&served));
    // The shell, and what it has started.
    wait_for(|| programs_with(&length) >= 3);
    trigger.throw(&world, &served);
    let acknowledged = Instant::now();
    wait_for(|| programs_with(&length) == 0);
    let after = acknowledged.elapsed();
    was_killed(&in_async(follow(&served.url, &events, None)));
    after
}

/// How many processes of this machine have this word on their command line.
fn programs_with(word: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(word))
        .count()
}

#[track_caller]
fn wait_for(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}
