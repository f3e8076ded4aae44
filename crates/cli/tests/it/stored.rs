//! What is stored, looked at afterwards: sessions, show, usage, kill.

use crate::world::World;

fn world_with_a_session() -> (World, String) {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: 'You asked: {{ task }}' }]");
    world.otto(["run", "helper", "first task"]).expect(0);
    let (_, lines) = world.json(["sessions"]);
    let id = lines[0]["id"].as_str().unwrap().to_owned();
    (world, id)
}

#[test]
fn looking_creates_nothing() {
    let world = World::new();
    assert_eq!(
        world.otto(["sessions"]).expect(0).stderr,
        "no sessions yet; `otto run AGENT TASK` begins one\n"
    );
    world.otto(["usage"]).expect(0);
    assert!(!world.path("project/var").exists());
    let ran = world
        .otto(["show", "0190b3c2-7d4e-7abc-8def-0123456789ab"])
        .expect(2);
    assert!(
        ran.stderr.contains("there is no session or invocation"),
        "{ran:?}"
    );
}

#[test]
fn a_session_is_listed_and_shown() {
    let (world, id) = world_with_a_session();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUID v7: {id}");
    assert!(
        world
            .otto(["sessions"])
            .expect(0)
            .stdout
            .contains("first task")
    );
    let ran = world.otto(["show", &id]).expect(0);
    assert!(
        ran.stdout.contains("first task")
            && ran.stdout.contains("You asked: first task")
            && ran.stdout.contains("completed"),
        "{ran:?}"
    );
    let transcript = world.otto(["show", &id, "--transcript"]).expect(0).stdout;
    assert!(
        transcript.lines().count() >= 2
            && transcript
                .lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );

    let (_, lines) = world.json(["show", &id]);
    let result = lines
        .iter()
        .find(|line| line["type"] == "artifact" && line["kind"] == "result")
        .unwrap();
    let path = result["path"].as_str().unwrap();
    let content = world
        .otto(["show", &id, "--artifact", path])
        .expect(0)
        .stdout;
    assert_eq!(content.len() as u64, result["size_bytes"].as_u64().unwrap());
    assert!(content.contains("You asked: first task"));
    assert!(
        world
            .path("project/var/otto/sessions")
            .join(&id)
            .join(path)
            .is_file()
    );

    let second = world
        .otto(["run", "helper", "second task", "--session", &id])
        .expect(0);
    assert!(second.stderr.contains(&id));
    let (_, lines) = world.json(["sessions"]);
    assert_eq!((lines.len(), &lines[0]["invocations"]), (1, &2.into()));
    assert_eq!(lines[0]["title"], "first task");
}

#[test]
fn usage_adds_up_to_the_picodollar() {
    let (world, _) = world_with_a_session();
    world.otto(["run", "helper", "second task"]).expect(0);
    let sum = |by: &str| -> u64 {
        let (_, lines) = world.json(["usage", "--by", by]);
        lines
            .iter()
            .map(|line| line["charged"]["picodollars"].as_u64().unwrap())
            .sum()
    };
    let (_, sessions) = world.json(["sessions"]);
    let charged: u64 = sessions
        .iter()
        .map(|line| line["charged"]["picodollars"].as_u64().unwrap())
        .sum();
    assert!(charged > 0);
    for by in [
        "day",
        "agent",
        "model",
        "session",
        "invocation",
        "day,agent,model",
    ] {
        assert_eq!(sum(by), charged, "{by}");
    }
    let ran = world.otto(["usage"]).expect(0);
    assert!(
        ran.stdout.contains("helper")
            && ran
                .stdout
                .contains("of $10.00 spent (ceiling set by default)"),
        "{ran:?}"
    );
    let (_, none) = world.json(["usage", "--agent", "nobody"]);
    assert!(none.is_empty());
}

#[test]
fn the_kill_switch_holds_until_it_is_lifted() {
    let (world, id) = world_with_a_session();
    let requests = world.server().stats().requests;
    assert!(
        world
            .otto(["kill", "too expensive"])
            .expect(0)
            .stdout
            .contains("the kill switch is thrown: too expensive")
    );
    let ran = world.otto(["run", "helper", "hi"]).expect(5);
    assert!(
        ran.stderr.contains("too expensive") && ran.stderr.contains("otto kill --lift"),
        "{ran:?}"
    );
    assert_eq!(world.server().stats().requests, requests);
    world.otto(["show", &id]).expect(0);
    world.otto(["kill", "--lift"]).expect(0);
    world.otto(["run", "helper", "hi"]).expect(0);
}

#[test]
fn a_higher_limit_takes_a_stopped_session_up_again() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: done at last }]");
    world
        .otto(["run", "helper", "hi", "--cost", "$0.000001"])
        .expect(3);
    let (_, lines) = world.json(["sessions"]);
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["resumable"]),
        (&"budget_exhausted".into(), &true.into())
    );
    let id = lines[0]["id"].as_str().unwrap();
    let ran = world.otto(["resume", id, "--raise", "cost=0.20"]).expect(0);
    assert_eq!(ran.stdout, "done at last\n");
    let ran = world.otto(["resume", id]).expect(2);
    assert!(ran.stderr.contains("cannot be resumed"), "{ran:?}");
    world
        .otto(["resume", "0190b3c2-7d4e-7abc-8def-0123456789ab"])
        .expect(2);
}
