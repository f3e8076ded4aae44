//! The kinds of facts that the audit log holds: the closed list of what is noted, and what can be asked for.
//!
//! What a fact tells beside its kind is up to whoever notes it.
//!
//! Invariant: a kind keeps its word for ever, because logs are kept.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// The kind of a fact.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum AuditKind {
            $($(#[$doc])* $kind,)*
        }

        impl AuditKind {
            /// The words of all kinds.
            pub const WORDS: &'static [&'static str] = &[$($word,)*];
            const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its word in the log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// What the operator has put in force.
    Configuration = "configuration",
    /// An invocation began.
    InvocationStarted = "invocation_started",
    /// An invocation was taken up again.
    InvocationResumed = "invocation_resumed",
    /// An invocation ended.
    InvocationEnded = "invocation_ended",
    /// Money was held.
    Reserved = "reserved",
    /// Money was not held: a limit does not allow it.
    ReservationDenied = "reservation_denied",
    /// What was held was replaced by what was used.
    Settled = "settled",
    /// Holds whose owners died were charged in full.
    HoldsForfeited = "holds_forfeited",
    /// A tool call began.
    ToolStarted = "tool_started",
    /// A tool call ended.
    ToolEnded = "tool_ended",
    /// Audit mode let something pass that policy would deny.
    WouldDeny = "would_deny",
    /// The kill switch was thrown.
    KillSwitchThrown = "kill_switch_thrown",
    /// The kill switch was lifted.
    KillSwitchLifted = "kill_switch_lifted",
    /// A past session was redacted again.
    SessionRedacted = "session_redacted",
    /// A journal was rewritten by that, with its chain of hashes.
    JournalRewritten = "journal_rewritten",
    /// The retention removed the front of the log.
    AuditLogTrimmed = "audit_log_trimmed",
    /// Facts found no room and were counted instead.
    FactsLeftOut = "facts_left_out",
}

/// A word that is no kind of fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such kind of fact: expected one of {}", AuditKind::WORDS.join(", "))]
pub struct UnknownAuditKind;

impl FromStr for AuditKind {
    type Err = UnknownAuditKind;

    fn from_str(word: &str) -> Result<Self, UnknownAuditKind> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == word);
        found.copied().ok_or(UnknownAuditKind)
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_and_no_other() {
        for word in AuditKind::WORDS {
            assert_eq!(word.parse::<AuditKind>().unwrap().as_str(), *word);
        }
        let error = "banana".parse::<AuditKind>().unwrap_err().to_string();
        assert!(error.contains("tool_ended, would_deny"), "{error}");
    }
}
