//! The words of version 1.
//!
//! Invariant: a word that was ever written keeps its meaning. New members of a set get new words.

use super::value::Vocabulary;
use crate::invocation::{
    CancelReason, ModelFailureKind, Repeatability, SideEffects, ToolEnding, UnknownCallDecision,
};
use crate::ledger::{Period, Resource};
use crate::model::CacheUse;

/// One closed set and its words. The match has no wildcard: a new member does not compile without a word.
macro_rules! vocabulary {
    ($set:ty, $name:literal, $($member:ident = $word:literal,)+) => {
        impl Vocabulary for $set {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$member),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$member => $word,)+
                }
            }
        }
    };
}

vocabulary!(
    CacheUse,
    "cache use",
    None = "none",
    FiveMinutes = "five_minutes",
    OneHour = "one_hour",
);

vocabulary!(SideEffects, "side effects", None = "none", Some = "some",);

vocabulary!(
    Repeatability,
    "repeatability",
    Repeatable = "repeatable",
    Unknown = "unknown",
    AskPerson = "ask_person",
);

vocabulary!(
    UnknownCallDecision,
    "decision on a call of unknown outcome",
    RunAgain = "run_again",
    TellModel = "tell_model",
    Done = "done",
    NotDone = "not_done",
);

vocabulary!(Period, "period", Day = "day", Ever = "ever",);

vocabulary!(
    Resource,
    "resource",
    Cost = "cost",
    Tokens = "tokens",
    Turns = "turns",
);

vocabulary!(
    ModelFailureKind,
    "kind of model failure",
    Authentication = "authentication",
    Permission = "permission",
    NotFound = "not_found",
    InvalidRequest = "invalid_request",
    PromptTooLong = "prompt_too_long",
    RateLimited = "rate_limited",
    SpendLimit = "spend_limit",
    Overloaded = "overloaded",
    Server = "server",
    Unreachable = "unreachable",
    Timeout = "timeout",
    CutStream = "cut_stream",
    Protocol = "protocol",
    Interrupted = "interrupted",
    CircuitOpen = "circuit_open",
);

vocabulary!(
    ToolEnding,
    "ending of a tool call",
    Succeeded = "succeeded",
    Failed = "failed",
    Denied = "denied",
    TimedOut = "timed_out",
    Cancelled = "cancelled",
    OperatorFault = "operator_fault",
);

vocabulary!(
    CancelReason,
    "reason to cancel",
    User = "user",
    KillSwitch = "kill_switch",
    Shutdown = "shutdown",
    Fenced = "fenced",
    StoreFailed = "store_failed",
    AwaitingPerson = "awaiting_person",
);
