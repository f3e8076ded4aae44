//! Patterns of the operator: any regular expression, made to match within one line.
//!
//! While a text streams, what may still become a match has to be held back. For that, each pattern has a
//! second one that matches every *beginning* of its matches ([`beginnings`]); the earliest place from which
//! the rest of the text is such a beginning is the place to hold back from.
//!
//! Invariant: the beginnings of a pattern are a superset of all prefixes of its matches. Holding back too
//! much costs a moment; too little would leak.

use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange,
};
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use crate::redact::config::{MAX_PATTERN_BYTES, OperatorPattern, RedactionProblem};

/// Lines longer than this are searched for operator patterns in pieces of this size.
// BOUND: what streaming holds back at most for an operator pattern that can match a whole line.
pub const MAX_LINE_PIECE_BYTES: usize = 64 * 1024;

/// Parses a pattern and makes it match within one line.
pub(super) fn line_pattern(given: &OperatorPattern) -> Result<Hir, RedactionProblem> {
    let problem = |what: String| RedactionProblem::new(&given.name, what);
    if given.pattern.len() > MAX_PATTERN_BYTES {
        let what = format!(
            "the pattern has {} bytes; at most {MAX_PATTERN_BYTES} are allowed",
            given.pattern.len()
        );
        return Err(problem(what));
    }
    let parsed = regex_syntax::parse(&given.pattern)
        .map_err(|error| problem(one_line(&error.to_string())))?;
    let hir = within_line(&parsed).map_err(|what| problem(what.to_owned()))?;
    match hir.properties().minimum_len() {
        Some(0) => Err(problem(
            "the pattern matches the empty text; make it need at least one character".to_owned(),
        )),
        Some(_) => Ok(hir),
        None => Err(problem("the pattern can never match".to_owned())),
    }
}

/// The parser draws a picture of several lines; errors of a configuration are shown in lists.
fn one_line(error: &str) -> String {
    let last = error
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or(error);
    let text = last.trim().trim_start_matches("error: ");
    format!("not a valid regular expression: {text}")
}

const NO_LINE_BREAK: &str = "the pattern needs a line break; patterns match within one line";

fn within_line(hir: &Hir) -> Result<Hir, &'static str> {
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) if literal.0.contains(&b'\n') => return Err(NO_LINE_BREAK),
        HirKind::Literal(literal) => Hir::literal(literal.0.clone()),
        HirKind::Class(class) => {
            let class = without_line_break(class);
            if class.is_empty() {
                return Err(NO_LINE_BREAK);
            }
            Hir::class(class)
        }
        // A text is a stream of lines: its begin and end mean those of the line.
        HirKind::Look(Look::Start) => Hir::look(Look::StartLF),
        HirKind::Look(Look::End) => Hir::look(Look::EndLF),
        HirKind::Look(look) => Hir::look(*look),
        HirKind::Repetition(repetition) => {
            Hir::repetition(repetition.with(within_line(&repetition.sub)?))
        }
        HirKind::Capture(capture) => Hir::capture(Capture {
            index: capture.index,
            name: capture.name.clone(),
            sub: Box::new(within_line(&capture.sub)?),
        }),
        HirKind::Concat(subs) => {
            Hir::concat(subs.iter().map(within_line).collect::<Result<_, _>>()?)
        }
        HirKind::Alternation(subs) => {
            Hir::alternation(subs.iter().map(within_line).collect::<Result<_, _>>()?)
        }
    })
}

fn without_line_break(class: &Class) -> Class {
    match class.clone() {
        Class::Unicode(mut class) => {
            class.difference(&ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]));
            Class::Unicode(class)
        }
        Class::Bytes(mut class) => {
            class.difference(&ClassBytes::new([ClassBytesRange::new(b'\n', b'\n')]));
            Class::Bytes(class)
        }
    }
}

/// A pattern for the beginnings of what `hir` matches, the empty one and the whole included. Look-arounds
/// are left out, which only makes it wider.
pub(super) fn beginnings(hir: &Hir) -> Hir {
    let optional = |sub: Hir| {
        Hir::repetition(Repetition {
            min: 0,
            max: Some(1),
            greedy: true,
            sub: Box::new(sub),
        })
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Class(class) => optional(Hir::class(class.clone())),
        HirKind::Literal(literal) => {
            // A pattern for text can only be cut between characters.
            let text = String::from_utf8_lossy(&literal.0);
            text.chars().rev().fold(Hir::empty(), |rest, c| {
                optional(Hir::concat(vec![
                    Hir::literal(c.to_string().into_bytes()),
                    rest,
                ]))
            })
        }
        HirKind::Repetition(repetition) => Hir::concat(vec![
            Hir::repetition(Repetition {
                min: 0,
                max: repetition.max.map(|max| max.saturating_sub(1)),
                greedy: true,
                sub: Box::new(plain(&repetition.sub)),
            }),
            beginnings(&repetition.sub),
        ]),
        HirKind::Capture(capture) => beginnings(&capture.sub),
        HirKind::Concat(subs) => subs.iter().rev().fold(Hir::empty(), |rest, sub| {
            Hir::alternation(vec![Hir::concat(vec![plain(sub), rest]), beginnings(sub)])
        }),
        HirKind::Alternation(subs) => Hir::alternation(subs.iter().map(beginnings).collect()),
    }
}

/// The pattern without groups and look-arounds.
fn plain(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0.clone()),
        HirKind::Class(class) => Hir::class(class.clone()),
        HirKind::Repetition(repetition) => Hir::repetition(repetition.with(plain(&repetition.sub))),
        HirKind::Capture(capture) => plain(&capture.sub),
        HirKind::Concat(subs) => Hir::concat(subs.iter().map(plain).collect()),
        HirKind::Alternation(subs) => Hir::alternation(subs.iter().map(plain).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Hir, String> {
        let given = OperatorPattern {
            name: "p".to_owned(),
            pattern: text.to_owned(),
        };
        line_pattern(&given).map_err(|problem| problem.what)
    }

    #[test]
    fn every_prefix_of_a_match_is_a_beginning() {
        for (source, text) in [
            ("abc", "abc"),
            ("a{3,5}b+(?:cd|ef)?g", "aaaabbcdg"),
            (r"(?i)key[ =]+(?P<secret>\w{4,})", "KEY == s\u{e9}cr\u{e8}t"),
            (r"^id:\s*\d{2}-\d{2}$", "id:  12-34"),
            (r"\bfoo\b.*bar", "foo \u{1F600} x bar"),
            ("(?:(?:ab)*c){2}", "ababcabc"),
            ("[^\\n]+\u{1F600}\u{e9}", "x\u{1F600}\u{e9}"),
        ] {
            let hir = pattern(source).unwrap();
            let whole = regex::Regex::new(&format!("^(?:{hir})$")).unwrap();
            assert!(whole.is_match(text), "{source}");
            let begins = regex::Regex::new(&format!("^(?:{})$", beginnings(&hir))).unwrap();
            for (end, _) in text.char_indices() {
                assert!(
                    begins.is_match(&text[..end]),
                    "{source}: {:?}",
                    &text[..end]
                );
            }
            assert!(begins.is_match(text), "{source}: the whole match");
        }
    }

    #[test]
    fn a_beginning_is_not_just_anything() {
        let begins = regex::Regex::new(&format!(
            "^(?:{})$",
            beginnings(&pattern("ab{2}c").unwrap())
        ))
        .unwrap();
        for (text, expected) in [
            ("", true),
            ("a", true),
            ("ab", true),
            ("abb", true),
            ("abbc", true),
            ("abbb", false),
            ("b", false),
        ] {
            assert_eq!(begins.is_match(text), expected, "{text}");
        }
    }

    #[test]
    fn patterns_stay_within_a_line() {
        for source in [
            "a.*b",
            r"a\s+b",
            r"a[\s\S]*b",
            "(?s)a.*b",
            r"a\W+b",
            "(?-u:a[^x]*b)",
        ] {
            if let Ok(hir) = pattern(source) {
                let regex = regex::Regex::new(&hir.to_string()).unwrap();
                assert!(!regex.is_match("a\nb"), "{source}");
                assert!(regex.is_match("a  b"), "{source}");
            }
        }
        let anchored = regex::Regex::new(&pattern("^a$").unwrap().to_string()).unwrap();
        assert!(anchored.is_match("x\na\ny"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        for (source, reason) in [
            ("a\nb", "line break"),
            (r"a\nb", "line break"),
            (r"[\n]", "line break"),
            ("a*", "empty text"),
            ("", "empty text"),
            (r"\b", "empty text"),
            ("(", "not a valid regular expression: unclosed group"),
            ("a{2,1}", "not a valid regular expression"),
            (
                r"(?P<x>a)\1",
                "not a valid regular expression: backreferences",
            ),
            ("(?=a)", "not a valid regular expression: look-around"),
            (&"a".repeat(3_000), "3000 bytes"),
        ] {
            let what = pattern(source).unwrap_err();
            assert!(what.contains(reason), "{source}: {what}");
            assert!(!what.contains('\n'), "{what:?}");
        }
    }
}
