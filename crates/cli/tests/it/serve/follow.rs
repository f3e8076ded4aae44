//! A client of server-sent events that does what such clients do: remembers the last id and comes back with it.

use super::client;
use crate::sse::{self, Told};

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
    sse::read(response, |event| {
        told.extend(Some(event).filter(|event| event.id.is_some()));
        false
    })
    .await;
}
