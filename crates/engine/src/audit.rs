//! The audit trail: what was in force, granted, refused, held, charged, started and ended, in one place.
//!
//! Facts are lines of JSON, gathered on a *page* and appended to the store's chain of hashes as one record. Nobody
//! waits for it: a page is written by a Tokio task of its own shortly after its first fact, always relaxed, so that it
//! becomes durable with a sync that something else pays for. Texts from outside reach this module redacted.
//!
//! It decides nothing, and a trail that cannot be written stops nobody: what had to be left out is counted, and the
//! count is the next fact.
//!
//! Invariant: facts are in the chain in the order in which they were noted.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use otto_core::agent::AgentConfig;
use otto_core::audit::AuditKind;
use otto_core::invocation::{Outcome, ToolEnding, ToolResult};
use otto_core::ledger::{Denial, Grant, Settled};
use otto_core::model::Usage;
use otto_core::policy::{Permissions, RefusedBy, WouldDeny};
use otto_core::port::store::{AuditLog, AuditRecord, Durability, JournalHead};
use otto_core::store_rules::JOURNAL_KEY;
use otto_core::{Money, Timestamp, ToolCallId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::Shared;
use crate::{Ids, telemetry};

/// How long a fact waits for company.
const PAGE_DELAY: Duration = Duration::from_millis(50);
/// BOUND: bytes of a page; above it, whoever notes facts helps to write them.
const PAGE_BYTES: usize = 256 * 1024;
/// BOUND: bytes that are kept while the store cannot be written; above it, facts are counted instead.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// BOUND: bytes of one text in a fact.
const TEXT_BYTES: usize = 512;

/// Where facts go. Without a log it does nothing.
#[derive(Clone, Default)]
pub(crate) struct AuditTrail(Option<Arc<Trail>>);

struct Trail {
    log: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    page: Mutex<Page>,
    /// Bytes on the page, for a look without the lock.
    waiting: AtomicUsize,
    wake: Notify,
    /// Held by whoever writes, so that pages keep their order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Page {
    text: String,
    /// Facts that found no room since the last page was written.
    left_out: u64,
}

impl AuditTrail {
    /// A trail into this log. It is written by [`keep`], which the supervisor runs.
    pub(crate) fn new(log: Option<Arc<dyn AuditLog>>, clock: Arc<dyn Clock>) -> Self {
        Self(log.map(|log| {
            Arc::new(Trail {
                log,
                clock,
                page: Mutex::default(),
                waiting: AtomicUsize::new(0),
                wake: Notify::new(),
                turn: tokio::sync::Mutex::new(()),
            })
        }))
    }

    /// Waits while the page is full, by writing it.
    pub(crate) async fn keep_up(&self) {
        if let Some(trail) = &self.0
            && trail.waiting.load(Ordering::Relaxed) > PAGE_BYTES
        {
            trail.write().await;
        }
    }

    /// Notes what the operator has put in force, as `key` and `value (origin)`.
    pub(crate) fn configuration(&self, values: &[(String, String)]) {
        self.note(AuditKind::Configuration, |fact| {
            for (key, value) in values {
                fact.text(key, value);
            }
        });
    }

    pub(crate) fn started(
        &self,
        what: Beginning,
        ids: &Ids,
        agent: &AgentConfig,
        granted: Permissions,
    ) {
        let what = match what {
            Beginning::New => AuditKind::InvocationStarted,
            Beginning::Resumed => AuditKind::InvocationResumed,
        };
        self.note(what, |fact| {
            fact.ids(ids);
            fact.display("task", ids.task);
            if let Some(workflow) = ids.workflow {
                fact.display("workflow", workflow);
            }
            fact.text("agent", agent.name.as_str());
            fact.text("origin", &agent.origin.0);
            fact.text("model", agent.model.as_str());
            fact.display("granted", granted);
            fact.list("tools", agent.tools.iter().map(|tool| tool.as_str()));
            if let Some(dir) = &agent.working_dir {
                fact.text("working_dir", &dir.to_string_lossy());
            }
            fact.list(
                "allowed_hosts",
                agent.allowed_hosts.iter().map(|host| &**host),
            );
        });
    }

    pub(crate) fn reserved(&self, ids: &Ids, grant: &Grant) {
        self.note(AuditKind::Reserved, |fact| {
            fact.ids(ids);
            fact.number("held_picodollars", grant.held_cost.picodollars());
            fact.number("held_tokens", grant.held_tokens);
        });
    }

    pub(crate) fn reservation_denied(&self, ids: &Ids, denial: &Denial) {
        self.note(AuditKind::ReservationDenied, |fact| {
            fact.ids(ids);
            fact.display("reason", denial);
        });
    }

    pub(crate) fn settled(&self, ids: &Ids, usage: Option<&Usage>, settled: &Settled) {
        self.note(AuditKind::Settled, |fact| {
            fact.ids(ids);
            fact.number("charged_picodollars", settled.charged.picodollars());
            match usage {
                Some(usage) => fact.number("tokens", usage.total_tokens()),
                None => fact.text("usage", "unconfirmed"),
            }
            if settled.overdrawn {
                fact.text("overdrawn", "the provider billed more than was held");
            }
        });
    }

    /// Holds whose owners died were charged in full.
    pub(crate) fn holds_forfeited(&self, count: u64) {
        self.note(AuditKind::HoldsForfeited, |fact| {
            fact.number("count", count)
        });
    }

    pub(crate) fn tool_started(&self, ids: &Ids, call: &ToolCallId, tool: &str, input: &str) {
        self.note(AuditKind::ToolStarted, |fact| {
            fact.call(ids, call, tool);
            fact.text("input", input);
        });
    }

    pub(crate) fn tool_ended(
        &self,
        ids: &Ids,
        call: &ToolCallId,
        tool: &str,
        result: &ToolResult,
        refused_by: Option<RefusedBy>,
    ) {
        self.note(AuditKind::ToolEnded, |fact| {
            fact.call(ids, call, tool);
            fact.text("ending", result.ending.as_str());
            if let Some(by) = refused_by {
                fact.text("refused_by", by.as_str());
            }
            let took = u64::try_from(result.duration.as_micros()).unwrap_or(u64::MAX);
            fact.number("duration_us", took);
            if result.ending == ToolEnding::Succeeded {
                fact.number("bytes", result.content.len() as u64);
            } else {
                fact.text("reason", result.content.lines().next().unwrap_or_default());
            }
        });
    }

    pub(crate) fn would_deny(&self, ids: &Ids, tool: &str, what: &WouldDeny) {
        self.note(AuditKind::WouldDeny, |fact| {
            fact.ids(ids);
            fact.text("tool", tool);
            match what {
                WouldDeny::NotListed => fact.text("policy", "agent_tools"),
                WouldDeny::NotAllowed => fact.text("policy", "tools"),
                WouldDeny::Permissions(missing) => {
                    fact.text("policy", "permissions");
                    fact.display("missing", missing);
                }
                WouldDeny::Host { .. } => {
                    fact.text("policy", "allowed_hosts");
                    fact.display("host", what);
                }
            }
        });
    }

    /// Notes an end, and where the journal stands there: rewritten later, it no longer matches.
    pub(crate) fn ended(
        &self,
        ids: &Ids,
        outcome: &Outcome,
        charged: Money,
        journal: Option<JournalHead>,
    ) {
        self.note(AuditKind::InvocationEnded, |fact| {
            fact.ids(ids);
            fact.text("outcome", outcome.kind().as_str());
            fact.number("charged_picodollars", charged.picodollars());
            if let Some(head) = journal {
                fact.display(JOURNAL_KEY, head);
            }
        });
    }

    pub(crate) fn killed(&self, reason: &str) {
        self.note(AuditKind::KillSwitchThrown, |fact| {
            fact.text("reason", reason)
        });
    }

    pub(crate) fn kill_lifted(&self) {
        self.note(AuditKind::KillSwitchLifted, |_| {});
    }

    fn note(&self, what: AuditKind, fill: impl FnOnce(&mut Fact<'_>)) {
        let Some(trail) = &self.0 else { return };
        let at = trail.clock.now();
        let mut page = trail.page();
        if page.text.len() > MOST_BYTES {
            page.left_out += 1;
            return;
        }
        let is_first = page.text.is_empty();
        write_fact(&mut page.text, at, what, fill);
        trail.waiting.store(page.text.len(), Ordering::Relaxed);
        drop(page);
        if is_first {
            trail.wake.notify_one();
        }
    }
}

/// How an invocation began.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beginning {
    New,
    Resumed,
}

impl Trail {
    fn page(&self) -> MutexGuard<'_, Page> {
        // A panic while a fact was written leaves a broken line at worst.
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) {
        let _turn = self.turn.lock().await;
        let Some((text, left_out)) = self.take() else {
            return;
        };
        let record = AuditRecord {
            at: self.clock.now(),
            text: Arc::from(text.as_str()),
        };
        if let Err(error) = self
            .log
            .append_audit(vec![record], Durability::Relaxed)
            .await
        {
            telemetry::audit_failed(&error);
            self.put_back(text, left_out);
        }
    }

    fn take(&self) -> Option<(String, u64)> {
        let mut page = self.page();
        if page.text.is_empty() {
            return None;
        }
        let left_out = std::mem::take(&mut page.left_out);
        if left_out > 0 {
            let at = self.clock.now();
            write_fact(&mut page.text, at, AuditKind::FactsLeftOut, |fact| {
                fact.number("count", left_out);
            });
        }
        self.waiting.store(0, Ordering::Relaxed);
        Some((std::mem::take(&mut page.text), left_out))
    }

    /// Gives a page back that was not written; it is tried again with the next fact.
    fn put_back(&self, mut text: String, left_out: u64) {
        let mut page = self.page();
        if left_out > 0 {
            // The line that tells of them is told anew, with the count of then.
            let end = text[..text.len() - 1].rfind('\n').map_or(0, |at| at + 1);
            text.truncate(end);
            page.left_out += left_out;
        }
        text.push_str(&page.text);
        page.text = text;
        // Zero, although there is something: who waited has waited once, and the store cannot be written.
        self.waiting.store(0, Ordering::Relaxed);
    }
}

/// Writes pages until it is told to stop, and the last one then.
pub(crate) async fn keep(shared: Weak<Shared>, stop: CancellationToken) {
    let Some(trail) = shared.upgrade().and_then(|shared| shared.audit.0.clone()) else {
        return stop.cancelled().await;
    };
    write_pages(&trail, &stop).await;
}

async fn write_pages(trail: &Trail, stop: &CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = trail.wake.notified() => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(PAGE_DELAY) => {}
        }
        trail.write().await;
    }
    trail.write().await;
}

fn write_fact(text: &mut String, at: Timestamp, what: AuditKind, fill: impl FnOnce(&mut Fact<'_>)) {
    let _ = write!(text, "{{\"at_us\":{},\"what\":\"{what}\"", at.micros());
    fill(&mut Fact(text));
    text.push_str("}\n");
}

/// A line of JSON in the making. Keys are written as they are.
struct Fact<'a>(&'a mut String);

impl Fact<'_> {
    fn ids(&mut self, ids: &Ids) {
        self.display("session", ids.session);
        self.display("invocation", ids.invocation);
    }

    fn call(&mut self, ids: &Ids, call: &ToolCallId, tool: &str) {
        self.ids(ids);
        self.text("call", &call.0);
        self.text("tool", tool);
    }

    fn number(&mut self, key: &str, value: u64) {
        let _ = write!(self.0, ",\"{key}\":{value}");
    }

    /// What is written with letters, digits and plain signs only: ids, permissions, sums.
    fn display(&mut self, key: &str, value: impl Display) {
        let _ = write!(self.0, ",\"{key}\":\"");
        let _ = write!(Escaped(self.0), "{value}");
        self.0.push('"');
    }

    fn text(&mut self, key: &str, value: &str) {
        let end = value.floor_char_boundary(TEXT_BYTES);
        let cut = if end < value.len() { "..." } else { "" };
        self.display(key, format_args!("{}{cut}", &value[..end]));
    }

    fn list<'t>(&mut self, key: &str, values: impl Iterator<Item = &'t str>) {
        let _ = write!(self.0, ",\"{key}\":[");
        for (i, value) in values.enumerate() {
            self.0.push_str(if i > 0 { ",\"" } else { "\"" });
            let _ = Escaped(self.0).write_str(value);
            self.0.push('"');
        }
        self.0.push(']');
    }
}

/// Writes the inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    self.0.push('\\');
                    self.0.push(c);
                }
                c if u32::from(c) < 0x20 => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use otto_core::port::BoxFuture;
    use otto_core::port::store::{
        AuditCheck, AuditEntry, AuditHead, AuditSpan, AuditTrim, StoreError,
    };
    use serde_json::Value;

    use super::*;
    use crate::clock::SystemClock;

    /// A log that can be told to fail.
    #[derive(Default)]
    struct Log {
        records: Mutex<Vec<(AuditRecord, Durability)>>,
        failures: AtomicUsize,
    }

    impl AuditLog for Log {
        fn append_audit(
            &self,
            records: Vec<AuditRecord>,
            durability: Durability,
        ) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
            Box::pin(async move {
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.fetch_sub(1, Ordering::Relaxed);
                    return Err(StoreError::Unavailable {
                        detail: Arc::from("a test"),
                    });
                }
                let mut kept = self.records.lock().unwrap();
                kept.extend(records.into_iter().map(|record| (record, durability)));
                Ok(AuditHead::default())
            })
        }

        fn audit_head(&self) -> BoxFuture<'_, Result<AuditHead, StoreError>> {
            Box::pin(async { Ok(AuditHead::default()) })
        }

        fn read_audit(&self, _: u64, _: u32) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn trim_audit(
            &self,
            _: AuditHead,
            _: Timestamp,
        ) -> BoxFuture<'_, Result<AuditTrim, StoreError>> {
            Box::pin(async { Ok(AuditTrim::AlreadyDone) })
        }

        fn check_audit(
            &self,
            _: Option<AuditHead>,
        ) -> BoxFuture<'_, Result<AuditCheck, StoreError>> {
            Box::pin(async { Ok(AuditCheck::Whole(AuditSpan::default())) })
        }
    }

    impl Log {
        /// Every fact of every page.
        fn facts(&self) -> Vec<Value> {
            let records = self.records.lock().unwrap();
            let lines = records.iter().flat_map(|(record, _)| record.text.lines());
            lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn in_time(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    /// A trail whose pages somebody writes.
    fn start(log: &Arc<Log>) -> AuditTrail {
        let trail = AuditTrail::new(Some(log.clone()), Arc::new(SystemClock::start()));
        let kept = trail.0.clone().unwrap();
        tokio::spawn(async move { write_pages(&kept, &CancellationToken::new()).await });
        trail
    }

    async fn flush(trail: &AuditTrail) {
        trail.0.as_ref().unwrap().write().await;
    }

    #[test]
    fn many_facts_are_one_relaxed_record_without_anybody_waiting() {
        in_time(async {
            let log = Arc::new(Log::default());
            let trail = start(&log);
            for i in 0..100 {
                trail.killed(&format!("{i} \"quoted\" \\ \u{1b}[31m\n"));
            }
            assert!(log.facts().is_empty(), "nothing is written on the spot");
            tokio::time::sleep(PAGE_DELAY * 2).await;
            let facts = log.facts();
            assert_eq!(facts.len(), 100);
            assert_eq!(facts[7]["reason"], "7 \"quoted\" \\ \u{1b}[31m\n");
            let records = log.records.lock().unwrap();
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].1, Durability::Relaxed);
        });
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_in_order() {
        in_time(async {
            let log = Arc::new(Log::default());
            log.failures.store(1, Ordering::Relaxed);
            let trail = start(&log);
            trail.killed("first");
            flush(&trail).await;
            assert!(log.facts().is_empty());
            trail.killed("second");
            flush(&trail).await;
            let reasons: Vec<Value> = log
                .facts()
                .iter()
                .map(|fact| fact["reason"].clone())
                .collect();
            assert_eq!(reasons, ["first", "second"]);
        });
    }

    #[test]
    fn what_finds_no_room_is_counted_in_the_log() {
        in_time(async {
            let log = Arc::new(Log::default());
            let trail = start(&log);
            log.failures.store(1, Ordering::Relaxed);
            let long = "x".repeat(TEXT_BYTES);
            let noted = 2 * MOST_BYTES / TEXT_BYTES;
            for _ in 0..noted {
                trail.killed(&long);
            }
            flush(&trail).await;
            flush(&trail).await;
            let facts = log.facts();
            let counts: Vec<&Value> = facts
                .iter()
                .filter(|fact| fact["what"] == "facts_left_out")
                .collect();
            assert_eq!(counts.len(), 1, "told once");
            let left_out = usize::try_from(counts[0]["count"].as_u64().unwrap()).unwrap();
            assert!(left_out > 0);
            assert_eq!(facts.len() - 1 + left_out, noted);
        });
    }

    #[test]
    fn long_texts_are_cut() {
        in_time(async {
            let log = Arc::new(Log::default());
            let trail = start(&log);
            trail.killed(&"é".repeat(TEXT_BYTES));
            flush(&trail).await;
            let facts = log.facts();
            let reason = facts[0]["reason"].as_str().unwrap();
            assert!(reason.ends_with("é...") && reason.len() <= TEXT_BYTES + 3);
        });
    }
}
