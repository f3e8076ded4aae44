//! The five lines at the end of the demo: what was claimed, whether it holds, and the figures that show it.
//!
//! A pure judgement over facts that were collected elsewhere.
//!
//! Invariant: a fact that is missing counts against the claim, never for it.

use otto::Money;
use otto::text::visible_start;

use crate::output::{show_money, show_tokens};

/// What the demo has seen.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) twice: Twice,
    pub(super) money: Overspend,
    pub(super) power: Denied,
    pub(super) secret: Masked,
    pub(super) log: Log,
}

/// A kill in the middle, and what happened after it.
#[derive(Debug, Clone)]
pub(super) struct Twice {
    /// Model answers in the journal when the process was killed.
    pub(super) answers_before: usize,
    /// The process died while the model was still answering.
    pub(super) cut_in_answer: bool,
    /// The resumed invocation completed.
    pub(super) completed: bool,
    /// Answers that the provider sent whole, and how many different prompts they answered.
    pub(super) answers: usize,
    pub(super) different_prompts: usize,
    /// The file that was written before the kill is the very same file at the end.
    pub(super) file_kept: bool,
    /// Charged for answers that came whole, by Otto's ledger and by the provider's bill.
    pub(super) charged: Money,
    pub(super) billed: Money,
    /// The same for the call that was cut: Otto charges what it had held.
    pub(super) charged_for_cut: Money,
    pub(super) billed_for_cut: Money,
}

/// An agent that asks for more than it may spend.
#[derive(Debug, Clone)]
pub(super) struct Overspend {
    /// It ended because a budget was exhausted.
    pub(super) exhausted: bool,
    pub(super) limit: Money,
    pub(super) charged: Money,
    /// What the provider billed for it, and for how many calls.
    pub(super) billed: Money,
    pub(super) calls: usize,
    /// How Otto says it: scope, limit, origin.
    pub(super) words: String,
}

/// A read outside of the grant.
#[derive(Debug, Clone)]
pub(super) struct Denied {
    /// `l2`, `l1` or `none`.
    pub(super) level: &'static str,
    /// What the agent was told; `None` if the call was answered with the file, or not at all.
    pub(super) refusal: Option<String>,
    /// Something of the file came through after all.
    pub(super) leaked: bool,
}

/// A secret in a file that the agent read.
#[derive(Debug, Clone)]
pub(super) struct Masked {
    /// The label that stands for it, as the agent saw it.
    pub(super) label: Option<String>,
    /// Where the secret was found although it should not be.
    pub(super) found_in: Vec<String>,
    /// Files of the state directory that were searched, and all bytes searched.
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// The log, checked.
#[derive(Debug, Clone)]
pub(super) struct Log {
    /// What is wrong.
    pub(super) findings: Vec<String>,
    pub(super) journals: u64,
    pub(super) calls: u64,
    /// Records of the audit log, all in one chain of hashes.
    pub(super) audit_records: u64,
    pub(super) artifacts: u64,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) claim: &'static str,
    pub(super) holds: bool,
    pub(super) figures: String,
}

/// BOUND: characters of a refusal or a finding on a line.
const MAX_QUOTED_CHARS: usize = 160;

/// The five lines.
pub(super) fn judge(facts: &Facts) -> [Line; 5] {
    [
        nothing_twice(&facts.twice),
        bounded_money(&facts.money),
        bounded_power(&facts.power),
        masked_secret(&facts.secret),
        verified_log(&facts.log),
    ]
}

fn nothing_twice(facts: &Twice) -> Line {
    let Twice {
        answers_before,
        answers,
        different_prompts,
        charged,
        billed,
        charged_for_cut,
        billed_for_cut,
        ..
    } = *facts;
    let holds = facts.cut_in_answer
        && answers_before > 0
        && facts.completed
        && answers > answers_before
        && different_prompts == answers
        && facts.file_kept
        && charged > Money::ZERO
        && charged == billed
        && charged_for_cut >= billed_for_cut;
    let file = if facts.file_kept {
        "written once"
    } else {
        "NOT the file written before the kill"
    };
    Line {
        claim: "nothing lost, nothing twice",
        holds,
        figures: format!(
            "killed after {answers_before} answers, resumed, completed: {}; {answers} whole answers to {different_prompts} different prompts; report.md {file}; charged {}, billed {}; for the answer cut by the kill: charged {} (its hold), billed {}",
            yes(facts.completed),
            show_money(charged),
            show_money(billed),
            show_money(charged_for_cut),
            show_money(billed_for_cut),
        ),
    }
}

fn bounded_money(facts: &Overspend) -> Line {
    let Overspend {
        limit,
        charged,
        billed,
        calls,
        ..
    } = *facts;
    let holds = facts.exhausted && calls > 0 && charged == billed && charged <= limit;
    Line {
        claim: "no limit passed",
        holds,
        figures: format!(
            "{calls} calls for {} (billed {}) of {limit}; call {} was not sent: {}",
            show_money(charged),
            show_money(billed),
            calls + 1,
            visible_start(&facts.words, 2 * MAX_QUOTED_CHARS),
        ),
    }
}

fn bounded_power(facts: &Denied) -> Line {
    let refusal = facts.refusal.as_deref().unwrap_or("it was NOT refused");
    Line {
        claim: "nothing outside touched",
        holds: facts.level != "none" && facts.refusal.is_some() && !facts.leaked,
        figures: format!(
            "sandbox level {}; /etc/passwd: {}",
            facts.level.to_uppercase(),
            visible_start(refusal, MAX_QUOTED_CHARS)
        ),
    }
}

fn masked_secret(facts: &Masked) -> Line {
    let holds = facts.found_in.is_empty() && facts.label.is_some() && facts.files > 0;
    let label = facts.label.as_deref().unwrap_or("nothing");
    let found = match facts.found_in.as_slice() {
        [] => "not found".to_owned(),
        places => format!(
            "FOUND in {}",
            visible_start(&places.join(", "), MAX_QUOTED_CHARS)
        ),
    };
    Line {
        claim: "no secret kept or told",
        holds,
        figures: format!(
            "the agent read `{label}`; the credential itself {found} in {} files of the state directory, the report, the requests and the output ({} KiB)",
            facts.files,
            show_tokens(facts.bytes / 1024),
        ),
    }
}

fn verified_log(facts: &Log) -> Line {
    let holds = facts.findings.is_empty()
        && facts.journals > 0
        && facts.calls > 0
        && facts.audit_records > 0
        && facts.artifacts > 0;
    let findings = match facts.findings.as_slice() {
        [] => "0 findings".to_owned(),
        [first, ..] => format!(
            "{} FINDINGS: {}",
            facts.findings.len(),
            visible_start(first, MAX_QUOTED_CHARS)
        ),
    };
    Line {
        claim: "the log is whole",
        holds,
        figures: format!(
            "{findings}: {} journals without a gap, {} calls that add up, {} audit records in one chain of hashes, {} artifacts equal to their SHA-256",
            facts.journals, facts.calls, facts.audit_records, facts.artifacts
        ),
    }
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "NO" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(picodollars: u64) -> Money {
        Money::from_picodollars(picodollars).unwrap()
    }

    fn facts() -> Facts {
        Facts {
            twice: Twice {
                answers_before: 3,
                cut_in_answer: true,
                completed: true,
                answers: 5,
                different_prompts: 5,
                file_kept: true,
                charged: money(7),
                billed: money(7),
                charged_for_cut: money(9),
                billed_for_cut: money(2),
            },
            money: Overspend {
                exhausted: true,
                limit: money(100),
                charged: money(90),
                billed: money(90),
                calls: 3,
                words: "cost limit reached".to_owned(),
            },
            power: Denied {
                level: "l2",
                refusal: Some("Refused by the kernel".to_owned()),
                leaked: false,
            },
            secret: Masked {
                label: Some("[redacted:x]".to_owned()),
                found_in: Vec::new(),
                files: 3,
                bytes: 10_000,
            },
            log: Log {
                findings: Vec::new(),
                journals: 2,
                calls: 8,
                audit_records: 20,
                artifacts: 6,
            },
        }
    }

    /// What holds after one fact was broken.
    fn broken(change: impl FnOnce(&mut Facts)) -> [bool; 5] {
        let mut facts = facts();
        change(&mut facts);
        judge(&facts).map(|line| line.holds)
    }

    #[test]
    fn all_five_hold_when_every_fact_is_right() {
        assert_eq!(broken(|_| {}), [true; 5]);
    }

    #[test]
    fn each_fact_that_is_wrong_breaks_its_line_and_no_other() {
        type Break = fn(&mut Facts);
        let breaks: [(usize, Break); 24] = [
            (0, |f| f.twice.answers_before = 0),
            (0, |f| f.twice.cut_in_answer = false),
            (0, |f| f.twice.completed = false),
            (0, |f| f.twice.answers = 3),
            (0, |f| f.twice.different_prompts = 4),
            (0, |f| f.twice.file_kept = false),
            (0, |f| f.twice.charged = money(6)),
            (0, |f| f.twice.charged = money(8)),
            (0, |f| f.twice.charged_for_cut = money(1)),
            (1, |f| f.money.exhausted = false),
            (1, |f| f.money.calls = 0),
            (1, |f| f.money.billed = money(91)),
            (1, |f| f.money.limit = money(89)),
            (2, |f| f.power.level = "none"),
            (2, |f| f.power.refusal = None),
            (2, |f| f.power.leaked = true),
            (3, |f| f.secret.label = None),
            (3, |f| f.secret.found_in = vec!["otto.db".to_owned()]),
            (3, |f| f.secret.files = 0),
            (4, |f| f.log.findings = vec!["an account is off".to_owned()]),
            (4, |f| f.log.journals = 0),
            (4, |f| f.log.calls = 0),
            (4, |f| f.log.audit_records = 0),
            (4, |f| f.log.artifacts = 0),
        ];
        for (index, (line, change)) in breaks.into_iter().enumerate() {
            let mut expected = [true; 5];
            expected[line] = false;
            assert_eq!(broken(change), expected, "break {index}");
        }
    }

    #[test]
    fn a_broken_line_names_what_is_broken() {
        let mut facts = facts();
        facts.secret.found_in = vec!["state/otto.db".to_owned()];
        facts.twice.file_kept = false;
        let lines = judge(&facts);
        assert!(lines[3].figures.contains("FOUND in state/otto.db"));
        assert!(lines[0].figures.contains("NOT the file"));
    }
}
