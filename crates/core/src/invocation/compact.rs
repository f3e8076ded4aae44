//! Compaction: when the history is replaced, and what becomes of an invocation whose history no longer fits.
//!
//! Before a turn is asked for, the next prompt is estimated. Above the agent's threshold, or when the provider has
//! said that the prompt is too long, the older turns are summarized by a model call of its own, under a
//! reservation of its own, and the history is replaced. Until the summary is there nothing is changed, so a crash,
//! a cancel or a deadline in the middle loses nothing but the call.
//!
//! - The call fails: it is tried again like any other, under a new hold; the provider failing for good ends the
//!   invocation as it would for a turn.
//! - The reply is no summary (refused, empty, or itself too long to ask for): the older turns are dropped without
//!   one, and the model is told so.
//! - No money for the call: the turn is asked for as it is, and ends as it would without compaction.
//! - Nothing can be replaced: the invocation ends as [`Failure::ContextWindow`].
//!
//! Invariant: each compaction replaces at least one whole turn, so there are never more of them than turns; and
//! the last turn is always quoted whole.

use std::sync::Arc;

use crate::Timestamp;
use crate::compaction::{self, Pinned, Summary};
use crate::id::EffectId;
use crate::invocation::machine::{Invocation, Phase};
use crate::invocation::turn::Turn;
use crate::invocation::{Effect, Failure, InvocationSpec, Outcome, StopReason, resume, stop};
use crate::ledger::{message_bound, text_bound};
use crate::message::Message;

/// What is remembered of compactions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Compaction {
    /// The window was hit: nothing else is asked before the history is shorter.
    is_due: bool,
    /// There was no money for a summary when the history had this many messages: not again before it grows.
    unaffordable_at: Option<usize>,
    /// Replies of the model that the first message stands for.
    replaced_replies: u32,
    pinned: Pinned,
    /// What was replaced, for people: the last messages, oldest first.
    earlier: Vec<Arc<Message>>,
    /// How many more there were.
    forgotten: usize,
    /// Messages that the first message quotes.
    quoted: usize,
    /// The model wrote the last summary.
    is_summarized: bool,
}

/// Bytes that are counted as one token where no count of the provider exists. English and code have about four;
/// three errs on the early side, and where it is wrong the provider's refusal corrects it.
const BYTES_PER_TOKEN: u64 = 3;
/// Of the threshold, the share that the quoted turns may take, and that a compaction must free to be worth a call.
const SHARE: u64 = 4;
/// BOUND: replaced messages that are remembered for people.
pub const EARLIER_MESSAGES: usize = 1_000;

impl Invocation {
    /// Whether its history may be compacted at all now.
    pub(super) fn may_compact(&self) -> bool {
        // A paused reply goes back as it is, behind exactly what it stood behind.
        !self.paused
            && self
                .spec
                .as_ref()
                .is_some_and(|spec| spec.compaction.is_some())
    }

    /// Where to cut the history before the next turn; `None` when it stays as it is.
    pub(super) fn cut_due(&self, spec: &InvocationSpec) -> Option<usize> {
        let rule = spec.compaction.filter(|_| self.may_compact())?;
        if self.compaction.is_due {
            return self.cut(0);
        }
        let threshold = rule.threshold_tokens(spec.model.context_window);
        let share = threshold / SHARE;
        if self.compaction.unaffordable_at == Some(self.history.len())
            || self.prompt_estimate() <= threshold
        {
            return None;
        }
        let cut = self.cut(share)?;
        let replaced = (0..cut).fold(0u64, |sum, at| sum.saturating_add(self.estimate(at)));
        let freed = replaced.saturating_sub(text_bound(&spec.input) / BYTES_PER_TOKEN);
        (freed >= share).then_some(cut)
    }

    fn cut(&self, keep_tokens: u64) -> Option<usize> {
        compaction::cut(&self.history, keep_tokens, |at| self.estimate(at))
    }

    /// About how many tokens the message at a position takes.
    fn estimate(&self, at: usize) -> u64 {
        let bound = self.bounds[at];
        match &*self.history[at] {
            Message::User(_) => bound / BYTES_PER_TOKEN,
            Message::Assistant(reply) => (bound / BYTES_PER_TOKEN).max(reply.output_tokens_bound),
        }
    }

    /// About how many tokens the next prompt takes.
    fn prompt_estimate(&self) -> u64 {
        let (counted, start) = match self.counted {
            Some(counted) => (counted.tokens, counted.messages),
            None => (self.prefix_bound / BYTES_PER_TOKEN, 0),
        };
        (start..self.history.len()).fold(counted, |sum, at| sum.saturating_add(self.estimate(at)))
    }

    /// Asks for the money of a summary.
    pub(super) fn reserve_summary(
        &mut self,
        spec: &InvocationSpec,
        cut: usize,
        out: &mut Vec<Effect>,
    ) {
        let request = message_bound(&compaction::summary_request());
        let prompt_tokens = self.prompt_bound(cut).saturating_add(request);
        let wanted = compaction::SUMMARY_OUTPUT_TOKENS
            .min(spec.model.context_window / 8)
            .max(spec.limits.floor_output_tokens);
        self.reserve(spec, Some(cut), prompt_tokens, wanted, out);
    }

    /// What is sent to get a summary: the older part as it was said, and the request.
    pub(super) fn summary_prompt(&self, cut: usize) -> Vec<Arc<Message>> {
        let mut prompt = self.history[..cut].to_vec();
        prompt.push(Arc::new(compaction::summary_request()));
        prompt
    }

    /// There is no money for a summary: whether the turn can be asked for all the same.
    pub(super) fn goes_on_without_summary(&mut self) -> bool {
        self.compaction.unaffordable_at = Some(self.history.len());
        !self.compaction.is_due
    }

    /// The provider says that a prompt does not fit.
    pub(super) fn prompt_too_long(
        &mut self,
        now: Timestamp,
        answered: EffectId,
        summarizes: Option<usize>,
        out: &mut Vec<Effect>,
    ) {
        self.phase = Phase::Waiting(answered);
        if let Some(cut) = summarizes {
            self.replace(
                cut,
                Summary::Missing("what it was to be made of was too long"),
            );
            return self.begin_turn(now, out);
        }
        let failure = Failure::ContextWindow;
        self.compact_or(now, Outcome::Failed { failure }, out);
    }

    /// Compacts before the next turn; ends with `otherwise` when nothing can be replaced.
    pub(super) fn compact_or(&mut self, now: Timestamp, otherwise: Outcome, out: &mut Vec<Effect>) {
        self.compaction.is_due = true;
        if self.cut(0).is_none() {
            return self.stop(now, otherwise, out);
        }
        self.begin_turn(now, out);
    }

    /// The call for a summary has ended as the protocol says; whatever came is settled.
    pub(super) fn summarized(
        &mut self,
        now: Timestamp,
        cut: usize,
        turn: &Turn,
        stop: &StopReason,
        out: &mut Vec<Effect>,
    ) {
        let text = turn.text();
        let summary = match stop {
            StopReason::Refusal { .. } => Summary::Missing("the provider refused to write it"),
            _ if text.trim().is_empty() => Summary::Missing("the reply to it was empty"),
            StopReason::EndTurn | StopReason::StopSequence | StopReason::ToolUse => {
                Summary::Whole(&text)
            }
            StopReason::MaxTokens
            | StopReason::ContextWindowExceeded
            | StopReason::PauseTurn
            | StopReason::Other(_) => Summary::Cut(&text),
        };
        self.replace(cut, summary);
        self.begin_turn(now, out);
    }

    /// Replaces the history by one message: a summary of everything before `cut`, the rest quoted.
    fn replace(&mut self, cut: usize, summary: Summary<'_>) {
        let Some(spec) = self.spec.clone() else {
            return;
        };
        let old = std::mem::take(&mut self.history);
        self.bounds.clear();
        let state = &mut self.compaction;
        let replies = old[1..]
            .iter()
            .filter(|message| matches!(***message, Message::Assistant(_)))
            .count();
        state.replaced_replies += u32::try_from(replies).unwrap_or(u32::MAX);
        state.pinned.gather(&old, |content| {
            content == resume::OUTCOME_UNKNOWN || content == stop::UNKNOWN
        });
        let first = compaction::first_message(
            &spec.input,
            state.replaced_replies,
            summary,
            &state.pinned,
            &old[cut..],
        );
        state.quoted = old.len() - cut;
        state.earlier.extend(old);
        let excess = state.earlier.len().saturating_sub(EARLIER_MESSAGES);
        state.earlier.drain(..excess);
        state.forgotten += excess;
        state.is_summarized = !matches!(summary, Summary::Missing(_));
        state.is_due = false;
        state.unaffordable_at = None;
        self.counted = None;
        self.totals.compactions += 1;
        self.push(first);
    }

    /// What was said, as people see it: also what compaction has replaced, and in its place in between what it
    /// was replaced by. Messages have numbers from 0 on; these are those from `start` on, as far as they are
    /// still known.
    ///
    /// The last [`EARLIER_MESSAGES`] replaced ones are known; the journal has them all.
    pub fn said(&self, start: usize) -> impl Iterator<Item = (usize, &Arc<Message>)> {
        let state = &self.compaction;
        let all = state.earlier.iter().chain(&self.history);
        (state.forgotten..)
            .zip(all)
            .skip(start.saturating_sub(state.forgotten))
    }

    /// How many messages were said, as people count them: see [`Invocation::said`].
    #[must_use]
    pub fn said_count(&self) -> usize {
        let state = &self.compaction;
        state.forgotten + state.earlier.len() + self.history.len()
    }

    /// Whether the model call that is being asked for or made is no turn but a summary, and of how many messages.
    #[must_use]
    pub const fn summarizing(&self) -> Option<usize> {
        match &self.phase {
            Phase::Reserving(open) => open.summarizes,
            Phase::Calling(turn) => turn.summarizes,
            Phase::New
            | Phase::Answering(_)
            | Phase::Waiting(_)
            | Phase::Stopping(_)
            | Phase::Parked(_)
            | Phase::Ended(_) => None,
        }
    }

    /// What the last compaction has made of the history; `None` before the first.
    #[must_use]
    pub fn last_compaction(&self) -> Option<LastCompaction> {
        (self.totals.compactions > 0).then_some(LastCompaction {
            replaced_replies: self.compaction.replaced_replies,
            quoted_messages: self.compaction.quoted,
            is_summarized: self.compaction.is_summarized,
        })
    }
}

/// What the last compaction has made of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCompaction {
    /// Replies of the model that were replaced, since the start.
    pub replaced_replies: u32,
    /// Messages, the latest ones, that are quoted word for word.
    pub quoted_messages: usize,
    /// The model wrote a summary; otherwise the older turns were dropped without one.
    pub is_summarized: bool,
}
