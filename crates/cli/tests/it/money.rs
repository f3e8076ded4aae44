//! Budgets that are shared, plans, raised limits, and calls that wait for a person.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;

use crate::world::World;

const HELLO: &str = "turns: [{ text: 'You asked: {{ task }}' }]";

fn picodollars(value: &Value) -> u64 {
    value["picodollars"].as_u64().unwrap()
}

#[test]
fn a_named_budget_is_drawn_on_by_several_agents() {
    let world = World::new()
        .with_agent()
        .with_model(HELLO)
        .file(
            "project/.otto/agents/other.yml",
            "name: other\nmodel: claude-haiku-4-5\n",
        )
        .file(
            "project/.otto/agents/free.yml",
            "name: free\nmodel: claude-haiku-4-5\n",
        )
        .file(
            "config/otto/config.yml",
            "budgets: { research: { cost: $0.09, per: ever, agents: [helper, other] } }\n",
        );
    world.otto(["run", "helper", "hi"]).expect(0);
    let spent = world.server().billed().cost;
    // What one has spent is gone for the other: the limit is now what was spent.
    let world = world.file(
        "config/otto/config.yml",
        &format!(
            "budgets: {{ research: {{ cost: \"{spent}\", per: ever, agents: [helper, other] }} }}\n"
        ),
    );
    let requests = world.server().stats().requests;
    let ran = world.otto(["run", "other", "hi"]).expect(3);
    assert!(
        ran.stderr.contains("reached in budget research: ") && ran.stderr.contains("config.yml:1"),
        "{ran:?}"
    );
    assert_eq!(world.server().stats().requests, requests);
    world.otto(["run", "free", "hi"]).expect(0);
    let ran = world.otto(["config", "explain", "budgets"]).expect(0);
    assert!(ran.stdout.contains("by helper, other"), "{ran:?}");
}

#[test]
fn mistakes_in_named_budgets_are_told_with_their_place() {
    for (budgets, expected) in [
        ("{ research: { per: day } }", "limits nothing"),
        ("{ research: { cost: $1, per: week } }", "is no period"),
        ("{ ../x: { cost: $1 } }", "budget name"),
        ("{ research: { cost: $1, agent: [a] } }", "agents"),
        ("{ research: { cost: $1, agents: [a b] } }", "agent name"),
    ] {
        let world = World::new().with_agent().file(
            "config/otto/config.yml",
            &format!("enabled: true\nbudgets: {budgets}\n"),
        );
        let ran = world.otto(["check"]).expect(2);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            told.contains(expected) && told.contains("config.yml:2"),
            "{budgets}: {told}"
        );
    }
}

#[test]
fn a_plan_is_a_range_that_what_happens_lies_in() {
    let world = World::new().with_agent().with_model(HELLO);
    let world = world.set("ANTHROPIC_API_KEY", "");
    let (code, lines) = world.json(["plan", "helper", "hello", "there"]);
    assert_eq!(code, 0, "{lines:?}");
    // Nothing was sent, and nothing was stored.
    assert_eq!(world.server().stats().requests, 0);
    assert!(!world.path("project/var").exists());
    let plan = &lines[0];
    let (least, most) = (picodollars(&plan["least"]), picodollars(&plan["most"]));
    assert_eq!(plan["bound_by"]["resource"], "cost");
    assert!(
        plan["bound_by"]["origin"]
            .as_str()
            .unwrap()
            .contains("helper.yml:5")
    );
    assert_eq!(most, 500_000_000_000);

    let world = world.set("ANTHROPIC_API_KEY", "test-key-of-nobody");
    let (_, lines) = world.json(["run", "helper", "hello", "there"]);
    let held = lines
        .iter()
        .find(|line| line["type"] == "turn_started")
        .map(|line| &line["held"])
        .unwrap();
    assert_eq!(
        &plan["first_call"]["held"], held,
        "the plan is what happens"
    );
    let charged = picodollars(&lines.last().unwrap()["charged"]);
    assert!(
        (least..=most).contains(&charged),
        "{least} {charged} {most}"
    );

    let ran = world
        .otto(["plan", "helper", "hi", "--cost", "$0.000001"])
        .expect(3);
    assert!(
        ran.stdout.contains("not made: cost limit of $0.000001"),
        "{ran:?}"
    );
    let ran = world
        .otto(["plan", "helper", "hi", "--turns", "1"])
        .expect(0);
    assert!(ran.stdout.contains("what binds first: the "), "{ran:?}");
    let ran = world.otto(["plan", "helpr", "hi"]).expect(2);
    assert!(ran.stderr.contains("did you mean `helper`?"), "{ran:?}");
}

#[test]
fn a_raised_limit_must_be_one() {
    let world = World::new().with_agent().with_model(HELLO);
    let id = "0190b3c2-7d4e-7abc-8def-0123456789ab";
    for (raise, expected) in [
        ("cost", "expected LIMIT=VALUE"),
        ("money=1", "there is no limit `money`"),
        ("cost=-1", "is not an amount of money"),
        ("time=5", "is not a duration"),
    ] {
        let ran = world.otto(["resume", id, "--raise", raise]).expect(2);
        assert!(ran.stderr.contains(expected), "{raise}\n{}", ran.stderr);
    }
}

const CALLS_HOME: &str = "
turns:
  - text: I tell them.
    tool: { name: http, as: told, input: { url: 'http://127.0.0.1:PORT/order', method: POST, body: 'one pizza' } }
  - text: '{{ failed.told | then \"failed\" | default \"done\" }}: {{ result.told | nth 0 }}'
";

/// A world whose agent was killed while its order was on the way: nobody knows whether it arrived.
fn interrupted() -> (World, String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = World::new()
        .file(
            "project/.otto/agents/caller.yml",
            &format!("name: caller\nmodel: claude-haiku-4-5\ntools: [http]\nallowed_hosts: ['127.0.0.1:{port}']\nbudgets: {{ cost: $0.50, time: 1m }}\n"),
        )
        .file(
            "config/otto/config.yml",
            &format!("ask_person: [http]\nprivate_hosts: ['127.0.0.1:{port}']\n"),
        )
        .with_model(&CALLS_HOME.replace("PORT", &port.to_string()));
    let mut child = world
        .command(["run", "caller", "order"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The order has arrived; the answer never comes.
    let (mut connection, _) = listener.accept().unwrap();
    let mut first = [0; 4];
    connection.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"POST");
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, sessions) = world.json(["sessions"]);
    let id = sessions[0]["id"].as_str().unwrap().to_owned();
    (world, id, listener)
}

#[test]
fn a_limit_above_the_agents_is_cut_and_that_is_said() {
    let world = World::new().with_agent().with_model(HELLO);
    let ran = world
        .otto(["run", "helper", "hi", "--cost", "5", "--turns", "3"])
        .expect(0);
    assert!(
        ran.stderr
            .contains("note: cost: $5.00 was asked for (--cost), $0.50 is in force, the limit of ")
            && ran.stderr.contains(".otto/agents/helper.yml:5"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains("note: turns"), "{ran:?}");
    let (_, lines) = world.json(["run", "helper", "hi", "--cost", "5", "--turns", "3"]);
    let cut = lines[0]["not_granted"].as_array().unwrap();
    assert_eq!(
        (cut.len(), &cut[0]["limit"], &cut[0]["in_force"]),
        (1, &"cost".into(), &"$0.50".into())
    );
    assert_eq!(lines[0]["limits"]["cost"]["usd"], "$0.50");
}

#[test]
fn a_connection_that_was_refused_is_no_call_without_a_usage_record() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let world = World::new()
        .with_agent()
        .with_model(HELLO)
        .set("ANTHROPIC_BASE_URL", url);
    // No time is left for another attempt.
    let run = ["run", "helper", "hi", "--time", "300ms"];
    let ran = world.otto(run).expect(6);
    assert!(ran.stderr.contains("cannot connect"), "{ran:?}");
    assert!(!ran.stderr.contains("no usage record"), "{ran:?}");
    let (_, lines) = world.json(run);
    let settled = lines.iter().find(|line| line["type"] == "settled").unwrap();
    assert_eq!(
        (
            &settled["usage"]["input_tokens"],
            &settled["charged"]["usd"]
        ),
        (&0.into(), &"$0.00".into()),
        "null would say that the hold was charged"
    );
    let (_, facts) = world.json(["audit", "log", "--what", "settled"]);
    assert!(
        !facts.is_empty() && facts.iter().all(|fact| fact["tokens"] == 0),
        "{facts:?}"
    );
}

#[test]
fn a_session_whose_process_died_is_interrupted_and_not_running() {
    let (world, id, _listener) = interrupted();
    let (_, sessions) = world.json(["sessions"]);
    assert_eq!(
        (&sessions[0]["outcome"], &sessions[0]["resumable"]),
        (&"interrupted".into(), &true.into())
    );
    let listed = world.otto(["sessions"]).expect(0).stdout;
    assert!(listed.contains(" interrupted "), "{listed}");
    let shown = world.otto(["show", &id]).expect(0).stdout;
    assert!(
        shown.contains("\n  interrupted\n") && shown.contains(&format!("otto resume {id}")),
        "{shown}"
    );
    let (_, shown) = world.json(["show", &id]);
    assert_eq!(shown[0]["outcome"], "interrupted");
}

#[test]
fn an_interrupted_call_that_needs_a_person_parks_until_somebody_decides() {
    let (world, id, listener) = interrupted();
    // Without a word it parks, and says so wherever it is looked at.
    let ran = world.otto(["resume", &id]).expect(7);
    let decide = format!("otto resume {id} --decide not-done");
    for told in [
        "\nparked after ",
        "needs a person's decision",
        "one pizza",
        &decide,
    ] {
        assert!(ran.stderr.contains(told), "{told}: {ran:?}");
    }
    assert!(!ran.stderr.contains("cancelled"), "{ran:?}");
    let (code, lines) = world.json(["resume", &id]);
    let report = lines.last().unwrap();
    assert_eq!(
        (code, &report["parked"], &report["open_calls"][0]["tool"]),
        (7, &true.into(), &"http".into())
    );
    let (_, sessions) = world.json(["sessions"]);
    assert_eq!(
        (&sessions[0]["parked"], &sessions[0]["resumable"]),
        (&true.into(), &true.into())
    );
    assert!(
        world
            .otto(["sessions"])
            .expect(0)
            .stdout
            .contains(" parked ")
    );
    let ran = world.otto(["show", &id]).expect(0);
    assert!(
        ran.stdout.contains("one pizza") && ran.stdout.contains("--decide done "),
        "{ran:?}"
    );
    let (_, shown) = world.json(["show", &id]);
    let open = &shown
        .iter()
        .find(|line| line["type"] == "invocation")
        .unwrap()["open_calls"];
    assert_eq!(
        (&open[0]["tool"], &open[0]["input"]["body"]),
        (&"http".into(), &"one pizza".into())
    );
    // A person says that it arrived: it is not sent again, and the model is told.
    let ran = world.otto(["resume", &id, "--decide", "done"]).expect(0);
    assert!(
        ran.stdout.contains(
            "done: A person has checked this call, which was interrupted: it took effect."
        ),
        "{ran:?}"
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the order was sent once");
}

#[test]
fn a_person_can_say_that_nothing_happened() {
    let (world, id, listener) = interrupted();
    let ran = world
        .otto(["resume", &id, "--decide", "not-done"])
        .expect(0);
    assert!(
        ran.stdout.contains("failed: A person has checked"),
        "{ran:?}"
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    world.otto(["resume", &id, "--decide", "perhaps"]).expect(2);
}
