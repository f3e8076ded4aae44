//! What redaction makes of a text, and by which rules: for whoever tries patterns before relying on them.

use std::collections::BTreeMap;

use otto_core::redact::Redactor;

/// A text after redaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// The text as it would be stored and shown.
    pub text: String,
    /// How often each rule masked something.
    pub masked: BTreeMap<String, usize>,
}

/// Redacts a text and tells by which rules.
#[must_use]
pub fn redact(redactor: &Redactor, text: &str) -> Redacted {
    let redacted = redactor.redact(text).into_owned();
    // The text may have held labels before.
    let known = labels(text);
    let mut masked = labels(&redacted);
    for (rule, times) in known {
        if let Some(count) = masked.get_mut(&rule) {
            *count = count.saturating_sub(times);
        }
    }
    masked.retain(|_, times| *times > 0);
    Redacted {
        text: redacted,
        masked,
    }
}

fn labels(text: &str) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for part in text.split("[redacted:").skip(1) {
        if let Some((rule, _)) = part.split_once(']') {
            *found.entry(rule.to_owned()).or_default() += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_masked_now_is_counted() {
        let key = format!("sk-ant-{}", "a1B2".repeat(12));
        let once = redact(&Redactor::built_in(), &format!("my key is {key}"));
        assert!(!once.text.contains(&key), "{once:?}");
        assert_eq!(once.masked.values().sum::<usize>(), 1, "{once:?}");
        let twice = redact(&Redactor::built_in(), &once.text);
        assert_eq!(twice.text, once.text);
        assert!(twice.masked.is_empty(), "{twice:?}");
    }
}
