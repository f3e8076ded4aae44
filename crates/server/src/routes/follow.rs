//! Follows one invocation: what is durable, then what comes, to its end.
//!
//! It polls nothing that it can be woken by, holds at most one batch of events, and makes no further ones while
//! its reader is slow.
//!
//! Invariant: an event that is told is in the store, so its id means the same after a crash of the process.

use std::collections::VecDeque;
use std::time::Duration;

use axum::response::sse::Event as SseEvent;
use otto::{InvocationId, ListenerEvent, Progress};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::events::describe;
use super::invocations;
use super::view::RecordView;
use crate::state::AppState;

/// An invocation that another process drives is looked at this often.
const POLL: Duration = Duration::from_millis(250);

/// How far a reader has come: the sequence of the journal, and whether it knows of the end after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    pub(super) sequence: u64,
    pub(super) knows_end: bool,
}

/// What the id of an end has behind the sequence.
const END: &str = ".end";

impl Cursor {
    /// Reads an id: `17`, or `17.end`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, knows_end) = match text.strip_suffix(END) {
            Some(number) => (number, true),
            None => (text, false),
        };
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        Some(Self {
            sequence: is_number.then(|| number.parse().ok())??,
            knows_end,
        })
    }

    fn id(self) -> String {
        let end = if self.knows_end { END } else { "" };
        format!("{}{end}", self.sequence)
    }
}

/// Follows one invocation.
pub(super) struct Follower {
    state: AppState,
    invocation: InvocationId,
    cursor: Cursor,
    ready: VecDeque<SseEvent>,
    running: Option<Running>,
    is_done: bool,
}

/// What can be waited for while it runs in this process.
struct Running {
    progress: Progress,
    deltas: Option<broadcast::Receiver<ListenerEvent>>,
}

impl Follower {
    pub(super) fn new(state: AppState, invocation: InvocationId, cursor: Cursor) -> Self {
        // The first thing a reader gets: how soon to come back when it is cut off.
        let hello = SseEvent::default().retry(Duration::from_secs(1));
        Self {
            state,
            invocation,
            cursor,
            ready: VecDeque::from([hello.comment("otto")]),
            running: None,
            is_done: false,
        }
    }

    /// The next event; `None` at the end, and when the server stops or the store fails: then the reader comes
    /// back with its cursor.
    pub(super) async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_done {
                return None;
            }
            self.look().await.ok()?;
            if self.ready.is_empty() && !self.is_done {
                if *self.state.stop.borrow() {
                    return None;
                }
                self.wait().await;
            }
        }
    }

    async fn look(&mut self) -> Result<(), crate::problem::Problem> {
        if self.running.is_none() {
            let running = self.state.otto.engine().registry().find(self.invocation);
            self.running = running.map(|running| Running {
                progress: running.progress(),
                deltas: running.subscribe(),
            });
        }
        // While it runs here, only what is durable is told. Whether it has ended is read before the journal:
        // what the journal holds after that is all there will be.
        let durable = self
            .running
            .as_mut()
            .map(|running| running.progress.durable());
        let record = invocations::find(&self.state, self.invocation).await?;
        let entries = self
            .state
            .otto
            .journal_after(self.invocation, self.cursor.sequence)
            .await?;
        for entry in entries {
            if durable.is_some_and(|durable| entry.sequence > durable) {
                break;
            }
            self.cursor = Cursor {
                sequence: entry.sequence,
                knows_end: false,
            };
            if let Some((name, data)) = describe(&entry.payload) {
                self.push(name, &data);
            }
        }
        // What runs has no end, although its row may still tell of the one before it was resumed.
        if durable.is_none() && record.outcome.is_some() {
            self.is_done = true;
            if !self.cursor.knows_end {
                self.cursor.knows_end = true;
                let data = serde_json::to_value(RecordView::from(&record)).unwrap_or_default();
                self.push("finished", &data);
            }
        }
        Ok(())
    }

    fn push(&mut self, name: &'static str, data: &Value) {
        let event = SseEvent::default()
            .id(self.cursor.id())
            .event(name)
            .data(data.to_string());
        self.ready.push_back(event);
    }

    /// Waits until there may be more to tell.
    async fn wait(&mut self) {
        let stop = &mut self.state.stop;
        let Some(running) = &mut self.running else {
            tokio::select! {
                _ = stop.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            return;
        };
        tokio::select! {
            _ = stop.changed() => {}
            has_grown = running.progress.grown() => {
                // The invocation has left the registry.
                if !has_grown {
                    self.running = None;
                }
            }
            text = next_delta(&mut running.deltas) => {
                let event = SseEvent::default().event("delta").data(json!({ "text": text }).to_string());
                self.ready.push_back(event);
            }
        }
    }
}

async fn next_delta(deltas: &mut Option<broadcast::Receiver<ListenerEvent>>) -> String {
    while let Some(receiver) = deltas {
        match receiver.recv().await {
            Ok(ListenerEvent::Text(text)) => return text,
            // Deltas are for the eye: what was missed is in the block that follows.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *deltas = None,
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_told() {
        for (sequence, knows_end) in [(0, false), (17, false), (17, true), (u64::MAX, true)] {
            let cursor = Cursor {
                sequence,
                knows_end,
            };
            assert_eq!(Cursor::parse(&cursor.id()), Some(cursor));
        }
        for wrong in [
            "",
            ".end",
            "x",
            "-1",
            "+1",
            "1.",
            "1.END",
            "1 ",
            "18446744073709551616",
        ] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
