//! What is stored, looked at afterwards: sessions, show, usage, kill.

use crate::world::World;

fn world_with_a_session() -> (World, String) {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: 'You asked: {{ task }}' }]");
    world.otto(["run", "helper", "first task"]).expect(0);
    let (_, lines) = world.json(["sessions"]);
    let id = lines[0]["id"].as_str().unwrap().to_owned();
    (world, id)
}

#[test]
fn looking_creates_nothing() {
    let world = World::new();
    assert_eq!(
        world.otto(["sessions"]).expect(0).stderr,
        "no sessions yet; `otto run AGENT TASK` begins one\n"
    );
    world.otto(["usage"]).expect(0);
    assert!(!world.path("project/var").exists());
    let ran = world
        .otto(["show", "0190b3c2-7d4e-7abc-8def-0123456789ab"])
        .expect(2);
    assert!(
        ran.stderr.contains("there is no session or invocation"),
        "{ran:?}"
    );
}

#[test]
fn a_session_is_listed_and_shown() {
    let (world, id) = world_with_a_session();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUID v7: {id}");
    assert!(
        world
            .otto(["sessions"])
            .expect(0)
            .stdout
            .contains("first task")
    );
    let ran = world.otto(["show", &id]).expect(0);
    assert!(
        ran.stdout.contains("first task")
            && ran.stdout.contains("You asked: first task")
            && ran.stdout.contains("completed"),
        "{ran:?}"
    );
    let transcript = world.otto(["show", &id, "--transcript"]).expect(0).stdout;
    assert!(
        transcript.lines().count() >= 2
            && transcript
                .lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );

    let (_, lines) = world.json(["show", &id]);
    let result = lines
        .iter()
        .find(|line| line["type"] == "artifact" && line["kind"] == "result")
        .unwrap();
    let path = result["path"].as_str().unwrap();
    let content = world
        .otto(["show", &id, "--artifact", path])
        .expect(0)
        .stdout;
    assert_eq!(content.len() as u64, result["size_bytes"].as_u64().unwrap());
    assert!(content.contains("You asked: first task"));
    assert!(
        world
            .path("project/var/otto/sessions")
            .join(&id)
            .join(path)
            .is_file()
    );

    let second = world
        .otto(["run", "helper", "second task", "--session", &id])
        .expect(0);
    assert!(second.stderr.contains(&id));
    let (_, lines) = world.json(["sessions"]);
    assert_eq!((lines.len(), &lines[0]["invocations"]), (1, &2.into()));
    assert_eq!(lines[0]["title"], "first task");
}

#[test]
fn usage_adds_up_to_the_picodollar() {
    let (world, _) = world_with_a_session();
    world.otto(["run", "helper", "second task"]).expect(0);
    let sum = |by: &str| -> u64 {
        let (_, lines) = world.json(["usage", "--by", by]);
        lines
            .iter()
            .map(|line| line["charged"]["picodollars"].as_u64().unwrap())
            .sum()
    };
    let (_, sessions) = world.json(["sessions"]);
    let charged: u64 = sessions
        .iter()
        .map(|line| line["charged"]["picodollars"].as_u64().unwrap())
        .sum();
    assert!(charged > 0);
    for by in [
        "day",
        "agent",
        "model",
        "session",
        "invocation",
        "day,agent,model",
    ] {
        assert_eq!(sum(by), charged, "{by}");
    }
    let ran = world.otto(["usage"]).expect(0);
    assert!(
        ran.stdout.contains("helper")
            && ran
                .stdout
                .contains("of $10.00 spent (ceiling set by default)"),
        "{ran:?}"
    );
    let (_, none) = world.json(["usage", "--agent", "nobody"]);
    assert!(none.is_empty());
}

#[test]
fn the_kill_switch_holds_until_it_is_lifted() {
    let (world, id) = world_with_a_session();
    let requests = world.server().stats().requests;
    assert!(
        world
            .otto(["kill", "too expensive"])
            .expect(0)
            .stdout
            .contains("the kill switch is thrown: too expensive")
    );
    let ran = world.otto(["run", "helper", "hi"]).expect(5);
    assert!(
        ran.stderr.contains("too expensive") && ran.stderr.contains("otto kill --lift"),
        "{ran:?}"
    );
    assert_eq!(world.server().stats().requests, requests);
    world.otto(["show", &id]).expect(0);
    let ran = world.otto(["kill", "--lift"]).expect(0);
    assert!(ran.stdout.contains("is lifted"), "{ran:?}");
    world.otto(["run", "helper", "hi"]).expect(0);
    let ran = world.otto(["kill", "--lift"]).expect(0);
    assert!(ran.stdout.contains("was not thrown"), "{ran:?}");
    let (_, lines) = world.json(["kill", "--lift"]);
    assert_eq!(lines[0]["was_thrown"], false);
}

#[test]
fn lifting_a_switch_where_nothing_is_stored_says_so_and_creates_nothing() {
    let world = World::new();
    let ran = world.otto(["kill", "--lift"]).expect(0);
    assert!(ran.stdout.contains("was not thrown"), "{ran:?}");
    assert!(!world.path("project/var").exists());
}

#[test]
fn a_higher_limit_takes_a_stopped_session_up_again() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: done at last }]");
    world
        .otto(["run", "helper", "hi", "--cost", "$0.000001"])
        .expect(3);
    let (_, lines) = world.json(["sessions"]);
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["resumable"]),
        (&"budget_exhausted".into(), &true.into())
    );
    let id = lines[0]["id"].as_str().unwrap();
    let ran = world.otto(["resume", id, "--raise", "cost=0.20"]).expect(0);
    assert_eq!(ran.stdout, "done at last\n");
    let ran = world.otto(["resume", id]).expect(2);
    assert!(ran.stderr.contains("cannot be resumed"), "{ran:?}");
    world
        .otto(["resume", "0190b3c2-7d4e-7abc-8def-0123456789ab"])
        .expect(2);
}

#[test]
fn a_journal_that_was_changed_from_outside_is_found_and_not_resumed() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: done at last }]");
    world
        .otto(["run", "helper", "hi", "--cost", "$0.000001"])
        .expect(3);
    let (_, lines) = world.json(["sessions"]);
    let id = lines[0]["id"].as_str().unwrap();
    let (_, ended) = world.json(["audit", "log", "--what", "invocation_ended"]);
    let head = ended[0]["journal"].as_str().unwrap();
    assert_eq!(head.split_once(':').unwrap().1.len(), 64, "{head}");
    world.otto(["verify"]).expect(0);

    let database = world.path("project/var/otto/otto.db");
    let changed = rusqlite::Connection::open(&database)
        .unwrap()
        .execute(
            r#"UPDATE journal SET payload = replace(payload, '"hi"', '"ho"') WHERE payload LIKE '%"hi"%'"#,
            (),
        )
        .unwrap();
    assert_eq!(changed, 1, "a journal that can be replayed all the same");
    let (code, found) = world.json(["verify"]);
    assert_eq!((code, found.len()), (1, 2), "one damage: {found:?}");
    assert_eq!(found[0]["kind"], "journal", "{found:?}");
    let ran = world.otto(["resume", id, "--raise", "cost=0.20"]).expect(1);
    assert!(
        ran.stderr.contains("does not match its checksum") && ran.stderr.contains("otto verify"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("done at last"), "{ran:?}");
    let ran = world.otto(["show", id]);
    assert!(
        ran.stderr.contains("does not match its checksum"),
        "{ran:?}"
    );
}

/// Every artifact of the state directory, as paths.
fn artifacts(world: &World, session: &str) -> Vec<std::path::PathBuf> {
    let dir = world.path("project/var/otto/sessions").join(session);
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn verify_finds_every_damaged_artifact_and_repair_makes_it_again() {
    let (world, id) = world_with_a_session();
    let ran = world.otto(["verify"]).expect(0);
    assert!(
        ran.stdout.contains("is sound: 1 journals") && ran.stdout.contains("anchor"),
        "{ran:?}"
    );
    let paths = artifacts(&world, &id);
    assert_eq!(paths.len(), 3, "{paths:?}");
    let before: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    // One is torn, one has zeros at its end. One is gone, which is no damage: its bytes are in the journal.
    std::fs::write(&paths[0], &before[0][..before[0].len() / 2]).unwrap();
    let mut zeros = before[1].clone();
    let length = zeros.len();
    zeros[length - 5..].fill(0);
    std::fs::write(&paths[1], zeros).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();
    let (code, lines) = world.json(["verify"]);
    let damages: Vec<_> = lines
        .iter()
        .filter(|line| line["type"] == "damage")
        .collect();
    assert_eq!((code, damages.len()), (1, 2), "{lines:?}");
    for damage in damages {
        assert_eq!(damage["kind"], "artifact");
        assert!(damage["advice"].as_str().unwrap().contains("--repair"));
    }
    let ran = world.otto(["verify", "--repair"]).expect(0);
    assert_eq!(
        ran.stdout.matches("made again from the journal").count(),
        2,
        "{ran:?}"
    );
    assert_eq!(artifacts(&world, &id), paths);
    for (path, content) in paths.iter().zip(&before) {
        assert_eq!(&std::fs::read(path).unwrap(), content, "{}", path.display());
    }
    let aside = std::fs::read_dir(world.path("project/var/otto/damaged")).unwrap();
    assert_eq!(aside.count(), 2, "what was damaged stays for inspection");
    world.otto(["verify"]).expect(0);
}

#[test]
fn verify_says_what_to_do_about_a_damaged_database() {
    let (world, _) = world_with_a_session();
    let database = world.path("project/var/otto/otto.db");
    let whole = std::fs::read(&database).unwrap();
    std::fs::write(&database, &whole[..whole.len() / 2]).unwrap();
    let _ = std::fs::remove_file(world.path("project/var/otto/otto.db-wal"));
    let ran = world.otto(["verify"]).expect(1);
    assert!(
        ran.stderr.contains("truncated") && ran.stderr.contains("restore a backup"),
        "{ran:?}"
    );
    let ran = world.otto(["doctor"]);
    assert!(ran.stdout.contains("restore a backup"), "{ran:?}");
    world.otto(["verify", "--anchor", "nonsense"]).expect(2);
}

#[test]
fn an_anchor_that_the_log_does_not_meet_is_damage() {
    let (world, _) = world_with_a_session();
    let (_, lines) = world.json(["verify"]);
    let anchor = lines.last().unwrap()["anchor"].as_str().unwrap().to_owned();
    world.otto(["verify", "--anchor", &anchor]).expect(0);
    let other = format!("9:{}", "ab".repeat(32));
    let (code, lines) = world.json(["verify", "--anchor", &other]);
    assert_eq!((code, &lines[0]["kind"]), (1, &"audit".into()), "{lines:?}");
}

#[test]
fn a_backup_is_restored_by_copying_it() {
    let (world, id) = world_with_a_session();
    let file = world.path("home/backup.db");
    let file = file.to_str().unwrap();
    let (code, lines) = world.json(["backup", file]);
    assert_eq!((code, &lines[0]["type"]), (0, &"backup".into()));
    world.otto(["backup", file]).expect(1);
    let state = world.path("project/var/otto");
    let restored = world.path("project/var/restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::copy(file, restored.join("otto.db")).unwrap();
    std::fs::create_dir(restored.join("sessions")).unwrap();
    std::fs::rename(
        state.join("sessions").join(&id),
        restored.join("sessions").join(&id),
    )
    .unwrap();
    let world = world.set("OTTO_STATE_DIR", restored.to_str().unwrap());
    world.otto(["verify"]).expect(0);
    world.otto(["show", &id]).expect(0);
    let nothing = world.set("OTTO_STATE_DIR", "/nonexistent/otto");
    nothing.otto(["backup", file]).expect(2);
    nothing.otto(["verify"]).expect(0);
}

#[test]
fn an_answer_that_is_not_stored_is_shown_and_no_success() {
    let (world, _) = world_with_a_session();
    rusqlite::Connection::open(world.path("project/var/otto/otto.db"))
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER planted BEFORE UPDATE OF finished_at ON invocations
                BEGIN SELECT RAISE(ABORT, 'planted'); END",
        )
        .unwrap();
    let (code, lines) = world.json(["run", "helper", "second task"]);
    let report = lines.last().unwrap();
    assert_eq!(
        (code, &report["exit_code"], &report["outcome"]),
        (1, &1.into(), &"completed".into()),
        "{report}"
    );
    assert_eq!(report["text"], "You asked: second task");
    assert!(report["store_error"].is_string(), "{report}");
    let ran = world.otto(["run", "helper", "third task"]).expect(1);
    assert!(
        ran.stdout.contains("You asked: third task")
            && ran.stderr.contains("its end is not stored"),
        "{ran:?}"
    );
}

const KEY: [&str; 3] = ["helper", "--idempotency-key", "order-7"];

fn keyed(task: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    [&["run"], &KEY[..], &[task], more].concat()
}

#[test]
fn a_key_used_again_gives_the_stored_result_without_paying() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: 'You asked: {{ task }}' }]");
    let first = world.otto(keyed("hello", &[])).expect(0);
    let requests = world.server().stats().requests;
    let again = world.otto(keyed("hello", &[])).expect(0);
    assert_eq!(again.stdout, first.stdout);
    assert!(
        again
            .stderr
            .contains("this idempotency key was used before")
            && again.stderr.contains("next: otto show "),
        "{again:?}"
    );
    let (code, lines) = world.json(keyed("hello", &[]));
    assert_eq!(
        (code, &lines[0]["type"], &lines[0]["text"]),
        (0, &"earlier".into(), &"You asked: hello".into())
    );
    let other = world.otto(keyed("goodbye", &[])).expect(1);
    assert!(other.stderr.contains("asked something else"), "{other:?}");
    assert_eq!(world.server().stats().requests, requests);
    let (_, sessions) = world.json(["sessions"]);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn a_key_used_again_gives_the_exit_code_of_the_stored_outcome() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: hello }]");
    for _ in 0..2 {
        let ran = world
            .otto(keyed("hello", &["--cost", "$0.000001"]))
            .expect(3);
        assert!(ran.stderr.contains("otto resume "), "{ran:?}");
    }
}

#[test]
fn a_key_used_again_while_it_runs_says_so_and_how_to_go_on() {
    let world = World::new().with_agent().with_model(
        "turns: [{ text: 'one two three', chunk: words, faults: [{ attempt: all, stall: { event: 4 } }] }]",
    );
    let mut child = world
        .command(keyed("hello", &[]))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    world.until_asked(1);
    let ran = world.otto(keyed("hello", &[])).expect(1);
    assert!(
        ran.stderr.contains("is still running") && ran.stderr.contains("otto show "),
        "{ran:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = world.otto(keyed("hello", &[])).expect(1);
    assert!(
        ran.stderr.contains("was interrupted") && ran.stderr.contains("next: otto resume "),
        "{ran:?}"
    );
}

#[test]
fn the_id_of_an_invocation_is_taken_for_its_session_or_that_is_named() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: hello }]");
    world
        .otto(["run", "helper", "hi", "--cost", "$0.000001"])
        .expect(3);
    let (_, sessions) = world.json(["sessions"]);
    let session = sessions[0]["id"].as_str().unwrap();
    let invocation = || {
        let (_, shown) = world.json(["show", session]);
        shown[0]["invocation"].as_str().unwrap().to_owned()
    };
    let first = invocation();
    for args in [
        vec!["redact", &first],
        vec!["sessions", "--pin", &first],
        vec!["run", "helper", "hi", "--session", &first],
    ] {
        let ran = world.otto(&args).expect(2);
        assert!(
            ran.stderr.contains("is an invocation and no session")
                && ran.stderr.contains(&format!(" {session}\n")),
            "{args:?}: {ran:?}"
        );
    }
    let ran = world.otto(["usage", "--session", &first]).expect(0);
    assert!(ran.stderr.contains("otto usage --session "), "{ran:?}");
    // A second one of the session is newer, and can be resumed too: which is meant is asked.
    let second = [
        "run",
        "helper",
        "hi",
        "--session",
        session,
        "--cost",
        "$0.000001",
    ];
    world.otto(second).expect(3);
    let raised = ["--raise", "cost=0.20"];
    let ran = world
        .otto([&["resume", &first], &raised[..]].concat())
        .expect(2);
    assert!(
        ran.stderr.contains(&format!("otto resume {session}")),
        "{ran:?}"
    );
    let newest = invocation();
    assert_ne!(newest, first);
    let ran = world
        .otto([&["resume", &newest], &raised[..]].concat())
        .expect(0);
    assert_eq!(ran.stdout, "hello\n");
}
