//! Many clients follow their invocations through a `kill -9` of the server in the middle.
//!
//! `OTTO_SERVE_CLIENTS` and `OTTO_SERVE_IDLE` name other sizes than those of the test command; `cargo xtask
//! soak-serve` runs the full ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::follow::{follow, read};
use super::{Served, client, json};
use crate::sse::Told;
use crate::world::World;

const CLIENTS: usize = 150;
const IDLE: usize = 500;

/// How long a client waits before it comes back. Long enough to leave the processor to the server.
const PAUSE: Duration = Duration::from_millis(100);
/// BOUND: how often a client comes back.
const ATTEMPTS: usize = 600;

/// BOUND: how often the test looks whether it is time for the kill.
const POLLS: usize = 60_000;

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// What one client was told of its invocation.
struct Client {
    number: usize,
    place: Option<String>,
    told: Vec<Told>,
    attempts: usize,
}

impl Client {
    /// Invokes and follows to the end, whatever happens to the server meanwhile.
    async fn run(number: usize, url: Arc<str>, finished: Arc<AtomicUsize>) -> Self {
        let http = client();
        let mut this = Self {
            number,
            place: None,
            told: Vec::new(),
            attempts: 0,
        };
        while this.told.last().is_none_or(|told| told.name != "finished") {
            this.attempts += 1;
            assert!(this.attempts < ATTEMPTS, "client {number} gave up");
            let request = match &this.place {
                None => http
                    .post(format!("{url}/v1/invocations"))
                    .header("accept", "text/event-stream")
                    .header("idempotency-key", format!("client-{number}"))
                    .json(&json!({"agent": "helper", "task": format!("task {number}")})),
                Some(place) => {
                    let request = http.get(format!("{url}{place}/events"));
                    match this.told.last().and_then(|told| told.id.as_ref()) {
                        Some(id) => request.header("last-event-id", id),
                        None => request,
                    }
                }
            };
            if let Ok(response) = request.send().await
                && response.status() == 200
            {
                let place = response.headers()["location"].to_str().unwrap();
                this.place = Some(place.to_owned());
                read(response, &mut this.told).await;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        finished.fetch_add(1, Ordering::AcqRel);
        this
    }
}

#[test]
fn every_invocation_completes_exactly_once_through_a_kill() {
    let clients = size("OTTO_SERVE_CLIENTS", CLIENTS);
    // Each reads a file and then speaks; the pauses keep many of them under way at a time.
    let script = "turns:\n  - { text: 'I look.', tool: { name: fs.read, input: { path: note.txt } }, delay: 150ms }\n  - { text: 'I saw {{ result.fs_read | line_count }} lines for {{ task }}.', chunk: words, delay: 150ms }\n";
    let world = World::new()
        .with_agent()
        .file("project/note.txt", "one\ntwo\n")
        .set("OTTO_DAILY_COST", "$1000")
        .with_model(script);
    let served = Served::start(&world);
    let address = served.address().to_owned();
    let url: Arc<str> = Arc::from(served.url.as_str());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let finished = Arc::new(AtomicUsize::new(0));
    let running: Vec<_> = (0..clients)
        .map(|number| runtime.spawn(Client::run(number, url.clone(), finished.clone())))
        .collect();
    // In the middle: some have ended, most have not.
    runtime.block_on(async {
        for _ in 0..POLLS {
            if finished.load(Ordering::Acquire) >= clients / 10 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no tenth of {clients} clients has ended: the server is stuck");
    });
    let ended_before = finished.load(Ordering::Acquire);
    served.kill();
    let served = Served::start_at(&world, &address);
    let all: Vec<Client> = runtime.block_on(async {
        let mut all = Vec::new();
        for client in running {
            all.push(client.await.unwrap());
        }
        all
    });
    println!("{ended_before} of {clients} clients had ended before the kill");
    assert!(
        ended_before < clients,
        "the kill came too late to show anything"
    );
    runtime.block_on(async {
        for client in &all {
            check(client, &served.url).await;
        }
        let invocations: BTreeSet<&String> = all
            .iter()
            .filter_map(|client| client.place.as_ref())
            .collect();
        assert_eq!(invocations.len(), clients, "each client has one of its own");
        let told = check_books(&world, &served.url, clients, &all).await;
        println!("{told}");
    });
}

/// What a client was told is what a reader from the beginning is told: nothing lost, nothing twice.
async fn check(client: &Client, url: &str) {
    let number = client.number;
    let place = client.place.as_ref().unwrap();
    let whole = follow(url, &format!("{place}/events"), None).await;
    let of = |told: &[Told]| -> Vec<(Option<String>, String)> {
        told.iter()
            .map(|told| (told.id.clone(), told.name.clone()))
            .collect()
    };
    assert_eq!(of(&client.told), of(&whole), "client {number}");
    let last = client.told.last().unwrap();
    assert_eq!(
        last.data["outcome"], "completed",
        "client {number}: {last:?}"
    );
    let text = format!("I saw 2 lines for task {number}.");
    assert_eq!(last.data["text"], text.as_str(), "client {number}");
}

/// The ledger holds what the provider billed, and above that only holds of calls whose usage never came.
async fn check_books(world: &World, url: &str, clients: usize, all: &[Client]) -> String {
    let (_, usage) = json(client().get(format!("{url}/v1/usage?by=agent"))).await;
    let row = &usage["rows"][0];
    let number = |value: &Value| value.as_u64().unwrap();
    let (calls, unconfirmed) = (number(&row["calls"]), number(&row["unconfirmed_calls"]));
    let charged = number(&row["charged"]["picodollars"]);
    world.server().idle().await;
    let billed = world.server().billed();
    let largest_hold = all
        .iter()
        .flat_map(|client| &client.told)
        .filter(|told| told.name == "reserved")
        .map(|told| number(&told.data["held_picodollars"]))
        .max()
        .unwrap();
    let told = format!(
        "{calls} calls charged, {unconfirmed} of them at their hold; billed {} calls, {} picodollars of {charged}",
        billed.calls,
        billed.cost.picodollars()
    );
    let excess = charged
        .checked_sub(billed.cost.picodollars())
        .expect("nothing is billed that is not in the ledger");
    assert!(
        excess <= unconfirmed * largest_hold,
        "{excess} picodollars more than the bill and the holds of {unconfirmed} calls explain"
    );
    assert_eq!(
        calls - unconfirmed,
        2 * clients as u64,
        "each answer is paid for once"
    );
    assert_eq!(number(&usage["today"]["held"]["picodollars"]), 0);
    told
}

#[test]
fn idle_connections_do_not_keep_others_out() {
    let idle = size("OTTO_SERVE_IDLE", IDLE);
    let world = World::new()
        .with_agent()
        .with_model("turns: [{ text: Hello, repeat: forever }]");
    let served = Served::start(&world);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..idle {
            held.push(
                tokio::net::TcpStream::connect(served.address())
                    .await
                    .unwrap(),
            );
        }
        let body = json!({"agent": "helper", "task": "hi", "wait": true});
        let create = client()
            .post(format!("{}/v1/invocations", served.url))
            .json(&body);
        let (status, report) = json(create).await;
        assert_eq!(
            (status, &report["outcome"]),
            (200, &json!("completed")),
            "{report}"
        );
        drop(held);
    });
}
