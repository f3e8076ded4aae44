//! Ctrl-C while the model is silent.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::world::World;

const SILENT: &str = "turns: [{ text: 'I begin to speak, and then no word comes any more, for ever and ever.', chunk: words, faults: [{ attempt: all, stall: { event: 14 } }] }]";

/// Starts an invocation and waits until the model has said its first word.
fn started(world: &World) -> (Child, impl Iterator<Item = String>) {
    let mut child = world
        .command(["run", "helper", "hi", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        lines.any(|line| line.contains(r#""type":"text""#)),
        "the model never spoke"
    );
    (child, lines)
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
fn the_second_ctrl_c_ends_at_once_and_says_how_to_go_on() {
    // A tool that does not end: somebody accepts its connection and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "turns: [{{ text: I ask., tool: {{ name: http, input: {{ url: 'http://127.0.0.1:{port}/' }} }} }}, {{ text: done }}]"
    );
    let world = World::new()
        .file(
            "project/.otto/agents/caller.yml",
            &format!("name: caller\nmodel: claude-haiku-4-5\ntools: [http]\nallowed_hosts: ['127.0.0.1:{port}']\n"),
        )
        .file(
            "config/otto/config.yml",
            &format!("private_hosts: ['127.0.0.1:{port}']\n"),
        )
        .with_model(&script);
    let mut child = world
        .command(["run", "caller", "go"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (_connection, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    // Both are there before it goes on: an orderly end may take no longer than this test takes to read a line. The
    // second is of another kind, because two of one kind would be one.
    for name in ["STOP", "INT", "TERM", "CONT"] {
        signal(&child, name);
    }
    assert!(lines.any(|line| line.contains("press Ctrl-C again to stop at once")));
    let last = lines
        .find(|line| line.contains("stopped at once"))
        .expect("it says what became of it");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let (_, sessions) = world.json(["sessions"]);
    let id = sessions[0]["id"].as_str().unwrap();
    assert!(last.contains(&format!("`otto resume {id}`")), "{last}");
    assert_eq!(sessions[0]["resumable"], true);
}

#[test]
fn the_first_ctrl_c_cancels_in_an_orderly_way() {
    for name in ["INT", "TERM"] {
        let world = World::new().with_agent().with_model(SILENT);
        let (mut child, mut lines) = started(&world);
        signal(&child, name);
        let report = lines
            .find(|line| line.contains(r#""type":"report""#))
            .expect("there is a report");
        assert!(report.contains(r#""outcome":"cancelled""#), "{report}");
        assert_eq!(child.wait().unwrap().code(), Some(7), "{name}");
        let (_, sessions) = world.json(["sessions"]);
        assert_eq!(sessions[0]["outcome"], "cancelled");
        // The call's usage never came, so its hold is charged.
        assert!(sessions[0]["charged"]["picodollars"].as_u64().unwrap() > 0);
    }
}
