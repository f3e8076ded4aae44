//! From errors to exit codes and hints: the one place that knows them.

use std::fmt::Write as _;
use std::process::ExitCode;

use otto::{ConfigErrors, InvokeError, OpenError, OutcomeKind, StoreError, UnknownAgent};

/// The exit codes of `otto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Everything was done.
    Completed,
    /// Anything that has no code of its own.
    Other,
    /// The command line or a configuration is wrong.
    Usage,
    /// A limit on cost, tokens or turns was reached.
    BudgetExhausted,
    /// The time limit was reached.
    Deadline,
    /// Refused, or not enabled.
    Refused,
    /// The provider failed.
    Provider,
    /// Cancelled.
    Cancelled,
}

impl Code {
    /// The code of a number that another run of `otto` ended with.
    pub(crate) fn of_number(number: i32) -> Self {
        [
            Self::Completed,
            Self::Usage,
            Self::BudgetExhausted,
            Self::Deadline,
            Self::Refused,
            Self::Provider,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|code| i32::from(code.number()) == number)
        .unwrap_or(Self::Other)
    }

    /// The number the shell sees.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::BudgetExhausted => 3,
            Self::Deadline => 4,
            Self::Refused => 5,
            Self::Provider => 6,
            Self::Cancelled => 7,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

impl From<OutcomeKind> for Code {
    fn from(kind: OutcomeKind) -> Self {
        match kind {
            OutcomeKind::Completed => Self::Completed,
            OutcomeKind::BudgetExhausted => Self::BudgetExhausted,
            OutcomeKind::Deadline => Self::Deadline,
            OutcomeKind::Cancelled => Self::Cancelled,
            OutcomeKind::Refused => Self::Refused,
            OutcomeKind::ProviderFailed => Self::Provider,
            OutcomeKind::Failed => Self::Other,
        }
    }
}

/// What went wrong, for a person: one message with its causes, and a hint where there is one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Several lines for configuration errors, else one.
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(Code::Other, message)
    }

    /// A failure of `error` while doing `attempted`, with all its causes.
    pub(crate) fn doing(attempted: &str, error: &dyn std::error::Error) -> Self {
        Self::other(format!("{attempted}: {}", with_causes(error)))
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// An error and its causes on one line. A cause that the text before it already says is not repeated.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            write!(text, ": {cause_text}").expect("writing to a string cannot fail");
        }
        next = cause.source();
    }
    text
}

/// How to switch agents on. Shown wherever they are off.
pub(crate) const ENABLE_HINT: &str = "agents are off until somebody switches them on: set OTTO_ENABLED=true, or write `enabled: true` into ~/.config/otto/config.yml";

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::usage(errors.to_string())
    }
}

impl From<UnknownAgent> for Failure {
    fn from(error: UnknownAgent) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let text = with_causes(&error);
        match &error {
            OpenError::NoProvider
            | OpenError::NoKey
            | OpenError::Endpoint { .. }
            | OpenError::Redaction(_)
            | OpenError::Provider(_) => {
                let failure = Self::usage(text);
                if std::error::Error::source(&error)
                    .is_some_and(|cause| cause.to_string().contains("ANTHROPIC_API_KEY"))
                {
                    failure.hint("for a run without a key: `otto demo`, or any text as key together with `otto sim`")
                } else {
                    failure
                }
            }
            OpenError::Store { source, .. } => Self {
                hint: store_hint(source),
                ..Self::other(text)
            },
            _ => Self::other(text),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = store_hint(&error);
        Self {
            hint,
            ..Self::other(with_causes(&error))
        }
    }
}

fn store_hint(error: &StoreError) -> Option<String> {
    match error {
        StoreError::ReadOnly { .. } => {
            Some("let Otto write there, or name another state directory with OTTO_STATE_DIR".to_owned())
        }
        StoreError::Full { .. } => Some("free some space, then try again; what was acknowledged is safe".to_owned()),
        StoreError::Damaged { .. } => {
            Some("the data was not touched; to go on without it, name another state directory with OTTO_STATE_DIR".to_owned())
        }
        _ => None,
    }
}

impl From<InvokeError> for Failure {
    fn from(error: InvokeError) -> Self {
        let text = with_causes(&error);
        match &error {
            InvokeError::NotEnabled => {
                Self::new(Code::Refused, "Otto is not enabled").hint(ENABLE_HINT)
            }
            InvokeError::Killed { .. } => Self::new(Code::Refused, text),
            InvokeError::EmptyTask { .. }
            | InvokeError::UnknownModel { .. }
            | InvokeError::UnknownTool { .. }
            | InvokeError::ToolNotAllowed { .. }
            | InvokeError::NotResumable { .. } => Self::usage(text),
            InvokeError::Store { source, .. } => Self {
                hint: store_hint(source),
                ..Self::other(text)
            },
            InvokeError::Busy { .. } => Self::other(text),
            _ => Self::other(text),
        }
    }
}

/// Prints what clap says of a wrong command line, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to fail: `otto --help | head -1`.
    let _ = error.print();
    if error.use_stderr() {
        Code::Usage.into()
    } else {
        Code::Completed.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_documented_code() {
        let codes = [
            (OutcomeKind::Completed, 0),
            (OutcomeKind::Failed, 1),
            (OutcomeKind::BudgetExhausted, 3),
            (OutcomeKind::Deadline, 4),
            (OutcomeKind::Refused, 5),
            (OutcomeKind::ProviderFailed, 6),
            (OutcomeKind::Cancelled, 7),
        ];
        for (kind, code) in codes {
            assert_eq!(Code::from(kind).number(), code, "{kind}");
        }
        assert_eq!(Failure::from(InvokeError::NotEnabled).code.number(), 5);
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("open `x`")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(with_causes(&error), "open `x`: disk on fire");
    }
}
