//! Many clients at once, and the end of a server.

use serde_json::{Value as Json, json};

use crate::client::{Client, HEADERS, follow_up, post, request, serve, with_tools};

const ECHO: &str = r#"
turns:
  - { text: "On it.", tool: { name: echo, as: echo, input: { text: "{{ task }}" } }, faults: [{ chance: 20%, status: 529 }] }
  - { text: "{{ task }} became {{ result.echo }}" }
"#;

/// One agent: two turns, retries included.
async fn agent(server: &otto_scripted::ScriptedServer, number: usize) {
    let first = with_tools(request(&format!("task {number}")), &["echo"]);
    let message = loop {
        let answer = post(server, &first).await;
        if answer.status == 200 {
            break answer.message();
        }
    };
    let result = message["content"][1]["input"]["text"]
        .as_str()
        .unwrap()
        .to_uppercase();
    let last = post(server, &follow_up(&first, &message, &[&result]))
        .await
        .message();
    assert_eq!(
        last["content"][0]["text"],
        format!("task {number} became TASK {number}")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_conversations_do_not_mix() {
    let server = std::sync::Arc::new(serve(ECHO).await);
    let mut agents = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let server = std::sync::Arc::clone(&server);
        agents.spawn(async move { agent(&server, number).await });
    }
    while let Some(done) = agents.join_next().await {
        done.unwrap();
    }
    server.idle().await;
    let (stats, billed) = (server.stats(), server.billed());
    assert_eq!(billed.calls, 2_000 + stats.faults);
    assert!(stats.faults > 100, "{stats:?}");
    let sum = billed
        .requests
        .iter()
        .fold(otto_core::Money::ZERO, |sum, request| {
            sum.saturating_add(request.cost)
        });
    assert_eq!(sum, billed.cost);
}

#[tokio::test]
async fn shutting_down_ends_open_streams() {
    let server = serve("turns: [{ text: hi, faults: [{ stall: 10 }] }]").await;
    let mut client = Client::connect(&server).await;
    client
        .send("POST", "/v1/messages", &HEADERS, &request("x").to_string())
        .await;
    server.asked(1).await;
    let address = server.address();
    server.shutdown().await;
    if let Some(answer) = client.receive().await {
        assert!(!answer.whole);
    }
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn equal_seeds_and_requests_give_equal_answers() {
    let play = || async {
        let server = serve(ECHO).await;
        let first = with_tools(request("x"), &["echo"]);
        let mut bodies: Vec<Json> = Vec::new();
        for _ in 0..5 {
            let answer = post(&server, &first).await;
            bodies.push(json!([
                answer.status,
                String::from_utf8(answer.body).unwrap()
            ]));
        }
        bodies
    };
    assert_eq!(play().await, play().await);
}
