//! `otto redact`: trying patterns on a text, and cleaning what was stored before they were known.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::world::World;

#[test]
fn a_text_shows_what_it_becomes_and_by_which_rule() {
    let world = World::new().file(
        "config/otto/config.yml",
        "redact: { customer: 'CUST-[0-9]{6}' }\n",
    );
    let ran = world
        .otto(["redact", "--test", "for CUST-123456 and CUST-654321"])
        .expect(0);
    assert_eq!(
        ran.stdout,
        "for [redacted:customer] and [redacted:customer]\n"
    );
    assert_eq!(ran.stderr, "masked by: customer (2)\n");
    let ran = world
        .otto(["redact", "--test", "plain [redacted:customer]"])
        .expect(0);
    assert_eq!(ran.stderr, "nothing to mask\n");
    let (_, lines) = world.json(["redact", "--test", "CUST-123456"]);
    assert_eq!(lines[0]["masked"]["customer"], 1);

    let mut child = world
        .command(["redact", "--test"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"CUST-000000\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"[redacted:customer]\n");
    world.otto(["redact"]).expect(2);
}

/// Whether any file below the directory holds the text.
fn holds(dir: &std::path::Path, text: &str) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds(&path, text)
        } else {
            let content = fs::read(&path).unwrap();
            content
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        }
    })
}

#[test]
fn a_past_session_is_cleaned_everywhere_and_still_replays() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: 'Your customer is CUST-123456.' }]");
    world
        .otto(["run", "helper", "who is CUST-123456"])
        .expect(0);
    let state = world.path("project/var/otto");
    assert!(holds(&state, "CUST-123456"));
    let (_, before) = world.json(["sessions"]);
    let id = before[0]["id"].as_str().unwrap();

    let world = world.file(
        "config/otto/config.yml",
        "redact: { customer: 'CUST-[0-9]{6}' }\n",
    );
    let (code, lines) = world.json(["redact", id]);
    assert_eq!(
        (code, &lines[0]["type"]),
        (0, &"cleaned".into()),
        "{lines:?}"
    );
    assert!(lines[0]["entries"].as_u64().unwrap() >= 2, "{lines:?}");
    assert!(lines[0]["artifacts"].as_u64().unwrap() >= 2, "{lines:?}");
    assert!(!holds(&state.join("sessions"), "CUST-123456"));
    assert!(
        !holds(&state, "CUST-123456"),
        "not in the database, and not in its log"
    );
    // The journal still folds, the artifacts are what their checksums say, and the money is what it was.
    let ran = world.otto(["show", id]).expect(0);
    assert!(
        ran.stdout.contains("who is [redacted:customer]")
            && ran.stdout.contains("Your customer is [redacted:customer]."),
        "{ran:?}"
    );
    let (_, shown) = world.json(["show", id]);
    let artifacts: Vec<&str> = shown
        .iter()
        .filter(|line| line["type"] == "artifact")
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    assert!(artifacts.len() >= 2, "{shown:?}");
    for path in artifacts {
        let content = world
            .otto(["show", id, "--artifact", path])
            .expect(0)
            .stdout;
        assert!(!content.contains("CUST-123456"), "{path}");
    }
    let (_, after) = world.json(["sessions"]);
    assert_eq!(before[0]["charged"], after[0]["charged"]);
    assert_eq!(after[0]["title"], "who is [redacted:customer]");
    world.otto(["verify"]).expect(0);
    // Cleaning twice changes nothing more.
    let (_, again) = world.json(["redact", id]);
    assert_eq!(
        (&again[0]["entries"], &again[0]["artifacts"]),
        (&0.into(), &0.into())
    );
    world
        .otto(["redact", "0190b3c2-7d4e-7abc-8def-0123456789ab"])
        .expect(1);
}
