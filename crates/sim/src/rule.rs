//! The rules of the world: what the oracle checks, and how it says that one was broken.

use std::fmt;

/// A rule that must hold after every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `spent + held <= limit` in every scope, while the provider obeys `max_tokens`.
    WithinLimit,
    /// What the provider billed never exceeds what is spent and held.
    TruthCovered,
    /// Every granted reservation is settled exactly once.
    SettledOnce,
    /// A settlement is what the provider said, at its list price.
    TrueSettlement,
    /// The ledger's accounts are the sums of its reservations.
    BooksAgree,
    /// Nothing is held when nothing runs.
    IdleHoldsNothing,
    /// A model call runs under a reservation of its own that was granted and is open.
    CallIsHeld,
    /// A request asks for no more output than was granted.
    OutputWithinGrant,
    /// The history of each request is one that a provider accepts.
    ValidHistory,
    /// The history only grows until compaction replaces it, and holds what was said, byte for byte.
    AppendOnly,
    /// A compacted history is one message with the task, a summary that was made, what is pinned, and the latest
    /// turns, quoted.
    CompactionKeeps,
    /// A turn whose tools ran is never sent again.
    NeverResent,
    /// A call's result in the history is what the tool returned.
    TrueResult,
    /// No call with side effects starts from an unfinished, invalid or unconfirmed block.
    OnlyWholeCalls,
    /// What leads to a side effect is durable before it begins.
    DurableIntent,
    /// Each call with side effects runs at most once, unless its tool or a person allows more.
    RunsOnce,
    /// Calls with side effects run alone and in order, others side by side within the limit.
    Barrier,
    /// After a stop nothing begins.
    NothingAfterStop,
    /// One end, told once, as the last effect.
    OneFinish,
    /// The outcome names what happened.
    TrueOutcome,
    /// An invocation ends within its time limit and the grace time.
    EndsInTime,
    /// Folding the journal gives the living machine.
    FoldIsLive,
    /// An event survives its journal line.
    CodecIsExact,
    /// Without faults every invocation completes.
    CalmCompletes,
    /// The same seed gives the same world.
    Deterministic,
    /// Nothing panics.
    NoPanic,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) detail: String,
}

/// `Ok` while all rules hold.
pub(crate) type Held<T = ()> = Result<T, Broken>;

/// Says that a rule is broken unless `holds`.
pub(crate) fn require(holds: bool, rule: Rule, detail: impl FnOnce() -> String) -> Held {
    if holds {
        Ok(())
    } else {
        Err(Broken {
            rule,
            detail: detail(),
        })
    }
}
