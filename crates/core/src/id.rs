//! Identities: one type per kind of thing, so that a session id cannot be passed where an invocation
//! id is meant.
//!
//! Ids are UUID v7 (RFC 9562, section 5.7): sortable by creation time. This module makes them from a
//! given time and given random bytes and never draws either itself.
//!
//! Invariant: the text of an id parses back to the same id, and no id text can climb out of a
//! directory or carry a control character.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::time::Timestamp;

/// An id text that is not of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a valid {kind}: expected {expected}")]
pub struct InvalidId {
    kind: &'static str,
    given: String,
    expected: &'static str,
}

impl InvalidId {
    fn new(kind: &'static str, given: &str, expected: &'static str) -> Self {
        // BOUND: 80 characters of a hostile text are enough to recognise it.
        let given = given
            .chars()
            .take(80)
            .flat_map(char::escape_default)
            .collect();
        Self {
            kind,
            given,
            expected,
        }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// Makes an id (UUID v7) from a time and ten random bytes.
            #[must_use]
            pub fn from_parts(at: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(at.millis(), &random).into_uuid())
            }

            /// Restores an id from its sixteen bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts the canonical form only: 36 lower-case characters with hyphens.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId::new($kind, text, "a UUID such as 0190b3c2-7d4e-7abc-8def-0123456789ab");
                if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(invalid());
                }
                uuid::Uuid::try_parse(text).map(Self).map_err(|_| invalid())
            }
        }
    };
}

uuid_id!(
    /// Names one run of one agent on one task.
    InvocationId,
    "invocation id"
);
uuid_id!(
    /// Names a group of invocations that share artifacts and a scope.
    SessionId,
    "session id"
);
uuid_id!(
    /// Names what was asked of an agent.
    TaskId,
    "task id"
);
uuid_id!(
    /// Names a group of sessions that share one budget.
    WorkflowId,
    "workflow id"
);
uuid_id!(
    /// Names an entry of the `ContextStore`.
    ContextId,
    "context id"
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $extra:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// When the text is empty, too long, does not begin with a letter or digit, or holds a
            /// character outside the allowed set.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                let bytes = text.as_bytes();
                let allowed = |b: &u8| b.is_ascii_alphanumeric() || $extra.contains(b);
                let valid = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
                    && bytes.len() <= $max
                    && bytes.iter().all(allowed)
                    && !text.contains("..");
                if valid {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidId::new($kind, text, $expected))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as text that is kept without a copy.
            #[must_use]
            pub fn shared_text(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
    };
}

name_id!(
    /// The name of an agent, unique in one Otto.
    AgentName,
    "agent name",
    64,
    b"-_",
    "1 to 64 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit"
);
name_id!(
    /// The name of a budget that several agents draw on.
    BudgetName,
    "budget name",
    64,
    b"-_",
    "1 to 64 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit"
);
name_id!(
    /// The name of a tool, such as `fs.read`.
    ToolName,
    "tool name",
    64,
    b"-_.",
    "1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, beginning with a letter or digit"
);
name_id!(
    /// The name of a model, such as `claude-sonnet-5-5`.
    ModelId,
    "model id",
    128,
    b"-_.:@/",
    "1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.`, `:`, `@` and `/`"
);

/// The id that a provider gave to a tool call. Opaque: never a path, never assumed unique beyond its turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ToolCallId(pub Arc<str>);

impl fmt::Display for ToolCallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one effect of one invocation. Counted by the machine from 1, so a replay counts the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId(pub u64);

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a reservation: the invocation and the effect that asked for it.
///
/// Asking twice with the same id is the same request, which makes `reserve` idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId {
    /// The invocation that holds the money.
    pub invocation: InvocationId,
    /// The `Reserve` effect within that invocation.
    pub effect: EffectId,
}

/// Set in the effect of money held ahead; no invocation counts its effects that far.
const AHEAD: u64 = 1 << 62;

impl ReservationId {
    /// The id of the money that is held ahead together with this reservation.
    #[must_use]
    pub const fn ahead(self) -> Self {
        Self {
            effect: EffectId(self.effect.0 | AHEAD),
            ..self
        }
    }

    /// Whether it names money held ahead, not a model call.
    #[must_use]
    pub const fn is_ahead(self) -> bool {
        self.effect.0 & AHEAD != 0
    }

    /// The ids that money held ahead by an invocation can have.
    #[must_use]
    pub const fn ahead_ids(invocation: InvocationId) -> std::ops::RangeInclusive<Self> {
        let first = Self {
            invocation,
            effect: EffectId(AHEAD),
        };
        let last = Self {
            invocation,
            effect: EffectId(u64::MAX),
        };
        first..=last
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.invocation, self.effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_round_trips() {
        let id = SessionId::from_parts(Timestamp::from_millis(1_764_000_000_000), [7; 10]);
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
    }

    #[test]
    fn ids_sort_by_time() {
        let earlier = SessionId::from_parts(Timestamp::from_millis(1), [255; 10]);
        let later = SessionId::from_parts(Timestamp::from_millis(2), [0; 10]);
        assert!(earlier < later);
    }

    #[test]
    fn hostile_id_texts_are_refused() {
        let long = "a".repeat(5_000);
        for text in [
            "",
            "../../etc/passwd",
            "/etc",
            "a\0b",
            "..",
            ".",
            &long,
            "0190B3C2-7D4E-7ABC-8DEF-0123456789AB",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text:?}");
            if text != "0190B3C2-7D4E-7ABC-8DEF-0123456789AB" {
                assert!(AgentName::new(text).is_err(), "{text:?}");
                assert!(ToolName::new(text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn error_text_escapes_control_characters() {
        let error = AgentName::new("a\u{1b}[31m").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}
