//! Streams: hostile text, colours, readers that go away.

use std::io::Read;
use std::process::Stdio;

use crate::world::World;

#[test]
fn a_model_cannot_steer_the_terminal() {
    let script = "turns: [{ text: \"\\e]0;owned\\a\\e[31mred\\e[0m \\u202Etxt.exe\\r\\nnext\" }]";
    let world = World::new().with_agent().with_model(script);
    let ran = world.otto(["run", "helper", "\u{1b}[2Jhi"]).expect(0);
    assert!(
        !ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("\\u{1b}]0;owned\\u{7}\\u{1b}[31mred\\u{1b}[0m \\u{202e}txt.exe\\r\nnext\n"),
        "{ran:?}"
    );
    let sessions = world.otto(["sessions"]).expect(0);
    assert!(!sessions.stdout.contains('\u{1b}'), "{sessions:?}");
    let (_, lines) = world.json(["sessions"]);
    let shown = world
        .otto(["show", lines[0]["id"].as_str().unwrap()])
        .expect(0);
    assert!(
        !shown.stdout.contains('\u{1b}') && !shown.stdout.contains('\u{202e}'),
        "{shown:?}"
    );
}

#[test]
fn colours_are_for_terminals_or_on_request() {
    let world = World::new();
    assert!(!world.otto(["prices"]).expect(0).stdout.contains('\u{1b}'));
    assert!(
        world
            .otto(["prices", "--color", "always"])
            .expect(0)
            .stdout
            .contains('\u{1b}')
    );
    assert!(
        !world
            .otto(["prices", "--color", "never"])
            .expect(0)
            .stdout
            .contains('\u{1b}')
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: a long answer }]");
    for args in [
        vec!["prices"],
        vec!["prices", "--json"],
        vec!["config", "schema"],
        vec!["run", "helper", "hi"],
        vec!["--help"],
    ] {
        let mut child = world
            .command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?} {stderr}");
        assert!(
            !stderr.contains("panicked") && !stderr.contains("error"),
            "{args:?} {stderr}"
        );
    }
    // The invocation went on to its end all the same.
    let (_, lines) = world.json(["sessions"]);
    assert_eq!(lines[0]["outcome"], "completed");
}

#[test]
fn a_full_disk_is_a_failure() {
    let world = World::new();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = world
        .command(["prices"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("write the output")
    );
}
