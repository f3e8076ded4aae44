//! What is stored, over HTTP: audit log, checks, backup, cleaning, pins, and exports of usage.

use std::fs;

use otto::upkeep::{self, DamageKind, Repair};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const HELLO: &str = "turns: [{ text: Hello }]";
const SILENT: &str = "turns: [{ text: 'one two three', chunk: words, faults: [{ attempt: all, stall: { event: 4 } }] }]";

/// BOUND: how often something is asked for that is not there at once.
const TRIES: usize = 1_000;

async fn ran(world: &World, task: &str) -> Value {
    let body = json!({"agent": "helper", "task": task, "wait": true});
    world
        .post("/v1/invocations", &body)
        .await
        .expect(200)
        .json()
}

async fn started(world: &World) -> Value {
    let body = json!({"agent": "helper", "task": "hi"});
    world
        .post("/v1/invocations", &body)
        .await
        .expect(202)
        .json()
}

#[tokio::test]
async fn the_audit_log_is_read_in_pieces_and_checked() {
    let world = World::in_directory(HELLO).await;
    let first = ran(&world, "hi").await;
    let second = ran(&world, "ho").await;
    // Facts are written in pages, shortly after the first of a page.
    for _ in 0..400 {
        let id = second["invocation"].as_str().unwrap();
        let path = format!("/v1/audit?what=invocation_ended&of={id}");
        let ended = world.get(&path).await.json();
        if !ended["facts"].as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let mut facts = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/v1/audit?limit=1&after={after}");
        let page = world.get(&path).await.expect(200).json();
        facts.extend(page["facts"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => {
                assert!(next > after, "it goes on");
                after = next;
            }
            None => break,
        }
    }
    let whole = world.get("/v1/audit").await.json();
    let whole = whole["facts"].as_array().unwrap();
    assert!(whole.starts_with(&facts), "{facts:#?}\n{whole:#?}");
    let id = first["invocation"].as_str().unwrap();
    let path = format!("/v1/audit?what=invocation_started&of={id}");
    let one = world.get(&path).await.json();
    assert_eq!(one["facts"].as_array().unwrap().len(), 1, "{one}");
    assert_eq!(one["facts"][0]["fact"]["agent"], "helper");
    let last = world
        .get("/v1/audit?what=invocation_started&last=1")
        .await
        .json();
    assert_eq!(last["facts"].as_array().unwrap().len(), 1, "{last}");
    for wrong in [
        "what=Tool",
        "of=1",
        "after=-1",
        "after=9223372036854775808",
        "limit=0",
        "last=x",
        "who=me",
    ] {
        world
            .get(&format!("/v1/audit?{wrong}"))
            .await
            .problem(400, "bad-request");
    }

    let banana = world.get("/v1/audit?what=banana").await;
    let banana = banana.problem(400, "bad-request").json();
    let detail = banana["detail"].as_str().unwrap();
    assert!(detail.contains("tool_ended"), "{detail}");

    let head = world.get("/v1/audit/head").await.expect(200).json();
    let anchor = head["anchor"].as_str().unwrap();
    let check = |anchor: String| {
        let world = &world;
        async move { world.get(&format!("/v1/audit/check?anchor={anchor}")).await }
    };
    assert_eq!(check(anchor.to_owned()).await.json()["whole"], true);
    let foreign = format!("{}:{}", head["sequence"], "0".repeat(64));
    assert_eq!(check(foreign).await.json()["whole"], false);
    check("7".to_owned()).await.problem(400, "bad-request");
    let report = world.get("/v1/audit/report").await.expect(200).json();
    assert_eq!(report["count"], 0);
    assert!(report.get("snippet").is_none(), "there are no files here");
}

#[tokio::test]
async fn everything_stored_is_verified() {
    let world = World::in_directory(HELLO).await;
    let report = ran(&world, "hi").await;
    let anchor = world.get("/v1/audit/head").await.json()["anchor"].clone();
    let verified = world
        .post("/v1/verify", &json!({"anchor": anchor}))
        .await
        .expect(200)
        .json();
    assert_eq!(verified["sound"], true, "{verified}");
    assert_eq!(
        (&verified["journals"], &verified["calls"]),
        (&json!(1), &json!(1))
    );

    let session = report["session"].as_str().unwrap();
    let list = world
        .get(&format!("/v1/sessions/{session}/artifacts"))
        .await
        .json();
    let path = list[0]["path"].as_str().unwrap();
    let file = world.state_dir().join("sessions").join(session).join(path);
    fs::write(&file, "planted").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let damaged = world
        .ask(Method::POST, "/v1/verify")
        .await
        .expect(200)
        .json();
    assert_eq!(damaged["sound"], false, "{damaged}");
    assert_eq!(damaged["damages"][0]["kind"], "artifact");
    let repaired = world
        .post("/v1/verify", &json!({"repair": true}))
        .await
        .json();
    assert_eq!(repaired["sound"], true, "{repaired}");
    assert_eq!(
        world.post("/v1/verify", &json!({})).await.json()["sound"],
        true
    );
    for wrong in [json!({"anchor": "7"}), json!({"repair": 1}), json!([])] {
        world
            .post("/v1/verify", &wrong)
            .await
            .problem(400, "bad-request");
    }
}

#[tokio::test]
async fn a_backup_is_sent_and_leaves_nothing_behind() {
    let world = World::in_directory(HELLO).await;
    ran(&world, "hi").await;
    let sent = world
        .request(Method::POST, "/v1/backup")
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 200);
    let anchor = sent.headers()["otto-audit-anchor"].to_str().unwrap();
    let check = world
        .get(&format!("/v1/audit/check?anchor={anchor}"))
        .await
        .expect(200);
    assert_eq!(check.json()["whole"], true, "{check:?}");
    let length = sent.content_length();
    let bytes = sent.bytes().await.unwrap();
    assert_eq!(Some(bytes.len() as u64), length);
    let left: Vec<_> = fs::read_dir(world.state_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("backup-") && !name.ends_with(".lock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let restored = tempfile::tempdir().unwrap();
    fs::write(restored.path().join("otto.db"), &bytes).unwrap();
    let verified = upkeep::verify(restored.path(), None, Repair::No)
        .await
        .unwrap();
    let others: Vec<_> = verified
        .damages
        .iter()
        .filter(|damage| damage.kind != DamageKind::Artifact)
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!((verified.journals, verified.calls), (1, 1));

    // One that was left by a process that died is no obstacle; one that is under way is.
    fs::write(world.state_dir().join("backup-to-send.db"), "half").unwrap();
    world.ask(Method::POST, "/v1/backup").await.expect(200);
    let held = upkeep::unnamed_backup(world.state_dir()).await.unwrap();
    world
        .ask(Method::POST, "/v1/backup")
        .await
        .problem(409, "conflict");
    drop(held);
    world.ask(Method::POST, "/v1/backup").await.expect(200);
}

#[tokio::test]
async fn a_past_session_is_cleaned_and_a_running_one_is_not() {
    let world = World::in_directory(SILENT).await;
    let ids = started(&world).await;
    let session = ids["session"].as_str().unwrap();
    let redact = format!("/v1/sessions/{session}/redact");
    world
        .ask(Method::POST, &redact)
        .await
        .problem(409, "conflict");
    let cancel = format!(
        "/v1/invocations/{}/cancel",
        ids["invocation"].as_str().unwrap()
    );
    world.ask(Method::POST, &cancel).await.expect(202);
    let events = world.request(Method::GET, ids["events"].as_str().unwrap());
    crate::world::read_events(events.send().await.unwrap(), |_| false).await;
    let mut cleaned = world.ask(Method::POST, &redact).await;
    for _ in 0..TRIES {
        // Its files may still be under way; then it is told to come back.
        if cleaned.status != 503 {
            break;
        }
        assert_eq!(cleaned.header("retry-after"), "1");
        cleaned = world.ask(Method::POST, &redact).await;
    }
    assert_eq!(
        cleaned.expect(200).json(),
        json!({"invocations": 1, "entries": 0, "artifacts": 0})
    );
    let unknown = "/v1/sessions/01a20846-fe00-7102-8000-000000000002/redact";
    world
        .ask(Method::POST, unknown)
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn redaction_is_tried_on_a_text() {
    let world = World::new(HELLO).await;
    let key = format!("sk-ant-{}", "a1B2".repeat(12));
    let text = json!({"text": format!("my key is {key}")});
    let redacted = world.post("/v1/redact", &text).await.expect(200);
    assert!(!redacted.body.contains(&key), "{redacted:?}");
    let masked = redacted.json()["masked"].clone();
    assert_eq!(masked.as_object().unwrap().len(), 1, "{masked}");
    world
        .post("/v1/redact", &json!({"words": "x"}))
        .await
        .problem(400, "bad-request");
}

#[tokio::test]
async fn a_session_is_pinned_and_let_go() {
    let world = World::in_directory(HELLO).await;
    let report = ran(&world, "hi").await;
    let pin = format!("/v1/sessions/{}/pin", report["session"].as_str().unwrap());
    for method in [Method::PUT, Method::PUT, Method::DELETE, Method::DELETE] {
        world.ask(method, &pin).await.expect(204);
    }
    let unknown = "/v1/sessions/01a20846-fe00-7102-8000-000000000002/pin";
    world
        .ask(Method::PUT, unknown)
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn without_a_state_directory_the_routes_say_so() {
    let world = World::new(HELLO).await;
    let session = "01a20846-fe00-7102-8000-000000000002";
    for path in ["", "/report", "/head", "/check"] {
        world
            .get(&format!("/v1/audit{path}"))
            .await
            .problem(404, "not-found");
    }
    world
        .post("/v1/verify", &json!({}))
        .await
        .problem(404, "not-found");
    for path in [
        "/v1/backup".to_owned(),
        format!("/v1/sessions/{session}/redact"),
    ] {
        world
            .ask(Method::POST, &path)
            .await
            .problem(404, "not-found");
    }
    world
        .ask(Method::PUT, &format!("/v1/sessions/{session}/pin"))
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn usage_is_exported_and_reconciled() {
    let world =
        World::new("turns: [{ tool: { name: grep, input: { pattern: x } } }, { text: done }]")
            .await;
    let report = ran(&world, "hi").await;
    let charged = report["charged"]["picodollars"].as_u64().unwrap();
    let as_csv = |path: &'static str| {
        let request = world
            .request(Method::GET, path)
            .header("accept", "text/csv");
        Answer::of(request)
    };
    let csv = as_csv("/v1/usage?by=agent,model").await.expect(200);
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let rows: Vec<&str> = csv.body.lines().collect();
    assert!(rows[0].starts_with("agent,model,calls,"), "{csv:?}");
    let dollars = format!("0.{charged:012}");
    assert!(rows[1].starts_with("helper,claude-haiku-4-5"), "{csv:?}");
    assert!(rows[1].contains(&dollars), "{csv:?}");

    let tools = world.get("/v1/usage/tools").await.expect(200).json();
    let sum: u64 = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["charged"]["picodollars"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, charged, "{tools}");
    let csv = as_csv("/v1/usage/tools").await.expect(200);
    assert!(
        csv.body.starts_with("tool,tool_calls,charged_usd\n"),
        "{csv:?}"
    );
    world
        .get("/v1/usage/tools?by=day")
        .await
        .problem(400, "bad-request");

    let day = world.get("/v1/usage").await.json()["today"]["day"].clone();
    let reconcile = |kind: &'static str, body: String| {
        let request = world
            .request(Method::POST, "/v1/usage/reconcile")
            .header("content-type", kind)
            .body(body);
        Answer::of(request)
    };
    let export = format!(
        "date,model,cost_usd\n{},claude-haiku-4-5,{dollars}\n",
        day.as_str().unwrap()
    );
    let same = reconcile("text/csv", export).await.expect(200).json();
    assert_eq!(same[0]["standing"], "same", "{same}");
    assert_eq!(same[0]["drift_picodollars"], 0);
    let missing = "lacks the columns `day` or `date` or `usage_date_utc`; `model` or `model_version`; `charged_usd`";
    for (kind, body, detail) in [
        ("text/csv", "who,what\n1,2\n", missing),
        // A text is what its media type says, not what it looks like.
        ("text/csv", "[]", missing),
        ("application/json", "{}", "has no `data`"),
        ("application/json", "[]", "has no page"),
    ] {
        let answer = reconcile(kind, body.to_owned()).await;
        let told = answer.problem(422, "invalid-field").body;
        assert!(told.contains(detail), "{body}: {told}");
    }
    reconcile("text/plain", String::new())
        .await
        .problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn open_calls_and_the_whole_transcript_are_told() {
    let world = World::new(HELLO).await;
    let report = ran(&world, "hi").await;
    let place = format!("/v1/invocations/{}", report["invocation"].as_str().unwrap());
    let calls = world.get(&format!("{place}/open_calls")).await.expect(200);
    assert_eq!(calls.json(), json!([]));
    let full = world
        .get(&format!("{place}/transcript?full=true"))
        .await
        .expect(200);
    assert!(full.body.contains("Hello"), "{full:?}");
    world
        .get(&format!("{place}/transcript?full=1"))
        .await
        .problem(400, "bad-request");
}

#[tokio::test]
async fn variables_are_listed_without_their_values() {
    let world = World::new(HELLO).await;
    let variables = world.get("/v1/config/environment").await.expect(200);
    assert!(variables.body.contains("OTTO_ENABLED"), "{variables:?}");
    let names = variables.json();
    let fields = names[0].as_object().unwrap();
    assert!(!fields.contains_key("value"), "{fields:?}");
}
