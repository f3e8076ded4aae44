//! Rules of compaction: what may be sent to get a summary, and what a new history has to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use otto_core::ToolCallId;
use otto_core::compaction::{LATEST_MARK, asks_for_summary, replaced_replies};
use otto_core::message::{Message, UserBlock};

use crate::oracle::Known;
use crate::rule::{Held, Rule, require};

/// What a new history says in the place of a summary that could not be made.
const WITHOUT: &str = "(There is no summary: ";

impl Known {
    /// A request for a summary carries the older part of the history as it was said, and nothing else.
    pub(super) fn asks_for_summary(&self, sent: &[Arc<Message>]) -> Held {
        let (request, older) = match sent.split_last() {
            Some((request, older)) => (texts(request), older),
            None => (Vec::new(), sent),
        };
        let is_asked = matches!(request.as_slice(), [text] if asks_for_summary(text));
        require(is_asked, Rule::CompactionKeeps, || {
            format!("a summary is asked for with {request:?}")
        })?;
        let differs = self
            .history
            .iter()
            .zip(older)
            .position(|(old, new)| old != new);
        require(differs.is_none(), Rule::AppendOnly, || {
            format!("a summary is asked for of another history, the first change is at {differs:?}")
        })
    }

    /// Whether this is not the old history with something behind it.
    pub(super) fn is_replaced(&self, sent: &[Arc<Message>]) -> bool {
        match (self.history.first(), sent.first()) {
            (Some(old), Some(new)) => old != new && replaced_by(new).is_some(),
            _ => false,
        }
    }

    /// A new history: one message with the task, a summary that was made or the word that there is none, what is
    /// pinned, and the latest turns with what was answered in them.
    pub(super) fn becomes(
        &mut self,
        task: &str,
        sent: &[Arc<Message>],
        accepted: &BTreeMap<ToolCallId, (Arc<str>, bool)>,
        started: &BTreeSet<ToolCallId>,
    ) -> Held {
        let keeps = |holds: bool, what: &str| {
            require(holds, Rule::CompactionKeeps, || {
                format!("{what}: {:?}", sent.first())
            })
        };
        let first = texts(&sent[0]);
        let [first_text, summary, latest] = first.as_slice() else {
            return keeps(false, "it is not task, summary and latest turns");
        };
        keeps(sent.len() == 1, "it is more than one message")?;
        keeps(
            latest.starts_with(LATEST_MARK),
            "the latest turns are not quoted",
        )?;
        keeps(&**first_text == task, "it does not begin with the task")?;
        let before = self.history.first().and_then(replaced_by).unwrap_or(0);
        keeps(
            replaced_by(&sent[0]) > Some(before),
            "it stands for no more than the last one",
        )?;
        let is_made = summary.contains(WITHOUT)
            || self
                .summaries
                .iter()
                .any(|words| summary.contains(&**words));
        keeps(is_made, "nobody has made this summary")?;
        self.pins_unknown_calls(summary)?;
        let is_quoted = |id: &ToolCallId| latest.contains(&format!("call `{id}`:"));
        for (id, (content, _)) in accepted.iter().filter(|(id, _)| is_quoted(id)) {
            keeps(
                latest.contains(&**content),
                &format!("the result of {id} is not quoted"),
            )?;
        }
        // A call that has run is known to the model: it was in a request, or it is quoted now.
        let ran = self.executed.keys().chain(started);
        let quoted: Vec<ToolCallId> = ran.filter(|id| is_quoted(id)).cloned().collect();
        self.history_calls.extend(quoted);
        self.history = sent.to_vec();
        Ok(())
    }

    /// A call of unknown outcome that is replaced stays named.
    fn pins_unknown_calls(&self, summary: &str) -> Held {
        let results = self.history.iter().flat_map(|message| match &**message {
            Message::User(blocks) => blocks.as_slice(),
            Message::Assistant(_) => &[],
        });
        for block in results {
            let UserBlock::ToolResult(result) = block else {
                continue;
            };
            let is_unknown = result.is_error
                && result.content.contains("outcome")
                && result.content.contains("is unknown");
            let is_named = summary.contains(&format!("- {} of `", result.call));
            require(!is_unknown || is_named, Rule::CompactionKeeps, || {
                format!("call {} of unknown outcome is forgotten", result.call)
            })?;
        }
        Ok(())
    }
}

fn texts(message: &Message) -> Vec<Arc<str>> {
    match message {
        Message::User(blocks) => blocks
            .iter()
            .filter_map(|block| match block {
                UserBlock::Text(text) => Some(text.clone()),
                UserBlock::ToolResult(_) => None,
            })
            .collect(),
        Message::Assistant(_) => Vec::new(),
    }
}

/// How many replies a first message stands for.
fn replaced_by(message: &Arc<Message>) -> Option<u32> {
    texts(message)
        .get(1)
        .and_then(|text| replaced_replies(text))
}
