//! A reader of server-sent events. The command's tests include it as well.

use futures_util::StreamExt;
use serde_json::Value;

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Told {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// Hands the events of a response to `enough` until it says so, or the stream ends or breaks off.
pub(crate) async fn read(response: reqwest::Response, mut enough: impl FnMut(Told) -> bool) {
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    while let Some(Ok(chunk)) = bytes.next().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let event = parse(event);
            text = rest.to_owned();
            if event.is_some_and(&mut enough) {
                return;
            }
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
