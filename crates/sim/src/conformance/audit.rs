//! What an audit log means: the cases that every implementation of [`AuditLog`] passes.
//!
//! Positions without gaps, one chain of hashes in every store, prefixes that go from its front and say so, and
//! anchors before, at and after the beginning. What somebody changes behind a store's back is tried beside each
//! store.

use std::sync::Arc;

use otto_core::Timestamp;
use otto_core::port::BoxFuture;
use otto_core::port::store::{
    AuditCheck, AuditEntry, AuditHead, AuditLog, AuditRecord, AuditSpan, AuditTrim, Durability,
    StoreError,
};
use otto_core::store_rules::audit_trimmed;

use crate::conformance::draw::Draw;
use crate::conformance::{Case, block_on, run_all};

/// Where the cases of an audit log happen.
pub trait World {
    /// Opens the log of this world: the same records each time, none at first. What is open already stays open, like
    /// another process; dropping a handle is that process's end.
    fn open(&self) -> Arc<dyn AuditLog>;
}

/// Runs the suite: `make` brings a new world per case.
///
/// # Panics
/// If the log does otherwise; the message names the cases.
pub fn run(make: impl FnMut() -> Box<dyn World>) {
    run_all(CASES, make);
}

const CASES: &[Case<dyn World>] = &[
    Case {
        name: "records have positions without gaps and an end",
        test: positions,
    },
    Case {
        name: "the chain is the same in every store",
        test: same_chain,
    },
    Case {
        name: "a prefix goes, the log says so, and the chain is followed from there",
        test: trim,
    },
    Case {
        name: "a prefix goes once, and only one whose last record is named rightly",
        test: trim_again,
    },
    Case {
        name: "all records may go but the one that says so",
        test: trim_all,
    },
    Case {
        name: "an anchor before the beginning is told apart from one that does not match",
        test: anchors,
    },
    Case {
        name: "many random histories",
        test: histories,
    },
];

fn at(number: u64) -> Timestamp {
    Timestamp::from_millis(1_000 * number)
}

fn record(number: u64) -> AuditRecord {
    AuditRecord {
        at: at(number),
        text: Arc::from(format!("page {number}")),
    }
}

/// A log with this many records.
fn filled(world: &dyn World, records: u64) -> Arc<dyn AuditLog> {
    let log = world.open();
    append(&*log, (1..=records).map(record).collect());
    log
}

/// What the log answers. It has no reason to fail.
fn answer<T>(asked: BoxFuture<'_, Result<T, StoreError>>) -> T {
    block_on(asked).expect("the log answers")
}

fn append(log: &dyn AuditLog, records: Vec<AuditRecord>) -> AuditHead {
    answer(log.append_audit(records, Durability::Synced))
}

fn all(log: &dyn AuditLog) -> Vec<AuditEntry> {
    answer(log.read_audit(0, u32::MAX))
}

fn place(entry: &AuditEntry) -> AuditHead {
    AuditHead {
        sequence: entry.sequence,
        hash: entry.hash,
    }
}

fn trimmed(log: &dyn AuditLog, through: AuditHead) -> AuditTrim {
    answer(log.trim_audit(through, at(1_000)))
}

fn check(log: &dyn AuditLog, anchor: Option<AuditHead>) -> AuditCheck {
    answer(log.check_audit(anchor))
}

fn positions(world: &dyn World) {
    let log = world.open();
    let nothing = AuditHead::default();
    assert_eq!(answer(log.audit_head()), nothing);
    assert_eq!(append(&*log, Vec::new()), nothing);
    let first = append(&*log, vec![record(1), record(2)]);
    let end = append(&*log, vec![record(3)]);
    assert_eq!((first.sequence, end.sequence), (2, 3));
    drop(log);
    let log = world.open();
    assert_eq!(answer(log.audit_head()), end);
    let entries = all(&*log);
    let found: Vec<(u64, &AuditRecord)> = entries
        .iter()
        .map(|entry| (entry.sequence, &entry.record))
        .collect();
    assert_eq!(found, [(1, &record(1)), (2, &record(2)), (3, &record(3))]);
    assert_eq!(answer(log.read_audit(1, 1)), entries[1..2]);
    assert_eq!(answer(log.read_audit(3, 9)), []);
    for anchor in [None, Some(nothing), Some(first), Some(end)] {
        let begins_after = nothing;
        let whole = AuditCheck::Whole(AuditSpan { begins_after, end });
        assert_eq!(check(&*log, anchor), whole, "{anchor:?}");
    }
}

fn same_chain(world: &dyn World) {
    let log = filled(world, 3);
    let hash = answer(log.audit_head()).hash;
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, HASH_OF_THREE);
}

/// The hash after the records 1 to 3: an anchor that somebody keeps stays one.
const HASH_OF_THREE: &str = "d816dc5d11dd6c892890f27b6f1c83b89f7e0797de5f449e30eadaf4f2c52862";

fn trim(world: &dyn World) {
    let log = filled(world, 10);
    let before = all(&*log);
    let through = place(&before[3]);
    let AuditTrim::Done(end) = trimmed(&*log, through) else {
        panic!("the prefix goes");
    };
    assert_eq!(end.sequence, 11);
    drop(log);
    let log = world.open();
    let after = all(&*log);
    assert_eq!(after[..6], before[4..], "what stays is as it was");
    assert_eq!(after[6].record, audit_trimmed(&through, at(1_000)));
    assert_eq!((after.len(), place(&after[6])), (7, end));
    assert_eq!(answer(log.audit_head()), end);
    assert_eq!(answer(log.read_audit(2, 2)), after[..2]);
    assert_eq!(answer(log.read_audit(7, 1)), after[3..4]);
    let begins_after = through;
    let whole = |end| AuditCheck::Whole(AuditSpan { begins_after, end });
    assert_eq!(check(&*log, None), whole(end));
    let end = append(&*log, vec![record(12)]);
    assert_eq!(end.sequence, 12);
    assert_eq!(check(&*log, None), whole(end), "it goes on");
}

fn trim_again(world: &dyn World) {
    let log = filled(world, 10);
    let entries = all(&*log);
    let of = |sequence: usize| place(&entries[sequence - 1]);
    assert_eq!(
        trimmed(&*log, AuditHead::default()),
        AuditTrim::AlreadyDone,
        "nothing is no prefix"
    );
    let wrong_hash = AuditHead {
        sequence: 5,
        ..of(6)
    };
    let not_there = AuditHead {
        sequence: 11,
        ..of(6)
    };
    for wrong in [wrong_hash, not_there] {
        assert_eq!(trimmed(&*log, wrong), AuditTrim::NoSuchRecord);
    }
    assert_eq!(all(&*log), entries, "nothing has changed");
    assert!(matches!(trimmed(&*log, of(6)), AuditTrim::Done(_)));
    let kept = all(&*log);
    for gone in [of(3), of(6)] {
        assert_eq!(trimmed(&*log, gone), AuditTrim::AlreadyDone);
    }
    assert_eq!(all(&*log), kept, "nothing has changed");
    assert!(matches!(trimmed(&*log, of(9)), AuditTrim::Done(_)));
    let begins_after = of(9);
    let end = answer(log.audit_head());
    assert_eq!(end.sequence, 12);
    assert_eq!(
        check(&*log, None),
        AuditCheck::Whole(AuditSpan { begins_after, end })
    );
}

fn trim_all(world: &dyn World) {
    let log = filled(world, 4);
    let begins_after = answer(log.audit_head());
    let AuditTrim::Done(end) = trimmed(&*log, begins_after) else {
        panic!("the prefix goes");
    };
    assert_eq!((end.sequence, all(&*log).len()), (5, 1));
    let whole = AuditCheck::Whole(AuditSpan { begins_after, end });
    assert_eq!(check(&*log, Some(begins_after)), whole);
}

fn anchors(world: &dyn World) {
    let log = filled(world, 10);
    let entries = all(&*log);
    let begins_after = place(&entries[4]);
    assert!(matches!(trimmed(&*log, begins_after), AuditTrim::Done(_)));
    let end = answer(log.audit_head());
    let span = AuditSpan { begins_after, end };
    for kept in &entries[4..] {
        let anchor = Some(place(kept));
        assert_eq!(check(&*log, anchor), AuditCheck::Whole(span), "{anchor:?}");
    }
    let removed = entries[..4].iter().map(place);
    for gone in removed.chain([AuditHead::default()]) {
        assert_eq!(
            check(&*log, Some(gone)),
            AuditCheck::AnchorRemoved(span),
            "{gone:?}"
        );
    }
    for sequence in [5, 8, 11, 12] {
        let wrong = AuditHead {
            sequence,
            hash: [7; 32],
        };
        let AuditCheck::Broken { detail } = check(&*log, Some(wrong)) else {
            panic!("no record has this hash: {wrong:?}");
        };
        assert!(
            detail.contains(&format!("the anchor at {sequence}")),
            "{detail}"
        );
    }
}

/// BOUND: steps of a random history.
const STEPS: usize = 60;

/// Compares a log with a list that keeps everything.
fn histories(world: &dyn World) {
    let mut log = world.open();
    let mut draw = Draw::new(7);
    let mut ever: Vec<AuditEntry> = Vec::new();
    let mut begins_after = AuditHead::default();
    for step in 0..STEPS {
        match draw.below(4) {
            0 => {
                let through = match ever.len() {
                    0 => AuditHead::default(),
                    _ => place(draw.pick(&ever)),
                };
                match trimmed(&*log, through) {
                    AuditTrim::Done(_) => {
                        assert!(through.sequence > begins_after.sequence, "step {step}");
                        begins_after = through;
                    }
                    AuditTrim::AlreadyDone => {
                        assert!(through.sequence <= begins_after.sequence, "step {step}");
                    }
                    AuditTrim::NoSuchRecord => panic!("step {step}: there is"),
                }
            }
            1 => log = world.open(),
            _ => {
                let count = 1 + draw.below(5);
                append(&*log, (0..count).map(|_| record(draw.below(100))).collect());
            }
        }
        let known = ever.len() as u64;
        ever.extend(answer(log.read_audit(known, u32::MAX)));
        let gone = usize::try_from(begins_after.sequence).expect("a short log");
        assert_eq!(all(&*log), ever[gone..], "step {step}");
        let end = ever.last().map(place).unwrap_or_default();
        let span = AuditSpan { begins_after, end };
        assert_eq!(check(&*log, None), AuditCheck::Whole(span), "step {step}");
        if let Some(anchor) = (!ever.is_empty()).then(|| place(draw.pick(&ever))) {
            let expected = if anchor.sequence < begins_after.sequence {
                AuditCheck::AnchorRemoved(span)
            } else {
                AuditCheck::Whole(span)
            };
            assert_eq!(check(&*log, Some(anchor)), expected, "step {step}");
        }
    }
}
