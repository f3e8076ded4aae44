//! The first look over a text: which patterns can match it at all.
//!
//! One automaton for all patterns, compiled when the first text comes or somebody prepares for it. A text without
//! anything like a secret is passed over it once and no more. It answers for coarser patterns than those that find and
//! mask: whatever a pattern matches, its coarse form matches, which is all that is asked here, and far quicker to
//! compile at each start.
//!
//! Invariant: a pattern that matches somewhere in a text is among those that may.

use std::sync::LazyLock;

use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Input, MatchKind, PatternSet, meta};
use regex_syntax::hir::{Hir, HirKind, Repetition};

use crate::redact::plan::SET_SIZE_LIMIT;

/// A repetition that may vary by more than this is compiled without an upper end: each further copy costs.
const COPIES_MAX: u32 = 8;

/// Which patterns can match a text.
pub(super) struct Sieve {
    regex: Lazy,
}

/// Compiled on first use.
type Lazy = LazyLock<meta::Regex, Box<dyn FnOnce() -> meta::Regex + Send>>;

/// All patterns together compile to too much.
#[derive(Debug)]
pub(super) struct TooLarge;

impl Sieve {
    pub(super) fn new(patterns: &[Hir]) -> Result<Self, TooLarge> {
        let regex = compiled(patterns)?;
        Ok(Self {
            regex: LazyLock::new(Box::new(|| regex)),
        })
    }

    /// A sieve of patterns that are known to compile, when it is needed.
    pub(super) fn when_needed(patterns: impl FnOnce() -> Vec<Hir> + Send + 'static) -> Self {
        let compile = || compiled(&patterns()).expect("built-in patterns are tested to compile");
        Self {
            regex: LazyLock::new(Box::new(compile)),
        }
    }

    /// Compiles it, if that was not done.
    pub(super) fn prepare(&self) {
        LazyLock::force(&self.regex);
    }

    /// Whether any pattern may match.
    pub(super) fn may_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The patterns that may match, by their place in the list.
    pub(super) fn which_may(&self, text: &str) -> Which {
        let mut set = PatternSet::new(self.regex.pattern_len());
        self.regex
            .which_overlapping_matches(&Input::new(text), &mut set);
        Which(set)
    }
}

fn compiled(patterns: &[Hir]) -> Result<meta::Regex, TooLarge> {
    let config = meta::Config::new()
        .match_kind(MatchKind::All)
        .which_captures(WhichCaptures::None)
        .utf8_empty(false)
        .nfa_size_limit(Some(SET_SIZE_LIMIT))
        // They cost time at each start; with patterns as many and as different as these they save none later.
        .auto_prefilter(false)
        .dfa(false)
        .onepass(false)
        .backtrack(false);
    meta::Builder::new()
        .configure(config)
        .build_many_from_hir(patterns)
        .map_err(|_| TooLarge)
}

/// A set of patterns.
pub(super) struct Which(PatternSet);

impl Which {
    pub(super) fn has(&self, index: usize) -> bool {
        regex_automata::PatternID::new(index).is_ok_and(|id| self.0.contains(id))
    }
}

/// A pattern that matches in every text in which `hir` does, with far fewer states.
pub(super) fn coarse(hir: &Hir) -> Hir {
    coarsen(hir, true)
}

/// `ends`: nothing has to follow, so that as little as possible is enough.
fn coarsen(hir: &Hir, ends: bool) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
        HirKind::Capture(capture) => coarsen(&capture.sub, ends),
        HirKind::Repetition(repetition) => {
            let max = match repetition.max {
                _ if ends => Some(repetition.min),
                Some(max) if max - repetition.min > COPIES_MAX => None,
                max => max,
            };
            Hir::repetition(Repetition {
                max,
                sub: Box::new(coarsen(&repetition.sub, false)),
                ..*repetition
            })
        }
        HirKind::Concat(subs) => {
            let last = subs.len().saturating_sub(1);
            let subs = subs.iter().enumerate();
            Hir::concat(
                subs.map(|(at, sub)| coarsen(sub, ends && at == last))
                    .collect(),
            )
        }
        HirKind::Alternation(subs) => {
            Hir::alternation(subs.iter().map(|sub| coarsen(sub, ends)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::redact::rules::RULES;

    fn parsed(pattern: &str) -> Hir {
        regex_syntax::parse(pattern).unwrap()
    }

    fn sieve_of(patterns: &[&str]) -> Sieve {
        let patterns: Vec<Hir> = patterns
            .iter()
            .map(|pattern| coarse(&parsed(pattern)))
            .collect();
        Sieve::new(&patterns).unwrap()
    }

    fn rules() -> Sieve {
        let patterns: Vec<&str> = RULES.iter().map(|rule| rule.pattern).collect();
        sieve_of(&patterns)
    }

    #[test]
    fn a_coarse_pattern_matches_with_less_and_never_with_more() {
        for (pattern, text) in [
            ("a{2,300}", "aa"),
            ("a{2,300}b", "aab"),
            ("a{1,300}b{3,5}c?", "abbb"),
            ("(?:x{4,90}|y)z{0,4}", "y"),
            ("(?P<secret>k{3,99})=", "kkk="),
        ] {
            assert!(sieve_of(&[pattern]).may_match(text), "{pattern}");
        }
        for (pattern, text) in [("a{2,300}b", "aa"), ("a{3,}", "aa"), ("a{2,3}b", "cab")] {
            assert!(!sieve_of(&[pattern]).may_match(text), "{pattern}");
        }
    }

    #[test]
    fn ordinary_text_matches_nothing() {
        let sieve = rules();
        for text in [
            "",
            "Add 2 and 40.",
            "The server listens on http://127.0.0.1:8080/health and returns a token count.",
            "fn main() { println!(\"{}\", tokens.len()); }",
        ] {
            assert!(!sieve.may_match(text), "{text}");
        }
    }

    /// A rule, a text that it matches, and what stands around it.
    fn matched() -> impl Strategy<Value = (usize, String)> {
        (0..RULES.len()).prop_flat_map(|rule| {
            let matched = proptest::string::string_regex(RULES[rule].pattern).unwrap();
            (Just(rule), "[ -~é\n]{0,20}", matched, "[ -~é\n]{0,20}")
                .prop_map(|(rule, before, matched, after)| (rule, before + &matched + &after))
        })
    }

    proptest! {
        #[test]
        fn whatever_a_rule_matches_it_may_match((rule, text) in matched()) {
            let exact = Regex::new(RULES[rule].pattern).unwrap();
            prop_assert!(exact.is_match(&text));
            let sieve = rules();
            prop_assert!(sieve.may_match(&text));
            prop_assert!(sieve.which_may(&text).has(rule));
        }
    }
}
