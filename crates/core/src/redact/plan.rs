//! What to search for, compiled: the built-in rules, the operator's patterns, exact values and labels.
//!
//! A plan is made at every start, before the first word is sent. What only a text with something like a secret
//! in it needs, or one that is streamed, is compiled when there is such a text.
//!
//! Invariant: a plan is only made from a configuration without problems; everything in it works.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::Hir;

use crate::redact::config::{
    MAX_ENTRIES, RedactionConfig, RedactionError, RedactionProblem, check_name,
};
use crate::redact::exact::{self, Literals};
use crate::redact::operator::{self, MAX_LINE_PIECE_BYTES};
use crate::redact::rules::{Judge, RULES, Rule};
use crate::redact::sieve::{Sieve, coarse};
use crate::redact::tail::TailKind;
use crate::redact::{LABEL_START, OperatorPattern, label};

/// What to search for, compiled.
pub(super) struct Plan {
    /// Built-in rules, then the operator's patterns.
    pub(super) matchers: Vec<Matcher>,
    /// Which matchers can match a text at all.
    pub(super) sieve: Sieve,
    /// Where the rest of a text is the beginning of a match of the operator's patterns, or of nothing: always matches. `None`: there are none, or it would be too large.
    pub(super) operator_beginnings: Option<Regex>,
    pub(super) exact: Literals,
    pub(super) labels: Literals,
    kinds: Vec<String>,
    unprotected: Vec<String>,
}

/// One pattern.
pub(super) struct Matcher {
    pub(super) kind: usize,
    regex: Lazy,
    masks_group: bool,
    /// Decides on each match; without one every match is a secret.
    pub(super) judge: Option<Judge>,
    pub(super) tail: TailKind,
    pub(super) is_operators: bool,
}

/// Compiled on first use.
type Lazy = LazyLock<Regex, Box<dyn FnOnce() -> Regex + Send>>;

/// Where the rest of a text is the beginning of a built-in match, or of nothing: always matches.
pub(super) static BUILT_IN_BEGINNINGS: LazyLock<Regex> = LazyLock::new(|| {
    let beginnings: Vec<Hir> = RULES
        .iter()
        .map(|rule| operator::beginnings(&built_in(rule)))
        .collect();
    ends_with_any(&beginnings)
        .expect("the beginnings of the built-in patterns are tested to compile")
});

fn built_in(rule: &Rule) -> Hir {
    regex_syntax::parse(rule.pattern).expect("built-in patterns are tested to parse")
}

/// A pattern of the operator that compiles to more than this is refused.
const PATTERN_SIZE_LIMIT: usize = 4 << 20;
/// All patterns together.
pub(super) const SET_SIZE_LIMIT: usize = 64 << 20;
/// The beginnings of a pattern nest as deep as it is long.
const NEST_LIMIT: u32 = 5_000;

impl Plan {
    pub(super) fn new(config: &RedactionConfig) -> Result<Self, RedactionError> {
        let mut problems = Vec::new();
        let mut kinds = Vec::new();
        let mut patterns = Vec::new();
        let mut matchers = Vec::new();
        for rule in RULES {
            matchers.push(Matcher {
                kind: kind_index(&mut kinds, rule.kind),
                regex: LazyLock::new(Box::new(|| {
                    Regex::new(rule.pattern).expect("built-in patterns are tested to compile")
                })),
                masks_group: rule.pattern.contains("(?P<secret>"),
                judge: Some(rule.judge),
                tail: rule.tail,
                is_operators: false,
            });
        }

        for (what, count) in [
            ("patterns", config.patterns.len()),
            ("secrets", config.secrets.len()),
        ] {
            if count > MAX_ENTRIES {
                let text = format!("{count} {what} are given; at most {MAX_ENTRIES} are allowed");
                problems.push(RedactionProblem::new(what, text));
            }
        }
        let mut operators = Vec::new();
        for given in config.patterns.iter().take(MAX_ENTRIES) {
            match check_name(&given.name).and_then(|()| operator_matcher(given, &mut kinds)) {
                Ok((matcher, hir)) => {
                    operators.push(operator::beginnings(&hir));
                    patterns.push(hir);
                    matchers.push(matcher);
                }
                Err(problem) => problems.push(problem),
            }
        }

        let mut forms = BTreeMap::new();
        let mut unprotected = Vec::new();
        for secret in config.secrets.iter().take(MAX_ENTRIES) {
            match check_name(&secret.name).and_then(|()| exact::forms(secret)) {
                Ok(found) if found.is_empty() => unprotected.push(secret.name.clone()),
                Ok(found) => {
                    let kind = kind_index(&mut kinds, &secret.name);
                    for form in found {
                        forms.entry(form).or_insert(kind);
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }

        let labels = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| (label(kind), index))
            .collect();
        let too_large = |what: &str| {
            RedactionProblem::new(what, "all of them together are too large to search for")
        };
        let built_ins = || RULES.iter().map(|rule| coarse(&built_in(rule))).collect();
        let sieve = if patterns.is_empty() {
            Ok(Sieve::when_needed(built_ins))
        } else {
            // Together they may be too large, which the operator has to hear at once.
            let all: Vec<Hir> = built_ins();
            Sieve::new(&[all, patterns].concat()).map_err(|_| too_large("patterns"))
        };
        let exact = Literals::new(forms).map_err(|_| too_large("secrets"));
        let labels = Literals::new(labels).map_err(|_| too_large("names"));
        let operator_beginnings = if operators.is_empty() {
            None
        } else {
            ends_with_any(&operators).ok()
        };
        match (sieve, exact, labels) {
            (Ok(sieve), Ok(exact), Ok(labels)) if problems.is_empty() => Ok(Self {
                matchers,
                sieve,
                operator_beginnings,
                exact,
                labels,
                kinds,
                unprotected,
            }),
            (sieve, exact, labels) => {
                problems.extend(
                    [sieve.err(), exact.err(), labels.err()]
                        .into_iter()
                        .flatten(),
                );
                Err(RedactionError { problems })
            }
        }
    }

    pub(super) fn kind(&self, index: usize) -> &str {
        &self.kinds[index]
    }

    pub(super) fn kinds(&self) -> &[String] {
        &self.kinds
    }

    pub(super) fn unprotected(&self) -> impl Iterator<Item = &str> {
        self.unprotected.iter().map(String::as_str)
    }

    /// Whether one look over the text shows that nothing in it can match.
    pub(super) fn is_surely_clean(&self, text: &str) -> bool {
        // Cuts change what an operator pattern with an anchor matches; they are found by the scan.
        let may_be_cut = self.has_operators()
            && (text.contains(LABEL_START)
                || text
                    .split('\n')
                    .any(|line| line.len() >= MAX_LINE_PIECE_BYTES));
        !may_be_cut
            && !self.sieve.may_match(text)
            && !self.exact.is_match(text)
            && self.exact.cut_off(text).is_none()
    }

    pub(super) fn has_operators(&self) -> bool {
        self.matchers
            .last()
            .is_some_and(|matcher| matcher.is_operators)
    }
}

fn operator_matcher(
    given: &OperatorPattern,
    kinds: &mut Vec<String>,
) -> Result<(Matcher, Hir), RedactionProblem> {
    let hir = operator::line_pattern(given)?;
    let regex = RegexBuilder::new(&hir.to_string())
        .size_limit(PATTERN_SIZE_LIMIT)
        .nest_limit(NEST_LIMIT)
        .build()
        .map_err(|_| {
            RedactionProblem::new(&given.name, "the pattern is too large; make it shorter")
        })?;
    let matcher = Matcher {
        kind: kind_index(kinds, &given.name),
        masks_group: regex
            .capture_names()
            .flatten()
            .any(|name| name == SECRET_GROUP),
        regex: LazyLock::new(Box::new(|| regex)),
        judge: None,
        tail: TailKind::None,
        is_operators: true,
    };
    Ok((matcher, hir))
}

/// The group of which alone is masked.
const SECRET_GROUP: &str = "secret";

fn kind_index(kinds: &mut Vec<String>, name: &str) -> usize {
    kinds
        .iter()
        .position(|kind| kind == name)
        .unwrap_or_else(|| {
            kinds.push(name.to_owned());
            kinds.len() - 1
        })
}

/// Matches the longest end of a text that is one of the beginnings; the empty end at least.
fn ends_with_any(beginnings: &[Hir]) -> Result<Regex, regex::Error> {
    let alternatives: Vec<String> = beginnings.iter().map(|hir| format!("(?:{hir})")).collect();
    RegexBuilder::new(&format!(r"(?:{})\z", alternatives.join("|")))
        .size_limit(SET_SIZE_LIMIT)
        .nest_limit(NEST_LIMIT)
        .build()
}

/// A match within a text.
pub(super) struct Found {
    pub(super) whole: Range<usize>,
    /// The part that is masked.
    pub(super) masked: Range<usize>,
}

impl Matcher {
    /// The first match at or after `from`.
    pub(super) fn find_in(&self, text: &str, from: usize) -> Option<Found> {
        if !self.masks_group {
            let whole = self.regex.find_at(text, from)?.range();
            return Some(Found {
                masked: whole.clone(),
                whole,
            });
        }
        let captures = self.regex.captures_at(text, from)?;
        let whole = captures.get(0)?.range();
        let masked = captures
            .name(SECRET_GROUP)
            .map(|group| group.range())
            .filter(|group| !group.is_empty());
        Some(Found {
            masked: masked.unwrap_or_else(|| whole.clone()),
            whole,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_pattern_compiles() {
        let plan = Plan::new(&RedactionConfig::default()).unwrap();
        assert_eq!(plan.matchers.len(), RULES.len());
        for matcher in &plan.matchers {
            assert!(matcher.find_in("", 0).is_none());
        }
        assert!(BUILT_IN_BEGINNINGS.is_match(""));
    }
}
