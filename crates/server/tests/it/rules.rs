//! Who may ask what, and how a request is refused.

use otto_server::{Token, TokenScope};
use reqwest::Method;
use serde_json::json;

use crate::world::{Answer, World};

const HELLO: &str = "turns: [{ text: Hello }]";
const READ: &str = "read-token-of-nobody";
const INVOKE: &str = "invoke-token-of-nobody";
const ADMIN: &str = "admin-token-of-nobody";

#[tokio::test]
async fn a_token_allows_its_scope_and_those_before_it() {
    let world = World::with(HELLO, |config| {
        config.tokens = vec![
            Token::new("reader", READ, TokenScope::Read),
            Token::new("worker", INVOKE, TokenScope::Invoke),
            Token::new("boss", ADMIN, TokenScope::Admin),
        ];
    })
    .await;
    let ask = |method: Method, path: &str, token: Option<&str>| {
        let request = world.request(method, path);
        match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    };
    let invoke = |token| {
        ask(Method::POST, "/v1/invocations", token).json(&json!({"agent": "helper", "task": "x"}))
    };
    let throw = |token| ask(Method::PUT, "/v1/kill", token).json(&json!({"reason": "x"}));
    for token in [None, Some("wrong-token-of-nobody"), Some("")] {
        let refused = Answer::of(ask(Method::GET, "/v1/agents", token))
            .await
            .problem(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        assert!(!refused.body.contains("of-nobody"), "{refused:?}");
        Answer::of(invoke(token)).await.problem(401, "unauthorized");
        Answer::of(throw(token)).await.problem(401, "unauthorized");
    }
    for (token, may_invoke, may_throw) in [(READ, 403, 403), (INVOKE, 202, 403), (ADMIN, 202, 204)]
    {
        let token = Some(token);
        Answer::of(ask(Method::GET, "/v1/agents", token))
            .await
            .expect(200);
        Answer::of(invoke(token)).await.expect(may_invoke);
        Answer::of(throw(token)).await.expect(may_throw);
    }
    let session = "/v1/sessions/01a20846-fe00-7102-8000-000000000002";
    let admins = [
        (Method::POST, "/v1/backup".to_owned()),
        (Method::POST, "/v1/verify".to_owned()),
        (Method::PUT, format!("{session}/pin")),
        (Method::DELETE, format!("{session}/pin")),
        (Method::POST, format!("{session}/redact")),
    ];
    for (method, path) in admins {
        for token in [READ, INVOKE] {
            Answer::of(ask(method.clone(), &path, Some(token)))
                .await
                .problem(403, "forbidden");
        }
    }
    let redact = |token| ask(Method::POST, "/v1/redact", token).json(&json!({"text": "x"}));
    Answer::of(redact(Some(READ)))
        .await
        .problem(403, "forbidden");
    Answer::of(redact(Some(INVOKE))).await.expect(200);
    // Whether it lives is no secret; what it spends is.
    world.get("/health/live").await.expect(200);
    world.get("/openapi.json").await.expect(200);
    world.get("/metrics").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn foreign_names_are_refused() {
    let world = World::new(HELLO).await;
    for host in ["evil.example", "127.0.0.1.evil.example:80"] {
        let request = world
            .request(Method::GET, "/v1/agents")
            .header("host", host);
        Answer::of(request).await.problem(403, "forbidden");
    }
    for origin in ["https://evil.example", "null", "file://"] {
        let cancel = "/v1/invocations/01a20846-fe00-7102-8000-000000000002/cancel";
        let request = world.request(Method::POST, cancel).header("origin", origin);
        Answer::of(request).await.problem(403, "forbidden");
    }
    let own = world
        .request(Method::GET, "/v1/agents")
        .header("origin", format!("http://{}", world.address));
    let own = Answer::of(own).await.expect(200);
    assert!(
        !own.headers.contains_key("access-control-allow-origin"),
        "no page of another site may read this"
    );
    assert_eq!(own.header("cache-control"), "no-store");
    assert_eq!(own.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let world = World::new(HELLO).await;
    world.get("/nowhere").await.problem(404, "not-found");
    world
        .get("/v1/invocations/%ff")
        .await
        .problem(400, "bad-request");
    world
        .get("/v1/invocations?limit=x")
        .await
        .problem(400, "bad-request");
    world
        .get("/v1/invocations?limits=1")
        .await
        .problem(400, "bad-request");
    world
        .get("/v1/usage?by=hour")
        .await
        .problem(400, "bad-request");
    world
        .get("/v1/usage?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z")
        .await
        .problem(400, "bad-request");
    world
        .get("/v1/usage?from=yesterday")
        .await
        .problem(400, "bad-request");
    let refused = Answer::of(world.request(Method::DELETE, "/v1/agents"))
        .await
        .problem(405, "method-not-allowed");
    assert_eq!(refused.header("allow"), "GET,HEAD");
    let create = || world.request(Method::POST, "/v1/invocations");
    Answer::of(create().body("{}"))
        .await
        .problem(415, "unsupported-media-type");
    let json = || create().header("content-type", "application/json; charset=utf-8");
    Answer::of(json().body("{"))
        .await
        .problem(400, "bad-request");
    Answer::of(json().body("[".repeat(100_000)))
        .await
        .problem(400, "bad-request");
    Answer::of(json().body(" ".repeat(4 * 1024 * 1024 + 1)))
        .await
        .problem(413, "payload-too-large");
    for (body, status, word) in [
        (json!({"agent": "nobody", "task": "x"}), 404, "not-found"),
        (json!({"agent": "helper", "task": " "}), 422, "empty-task"),
        (
            json!({"agent": "helper", "task": "x", "more": 1}),
            400,
            "bad-request",
        ),
        (
            json!({"agent": "helper", "task": "x", "session": "1"}),
            400,
            "bad-request",
        ),
        (
            json!({"agent": "helper", "task": "x", "budgets": {"turns": 0}}),
            400,
            "bad-request",
        ),
        (
            json!({"agent": "helper", "task": "x", "budgets": {"cost_usd": "-1"}}),
            422,
            "invalid-field",
        ),
    ] {
        world
            .post("/v1/invocations", &body)
            .await
            .problem(status, word);
    }
    // A list in the order of the fields is no object, at no depth.
    for (path, body) in [
        (
            "/v1/invocations",
            json!(["helper", "x", null, null, {}, false]),
        ),
        (
            "/v1/invocations",
            json!({"agent": "helper", "task": "x", "budgets": [60000, 1000, "0.1", 5]}),
        ),
        ("/v1/plan", json!(["helper", "x"])),
        ("/v1/redact", json!(["x"])),
        ("/v1/verify", json!([null])),
    ] {
        world.post(path, &body).await.problem(400, "bad-request");
    }
    for key in ["", "order 17", "order\t17", &"k".repeat(129)] {
        let request = create()
            .header("idempotency-key", key)
            .json(&json!({"agent": "helper", "task": "x"}));
        Answer::of(request).await.problem(400, "bad-request");
    }
    assert_eq!(world.model.billed().calls, 0);
}
