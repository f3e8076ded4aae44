//! What the start says and what it refuses.

use serde_json::json;

use super::{Served, client, in_async, json};
use crate::world::World;

const HELLO: &str = "turns: [{ text: Hello, repeat: forever }]";

#[test]
fn the_start_says_whose_money_it_may_spend_and_where() {
    let world = World::new().with_agent().with_model(HELLO);
    let served = Served::start(&world);
    let said = &served.listening;
    assert_eq!(said["enabled"], true);
    assert_eq!(said["daily_ceiling"]["limit"]["usd"], "$10.00");
    assert_eq!(said["daily_ceiling"]["origin"], "default");
    assert_eq!(said["agents"], json!(["helper"]));
    assert_eq!(said["tokens"], false);
    assert!(["l1", "l2", "none"].contains(&said["sandbox"].as_str().unwrap()));
    assert!(
        said["state_dir"]
            .as_str()
            .unwrap()
            .ends_with("project/var/otto")
    );
    in_async(async {
        let ask = |path: &str| client().get(format!("{}{path}", served.url));
        let (_, doctor) = json(ask("/v1/doctor")).await;
        assert_eq!(doctor["level"], said["sandbox"]);
        let (status, ready) = json(ask("/health/ready")).await;
        let is_confined = said["sandbox_refusal"].is_null();
        assert_eq!(status == 200, is_confined, "{ready}");
        let body = json!({"agent": "helper", "task": "hi", "wait": true});
        let create = client()
            .post(format!("{}/v1/invocations", served.url))
            .json(&body);
        let (status, report) = json(create).await;
        assert_eq!(
            (status, &report["text"]),
            (200, &json!("Hello")),
            "{report}"
        );
        let (_, config) = json(ask("/v1/config")).await;
        assert!(
            !config.to_string().contains("test-key-of-nobody"),
            "no secret is told"
        );
    });
    let mut served = served;
    served.signal("TERM");
    assert_eq!(served.line("stopping")["running"], 0);
    assert_eq!(served.line("stopped")["left"], json!([]));
    assert_eq!(served.code(), Some(0));
}

#[test]
fn people_are_told_in_words() {
    let world = World::new().with_agent();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = Served::fails(&world, &["--bind", &address]).expect(2);
    assert!(
        ran.stderr.contains("another process listens there"),
        "{ran:?}"
    );
    assert!(!world.path("project/var").exists(), "nothing was changed");
    let ran = Served::fails(&world, &["--bind", "0.0.0.0:0"]).expect(2);
    assert!(ran.stderr.contains("OTTO_SERVER_TOKEN"), "{ran:?}");
    let world = world.set("OTTO_SERVER_TOKEN", "short");
    let ran = Served::fails(&world, &["--bind", "127.0.0.1:0"]).expect(2);
    assert!(ran.stderr.contains("16 characters"), "{ran:?}");
    assert!(!ran.stderr.contains("short`"), "{ran:?}");
}

#[test]
fn tokens_come_from_the_environment_and_as_digests_from_the_operator() {
    // As `printf %s reader-token-of-nobody | sha256sum` prints it.
    const DIGEST: &str = "25dfb0deb26fff3bcdc4a23423c3703ea5bcbb36769d28ac9037cf4f48eb82fa";
    let world = World::new()
        .with_agent()
        .with_model(HELLO)
        .set("OTTO_SERVER_TOKEN", "admin-token-of-nobody")
        .file(
            "config/otto/config.yml",
            &format!(
                "server:\n  hosts: [otto.example]\n  tokens: [{{ name: reader, scope: read, sha256: {DIGEST} }}]\n"
            ),
        );
    let served = Served::start(&world);
    assert_eq!(served.listening["tokens"], true);
    in_async(async {
        let ask = |token: &str| {
            client()
                .get(format!("{}/v1/agents", served.url))
                .header("host", "otto.example")
                .bearer_auth(token)
        };
        assert_eq!(json(ask("wrong-token-of-nobody")).await.0, 401);
        assert_eq!(json(ask("admin-token-of-nobody")).await.0, 200);
        assert_eq!(json(ask("reader-token-of-nobody")).await.0, 200);
        let kill = client()
            .delete(format!("{}/v1/kill", served.url))
            .bearer_auth("reader-token-of-nobody");
        assert_eq!(json(kill).await.0, 403);
        let config = client()
            .get(format!("{}/v1/config", served.url))
            .bearer_auth("reader-token-of-nobody");
        let (_, config) = json(config).await;
        assert!(!config.to_string().contains("of-nobody"), "{config}");
    });
}

#[test]
fn without_being_enabled_it_looks_and_runs_nothing() {
    let world = World::new().with_agent();
    let served = Served::start(&world);
    assert_eq!(served.listening["enabled"], false);
    in_async(async {
        let (status, agents) = json(client().get(format!("{}/v1/agents", served.url))).await;
        assert_eq!((status, &agents[0]["name"]), (200, &json!("helper")));
        let body = json!({"agent": "helper", "task": "hi"});
        let create = client()
            .post(format!("{}/v1/invocations", served.url))
            .json(&body);
        let (status, problem) = json(create).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &json!("urn:otto:problem:not-enabled"))
        );
    });
}

#[test]
fn a_configuration_that_breaks_meanwhile_is_reported_and_changes_nothing() {
    let world = World::new().with_agent().with_model(HELLO);
    let served = Served::start(&world);
    let world = world.file("project/.otto/agents/helper.yml", "name: helper\nmodl: x\n");
    in_async(async {
        let (status, check) = json(client().get(format!("{}/v1/check", served.url))).await;
        assert_eq!(status, 200);
        assert!(check["errors"].as_u64().unwrap() > 0, "{check}");
        let body = json!({"agent": "helper", "task": "hi", "wait": true});
        let create = client()
            .post(format!("{}/v1/invocations", served.url))
            .json(&body);
        assert_eq!(json(create).await.0, 200);
    });
    drop((served, world));
}
