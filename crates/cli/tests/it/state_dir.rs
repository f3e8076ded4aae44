//! A state directory that cannot be used: read-only, without permission, on a disk that fills up. The command says
//! what is wrong and what to do, spends nothing that it cannot keep, and what it acknowledged is there afterwards.
//!
//! What the machine must not notice (a mount, a small disk, another user) is made in namespaces of a command's own;
//! where the kernel gives none to the test, it says so and checks nothing.

use std::process::Command;

use crate::world::{Ran, World};

const SCRIPT: &str = "turns: [{ text: 'You asked: {{ task }}' }]";

/// As root of namespaces of its own, which see their own mounts.
const MOUNTS: &[&str] = &["--user", "--map-root-user", "--mount"];
/// As a user without the rights of root.
const NOBODY: &[&str] = &["--user", "--map-user=1000"];

/// Runs a shell script in namespaces, with the state directory as `$1` and the command as `$2`; `None` where the
/// kernel gives no namespaces.
#[expect(
    clippy::print_stderr,
    reason = "a check that was not made must be seen"
)]
fn apart(world: &World, namespaces: &[&str], script: &str) -> Option<Ran> {
    let probe = Command::new("unshare")
        .args(namespaces)
        .arg("true")
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("not checked: no namespaces here ({namespaces:?})");
        return None;
    }
    let mut command = world.program("unshare");
    command
        .args(namespaces)
        .args(["sh", "-c", script, "sh"])
        .arg(world.path("state"))
        .arg(env!("CARGO_BIN_EXE_otto"));
    Some(command.output().unwrap().into())
}

fn world() -> World {
    let world = World::new().with_agent().with_model(SCRIPT);
    let state = world.path("state");
    world.set("OTTO_STATE_DIR", state.to_str().unwrap())
}

/// A world with one finished session.
fn world_with_a_session() -> World {
    let world = world();
    world.otto(["run", "helper", "kept"]).expect(0);
    world
}

#[track_caller]
fn says_what_to_do(ran: &Ran) {
    assert!(
        ran.stderr.contains("store cannot be written")
            && ran.stderr.contains(
                "hint: let Otto write there, or name another state directory with OTTO_STATE_DIR"
            ),
        "{ran:#?}"
    );
}

#[track_caller]
fn the_session_is_there(world: &World) {
    let (code, sessions) = world.json(["sessions"]);
    assert_eq!((code, sessions.len()), (0, 1), "{sessions:?}");
    assert_eq!(sessions[0]["title"], "kept");
    world.otto(["verify"]).expect(0);
}

#[test]
fn a_read_only_state_directory_is_refused_before_anything_is_spent() {
    let world = world_with_a_session();
    let asked = world.server().requests().len();
    let read_only = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec \"$2\"";
    for what in [
        "run helper lost",
        "sessions",
        "usage",
        "verify",
        "serve --bind 127.0.0.1:0",
    ] {
        let Some(ran) = apart(&world, MOUNTS, &format!("{read_only} {what}")) else {
            return;
        };
        let ran = ran.expect(1);
        says_what_to_do(&ran);
        assert!(
            ran.stderr.contains("Read-only file system"),
            "{what}: {ran:#?}"
        );
        assert!(!ran.stderr.contains("panicked"), "{what}: {ran:#?}");
    }
    let Some(ran) = apart(&world, MOUNTS, &format!("{read_only} doctor")) else {
        return;
    };
    assert!(ran.stdout.contains("let Otto write there"), "{ran:#?}");
    assert_eq!(world.server().requests().len(), asked);
    the_session_is_there(&world);
}

#[test]
fn a_state_directory_without_permission_is_refused_before_anything_is_spent() {
    let world = world_with_a_session();
    let asked = world.server().requests().len();
    for mode in ["500", "000"] {
        for what in ["run helper lost", "sessions"] {
            let script = format!(
                "chmod {mode} \"$1\"; \"$2\" {what}; code=$?; chmod 700 \"$1\"; exit $code"
            );
            let Some(ran) = apart(&world, NOBODY, &script) else {
                return;
            };
            says_what_to_do(&ran.expect(1));
        }
    }
    assert_eq!(world.server().requests().len(), asked);
    the_session_is_there(&world);
}

#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_acknowledged() {
    // Each size fills up at another place.
    for kib in [0, 16, 40, 100, 140, 180, 220, 280, 360, 440] {
        let world = world();
        std::fs::create_dir(world.path("state")).unwrap();
        let script = format!(
            "mount -t tmpfs -o size=4m,mode=700 tmpfs \"$1\" || exit 99
             head -c $((4096 - {kib}))k /dev/zero > \"$1/ballast\"
             for task in 1 2 3 4 5 6; do
                 \"$2\" run helper \"task $task\" >&2 || break
                 echo \"acknowledged $task\"
             done
             rm \"$1/ballast\"
             \"$2\" verify >&2; echo \"verify $?\"
             \"$2\" run helper afterwards >&2; echo \"afterwards $?\"
             for id in $(\"$2\" sessions --json | sed -n 's/.*\"finished_at\":null,\"id\":\"\\([^\"]*\\)\".*/\\1/p'); do
                 \"$2\" resume $id >&2; echo \"resumed $?\"
             done
             \"$2\" sessions --json"
        );
        let Some(ran) = apart(&world, MOUNTS, &script) else {
            return;
        };
        let ran = ran.expect(0);
        let says = |text: &str| ran.stdout.contains(text);
        assert!(
            says("verify 0") && says("afterwards 0"),
            "{kib} KiB: {ran:#?}"
        );
        assert!(!ran.stderr.contains("panicked"), "{kib} KiB: {ran:#?}");
        let acknowledged = ran.stdout.matches("acknowledged").count();
        if acknowledged < 6 {
            assert!(
                ran.stderr.contains("store is full") && ran.stderr.contains("free"),
                "{kib} KiB: {ran:#?}"
            );
        }
        let lines: Vec<serde_json::Value> = ran
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        for task in 1..=acknowledged {
            let title = format!("task {task}");
            let found = lines.iter().find(|line| line["title"] == title.as_str());
            let outcome = found.map(|line| line["outcome"].clone());
            assert_eq!(
                outcome,
                Some("completed".into()),
                "{kib} KiB, {title}: {ran:#?}"
            );
        }
        let unfinished = lines
            .iter()
            .filter(|line| line["finished_at"].is_null())
            .count();
        assert_eq!(unfinished, 0, "{kib} KiB: {ran:#?}");
        // What was held for a call whose end could not be kept is charged, never less than was billed.
        let charged = lines
            .iter()
            .filter_map(|line| line["charged"]["picodollars"].as_u64());
        let (charged, billed): (u64, _) = (charged.sum(), world.server().billed().cost);
        assert!(
            charged >= billed.picodollars(),
            "{kib} KiB: {charged} for {billed}: {ran:#?}"
        );
    }
}

#[test]
fn without_a_home_the_variables_to_set_are_named() {
    let world = World::new().with_agent().with_model(SCRIPT);
    let mut command = world.command(["run", "helper", "hi"]);
    let ran: Ran = command
        .env_remove("HOME")
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap()
        .into();
    let ran = ran.expect(1);
    for name in ["HOME", "XDG_STATE_HOME", "OTTO_STATE_DIR"] {
        assert!(ran.stderr.contains(name), "{ran:?}");
    }
    assert!(
        !ran.stderr.contains("cannot be read") && !ran.stderr.contains("was not touched"),
        "{ran:?}"
    );
    assert!(world.server().requests().is_empty());
}
