//! The facts of a demo, from where they are kept: the journal, the ledger, files, and the scripted provider.
//!
//! Invariant: nothing is taken from the output of the commands but the bytes that are searched for the secret.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use otto::config::OperatorConfig;
use otto::core::invocation::{Event, Invocation};
use otto::core::journal;
use otto::core::ledger::{Amount, Denial};
use otto::core::message::{BlockView, Message, ToolInput, UserBlock};
use otto::{
    Enforcement, InvocationQuery, InvocationRecord, Money, Otto, Outcome, OutcomeKind, StoreError,
};
use otto_scripted::{Billed, BilledEnding, RecordedRequest};
use serde_json::Value;

use super::evidence::{Denied, Facts, Log, Masked, Overspend, Twice};
use super::scene::{REPORT, SETTINGS, Scene};
use crate::error::Failure;
use crate::open;

/// What stood in the journal when the process was killed.
#[derive(Debug, Default)]
pub(super) struct AtKill {
    pub(super) session: Option<String>,
    pub(super) answers: usize,
    file: Option<FileMark>,
}

/// Tells a file from one that was written anew.
#[derive(Debug, PartialEq, Eq)]
struct FileMark {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl FileMark {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            size: meta.len(),
        })
    }
}

impl AtKill {
    /// Looks at the journal. Says whether the moment has come: the report is written, its result is
    /// journaled, and the model is still answering.
    pub(super) async fn look(&mut self, otto: &Otto, scene: &Scene) -> Result<bool, Failure> {
        let records = otto.invocations(InvocationQuery::default()).await?;
        let Some(record) = records.first() else {
            return Ok(false);
        };
        let lines = otto.journal(record.invocation).await?;
        let mut answers = 0;
        let mut write_asked = false;
        let mut written = false;
        for line in &lines {
            // A line that cannot be read says nothing; folding it later will tell.
            match journal::decode(line) {
                Ok((_, Event::ModelFinished { .. })) => answers += 1,
                Ok((_, Event::BlockReceived { block, .. })) => {
                    if let BlockView::ToolCall(call) = &block.view {
                        write_asked |= call.tool.as_str() == "fs.write";
                    }
                }
                // Writing is a barrier: what ends after it was asked for is the write itself.
                Ok((_, Event::ToolFinished { .. })) => written |= write_asked,
                Ok(_) | Err(_) => {}
            }
        }
        if !written {
            return Ok(false);
        }
        self.session = Some(record.session.to_string());
        self.answers = answers;
        self.file = FileMark::of(&scene.work.join(REPORT));
        Ok(true)
    }
}

/// What was collected while the demo ran.
pub(super) struct Collected {
    pub(super) level: Enforcement,
    pub(super) at_kill: AtKill,
    /// The provider's bill before the spender began.
    pub(super) after_resume: Billed,
    pub(super) billed: Billed,
    pub(super) requests: Vec<RecordedRequest>,
    /// What the commands printed.
    pub(super) output: Vec<u8>,
}

/// An invocation as it is stored.
struct Stored {
    record: InvocationRecord,
    machine: Invocation,
}

impl Collected {
    /// The facts. Opens what is stored.
    pub(super) async fn facts(
        self,
        scene: &Scene,
        operator: &OperatorConfig,
    ) -> Result<Facts, Failure> {
        let missing = || Failure::other("nothing is stored of what the demo did");
        let otto = open::to_look(operator).await?.ok_or_else(missing)?;
        let read = async {
            let reporter = stored(&otto, "reporter").await?;
            let spender = stored(&otto, "spender").await?;
            let log = log(&otto).await?;
            Ok::<_, Failure>((reporter, spender, log))
        };
        let read = read.await;
        open::close(otto).await;
        let (reporter, spender, log) = read?;
        Ok(Facts {
            twice: self.twice(&reporter, scene),
            money: self.overspend(&spender),
            power: self.denied(&reporter),
            secret: self.masked(&reporter, scene)?,
            log,
        })
    }

    fn twice(&self, reporter: &Stored, scene: &Scene) -> Twice {
        let prompt_of = |id: &str| {
            let request = self.requests.iter().find(|sent| sent.request_id == id)?;
            let body: Value = serde_json::from_slice(&request.body).ok()?;
            Some(body["messages"].to_string())
        };
        // A prompt whose request is not found counts as asked for twice.
        let answered = self
            .after_resume
            .requests
            .iter()
            .filter(|call| call.ending == BilledEnding::Complete);
        let prompts: Vec<String> = answered
            .map(|call| prompt_of(&call.request_id).unwrap_or_default())
            .collect();
        let different: BTreeSet<&String> =
            prompts.iter().filter(|prompt| !prompt.is_empty()).collect();
        let bill = |whole: bool| {
            self.after_resume
                .requests
                .iter()
                .filter(|call| (call.ending == BilledEnding::Complete) == whole)
                .fold(Money::ZERO, |sum, call| sum.saturating_add(call.cost))
        };
        let charged = reporter.machine.totals().cost;
        Twice {
            answers_before: self.at_kill.answers,
            cut_in_answer: self
                .after_resume
                .requests
                .iter()
                .filter(|call| call.ending != BilledEnding::Complete)
                .count()
                == 1,
            completed: reporter.record.outcome == Some(OutcomeKind::Completed),
            answers: prompts.len(),
            different_prompts: different.len(),
            file_kept: self.at_kill.file.is_some()
                && self.at_kill.file == FileMark::of(&scene.work.join(REPORT)),
            charged,
            billed: bill(true),
            charged_for_cut: reporter.record.cost.saturating_sub(charged),
            billed_for_cut: bill(false),
        }
    }

    fn overspend(&self, spender: &Stored) -> Overspend {
        let limit = spender.machine.spec().and_then(|spec| {
            let own = spec.scopes.first()?;
            own.cost.as_ref().map(|limit| limit.value)
        });
        let calls = self.billed.calls.saturating_sub(self.after_resume.calls);
        Overspend {
            exhausted: spender.record.outcome == Some(OutcomeKind::BudgetExhausted),
            limit: limit.unwrap_or(Money::ZERO),
            charged: spender.record.cost,
            billed: self.billed.cost.saturating_sub(self.after_resume.cost),
            calls: usize::try_from(calls).unwrap_or(usize::MAX),
            words: match spender.machine.outcome() {
                Some(Outcome::BudgetExhausted { denial }) => format!(
                    "the cost limit of its invocation, set by {}, has {} left, the call needs {}",
                    denial.origin,
                    left(denial),
                    denial.needed
                ),
                other => format!("it ended otherwise: {other:?}"),
            },
        }
    }

    fn denied(&self, reporter: &Stored) -> Denied {
        let answer = answer_to(&reporter.machine, "/etc/passwd");
        let secret_line = fs::read_to_string("/etc/passwd")
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned))
            .filter(|line| line.len() > 8);
        let leaked = secret_line.is_some_and(|line| {
            let line = line.as_bytes();
            holds(&self.output, line) || self.requests.iter().any(|sent| holds(&sent.body, line))
        });
        Denied {
            level: self.level.as_str(),
            refusal: answer.and_then(|(text, is_error)| is_error.then_some(text)),
            leaked,
        }
    }

    fn masked(&self, reporter: &Stored, scene: &Scene) -> Result<Masked, Failure> {
        let secret = scene.secret.as_bytes();
        let answer = answer_to(&reporter.machine, SETTINGS);
        let label = answer.and_then(|(text, _)| {
            let line = text.lines().find(|line| line.contains("[redacted:"))?;
            Some(line.trim().to_owned())
        });
        let mut search = Search {
            secret,
            found_in: Vec::new(),
            files: 0,
            bytes: 0,
        };
        search
            .directory(&scene.state)
            .map_err(|error| Failure::doing("search the demo's state directory", &error))?;
        let files = search.files;
        if let Ok(report) = fs::read(scene.work.join(REPORT)) {
            search.text("report.md", &report);
        }
        search.text("the output", &self.output);
        for request in &self.requests {
            search.text("a request to the provider", &request.body);
        }
        Ok(Masked {
            label,
            found_in: search.found_in,
            files,
            bytes: search.bytes,
        })
    }
}

/// What a denied call would have had to fit into.
fn left(denial: &Denial) -> Amount {
    match (denial.limit, denial.spent, denial.held) {
        (Amount::Cost(limit), Amount::Cost(spent), Amount::Cost(held)) => {
            Amount::Cost(limit.saturating_sub(spent).saturating_sub(held))
        }
        (limit, ..) => limit,
    }
}

async fn stored(otto: &Otto, agent: &str) -> Result<Stored, Failure> {
    let records = otto.invocations(InvocationQuery::default()).await?;
    let record = records
        .into_iter()
        .find(|record| record.agent.as_str() == agent)
        .ok_or_else(|| Failure::other(format!("the journal knows no invocation of `{agent}`")))?;
    let entries = otto.journal_after(record.invocation, 0).await?;
    let machine = journal::fold(&entries)
        .map_err(|error| Failure::doing("fold the journal of the demo", &error))?;
    Ok(Stored { record, machine })
}

async fn log(otto: &Otto) -> Result<Log, StoreError> {
    let Some(checked) = otto.verify(None).await? else {
        return Ok(Log {
            findings: vec!["this store cannot be verified".to_owned()],
            journals: 0,
            calls: 0,
            audit_records: 0,
            artifacts: 0,
        });
    };
    let damaged = checked
        .artifacts
        .damaged
        .iter()
        .map(|damaged| format!("artifact {}: {}", damaged.artifact.path, damaged.found));
    Ok(Log {
        findings: checked
            .database
            .findings
            .iter()
            .map(|finding| finding.detail.clone())
            .chain(damaged)
            .chain(checked.artifacts.foreign.iter().cloned())
            .collect(),
        journals: checked.database.journals.len() as u64,
        calls: checked.database.calls,
        audit_records: checked.database.audit.end.sequence,
        artifacts: checked.artifacts.checked,
    })
}

/// What the model was answered to the call whose `path` that is, and whether it is an error.
fn answer_to(machine: &Invocation, path: &str) -> Option<(String, bool)> {
    let mut asked = None;
    for message in machine.history() {
        match &**message {
            Message::Assistant(reply) => {
                for block in &reply.blocks {
                    if let BlockView::ToolCall(call) = &block.view
                        && let ToolInput::Object(input) = &call.input
                        && serde_json::from_str::<Value>(input)
                            .is_ok_and(|input| input["path"] == path)
                    {
                        asked = Some(call.id.clone());
                    }
                }
            }
            Message::User(blocks) => {
                for block in blocks {
                    if let UserBlock::ToolResult(result) = block
                        && Some(&result.call) == asked.as_ref()
                    {
                        return Some((result.content.to_string(), result.is_error));
                    }
                }
            }
        }
    }
    None
}

struct Search<'a> {
    secret: &'a [u8],
    found_in: Vec<String>,
    files: usize,
    bytes: u64,
}

impl Search<'_> {
    fn directory(&mut self, dir: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.directory(&entry.path())?;
            } else if kind.is_file() {
                self.files += 1;
                let content = fs::read(entry.path())?;
                self.text(&entry.path().to_string_lossy(), &content);
            }
        }
        Ok(())
    }

    fn text(&mut self, place: &str, content: &[u8]) {
        self.bytes += content.len() as u64;
        if holds(content, self.secret) {
            self.found_in.push(place.to_owned());
        }
    }
}

fn holds(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}
