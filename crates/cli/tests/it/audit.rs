//! The audit log and audit mode, through the command.

use crate::world::World;

const SCRIPT: &str = "
turns:
  - tools:
      - { name: fs.read, input: { path: notes.txt } }
      - { name: fs.read, input: { path: /etc/passwd } }
      - { name: fs.write, as: own, input: { path: .otto/x, content: x } }
  - text: done
";

#[test]
fn what_happened_is_in_the_log_and_the_log_shows_when_it_is_cut() {
    let world = World::new()
        .with_agent()
        .with_model(SCRIPT)
        .file("project/notes.txt", "buy milk\n");
    let ran = world.otto(["audit", "head"]).expect(2);
    assert!(ran.stderr.contains("no audit log here yet"), "{ran:?}");
    world.otto(["run", "helper", "work"]).expect(0);
    let (_, facts) = world.json(["audit", "log"]);
    let of = |what: &'static str| facts.iter().filter(move |fact| fact["what"] == what);
    assert_eq!(facts[0]["what"], "configuration");
    assert!(
        facts[0]["ceilings.day"]
            .as_str()
            .unwrap()
            .contains("$10.00")
    );
    let started = of("invocation_started").next().unwrap();
    assert_eq!(started["granted"], "read+write");
    assert_eq!(of("reserved").count(), 2);
    assert_eq!(of("settled").count(), 2);
    assert_eq!(
        (of("tool_started").count(), of("tool_ended").count()),
        (3, 3)
    );
    let refused: Vec<&str> = of("tool_ended")
        .filter(|fact| fact["ending"] == "denied")
        .map(|fact| fact["refused_by"].as_str().unwrap())
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.contains(&"kernel") && refused.contains(&"path_rule"));
    assert_eq!(
        of("invocation_ended").next().unwrap()["outcome"],
        "completed"
    );
    let text = format!("{facts:?}");
    assert!(!text.contains("test-key-of-nobody") && !text.contains("buy milk"));

    let anchor = world.otto(["audit", "head"]).expect(0).stdout;
    let anchor = anchor.trim();
    world.otto(["audit", "head", "--anchor", anchor]).expect(0);
    world.otto(["kill", "a drill"]).expect(0);
    world.otto(["kill", "--lift"]).expect(0);
    let (_, facts) = world.json(["audit", "log", "--what", "kill_switch_thrown"]);
    assert_eq!(facts[0]["reason"], "a drill");
    world.otto(["audit", "head", "--anchor", anchor]).expect(0);
    // Another log in its place does not hold the anchor.
    std::fs::remove_dir_all(world.path("project/var")).unwrap();
    world.otto(["run", "helper", "work"]).expect(0);
    let ran = world.otto(["audit", "head", "--anchor", anchor]).expect(1);
    assert!(ran.stdout.contains("cut or rewritten"), "{ran:?}");
    let ran = world.otto(["audit", "head", "--anchor", "7"]).expect(2);
    assert!(ran.stderr.contains("not an anchor"), "{ran:?}");
}

#[test]
fn audit_mode_lets_pass_what_policy_refuses_and_reports_the_policy_that_would() {
    let world = World::new()
        .with_agent()
        .file("config/otto/config.yml", "tools: [fs.read, grep]\n")
        .with_model(
            "turns: [{ tool: { name: fs.write, input: { path: made.txt, content: x } } }, { text: done }]",
        );
    // Enforced, the agent does not even load.
    let ran = world.otto(["run", "helper", "work"]).expect(2);
    assert!(
        ran.stderr
            .contains("`fs.write` is not on the operator's allowlist"),
        "{ran:?}"
    );
    let ran = world.otto(["audit", "report"]).expect(0);
    assert!(ran.stderr.contains("let nothing pass"), "{ran:?}");

    let world = world.set("OTTO_AUDIT", "true");
    let (code, lines) = world.json(["run", "helper", "work"]);
    assert_eq!(code, 0, "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line["type"] == "would_deny" && line["tool"] == "fs.write")
    );
    assert!(world.path("project/made.txt").exists());
    // Money is not among what audit mode lets pass.
    world
        .otto(["run", "helper", "work", "--cost", "$0.000001"])
        .expect(3);

    let ran = world.otto(["audit", "report"]).expect(0);
    assert_eq!(
        ran.stdout,
        "tools:\n  - \"fs.read\"\n  - \"grep\"\n  - \"fs.write\"  # 1 time, by helper\n"
    );
    // What the report says is what the operator needs: with it, the same passes without audit mode.
    let world = world
        .file("config/otto/config.yml", &ran.stdout)
        .set("OTTO_AUDIT", "false");
    world.otto(["run", "helper", "work"]).expect(0);
}

#[test]
fn a_project_cannot_switch_audit_mode_on() {
    let world = World::new()
        .file(
            "project/.otto/agents/other.yml",
            "name: other\nmodel: claude-haiku-4-5\naudit: true\n",
        )
        .file("project/.otto/config.yml", "audit: true\n")
        .with_model("turns: [{ text: done }]");
    let ran = world.otto(["run", "other", "work"]).expect(2);
    assert!(ran.stderr.contains("unknown key `audit`"), "{ran:?}");
    let world = world.with_agent();
    std::fs::remove_file(world.path("project/.otto/agents/other.yml")).unwrap();
    let ran = world.otto(["config", "explain", "audit"]).expect(0);
    assert!(ran.stdout.contains("false"), "{ran:?}");
}

#[test]
fn an_unknown_kind_of_fact_is_answered_with_those_that_there_are() {
    let ran = World::new()
        .otto(["audit", "log", "--what", "banana"])
        .expect(2);
    assert!(
        ran.stderr.contains("banana") && ran.stderr.contains("tool_ended, would_deny"),
        "{ran:?}"
    );
}
