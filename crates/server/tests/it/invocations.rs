//! Starting, looking, cancelling, resuming; what is stored.

use reqwest::Method;
use serde_json::json;

use crate::world::{Answer, World};

const HELLO: &str = "turns: [{ text: Hello }]";
const SILENT: &str = "turns: [{ text: 'one two three', chunk: words, faults: [{ attempt: all, stall: { event: 4 } }] }]";

#[tokio::test]
async fn an_invocation_is_waited_for() {
    let world = World::new(HELLO).await;
    let body = json!({"agent": "helper", "task": "hi", "wait": true});
    let report = world
        .post("/v1/invocations", &body)
        .await
        .expect(200)
        .json();
    assert_eq!(report["outcome"], "completed");
    assert_eq!(report["text"], "Hello");
    let billed = world.model.billed().cost.picodollars();
    assert_eq!(report["charged"]["picodollars"], billed);

    let invocation = report["invocation"].as_str().unwrap();
    let session = report["session"].as_str().unwrap();
    let record = world
        .get(&format!("/v1/invocations/{invocation}"))
        .await
        .expect(200)
        .json();
    assert_eq!(record["outcome"], "completed");
    assert_eq!(record["charged"]["picodollars"], billed);
    let listed = world
        .get(&format!(
            "/v1/invocations?session={session}&agent=helper&limit=5"
        ))
        .await
        .json();
    assert_eq!(listed, json!([record]));
    let slip = world
        .get(&format!("/v1/sessions/{invocation}"))
        .await
        .problem(404, "not-found");
    let detail = slip.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains(&format!("of session {session}")),
        "{detail}"
    );
    let detail = world.get(&format!("/v1/sessions/{session}")).await.json();
    assert_eq!(detail["invocations"], json!([record]));
    let sessions = world.get("/v1/sessions").await.json();
    assert_eq!(sessions[0]["id"], session);
    assert_eq!(sessions[0]["invocations"], 1);
    let usage = world.get("/v1/usage?by=agent,session").await.json();
    assert_eq!(usage["rows"][0]["key"]["session"], session);
    assert_eq!(usage["today"]["spent"]["picodollars"], billed);
    let transcript = world
        .get(&format!("/v1/invocations/{invocation}/transcript"))
        .await
        .expect(200);
    assert!(transcript.body.contains("Hello"), "{transcript:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_stored_is_given_with_a_problem() {
    let world = World::in_directory(HELLO).await;
    let body = json!({"agent": "helper", "task": "hi", "wait": true});
    world.post("/v1/invocations", &body).await.expect(200);
    rusqlite::Connection::open(world.state_dir().join("otto.db"))
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER planted BEFORE UPDATE OF finished_at ON invocations
                BEGIN SELECT RAISE(ABORT, 'planted'); END",
        )
        .unwrap();
    let answer = world.post("/v1/invocations", &body).await;
    let document = answer.problem(500, "not-stored").json();
    assert!(
        document["detail"]
            .as_str()
            .unwrap()
            .contains("is not stored"),
        "{document}"
    );
    let report = &document["report"];
    assert_eq!(report["outcome"], "completed", "{document}");
    assert_eq!(report["text"], "Hello", "the answer is paid for, and given");
    assert!(report["store_error"].is_string(), "{document}");
    let invocation = report["invocation"].as_str().unwrap();
    let record = world.get(&format!("/v1/invocations/{invocation}")).await;
    assert_eq!(
        record.json()["outcome"],
        "interrupted",
        "for the store it has not ended, and nobody drives it"
    );
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_answered_with_the_closest_one() {
    let world = World::new(HELLO).await;
    let body = json!({"agent": "helpr", "task": "hi"});
    let answer = world.post("/v1/invocations", &body).await;
    let problem = answer.problem(404, "not-found").json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("did you mean `helper`?"), "{detail}");
}

#[tokio::test]
async fn a_limit_above_the_agents_is_cut_and_that_is_said() {
    let world = World::new(HELLO).await;
    let budgets = json!({"cost_usd": "500", "turns": 3});
    let body = json!({"agent": "helper", "task": "hi", "budgets": budgets});
    let accepted = world
        .post("/v1/invocations", &body)
        .await
        .expect(202)
        .json();
    assert_eq!(accepted["limits"]["turns"], 3, "{accepted}");
    assert_eq!(accepted["limits"]["cost"]["usd"], "$0.50", "{accepted}");
    let cut = accepted["not_granted"].as_array().unwrap();
    assert_eq!(
        (cut.len(), &cut[0]["limit"], &cut[0]["asked"]),
        (1, &json!("cost"), &json!("$500.00")),
        "{accepted}"
    );
}

#[tokio::test]
async fn an_artifact_is_read_whole_in_part_and_not_again() {
    let world = World::new(HELLO).await;
    let body = json!({"agent": "helper", "task": "hi", "wait": true});
    let report = world.post("/v1/invocations", &body).await.json();
    let session = report["session"].as_str().unwrap();
    let list = world
        .get(&format!("/v1/sessions/{session}/artifacts"))
        .await
        .expect(200)
        .json();
    let artifact = &list[0];
    let path = format!(
        "/v1/sessions/{session}/artifacts/{}",
        artifact["path"].as_str().unwrap()
    );
    let whole = world.get(&path).await.expect(200);
    assert_eq!(whole.body.len() as u64, artifact["size_bytes"]);
    let tag = format!("\"{}\"", artifact["sha256"].as_str().unwrap());
    assert_eq!(whole.header("etag"), tag);
    let ranged = |range: &'static str| world.request(Method::GET, &path).header("range", range);
    let part = Answer::of(ranged("bytes=1-3")).await.expect(206);
    assert_eq!(part.body, whole.body[1..=3]);
    assert_eq!(
        part.header("content-range"),
        format!("bytes 1-3/{}", whole.body.len())
    );
    Answer::of(ranged("bytes=1-3").header("if-range", &tag))
        .await
        .expect(206);
    Answer::of(ranged("bytes=1-3").header("if-range", "\"other\""))
        .await
        .expect(200);
    Answer::of(ranged("bytes=99999999-"))
        .await
        .problem(416, "range-not-satisfiable");
    let known = world
        .request(Method::GET, &path)
        .header("if-none-match", &tag);
    let known = Answer::of(known).await.expect(304);
    assert_eq!(known.body, "");
    world
        .get(&format!(
            "/v1/sessions/{session}/artifacts/../../../etc/passwd"
        ))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let world = World::new(HELLO).await;
    let ask = |task: &'static str, key: &'static str| {
        world
            .request(Method::POST, "/v1/invocations")
            .header("idempotency-key", key)
            .json(&json!({"agent": "helper", "task": task, "wait": true}))
    };
    let first = Answer::of(ask("hi", "order-17")).await.expect(200).json();
    let again = Answer::of(ask("hi", "order-17")).await.expect(200).json();
    assert_eq!(again["invocation"], first["invocation"]);
    Answer::of(ask("ho", "order-17"))
        .await
        .problem(422, "key-reused");
    let other = Answer::of(ask("ho", "order-18")).await.expect(200).json();
    assert_ne!(other["invocation"], first["invocation"]);
    assert_eq!(world.model.billed().calls, 2);
}

#[tokio::test]
async fn what_runs_can_be_cancelled_and_what_ended_cannot() {
    let world = World::new(SILENT).await;
    let body = json!({"agent": "helper", "task": "hi"});
    let accepted = world.post("/v1/invocations", &body).await.expect(202);
    let ids = accepted.json();
    let place = format!("/v1/invocations/{}", ids["invocation"].as_str().unwrap());
    assert_eq!(accepted.header("location"), place);
    assert_eq!(ids["events"], format!("{place}/events"));
    let cancel = format!("{place}/cancel");
    Answer::of(world.request(Method::POST, &cancel))
        .await
        .expect(202);
    let events = world.request(Method::GET, &format!("{place}/events"));
    let told = crate::world::read_events(events.send().await.unwrap(), |_| false).await;
    let last = told.last().unwrap();
    assert_eq!(last.name, "finished");
    assert_eq!(last.data["outcome"], "cancelled");
    Answer::of(world.request(Method::POST, &cancel))
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn a_session_goes_on_with_a_raised_limit() {
    let world = World::new(HELLO).await;
    let body =
        json!({"agent": "helper", "task": "hi", "wait": true, "budgets": {"cost_usd": "0.000001"}});
    let report = world
        .post("/v1/invocations", &body)
        .await
        .expect(200)
        .json();
    assert_eq!(report["outcome"], "budget_exhausted", "{report}");
    let session = report["session"].as_str().unwrap();
    let resume = format!("/v1/sessions/{session}/resume");
    for (body, status) in [
        (json!({"raise": {"tokens": 0}}), 400),
        (json!({"raise": {"cost_usd": "0"}}), 422),
        (json!({"decision": "perhaps"}), 400),
    ] {
        world.post(&resume, &body).await.expect(status);
    }
    // Without a body nothing is raised: it begins, and ends at the same limit.
    let ids = world.ask(Method::POST, &resume).await.expect(202).json();
    let events = format!(
        "/v1/invocations/{}/events",
        ids["invocation"].as_str().unwrap()
    );
    world.get(&events).await.expect(200);
    let ids = world
        .post(&resume, &json!({"raise": {"cost_usd": "0.5"}}))
        .await
        .expect(202)
        .json();
    assert_eq!(ids["invocation"], report["invocation"]);
    let place = format!(
        "/v1/invocations/{}/events",
        ids["invocation"].as_str().unwrap()
    );
    let events = world.request(Method::GET, &place).send().await.unwrap();
    let told = crate::world::read_events(events, |_| false).await;
    assert_eq!(told.last().unwrap().data["outcome"], "completed");
    world
        .post(&resume, &json!({}))
        .await
        .problem(409, "not-resumable");
}

#[tokio::test]
async fn the_kill_switch_is_thrown_and_lifted() {
    let world = World::new(HELLO).await;
    assert_eq!(world.get("/v1/kill").await.json()["thrown"], false);
    let throw = world
        .request(Method::PUT, "/v1/kill")
        .json(&json!({"reason": "a drill"}));
    Answer::of(throw).await.expect(204);
    let kill = world.get("/v1/kill").await.json();
    assert_eq!(
        (&kill["thrown"], &kill["reason"]),
        (&json!(true), &json!("a drill"))
    );
    let body = json!({"agent": "helper", "task": "hi", "wait": true});
    world
        .post("/v1/invocations", &body)
        .await
        .problem(503, "killed");
    let ready = world.get("/health/ready").await.expect(503).json();
    let part = |name: &str| {
        ready["components"]
            .as_array()
            .unwrap()
            .iter()
            .find(|part| part["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(part("kill_switch")["ready"], false);
    assert_eq!(part("store")["ready"], true);
    Answer::of(world.request(Method::DELETE, "/v1/kill"))
        .await
        .expect(204);
    world.get("/health/ready").await.expect(200);
    world.post("/v1/invocations", &body).await.expect(200);
}

#[tokio::test]
async fn agents_tools_and_prices_are_told() {
    let world = World::new(HELLO).await;
    let agents = world.get("/v1/agents").await.expect(200).json();
    assert_eq!(agents[0]["name"], "helper");
    assert_eq!(world.get("/v1/agents/helper").await.json(), agents[0]);
    world
        .get("/v1/agents/nobody")
        .await
        .problem(404, "not-found");
    world
        .get("/v1/tools/nothing")
        .await
        .problem(404, "not-found");
    let prices = world.get("/v1/prices").await.expect(200).json();
    let haiku = prices["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|model| {
            model["model"]
                .as_str()
                .unwrap()
                .starts_with("claude-haiku-4-5")
        })
        .unwrap();
    assert_eq!(haiku["prices"]["input"]["usd"], "$1.00");
    // Embedded without files and without a sandbox, those routes say so.
    world.get("/v1/check").await.problem(404, "not-found");
    world.get("/v1/doctor").await.problem(404, "not-found");
    let schema = world.get("/v1/config/schema").await.expect(200).json();
    assert_eq!(schema["title"], "Otto agent");
}

#[tokio::test]
async fn a_plan_tells_the_most_and_spends_nothing() {
    let world = World::new(HELLO).await;
    let body = json!({"agent": "helper", "task": "hi", "budgets": {"cost_usd": "0.25"}});
    let plan = world.post("/v1/plan", &body).await.expect(200).json();
    assert_eq!(plan["most"]["usd"], "$0.25", "{plan}");
    assert_eq!(plan["bound_by"]["origin"], "the HTTP request", "{plan}");
    assert!(
        plan["first_call"]["held"]["picodollars"].as_u64().unwrap() > 0,
        "{plan}"
    );
    let body = json!({"agent": "nobody", "task": "hi"});
    world
        .post("/v1/plan", &body)
        .await
        .problem(404, "not-found");
    assert_eq!(world.model.billed().calls, 0);
}
