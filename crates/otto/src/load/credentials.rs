//! Credentials recognised by their form, so that a configuration that holds one is refused.
//!
//! It finds tokens with a published prefix, private keys and passwords in URLs. A password without a form
//! cannot be told from a word; what runs through an agent is redacted elsewhere, with the operator's patterns.
//!
//! Invariant: [`mask`] leaves no recognised credential in its result and keeps the number of characters.

use std::borrow::Cow;
use std::ops::Range;

/// A recognised credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where, in bytes of the text.
    pub(crate) range: Range<usize>,
    /// What it looks like.
    pub(crate) kind: &'static str,
}

/// A token that begins with `prefix` and goes on with at least `min` characters of `[A-Za-z0-9_-]`.
struct Form {
    prefix: &'static str,
    min: usize,
    kind: &'static str,
}

/// Source: the issuers' documentation of their token formats, 2026-11. Longer prefixes first.
const FORMS: [Form; 22] = [
    Form {
        prefix: "sk-ant-",
        min: 16,
        kind: "an Anthropic API key",
    },
    Form {
        prefix: "sk-",
        min: 20,
        kind: "an API key",
    },
    Form {
        prefix: "sk_live_",
        min: 16,
        kind: "a Stripe key",
    },
    Form {
        prefix: "rk_live_",
        min: 16,
        kind: "a Stripe key",
    },
    Form {
        prefix: "AKIA",
        min: 16,
        kind: "an AWS access key",
    },
    Form {
        prefix: "ASIA",
        min: 16,
        kind: "an AWS access key",
    },
    Form {
        prefix: "AIza",
        min: 35,
        kind: "a Google API key",
    },
    Form {
        prefix: "ya29.",
        min: 20,
        kind: "a Google access token",
    },
    Form {
        prefix: "github_pat_",
        min: 22,
        kind: "a GitHub token",
    },
    Form {
        prefix: "ghp_",
        min: 36,
        kind: "a GitHub token",
    },
    Form {
        prefix: "gho_",
        min: 36,
        kind: "a GitHub token",
    },
    Form {
        prefix: "ghu_",
        min: 36,
        kind: "a GitHub token",
    },
    Form {
        prefix: "ghs_",
        min: 36,
        kind: "a GitHub token",
    },
    Form {
        prefix: "ghr_",
        min: 36,
        kind: "a GitHub token",
    },
    Form {
        prefix: "glpat-",
        min: 20,
        kind: "a GitLab token",
    },
    Form {
        prefix: "xoxb-",
        min: 10,
        kind: "a Slack token",
    },
    Form {
        prefix: "xoxp-",
        min: 10,
        kind: "a Slack token",
    },
    Form {
        prefix: "xapp-",
        min: 10,
        kind: "a Slack token",
    },
    Form {
        prefix: "hf_",
        min: 30,
        kind: "a Hugging Face token",
    },
    Form {
        prefix: "npm_",
        min: 36,
        kind: "an npm token",
    },
    Form {
        prefix: "pypi-",
        min: 50,
        kind: "a PyPI token",
    },
    Form {
        prefix: "eyJ",
        min: 60,
        kind: "a JSON Web Token",
    },
];

/// Every credential in the text, in order.
pub(crate) fn find(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut from = 0;
    while from < text.len() {
        match credential_at(text, from) {
            Some(credential) => {
                from = credential.range.end;
                found.push(credential);
            }
            None => from += text[from..].chars().next().map_or(1, char::len_utf8),
        }
    }
    found
}

/// The text with every character of a recognised credential replaced by `*`.
pub(crate) fn mask(text: &str) -> Cow<'_, str> {
    let found = find(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for Found { range, .. } in found {
        masked.push_str(&text[from..range.start]);
        masked.extend(
            text[range.clone()]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { '*' }),
        );
        from = range.end;
    }
    masked.push_str(&text[from..]);
    Cow::Owned(masked)
}

/// Whether a variable's name says that it holds a credential.
pub(crate) fn is_credential_name(name: &str) -> bool {
    const MARKS: [&str; 9] = [
        "KEY",
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "AUTH",
        "COOKIE",
    ];
    let name = name.to_ascii_uppercase();
    MARKS.iter().any(|mark| name.contains(mark))
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn credential_at(text: &str, at: usize) -> Option<Found> {
    let rest = &text[at..];
    if rest.starts_with("://") {
        return password_in_url(text, at);
    }
    if rest.starts_with("-----BEGIN ") {
        return private_key(text, at);
    }
    // A token begins where a word begins: `task-...` holds no `sk-...`.
    if text[..at].chars().next_back().is_some_and(is_token_char) {
        return None;
    }
    FORMS.iter().find_map(|form| {
        let body = rest.strip_prefix(form.prefix)?;
        let is_web_token = form.prefix == "eyJ";
        let length: usize = body
            .chars()
            .take_while(|c| is_token_char(*c) || (is_web_token && *c == '.'))
            .map(char::len_utf8)
            .sum();
        let token = &body[..length];
        // Words joined by dashes carry no digit; random tokens practically always do.
        let is_random = token.bytes().any(|b| b.is_ascii_digit());
        let is_whole = !is_web_token || token.matches('.').count() == 2;
        (length >= form.min && is_random && is_whole).then(|| Found {
            range: at..at + form.prefix.len() + length,
            kind: form.kind,
        })
    })
}

/// `scheme://user:password@host`: the password, if there is one and it is not inserted from a variable.
fn password_in_url(text: &str, at: usize) -> Option<Found> {
    let authority_start = at + "://".len();
    let authority = text[authority_start..]
        .split(['/', '?', '#', ' ', '\n', '"', '\''])
        .next()?;
    let (user_info, _host) = authority.rsplit_once('@')?;
    let (user, password) = user_info.split_once(':')?;
    if password.is_empty() || password.starts_with("${") {
        return None;
    }
    let start = authority_start + user.len() + 1;
    Some(Found {
        range: start..start + password.len(),
        kind: "a password in a URL",
    })
}

fn private_key(text: &str, at: usize) -> Option<Found> {
    let rest = &text[at..];
    let header = rest.lines().next()?;
    if !header.contains("PRIVATE KEY-----") {
        return None;
    }
    let end = rest.find("-----END ").map_or(rest.len(), |end| {
        rest[end..].find('\n').map_or(rest.len(), |line| end + line)
    });
    Some(Found {
        range: at..at + end,
        kind: "a private key",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<&'static str> {
        find(text).into_iter().map(|found| found.kind).collect()
    }

    #[test]
    fn credentials_are_recognised_by_their_form() {
        // Assembled here so that no credential-like text stands in the source.
        let body = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
        for (text, kind) in [
            (format!("key: sk-ant-api03-{body}"), "an Anthropic API key"),
            (format!("sk-{body}"), "an API key"),
            (
                format!("(AKIA{})", &body.to_uppercase()[..16]),
                "an AWS access key",
            ),
            (format!("token=ghp_{body}"), "a GitHub token"),
            (format!("xoxb-{body}"), "a Slack token"),
            (format!("eyJ{body}.eyJ{body}.{body}"), "a JSON Web Token"),
            (
                "https://me:hunter2@example.com/x".to_owned(),
                "a password in a URL",
            ),
            (
                format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n"),
                "a private key",
            ),
        ] {
            assert_eq!(kinds(&text), [kind], "{text}");
            let masked = mask(&text);
            assert!(
                !masked.contains(&body[4..20]) && !masked.contains("hunter2"),
                "{masked}"
            );
            assert_eq!(masked.chars().count(), text.chars().count());
        }
    }

    #[test]
    fn ordinary_text_holds_no_credential() {
        for text in [
            "task-oriented-agents-write-long-words-2",
            "sk-learn",
            "sk-this-is-a-long-name-without-a-number",
            "AKIA",
            "hf_model",
            "https://example.com/a:b@c",
            "https://user@example.com",
            "http://u:${OTTO_VAR_P}@h/",
            "-----BEGIN CERTIFICATE-----",
            "eyJ is how JSON begins",
            "写一个报告",
            "",
        ] {
            assert_eq!(kinds(text), Vec::<&str>::new(), "{text}");
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn names_say_what_they_hold() {
        assert!(is_credential_name("OTTO_VAR_API_KEY") && is_credential_name("github_token"));
        assert!(!is_credential_name("OTTO_VAR_REGION"));
    }
}
