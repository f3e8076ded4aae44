//! `otto demo`: the whole of Otto on a real directory, without a key.

use std::fs;
use std::path::PathBuf;

use crate::world::World;

fn report_of(world: &World) -> String {
    let demos: Vec<PathBuf> = fs::read_dir(world.path("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let newest = demos.iter().max().expect("the demo leaves its directory");
    fs::read_to_string(newest.join("work/report.md")).unwrap()
}

#[test]
fn the_demo_reports_on_what_is_really_there() {
    let world = World::new()
        .file(
            "project/src/alpha.rs",
            "fn one() {}\nfn two() {}\n// TODO: three\n",
        )
        .file("project/src/beta.py", "def four():\n    pass\n");
    let ran = world.otto(["demo"]).expect(0);
    for expected in [
        "a scripted model: no key, no network",
        "grep path=@src",
        "fs.read path=@src/src/alpha.rs",
        "during the reply",
        "fs.write path=report.md",
        "of  set by",
        "sha-256",
        "ANTHROPIC_API_KEY=... otto demo --with-key",
    ] {
        assert!(ran.stdout.contains(expected), "{expected}\n{}", ran.stdout);
    }
    // The call that reaches outside is not answered with a file.
    let refused = ran
        .stdout
        .lines()
        .find(|line| line.contains("/etc/passwd") && line.contains("fs.read"))
        .unwrap();
    assert!(
        refused.contains("failed") || refused.contains("denied"),
        "{refused}"
    );
    assert!(!ran.stdout.contains("root:"), "{}", ran.stdout);
    let report = report_of(&world);
    assert!(
        report.contains("alpha.rs") && report.contains("TODO: three"),
        "{report}"
    );
    // The project itself is untouched.
    assert!(!world.path("project/var").exists() && !world.path("project/report.md").exists());
}

#[test]
fn another_directory_gives_another_report() {
    let world = World::new()
        .file("project/one.txt", "x\n")
        .file("home/other/two.txt", "y\nz\n");
    let other = world.path("home/other");
    world.otto(["demo", other.to_str().unwrap()]).expect(0);
    let report = report_of(&world);
    assert!(
        report.contains("two.txt") && !report.contains("one.txt"),
        "{report}"
    );
    world.otto(["demo", "nowhere"]).expect(2);
    world
        .otto(["demo", other.join("two.txt").to_str().unwrap()])
        .expect(2);
    // An empty directory is no reason to fail.
    fs::create_dir(world.path("home/empty")).unwrap();
    world
        .otto(["demo", world.path("home/empty").to_str().unwrap()])
        .expect(0);
}

#[test]
fn the_demo_obeys_the_kill_switch() {
    let world = World::new().set("OTTO_KILL_SWITCH", "true");
    world.otto(["demo"]).expect(5);
}
