//! Clients that are slow, many, or gone.

use std::time::Duration;

use otto_server::Bounds;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Answer, World, read_events};

const HELLO: &str = "turns: [{ text: Hello }]";

fn impatient() -> Bounds {
    Bounds {
        connections: 8,
        head: Duration::from_millis(200),
        body: Duration::from_millis(200),
        unread: Duration::from_millis(200),
        grace: Duration::from_millis(500),
    }
}

/// Everything the server sends until it closes.
async fn to_the_end(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_head_or_body_that_does_not_arrive_ends_the_connection() {
    let world = World::with(HELLO, |config| config.bounds = impatient()).await;
    for head in ["", "GET /v1/agents HTTP/1.1\r\nho"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let told = to_the_end(stream).await;
        assert!(
            told.is_empty() || told.starts_with("HTTP/1.1 408"),
            "{told}"
        );
    }
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = "POST /v1/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = to_the_end(stream).await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    assert!(told.contains("urn:otto:problem:request-timeout"), "{told}");
    world.get("/health/live").await.expect(200);
}

#[tokio::test]
async fn too_many_connections_are_told_so_and_the_rest_goes_on() {
    let patient = Bounds {
        head: Duration::from_secs(20),
        ..impatient()
    };
    let world = World::with(HELLO, |config| config.bounds = patient).await;
    let mut held = Vec::new();
    for _ in 0..patient.connections {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let ask = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let told = to_the_end(TcpStream::connect(world.address).await.unwrap()).await;
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(told.contains("urn:otto:problem:busy"), "{told}");
    drop(held);
    until_served(&world).await;
}

async fn status(world: &World) -> Result<u16, reqwest::Error> {
    let request = world.request(Method::GET, "/health/live");
    let answer = request.header("connection", "close").send().await?;
    Ok(answer.status().as_u16())
}

#[tokio::test]
async fn a_follower_that_does_not_read_loses_its_place() {
    let only_one = Bounds {
        connections: 1,
        head: Duration::from_secs(20),
        ..impatient()
    };
    let script = "turns: [{ text: '{{ \"0123456789abcdef\" | repeat 3500 }}', chunk: whole }]";
    let world = World::with(script, |config| config.bounds = only_one).await;
    let create = world
        .request(Method::POST, "/v1/invocations")
        .header("connection", "close")
        .json(&json!({"agent": "helper", "task": "hi", "wait": true}));
    let report = Answer::of(create).await.expect(200).json();
    let events = format!(
        "/v1/invocations/{}/events",
        report["invocation"].as_str().unwrap()
    );
    until_served(&world).await;
    let mut deaf = TcpStream::connect(world.address).await.unwrap();
    // Asked for so often that the answers are far more than the buffers of both sockets hold.
    let ask = format!("GET {events} HTTP/1.1\r\nhost: localhost\r\n\r\n").repeat(400);
    deaf.write_all(ask.as_bytes()).await.unwrap();
    // The first bytes show that it has the only place; nothing more is read.
    let mut first = [0; 12];
    deaf.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    until_served(&world).await;
    drop(deaf);
}

/// Waits until the server has room for a request.
async fn until_served(world: &World) {
    let served = async {
        while let Err(_) | Ok(503) = status(world).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), served)
        .await
        .expect("a place is given back");
}

#[tokio::test]
async fn a_client_that_leaves_leaves_its_invocation_running() {
    let script = "turns: [{ text: 'one two three', chunk: words, delay: 50ms }]";
    let world = World::new(script).await;
    let response = world
        .request(Method::POST, "/v1/invocations")
        .header("accept", "text/event-stream")
        .json(&json!({"agent": "helper", "task": "count"}))
        .send()
        .await
        .unwrap();
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    drop(response);
    let response = world
        .request(Method::GET, &format!("{place}/events"))
        .send()
        .await
        .unwrap();
    let told = read_events(response, |_| false).await;
    assert_eq!(told.last().unwrap().data["outcome"], "completed");
    assert_eq!(world.model.billed().calls, 1);
}

#[tokio::test]
async fn a_shutdown_ends_in_time_whatever_clients_do() {
    let mut world = World::with(HELLO, |config| config.bounds = impatient()).await;
    // One that sends nothing, and one in the middle of a head.
    let idle = TcpStream::connect(world.address).await.unwrap();
    let mut half = TcpStream::connect(world.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    world.get("/health/live").await.expect(200);
    let leftovers = tokio::time::timeout(Duration::from_secs(20), world.stop())
        .await
        .expect("it ends");
    assert_eq!(leftovers.invocations, []);
    drop((idle, half));
    let refused = world.request(Method::GET, "/health/live").send().await;
    assert!(refused.is_err(), "nobody listens any more");
}
