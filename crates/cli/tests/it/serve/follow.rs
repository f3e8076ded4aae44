//! A client of server-sent events that does what such clients do: remembers the last id and comes back with it.

use futures_util::StreamExt;
use serde_json::Value;

use super::client;

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Told {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) data: Value,
}

/// The durable events of a stream, from `after` to its end.
pub(super) async fn follow(url: &str, path: &str, after: Option<&str>) -> Vec<Told> {
    let mut request = client().get(format!("{url}{path}"));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut told = Vec::new();
    read(response, &mut told).await;
    told
}

/// Adds the durable events of a response until it ends or breaks off.
pub(super) async fn read(response: reqwest::Response, told: &mut Vec<Told>) {
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    while let Some(Ok(chunk)) = bytes.next().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let event = parse(event);
            text = rest.to_owned();
            told.extend(event.filter(|event| event.id.is_some()));
        }
    }
}

fn parse(text: &str) -> Option<Told> {
    let mut told = Told::default();
    for line in text.lines() {
        match line.split_once(':') {
            Some(("id", id)) => told.id = Some(id.trim().to_owned()),
            Some(("event", name)) => told.name = name.trim().to_owned(),
            Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
            _ => {}
        }
    }
    (!told.name.is_empty()).then_some(told)
}
