//! "Did you mean": the known word closest to a mistyped one.
//!
//! Invariant: an unrelated word gets no suggestion; a wrong hint is worse than none.

/// BOUND: words longer than this are not compared; the comparison is quadratic.
const MAX_WORD_CHARS: usize = 64;

/// The candidate with the smallest edit distance to `word`, if it is close enough to be a typing error.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word: Vec<char> = word
        .chars()
        .take(MAX_WORD_CHARS + 1)
        .flat_map(char::to_lowercase)
        .collect();
    if word.is_empty() || word.len() > MAX_WORD_CHARS {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let letters: Vec<char> = candidate
                .chars()
                .take(MAX_WORD_CHARS)
                .flat_map(char::to_lowercase)
                .collect();
            let distance = distance(&word, &letters);
            // One slip per three letters, and at least one: `modle`, `toools`, `fs.raed`.
            let allowed = (word.len().max(letters.len()) / 3).max(1);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let keys = ["name", "model", "tools", "working_dir", "budgets"];
        for (given, expected) in [
            ("modle", Some("model")),
            ("Model", Some("model")),
            ("tool", Some("tools")),
            ("workingdir", Some("working_dir")),
            ("working-dir", Some("working_dir")),
            ("budget", Some("budgets")),
            ("temperature", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(given, keys), expected, "{given}");
        }
        assert_eq!(closest("fs.raed", ["fs.read", "fs.write"]), Some("fs.read"));
        assert_eq!(closest(&"m".repeat(10_000), keys), None);
    }
}
