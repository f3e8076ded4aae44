//! Whether a value looks like a random secret or like something a person would write.
//!
//! Integers only: the same value must be judged the same everywhere.
//!
//! Invariant: names, paths, versions, dates and placeholders are ordinary; keys drawn from a random source
//! of 16 characters or more are nearly never.

/// Whether `value` looks drawn at random: letters and digits that do not make words.
pub(super) fn is_random(value: &str) -> bool {
    let has = |class: fn(&u8) -> bool| value.bytes().any(|b| class(&b));
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && distinct_bytes(value) >= (value.len() / 3).clamp(5, 10)
        && !is_wordy(value)
}

/// Whether `value` looks like a password that a person made up: long enough, and mixed.
pub(super) fn is_password(value: &str) -> bool {
    const SYMBOLS: &[u8] = b"!@#$%^&*?~+";
    let bytes = value.as_bytes();
    // A value that begins like this is a reference to a variable, a path or an expression.
    let is_reference = bytes.first().is_some_and(|b| b"$%&*@/.~".contains(b));
    let has = |class: fn(&u8) -> bool| bytes.iter().any(class);
    let mixed = has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && bytes.iter().any(|b| SYMBOLS.contains(b));
    !is_reference && bytes.len() >= 8 && (mixed || is_random(value))
}

fn distinct_bytes(value: &str) -> usize {
    let mut seen = [false; 256];
    value
        .bytes()
        .filter(|b| !std::mem::replace(&mut seen[usize::from(*b)], true))
        .count()
}

/// Whether most letters are in words: `my-service-key2`, `getAccessToken`, `RELEASE_2024_01_15`.
///
/// A word ends where a letter follows a digit, a capital follows a small letter, or anything else stands.
/// It counts if it has three letters or more and a vowel, no five consonants in a row, and is written all
/// small, all capital or capitalised.
fn is_wordy(value: &str) -> bool {
    // Years and counters are ordinary; more digits than that speak against words.
    const FREE_DIGITS: usize = 4;
    let mut good = 0;
    let mut letters = 0;
    let mut digits = 0;
    let bytes = value.as_bytes();
    let mut start = 0;
    for end in 1..=bytes.len() {
        let last = bytes[end - 1];
        let ends_word = bytes.get(end).is_none_or(|next| {
            !next.is_ascii_alphabetic()
                || !last.is_ascii_alphabetic()
                || (last.is_ascii_lowercase() && next.is_ascii_uppercase())
        });
        if !ends_word {
            continue;
        }
        let word = &bytes[start..end];
        start = end;
        if word[0].is_ascii_alphabetic() {
            letters += word.len();
            good += if is_word(word) { word.len() } else { 0 };
        } else {
            digits += word.iter().filter(|b| b.is_ascii_digit()).count();
        }
    }
    good * 5 >= (letters + digits.saturating_sub(FREE_DIGITS)) * 3
}

fn is_word(word: &[u8]) -> bool {
    let vowel = |b: &u8| b"aeiouyAEIOUY".contains(b);
    let capitals = word.iter().filter(|b| b.is_ascii_uppercase()).count();
    let regular =
        capitals == 0 || capitals == word.len() || (capitals == 1 && word[0].is_ascii_uppercase());
    let longest_consonants = word.split(vowel).map(<[u8]>::len).max().unwrap_or(0);
    word.len() >= 3 && regular && word.iter().any(vowel) && longest_consonants < 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_look_random() {
        for value in [
            "aB3xK9pQ7mN2vL5t",
            "9f86d081884c7d659a2feaa0c55ad015",
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "Zm9vYmFyMTIzNDU2Nzg5MA==",
            "xoxb-17653672481-19874698323",
            "k3J9_xQ2-mP0rT8vW1yB",
        ] {
            assert!(is_random(value), "{value}");
        }
    }

    #[test]
    fn what_people_write_does_not() {
        for value in [
            "getAccessToken2",
            "my-service-account-01",
            "parser.next_token",
            "RELEASE_2024_01_15",
            "changeme123",
            "YOUR_API_KEY_HERE1",
            "password123456",
            "config.database.password2",
            "TokenKind::Identifier",
            "aaaaaaaaaaaaaaa1",
            "authentication",
            "12345678901234567890",
            "",
        ] {
            assert!(!is_random(value), "{value}");
        }
    }

    #[test]
    fn passwords_are_mixed() {
        for value in ["CorrectHorse9!", "p@ssw0rd!", "Tr0ub4dor&3", "aB3xK9pQ7mN2"] {
            assert!(is_password(value), "{value}");
        }
        for value in [
            "$DB_PASSWORD1",
            "/run/secrets/db1",
            "hunter2",
            "get_password2",
            "undefined",
            "~/secret1",
        ] {
            assert!(!is_password(value), "{value}");
        }
    }
}
