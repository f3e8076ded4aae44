//! Server-sent events: from the beginning, from a cursor, to the end.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::sse::Told;
use crate::world::{Answer, World, read_events};

const WORDS: &str = "turns: [{ text: 'one two three four', chunk: words }]";

async fn follow(world: &World, path: &str) -> Vec<Told> {
    let response = world.request(Method::GET, path).send().await.unwrap();
    read_events(response, |_| false).await
}

fn durable(told: &[Told]) -> Vec<Told> {
    told.iter()
        .filter(|told| told.id.is_some())
        .cloned()
        .collect()
}

#[tokio::test]
async fn every_cursor_gives_what_follows_it() {
    let world = World::new(WORDS).await;
    let response = world
        .request(Method::POST, "/v1/invocations")
        .header("accept", "text/event-stream")
        .json(&json!({"agent": "helper", "task": "count"}))
        .send()
        .await
        .unwrap();
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let told = read_events(response, |_| false).await;
    let whole = durable(&told);
    let names: Vec<&str> = whole.iter().map(|told| told.name.as_str()).collect();
    assert_eq!(
        names,
        ["started", "reserved", "text", "turn_finished", "finished"]
    );
    assert_eq!(whole[2].data["text"], "one two three four");
    assert!(whole.last().unwrap().id.as_ref().unwrap().ends_with(".end"));
    // Deltas are for the eye; what there is of them is in the text.
    for delta in told.iter().filter(|told| told.name == "delta") {
        assert!("one two three four".contains(delta.data["text"].as_str().unwrap()));
    }
    let events = format!("{place}/events");
    assert_eq!(durable(&follow(&world, &events).await), whole);
    for (index, from) in whole.iter().enumerate() {
        let id = from.id.as_ref().unwrap();
        let by_header = world
            .request(Method::GET, &events)
            .header("last-event-id", id)
            .send()
            .await
            .unwrap();
        if index + 1 == whole.len() {
            assert_eq!(by_header.status(), StatusCode::NO_CONTENT);
            continue;
        }
        assert_eq!(
            read_events(by_header, |_| false).await,
            whole[index + 1..],
            "after {id}"
        );
        assert_eq!(
            follow(&world, &format!("{events}?after={id}")).await,
            whole[index + 1..]
        );
    }
}

#[tokio::test]
async fn a_cursor_that_was_never_told_is_refused() {
    let world = World::new(WORDS).await;
    let body = json!({"agent": "helper", "task": "count", "wait": true});
    let report = world.post("/v1/invocations", &body).await.json();
    let events = format!(
        "/v1/invocations/{}/events",
        report["invocation"].as_str().unwrap()
    );
    for wrong in ["x", "-1", "1.5", "99999999999999999999"] {
        world
            .get(&format!("{events}?after={wrong}"))
            .await
            .problem(400, "bad-request");
    }
    for expired in ["5000", "5000.end", "18446744073709551615"] {
        world
            .get(&format!("{events}?after={expired}"))
            .await
            .problem(410, "cursor-expired");
    }
    let unknown = "/v1/invocations/01a20846-fe00-7102-8000-000000000002/events";
    world.get(unknown).await.problem(404, "not-found");
    let odd = world
        .request(Method::GET, &events)
        .header("last-event-id", &b"\xe9"[..]);
    Answer::of(odd).await.problem(400, "bad-request");
    let beside = world
        .request(Method::GET, &format!("{events}?after=null"))
        .header("last-event-id", "1");
    Answer::of(beside).await.problem(400, "bad-request");
}

#[tokio::test]
async fn an_interrupted_invocation_has_no_end_yet() {
    let script = "turns: [{ text: 'one two three', chunk: words, faults: [{ attempt: all, stall: { event: 4 } }] }]";
    let mut world = World::new(script).await;
    let body = json!({"agent": "helper", "task": "count"});
    let ids = world
        .post("/v1/invocations", &body)
        .await
        .expect(202)
        .json();
    let place = format!("/v1/invocations/{}", ids["invocation"].as_str().unwrap());
    let response = world
        .request(Method::GET, &format!("{place}/events"))
        .send()
        .await
        .unwrap();
    world.begin_to_stop();
    let told = read_events(response, |_| false).await;
    assert!(told.iter().all(|told| told.name != "finished"), "{told:?}");
    let leftovers = world.stop().await;
    assert_eq!(leftovers.invocations.len(), 1);
    assert!(!leftovers.invocations[0].was_abandoned);
    let unfinished = world.otto.unfinished().await.unwrap();
    assert_eq!(unfinished.len(), 1, "the next Otto takes it up");
}
