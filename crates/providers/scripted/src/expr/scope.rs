//! What an expression can see of the conversation, and how much it may compute.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::Value as Json;

use super::{Failure, Source};
use crate::history::{History, PastCall};
use crate::limits;
use crate::script::Conversation;

/// The conversation as a scripted turn sees it: everything before that turn.
pub(crate) struct Scope<'a> {
    pub(crate) conversation: &'a Conversation,
    pub(crate) history: &'a History<'a>,
    /// How many assistant messages lie before this turn.
    pub(crate) turn: usize,
    /// Which scripted turn each earlier assistant message played.
    pub(crate) played: &'a [usize],
    /// The entry of a `for_each` and its position.
    pub(crate) item: Option<(&'a Json, usize)>,
    pub(crate) work: &'a Work,
}

/// The bytes the expressions of one request may still make.
pub(crate) struct Work(Cell<usize>);

impl Work {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(limits::WORK_BYTES))
    }

    /// Uses up `bytes`, and a little for the value itself.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), Failure> {
        let bytes = bytes.saturating_add(limits::WORK_PER_VALUE);
        match self.0.get().checked_sub(bytes) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(Failure(format!(
                "the expressions of this turn make more than {} bytes",
                limits::WORK_BYTES
            ))),
        }
    }
}

impl<'a> Scope<'a> {
    /// The same scope for one entry of a `for_each`.
    pub(crate) fn with_item(&self, item: &'a Json, index: usize) -> Self {
        Scope {
            item: Some((item, index)),
            ..*self
        }
    }

    /// The value an expression begins with.
    pub(super) fn source(&self, source: &Source) -> Result<Json, Failure> {
        let value = match source {
            Source::Literal(value) => value.clone(),
            Source::Task => self.history.task().into_owned().into(),
            Source::User => self.history.user_text(self.turn).into(),
            Source::System => self.history.system.as_str().into(),
            Source::Model => self.history.model.into(),
            Source::Turn => self.turn.saturating_add(1).into(),
            Source::Item => self.item.map_or(Json::Null, |(item, _)| item.clone()),
            Source::Index => self.item.map_or(Json::Null, |(_, index)| index.into()),
            Source::Result(label) => self.last_answered(label).map_or(Json::Null, result_text),
            Source::Failed(label) => {
                let result = self
                    .last_answered(label)
                    .and_then(|call| call.result.as_ref());
                result.is_some_and(|result| result.is_error).into()
            }
            Source::Input(label) => self
                .calls(label)
                .last()
                .map_or(Json::Null, |call| call.input.clone()),
            Source::Results(label) => self
                .calls(label)
                .filter(|call| call.result.is_some())
                .map(result_text)
                .collect(),
            Source::Inputs(label) => self.calls(label).map(|call| call.input.clone()).collect(),
            Source::AllResults => self
                .visible()
                .filter(|call| call.result.is_some())
                .map(result_text)
                .collect(),
            Source::Let(position) => self.binding(*position)?,
        };
        self.work.spend(super::filter::size(&value))?;
        Ok(value)
    }

    /// The value of a `let`: the first alternative that holds, else the last.
    fn binding(&self, position: usize) -> Result<Json, Failure> {
        let alternatives = self
            .conversation
            .lets
            .get(position)
            .map(|(_, alternatives)| alternatives);
        let mut value = Json::Null;
        // A `let` sees only those before it, so this recursion ends.
        for expr in alternatives.into_iter().flatten() {
            value = expr.value(self)?;
            if super::filter::is_true(&value) {
                break;
            }
        }
        Ok(value)
    }

    fn visible(&self) -> impl DoubleEndedIterator<Item = &PastCall<'a>> {
        self.history
            .calls
            .iter()
            .filter(|call| call.turn < self.turn)
    }

    fn calls(&self, label: &str) -> impl DoubleEndedIterator<Item = &PastCall<'a>> {
        self.visible()
            .filter(move |call| self.label_of(call) == label)
    }

    fn last_answered(&self, label: &str) -> Option<&PastCall<'a>> {
        self.calls(label).rfind(|call| call.result.is_some())
    }

    /// The label of a past call: what the script says about the block its id names. A call that this server
    /// did not make is known by its tool's name.
    fn label_of(&self, call: &PastCall<'a>) -> Cow<'a, str> {
        let scripted = call.code.and_then(|code| {
            let turn = self.conversation.turns.get(*self.played.get(code.turn)?)?;
            turn.label(code.block)
        });
        match scripted {
            Some(label) => Cow::Borrowed(label),
            None => crate::wire_name(call.name),
        }
    }
}

fn result_text(call: &PastCall<'_>) -> Json {
    call.result
        .as_ref()
        .map_or(Json::Null, |result| result.text.as_ref().into())
}
