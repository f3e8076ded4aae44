//! Ctrl-C while the model is silent.

use std::io::{BufRead, BufReader};
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
