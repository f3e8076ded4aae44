//! The requests received, kept for tests to look at.
//!
//! Invariant: no key is ever in it.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use hyper::HeaderMap;

use crate::limits;

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in small letters, in the order received; without `authorization`, `x-api-key` and cookies.
    pub headers: Vec<(String, String)>,
    /// The body as it was sent.
    pub body: Bytes,
    /// The id it was answered with.
    pub request_id: String,
}

impl RecordedRequest {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

const SECRET: [&str; 4] = [
    "authorization",
    "x-api-key",
    "cookie",
    "proxy-authorization",
];

pub(super) struct RequestLog {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<RecordedRequest>,
    bytes: usize,
}

impl RequestLog {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::new(Kept::default()),
        }
    }

    pub(super) fn add(&self, head: &hyper::http::request::Parts, body: &Bytes, request_id: &str) {
        if self.most == 0 {
            return;
        }
        let request = RecordedRequest {
            method: head.method.to_string(),
            path: head
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers: shown_headers(&head.headers),
            body: body.clone(),
            request_id: request_id.to_owned(),
        };
        let mut kept = self.lock();
        kept.bytes += body.len();
        kept.requests.push_back(request);
        // BOUND: by number and by bytes; the latest one always stays.
        while kept.requests.len() > self.most
            || (kept.bytes > limits::LOG_BYTES && kept.requests.len() > 1)
        {
            let Some(oldest) = kept.requests.pop_front() else {
                break;
            };
            kept.bytes -= oldest.body.len();
        }
    }

    pub(super) fn all(&self) -> Vec<RecordedRequest> {
        self.lock().requests.iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A panic while it was locked can only have lost a request of the log.
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| !SECRET.contains(&name.as_str()))
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}
