//! `otto demo`: the whole of Otto on a real directory, without a key, and the five claims at its end.
//!
//! That each claim breaks when one of its facts is wrong is tested beside the judgement, in `evidence.rs`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::World;

/// The directory of the only demo that ran in this world.
fn scene(world: &World) -> PathBuf {
    let demos: Vec<PathBuf> = fs::read_dir(world.path("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [scene] = demos.as_slice() else {
        panic!("one demo leaves one directory: {demos:?}")
    };
    scene.clone()
}

#[test]
fn the_demo_is_killed_goes_on_and_shows_that_it_kept_its_promises() {
    let world = World::new()
        .file(
            "project/src/alpha.rs",
            "fn one() {}\nfn two() {}\n// TODO: three\n",
        )
        .file("project/src/beta.py", "def four():\n    pass\n");
    let ran = world.otto(["demo", "--keep"]).expect(0);
    for expected in [
        "a scripted model on the loopback address: no key, no network",
        "sandbox level L",
        "$ otto run reporter \"Write a report on the project in @src",
        "grep path=@src",
        "fs.read path=@src/src/alpha.rs",
        "during the reply",
        "Refused by the kernel: read `/etc/passwd`",
        "DEPLOY_TOKEN=[redacted:github-token]",
        "fs.write path=report.md",
        "SIGKILL to process ",
        "$ otto resume ",
        "its full hold of ",
        "$ otto run spender",
        "cost limit of $0.01 reached in invocation ",
        "limit set by .otto/agents/spender.yml:",
        "ANTHROPIC_API_KEY=... otto demo --with-key",
    ] {
        assert!(ran.stdout.contains(expected), "{expected}\n{}", ran.stdout);
    }
    let claims: Vec<&str> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("holds ") || line.starts_with("BROKEN "))
        .collect();
    assert_eq!(claims.len(), 5, "{}", ran.stdout);
    assert!(
        claims.iter().all(|line| line.starts_with("holds ")),
        "{claims:#?}"
    );
    assert!(!ran.stdout.contains("root:"), "{}", ran.stdout);

    let scene = scene(&world);
    let settings = fs::read_to_string(scene.join("work/deploy.env")).unwrap();
    let secret = settings.trim().rsplit('=').next().unwrap();
    assert!(secret.starts_with("ghp_") && !ran.stdout.contains(secret));
    let report = fs::read_to_string(scene.join("work/report.md")).unwrap();
    assert!(
        report.contains("alpha.rs") && report.contains("TODO: three"),
        "{report}"
    );
    // The project itself is untouched, and so is the user.
    assert!(!world.path("project/var").exists() && !world.path("project/report.md").exists());
    assert_eq!(fs::read_dir(world.path("home")).unwrap().count(), 0);
}

#[test]
fn programs_get_the_claims_as_one_object_and_another_directory_another_report() {
    let world = World::new()
        .file("project/one.txt", "x\n")
        .file("home/other/two.txt", "y\nz\n");
    let other = world.path("home/other");
    let (code, lines) = world.json(["demo", "--keep", other.to_str().unwrap()]);
    let last = lines.last().unwrap();
    assert_eq!(
        (code, &last["type"], &last["holds"]),
        (0, &"demo".into(), &true.into()),
        "{last:#}"
    );
    let claims = last["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 5);
    assert!(claims.iter().all(|claim| {
        claim["holds"] == true
            && claim["figures"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
    }));
    let reports: Vec<&Value> = lines
        .iter()
        .filter(|line| line["type"] == "report")
        .map(|line| &line["outcome"])
        .collect();
    assert_eq!(
        reports,
        ["completed", "budget_exhausted"],
        "the first never got that far"
    );
    let report = fs::read_to_string(last["report"].as_str().unwrap()).unwrap();
    assert!(
        report.contains("two.txt") && !report.contains("one.txt"),
        "{report}"
    );
    world.otto(["demo", "nowhere"]).expect(2);
    world
        .otto(["demo", other.join("two.txt").to_str().unwrap()])
        .expect(2);
}

#[test]
fn an_empty_directory_is_no_reason_to_fail() {
    let world = World::new();
    world.otto(["demo"]).expect(0);
}

#[test]
fn a_demo_that_went_well_leaves_nothing_behind() {
    let world = World::new();
    let ran = world.otto(["demo"]).expect(0);
    assert!(ran.stdout.contains("otto demo --keep"), "{}", ran.stdout);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn the_demo_obeys_the_kill_switch() {
    let world = World::new().set("OTTO_KILL_SWITCH", "true");
    world.otto(["demo"]).expect(5);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}
