//! The built-in patterns: one table.
//!
//! A pattern recognises the beginning of a secret; its tail is masked as far as it goes (`tail.rs`). A judge
//! then looks at the candidate: a credential with a distinctive prefix needs little more than to begin a
//! word, an assignment needs a value that looks random. Patterns are ASCII, so that they stay small.
//!
//! The formats are those that the vendors document for their keys and tokens.
//!
//! Invariant: no pattern can match a quote inside what is masked, a backslash or `[`, so that masking keeps
//! JSON strings closed and never touches a label.

use crate::redact::shape::{is_password, is_random};
use crate::redact::tail::TailKind;

/// One built-in pattern. If it has a group named `secret`, only that is masked.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    pub(super) pattern: &'static str,
    pub(super) judge: Judge,
    pub(super) tail: TailKind,
}

/// Decides whether a candidate is a secret.
pub(super) type Judge = fn(&Candidate<'_>) -> bool;

/// A match to be judged.
pub(super) struct Candidate<'a> {
    /// Up to some bytes before the match.
    pub(super) before: &'a str,
    /// The match.
    pub(super) matched: &'a str,
    /// What would be masked of it.
    pub(super) secret: &'a str,
    /// Whether it directly follows masked text.
    pub(super) follows_mask: bool,
}

/// How much of the text before a match a judge sees.
pub(super) const CONTEXT_BYTES: usize = 32;

const fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

const fn token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

const fn dotted(b: u8) -> bool {
    token(b) || b == b'.'
}

const fn credential(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'-')
}

const fn value(b: u8) -> bool {
    credential(b)
        || matches!(
            b,
            b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'&' | b'*' | b'?'
        )
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        kind: "anthropic-key",
        pattern: r"sk-ant-[A-Za-z0-9_-]{16}",
        judge: |c| starts_word(c),
        tail: TailKind::Run(token),
    },
    Rule {
        kind: "openai-key",
        pattern: r"sk-(?:proj-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]{20}",
        judge: |c| starts_word(c) && is_random(c.secret),
        tail: TailKind::Run(token),
    },
    Rule {
        kind: "aws-access-key",
        pattern: r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
        judge: |c| starts_word(c) && c.secret.bytes().skip(4).any(|b| b.is_ascii_digit()),
        tail: TailKind::Run(alphanumeric),
    },
    Rule {
        kind: "aws-secret-key",
        pattern: r#"(?i:secret[_-]?access[_-]?key|aws[_-]?secret[_-]?key)["'\\]{0,3}[ \t]{0,8}[:=][ \t]{0,8}["'\\]{0,3}(?P<secret>[A-Za-z0-9/+]{40})"#,
        judge: |c| {
            c.secret.bytes().any(|b| b.is_ascii_lowercase())
                && c.secret.bytes().any(|b| b.is_ascii_uppercase())
        },
        tail: TailKind::Run(credential),
    },
    Rule {
        kind: "github-token",
        pattern: r"(?:gh[opsur]_[A-Za-z0-9]{20}|github_pat_[A-Za-z0-9_]{20})",
        judge: |c| starts_word(c) && is_random(c.secret),
        tail: TailKind::Run(token),
    },
    Rule {
        kind: "gitlab-token",
        pattern: r"gl(?:pat|ptt|dt|rt|cbt|soat|imt|agent|oas|ft|ffct)-[A-Za-z0-9_-]{20}",
        judge: |c| starts_word(c) && is_random(c.secret),
        tail: TailKind::Run(dotted),
    },
    Rule {
        kind: "slack-token",
        pattern: r"(?:xox[abceoprs]-[A-Za-z0-9-]{12}|xapp-[0-9]-[A-Za-z0-9-]{12})",
        judge: |c| starts_word(c) && c.secret.bytes().any(|b| b.is_ascii_digit()),
        tail: TailKind::Run(token),
    },
    Rule {
        kind: "slack-webhook",
        pattern: r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/]{20})",
        judge: |c| c.secret.bytes().any(|b| b.is_ascii_digit()),
        tail: TailKind::Run(credential),
    },
    Rule {
        kind: "google-key",
        pattern: r"(?:AIza[A-Za-z0-9_-]{30}|GOCSPX-[A-Za-z0-9_-]{20}|ya29\.[A-Za-z0-9_-]{20})",
        judge: |c| starts_word(c) && is_random(c.secret),
        tail: TailKind::Run(dotted),
    },
    Rule {
        kind: "stripe-key",
        pattern: r"(?:[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16}|whsec_[A-Za-z0-9+/=]{20})",
        judge: |c| starts_word(c) && c.secret.bytes().any(|b| b.is_ascii_digit()),
        tail: TailKind::Run(credential),
    },
    Rule {
        kind: "service-token",
        // npm, PyPI, Hugging Face, SendGrid, DigitalOcean, Shopify, Vault, Databricks, Linear, Postman.
        pattern: r"(?:npm_[A-Za-z0-9]{30}|pypi-[A-Za-z0-9_-]{40}|hf_[A-Za-z0-9]{30}|SG\.[A-Za-z0-9_-]{20}|do[opr]_v1_[a-f0-9]{40}|shp(?:at|ss|ca|pa)_[a-fA-F0-9]{28}|hvs\.[A-Za-z0-9_-]{24}|dapi[a-f0-9]{32}|lin_api_[A-Za-z0-9]{32}|PMAK-[a-f0-9]{24})",
        judge: |c| starts_word(c) && is_random(c.secret),
        tail: TailKind::Run(dotted),
    },
    Rule {
        kind: "jwt",
        pattern: r"eyJ[A-Za-z0-9_-]{10,512}\.[A-Za-z0-9_-]{10}",
        judge: |c| starts_word(c) && is_random(c.secret),
        tail: TailKind::Run(dotted),
    },
    Rule {
        kind: "private-key",
        pattern: r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----",
        judge: |_| true,
        tail: TailKind::Pem,
    },
    Rule {
        kind: "authorization",
        pattern: r#"(?i:authorization)["'\\]{0,3}[ \t]{0,8}[:=,][ \t]{0,8}["'\\]{0,3}(?i:bearer|basic|token|negotiate|apikey)[ \t]{1,8}(?P<secret>[A-Za-z0-9._~+/=-]{8,128})"#,
        judge: |c| {
            // A word behind it is prose about authorization.
            let is_small = |b: u8| b.is_ascii_lowercase() || b == b'.';
            !c.secret.bytes().skip(1).all(is_small)
        },
        tail: TailKind::Run(credential),
    },
    Rule {
        kind: "authorization",
        pattern: r"(?i:bearer)[ \t]{1,8}(?P<secret>[A-Za-z0-9._~+/=-]{16,128})",
        judge: |c| is_random(c.secret),
        tail: TailKind::Run(credential),
    },
    Rule {
        kind: "url-password",
        pattern: r"://[A-Za-z0-9._~%!$&*+,;=-]{0,64}:(?P<secret>[A-Za-z0-9._~%!$&*+,;=:^-]{1,256})@",
        judge: |_| true,
        tail: TailKind::None,
    },
    Rule {
        kind: "assignment",
        pattern: concat!(
            r"(?i:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|credentials?",
            r"|(?:api|access|account|private|auth|signing|encryption|master|session|service)[_-]?key|token)",
            r#"["'\\]{0,3}[ \t]{0,8}(?:=>|:=|[:=])[ \t]{0,8}["'\\]{0,3}"#,
            r"(?P<secret>[A-Za-z0-9._~+/=!@#$%^&*?-]{8,128})",
        ),
        judge: is_assigned_secret,
        tail: TailKind::Run(value),
    },
];

/// Whether the candidate is not the middle of a longer word.
///
/// In escaped text the letter before it may belong to an escape: `\n`, `\u000a`, `%0A`.
fn starts_word(c: &Candidate<'_>) -> bool {
    let before = c.before.as_bytes();
    let Some(&last) = before.last() else {
        return true;
    };
    if c.follows_mask
        || !(last.is_ascii_alphanumeric() || matches!(last, b'_' | b'-' | b'+' | b'/'))
    {
        return true;
    }
    let ends_with_hex = |mark: &[u8], digits: usize| {
        before.len() >= mark.len() + digits && {
            let (rest, hex) = before.split_at(before.len() - digits);
            rest.ends_with(mark) && hex.iter().all(u8::is_ascii_hexdigit)
        }
    };
    let ends_with_escape = matches!(before, [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'/']);
    ends_with_escape || ends_with_hex(b"\\u", 4) || ends_with_hex(b"%", 2)
}

fn is_assigned_secret(c: &Candidate<'_>) -> bool {
    let starts_with = |word: &str| {
        c.matched
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    if starts_with("pass") || starts_with("pwd") {
        return is_password(c.secret);
    }
    if starts_with("token") {
        // A position in a list is no secret, and an agent needs it for the next page.
        const POSITIONS: [&str; 5] = ["next", "page", "continuation", "sync", "cursor"];
        let before = c.before.to_ascii_lowercase();
        let before = before.trim_end_matches(['_', '-']);
        if POSITIONS.iter().any(|word| before.ends_with(word)) {
            return false;
        }
    }
    is_random(c.secret)
}
