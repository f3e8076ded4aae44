//! Reading the audit log: its facts, its end, and the policy that what audit mode let pass would need.
//!
//! The log is a chain of records; each holds one or more facts, one JSON object per line. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use otto_core::audit::AuditKind;
use otto_core::port::store::{AuditCheck, AuditHead, AuditLog, StoreError};
use otto_core::store_rules::{parse_place, place_text};
use serde_json::Value;

use crate::config::OperatorConfig;

/// BOUND: records that are read at once.
pub(crate) const RECORDS_AT_ONCE: u32 = 256;
/// BOUND: facts that are kept to tell the last of them.
const MOST_FACTS: usize = 1_000_000;
/// BOUND: records that one page looks through: a filter that finds nothing is answered as well.
const RECORDS_OF_A_PAGE: u64 = 100_000;

/// A fact of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditFact {
    /// The record it is in.
    pub record: u64,
    /// What happened: a JSON object with `at_us`, `what` and more.
    pub fact: Value,
}

impl AuditFact {
    /// The text of a field, or nothing.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.fact[key].as_str().unwrap_or_default()
    }

    /// When, in microseconds since 1970 in UTC.
    #[must_use]
    pub fn at_us(&self) -> u64 {
        self.fact["at_us"].as_u64().unwrap_or_default()
    }
}

/// Which facts are wanted; all, where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only facts of records after this one.
    pub after: u64,
    /// Only facts of this kind, such as `tool_ended`.
    pub what: Option<AuditKind>,
    /// Only facts of the session or invocation with this id.
    pub of: Option<String>,
}

impl AuditFilter {
    fn wants(&self, fact: &AuditFact) -> bool {
        let is_what = self
            .what
            .is_none_or(|what| fact.text("what") == what.as_str());
        is_what
            && self
                .of
                .as_deref()
                .is_none_or(|id| fact.text("session") == id || fact.text("invocation") == id)
    }
}

/// Facts of whole records, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditPage {
    /// The facts.
    pub facts: Vec<AuditFact>,
    /// The record to go on after; `None` at the end of the log.
    pub next: Option<u64>,
}

/// The audit log of an Otto.
#[derive(Clone)]
pub struct Audit {
    pub(crate) log: Arc<dyn AuditLog>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

/// The end of the log in a form to be kept elsewhere: `SEQUENCE:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor(pub AuditHead);

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&place_text(self.0.sequence, &self.0.hash))
    }
}

/// Not an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an anchor: expected `SEQUENCE:HASH` as `otto audit head` prints it, with 64 hexadecimal digits"
)]
pub struct InvalidAnchor;

impl FromStr for Anchor {
    type Err = InvalidAnchor;

    fn from_str(text: &str) -> Result<Self, InvalidAnchor> {
        let (sequence, hash) = parse_place(text).ok_or(InvalidAnchor)?;
        Ok(Self(AuditHead { sequence, hash }))
    }
}

impl Audit {
    /// The end of the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn head(&self) -> Result<Anchor, StoreError> {
        Ok(Anchor(self.log.audit_head().await?))
    }

    /// Checks every record against those before it, and the log against an anchor. An anchor of a record that the
    /// retention has removed cannot be compared any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn check(&self, anchor: Option<Anchor>) -> Result<AuditCheck, StoreError> {
        self.log.check_audit(anchor.map(|anchor| anchor.0)).await
    }

    /// The last of the facts that a filter wants, at most `most` (and never more than a million), in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last(
        &self,
        filter: &AuditFilter,
        most: usize,
    ) -> Result<Vec<AuditFact>, StoreError> {
        let most = most.min(MOST_FACTS);
        let mut last = VecDeque::new();
        self.facts(filter.after, |fact| {
            if filter.wants(&fact) {
                last.push_back(fact);
                if last.len() > most {
                    last.pop_front();
                }
            }
            true
        })
        .await?;
        Ok(last.into())
    }

    /// The next facts that a filter wants, for whoever reads the log in pieces. A record is told whole, so there
    /// may be some more than `enough`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page(&self, filter: &AuditFilter, enough: usize) -> Result<AuditPage, StoreError> {
        let enough = enough.max(1);
        let mut page = AuditPage::default();
        let mut seen = filter.after;
        let mut first = None;
        self.facts(filter.after, |fact| {
            // The first one may be far on: what was before it is gone.
            let first = *first.get_or_insert(fact.record);
            let is_new_record = fact.record != seen;
            let is_full = page.facts.len() >= enough
                || fact.record.saturating_sub(first) >= RECORDS_OF_A_PAGE;
            if is_new_record && is_full {
                page.next = Some(seen);
                return false;
            }
            seen = fact.record;
            if filter.wants(&fact) {
                page.facts.push(fact);
            }
            true
        })
        .await?;
        Ok(page)
    }

    /// What audit mode let pass.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn would_deny(&self) -> Result<WouldDenyReport, StoreError> {
        let mut report = WouldDenyReport::default();
        self.facts(0, |fact| {
            report.add(&fact);
            true
        })
        .await?;
        Ok(report)
    }

    /// Hands the facts of all records after `record` to `each`, in order, until it says `false`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn facts(
        &self,
        record: u64,
        mut each: impl FnMut(AuditFact) -> bool,
    ) -> Result<(), StoreError> {
        let mut after = record;
        loop {
            let entries = self.log.read_audit(after, RECORDS_AT_ONCE).await?;
            for entry in &entries {
                after = entry.sequence;
                for line in entry.record.text.lines() {
                    // A line of somebody else's making is shown as the text it is.
                    let fact = serde_json::from_str(line)
                        .unwrap_or_else(|_| serde_json::json!({"what": "text", "text": line}));
                    let record = entry.sequence;
                    if !each(AuditFact { record, fact }) {
                        return Ok(());
                    }
                }
            }
            if entries.len() < RECORDS_AT_ONCE as usize {
                return Ok(());
            }
        }
    }
}

/// What audit mode let pass, gathered from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WouldDenyReport {
    /// How often something passed.
    pub count: u64,
    /// Tools that are on no allowlist of the operator, with how often and which agents called them.
    pub tools: BTreeMap<String, Passed>,
    /// Hosts that are on no list.
    pub hosts: BTreeMap<String, Passed>,
    /// Permissions that were not granted, by tool.
    pub permissions: BTreeMap<(String, String), Passed>,
    /// The agent of each invocation that was seen.
    agents: BTreeMap<String, String>,
}

/// How often something passed, and for which agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// How often.
    pub times: u64,
    /// For which agents.
    pub agents: BTreeSet<String>,
}

impl WouldDenyReport {
    /// Adds a fact, if it is one that matters here.
    pub fn add(&mut self, fact: &AuditFact) {
        match fact.text("what") {
            "invocation_started" | "invocation_resumed" => {
                let (id, agent) = (fact.text("invocation"), fact.text("agent"));
                self.agents.insert(id.to_owned(), agent.to_owned());
            }
            "would_deny" => {
                self.count += 1;
                let agent = self.agents.get(fact.text("invocation")).cloned();
                let tool = fact.text("tool").to_owned();
                let passed = match fact.text("policy") {
                    "allowed_hosts" => self.hosts.entry(fact.text("host").to_owned()),
                    "permissions" => {
                        let passed = self
                            .permissions
                            .entry((tool, fact.text("missing").to_owned()))
                            .or_default();
                        return passed.add(agent);
                    }
                    _ => self.tools.entry(tool),
                };
                passed.or_default().add(agent);
            }
            _ => {}
        }
    }

    /// The lines of the operator's configuration that would let the same pass without audit mode.
    #[must_use]
    pub fn snippet(&self, operator: &OperatorConfig) -> String {
        fn texts<T: ToString>(list: &[T]) -> Vec<String> {
            list.iter().map(ToString::to_string).collect()
        }
        let tools = operator.tools.as_ref().map(|tools| texts(&tools.value));
        let hosts = operator.allowed_hosts.as_ref();
        let hosts = hosts.map(|hosts| texts(&hosts.value));
        self.snippet_beside(tools.as_deref(), hosts.as_deref())
    }

    /// As [`WouldDenyReport::snippet`], beside what is allowed already (`None` where no list is set, which allows
    /// all).
    fn snippet_beside(&self, tools: Option<&[String]>, hosts: Option<&[String]>) -> String {
        let mut text = String::new();
        let mut list = |key: &str, known: Option<&[String]>, more: &BTreeMap<String, Passed>| {
            let Some(known) = known else { return };
            if more.is_empty() {
                return;
            }
            text.push_str(&format!("{key}:\n"));
            for name in known {
                text.push_str(&format!("  - {}\n", quoted(name)));
            }
            for (name, passed) in more.iter().filter(|(name, _)| !known.contains(name)) {
                text.push_str(&format!("  - {}  # {passed}\n", quoted(name)));
            }
        };
        list("tools", tools, &self.tools);
        list("allowed_hosts", hosts, &self.hosts);
        text
    }
}

impl Passed {
    fn add(&mut self, agent: Option<String>) {
        self.times += 1;
        self.agents.extend(agent);
    }
}

impl fmt::Display for Passed {
    /// `3 times, by reviewer and writer`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.times == 1 { "time" } else { "times" };
        write!(f, "{} {times}", self.times)?;
        if !self.agents.is_empty() {
            let agents: Vec<&str> = self.agents.iter().map(String::as_str).collect();
            write!(f, ", by {}", agents.join(", "))?;
        }
        Ok(())
    }
}

/// As a YAML scalar that is a text and nothing else.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use otto_core::Timestamp;
    use otto_core::port::store::{AuditRecord, Durability};
    use serde_json::json;

    use super::*;

    fn fact(fact: Value) -> AuditFact {
        AuditFact { record: 1, fact }
    }

    #[test]
    fn an_anchor_is_read_as_it_is_printed() {
        let head = AuditHead {
            sequence: 7,
            hash: std::array::from_fn(|i| u8::try_from(i).unwrap() * 7),
        };
        let text = Anchor(head).to_string();
        assert_eq!(text.parse(), Ok(Anchor(head)));
        for text in ["", "7", "7:", "7:00", "x:y", "é:é", &"a".repeat(70)] {
            assert_eq!(text.parse::<Anchor>(), Err(InvalidAnchor), "{text}");
        }
    }

    #[tokio::test]
    async fn pages_reach_the_end_wherever_the_log_begins() {
        let log = Arc::new(otto_store_memory::MemoryStore::new());
        let record = |number: u64| AuditRecord {
            at: Timestamp::EPOCH,
            text: Arc::from(json!({"what": "settled", "number": number}).to_string()),
        };
        let records = (1..=RECORDS_OF_A_PAGE + 500).map(record).collect();
        log.append_audit(records, Durability::Relaxed)
            .await
            .unwrap();
        let last = log.read_audit(RECORDS_OF_A_PAGE + 9, 1).await.unwrap();
        let through = AuditHead {
            sequence: last[0].sequence,
            hash: last[0].hash,
        };
        log.trim_audit(through, Timestamp::EPOCH).await.unwrap();
        let audit = Audit { log };
        let mut filter = AuditFilter {
            what: Some(AuditKind::Settled),
            ..AuditFilter::default()
        };
        let mut found = 0;
        loop {
            let page = audit.page(&filter, 200).await.unwrap();
            found += page.facts.len();
            let Some(next) = page.next else { break };
            assert!(next > filter.after, "it goes on");
            filter.after = next;
        }
        assert_eq!(found, 490);
    }

    #[test]
    fn what_passed_becomes_the_lines_that_would_let_it_pass() {
        let mut report = WouldDenyReport::default();
        for value in [
            json!({"what": "invocation_started", "invocation": "i", "agent": "helper"}),
            json!({"what": "would_deny", "invocation": "i", "tool": "fs.write", "policy": "tools"}),
            json!({"what": "would_deny", "invocation": "i", "tool": "fs.write", "policy": "tools"}),
            json!({"what": "would_deny", "invocation": "j", "tool": "http", "policy": "allowed_hosts", "host": "a.org:443"}),
            json!({"what": "tool_started", "invocation": "i", "tool": "grep"}),
        ] {
            report.add(&fact(value));
        }
        assert_eq!(report.count, 3);
        let (tools, hosts) = (["grep".to_owned()], ["b.org".to_owned()]);
        assert_eq!(
            report.snippet_beside(Some(&tools), Some(&hosts)),
            "tools:\n  - \"grep\"\n  - \"fs.write\"  # 2 times, by helper\nallowed_hosts:\n  - \"b.org\"\n  - \"a.org:443\"  # 1 time\n"
        );
        assert_eq!(report.snippet_beside(None, None), "");
    }
}
