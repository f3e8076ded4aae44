//! How it ends, and what the next one takes up.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};

use super::follow::follow;
use super::{Served, client, in_async, json};
use crate::world::{PATIENCE, World};

/// The first attempt falls silent in the middle, the second is whole.
const ONCE_SILENT: &str = "turns: [{ text: 'one two three four', chunk: words, faults: [{ attempt: 1, stall: { event: 5 } }] }]";

/// No attempt ever ends.
const SILENT: &str = "turns: [{ text: 'one two three four', chunk: words, faults: [{ attempt: all, stall: { event: 5 } }] }]";

async fn create(served: &Served) -> Value {
    let body = json!({"agent": "helper", "task": "count"});
    let create = client()
        .post(format!("{}/v1/invocations", served.url))
        .json(&body);
    let (status, ids) = json(create).await;
    assert_eq!(status, 202, "{ids}");
    ids
}

/// As [`create`]; the model has been asked when this returns, so the next request is the second.
fn create_and_ask(world: &World, served: &Served) -> Value {
    in_async(async {
        let ids = create(served).await;
        tokio::time::timeout(PATIENCE, world.server().asked(1))
            .await
            .expect("the model is asked");
        ids
    })
}

#[test]
fn what_a_shutdown_interrupts_goes_on_with_the_next_one() {
    let world = World::new().with_agent().with_model(ONCE_SILENT);
    let mut served = Served::start(&world);
    let ids = create_and_ask(&world, &served);
    served.signal("INT");
    assert_eq!(served.line("stopping")["running"], 1);
    let stopped = served.line("stopped");
    assert_eq!(
        stopped["left"][0]["invocation"], ids["invocation"],
        "{stopped}"
    );
    assert_eq!(stopped["left"][0]["abandoned"], false);
    assert_eq!(served.code(), Some(0));

    let next = Served::start(&world);
    let recovered = next.line("recovered");
    assert_eq!(
        recovered["resumed"][0]["invocation"], ids["invocation"],
        "{recovered}"
    );
    assert_eq!(recovered["left"], json!([]));
    let told = in_async(follow(&next.url, ids["events"].as_str().unwrap(), None));
    let last = told.last().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["outcome"]),
        ("finished", &json!("completed"))
    );
    assert_eq!(
        told.iter().filter(|told| told.name == "finished").count(),
        1
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let world = World::new().with_agent().with_model(ONCE_SILENT);
    let mut served = Served::start(&world);
    // A request that is never finished: an orderly end waits for it.
    let mut half = TcpStream::connect(served.address()).unwrap();
    let head = "POST /v1/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    half.write_all(head.as_bytes()).unwrap();
    in_async(async {
        assert_eq!(
            json(client().get(format!("{}/health/live", served.url)))
                .await
                .0,
            200
        )
    });
    served.signal("TERM");
    served.line("stopping");
    served.signal("TERM");
    assert_eq!(served.code(), Some(7));
}

#[test]
fn two_servers_on_one_state_directory_leave_each_others_work_alone() {
    let world = World::new().with_agent().with_model(ONCE_SILENT);
    let first = Served::start(&world);
    let ids = create_and_ask(&world, &first);
    let second = Served::start(&world);
    let recovered = second.line("recovered");
    assert_eq!(recovered["resumed"], json!([]));
    let why = recovered["left"][0]["reason"].as_str().unwrap();
    assert!(why.contains("driven by another Otto process"), "{why}");
    in_async(async {
        let place = format!(
            "{}/v1/invocations/{}",
            second.url,
            ids["invocation"].as_str().unwrap()
        );
        let (status, record) = json(client().get(&place)).await;
        assert_eq!((status, &record["outcome"]), (200, &json!("running")));
    });
    // The first dies; whoever starts next takes its work up, and the second follows it to the end.
    first.kill();
    let third = Served::start(&world);
    assert_eq!(
        third.line("recovered")["resumed"].as_array().unwrap().len(),
        1
    );
    let told = in_async(follow(&second.url, ids["events"].as_str().unwrap(), None));
    assert_eq!(told.last().unwrap().data["outcome"], "completed");
}

#[test]
fn nothing_is_taken_up_while_the_kill_switch_is_thrown() {
    let world = World::new().with_agent().with_model(ONCE_SILENT);
    let served = Served::start(&world);
    let ids = create_and_ask(&world, &served);
    served.kill();
    world.otto(["kill", "a drill"]).expect(0);
    let served = Served::start(&world);
    let recovered = served.line("recovered");
    assert_eq!(recovered["resumed"], json!([]));
    assert_eq!(recovered["left"][0]["invocation"], ids["invocation"]);
    assert!(
        recovered["left"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("a drill"),
        "{recovered}"
    );
    // Lifted, it goes on, without a restart.
    world.otto(["kill", "--lift"]).expect(0);
    let recovered = served.line("recovered");
    assert_eq!(
        recovered["resumed"][0]["invocation"], ids["invocation"],
        "{recovered}"
    );
    let told = in_async(follow(&served.url, ids["events"].as_str().unwrap(), None));
    assert_eq!(told.last().unwrap().data["outcome"], "completed");
}

#[test]
fn what_one_server_drives_is_cancelled_through_another_and_by_the_command() {
    let world = World::new().with_agent().with_model(SILENT);
    let first = Served::start(&world);
    let second = Served::start(&world);
    let ids = in_async(create(&first));
    let events = ids["events"].as_str().unwrap();
    in_async(async {
        let id = ids["invocation"].as_str().unwrap();
        let cancel = format!("{}/v1/invocations/{id}/cancel", second.url);
        let (status, told) = json(client().post(&cancel)).await;
        assert_eq!(status, 202, "{told}");
        let told = follow(&second.url, events, None).await;
        assert_eq!(told.last().unwrap().data["outcome"], "cancelled");
        let (status, problem) = json(client().post(&cancel)).await;
        assert_eq!(status, 409, "{problem}");
    });
    let ids = in_async(create(&first));
    let session = ids["session"].as_str().unwrap();
    let (code, lines) = world.json(["cancel", session]);
    assert_eq!((code, &lines[0]["outcome"]), (0, &json!("cancelled")));
    assert_eq!(lines[0]["invocation"], ids["invocation"]);
    let again = world.otto(["cancel", session]).expect(2);
    assert!(again.stderr.contains("nothing of session"), "{again:?}");
    let unknown = "01a20846-fe00-7102-8000-000000000002";
    let ran = world.otto(["cancel", unknown]).expect(2);
    assert!(ran.stderr.contains("there is no session"), "{ran:?}");
}
