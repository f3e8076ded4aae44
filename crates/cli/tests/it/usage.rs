//! `otto usage`: sums, exports, and the comparison with a provider's account.

use std::fs;

use serde_json::Value;

use crate::world::World;

const TWO_TURNS: &str = "
turns:
  - text: I look.
    tool: { name: fs.read, input: { path: notes.txt } }
  - text: 'It says: {{ result.fs_read | nth 0 }}'
";

/// A world in which one invocation of two model calls ran.
fn world() -> World {
    let world = World::new()
        .with_agent()
        .with_model(TWO_TURNS)
        .file("project/notes.txt", "buy milk\n");
    world.otto(["run", "helper", "look"]).expect(0);
    world
}

fn picodollars(value: &Value) -> u64 {
    value["picodollars"].as_u64().unwrap()
}

/// The records of a CSV text without quotes, by column name.
fn records(csv: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            header
                .iter()
                .zip(line.split(','))
                .map(|(name, field)| ((*name).to_owned(), field.to_owned()))
                .collect()
        })
        .collect()
}

fn field<'a>(record: &'a [(String, String)], name: &str) -> &'a str {
    &record.iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn csv_is_exact_and_can_be_reconciled_with_itself() {
    let world = world();
    let billed = world.server().billed();
    let csv = world
        .otto(["usage", "--by", "day,model", "--csv"])
        .expect(0)
        .stdout;
    let rows = records(&csv);
    let [row] = rows.as_slice() else {
        panic!("{csv}")
    };
    assert_eq!(field(row, "calls"), "2");
    assert_eq!(field(row, "charged_unconfirmed_usd"), "0.000000000000");
    let charged: u64 = field(row, "charged_usd").replace('.', "").parse().unwrap();
    assert_eq!(charged, billed.cost.picodollars());
    assert_eq!(
        field(row, "output_tokens"),
        billed.usage.output_tokens.to_string()
    );

    fs::write(world.path("home/own.csv"), &csv).unwrap();
    let ran = world
        .otto(["usage", "--reconcile", "../home/own.csv"])
        .expect(0);
    assert!(
        ran.stdout.contains(" same") && ran.stdout.contains("no drift"),
        "{ran:?}"
    );

    // What the provider's API says of the same calls, in tokens.
    let usage = billed.usage;
    let day = field(row, "day");
    let report = |input_tokens: u64| {
        serde_json::json!({"data": [{"starting_at": format!("{day}T00:00:00Z"), "results": [{
            "model": field(row, "model"),
            "uncached_input_tokens": input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
                               "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens},
        }]}], "has_more": false})
        .to_string()
    };
    fs::write(world.path("home/same.json"), report(usage.input_tokens)).unwrap();
    let (code, rows) = world.json(["usage", "--reconcile", "../home/same.json"]);
    assert_eq!(
        (code, &rows[0]["standing"]),
        (0, &"same".into()),
        "{rows:?}"
    );
    fs::write(world.path("home/more.json"), report(usage.input_tokens + 1)).unwrap();
    let (code, rows) = world.json(["usage", "--reconcile", "../home/more.json"]);
    assert_eq!(
        (code, &rows[0]["standing"]),
        (1, &"more".into()),
        "{rows:?}"
    );

    let ran = world
        .otto(["usage", "--reconcile", "nowhere.csv"])
        .expect(2);
    assert!(ran.stderr.contains("nowhere.csv"), "{ran:?}");
    fs::write(world.path("home/bad.csv"), "a,b\n").unwrap();
    let ran = world
        .otto(["usage", "--reconcile", "../home/bad.csv"])
        .expect(2);
    let missing = "lacks the columns `day` or `date` or `usage_date_utc`; `model` or `model_version`; `charged_usd`";
    assert!(ran.stderr.contains(missing), "{ran:?}");
}

#[test]
fn a_call_without_usage_record_explains_what_the_provider_says_more() {
    let script = "turns: [{ text: 'cut in the middle of a sentence', faults: [{ attempt: 1, cut: { event: 4 } }] }]";
    let world = World::new().with_agent().with_model(script);
    world.otto(["run", "helper", "look"]).expect(0);
    let (_, rows) = world.json(["usage", "--by", "day,model"]);
    assert_eq!(rows[0]["unconfirmed_calls"], 1, "{rows:?}");
    let unconfirmed = picodollars(&rows[0]["charged_unconfirmed"]);
    assert!(unconfirmed > 0);
    let confirmed = picodollars(&rows[0]["charged"]) - unconfirmed;
    let billed = world.server().billed().cost.picodollars();
    assert!((confirmed..=confirmed + unconfirmed).contains(&billed));
    for (amount, standing, code) in [
        (confirmed, "same", 0),
        (billed, "explained", 0),
        (confirmed + unconfirmed, "explained", 0),
        (confirmed + unconfirmed + 2, "more", 1),
        (confirmed - 2, "less", 1),
    ] {
        let csv = format!(
            "day,model,cost_usd\n{},{},{}.{:012}\n",
            rows[0]["day"].as_str().unwrap(),
            rows[0]["model"].as_str().unwrap(),
            amount / 1_000_000_000_000,
            amount % 1_000_000_000_000
        );
        fs::write(world.path("home/export.csv"), csv).unwrap();
        let (exit, compared) = world.json(["usage", "--reconcile", "../home/export.csv"]);
        assert_eq!(
            (exit, &compared[0]["standing"]),
            (code, &standing.into()),
            "{compared:?}"
        );
    }
}

#[test]
fn tools_are_charged_for_the_answers_to_their_results() {
    let world = world();
    let (_, rows) = world.json(["usage", "--by", "tool"]);
    let of = |tool: &str| {
        rows.iter()
            .find(|row| row["tool"] == tool)
            .unwrap_or_else(|| panic!("{rows:?}"))
    };
    assert_eq!(of("fs.read")["tool_calls"], 1);
    assert!(picodollars(&of("fs.read")["charged"]) > 0);
    let sum: u64 = rows.iter().map(|row| picodollars(&row["charged"])).sum();
    assert_eq!(sum, world.server().billed().cost.picodollars());
    world.otto(["usage", "--by", "tool,day"]).expect(2);
}

#[test]
fn times_narrow_the_question() {
    let world = world();
    let today = world.json(["usage", "--by", "day"]).1[0]["day"]
        .as_str()
        .unwrap()
        .to_owned();
    let count = |args: &[&str]| {
        let mut all = vec!["usage", "--by", "day"];
        all.extend(args);
        world.json(all).1.len()
    };
    assert_eq!(count(&["--from", &today]), 1);
    assert_eq!(count(&["--to", &today]), 0);
    assert_eq!(count(&["--from", "2020-01-01", "--to", "2100-01-01"]), 1);
    assert_eq!(count(&["--last", "1h"]), 1);
    let ran = world.otto(["usage", "--from", "soon"]).expect(2);
    assert!(ran.stderr.contains("2026-11-01"), "{ran:?}");
}

#[test]
fn two_projects_of_a_user_have_one_daily_ceiling() {
    let world = world().set("OTTO_DAILY_COST", "$0.30");
    // The other project brings nothing of its own but its agents.
    let world = world.file(
        "other/.otto/agents/helper.yml",
        "name: helper\nmodel: claude-haiku-4-5\nbudgets: { cost: $0.50 }\n",
    );
    let other = world.path("other");
    let in_other = |args: &[&str]| {
        let mut all = vec!["--project", other.to_str().unwrap()];
        all.extend(args);
        world.otto(all)
    };
    in_other(&["run", "helper", "hi"]);
    let (_, here) = world.json(["usage", "--by", "day"]);
    let there = in_other(&["usage"]).expect(0);
    assert!(
        there.stdout.contains("all projects of this user: $0."),
        "{there:?}"
    );
    // What the first project used is gone for the second.
    let used = world.server().billed().cost;
    let world = world.set("OTTO_DAILY_COST", used.to_string());
    let requests = world.server().stats().requests;
    let ran = world
        .otto(["--project", other.to_str().unwrap(), "run", "helper", "hi"])
        .expect(3);
    assert!(
        ran.stderr.contains("reached in day ")
            && ran
                .stderr
                .contains("limit set by environment variable OTTO_DAILY_COST"),
        "{ran:?}"
    );
    assert_eq!(world.server().stats().requests, requests);
    assert!(picodollars(&here[0]["charged"]) < used.picodollars());
    // A state directory of its own changes nothing: the day is the user's.
    let elsewhere = world.path("elsewhere");
    let world = world.set("OTTO_STATE_DIR", elsewhere.to_str().unwrap());
    world.otto(["run", "helper", "hi"]).expect(3);
}

#[test]
fn state_that_came_with_a_project_is_refused() {
    let world = world();
    // Somebody's project with a used state directory in it, on another user's machine.
    let stranger = world_path(&world, "stranger");
    let world = world.set("HOME", stranger);
    let ran = world.otto(["sessions"]).expect(1);
    assert!(
        ran.stderr
            .contains("which Otto did not make here for this user")
            && ran.stderr.contains("OTTO_STATE_DIR="),
        "{ran:?}"
    );
    let requests = world.server().stats().requests;
    world.otto(["run", "helper", "hi"]).expect(1);
    assert_eq!(world.server().stats().requests, requests);
    // Naming it is the operator's word.
    let world = world.set("OTTO_STATE_DIR", "var/otto");
    world.otto(["sessions"]).expect(0);
}

fn world_path(world: &World, below: &str) -> String {
    let path = world.path(below);
    fs::create_dir_all(&path).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn a_question_that_finds_nothing_says_why() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: hello }]");
    let swapped = ["usage", "--from", "2026-11-02", "--to", "2026-11-01"];
    let ran = world.otto(swapped).expect(2);
    assert!(ran.stderr.contains("after it ends (`--to`)"), "{ran:?}");
    let nobody = ["usage", "--agent", "nobody"];
    for _ in 0..2 {
        // First where nothing was ever stored, then beside the work of another.
        let ran = world.otto(nobody).expect(0);
        assert!(
            ran.stderr.contains("no invocation of an agent `nobody`"),
            "{ran:?}"
        );
        world.otto(["run", "helper", "hi"]).expect(0);
    }
    for form in ["--csv", "--json"] {
        let ran = world.otto([&nobody[..], &[form]].concat()).expect(0);
        assert!(ran.stderr.contains("`nobody`"), "{form}: {ran:?}");
    }
    for (args, why) in [
        (vec!["--from", "2100-01-01"], "is in the future"),
        (
            vec!["--from", "2026-01-01", "--to", "2026-01-01"],
            "are the same time",
        ),
        (
            vec!["--session", "0190b3c2-7d4e-7abc-8def-0123456789ab"],
            "there is no session 0190b3c2",
        ),
        (
            vec!["--workflow", "0190b3c2-7d4e-7abc-8def-0123456789ab"],
            "no model call of workflow",
        ),
        (
            vec!["--by", "tool", "--from", "2100-01-01"],
            "is in the future",
        ),
        (
            vec!["--agent", "helper", "--to", "2020-01-01"],
            "no model call in this time",
        ),
    ] {
        let ran = world.otto([&["usage"], &args[..]].concat()).expect(0);
        assert!(ran.stderr.contains(why), "{args:?}: {ran:?}");
    }
}
