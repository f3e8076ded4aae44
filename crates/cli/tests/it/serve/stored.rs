//! What is stored, through a server that has locked itself: it reads and writes its state directory and nothing else.

use std::fs;

use serde_json::json;

use super::{Served, client, in_async, json};
use crate::world::{PATIENCE, World};

/// BOUND: how often something is asked for that is not there at once.
const TRIES: usize = 1_000;

#[test]
fn a_locked_server_verifies_cleans_and_backs_up() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: Hello }]");
    let served = Served::start(&world);
    let url = |path: &str| format!("{}{path}", served.url);
    let backup = in_async(async {
        let body = json!({"agent": "helper", "task": "hi", "wait": true});
        let (status, report) = json(client().post(url("/v1/invocations")).json(&body)).await;
        assert_eq!((status, &report["outcome"]), (200, &json!("completed")));
        let session = format!("/v1/sessions/{}", report["session"].as_str().unwrap());
        let (status, verified) = json(client().post(url("/v1/verify")).json(&json!({}))).await;
        assert_eq!(
            (status, &verified["sound"]),
            (200, &json!(true)),
            "{verified}"
        );
        let mut cleaned = (503, json!(null));
        for _ in 0..TRIES {
            // Its files may still be under way.
            if cleaned.0 != 503 {
                break;
            }
            cleaned = json(client().post(url(&format!("{session}/redact")))).await;
        }
        assert_eq!((cleaned.0, &cleaned.1["invocations"]), (200, &json!(1)));
        let (status, _) = json(client().put(url(&format!("{session}/pin")))).await;
        assert_eq!(status, 204);
        let (status, report) = json(client().get(url("/v1/audit/report"))).await;
        assert_eq!((status, &report["snippet"]), (200, &json!("")), "{report}");
        let (status, doctor) = json(client().get(url("/v1/doctor"))).await;
        assert_eq!(
            (status, &doctor["stored"]["unfinished"]),
            (200, &json!(0)),
            "{doctor}"
        );
        let (status, told) = json(client().get(url("/v1/config?key=retention"))).await;
        assert_eq!((status, &told[0]["value"]), (200, &json!("7d")), "{told}");
        let response = client().post(url("/v1/backup")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap()
    });
    let restored = world.path("restored");
    fs::create_dir(&restored).unwrap();
    fs::write(restored.join("otto.db"), &backup).unwrap();
    let world = world.set("OTTO_STATE_DIR", restored.to_str().unwrap());
    let (code, sessions) = world.json(["sessions"]);
    assert_eq!((code, &sessions[0]["outcome"]), (0, &json!("completed")));
}

#[test]
fn the_audit_log_goes_beyond_its_retention_and_says_from_where_it_is_there() {
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: Hello }]");
    world.otto(["run", "helper", "hi"]).expect(0);
    let head = world.otto(["audit", "head"]).expect(0).stdout;
    let old = head.trim();
    world.otto(["run", "helper", "hi"]).expect(0);
    let world = world.file("config/otto/config.yml", "audit_retention_count: 1\n");
    let served = Served::start(&world);
    let url = |path: &str| format!("{}{path}", served.url);
    let log = url("/v1/audit?what=audit_log_trimmed");
    let (trimmed, checked, verified) = in_async(async {
        // The first sweep comes a second after the start.
        let began = std::time::Instant::now();
        let trimmed = loop {
            let (_, page) = json(client().get(&log)).await;
            match page["facts"].get(0) {
                Some(fact) => break fact["fact"].clone(),
                None => assert!(began.elapsed() < PATIENCE, "nothing was removed"),
            }
        };
        let check = url(&format!("/v1/audit/check?anchor={old}"));
        let (_, checked) = json(client().get(check)).await;
        let (_, verified) = json(client().post(url("/v1/verify")).json(&json!({}))).await;
        (trimmed, checked, verified)
    });
    drop(served);
    let through = trimmed["through"].as_u64().unwrap();
    assert!(through > 0, "{trimmed}");
    let says = format!("begins after record {through}");
    assert_eq!(checked["whole"], false, "{checked}");
    assert!(checked["detail"].as_str().unwrap().contains(&says));
    assert_eq!(verified["sound"], true, "{verified}");
    assert_eq!(verified["audit_begins_after"], through, "{verified}");

    let ran = world.otto(["verify"]).expect(0);
    assert!(ran.stdout.contains(&says), "{ran:?}");
    let ran = world.otto(["verify", "--anchor", old]).expect(1);
    assert!(
        ran.stdout.contains("NOT COMPARED") && ran.stdout.contains("sound in itself"),
        "{ran:?}"
    );
    let ran = world.otto(["audit", "head", "--anchor", old]).expect(1);
    assert!(ran.stdout.contains(&says), "{ran:?}");
    let hash = trimmed["hash"].as_str().unwrap();
    let last_removed = format!("{through}:{hash}");
    world.otto(["verify", "--anchor", &last_removed]).expect(0);
}
