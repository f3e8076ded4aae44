//! The supervised Tokio task that feeds one invocation's machine and performs its effects.
//!
//! The loop is: wait for the next event, journal it, step the machine, perform the effects in order. What an
//! effect does is in `effects/`, one file each; what follows from it is the machine's decision.
//!
//! Invariant: every event is in the journal's buffer before the machine sees it, and the buffer is durable
//! before an effect leaves Otto that must not be repeated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use otto_core::agent::AgentConfig;
use otto_core::id::EffectId;
use otto_core::invocation::{
    CancelReason, Event, Invocation, InvocationSpec, ModelFailureKind, TimerPurpose, ToolEnding,
};
use otto_core::journal;
use otto_core::message::{Message, UserBlock};
use otto_core::policy::Permissions;
use otto_core::port::llm_client::Conversation;
use otto_core::port::store::{Entry, Lease};
use otto_core::{Money, Timestamp, ToolCallId};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::context_store::OwnedData;
use crate::effects::{EndedTool, OpenModelCall, PendingSettle, RunningTool, next_model_event};
use crate::engine::Shared;
use crate::few::Few;
use crate::running::Running;
use crate::telemetry::{self, InvocationWatch};
use crate::timers::Timers;
use crate::{Ids, ListenerEvent, Report};

/// Drives one invocation.
pub struct AgentServer {
    pub(crate) shared: Arc<Shared>,
    /// Tells what happens here.
    pub(crate) watch: InvocationWatch,
    pub(crate) ids: Ids,
    pub(crate) agent: Arc<AgentConfig>,
    /// What the tools of this invocation may do.
    pub(crate) granted: Permissions,
    pub(crate) machine: Invocation,
    pub(crate) conversation: Arc<Conversation>,
    pub(crate) lease: Lease,
    pub(crate) journal: PendingJournal,
    /// Answers that came while effects were performed, oldest first.
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) model: Option<OpenModelCall>,
    pub(crate) tools: JoinSet<(EffectId, EndedTool)>,
    /// The tool calls that run.
    pub(crate) calls: Few<RunningTool>,
    /// The calls of this turn whose end listeners were told.
    pub(crate) told_ends: Vec<ToolCallId>,
    /// A call with side effects has ended, and what it came to may not be with the store yet.
    pub(crate) has_acted: bool,
    /// What the tools share; made for the first call.
    pub(crate) data: Option<OwnedData>,
    pub(crate) timers: Timers,
    pub(crate) settles: Vec<PendingSettle>,
    /// What it shares with those who hold it.
    pub(crate) running: Arc<Running>,
    pub(crate) events: Option<broadcast::Sender<ListenerEvent>>,
    /// A reason to end has been passed on: the machine hears it once.
    pub(crate) has_heard_stop: bool,
    pub(crate) charged: Money,
    /// The lease is lost: nothing may be written any more.
    pub(crate) fenced: bool,
    pub(crate) store_error: Option<String>,
    /// The last failed model call, for listeners.
    pub(crate) last_failure: Option<(ModelFailureKind, Arc<str>)>,
    /// Set by `finish`; the loop ends.
    pub(crate) report: Option<Report>,
}

/// Journal entries that are not yet handed to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingJournal {
    next_sequence: u64,
    entries: Vec<Entry>,
}

impl PendingJournal {
    /// A journal that goes on after `last_sequence`.
    pub(crate) const fn after(last_sequence: u64) -> Self {
        Self {
            next_sequence: last_sequence + 1,
            entries: Vec::new(),
        }
    }

    fn push(&mut self, payload: Arc<str>) {
        self.entries.push(Entry {
            sequence: self.next_sequence,
            payload,
        });
        self.next_sequence += 1;
    }

    pub(crate) fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The sequence of the last entry, pending or not.
    pub(crate) const fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// The sequence of the last entry that was handed over.
    pub(crate) const fn handed_over(&self) -> u64 {
        self.last_sequence() - self.entries.len() as u64
    }

    /// Gives entries back that the store did not keep.
    pub(crate) fn put_back(&mut self, mut kept: Vec<Entry>) {
        kept.append(&mut self.entries);
        self.entries = kept;
    }
}

impl AgentServer {
    /// The sequence of the entry with which every journal begins.
    pub(crate) const BEGINNING: u64 = 1;

    /// The entry with which the journal of an invocation begins; it is stored with the submission.
    pub(crate) fn beginning(now: Timestamp, spec: &Arc<InvocationSpec>) -> Entry {
        Entry {
            sequence: Self::BEGINNING,
            payload: journal::encode(now, &Event::Started(spec.clone())),
        }
    }

    /// Feeds `first`, then everything that happens, until the invocation has ended.
    pub(crate) async fn run(&mut self, first: Event) -> Report {
        if matches!(first, Event::Started(_)) {
            // The journal has it, with the time of the submission: the machine sees what a replay will see.
            self.step(self.running.since, first).await;
        } else {
            self.feed(first).await;
        }
        loop {
            if let Some(report) = self.report.take() {
                return report;
            }
            let event = self.next_event().await;
            self.feed(event).await;
        }
    }

    async fn feed(&mut self, event: Event) {
        self.shared.audit.keep_up().await;
        let now = self.shared.clock.now();
        let line = if event.is_of_model_call() && self.machine.summarizing().is_some() {
            journal::encode_of_summary(now, &event)
        } else {
            journal::encode(now, &event)
        };
        self.journal.push(line);
        self.step(now, event).await;
        if std::mem::take(&mut self.has_acted) {
            self.hand_over().await;
        }
    }

    async fn step(&mut self, now: Timestamp, event: Event) {
        self.watch.event(now, &event);
        self.note_failure(&event);
        let compactions = self.machine.totals().compactions;
        let messages = self.machine.history().len();
        let effects = self.machine.step(now, event);
        self.tell_unrun(messages);
        if self.machine.totals().compactions > compactions {
            self.note_compaction();
        }
        telemetry::effects(&self.ids, &effects);
        self.perform_all(now, effects).await;
    }

    async fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.inbox.pop_front() {
                return event;
            }
            // A stream that always has something must not keep a thread from the others.
            tokio::task::consume_budget().await;
            tokio::select! {
                biased;
                reason = self.running.stop_requested(), if !self.has_heard_stop => {
                    self.has_heard_stop = true;
                    return Event::CancelRequested(reason);
                }
                Some(ended) = self.tools.join_next() => {
                    // A call catches its own panics; a task that was ended from outside has no result to tell.
                    if let Ok((id, ended)) = ended
                        && let Some(event) = self.tool_finished(id, ended)
                    {
                        return event;
                    }
                }
                // Before the model, so that one that talks without end meets its deadline.
                () = self.timers.wait() => {
                    if let Some(effect) = self.timers.take_due(self.shared.clock.now()) {
                        return Event::TimerFired { effect };
                    }
                }
                (id, event) = next_model_event(&mut self.model) => {
                    if let Some(event) = self.model_event(id, event) {
                        return event;
                    }
                }
            }
        }
    }

    /// Why nothing may begin here any more, if so.
    pub(crate) fn stop_ordered(&self) -> Option<CancelReason> {
        self.running.stop().or_else(|| self.shared.stop_ordered())
    }

    /// Tells followers of the journal that everything up to `sequence` is durable.
    pub(crate) fn durable_up_to(&self, sequence: u64) {
        self.running.durable_up_to(sequence);
    }

    /// Tells listeners, if there are any; the event is made only then.
    pub(crate) fn tell(&self, event: impl FnOnce() -> ListenerEvent) {
        if let Some(events) = &self.events {
            // No receiver means that nobody listens any more.
            let _ = events.send(event());
        }
    }

    /// Tells of the calls that the machine has answered by itself: of a tool that the agent does not have, with an
    /// input that is none, or left out by a stop. `before` messages were there before this step.
    fn tell_unrun(&mut self, before: usize) {
        if self.events.is_none() {
            return;
        }
        let history = self.machine.history();
        for (index, message) in history.iter().enumerate().skip(before) {
            let Message::User(blocks) = &**message else {
                continue;
            };
            let asked = index.checked_sub(1).and_then(|index| history.get(index));
            let calls: Vec<_> = asked.iter().flat_map(|asked| asked.tool_calls()).collect();
            for block in blocks {
                if let UserBlock::ToolResult(result) = block
                    && !self.told_ends.contains(&result.call)
                    && let Some(asked) = calls.iter().find(|asked| asked.id == result.call)
                {
                    self.tell(|| ListenerEvent::ToolFinished {
                        call: result.call.clone(),
                        tool: Arc::from(asked.tool.as_str()),
                        // Denied is what a fence refuses.
                        ending: ToolEnding::Failed,
                        refused_by: None,
                        content: result.content.clone(),
                        duration: Duration::ZERO,
                    });
                }
            }
            self.told_ends.clear();
        }
    }

    fn note_compaction(&self) {
        if let Some(last) = self.machine.last_compaction() {
            self.watch.compacted(&last);
            self.tell(|| ListenerEvent::Compacted {
                summarized: last.is_summarized,
                replaced_replies: last.replaced_replies,
                quoted_messages: last.quoted_messages,
            });
        }
    }

    fn note_failure(&mut self, event: &Event) {
        if let Event::ModelFailed { failure, .. } = event {
            self.last_failure = Some((failure.kind, failure.message.clone()));
            if !self.calls.is_empty() {
                self.tell(|| ListenerEvent::TurnCut {
                    message: failure.message.clone(),
                });
            }
        }
    }

    pub(crate) fn note_timer(&self, now: Timestamp, at: Timestamp, purpose: TimerPurpose) {
        if purpose == TimerPurpose::Backoff
            && let Some((kind, message)) = &self.last_failure
        {
            self.tell(|| ListenerEvent::Retrying {
                kind: *kind,
                message: message.clone(),
                wait: at.since(now),
            });
        }
    }
}
